//! The second machine: one member re-initialised from the quorum (etcd-facts.md, One member). Pure.
//!
//! The others keep serving throughout. Until the member is removed its old data can be started again; from the moment it
//! may have been removed, only forward: that data belongs to a member that is no more.

use std::time::Duration;

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;

/// etcd members that were just stopped may still have messages on their way (etcd-facts.md).
pub const AFTER_STOP: Duration = Duration::from_secs(5);

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
    /// The old `member` directory.
    pub old_data: OldData,
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

/// The old `member` directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldData {
    /// Where etcd starts from.
    InPlace,
    /// Moved aside, kept until this member is a voter with an equal hash.
    Aside,
    /// There was none.
    Absent,
}

/// The journal, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberLedger {
    /// The member as it was listed at the beginning.
    pub begun: Option<Option<EtcdMemberId>>,
    /// etcd was about to be stopped.
    pub stopping: bool,
    /// The member was about to be removed.
    pub removing: bool,
    /// It is a voter again.
    pub rejoined: bool,
    /// The end.
    pub ended: Option<Outcome>,
}

impl MemberLedger {
    /// The ledger after one more record.
    #[must_use]
    pub const fn with(mut self, record: MemberRecord) -> Self {
        match record {
            MemberRecord::Begun { old_member } => self.begun = Some(old_member),
            MemberRecord::IntendStopped => self.stopping = true,
            MemberRecord::IntendRemoved => self.removing = true,
            MemberRecord::Rejoined => self.rejoined = true,
            MemberRecord::Ended { outcome } => self.ended = Some(outcome),
        }
        self
    }
}

/// The one next thing; after it everything is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberNext {
    /// Append to the journal, with fsync.
    Record(MemberRecord),
    /// Do this. Doing it twice does no harm.
    Carry(MemberEffect),
    /// Look again.
    Wait(MemberWait),
    /// Nothing was changed, and nothing will be.
    Refuse(QuorumRefusal),
    /// Done.
    Rest(Outcome),
}

/// Something done on the host or through the other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberEffect {
    /// Create the lock key with a lease.
    TakeLock,
    /// Delete the lock key.
    DropLock,
    /// Take and verify a snapshot of the cluster.
    TakeSnapshot,
    /// Move the leadership away from this member.
    MoveLeader,
    /// Stop API server and etcd of this node, held.
    Stop,
    /// Start the old data again, with the old manifest.
    StartOld,
    /// MemberRemove.
    Remove(EtcdMemberId),
    /// MemberAdd as learner, same peer URL.
    AddLearner,
    /// Move the old `member` directory aside.
    MoveAside,
    /// Write the manifest with exactly the list and `existing`.
    WriteManifest,
    /// Start etcd and the API server.
    Start,
    /// MemberPromote.
    Promote(EtcdMemberId),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MemberWait {
    /// Another node holds the lock.
    #[error("another member is being re-initialised; this one waits for its turn")]
    Lock,
    /// A moment after the stop.
    #[error("stopped; waits a few seconds for messages under way")]
    AfterStop,
    /// The others do not allow it now.
    #[error("the other members cannot spare this one now; it goes on when they are healthy")]
    Quorum,
    /// The new member follows.
    #[error("the member catches up with the leader")]
    CatchUp,
    /// Its hash is not that of the others.
    #[error("the member's data differs from the others'; the old data is kept. Run: lifeboat etcd status")]
    HashDiffers,
}

/// Why a member cannot be re-initialised, with the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum QuorumRefusal {
    /// The others do not answer.
    #[error("no other member answers: there is no quorum to join from; restore the cluster from a backup instead")]
    Silent,
    /// They do not agree among themselves.
    #[error("the other members do not agree on cluster or leader, or one reports CORRUPT: mend that first")]
    Disagree,
    /// Too few voters.
    #[error(
        "{healthy} of the {others} other voters are healthy; {quorum} are needed, the quorum of {voters} voters{}",
        if *voters < 3 { "; a cluster of one or two can never do this: restore it from a backup" } else { "" }
    )]
    TooFew {
        /// Voters, this one included.
        voters: usize,
        /// quorum(voters).
        quorum: usize,
        /// Voters other than this one.
        others: usize,
        /// Healthy ones among those.
        healthy: usize,
    },
    /// A change of membership is under way.
    #[error("another member is a learner or was never started: finish or remove it first, one change at a time")]
    ChangeUnderWay,
    /// Somebody called it off before anything was changed.
    #[error("cancelled")]
    Cancelled,
}

