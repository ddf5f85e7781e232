//! What a decision asks for: one durable thing at a time, and what to tell. Pure.

use std::fmt;

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Claim, Outcome, Reason, Verdict};

use crate::observed::Side;
use crate::seat::Seats;

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The one next thing. After it everything is read again.
    pub next: Next,
    /// The mark that this node should show. Written where the store does not have it; where it does, its counter is
    /// renewed every 10 s.
    pub mark: Option<Claim>,
}

/// The one next thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Append to the journal, with fsync.
    Record(Record),
    /// Do this on the host. Doing it twice does no harm.
    Carry(Effect),
    /// Create `decision.json`, only where none is. Whatever the answer, only reading back counts.
    Propose {
        /// Which.
        verdict: Verdict,
        /// Why.
        reason: Reason,
    },
    /// Look again when something changed, at the latest in a second.
    Wait(Wait),
    /// Nothing is left to do.
    Rest(Outcome),
}

/// Something done on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Download, verify, restore into the staging directory, read back.
    Stage,
    /// Delete the restored data.
    DiscardStaging,
    /// Take, upload and verify a backup of the running etcd.
    TakeSafetyBackup,
    /// Copy the manifests beside the journal.
    SaveManifests,
    /// See to it that services cannot come back by themselves.
    Hold,
    /// Stop API server, controller-manager, scheduler.
    StopControlPlane,
    /// Stop etcd, however it runs.
    StopEtcd,
    /// End processes that have files below a data directory open.
    EndStrangers,
    /// Lock `member/snap/db` of both data, or of the one that is left.
    TakeLocks,
    /// Lock `member/snap/db` of the old data alone, while an etcd runs on the new.
    LockOld,
    /// Exchange one pair of directories, restore owner, mode and label, fsync.
    Exchange {
        /// Which.
        tree: Tree,
        /// What is to be in place after it.
        to: Side,
    },
    /// Give up the lock of the new data, and of no other; start etcd, and nothing else.
    StartAlone {
        /// Who may connect.
        clients: Clients,
    },
    /// Disarm NOSPACE, remove stale masterleases, look for foreign connections.
    Tidy,
    /// Give up the lock of the data in place, take the hold away, start everything as it was configured: etcd first. Done
    /// when all processes run; one that was cut off is begun again.
    StartAll,
    /// Restart this node's kubelet.
    RestartKubelet,
}

/// A directory that is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tree {
    /// `member`.
    Member,
    /// The WAL directory, where it lies apart.
    Wal,
}

/// Who may connect to etcd while it runs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clients {
    /// This host only: API servers elsewhere that list all etcds must not reach undecided data.
    Loopback,
    /// As configured.
    Configured,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Others have not staged, or were not heard of lately.
    Staged(Seats),
    /// The safety backup.
    Safety,
    /// Others are not Prepared.
    Prepared(Seats),
    /// This node's etcd does not answer yet.
    Etcd,
    /// Others do not serve.
    Served(Seats),
    /// Others have not verified.
    Verified(Seats),
    /// The store does not answer. Nothing is lost: if it stays so, this node puts everything back by itself.
    Store,
    /// The store does not answer, and this node must not act without the decision.
    Doubt,
    /// The store can be read, but takes no decision.
    Refused,
    /// The decision was learnt; the store is about to say so.
    Shown,
    /// Not everything runs yet.
    Whole,
    /// The end is reached here, and the store does not say so yet.
    Owes,
    /// `order.json` is gone, or is another one.
    Order,
    /// Something that no member wrote lies where the decision belongs.
    ForgedDecision,
    /// A human has this journal and decides.
    Hand,
    /// `lifeboat restore release`.
    Release,
    /// Journal, disk and store contradict each other; nothing is touched.
    Contradiction,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Staged(seats) => write!(f, "waits until members {seats} have staged the backup"),
            Self::Safety => f.write_str("waits for the safety backup"),
            Self::Prepared(seats) => write!(f, "stopped; waits until members {seats} are prepared"),
            Self::Etcd => f.write_str("waits until the restored etcd of this node answers"),
            Self::Served(seats) => write!(f, "waits until the restored etcd of members {seats} answers"),
            Self::Verified(seats) => write!(f, "verified; waits for members {seats}"),
            Self::Store => f.write_str("the store does not answer; if it stays so, the old data is put back"),
            Self::Doubt => f.write_str(
                "IN DOUBT: verified, but the store does not answer, so the decision is not known. The restored etcd runs \
                 without API server. Bring the store back, or run: lifeboat restore decide",
            ),
            Self::Refused => f.write_str(
                "IN DOUBT: the store can be read but refuses to take the decision. The restored etcd runs without API server. \
                 Give this installation leave to create objects below restores/ again, or run: lifeboat restore decide",
            ),
            Self::Shown => f.write_str("the decision is known; waits until the store says so"),
            Self::Whole => f.write_str("everything was started; waits until all of it runs"),
            Self::Owes => f.write_str(
                "done here; the others learn it from the store as soon as that answers and takes writes. Leave this service on",
            ),
            Self::Order => f.write_str(
                "the order in the store is missing or is another one; nothing is decided until it is put back",
            ),
            Self::ForgedDecision => f.write_str(
                "decision.json was written by no member of this restore: find out who did. Put its previous version back if \
                 the bucket keeps versions; else run: lifeboat restore decide. Do not just delete it",
            ),
            Self::Hand => f.write_str("waits for the rest of: lifeboat restore decide"),
            Self::Release => f.write_str("committed; restore your volumes now, then run: lifeboat restore release"),
            Self::Contradiction => f.write_str(
                "journal, disk and store contradict each other; nothing is touched. See docs/restore-protocol.md, Damage",
            ),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Stage => "stages the backup",
            Self::DiscardStaging => "deletes the restored data",
            Self::TakeSafetyBackup => "takes the safety backup",
            Self::SaveManifests => "saves the manifests",
            Self::Hold => "holds the services",
            Self::StopControlPlane => "stops API server, controller-manager and scheduler",
            Self::StopEtcd => "stops etcd",
            Self::EndStrangers => "ends processes that use the data",
            Self::TakeLocks => "locks old and new data",
            Self::LockOld => "locks the old data",
            Self::Exchange { tree: Tree::Member, to: Side::New } => "puts the new data in place",
            Self::Exchange { tree: Tree::Member, to: Side::Old } => "puts the old data back",
            Self::Exchange { tree: Tree::Wal, to: Side::New } => "puts the new WAL in place",
            Self::Exchange { tree: Tree::Wal, to: Side::Old } => "puts the old WAL back",
            Self::StartAlone { clients: Clients::Loopback } => "starts the new etcd, on loopback",
            Self::StartAlone { clients: Clients::Configured } => "starts the new etcd",
            Self::Tidy => "clears alarms and stale leases",
            Self::StartAll => "starts everything",
            Self::RestartKubelet => "restarts the kubelet",
        };
        f.write_str(words)
    }
}
