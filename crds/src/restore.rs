//! EtcdRestore: one request, the whole cluster from a backup or one member from the quorum.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identifier::NodeName;
use crate::quantity::Quantity;
use crate::reference::{KeySelector, ObjectName};
use crate::work::{Assignment, Execution, TaskError};
use crate::{Condition, Time};

/// A request to restore etcd: the whole cluster from a backup, or one member from the quorum. Nothing happens before
/// its plan is approved. Write access to this kind equals cluster-admin.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd.lifeboat.dev",
    version = "v1alpha1",
    kind = "EtcdRestore",
    doc = "A request to restore etcd: the whole cluster from a backup, or one member from the quorum. Nothing happens before its plan is approved. Write access to this kind equals cluster-admin.",
    plural = "etcdrestores",
    namespaced,
    status = "EtcdRestoreStatus",
    derive = "PartialEq",
    shortname = "etcdr",
    category = "lifeboat",
    selectable = ".status.phase",
    selectable = ".status.assignment.nodeName",
    printcolumn(name = "Kind", type_ = "string", json_path = ".status.kind"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodesReady"),
    printcolumn(name = "Backup", type_ = "string", json_path = ".status.plan.backup.backupId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Outage", type_ = "integer", priority = 1, json_path = ".status.outageSeconds"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cluster) != has(self.member)").message("set exactly one of cluster, member"),
    validation = Rule::new("has(self.cluster) == has(oldSelf.cluster) && (!has(self.cluster) || self.cluster == oldSelf.cluster)").message("cluster is immutable: an EtcdRestore is one request; create a new one, or raise attempt to run this one again").field_path(".cluster").reason(Reason::FieldValueForbidden),
    validation = Rule::new("has(self.member) == has(oldSelf.member) && (!has(self.member) || self.member == oldSelf.member)").message("member is immutable: create a new EtcdRestore").field_path(".member").reason(Reason::FieldValueForbidden),
    validation = Rule::new("!oldSelf.cancel || self.cancel || self.attempt > oldSelf.attempt").message("cancel cannot be taken back; raise attempt (with cancel: false) to run the request again").field_path(".cancel").reason(Reason::FieldValueForbidden)
)]
pub struct EtcdRestoreSpec {
    /// Restores every member from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterRestore>,
    /// Re-initialises one member from the quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberRestore>,
    /// Copy status.plan.approvalCode here; anything else and nothing happens.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub approval: String,
    /// Raise it to run the same request again.
    #[serde(default = "default_attempt")]
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("attempt never decreases; raise it to run the same request again").reason(Reason::FieldValueForbidden))]
    pub attempt: i32,
    /// Calls the restore off; honoured until the decision.
    #[serde(default)]
    pub cancel: bool,
}

fn default_attempt() -> i32 {
    1
}

/// Restores every member from a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRestore {
    /// Which backup.
    pub from: RestoreSource,
    /// Masters destroyed, or to be wiped before they are powered on. Every other known master takes part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub lost: Vec<NodeName>,
    /// Location for order and marks; needed when the source is ReadOnly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordination_ref: Option<ObjectName>,
    /// Waits after the decision, before any API server starts, for `lifeboat restore release`.
    #[serde(default)]
    pub hold_before_release: bool,
    /// Backup of the state about to be replaced.
    #[serde(default)]
    pub safety_backup: SafetyBackup,
    /// Where the identity for an encrypted backup comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<Decryption>,
    /// Which kubelets are restarted afterwards.
    #[serde(default)]
    pub restart_kubelets: RestartKubelets,
    /// Bounds on time.
    #[serde(default)]
    pub timeouts: RestoreTimeouts,
}

/// Which backup is restored.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.backupRef), has(self.latest), has(self.archive)].exists_one(x, x)").message("set exactly one of backupRef, latest, archive"))]
pub struct RestoreSource {
    /// An EtcdBackup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<ObjectName>,
    /// The newest good backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestBackup>,
    /// An archive that need not have an EtcdBackup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveReference>,
}

