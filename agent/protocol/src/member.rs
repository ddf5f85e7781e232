//! The second machine: one member re-initialised from the quorum (etcd-facts.md, One member). Pure.
//!
//! The others keep serving throughout. Until the member is removed its old data can be started again; from the moment it
//! may have been removed, only forward: that data belongs to a member that is no more. And data that a new member has
//! started with is never taken from it: started again without it, it would have forgotten what it voted for.

mod ledger;
mod next;
mod preflight;
mod seen;

use std::time::Duration;

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;

pub use ledger::MemberLedger;
pub use next::{MemberEffect, MemberNext, MemberWait};
pub use preflight::QuorumRefusal;
use preflight::{arithmetic, may_spare};
pub use seen::{ClusterSeen, Lock, MemberEtcd, MemberHost, MemberSeen, OtherMember, OwnEntry, PlacedMember};

/// etcd members that were just stopped may still have messages on their way (etcd-facts.md).
pub const AFTER_STOP: Duration = Duration::from_secs(5);

/// How long a new member may take to follow the leader, or to hold what the others hold, before the lock is given back
/// and somebody is called. A gigabyte takes seconds (etcd-facts.md).
pub const CATCH_UP: Duration = Duration::from_secs(30 * 60);

/// What this node does next.
pub fn decide_member(seen: &MemberSeen<'_>) -> MemberNext {
    let MemberLedger { begun, stopping, removing, started, rejoined, ended } = seen.journal;
    match (ended, begun) {
        (Some(_), _) if seen.lock == Lock::Mine => MemberNext::Carry(MemberEffect::DropLock),
        (Some(outcome), _) => MemberNext::Rest(outcome),
        (None, None) => begin(seen),
        (None, Some(_)) if rejoined => end(Outcome::Committed),
        (None, Some(old)) if removing => rejoin(seen, old, started),
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
    let is_unusable = seen.failed == Some(MemberEffect::StartOld);
    match (seen.host.etcd, seen.host.placed) {
        // The data that cannot be started is why this was begun; it is neither better nor worse than before.
        (MemberEtcd::Stopped, _) if stopping && is_unusable && seen.cancel => end(Outcome::RolledBack),
        (MemberEtcd::Stopped, _) if stopping && is_unusable => MemberNext::Wait(MemberWait::OldUnusable),
        // The member was not removed: its data is still its own.
        (MemberEtcd::Stopped, PlacedMember::Of(_) | PlacedMember::Unreadable) if stopping => {
            MemberNext::Carry(MemberEffect::StartOld)
        }
        (MemberEtcd::Stopped | MemberEtcd::Runs, _) => end(Outcome::RolledBack),
    }
}

/// Remove, add, start, promote, compare: forward only, each step told from the member list and the disk, so that a crash
/// between any two finds its place again.
fn rejoin(seen: &MemberSeen<'_>, old: Option<EtcdMemberId>, started: Option<EtcdMemberId>) -> MemberNext {
    let (own, others) = match seen.cluster {
        ClusterSeen::Answers { agree: true, own, others } => (own, others),
        ClusterSeen::Answers { agree: false, own: _, others: _ } | ClusterSeen::Silent => {
            return MemberNext::Wait(MemberWait::Quorum);
        }
    };
    match own {
        OwnEntry::Absent => change_stopped(seen, others, false).unwrap_or(MemberNext::Carry(MemberEffect::AddLearner)),
        OwnEntry::Listed { id, learner, leads: _ } if Some(id) == old || has_forgotten(seen.host, id, started) => {
            change_stopped(seen, others, !learner).unwrap_or(MemberNext::Carry(MemberEffect::Remove(id)))
        }
        OwnEntry::Listed { id, learner, leads: _ } => match start(seen.host, id, started) {
            Some(next) => next,
            None if started != Some(id) => keep(seen.host, id),
            None => join(seen, others, id, learner),
        },
    }
}

/// Whether this member has run, and its data is gone: it must become another member, not the same one without memory.
fn has_forgotten(host: MemberHost, id: EtcdMemberId, started: Option<EtcdMemberId>) -> bool {
    started == Some(id) && host.placed == PlacedMember::Nothing && host.etcd == MemberEtcd::Stopped
}

/// What stands against a change of membership now: the lock and the health are asked again before each.
fn change(seen: &MemberSeen<'_>, others: &[OtherMember], counts_itself: bool) -> Option<MemberNext> {
    match seen.lock {
        Lock::Free => Some(MemberNext::Carry(MemberEffect::TakeLock)),
        Lock::Other => Some(MemberNext::Wait(MemberWait::Lock)),
        Lock::Mine => arithmetic(others, counts_itself).is_err().then_some(MemberNext::Wait(MemberWait::Quorum)),
    }
}

/// The same where etcd of this node must not run.
fn change_stopped(seen: &MemberSeen<'_>, others: &[OtherMember], counts_itself: bool) -> Option<MemberNext> {
    match seen.host.etcd {
        MemberEtcd::Runs => Some(MemberNext::Carry(MemberEffect::Stop)),
        MemberEtcd::Stopped => change(seen, others, counts_itself),
    }
}

/// What is still to be done for etcd to run as the new member; `None` when it does.
fn start(host: MemberHost, id: EtcdMemberId, started: Option<EtcdMemberId>) -> Option<MemberNext> {
    let MemberHost { etcd, placed, manifest_joins, snapshot: _, hash_equal: _ } = host;
    let is_its_own = placed == PlacedMember::Of(id);
    match (placed, etcd) {
        (PlacedMember::Unreadable, MemberEtcd::Stopped) if started == Some(id) => {
            Some(MemberNext::Wait(MemberWait::Unreadable))
        }
        (PlacedMember::Of(_) | PlacedMember::Unreadable, MemberEtcd::Stopped) if !is_its_own => {
            Some(MemberNext::Carry(MemberEffect::MoveAside))
        }
        // Of a member that is no more.
        (PlacedMember::Of(_), MemberEtcd::Runs) if !is_its_own => Some(MemberNext::Carry(MemberEffect::Stop)),
        (_, MemberEtcd::Stopped) if !manifest_joins => Some(MemberNext::Carry(MemberEffect::WriteManifest)),
        (_, MemberEtcd::Stopped) => Some(MemberNext::Carry(MemberEffect::Start)),
        (_, MemberEtcd::Runs) => None,
    }
}

/// The new member has data of its own as soon as etcd has written its WAL. A learner does not vote, so until it is known
/// to have some nothing is lost with it.
fn keep(host: MemberHost, id: EtcdMemberId) -> MemberNext {
    if host.placed == PlacedMember::Of(id) {
        MemberNext::Record(MemberRecord::Started { member: id })
    } else {
        MemberNext::Wait(MemberWait::CatchUp)
    }
}

/// The new member runs: a voter when it has caught up, done when it holds what the others hold.
fn join(seen: &MemberSeen<'_>, others: &[OtherMember], id: EtcdMemberId, learner: bool) -> MemberNext {
    let is_late = seen.joining_for >= CATCH_UP;
    match (learner, seen.host.hash_equal) {
        (false, Some(true)) => MemberNext::Record(MemberRecord::Rejoined),
        // Somebody is called; until they come nobody else waits for this lock.
        (_, _) if is_late && seen.lock == Lock::Mine => MemberNext::Carry(MemberEffect::DropLock),
        (true, _) if is_late => MemberNext::Wait(MemberWait::Behind),
        (true, _) => change(seen, others, true).unwrap_or(MemberNext::Carry(MemberEffect::Promote(id))),
        (false, None) if is_late => MemberNext::Wait(MemberWait::Behind),
        (false, None) => MemberNext::Wait(MemberWait::CatchUp),
        (false, Some(false)) => MemberNext::Wait(MemberWait::HashDiffers),
    }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
