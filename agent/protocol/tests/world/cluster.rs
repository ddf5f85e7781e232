//! Three masters and a store, as small as they can be and still go wrong as real ones do.
//!
//! Nothing here decides: nodes ask the shipped `decide` and carry out what it says. What is imagined is what hosts do with
//! effects, how a store answers, and what counts as a breach.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use lifeboat_crds::journal::Inodes;
use lifeboat_crds::mark::{Claim, Outcome, ServedFacts, Verdict};
use lifeboat_crds::order::{EtcdClusterId, OrderedSafety, RestoreId};
use lifeboat_protocol::guard::{self, Boot, Guard, GuardSeen, OrderFacts, OrdersSeen};
use lifeboat_protocol::ledger::{Attempts, Ledger, Phase};
use lifeboat_protocol::next::{Clients, Effect, Tree};
use lifeboat_protocol::observed::{
    DecisionSeen, Etcd, Freshness, HandWord, Host, Locks, Marks, Observed, OrderSeen, Placed, Reading, Side, Staging,
    Store, Wishes,
};
use lifeboat_protocol::{Seat, Terms};

/// Masters of the cluster, lost ones included.
pub const NODES: usize = 3;
/// etcd's cluster id before the restore.
pub const OLD_CLUSTER: EtcdClusterId = EtcdClusterId(1);
/// And after.
pub const NEW_CLUSTER: EtcdClusterId = EtcdClusterId(2);
/// Longer than every deadline.
pub const LATE: Duration = Duration::from_secs(1_000_000);
const BUMP_TO: i64 = 1_000_000_000;
const INODES: Inodes = Inodes { old_member: 1, new_member: 2, wal: None };

/// What is fixed while a world lives.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Masters that take part; those after them are lost.
    pub members: usize,
    /// The WAL lies in a directory of its own.
    pub separate_wal: bool,
    /// API servers use every etcd of the cluster, not only their own.
    pub list_all: bool,
    /// This member's staged data differs, and its staging did not see it.
    pub differs: Option<usize>,
    /// Terms by seat.
    pub terms: Vec<Terms>,
}

impl Setting {
    pub fn new(members: usize) -> Self {
        let terms = (0..members).map(|seat| Terms {
            restore_id: RestoreId::new("lifeboat", "model", 1, "ab"),
            seat: Seat(seat as u8),
            members,
            old_cluster_id: OLD_CLUSTER,
            bump_to: BUMP_TO,
            safety: (seat == 0).then_some(OrderedSafety::Required),
            hold_before_release: false,
            loopback_api_servers: false,
            restart_kubelet: false,
            stage: Duration::from_secs(3600),
            prepare: Duration::from_secs(120),
            outage: Duration::from_secs(900),
        });
        Self { members, separate_wal: false, list_all: true, differs: None, terms: terms.collect() }
    }
}

/// What a human who decides by hand has said on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    Nothing,
    /// That the journal is wanted.
    Asked,
    /// What all journals say.
    Word,
}

/// One master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    /// Which of two drafts it sealed.
    pub sealed: Option<u8>,
    /// Its journal; in the data volume.
    pub ledger: Ledger,
    pub host: Host,
    /// The etcd that runs alone takes foreign clients.
    pub open: bool,
    /// It cannot reach the store.
    pub cut: bool,
    pub cancel: bool,
    pub release: bool,
    /// What the human who decides has said on this node.
    pub heard: Heard,
    /// A start that was decided and takes its time.
    pub starting: Option<Effect>,
    /// A lost master that joined the restored cluster.
    pub rejoined: bool,
    /// Somebody turned a lost master on.
    pub powered: bool,
    /// Restores it began.
    pub seals: u8,
    /// It had the new data in place at some time.
    pub was_prepared: bool,
    /// It started API server and etcd on the new data.
    pub went_forward: bool,
    /// It put the old data back, or started everything on it after it had stopped.
    pub went_back: bool,
}

/// The bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub away: bool,
    pub order: Option<u8>,
    pub slot: Option<u8>,
    pub marks: [Marks; NODES],
    pub decision: Option<Verdict>,
    /// Somebody without the key wrote marks that say Verified for everybody.
    pub forged: bool,
    /// Decisions whose write erred and may still land.
    pub flying: Attempts,
    /// A mark whose write erred and may still land.
    pub flying_mark: Option<(u8, Claim)>,
}