/// The newest good backup of a schedule or in a location.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.scheduleRef), has(self.locationRef)].exists_one(x, x)").message("set exactly one of scheduleRef, locationRef"))]
pub struct LatestBackup {
    /// Of this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_ref: Option<ObjectName>,
    /// In this location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_ref: Option<ObjectName>,
    /// None newer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// An archive by its place in a location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveReference {
    /// The location.
    pub location_ref: ObjectName,
    /// The archive's identity there.
    #[schemars(length(min = 1, max = 64))]
    pub backup_id: String,
}

/// Backup of the state about to be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SafetyBackup {
    /// No restore without it, unless etcd no longer serves.
    #[default]
    Required,
    /// Tried once.
    BestEffort,
    /// Not taken.
    Skip,
}

/// Where the identity for an encrypted backup comes from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.identitySecretRef), has(self.hostFile)].exists_one(x, x)").message("set exactly one of identitySecretRef, hostFile"))]
pub struct Decryption {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<KeySelector>,
    /// A file on the masters, so that the key never enters the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub host_file: Option<String>,
}

/// Which kubelets are restarted after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartKubelets {
    /// Those of the masters.
    #[default]
    ControlPlane,
    /// None.
    None,
    /// All, workers one after another.
    All,
}

/// Bounds on time of a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTimeouts {
    /// Longest staging, seconds.
    #[serde(default = "default_stage_seconds")]
    #[schemars(range(min = 60, max = 86400))]
    pub stage_seconds: i64,
    /// Longest time without API before everything is put back, seconds.
    #[serde(default = "default_outage_seconds")]
    #[schemars(range(min = 60, max = 86400))]
    pub outage_seconds: i64,
}

fn default_stage_seconds() -> i64 {
    3600
}

fn default_outage_seconds() -> i64 {
    900
}

impl Default for RestoreTimeouts {
    fn default() -> Self {
        Self { stage_seconds: default_stage_seconds(), outage_seconds: default_outage_seconds() }
    }
}

/// Re-initialises one member from the quorum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberRestore {
    /// The master whose member it is.
    pub node_name: NodeName,
}

/// What is known of a restore.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::status_default()))]
#[x_kube(validation = Rule::new(crate::work::EXECUTION_IS_ASSIGNED).message(crate::work::EXECUTION_IS_ASSIGNED_MESSAGE))]
pub struct EtcdRestoreStatus {
    /// Generation the operator last saw; -1 before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Summary for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub phase: Option<String>,
    /// Ready, PlanReady, Approved, Complete, Failed, RolledBack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The agent asked to plan or order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// What that agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution<RestoreResult>>,
    /// Cluster or Member, for the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
    /// Such as "2/3", for the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub nodes_ready: Option<String>,
    /// The attempt that this status is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// Identity of the restore, the same for a re-created object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restore_id: Option<String>,
    /// Such as "4/10 Quiesce", for the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub step: Option<String>,
    /// What would happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// How far each master is; written by its agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["nodeName".into()]))]
    pub nodes: Vec<NodeProgress>,
    /// Commit or Rollback, once recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub decision: Option<String>,
    /// Revision of the restored cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_revision: Option<i64>,
    /// How long the API was away, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_seconds: Option<i64>,
    /// How the other nodes fared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
}

/// Result of the tasks Plan and Order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreResult {
    /// Why the task failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Of Plan: what the agent found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// Of Order: the order that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderReport>,
}

/// What an agent found out for a plan; the operator makes the plan of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// The backup, as its manifest says.
    pub backup: PlannedBackup,
    /// Size of the snapshot, bytes.
    pub size_bytes: i64,
    /// Version of the etcd that the backup is of.
    #[schemars(length(max = 64))]
    pub etcd_version: String,
    /// Members of the running cluster, as etcd lists them; without versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub members: Vec<ListedMember>,
    /// etcd's cluster id now, 16 hex digits.
    #[schemars(length(max = 64))]
    pub cluster_id: String,
    /// Revision of the running cluster.
    pub revision: i64,
    /// When the agent looked.
    pub time: Time,
    /// What changed since the backup, by resource; empty where it could not be compared, which a finding says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub changes: Vec<ResourceChanges>,
    /// Volumes that need a restore of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volumes: Option<AffectedVolumes>,
    /// What speaks against it, or is to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub findings: Vec<Finding>,
}

