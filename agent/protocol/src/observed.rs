//! Everything that a decision is made from: plain data, read by the executor. Pure.
//!
//! Nothing in here remembers anything: the journal is the only memory, the inodes and processes of this host are the
//! only truth about what lies and runs where, and the store is read anew before each decision.

use std::time::Duration;

use lifeboat_crds::journal::Inodes;
use lifeboat_crds::mark::{Outcome, ServedFacts, Verdict};
use lifeboat_crds::order::EtcdClusterId;

use crate::hand::Word;
use crate::ledger::Ledger;
use crate::next::Effect;
use crate::terms::Terms;

/// What one node sees at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The sealed order.
    pub terms: &'a Terms,
    /// This node's journal.
    pub journal: &'a Ledger,
    /// This node's disk and processes.
    pub host: Host,
    /// The store, as read now.
    pub store: Store<'a>,
    /// A member that the order calls lost answers on its peer URL.
    pub lost_answers: bool,
    /// Time that this restore has taken on this node: the journal's plus the monotonic clock since. Time while the node
    /// was off does not count.
    pub elapsed: Duration,
    /// What humans ask for.
    pub wishes: Wishes,
    /// The effect that was tried last and failed, if one did.
    pub failure: Option<Failure>,
    /// The write to the store that was tried last was refused or erred, and nothing else was tried or waited for since.
    pub refused: bool,
}

/// Which data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The data before the restore.
    Old,
    /// The restored data.
    New,
}

/// What lies and runs on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// API server, controller-manager and scheduler.
    pub control_plane: ControlPlane,
    /// etcd.
    pub etcd: Etcd,
    /// Services cannot come back by themselves, a reboot included; all but an etcd that the executor started alone.
    pub held: bool,
    /// Copies of the manifests lie beside the journal.
    pub manifests_saved: bool,
    /// Exclusive locks that this executor holds; they go when it dies.
    pub locks: Locks,
    /// A process that neither the executor nor the configuration started has a file below a data directory open.
    pub strangers: bool,
    /// Which data is in place, told by inode.
    pub placed: Placed,
    /// Cluster id in the data in place, where it can be read. It only confirms what the inodes say.
    pub placed_cluster: Option<EtcdClusterId>,
    /// The restored data, wherever it lies.
    pub staging: Staging,
    /// Inodes of the directories to exchange; `None` until both are there.
    pub inodes: Option<Inodes>,
    /// The safety backup is taken and verified.
    pub safety_taken: bool,
    /// What etcd, alone, answers of itself; `None` while it does not.
    pub served: Option<ServedFacts>,
    /// NOSPACE is disarmed, stale masterleases are gone, no foreign client is connected.
    pub tidy: bool,
    /// The kubelet was restarted since the release.
    pub kubelet_restarted: bool,
}

/// API server, controller-manager and scheduler. The difference between the last two is a node that drains, or whose start
/// was cut off: it neither is stopped nor was it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlPlane {
    /// None of their processes runs.
    None,
    /// Some do.
    Some,
    /// All do.
    All,
}

/// How etcd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Etcd {
    /// No process.
    Stopped,
    /// Started by the executor, for itself.
    Alone,
    /// As the manifests say.
    Full,
}

/// Exclusive locks on `member/snap/db`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locks {
    /// Of the old data.
    pub old: bool,
    /// Of the restored data.
    pub new: bool,
}

/// Which data is in the place that etcd starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// `member`.
    pub member: Lies,
    /// The WAL directory, where it lies apart.
    pub wal: Option<Lies>,
}

/// What one directory in place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lies {
    /// The one of the old data.
    Old,
    /// The one of the restored data.
    New,
    /// Neither, or there is none: somebody moved it.
    Unknown,
}

impl From<Side> for Lies {
    fn from(side: Side) -> Self {
        match side {
            Side::Old => Self::Old,
            Side::New => Self::New,
        }
    }
}

impl Placed {
    /// Whether everything in place is of one side.
    pub fn is(self, side: Side) -> bool {
        self.member == side.into() && self.wal.is_none_or(|wal| wal == side.into())
    }

    /// Whether every directory in place is one of those that the journal names.
    pub fn is_known(self) -> bool {
        self.member != Lies::Unknown && self.wal != Some(Lies::Unknown)
    }
}

/// The restored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Staging {
    /// None.
    Absent,
    /// There, not proven.
    Partial,
    /// Read back and proven equal to what the manifest says.
    Proven,
}

/// The store.
#[derive(Clone, Copy, Debug)]
pub enum Store<'a> {
    /// Something needed could not be read.
    Silent,
    /// All of it was read, just now.
    Answers(Reading<'a>),
}

/// What was read from the store. Only what is authentic is in here.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// `order.json`.
    pub order: OrderSeen,
    /// `decision.json`.
    pub decision: DecisionSeen,
    /// Marks by seat.
    pub marks: &'a [Marks],
}

/// `order.json` as read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderSeen {
    /// With the sealed digest.
    Sealed,
    /// Not there.
    Missing,
    /// Another one.
    Other,
}

/// `decision.json` as read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecisionSeen {
    /// Not there.
    Absent,
    /// Authentic.
    Made(Verdict),
    /// Something lies there that no member wrote. Nobody can decide until it is taken away.
    Forged,
}

/// The marks of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Staged, and whether its counter was seen to change lately.
    pub staged: Option<Freshness>,
    /// Safety.
    pub safety: bool,
    /// Prepared.
    pub prepared: bool,
    /// Served, with what it holds.
    pub served: Option<ServedFacts>,
    /// Verified.
    pub verified: bool,
    /// The decision that it learnt.
    pub learned: Option<Verdict>,
    /// Left.
    pub left: bool,
    /// Ended.
    pub ended: Option<Outcome>,
}

/// Whether the member behind a mark was alive lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// This node saw the counter change within 60 s of its own monotonic clock.
    Fresh,
    /// It did not.
    Stale,
}

/// What humans ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wishes {
    /// Call it off.
    pub cancel: bool,
    /// `lifeboat restore release`.
    pub release: bool,
    /// `lifeboat restore decide` asks for this journal.
    pub surrender: bool,
    /// What `lifeboat restore decide` found.
    pub hand: Option<Word>,
}

/// An effect that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Which.
    pub effect: Effect,
    /// Trying again cannot help.
    pub permanent: bool,
}
