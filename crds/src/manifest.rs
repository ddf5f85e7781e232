//! `manifest.json`: what is known of one archive, beside the archive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::{EtcdBackupSpec, VerificationLevel};
use crate::document::Envelope;
use crate::identifier::{BackupId, NodeName};

/// The manifest as stored.
pub type SealedManifest = Envelope<Manifest>;

/// Everything that describes an archive, so that nothing is lost with the cluster it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Identity of the backup.
    pub backup_id: BackupId,
    /// File name of the data, beside the manifest.
    pub data: String,
    /// Attempt that wrote it.
    pub attempt: i32,
    /// The object it was made for, so that a catalog can show it again.
    pub object: ManifestObject,
    /// The cluster it came from.
    pub cluster: ManifestCluster,
    /// The snapshot.
    pub snapshot: ManifestSnapshot,
    /// The archive in the store.
    pub archive: ManifestArchive,
    /// What was proven, and when.
    pub verification: ManifestVerification,
    /// When the agent began.
    pub start_time: Timestamp,
    /// When the manifest was written.
    pub completion_time: Timestamp,
    /// Programs that had a part, such as `lifeboat`: `0.1.0 (abc)`.
    pub tools: std::collections::BTreeMap<String, String>,
}

/// The EtcdBackup an archive was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestObject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The schedule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Its spec.
    pub spec: EtcdBackupSpec,
}

/// The cluster an archive came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestCluster {
    /// UID of the kube-system namespace.
    pub uid: String,
    /// etcd's cluster id, 16 hex digits.
    pub etcd_cluster_id: String,
    /// Its members as the server listed them.
    pub members: Vec<ManifestMember>,
    /// SHA-256 of the API server's encryption-at-rest configuration; never the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_config_sha256: Option<String>,
    /// SHA-256 of the service-account public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_key_sha256: Option<String>,
}

/// A member of an etcd cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestMember {
    /// etcd's member id, 16 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its peer URLs.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Whether it is a learner.
    #[serde(default)]
    pub is_learner: bool,
}

/// The snapshot: the file that etcd's own tools read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSnapshot {
    /// Node it was read on.
    pub node_name: NodeName,
    /// Member it was read from.
    pub member: String,
    /// Version of that member's server.
    pub etcd_version: String,
    /// Version of its storage format, from etcd 3.6 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_version: Option<String>,
    /// Newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Revision up to which it is compacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_revision: Option<i64>,
    /// Highest revision the agent ever saw in this cluster, for a bump that never goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_revision_seen: Option<i64>,
    /// contentHash, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// Entries of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
    /// Bytes, trailer included.
    pub size_bytes: i64,
    /// SHA-256 of the file, trailer included, 64 hex digits.
    pub sha256: String,
}

/// The archive in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestArchive {
    /// Bytes.
    pub size_bytes: i64,
    /// SHA-256 of the stored bytes, 64 hex digits.
    pub sha256: String,
    /// `zstd`.
    pub compression: String,
    /// age recipients; empty where it is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

/// What was proven of an archive, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestVerification {
    /// The level reached.
    pub level: VerificationLevel,
    /// When.
    pub time: Timestamp,
    /// Why no higher level was reached, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<crate::TaskError>,
}
