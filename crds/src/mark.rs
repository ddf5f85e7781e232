//! What the members of a restore tell each other through the store: marks, the one decision, and where they lie.
//!
//! A mark says what a node *has done*; each step has an object of its own, so a write that lands late can never take back
//! a newer one. The decision is created once and never written again.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::Envelope;
use crate::identifier::NodeName;
use crate::order::{EtcdClusterId, OrderDigest, OrderedRequest, RestoreId};

/// `marks/<node>/<step>.json` as stored.
pub type MarkDocument = Envelope<Mark>;
/// `decision.json` as stored.
pub type DecisionDocument = Envelope<Decision>;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The restore.
    pub restore_id: RestoreId,
    /// The order that this node sealed.
    pub order_digest: OrderDigest,
    /// The node.
    pub node_name: NodeName,
    /// What it has done.
    pub claim: Claim,
    /// Counts up while the node lives; that it changes is what others look at, never a clock.
    pub counter: u64,
}

/// What a node has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "step", rename_all_fields = "camelCase")]
pub enum Claim {
    /// The new data lies on its disk, proven; its old etcd still serves.
    Staged,
    /// The safety backup is taken, or skipped as the plan said.
    Safety {
        /// It was taken.
        taken: bool,
    },
    /// Everything is stopped, the new data is in place.
    Prepared,
    /// The new etcd serves, alone.
    Served {
        /// What it holds.
        facts: ServedFacts,
    },
    /// It found all members equal, and will do nothing more without the decision.
    Verified,
    /// It read this decision, and carries it out as soon as the store holds this mark and the decision. The store may lose
    /// one object, also the decision, and still say what was decided.
    Learned {
        /// Which.
        verdict: Verdict,
    },
    /// It left before it was Verified: no Commit can exist.
    Left {
        /// Why.
        reason: Reason,
    },
    /// It is done with this restore.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// Names of the objects that marks are stored in, one a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkStep {
    /// Of [`Claim::Staged`].
    Staged,
    /// Of [`Claim::Safety`].
    Safety,
    /// Of [`Claim::Prepared`].
    Prepared,
    /// Of [`Claim::Served`].
    Served,
    /// Of [`Claim::Verified`].
    Verified,
    /// Of [`Claim::Learned`].
    Learned,
    /// Of [`Claim::Left`].
    Left,
    /// Of [`Claim::Ended`].
    Ended,
}

impl MarkStep {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Staged,
        Self::Safety,
        Self::Prepared,
        Self::Served,
        Self::Verified,
        Self::Learned,
        Self::Left,
        Self::Ended,
    ];

    /// Name in keys and MACs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Safety => "safety",
            Self::Prepared => "prepared",
            Self::Served => "served",
            Self::Verified => "verified",
            Self::Learned => "learned",
            Self::Left => "left",
            Self::Ended => "ended",
        }
    }
}

impl Claim {
    /// The object it is stored in.
    pub const fn step(&self) -> MarkStep {
        match self {
            Self::Staged => MarkStep::Staged,
            Self::Safety { taken: _ } => MarkStep::Safety,
            Self::Prepared => MarkStep::Prepared,
            Self::Served { facts: _ } => MarkStep::Served,
            Self::Verified => MarkStep::Verified,
            Self::Learned { verdict: _ } => MarkStep::Learned,
            Self::Left { reason: _ } => MarkStep::Left,
            Self::Ended { outcome: _ } => MarkStep::Ended,
        }
    }
}

/// What a member of the restored cluster holds. Equal on all, or nothing is committed.
///
/// The hash is taken *at* `revision`, which all members take from the order (`bumpTo`): leases of the snapshot expire as
/// soon as the new etcd serves, and each expiry is a revision of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedFacts {
    /// The new cluster's id.
    pub cluster_id: EtcdClusterId,
    /// Revision that the hash was taken at.
    pub revision: i64,
    /// Compact revision of the answer.
    pub compact_revision: i64,
    /// HashKV.
    pub hash: u32,
}

/// The end that all members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The new data is the cluster's data.
    Commit,
    /// The old data is put back.
    Rollback,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "Commit",
            Self::Rollback => "Rollback",
        })
    }
}

impl Verdict {
    /// The one that it is not.
    pub const fn other(self) -> Self {
        match self {
            Self::Commit => Self::Rollback,
            Self::Rollback => Self::Commit,
        }
    }

    /// How a node that obeys it ends.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Commit => Outcome::Committed,
            Self::Rollback => Outcome::RolledBack,
        }
    }
}