/// A member, as etcd lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedMember {
    /// Its name; empty for one that was added and never started.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its peer URLs.
    #[serde(rename = "peerURLs")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub peer_urls: Vec<String>,
    /// Whether it is a learner.
    #[serde(default)]
    pub is_learner: bool,
}

/// Something that speaks against a restore, or is to be known before it is approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// A name of [`crate::finding::FindingKind`]; one from a newer agent blocks.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// In words, with what to do about it.
    #[schemars(length(max = 900))]
    pub message: String,
}

/// The order that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderReport {
    /// Identity of the restore.
    #[schemars(length(max = 64))]
    pub restore_id: String,
    /// Absolute revision from which the restored cluster goes on.
    pub bump_to: i64,
}

/// What a restore would do; frozen once made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// Copy it into spec.approval to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub approval_code: Option<String>,
    /// Makes the code that of this plan and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub nonce: Option<String>,
    /// The backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<PlannedBackup>,
    /// The masters that take part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub members: Vec<PlannedMember>,
    /// The masters that are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub lost: Vec<PlannedMember>,
    /// What goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<DataLoss>,
    /// What changed since the backup, by resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub changes: Vec<ResourceChanges>,
    /// Volumes that need a restore of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volumes: Option<AffectedVolumes>,
    /// Room needed on each data file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_needed: Option<Quantity>,
    /// How long the API will be away, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_outage_seconds: Option<i64>,
    /// Absolute revision from which the restored cluster goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bump_to: Option<i64>,
    /// What to know before approving: its kind, a colon, and the words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    pub warnings: Vec<String>,
    /// What must be mended before it can be approved: its kind, a colon, and the words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    pub blockers: Vec<String>,
}

/// The backup of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedBackup {
    /// Its identity in the bucket.
    #[schemars(length(max = 64))]
    pub backup_id: String,
    /// Newest revision in it.
    pub revision: i64,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// SHA-256 of the snapshot file.
    #[schemars(length(max = 64))]
    pub sha256: String,
    /// UID of the kube-system namespace of the cluster it is of.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub cluster: String,
    /// contentHash of the snapshot; empty where it was never verified.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub content_hash: String,
    /// Name of the location it lies in.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub location: String,
}

/// A master of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMember {
    /// The node.
    pub node_name: NodeName,
    /// Name of its member.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its peer URL.
    #[serde(rename = "peerURL")]
    #[schemars(length(max = 512))]
    pub peer_url: String,
    /// Kind of control plane.
    #[schemars(length(max = 64))]
    pub platform: String,
    /// Version of etcd.
    #[schemars(length(max = 64))]
    pub version: String,
}

/// What goes back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataLoss {
    /// Time of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Time of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// Revisions between them.
    pub revisions: i64,
}

/// Changes of one resource since the backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceChanges {
    /// Such as `deployments`.
    #[schemars(length(max = 253))]
    pub resource: String,
    /// Objects that would vanish.
    pub created: i64,
    /// Objects that would come back.
    pub deleted: i64,
    /// Objects that would go back to an older state.
    pub modified: i64,
}

/// Volumes that need a restore of their own; their contents are not in etcd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedVolumes {
    /// Made since the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 253)))]
    pub missing_after: Vec<String>,
    /// Deleted since the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 253)))]
    pub reappear: Vec<String>,
}

/// How far one master is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeProgress {
    /// The node.
    pub node_name: NodeName,
    /// Its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub step: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// How the other nodes fared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// All of them.
    pub total: i32,
    /// Those whose leases advance again.
    pub back: i32,
}
