//! EtcdBackup: one backup, a run or an archive found in the bucket.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::is_true;
use crate::identifier::NodeName;
use crate::quantity::Quantity;
use crate::reference::ObjectName;
use crate::work::{Assignment, Execution, TaskError};
use crate::{Condition, ConditionType, Time, label};

/// One backup of etcd: a record of one run, or of an archive found in the bucket.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd.lifeboat.dev",
    version = "v1alpha1",
    kind = "EtcdBackup",
    doc = "One backup of etcd: a record of one run, or of an archive found in the bucket. Deleting the object removes the record, never the archive.",
    plural = "etcdbackups",
    namespaced,
    status = "EtcdBackupStatus",
    derive = "PartialEq",
    shortname = "etcdb",
    category = "lifeboat",
    selectable = ".spec.locationRef.name",
    selectable = ".status.phase",
    selectable = ".status.assignment.nodeName",
    validation = Rule::new("self.spec == oldSelf.spec").message("an EtcdBackup is a record of one run; create a new one").field_path(".spec").reason(Reason::FieldValueForbidden),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.verification.level"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Schedule", type_ = "string", priority = 1, json_path = r".metadata.labels.etcd\.lifeboat\.dev/schedule"),
    printcolumn(name = "Node", type_ = "string", priority = 1, json_path = ".status.nodeName"),
    printcolumn(name = "Etcd", type_ = "string", priority = 1, json_path = ".status.etcdVersion"),
    printcolumn(name = "Location", type_ = "string", priority = 1, json_path = ".spec.locationRef.name"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Ready")].message"#)
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupSpec {
    /// The EtcdBackupLocation the archive goes to.
    pub location_ref: ObjectName,
    /// Which member is read.
    #[serde(default)]
    pub source: Source,
    /// How the archive is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What must be proven before the archive counts. Checksum: the stream's SHA-256. Content: also structure and
    /// content hash. Members: also equal to another member's own hash.
    #[serde(default)]
    pub verification: VerificationLevel,
    /// Bounds on time and space.
    #[serde(default)]
    pub limits: Limits,
    /// Tries after the first failed one, each on another member where there is one.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,
}

impl EtcdBackup {
    /// Whether it is the record of an archive that was found in a bucket, and not of a run.
    pub fn is_imported(&self) -> bool {
        self.annotation(label::IMPORTED).is_some()
    }

    /// Whether the condition of a type is True.
    pub fn is(&self, type_: ConditionType) -> bool {
        self.status.as_ref().is_some_and(|status| is_true(&status.conditions, type_))
    }

    /// Whether it is over, well or not.
    pub fn has_ended(&self) -> bool {
        self.is(ConditionType::Complete) || self.is(ConditionType::Failed)
    }

    /// The slot of its schedule that it serves.
    pub fn slot(&self) -> Option<jiff::Timestamp> {
        self.annotation(label::SLOT)?.parse().ok()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

fn default_backoff_limit() -> i32 {
    3
}

impl EtcdBackupSpec {
    /// A backup into a location, all else as the API server would fill it in.
    pub fn to(location_ref: ObjectName) -> Self {
        Self {
            location_ref,
            source: Source::default(),
            compression: Compression::default(),
            verification: VerificationLevel::default(),
            limits: Limits::default(),
            backoff_limit: default_backoff_limit(),
        }
    }
}

/// Which member is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Which member is preferred.
    #[serde(default)]
    pub member_policy: MemberPolicy,
    /// Reads this node's member and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
}

/// Which member is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberPolicy {
    /// A follower, so that the leader is left in peace; the leader where nothing else is healthy.
    #[default]
    PreferFollower,
    /// The leader.
    Leader,
    /// Whichever was used least recently.
    Any,
}

/// How the archive is compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compression {
    /// zstd level. Level 1 leaves about a quarter; higher ones gain little and cost much.
    #[serde(default = "default_zstd_level")]
    #[schemars(range(min = 1, max = 19))]
    pub zstd_level: i32,
}

fn default_zstd_level() -> i32 {
    1
}

impl Default for Compression {
    fn default() -> Self {
        Self { zstd_level: default_zstd_level() }
    }
}

/// What must be proven before an archive counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VerificationLevel {
    /// The SHA-256 at the end of etcd's stream.
    Checksum,
    /// Also the structure of the database and its content hash.
    #[default]
    Content,
    /// Also equal to another member's own hash.
    Members,
}

impl VerificationLevel {
    /// The word in objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "Checksum",
            Self::Content => "Content",
            Self::Members => "Members",
        }
    }
}

/// Bounds on time and space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Reads etcd no faster than this many bytes per second. Absent or 0: as fast as it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Quantity>,
    /// Longest time that etcd's read transaction is held, seconds.
    #[serde(default = "default_transfer_seconds")]
    #[schemars(range(min = 10, max = 86400))]
    pub transfer_seconds: i64,
    /// Longest time for everything, retries included, seconds; then the backup is Failed.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 10, max = 604_800))]
    pub timeout_seconds: i64,
    /// Most room on the master for parts that the store has not taken yet.
    #[serde(default = "default_spool")]
    pub spool: Quantity,
}

fn default_transfer_seconds() -> i64 {
    300
}

fn default_timeout_seconds() -> i64 {
    1800
}

fn default_spool() -> Quantity {
    Quantity::new("8Gi")
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            transfer_seconds: default_transfer_seconds(),
            timeout_seconds: default_timeout_seconds(),
            spool: default_spool(),
        }
    }
}