/// Why a node gave up, or asked for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// All members were seen Verified.
    AllVerified,
    /// Somebody called the restore off.
    Cancelled,
    /// Another member left.
    PeerLeft,
    /// The step took longer than the order allows.
    DeadlineExceeded,
    /// Something on this node cannot be done.
    StepFailed,
    /// The members do not hold the same.
    MembersDiffer,
    /// A member that was said to be lost answers.
    LostMemberAnswers,
    /// A human decided, from the journals of all members.
    ByHand,
    /// It was decided before, and the store does not hold the decision any more.
    DecidedBefore,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllVerified => "all members verified the restored data",
            Self::Cancelled => "the restore was cancelled",
            Self::PeerLeft => "another member gave up",
            Self::DeadlineExceeded => "the step took longer than the order allows",
            Self::StepFailed => "a step cannot be done on this node",
            Self::MembersDiffer => "the members do not hold the same data",
            Self::LostMemberAnswers => "a member that was said to be lost answers",
            Self::ByHand => "a human decided by: lifeboat restore decide",
            Self::DecidedBefore => "it was decided before; the store had lost the decision",
        })
    }
}

/// How a restore ended on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It runs the new data.
    Committed,
    /// It runs the old data.
    RolledBack,
}

impl Outcome {
    /// The decision that it obeys.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Committed => Verdict::Commit,
            Self::RolledBack => Verdict::Rollback,
        }
    }
}

/// `decision.json`: created once; the first writer wins, and everybody obeys what it reads back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The restore.
    pub restore_id: RestoreId,
    /// The order it decides.
    pub order_digest: OrderDigest,
    /// The node that wrote it.
    pub node_name: NodeName,
    /// What is to be done.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The same for people, with what is known beside: which step failed, and how.
    pub message: String,
}

/// `outcome/<node>.json`: how a restore ended on a node, for people and for the record that a rewound API has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeOutcome {
    /// The restore.
    pub restore_id: RestoreId,
    /// Its order.
    pub order_digest: OrderDigest,
    /// The node.
    pub node_name: NodeName,
    /// The request, by which an outcome is looked up.
    pub request: OrderedRequest,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
    /// Revision that the restored cluster goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// From the first component stopped until all ran again, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_seconds: Option<i64>,
    /// When.
    pub time: Timestamp,
}

/// Everything of the restores of one cluster, ending in a slash.
pub fn restores_prefix(uid: &str) -> String {
    format!("{uid}/restores/")
}

/// Every slot of one cluster, ending in a slash.
pub fn slots_prefix(uid: &str) -> String {
    format!("{uid}/restores/active/")
}

/// The slot `number`. Zero-padded, so that the last key of a listing is the highest.
pub fn slot_key(uid: &str, number: u64) -> String {
    format!("{uid}/restores/active/{number:020}.json")
}

/// The number of a slot's key.
pub fn slot_of_key(uid: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(&slots_prefix(uid))?.strip_suffix(".json")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The order.
pub fn order_key(uid: &str, id: &RestoreId) -> String {
    format!("{uid}/restores/{id}/order.json")
}

/// The decision.
pub fn decision_key(uid: &str, id: &RestoreId) -> String {
    format!("{uid}/restores/{id}/decision.json")
}

/// Every mark of a restore, ending in a slash.
pub fn marks_prefix(uid: &str, id: &RestoreId) -> String {
    format!("{uid}/restores/{id}/marks/")
}

/// One mark.
pub fn mark_key(uid: &str, id: &RestoreId, node: &NodeName, step: MarkStep) -> String {
    format!("{uid}/restores/{id}/marks/{node}/{}.json", step.as_str())
}

/// How it ended on one node.
pub fn outcome_key(uid: &str, id: &RestoreId, node: &NodeName) -> String {
    format!("{uid}/restores/{id}/outcome/{node}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_named_by_its_step() {
        assert_eq!(serde_json::to_value(Claim::Verified).unwrap(), json!({"step": "Verified"}));
        let facts = ServedFacts {
            cluster_id: EtcdClusterId(1),
            revision: 1_000_000_007,
            compact_revision: 1_000_000_007,
            hash: 9,
        };
        let claim = Claim::Served { facts };
        assert_eq!(
            serde_json::to_value(claim).unwrap(),
            json!({"step": "Served", "facts": {"clusterId": "0000000000000001", "revision": 1_000_000_007,
                "compactRevision": 1_000_000_007, "hash": 9}})
        );
        assert_eq!(serde_json::from_value::<Claim>(serde_json::to_value(claim).unwrap()).unwrap(), claim);
    }

    #[test]
    fn keys_of_slots_sort_by_number_and_read_back() {
        assert!(slot_key("u", 9) < slot_key("u", 10));
        assert_eq!(slot_of_key("u", &slot_key("u", 10)), Some(10));
        assert_eq!(slot_of_key("u", "u/restores/active/10.json"), None);
        assert_eq!(slot_of_key("other", &slot_key("u", 10)), None);
    }

    #[test]
    fn each_step_has_an_object_of_its_own() {
        let id = RestoreId::new("n", "a", 1, "s");
        let keys: std::collections::BTreeSet<_> =
            MarkStep::ALL.iter().map(|step| mark_key("u", &id, &"m0".into(), *step)).collect();
        assert_eq!(keys.len(), MarkStep::ALL.len());
        assert!(keys.iter().all(|key| key.starts_with(&marks_prefix("u", &id))));
    }
}
