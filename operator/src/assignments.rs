//! Which node is busy and when each was last used, seen over all backups.
//!
//! The cache lags behind the assignments that this process just wrote; those are remembered until it shows them, or
//! the copies of one run would all land on the same node. In memory only. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use lifeboat_crds::{Assignment, EtcdBackup, NodeName};

/// How the nodes are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// Running backups by node.
    pub busy: BTreeMap<NodeName, u32>,
    /// Newest assignment by node.
    pub last_used: BTreeMap<NodeName, Timestamp>,
}

/// Assignments written by this process that the cache may not show yet. Keyed by the backup's UID.
#[derive(Debug, Default)]
pub struct RecentAssignments {
    recent: Mutex<HashMap<String, Assignment>>,
}

impl RecentAssignments {
    /// Notes an assignment that was just written.
    pub fn wrote(&self, uid: &str, assignment: &Assignment) {
        self.lock().insert(uid.to_owned(), assignment.clone());
    }

    /// How the nodes are used, by all backups but `except`: those that have not ended, and the newest use that the cache has
    /// shown of each node.
    pub fn node_use<'a>(
        &self,
        unfinished: impl Iterator<Item = &'a EtcdBackup>,
        last_used: BTreeMap<NodeName, Timestamp>,
        except: Option<&str>,
    ) -> NodeUse {
        let mut recent = self.lock();
        let mut still_recent = HashMap::new();
        let mut nodes = NodeUse { busy: BTreeMap::new(), last_used };
        for backup in unfinished {
            let uid = backup.uid().unwrap_or_default();
            let cached = backup.status.as_ref().and_then(|status| status.assignment.as_ref());
            let written =
                recent.remove(&uid).filter(|written| cached.is_none_or(|cached| cached.attempt < written.attempt));
            if let Some(Assignment { node_name, attempt: _, task: _, time }) = written.as_ref().or(cached) {
                let last = nodes.last_used.entry(node_name.clone()).or_insert(time.0);
                *last = time.0.max(*last);
                if except != Some(uid.as_str()) {
                    *nodes.busy.entry(node_name.clone()).or_default() += 1;
                }
            }
            if let Some(written) = written {
                still_recent.insert(uid, written);
            }
        }
        // What is left belongs to backups that have ended or are gone.
        *recent = still_recent;
        nodes
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Assignment>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::{Task, Time};
    use serde_json::{Value, json};

    fn backup(uid: &str, node: Option<(&str, i32, i64)>) -> EtcdBackup {
        let assignment = node.map(|(node, attempt, second)| assignment(node, attempt, second));
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": uid, "uid": uid}, "spec": {"locationRef": {"name": "bucket"}},
            "status": {"conditions": [],
                "assignment": assignment.map_or(Value::Null, |assignment| serde_json::to_value(assignment).unwrap())}}))
        .unwrap()
    }

    fn assignment(node: &str, attempt: i32, second: i64) -> Assignment {
        Assignment { node_name: node.into(), attempt, task: Task::Backup, time: Time(at(second)) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn unfinished_backups_make_a_node_busy_and_all_make_it_used() {
        let unfinished = [
            backup("a", Some(("m1", 1, 10))),
            backup("b", Some(("m1", 1, 20))),
            backup("c", Some(("m2", 2, 5))),
            backup("d", None),
        ];
        let earlier = BTreeMap::from([("m2".into(), at(7)), ("m3".into(), at(1))]);
        let nodes = RecentAssignments::default().node_use(unfinished.iter(), earlier, None);
        assert_eq!(nodes.busy, BTreeMap::from([("m1".into(), 2), ("m2".into(), 1)]));
        let seconds: Vec<_> = nodes.last_used.iter().map(|(node, time)| (node.as_str(), time.as_second())).collect();
        assert_eq!(seconds, [("m1", 20), ("m2", 7), ("m3", 1)]);
    }

    #[test]
    fn an_assignment_just_written_counts_before_the_cache_shows_it() {
        let recent = RecentAssignments::default();
        recent.wrote("a", &assignment("m1", 1, 30));
        let stale = [backup("a", None), backup("b", None)];
        assert_eq!(recent.node_use(stale.iter(), BTreeMap::new(), Some("b")).busy, BTreeMap::from([("m1".into(), 1)]));
        assert_eq!(recent.node_use(stale.iter(), BTreeMap::new(), Some("b")).busy.len(), 1, "it is remembered");
        // The cache is as new, and later newer: it is believed.
        let newer = [backup("a", Some(("m3", 2, 60)))];
        assert_eq!(recent.node_use(newer.iter(), BTreeMap::new(), None).busy, BTreeMap::from([("m3".into(), 1)]));
        assert_eq!(recent.node_use(stale.iter(), BTreeMap::new(), None).busy, BTreeMap::new(), "and it was forgotten");
    }

    #[test]
    fn a_backup_does_not_stand_in_its_own_way() {
        let own = [backup("a", Some(("m1", 1, 10)))];
        assert_eq!(RecentAssignments::default().node_use(own.iter(), BTreeMap::new(), Some("a")).busy, BTreeMap::new());
    }
}
