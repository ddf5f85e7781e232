//! What the second machine sees: the cluster as the others answer, and this node. Pure; plain data.

use std::time::Duration;

use lifeboat_crds::order::EtcdMemberId;

use super::ledger::MemberLedger;
use super::next::MemberEffect;

/// What the node sees.
#[derive(Clone, Copy, Debug)]
pub struct MemberSeen<'a> {
    /// Its journal.
    pub journal: MemberLedger,
    /// The cluster as the *other* members answer, linearizable, read just now.
    pub cluster: ClusterSeen<'a>,
    /// The lock: an etcd key with a lease, taken through the other members.
    pub lock: Lock,
    /// This node's disk and processes.
    pub host: MemberHost,
    /// Time since etcd of this node was seen to stop; zero while it runs.
    pub stopped_for: Duration,
    /// Time since etcd was started as the new member, or since the executor began where that was later.
    pub joining_for: Duration,
    /// The effect that was tried last and failed for good, if one did.
    pub failed: Option<MemberEffect>,
    /// Somebody called it off.
    pub cancel: bool,
}

/// The cluster as the other members answer.
#[derive(Clone, Copy, Debug)]
pub enum ClusterSeen<'a> {
    /// None of them does.
    Silent,
    /// At least one does.
    Answers {
        /// All that answered agree on cluster id and leader, and none raised CORRUPT.
        agree: bool,
        /// This node's entry in the list, found by peer URL.
        own: OwnEntry,
        /// The other entries.
        others: &'a [OtherMember],
    },
}

/// This node's entry in the member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnEntry {
    /// None.
    Absent,
    /// One.
    Listed {
        /// Its member id.
        id: EtcdMemberId,
        /// It is a learner.
        learner: bool,
        /// It leads.
        leads: bool,
    },
}

/// Another entry in the member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OtherMember {
    /// It answers its health check.
    pub healthy: bool,
    /// It is a learner.
    pub learner: bool,
    /// It has a name, that is, it was started once.
    pub started: bool,
}

/// The lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock {
    /// Nobody holds it.
    Free,
    /// This node does, and its lease was renewed just now.
    Mine,
    /// Another node does.
    Other,
}

/// This node's disk and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberHost {
    /// How etcd runs.
    pub etcd: MemberEtcd,
    /// The `member` directory in place.
    pub placed: PlacedMember,
    /// The manifest lists exactly the members and says `existing`.
    pub manifest_joins: bool,
    /// A fresh snapshot of the cluster lies on this node, verified.
    pub snapshot: bool,
    /// HashKV of this member against another's; `None` while it cannot be compared.
    pub hash_equal: Option<bool>,
}

/// How etcd of this node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberEtcd {
    /// Not at all, and it cannot come back by itself.
    Stopped,
    /// On what lies in place.
    Runs,
}

/// The `member` directory that etcd starts from, told by the head of its WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlacedMember {
    /// There is none.
    Nothing,
    /// The data of this member.
    Of(EtcdMemberId),
    /// There is one, and whose it is cannot be read.
    Unreadable,
}