/// What this node does next.
pub fn decide_member(seen: &MemberSeen<'_>) -> MemberNext {
    let MemberLedger { begun, stopping, removing, rejoined, ended } = seen.journal;
    match (ended, begun) {
        (Some(_), _) if seen.lock == Lock::Mine => MemberNext::Carry(MemberEffect::DropLock),
        (Some(outcome), _) => MemberNext::Rest(outcome),
        (None, None) => begin(seen),
        (None, Some(_)) if rejoined => end(Outcome::Committed),
        (None, Some(old)) if removing => rejoin(seen, old),
        (None, Some(old)) => prepare(seen, old, stopping),
    }
}

const fn end(outcome: Outcome) -> MemberNext {
    MemberNext::Record(MemberRecord::Ended { outcome })
}

/// The preflight without the lock, then again with it: what held before it was taken may not hold after.
fn begin(seen: &MemberSeen<'_>) -> MemberNext {
    match (may_spare(seen), seen.lock) {
        (Err(_), Lock::Mine) => MemberNext::Carry(MemberEffect::DropLock),
        (Err(refusal), Lock::Free | Lock::Other) => MemberNext::Refuse(refusal),
        (Ok(_), Lock::Other) => MemberNext::Wait(MemberWait::Lock),
        (Ok(_), Lock::Free) => MemberNext::Carry(MemberEffect::TakeLock),
        (Ok(own), Lock::Mine) => {
            let old_member = match own {
                OwnEntry::Absent => None,
                OwnEntry::Listed { id, learner: _, leads: _ } => Some(id),
            };
            MemberNext::Record(MemberRecord::Begun { old_member })
        }
    }
}

/// Snapshot, leadership away, stop. Whatever goes wrong here is undone by starting the old data.
fn prepare(seen: &MemberSeen<'_>, old: Option<EtcdMemberId>, stopping: bool) -> MemberNext {
    let own = match may_spare(seen) {
        Ok(own) => own,
        Err(_) => return give_up(seen, stopping),
    };
    match seen.lock {
        Lock::Free => return MemberNext::Carry(MemberEffect::TakeLock),
        Lock::Other => return give_up(seen, stopping),
        Lock::Mine => {}
    }
    if !seen.host.snapshot {
        return MemberNext::Carry(MemberEffect::TakeSnapshot);
    }
    let leads = match own {
        OwnEntry::Listed { id: _, learner: _, leads } => leads,
        OwnEntry::Absent => false,
    };
    match (seen.host.etcd, stopping) {
        _ if leads => MemberNext::Carry(MemberEffect::MoveLeader),
        (_, false) => MemberNext::Record(MemberRecord::IntendStopped),
        (MemberEtcd::Runs, true) => MemberNext::Carry(MemberEffect::Stop),
        (MemberEtcd::Stopped, true) if old.is_some() && seen.stopped_for < AFTER_STOP => {
            MemberNext::Wait(MemberWait::AfterStop)
        }
        (MemberEtcd::Stopped, true) => MemberNext::Record(MemberRecord::IntendRemoved),
    }
}

fn give_up(seen: &MemberSeen<'_>, stopping: bool) -> MemberNext {
    match (seen.host.etcd, seen.host.old_data) {
        // The member was not removed: its data is still its own.
        (MemberEtcd::Stopped, OldData::InPlace) if stopping => MemberNext::Carry(MemberEffect::StartOld),
        (MemberEtcd::Stopped | MemberEtcd::Runs, OldData::InPlace | OldData::Aside | OldData::Absent) => {
            end(Outcome::RolledBack)
        }
    }
}