/// What is known of a backup.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::status_default()))]
#[x_kube(validation = Rule::new(crate::work::EXECUTION_IS_ASSIGNED).message(crate::work::EXECUTION_IS_ASSIGNED_MESSAGE))]
pub struct EtcdBackupStatus {
    /// Generation the operator last saw; -1 before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Summary for people; more words may come. Programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub phase: Option<String>,
    /// Ready, Complete, Failed, Verified, Pinned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Identity in the bucket: `yyyymmdd-hhmmss-<8 hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub backup_id: Option<String>,
    /// The agent asked to act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// What that agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution<BackupResult>>,
    /// URL of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub archive: Option<String>,
    /// Node whose member is read, or was read; errands that come later change nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// Name of the etcd member that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub member: Option<String>,
    /// Version of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub etcd_version: Option<String>,
    /// Version of its storage format, from etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub storage_version: Option<String>,
    /// etcd's cluster id, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,
    /// Newest revision in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Hash over every revision in the snapshot, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub content_hash: Option<String>,
    /// Revision up to which the snapshot is compacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// Entries of the database, every revision of a key one, as `etcdutl snapshot status` of etcd 3.5 counts them (later
    /// ones count keys that are alive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
    /// Size of the snapshot, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Size of the archive in the store, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<Quantity>,
    /// Size of the snapshot, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Size of the archive in the store, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size_bytes: Option<i64>,
    /// SHA-256 of the snapshot file, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// How the archive is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<crate::location::Encryption>,
    /// When the first agent began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the archive was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// From start to completion, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// The same for people, such as `42s` or `3m5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// What was proven, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Why the run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<TaskError>,
    /// What retention says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// Value of the annotation delete-archive that was refused because of a pin. It counts no more until it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub deletion_refused: Option<String>,
    /// The tries that failed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub attempts: Vec<FailedAttempt>,
}

/// What was proven of an archive, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// The level reached.
    pub level: VerificationLevel,
    /// When.
    pub time: Time,
    /// Why no higher level was reached, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<TaskError>,
}

/// What retention says of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expiry {
    /// Keep or Expire.
    pub decision: ExpiryDecision,
    /// Why, such as "daily 2026-11-24".
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub reasons: Vec<String>,
    /// Generation of the schedule when this was first decided.
    pub policy_generation: i64,
    /// Listing of the bucket that it rested on then.
    #[schemars(length(max = 64))]
    pub pass_id: String,
}

/// What retention decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryDecision {
    /// The archive stays.
    Keep,
    /// The archive goes.
    Expire,
}

/// A try that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedAttempt {
    /// Which one.
    pub attempt: i32,
    /// On which node.
    pub node_name: NodeName,
    /// Why.
    pub error: TaskError,
    /// When the operator learnt it.
    pub time: Time,
}

/// Result of a task on a backup: what that task yields, or an error.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.archive), has(self.verification), has(self.pin), has(self.deletion), has(self.error)].exists_one(x, x)").message("a result is exactly one of archive, verification, pin, deletion, error"))]
pub struct BackupResult {
    /// Backup and Import: the archive that was written or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveFacts>,
    /// Verify: what was proven by reading the archive again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Pin: what `pin.json` says now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinFacts>,
    /// Delete: the archive is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionFacts>,
    /// Why nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

impl BackupResult {
    /// An archive that was written or found.
    pub fn of_archive(facts: ArchiveFacts) -> Self {
        Self { archive: Some(facts), ..Self::default() }
    }

    /// What an archive was proven to be.
    pub fn of_verification(verification: Verification) -> Self {
        Self { verification: Some(verification), ..Self::default() }
    }

    /// What `pin.json` says now.
    pub fn of_pin(pin: PinFacts) -> Self {
        Self { pin: Some(pin), ..Self::default() }
    }

    /// An archive that is gone.
    pub fn of_deletion(deletion: DeletionFacts) -> Self {
        Self { deletion: Some(deletion), ..Self::default() }
    }

    /// Why nothing came of it.
    pub fn of_error(error: TaskError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// What `pin.json` of a backup says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinFacts {
    /// Why the archive is kept for ever; absent where there is no pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// When that was written or read.
    pub time: Time,
}

/// An archive that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletionFacts {
    /// When the last of it was gone.
    pub time: Time,
}

/// What an agent reports of an archive it wrote; the operator copies it to the top level of the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveFacts {
    /// URL of the manifest.
    #[schemars(length(max = 2048))]
    pub archive: String,
    /// Node whose member was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// Name of the member that was read.
    #[schemars(length(max = 253))]
    pub member: String,
    /// Version of its server.
    #[schemars(length(max = 64))]
    pub etcd_version: String,
    /// Version of its storage format, from etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub storage_version: Option<String>,
    /// etcd's cluster id, 16 hex digits.
    #[schemars(length(max = 64))]
    pub cluster_id: String,
    /// Newest revision in the snapshot. Absent at level Checksum, where the pages were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// contentHash, 32 hex digits. Absent at level Checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub content_hash: Option<String>,
    /// Revision up to which the snapshot is compacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// Entries of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
    /// Size of the snapshot, bytes.
    pub size_bytes: i64,
    /// Size of the archive, bytes.
    pub stored_size_bytes: i64,
    /// SHA-256 of the snapshot file, 64 hex digits.
    #[schemars(length(max = 64))]
    pub sha256: String,
    /// When the agent began.
    pub start_time: Time,
    /// When the manifest was written.
    pub completion_time: Time,
    /// What was proven, and when.
    pub verification: Verification,
    /// To whom it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<crate::location::Encryption>,
    /// What `pin.json` said when the archive was found in the bucket (Import).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinFacts>,
}
