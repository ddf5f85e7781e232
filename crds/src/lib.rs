//! The contract of Lifeboat: what users, the operator, the agents and the bucket agree on.
//!
//! The five kinds of `etcd.lifeboat.dev/v1alpha1` with their validation, the closed lists of condition types and
//! reasons, labels and annotations, identifiers, and the documents that lie in the bucket. Types and pure functions
//! over them only: no I/O, no client. The YAML of the CRDs is generated from here (`make gen`).
// kube reads one `printcolumn(…)` a column; the lint takes their repeated keys for slips.
#![allow(clippy::duplicated_attributes)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backup;
pub mod condition;
pub mod document;
pub mod event;
pub mod finding;
pub mod generate;
pub mod handbook;
pub mod identifier;
pub mod journal;
pub mod label;
pub mod layout;
pub mod location;
pub mod mac;
pub mod manifest;
pub mod mark;
pub mod marker;
pub mod member;
pub mod order;
pub mod quantity;
pub mod reference;
pub mod restore;
pub mod schedule;
mod schema;
pub mod signing;
pub mod work;

pub use backup::{EtcdBackup, EtcdBackupSpec, EtcdBackupStatus};
pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use identifier::{BackupId, NodeName};
pub use location::{EtcdBackupLocation, EtcdBackupLocationSpec, EtcdBackupLocationStatus};
pub use manifest::Manifest;
pub use member::{EtcdMember, EtcdMemberStatus};
pub use quantity::Quantity;
pub use reference::ObjectName;
pub use restore::{EtcdRestore, EtcdRestoreSpec, EtcdRestoreStatus};
pub use schedule::{EtcdBackupSchedule, EtcdBackupScheduleSpec, EtcdBackupScheduleStatus};
pub use work::{Assignment, Execution, Task, TaskError};

/// Time in objects and documents: RFC 3339 with whole seconds, UTC.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A time without parts of seconds, as objects keep them.
pub fn whole_seconds(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// API group of every kind.
pub const GROUP: &str = "etcd.lifeboat.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every kind.
pub const API_VERSION: &str = "etcd.lifeboat.dev/v1alpha1";
/// Field manager of everything the operator applies.
pub const OPERATOR_FIELD_MANAGER: &str = "lifeboat-operator";