/// A human with journals in hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hand {
    pub journals: [Option<Ledger>; NODES],
    pub word: Option<HandWord>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub nodes: [Node; NODES],
    pub bucket: Bucket,
    pub hand: Option<Box<Hand>>,
    /// Faults still to come, by [`Fault`].
    pub budget: [u8; 8],
    /// What must never happen and did, by [`Breach`].
    pub breaches: u16,
}

/// Kinds of faults that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node goes down, or its executor is killed.
    Crash,
    /// The store goes away, for one or all.
    Away,
    /// A write errs and lands later.
    LateWrite,
    /// Somebody cancels.
    Cancel,
    /// Somebody decides by hand.
    Hand,
    /// A lost master is turned on.
    PowerOn,
    /// A process waits for the lock of the old data.
    Stray,
    /// The same object is applied again.
    Reapply,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    ApiOnUndecidedData,
    ApiOnOldBesideNew,
    ApiOnUnequalMember,
    BothDecisionsObeyed,
    NewDataBeforeAllPrepared,
    OldDataChanged,
    SecondRun,
    TwoOrders,
    WentBackOnADecision,
    HalfExchanged,
}

impl Breach {
    pub const ALL: [Self; 10] = [
        Self::ApiOnUndecidedData,
        Self::ApiOnOldBesideNew,
        Self::ApiOnUnequalMember,
        Self::BothDecisionsObeyed,
        Self::NewDataBeforeAllPrepared,
        Self::OldDataChanged,
        Self::SecondRun,
        Self::TwoOrders,
        Self::WentBackOnADecision,
        Self::HalfExchanged,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiOnUndecidedData => "no API server on new data while any node may roll back",
            Self::ApiOnOldBesideNew => "no API server on old data beside one on new",
            Self::ApiOnUnequalMember => "no API server on a member that did not verify equal",
            Self::BothDecisionsObeyed => "never both decisions obeyed",
            Self::NewDataBeforeAllPrepared => "no start of new data before all are Prepared",
            Self::OldDataChanged => "old data is not changed before Complete",
            Self::SecondRun => "no second run of one id",
            Self::TwoOrders => "one order",
            Self::WentBackOnADecision => "no node goes back on a decision",
            Self::HalfExchanged => "no etcd on a half-exchanged directory",
        }
    }
}

impl World {
    /// A healthy cluster of three, an order in the active slot, nobody has seen it yet.
    pub fn new(setting: &Setting) -> Self {
        let node = |index: usize| {
            let takes_part = index < setting.members;
            let etcd = if takes_part { Etcd::Full } else { Etcd::Stopped };
            let wal = setting.separate_wal.then_some(Side::Old);
            Node {
                up: takes_part,
                sealed: None,
                ledger: Ledger::default(),
                host: Host {
                    control_plane: takes_part,
                    etcd,
                    held: false,
                    manifests_saved: false,
                    locks: Locks::default(),
                    strangers: false,
                    placed: Placed { member: Side::Old, wal },
                    staging: Staging::Absent,
                    inodes: None,
                    safety_taken: false,
                    served: None,
                    tidy: false,
                    kubelet_restarted: false,
                },
                open: false,
                cut: false,
                cancel: false,
                release: false,
                heard: Heard::Nothing,
                starting: None,
                rejoined: false,
                powered: false,
                seals: 0,
                was_prepared: false,
                went_forward: false,
                went_back: false,
            }
        };
        let bucket = Bucket { order: Some(0), slot: Some(0), ..Bucket::default() };
        Self { nodes: [node(0), node(1), node(2)], bucket, hand: None, budget: [0; 8], breaches: 0 }
    }

    pub fn breach(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u16;
    }

