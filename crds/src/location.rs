//! EtcdBackupLocation: where archives go.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identifier::NodeName;
use crate::reference::{KeySelector, ObjectName};
use crate::work::{Assignment, Execution, TaskError};
use crate::{Condition, Time};

/// Where archives go: an S3 bucket, or a directory mounted on every master. Probed by an agent.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd.lifeboat.dev",
    version = "v1alpha1",
    kind = "EtcdBackupLocation",
    doc = "Where archives go: an S3 bucket, or a directory mounted on every master. Probed by an agent.",
    plural = "etcdbackuplocations",
    namespaced,
    status = "EtcdBackupLocationStatus",
    derive = "PartialEq",
    shortname = "etcdbl",
    category = "lifeboat",
    selectable = ".status.assignment.nodeName",
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider"),
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.accessMode"),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Backups", type_ = "integer", json_path = ".status.backups.count"),
    printcolumn(name = "Last Checked", type_ = "date", json_path = ".status.lastProbeTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.s3), has(self.directory)].exists_one(x, x)").message("set exactly one of s3, directory"))]
pub struct EtcdBackupLocationSpec {
    /// A bucket of an S3 store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Location>,
    /// A directory that the chart mounts on every master (hostPath or NFS, with the same content everywhere).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryLocation>,
    /// ReadOnly locations are listed and restored from, never written or pruned.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Encrypts archives before they leave the master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// A bucket of an S3 store.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// Bucket name; it must exist.
    #[schemars(length(min = 3, max = 255))]
    pub bucket: String,
    /// Everything of Lifeboat lies below this prefix. Several clusters may share one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//') && !self.split('/').exists(s, s == '..' || s == '.')").message("write the prefix without a slash at either end and without empty, '.' or '..' parts, such as clusters/prod"))]
    pub prefix: String,
    /// Region; needed by AWS, ignored by most others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// URL of the store where it is not AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))").message("endpoint must be a URL such as https://minio.example.org:9000"))]
    pub endpoint: Option<String>,
    /// Addresses the bucket in the path instead of the host name, as most stores other than AWS need it.
    #[serde(default)]
    pub force_path_style: bool,
    /// ConfigMap with the PEM certificates of the store's CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<KeySelector>,
    /// Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where used, AWS_SESSION_TOKEN. Without it the
    /// instance role or web identity of the agent applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ObjectName>,
    /// Accepts any certificate of the store. For experiments only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "insecureSkipTLSVerify")]
    pub insecure_skip_tls_verify: bool,
    /// Encryption by the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Storage class of the archives, such as STANDARD_IA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub storage_class: Option<String>,
    /// Object lock set on every archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

/// A directory mounted on every master.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryLocation {
    /// Name of a mount from the chart's value `agent.directories`.
    #[schemars(length(min = 1, max = 63), pattern("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub mount: String,
    /// Directory below the mount; created if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(s, s == '..' || s == '.')").message("write the path relative to the mount, without '.' or '..' parts"))]
    pub sub_path: String,
}

/// What may be done to a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// Archives are written, kept by policy and deleted.
    #[default]
    ReadWrite,
    /// Archives are listed and restored from.
    ReadOnly,
}

/// Encryption of archives before upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Encryption {
    /// age recipients; the private keys never enter the cluster.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub recipients: Vec<String>,
}

/// Encryption by the store.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'KMS' || !has(self.kmsKeyId)").message("kmsKeyId needs type: KMS"))]
pub struct ServerSideEncryption {
    /// AES256 with the store's keys, or KMS.
    #[serde(rename = "type")]
    pub type_: ServerSideEncryptionType,
    /// Key of the KMS; without it the store's default key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// Kinds of encryption by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerSideEncryptionType {
    /// SSE-S3.
    AES256,
    /// SSE-KMS.
    KMS,
}

/// Object lock set on every archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectLock {
    /// Governance can be lifted by those with the right, Compliance by nobody.
    pub mode: ObjectLockMode,
    /// Days an archive is locked.
    #[schemars(range(min = 1, max = 36500))]
    pub days: i32,
}

/// Modes of object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ObjectLockMode {
    /// Can be lifted by those with the right.
    Governance,
    /// Can be lifted by nobody.
    Compliance,
}