/// Remove, add, start, promote, compare: forward only, each step told from the member list and the disk, so that a crash
/// between any two finds its place again.
fn rejoin(seen: &MemberSeen<'_>, old: Option<EtcdMemberId>) -> MemberNext {
    let (own, others) = match seen.cluster {
        ClusterSeen::Answers { agree: true, own, others } => (own, others),
        ClusterSeen::Answers { agree: false, own: _, others: _ } | ClusterSeen::Silent => {
            return MemberNext::Wait(MemberWait::Quorum);
        }
    };
    match own {
        OwnEntry::Listed { id, .. } if Some(id) == old => {
            change_members(seen, others, true).unwrap_or(MemberNext::Carry(MemberEffect::Remove(id)))
        }
        OwnEntry::Absent => change_members(seen, others, false).unwrap_or(MemberNext::Carry(MemberEffect::AddLearner)),
        OwnEntry::Listed { id, learner, leads: _ } => start(seen, id, learner),
    }
}

/// What stands against a change of membership now: the lock and the health are asked again before each.
fn change_members(seen: &MemberSeen<'_>, others: &[OtherMember], counts_itself: bool) -> Option<MemberNext> {
    match seen.lock {
        Lock::Free => return Some(MemberNext::Carry(MemberEffect::TakeLock)),
        Lock::Other => return Some(MemberNext::Wait(MemberWait::Lock)),
        Lock::Mine => {}
    }
    match seen.host.etcd {
        MemberEtcd::Runs => Some(MemberNext::Carry(MemberEffect::Stop)),
        MemberEtcd::Stopped => {
            arithmetic(others, counts_itself).is_err().then_some(MemberNext::Wait(MemberWait::Quorum))
        }
    }
}

fn start(seen: &MemberSeen<'_>, id: EtcdMemberId, learner: bool) -> MemberNext {
    let MemberHost { etcd, old_data, manifest_joins, snapshot: _, hash_equal } = seen.host;
    match (old_data, etcd) {
        (OldData::InPlace, MemberEtcd::Stopped) => return MemberNext::Carry(MemberEffect::MoveAside),
        // Of a member that is no more.
        (OldData::InPlace, MemberEtcd::Runs) => return MemberNext::Carry(MemberEffect::Stop),
        (OldData::Aside | OldData::Absent, MemberEtcd::Stopped) if !manifest_joins => {
            return MemberNext::Carry(MemberEffect::WriteManifest);
        }
        (OldData::Aside | OldData::Absent, MemberEtcd::Stopped) => return MemberNext::Carry(MemberEffect::Start),
        (OldData::Aside | OldData::Absent, MemberEtcd::Runs) => {}
    }
    match (learner, hash_equal) {
        (true, _) => MemberNext::Carry(MemberEffect::Promote(id)),
        (false, None) => MemberNext::Wait(MemberWait::CatchUp),
        (false, Some(false)) => MemberNext::Wait(MemberWait::HashDiffers),
        (false, Some(true)) => MemberNext::Record(MemberRecord::Rejoined),
    }
}

/// Whether the others can spare this member; its entry if they can.
fn may_spare(seen: &MemberSeen<'_>) -> Result<OwnEntry, QuorumRefusal> {
    if seen.cancel {
        return Err(QuorumRefusal::Cancelled);
    }
    match seen.cluster {
        ClusterSeen::Silent => Err(QuorumRefusal::Silent),
        ClusterSeen::Answers { agree: false, own: _, others: _ } => Err(QuorumRefusal::Disagree),
        ClusterSeen::Answers { agree: true, own, others } => {
            let counts_itself = match own {
                OwnEntry::Absent => false,
                OwnEntry::Listed { id: _, learner, leads: _ } => !learner,
            };
            arithmetic(others, counts_itself).map(|()| own)
        }
    }
}

/// Healthy other voters ≥ quorum(voters): the cluster must serve while this member is away, before and after its removal.
fn arithmetic(members: &[OtherMember], counts_itself: bool) -> Result<(), QuorumRefusal> {
    if members.iter().any(|member| member.learner || !member.started) {
        return Err(QuorumRefusal::ChangeUnderWay);
    }
    let others = members.len();
    let voters = others + usize::from(counts_itself);
    let healthy = members.iter().filter(|member| member.healthy).count();
    let quorum = voters / 2 + 1;
    if healthy >= quorum { Ok(()) } else { Err(QuorumRefusal::TooFew { voters, quorum, others, healthy }) }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
