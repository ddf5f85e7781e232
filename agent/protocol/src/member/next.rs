//! What the second machine asks for, and what it waits for. Pure.

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;

use super::preflight::QuorumRefusal;

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
    /// Move the `member` directory in place aside, under a name of its own.
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
    /// It has not caught up for long.
    #[error(
        "the member has not caught up with the leader for half an hour; the lock was given back, the old data is kept. Look \
         at its etcd's log and at the disk; it goes on when the agent is started again"
    )]
    Behind,
    /// The old data cannot be started.
    #[error(
        "the old data cannot be started, and the other members cannot spare this one now; it goes on when they are healthy"
    )]
    OldUnusable,
    /// Somebody else's data, or data that cannot be read, lies in place.
    #[error(
        "the data in place cannot be read, and etcd may have voted with it: it is neither started nor moved. Mend the disk, \
         or remove this member (etcdctl member remove) and begin again"
    )]
    Unreadable,
    /// Its hash is not that of the others.
    #[error("the member's data differs from the others'; the old data is kept. Run: lifeboat etcd status")]
    HashDiffers,
}
