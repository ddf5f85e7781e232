//! The five kinds, and what of an object wakes which controller. No I/O.

use std::fmt;

use kube::{Resource, ResourceExt};
use lifeboat_crds::{EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore, Execution, label};

use crate::liveness::Fingerprint;

/// One of the five kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// EtcdBackupLocation.
    Location,
    /// EtcdBackupSchedule.
    Schedule,
    /// EtcdBackup.
    Backup,
    /// EtcdRestore.
    Restore,
    /// EtcdMember.
    Member,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Location, Self::Schedule, Self::Backup, Self::Restore, Self::Member];

    /// The kind's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Location => "EtcdBackupLocation",
            Self::Schedule => "EtcdBackupSchedule",
            Self::Backup => "EtcdBackup",
            Self::Restore => "EtcdRestore",
            Self::Member => "EtcdMember",
        }
    }

    /// The resource's name in paths.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Location => "etcdbackuplocations",
            Self::Schedule => "etcdbackupschedules",
            Self::Backup => "etcdbackups",
            Self::Restore => "etcdrestores",
            Self::Member => "etcdmembers",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that a watch reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// One object was made, changed or deleted.
    One(TouchedObject),
    /// A kind was listed anew; any object of it may have changed.
    Everything(Kind),
}

/// An object that was made, changed or deleted, and what it is tied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedObject {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The schedule it was made by.
    pub schedule: Option<String>,
    /// The location it refers to.
    pub location: Option<String>,
    /// Whether an agent said no more than that it is still at work: nobody else need look.
    pub is_heartbeat: bool,
}

/// A kind that the operator watches.
pub trait Watched: Resource<DynamicType = ()> {
    /// Which one.
    const KIND: Kind;

    /// Name of the location it refers to.
    fn location(&self) -> Option<&str>;

    /// What an agent writes into it as a sign of life, reduced; `None` for kinds without one.
    fn sign_of_life(&self) -> Option<Fingerprint>;

    /// Whether nothing but the progress of an agent's work changed since `before`.
    fn is_heartbeat_after(&self, before: &Self) -> bool;
}

/// What is tied to an object by its metadata alone: also known of one that cannot be read.
pub fn touched_object<K: Resource>(kind: Kind, object: &K, location: Option<&str>) -> TouchedObject {
    TouchedObject {
        kind,
        name: object.name_any(),
        schedule: object.labels().get(label::SCHEDULE).cloned(),
        location: location.map(str::to_owned),
        is_heartbeat: false,
    }
}

/// A backup without what a heartbeat moves.
fn without_progress(backup: &EtcdBackup) -> EtcdBackup {
    let mut still = backup.clone();
    still.metadata.resource_version = None;
    still.metadata.managed_fields = None;
    let execution = still.status.as_mut().and_then(|status| status.execution.as_mut());
    if let Some(execution) = execution {
        let Execution {
            node_name: _,
            attempt: _,
            task: _,
            stage: _,
            bytes_done,
            bytes_total,
            start_time: _,
            heartbeat_time,
            result: _,
        } = execution;
        (*bytes_done, *bytes_total) = (None, None);
        heartbeat_time.0 = jiff::Timestamp::UNIX_EPOCH;
    }
    still
}

/// A restore without what the agents write: of their words others learn once the operator has made something of them.
fn without_agents(restore: &EtcdRestore) -> EtcdRestore {
    let mut still = restore.clone();
    still.metadata.resource_version = None;
    still.metadata.managed_fields = None;
    if let Some(status) = &mut still.status {
        status.execution = None;
        status.nodes = Vec::new();
    }
    still
}

/// Fingerprint of a value by its JSON. A value without JSON never seems to change.
fn fingerprint(value: &impl serde::Serialize) -> Fingerprint {
    Fingerprint::of(&serde_json::to_vec(value).unwrap_or_default())
}

impl Watched for EtcdBackupLocation {
    const KIND: Kind = Kind::Location;

    fn location(&self) -> Option<&str> {
        None
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        self.status.as_ref().map(|status| fingerprint(&(&status.assignment, &status.execution)))
    }

    fn is_heartbeat_after(&self, _: &Self) -> bool {
        false
    }
}

impl Watched for EtcdBackupSchedule {
    const KIND: Kind = Kind::Schedule;

    fn location(&self) -> Option<&str> {
        Some(&self.spec.template.spec.location_ref.name)
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        None
    }

    fn is_heartbeat_after(&self, _: &Self) -> bool {
        false
    }
}

impl Watched for EtcdBackup {
    const KIND: Kind = Kind::Backup;

    fn location(&self) -> Option<&str> {
        Some(&self.spec.location_ref.name)
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        self.status.as_ref().map(|status| fingerprint(&(&status.assignment, &status.execution)))
    }

