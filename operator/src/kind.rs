//! The five kinds, and what of an object wakes which controller. No I/O.

use std::fmt;

use kube::{Resource, ResourceExt};
use lifeboat_crds::{EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore, label};

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
    /// A kind was listed anew; anything may have changed.
    Everything,
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
}

/// A kind that the operator watches.
pub trait Watched: Resource<DynamicType = ()> {
    /// Which one.
    const KIND: Kind;

    /// Name of the location it refers to.
    fn location(&self) -> Option<&str>;

    /// What an agent writes into it as a sign of life, reduced; `None` for kinds without one.
    fn sign_of_life(&self) -> Option<Fingerprint>;
}

/// What is tied to an object by its metadata alone: also known of one that cannot be read.
pub fn touched_object<K: Resource>(kind: Kind, object: &K, location: Option<&str>) -> TouchedObject {
    TouchedObject {
        kind,
        name: object.name_any(),
        schedule: object.labels().get(label::SCHEDULE).cloned(),
        location: location.map(str::to_owned),
    }
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
}

impl Watched for EtcdBackupSchedule {
    const KIND: Kind = Kind::Schedule;

    fn location(&self) -> Option<&str> {
        Some(&self.spec.template.spec.location_ref.name)
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        None
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
}

impl Watched for EtcdRestore {
    const KIND: Kind = Kind::Restore;

    fn location(&self) -> Option<&str> {
        None
    }

    fn sign_of_life(&self) -> Option<Fingerprint> {
        None
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
