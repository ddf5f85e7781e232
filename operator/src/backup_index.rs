//! What the operator asks of all backups again and again, kept beside the cache: with ten thousand records a scan for each
//! change would hold up everything else. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use lifeboat_crds::condition::find;
use lifeboat_crds::{Assignment, ConditionType, EtcdBackup, NodeName};
use lifeboat_decisions::location::may_be_to_blame;

/// Shared by the watch that keeps it and all who ask. It never holds more than the cache it is made of shows.
#[derive(Clone, Debug, Default)]
pub struct BackupIndex(Arc<Mutex<Index>>);

#[derive(Debug, Default)]
struct Index {
    unfinished: BTreeSet<String>,
    /// Never taken back: a node was used even if the record of it is gone.
    last_used: BTreeMap<NodeName, Timestamp>,
    /// By location; never taken back: a run ended even if its record is gone.
    newest_completion: BTreeMap<String, Timestamp>,
    /// The same of tries that failed for a reason that may be the location's.
    newest_failure: BTreeMap<String, Timestamp>,
}

impl BackupIndex {
    /// Notes what the cache now holds under a name; nothing for one that is gone or cannot be read.
    pub fn note(&self, name: &str, backup: Option<&EtcdBackup>) {
        self.lock().note(name, backup);
    }

    /// Begins anew with all that the cache holds and can be read.
    pub fn rebuild<'a>(&self, backups: impl Iterator<Item = &'a EtcdBackup>) {
        let mut index = self.lock();
        index.unfinished.clear();
        for backup in backups {
            index.note(&backup.name_any(), Some(backup));
        }
    }

    /// Names of the runs that have not ended. A record that waits for a listing to fill it in is none.
    pub fn unfinished(&self) -> Vec<String> {
        self.lock().unfinished.iter().cloned().collect()
    }

    /// Newest assignment seen by node.
    pub fn last_used(&self) -> BTreeMap<NodeName, Timestamp> {
        self.lock().last_used.clone()
    }

    /// When the newest run on a location was seen to end well; archives found there do not count.
    pub fn newest_completion(&self, location: &str) -> Option<Timestamp> {
        self.lock().newest_completion.get(location).copied()
    }

    /// When a try at a run on a location was last seen to fail for a reason that may be the location's.
    pub fn newest_failure(&self, location: &str) -> Option<Timestamp> {
        self.lock().newest_failure.get(location).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn note(&mut self, name: &str, backup: Option<&EtcdBackup>) {
        let run = backup.filter(|backup| !backup.is_imported());
        if run.is_some_and(|run| !run.has_ended()) {
            self.unfinished.insert(name.to_owned());
        } else {
            self.unfinished.remove(name);
        }
        let Some((run, status)) = run.and_then(|run| Some((run, run.status.as_ref()?))) else { return };
        if let Some(Assignment { node_name, attempt: _, task: _, time }) = &status.assignment {
            note_newest(&mut self.last_used, node_name, time.0);
        }
        let location = &run.spec.location_ref.name;
        for failed in status.attempts.iter().filter(|failed| may_be_to_blame(failed.error.reason())) {
            note_newest(&mut self.newest_failure, location, failed.time.0);
        }
        if let Some(complete) = find(&status.conditions, ConditionType::Complete).filter(|it| it.status == "True") {
            note_newest(&mut self.newest_completion, location, complete.last_transition_time.0);
        }
    }
}

fn note_newest<K: Clone + Ord>(newest: &mut BTreeMap<K, Timestamp>, key: &K, time: Timestamp) {
    let newest = newest.entry(key.clone()).or_insert(time);
    *newest = time.max(*newest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::label;
    use serde_json::{Value, json};

    fn backup(name: &str, node: &str, second: i64, ended: bool) -> EtcdBackup {
        let complete = json!([{"type": "Complete", "status": "True", "reason": "Succeeded", "message": "",
            "lastTransitionTime": "2026-11-24T00:00:00Z"}]);
        let time = Timestamp::from_second(second).unwrap().to_string();
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": name}, "spec": {"locationRef": {"name": "bucket"}},
            "status": {"conditions": if ended { complete } else { Value::Array(vec![]) },
                "assignment": {"nodeName": node, "attempt": 1, "task": "Backup", "time": time}}}))
        .unwrap()
    }

    #[test]
    fn a_try_that_the_location_may_have_failed_is_noted() {
        let index = BackupIndex::default();
        let failed = |second: i64, reason: &str| {
            let mut failed = backup("a", "m1", 10, false);
            let time = Timestamp::from_second(second).unwrap().to_string();
            let attempt =
                json!({"attempt": 1, "nodeName": "m1", "time": time, "error": {"reason": reason, "message": "x"}});
            failed.status.as_mut().unwrap().attempts = vec![serde_json::from_value(attempt).unwrap()];
            failed
        };
        index.note("a", Some(&failed(20, "SnapshotFailed")));
        assert_eq!(index.newest_failure("bucket"), None);
        index.note("a", Some(&failed(30, "AccessDenied")));
        assert_eq!(index.newest_failure("bucket").unwrap().as_second(), 30);
        assert_eq!(index.newest_failure("other"), None);
    }

    #[test]
    fn a_backup_is_unfinished_until_it_ends_or_goes() {
        let index = BackupIndex::default();
        index.note("a", Some(&backup("a", "m1", 10, false)));
        index.note("b", Some(&backup("b", "m2", 20, false)));
        assert_eq!(index.unfinished(), ["a", "b"]);
        index.note("a", Some(&backup("a", "m1", 10, true)));
        index.note("b", None);
        assert_eq!(index.unfinished(), Vec::<String>::new());
        index.rebuild([backup("c", "m1", 5, false), backup("d", "m3", 6, true)].iter());
        assert_eq!(index.unfinished(), ["c"]);
    }

    #[test]
    fn a_record_that_waits_for_a_listing_is_no_run() {
        let index = BackupIndex::default();
        let found = |ended| {
            let mut found = backup("a", "m1", 10, ended);
            found.metadata.annotations = Some(BTreeMap::from([(label::IMPORTED.into(), "2026-1".into())]));
            found
        };
        index.note("a", Some(&found(false)));
        assert_eq!(index.unfinished(), Vec::<String>::new());
        index.note("a", Some(&found(true)));
        assert_eq!(index.newest_completion("bucket"), None);
        index.note("b", Some(&backup("b", "m1", 10, true)));
        index.note("b", None);
        assert_eq!(index.newest_completion("bucket"), Some("2026-11-24T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn the_newest_use_of_a_node_stays_known() {
        let index = BackupIndex::default();
        index.note("a", Some(&backup("a", "m1", 10, true)));
        index.note("b", Some(&backup("b", "m1", 5, true)));
        index.note("a", None);
        index.rebuild(std::iter::empty());
        assert_eq!(index.last_used(), BTreeMap::from([("m1".into(), Timestamp::from_second(10).unwrap())]));
    }
}