    fn is_heartbeat_after(&self, before: &Self) -> bool {
        let is_running = |backup: &Self| backup.status.as_ref().is_some_and(|status| status.execution.is_some());
        is_running(self) && is_running(before) && without_progress(self) == without_progress(before)
    }
}

impl Watched for EtcdRestore {
    const KIND: Kind = Kind::Restore;

    fn location(&self) -> Option<&str> {
        None
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        self.status.as_ref().map(|status| fingerprint(&(&status.assignment, &status.execution)))
    }

    fn is_heartbeat_after(&self, before: &Self) -> bool {
        without_agents(self) == without_agents(before)
    }
}

impl Watched for EtcdMember {
    const KIND: Kind = Kind::Member;

    fn location(&self) -> Option<&str> {
        None
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        self.status.as_ref().map(|status| fingerprint(&status.facts.heartbeat_time))
    }

    fn is_heartbeat_after(&self, _: &Self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn names_are_those_of_the_crds() {
        fn check<K: Watched + CustomResourceExt>() {
            let resource = K::api_resource();
            assert_eq!((resource.kind.as_str(), resource.plural.as_str()), (K::KIND.as_str(), K::KIND.plural()));
        }
        check::<EtcdBackupLocation>();
        check::<EtcdBackupSchedule>();
        check::<EtcdBackup>();
        check::<EtcdRestore>();
        check::<EtcdMember>();
    }

    #[test]
    fn a_heartbeat_is_what_moves_nothing_but_progress() {
        let backup = |version: &str, more: serde_json::Value| -> EtcdBackup {
            let mut execution = serde_json::json!({"nodeName": "m1", "attempt": 1, "task": "Backup", "stage": "Reading",
                "bytesDone": 1, "startTime": "2026-11-24T00:00:00Z", "heartbeatTime": "2026-11-24T00:00:00Z"});
            execution.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(serde_json::json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
                "metadata": {"name": "b", "resourceVersion": version}, "spec": {"locationRef": {"name": "bucket"}},
                "status": {"execution": execution}}))
            .unwrap()
        };
        let first = backup("1", serde_json::json!({}));
        let beat = serde_json::json!({"bytesDone": 7, "heartbeatTime": "2026-11-24T00:01:00Z"});
        assert!(backup("2", beat).is_heartbeat_after(&first));
        for more in [serde_json::json!({"stage": "Publishing"}), serde_json::json!({"attempt": 2})] {
            assert!(!backup("2", more).is_heartbeat_after(&first));
        }
        let result = serde_json::json!({"result": {"error": {"reason": "UploadFailed", "message": ""}}});
        assert!(!backup("2", result).is_heartbeat_after(&first));
        let mut pinned = backup("2", serde_json::json!({}));
        pinned.metadata.annotations = Some([(label::PIN.to_owned(), "audit".to_owned())].into());
        assert!(!pinned.is_heartbeat_after(&first));
    }

    #[test]
    fn what_agents_say_of_a_restore_is_a_heartbeat_for_all_others() {
        let restore = |status: serde_json::Value| -> EtcdRestore {
            serde_json::from_value(
                serde_json::json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore",
                "metadata": {"name": "r"}, "spec": {"member": {"nodeName": "m1"}}, "status": status}),
            )
            .unwrap()
        };
        let first = restore(serde_json::json!({"phase": "Running"}));
        let step =
            restore(serde_json::json!({"phase": "Running", "nodes": [{"nodeName": "m1", "step": "1/10 Stage"}]}));
        assert!(step.is_heartbeat_after(&first));
        assert!(!restore(serde_json::json!({"phase": "Restored"})).is_heartbeat_after(&first));
        let execution = serde_json::json!({"nodeName": "m1", "attempt": 1, "task": "Plan",
            "startTime": "2026-11-24T00:00:00Z", "heartbeatTime": "2026-11-24T00:00:00Z"});
        let begun = restore(serde_json::json!({"phase": "Running", "execution": execution}));
        assert!(begun.is_heartbeat_after(&first));
        assert_ne!(begun.sign_of_life(), first.sign_of_life());
    }

    #[test]
    fn a_member_lives_by_its_heartbeat_alone() {
        let member = |time: &str, revision: i64| -> EtcdMember {
            serde_json::from_value(serde_json::json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdMember",
                "metadata": {"name": "m1"}, "status": {"heartbeatTime": time, "revision": revision}}))
            .unwrap()
        };
        let first = member("2026-11-24T00:00:00Z", 1).sign_of_life();
        assert_eq!(first, member("2026-11-24T00:00:00Z", 2).sign_of_life());
        assert_ne!(first, member("2026-11-24T00:01:00Z", 1).sign_of_life());
    }
}