    pub fn has(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u16) != 0
    }

    pub fn spend(&mut self, fault: Fault) -> bool {
        let left = &mut self.budget[fault as usize];
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    pub fn reaches_store(&self, index: usize) -> bool {
        !self.bucket.away && !self.nodes[index].cut
    }

    /// Nodes whose etcd runs on this data.
    pub fn running(&self, side: Side) -> usize {
        let runs = |node: &&Node| node.up && node.host.etcd != Etcd::Stopped && node.host.placed.is(side);
        self.nodes.iter().filter(runs).count()
    }

    fn has_quorum(&self, setting: &Setting, side: Side) -> bool {
        let voters = match side {
            Side::Old => NODES,
            Side::New => setting.members,
        };
        self.running(side) > voters / 2
    }

    pub fn facts(&self, setting: &Setting, index: usize) -> ServedFacts {
        let hash = if setting.differs == Some(index) { 8 } else { 7 };
        ServedFacts { cluster_id: NEW_CLUSTER, revision: BUMP_TO, compact_revision: BUMP_TO, hash }
    }

    /// What node `index` sees of itself.
    pub fn host(&self, setting: &Setting, index: usize) -> Host {
        let host = self.nodes[index].host;
        let serves = host.etcd == Etcd::Alone && self.has_quorum(setting, Side::New);
        Host { served: serves.then(|| self.facts(setting, index)), ..host }
    }

    /// Authentic marks under the order that node `index` sealed.
    pub fn marks(&self, index: usize) -> [Marks; NODES] {
        let mut marks = self.bucket.marks;
        for (node, marks) in self.nodes.iter().zip(&mut marks) {
            if node.sealed != self.nodes[index].sealed {
                *marks = Marks::default();
            }
        }
        marks
    }

    pub fn reading<'m>(&self, index: usize, marks: &'m [Marks]) -> Store<'m> {
        if !self.reaches_store(index) {
            return Store::Silent;
        }
        let order = match self.bucket.order {
            None => OrderSeen::Missing,
            order if order == self.nodes[index].sealed => OrderSeen::Sealed,
            Some(_) => OrderSeen::Other,
        };
        let decision = self.bucket.decision.map_or(DecisionSeen::Absent, DecisionSeen::Made);
        Store::Answers(Reading { order, decision, marks })
    }

    pub fn wishes(&self, index: usize) -> Wishes {
        let node = &self.nodes[index];
        Wishes {
            cancel: node.cancel,
            release: node.release,
            surrender: node.heard == Heard::Asked,
            hand: self.hand.as_ref().and_then(|hand| hand.word).filter(|_| node.heard == Heard::Word),
        }
    }

    pub fn lost_answers(&self, setting: &Setting) -> bool {
        self.nodes[setting.members..].iter().any(|node| node.up && node.host.etcd != Etcd::Stopped)
    }

    /// Everything that node `index` sees.
    pub fn observe<'a>(
        &self,
        setting: &'a Setting,
        index: usize,
        ledger: &'a Ledger,
        marks: &'a [Marks],
        late: bool,
    ) -> Observed<'a> {
        Observed {
            terms: &setting.terms[index],
            journal: ledger,
            host: self.host(setting, index),
            store: self.reading(index, marks),
            lost_answers: self.lost_answers(setting),
            elapsed: if late { LATE } else { Duration::ZERO },
            wishes: self.wishes(index),
            failure: None,
        }
    }

    /// A mark lands. Each step is an object of its own.
    pub fn land(&mut self, index: usize, claim: Claim) {
        let marks = &mut self.bucket.marks[index];
        match claim {
            Claim::Staged => marks.staged = Some(Freshness::Fresh),
            Claim::Safety { taken: _ } => marks.safety = true,
            Claim::Prepared => marks.prepared = true,
            Claim::Served { facts } => marks.served = Some(facts),
            Claim::Verified => marks.verified = true,
            Claim::Left => marks.left = true,
            Claim::Ended { outcome } => marks.ended = Some(outcome),
        }
    }

    /// A decision lands, unless one is there.
    pub fn decide(&mut self, verdict: Verdict) {
        self.bucket.decision = self.bucket.decision.or(Some(verdict));
    }

    /// What an effect does to a host; false where it cannot be done now.
    pub fn carry(&mut self, setting: &Setting, index: usize, effect: Effect) -> bool {
        let reaches_store = self.reaches_store(index);
        let node = &mut self.nodes[index];
        let host = &mut node.host;
        match effect {
            Effect::Stage | Effect::TakeSafetyBackup if !reaches_store => return false,
            Effect::Stage => {
                host.staging = Staging::Proven;
                host.inodes = Some(INODES);
            }
            Effect::TakeSafetyBackup => host.safety_taken = true,
            Effect::DiscardStaging => {
                let is_old = host.placed.is(Side::Old);
                host.staging = Staging::Absent;
                host.inodes = None;
                host.locks.new = false;
                if !is_old {
                    self.breach(Breach::OldDataChanged);
                }
            }
            Effect::SaveManifests => host.manifests_saved = true,
            Effect::Hold => host.held = true,
            Effect::StopControlPlane => host.control_plane = false,
            Effect::StopEtcd => {
                host.etcd = Etcd::Stopped;
                host.tidy = false;
                node.open = false;
            }
            Effect::EndStrangers => host.strangers = false,
            Effect::TakeLocks => host.locks = Locks { old: true, new: true },
            Effect::LockOld => host.locks.old = true,
            Effect::Exchange { tree, to } => {
                match tree {
                    Tree::Member => host.placed.member = to,
                    Tree::Wal => host.placed.wal = Some(to),
                }
                let (forward, is_new) = (to == Side::New, host.placed.is(Side::New));
                node.was_prepared |= is_new;
                let reversed = forward && node.went_back;
                node.went_back |= !forward;
                if reversed {
                    self.breach(Breach::WentBackOnADecision);
                }
            }
            Effect::StartAlone { clients } => {
                host.locks.new = false;
                host.etcd = Etcd::Alone;
                node.open = clients == Clients::Configured;
                self.started(setting, index);
            }
            Effect::Tidy => host.tidy = true,
            Effect::StartAll => {
                if host.placed.is(Side::New) {
                    host.locks.new = false;
                } else {
                    host.locks.old = false;
                }
                host.held = false;
                node.open = true;
                self.start_everything(setting, index);
            }
            Effect::RestartKubelet => host.kubelet_restarted = true,
        }
        true
    }

    /// etcd and control plane start on whatever lies in place.
    pub fn start_everything(&mut self, setting: &Setting, index: usize) {
        let node = &mut self.nodes[index];
        node.host.control_plane = true;
        node.host.etcd = Etcd::Full;
        let was_stopped = node.ledger.quiesced_at.is_some();
        if node.host.placed.is(Side::New) {
            node.went_forward = true;
        } else if was_stopped {
            node.went_back = true;
        }
        self.started(setting, index);
    }

    fn started(&mut self, setting: &Setting, index: usize) {
        let (node, ledger) = (&self.nodes[index], self.nodes[index].ledger);
        let placed = node.host.placed;
        let all_prepared = self.nodes[..setting.members].iter().all(|node| node.was_prepared);
        let (went_back, rejoined) = (node.went_back, node.rejoined);
        let may_run_old = ledger.quiesced_at.is_none()
            || ledger.left.is_some()
            || ledger.ended == Some(Outcome::RolledBack)
            || ledger.learned.is_some_and(|(verdict, _)| verdict == Verdict::Rollback);
        if !placed.is(Side::New) && !placed.is(Side::Old) {
            self.breach(Breach::HalfExchanged);
        }
        if placed.is(Side::New) && !rejoined && !all_prepared {
            self.breach(Breach::NewDataBeforeAllPrepared);
        }
        if placed.is(Side::New) && went_back {
            self.breach(Breach::WentBackOnADecision);
        }
        if placed.is(Side::Old) && !may_run_old {
            self.breach(Breach::OldDataChanged);
        }
    }

    /// A node loses power, or its executor dies (`only_executor`).
    pub fn crash(&mut self, index: usize, only_executor: bool) {
        let node = &mut self.nodes[index];
        node.host.locks = Locks::default();
        node.starting = None;
        if !only_executor {
            node.up = false;
            node.host.strangers = false;
            node.host.tidy = false;
            node.host.control_plane = false;
            node.host.etcd = Etcd::Stopped;
            node.open = false;
        }
    }

    /// A node comes up: the executor first, then whatever it does not hold.
    pub fn boot(&mut self, setting: &Setting, index: usize) {
        self.nodes[index].up = true;
        match guard::at_boot(&self.nodes[index].ledger) {
            Boot::HoldAll => self.nodes[index].host.held = true,
            Boot::Clear => self.start_everything(setting, index),
        }
    }

    /// What the guard of a lost master says. `silent_peers` is a broken variant's network.
    pub fn guard(&self, setting: &Setting, index: usize) -> Guard {
        let own = if self.nodes[index].host.placed.is(Side::New) { NEW_CLUSTER } else { OLD_CLUSTER };
        let order = OrderFacts {
            old_cluster: OLD_CLUSTER,
            names_me_lost: true,
            decision: self.bucket.decision,
            has_journal: false,
        };
        let orders = [order];
        let answers = |node: &&Node| node.up && node.host.etcd != Etcd::Stopped;
        let cluster = |node: &Node| if node.host.placed.is(Side::New) { NEW_CLUSTER } else { OLD_CLUSTER };
        let peers: Vec<_> = self.nodes[..setting.members].iter().filter(answers).map(cluster).collect();
        let orders = if self.reaches_store(index) {
            OrdersSeen::Answers(if self.bucket.order.is_some() { &orders } else { &[] })
        } else {
            OrdersSeen::Silent(guard::STORE_PATIENCE)
        };
        guard::decide_guard(&GuardSeen { own_cluster: Some(own), orders, peers: &peers, ended_by_hand: false })
    }

    fn api_reaches(&self, setting: &Setting, index: usize, side: Side) -> bool {
        let node = &self.nodes[index];
        let own = node.host.etcd != Etcd::Stopped && node.host.placed.is(side);
        let serves = |other: &Node| {
            other.up
                && other.host.placed.is(side)
                && (other.host.etcd == Etcd::Full || (other.host.etcd == Etcd::Alone && other.open))
        };
        let any = own || (setting.list_all && self.nodes.iter().any(serves));
        node.up && node.host.control_plane && any && self.has_quorum(setting, side)
    }

    /// Looks for what must never be.
    pub fn check(&mut self, setting: &Setting) {
        let members = &self.nodes[..setting.members];
        let reached = |side| (0..NODES).any(|index| self.api_reaches(setting, index, side));
        let (new, old) = (reached(Side::New), reached(Side::Old));
        let learned = |node: &Node, verdict| node.ledger.learned.is_some_and(|(learned, _)| learned == verdict);
        let is_committed =
            self.bucket.decision == Some(Verdict::Commit) || members.iter().any(|node| learned(node, Verdict::Commit));
        let may_go_back =
            |node: &Node| !node.ledger.in_doubt || node.ledger.left.is_some() || learned(node, Verdict::Rollback);
        let undecided = new && (!is_committed || members.iter().any(may_go_back));
        let unequal = setting.differs.is_some()
            && members.iter().any(|node| node.up && node.host.control_plane && node.host.placed.is(Side::New));
        let forward = members.iter().any(|node| node.went_forward || learned(node, Verdict::Commit));
        let back =
            members.iter().any(|node| node.went_back || node.ledger.left.is_some() || learned(node, Verdict::Rollback));
        let reversed = members.iter().any(|node| node.went_forward && node.went_back);
        let mut sealed = members.iter().filter_map(|node| node.sealed);
        let first = sealed.next();
        let breaches = [
            (undecided, Breach::ApiOnUndecidedData),
            (new && old, Breach::ApiOnOldBesideNew),
            (unequal, Breach::ApiOnUnequalMember),
            (forward && back, Breach::BothDecisionsObeyed),
            (members.iter().any(|node| node.seals > 1), Breach::SecondRun),
            (sealed.any(|tag| Some(tag) != first), Breach::TwoOrders),
            (reversed, Breach::WentBackOnADecision),
        ];
        for (holds, breach) in breaches {
            if holds {
                self.breach(breach);
            }
        }
    }

    /// Seats 1 and 2 differ in nothing but their number; of two worlds that are the same but for it, takes one.
    pub fn sort(&mut self) {
        let key = |index: usize| {
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            let flying =
                self.bucket.flying_mark.filter(|(node, _)| usize::from(*node) == index).map(|(_, claim)| claim);
            let journal = self.hand.as_ref().map(|hand| hand.journals[index]);
            (&self.nodes[index], self.bucket.marks[index], flying, journal).hash(&mut hasher);
            hasher.finish()
        };
        if key(2) < key(1) {
            self.nodes.swap(1, 2);
            self.bucket.marks.swap(1, 2);
            self.bucket.flying_mark = self.bucket.flying_mark.map(|(node, claim)| match node {
                0 => (0, claim),
                other => (3 - other, claim),
            });
            if let Some(hand) = self.hand.as_mut() {
                hand.journals.swap(1, 2);
            }
        }
    }

    /// Every node up, done, and running the same data; lost ones that were turned on too.
    pub fn is_well_ended(&self, setting: &Setting) -> bool {
        let Phase::Over(outcome) = self.nodes[0].ledger.phase() else { return false };
        let side = match outcome {
            Outcome::Committed => Side::New,
            Outcome::RolledBack => Side::Old,
        };
        let runs = |node: &Node| {
            node.up && node.host.control_plane && node.host.etcd == Etcd::Full && node.host.placed.is(side)
        };
        let (members, lost) = self.nodes.split_at(setting.members);
        let verdict = match outcome {
            Outcome::Committed => Verdict::Commit,
            Outcome::RolledBack => Verdict::Rollback,
        };
        members.iter().all(|node| node.ledger.ended == Some(outcome) && runs(node))
            && lost.iter().all(|node| !node.powered || runs(node))
            && self.bucket.decision == Some(verdict)
    }
}