/// What is known of a location.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::status_default()))]
#[x_kube(validation = Rule::new(crate::work::EXECUTION_IS_ASSIGNED).message(crate::work::EXECUTION_IS_ASSIGNED_MESSAGE))]
#[derive(Default)]
pub struct EtcdBackupLocationStatus {
    /// Generation the operator last saw; -1 before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Available, Writable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The agent asked to probe or list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// What that agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution<LocationResult>>,
    /// Kind of store, for the column: `S3` or `Directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub provider: Option<String>,
    /// When the location was last probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// The last listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogPass>,
    /// Whether the store proved that it creates an object only where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,
    /// The store's clock less the agent's, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<i64>,
    /// Whose prefix it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// This cluster's archives in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<ArchiveSummary>,
    /// Which directory each master sees, as far as its agent has told; all must see the same. Of directories alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sights: Vec<Sight>,
}

/// Which directory a master sees under the location's mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// The master.
    pub node_name: NodeName,
    /// What it read in the mark that the first probe leaves there.
    #[schemars(length(max = 64))]
    pub directory_id: String,
}

/// The last listings of a location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogPass {
    /// Identity of the last listing.
    #[schemars(length(max = 64))]
    pub pass_id: String,
    /// When the last listing was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// When the last listing of everything, with nothing left to do, was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_pass_time: Option<Time>,
    /// What an administrator should know of the last listing of everything: objects that belong to no backup, manifests
    /// that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub note: Option<String>,
    /// Objects that belong to no backup, of the last listing of everything. They are never deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub orphans: i64,
    /// Why the last listing failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

const fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// `owner.json`: whose prefix it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// UID of the cluster's kube-system namespace.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Host ids of its masters.
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub hosts: Vec<String>,
}

/// Most hosts that `owner.json` lists.
pub const MOST_OWNERS: usize = 64;

/// The annotation by which a location's prefix is claimed, as far as a result may repeat it. A UID is shorter.
pub fn take_over(location: &EtcdBackupLocation) -> Option<String> {
    let annotations = location.metadata.annotations.as_ref()?;
    Some(annotations.get(crate::label::TAKE_OVER)?.chars().take(64).collect())
}

/// A count of archives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveSummary {
    /// Archives with a manifest.
    pub count: i64,
    /// Bytes they take in the store.
    pub bytes: i64,
    /// Time of the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    /// Time of the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
}

/// Result of the tasks Probe and Catalog. Without `error` the location was reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationResult {
    /// Generation of the spec that was tried.
    pub observed_generation: i64,
    /// Why the location cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Why it can be read but not written; absent where it can, or where that was not tried (ReadOnly).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_error: Option<TaskError>,
    /// Kind of store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub provider: Option<String>,
    /// Whether conditional creation was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,
    /// The store's clock less the agent's, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<i64>,
    /// This cluster's archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<ArchiveSummary>,
    /// When the answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What `owner.json` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The annotation `etcd.lifeboat.dev/take-over` as the agent saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub take_over: Option<String>,
    /// What a listing found (Catalog).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogReport>,
    /// Which directory this master sees; absent for buckets, and where nobody may leave a mark (ReadOnly).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub directory_id: Option<String>,
}

/// What a listing of the manifests found. Bounded: what does not fit is told by the next pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogReport {
    /// Identity of the pass.
    #[schemars(length(max = 64))]
    pub pass_id: String,
    /// Whether everything was listed and compared, or only what is newer than the pass before saw.
    pub is_full: bool,
    /// Whether something was left over, so that the next pass should come at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_more: bool,
    /// Records that were made for archives that had none.
    pub imported: i64,
    /// Backups whose archive is gone (backupIds).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub missing: Vec<String>,
    /// Backups whose archive was deleted by the command line, and by whom and when in the words of `expired.json`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub deleted: Vec<AlteredArchive>,
    /// Backups whose archive is another than the one that was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub corrupt: Vec<AlteredArchive>,
    /// Backups that were told as missing or corrupt, and whose archive is as it should be (backupIds).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub recovered: Vec<String>,
    /// Objects below `backups/` that belong to no backup and may not be deleted.
    pub orphans: i64,
    /// Some of their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 1024)))]
    pub orphan_examples: Vec<String>,
    /// Manifests that could not be used.
    pub unreadable: i64,
    /// Some of them, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub unreadable_examples: Vec<AlteredArchive>,
}

/// An archive that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlteredArchive {
    /// Which backup.
    #[schemars(length(max = 64))]
    pub backup_id: String,
    /// What is wrong with it.
    #[schemars(length(max = 1024))]
    pub message: String,
}
