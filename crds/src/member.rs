//! EtcdMember: one master as its agent sees it. Status only.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::{Condition, Time};

/// One master as its agent sees it. Made by the agent; the name is the node's.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd.lifeboat.dev",
    version = "v1alpha1",
    kind = "EtcdMember",
    doc = "One master as its agent sees it. Made by the agent; the name is the node's.",
    plural = "etcdmembers",
    namespaced,
    no_spec,
    status = "EtcdMemberStatus",
    derive = "PartialEq",
    shortname = "etcdm",
    category = "lifeboat",
    printcolumn(name = "Member", type_ = "string", json_path = ".status.name"),
    printcolumn(name = "Leader", type_ = "boolean", json_path = ".status.isLeader"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "DB Size", type_ = "string", json_path = ".status.dbSize"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#
    )
)]
#[cfg_attr(test, kube(cel))]
pub struct EtcdMemberSpec {}

/// What is known of a master.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::status_default()))]
pub struct EtcdMemberStatus {
    /// Generation the operator last saw; -1 before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready; written by the operator from the heartbeats it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Facts of the agent.
    #[serde(flatten)]
    pub facts: MemberFacts,
}

/// What the agent writes: every field of the status but the operator's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberFacts {
    /// Version of the etcd server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// etcd's member id, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub member_id: Option<String>,
    /// etcd's cluster id, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,
    /// Name of the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Whether it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_leader: Option<bool>,
    /// Whether it is a learner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_learner: Option<bool>,
    /// Whether it sees a leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_leader: Option<bool>,
    /// Its revision at the last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Size of the database, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size: Option<Quantity>,
    /// Used part of it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_in_use: Option<Quantity>,
    /// Size of the database, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    /// Used part of it, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_in_use_bytes: Option<i64>,
    /// Quota of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quantity>,
    /// Alarms raised by this member, such as NOSPACE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub alarms: Vec<String>,
    /// What this member complains about besides alarms and a missing leader, in etcd's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub errors: Vec<String>,
    /// Client URLs the agent uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub endpoints: Vec<String>,
    /// etcd's data directory on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub data_dir: Option<String>,
    /// What kind of control plane this is: StaticPods, Kublr, or a word for one that is recognised but not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub platform: Option<String>,
    /// Why the member cannot be used, in words; absent where it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub problem: Option<String>,
    /// etcd tools on this host by minor version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_versions: BTreeMap<String, String>,
    /// Free space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<FreeBytes>,
    /// The client certificate the agent uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,
    /// When the agent last wrote. Judged by how long it was seen unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_time: Option<Time>,
    /// Highest revision this agent ever saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_revision_seen: Option<i64>,
    /// Random identity of the host, on its disk and not in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub host_id: Option<String>,
    /// That the last comparison by this agent found members with different data. It counts until a later one, by whichever
    /// agent, finds them equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// That the last comparison by this agent found the members equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// Outcome of the last restore on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restore: Option<LastRestore>,
    /// Why this master could not take part in a restore of all, in words; absent where it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub restore_obstacle: Option<String>,
}

/// Members that answered with different hashes of their keys, up to one revision and one compaction, twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Divergence {
    /// Up to which revision.
    pub revision: i64,
    /// Each member that was compared, with its hash.
    #[schemars(length(max = 16), inner(length(max = 300)))]
    pub members: Vec<String>,
    /// When it was seen.
    pub time: Time,
}

/// Members that answered with one hash of their keys, which is that of a snapshot, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// Up to which revision.
    pub revision: i64,
    /// Names of the members that were compared.
    #[schemars(length(max = 16), inner(length(max = 300)))]
    pub members: Vec<String>,
    /// When it was seen.
    pub time: Time,
}

impl Agreement {
    /// Whether the members that differed were found equal since. By the clocks of two masters alone it could seem so; by
    /// revisions alone it could after a restore, which may bring lower ones.
    pub fn is_after(&self, Divergence { revision, members, time }: &Divergence) -> bool {
        // Each with its hash, `m0 (0a1b2c3d)`.
        let is_named = |member: &String| {
            let name = member.rsplit_once(" (").map_or(member.as_str(), |(name, _hash)| name);
            self.members.iter().any(|known| known == name)
        };
        self.time.0 > time.0 && self.revision >= *revision && members.iter().all(is_named)
    }
}

/// Free space on a master, bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreeBytes {
    /// On the file system of etcd's data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<i64>,
    /// On the file system of the spool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<i64>,
}

/// The client certificate the agent uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// Outcome of a restore, from the host's journal. The operator re-creates the EtcdRestore from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRestore {
    /// Identity of the restore.
    #[schemars(length(max = 64))]
    pub restore_id: String,
    /// Name of the EtcdRestore.
    #[serde(rename = "ref")]
    #[schemars(length(max = 253))]
    pub ref_: String,
    /// Attempt of the request.
    pub attempt: i32,
    /// How it ended.
    #[schemars(length(max = 64))]
    pub outcome: String,
    /// In words.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Revision after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// How long the API was away, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_seconds: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Spec of the EtcdRestore, approval blanked, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub spec: Option<String>,
}

impl LastRestore {
    /// [`Self::outcome`] of one that put older data in the place of what there was.
    pub const RESTORED: &'static str = "Restored";
    /// [`Self::outcome`] of one that ended with the old data in place.
    pub const ROLLED_BACK: &'static str = "RolledBack";
}
