//! Three masters and a store, as small as they can be and still go wrong as real ones do.
//!
//! Nothing here decides: nodes ask the shipped `decide` and carry out what it says.

use std::time::Duration;

use lifeboat_crds::journal::Inodes;
use lifeboat_crds::mark::{Claim, ServedFacts, Verdict};
use lifeboat_crds::order::{
    EtcdClusterId, Order, OrderDigest, OrderedBackup, OrderedMember, OrderedRequest, OrderedSafety, OrderedTimeouts,
    RestoreId,
};
use lifeboat_crds::restore::RestartKubelets;
use lifeboat_protocol::Terms;
use lifeboat_protocol::hand::Word;
use lifeboat_protocol::ledger::Ledger;
use lifeboat_protocol::next::Effect;
use lifeboat_protocol::observed::{
    ControlPlane, Etcd, Failure, Host, Lies, Locks, Marks, Observed, Placed, Side, Staging, Wishes,
};

/// Masters of the cluster, lost ones included.
pub const NODES: usize = 3;
/// etcd's cluster id before the restore.
pub const OLD_CLUSTER: EtcdClusterId = EtcdClusterId(1);
/// And after.
pub const NEW_CLUSTER: EtcdClusterId = EtcdClusterId(2);
/// Longer than every deadline.
pub const LATE: Duration = Duration::from_secs(1_000_000);
const BUMP_TO: i64 = 1_000_000_000;
pub const INODES: Inodes = Inodes { old_member: 1, new_member: 2, wal: None };

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
    /// The order; drafts of it differ in their digest only.
    pub order: Order,
    /// Terms by seat.
    pub terms: Vec<Terms>,
}

/// Digest of a draft.
pub fn digest(draft: u8) -> OrderDigest {
    format!("{draft:064}").parse().unwrap()
}

fn order(members: usize) -> Order {
    let master = |index: usize| OrderedMember {
        node_name: format!("m{index}").as_str().into(),
        name: format!("m{index}"),
        peer_url: format!("https://m{index}:2380"),
        version: "3.6.16".to_owned(),
    };
    let mut order = Order {
        restore_id: RestoreId::new("lifeboat", "model", 1, "ab"),
        request: OrderedRequest {
            namespace: "lifeboat".to_owned(),
            name: "model".to_owned(),
            attempt: 1,
            nonce: "n".to_owned(),
            approval_code: String::new(),
        },
        cluster: "uid".to_owned(),
        old_cluster_id: OLD_CLUSTER,
        members: (0..members).map(master).collect(),
        lost: (members..NODES).map(master).collect(),
        lost_quorum_acknowledged: true,
        backup: OrderedBackup {
            backup_id: "20261124-020304-0123abcd".parse().unwrap(),
            cluster: "uid".to_owned(),
            sha256: "ab".to_owned(),
            content_hash: "cd".to_owned(),
            revision: 7,
        },
        token: "t".to_owned(),
        bump_to: BUMP_TO,
        author: "m0".into(),
        safety: OrderedSafety::Required,
        hold_before_release: false,
        restart_kubelets: RestartKubelets::None,
        timeouts: OrderedTimeouts { stage_seconds: 3600, outage_seconds: 900 },
        notices: vec![],
        loopback_api_servers: false,
        coordination: "uid/".to_owned(),
        sealed_keys: Default::default(),
        time: "2026-11-24T02:03:04Z".parse().unwrap(),
    };
    order.request.approval_code = order.approval_terms().code().unwrap();
    order
}

impl Setting {
    pub fn new(members: usize) -> Self {
        let order = order(members);
        let of = |member: &OrderedMember| Terms::of(&order, &digest(0), &member.node_name).unwrap();
        let terms = order.members.iter().map(of).collect();
        Self { members, separate_wal: false, list_all: true, differs: None, order, terms }
    }
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
    /// A human asked for its journal.
    pub asked: bool,
    /// What a human told it last.
    pub word: Option<Word>,
    /// A start that was decided and takes its time.
    pub starting: Option<Effect>,
    /// What was tried last and failed.
    pub failure: Option<Failure>,
    /// What can never be done on this node.
    pub never: Option<Effect>,
    /// Its last write to the store came to nothing.
    pub refused: bool,
    /// It has nothing left to do, so its executor was removed.
    pub gone: bool,
    /// An API server came up by itself.
    pub meddled: bool,
    /// A stray process holds the lock of the old data.
    pub stray_holds: bool,
    /// Its executor died, and nobody has held the old lock since.
    pub unlocked: bool,
    /// Its data volume was replaced.
    pub new_disk: bool,
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

impl Node {
    fn new(takes_part: bool, separate_wal: bool) -> Self {
        let etcd = if takes_part { Etcd::Full } else { Etcd::Stopped };
        let wal = separate_wal.then_some(Lies::Old);
        Self {
            up: takes_part,
            sealed: None,
            ledger: Ledger::default(),
            host: Host {
                control_plane: if takes_part { ControlPlane::All } else { ControlPlane::None },
                etcd,
                held: false,
                manifests_saved: false,
                locks: Locks::default(),
                strangers: false,
                placed: Placed { member: Lies::Old, wal },
                placed_cluster: None,
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
            asked: false,
            word: None,
            starting: None,
            failure: None,
            never: None,
            refused: false,
            gone: false,
            meddled: false,
            stray_holds: false,
            unlocked: false,
            new_disk: false,
            rejoined: false,
            powered: false,
            seals: 0,
            was_prepared: false,
            went_forward: false,
            went_back: false,
        }
    }

    /// Its executor is there and looks.
    pub fn is_awake(&self) -> bool {
        self.up && self.sealed.is_some() && self.starting.is_none() && !self.gone
    }
}

/// The bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub away: bool,
    pub order: Option<u8>,
    /// An order that somebody deleted, and somebody can put back.
    pub deleted_order: Option<u8>,
    pub slot: Option<u8>,
    pub marks: [Marks; NODES],
    pub decision: Option<Verdict>,
    /// Something that no member wrote lies in the decision's place.
    pub garbage: bool,
    /// Somebody without the key wrote marks that say Verified for everybody.
    pub forged: bool,
    pub flying: Flying,
    /// It lost something.
    pub has_lost: bool,
}

/// Writes that erred and may still land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flying {
    pub commit: bool,
    pub rollback: bool,
    pub mark: Option<(u8, Claim)>,
    /// By draft.
    pub orders: [bool; 2],
    pub slot: Option<u8>,
}

/// A human with journals in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hand {
    pub journals: [Option<Ledger>; NODES],
    pub word: Option<Word>,
    /// Nodes that were told it.
    pub told: [bool; NODES],
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub nodes: [Node; NODES],
    pub bucket: Bucket,
    pub hands: Vec<Hand>,
    /// Faults still to come, by [`Fault`].
    pub budget: [u8; FAULTS],
    /// What must never happen and did, by [`Breach`].
    pub breaches: u16,
}

/// Kinds of faults that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node goes down, or its executor is killed, in the middle of an effect too.
    Crash,
    /// The store goes away, for one or all.
    Away,
    /// A write errs and lands later.
    LateWrite,
    /// A write is refused.
    Refuse,
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
    /// An effect fails, once or for good.
    Fail,
    /// The store loses one object, or somebody deletes or overwrites it.
    Loss,
    /// An API server comes up by itself, or the hold goes.
    Meddle,
    /// A node's data volume is replaced.
    NewDisk,
}

/// How many kinds there are.
pub const FAULTS: usize = 13;

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
    EndedHeld,
    ActedBesideApi,
    StartedBesideStray,
}

impl Breach {
    pub const ALL: [Self; 13] = [
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
        Self::EndedHeld,
        Self::ActedBesideApi,
        Self::StartedBesideStray,
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
            Self::EndedHeld => "no node ends with its services held or not started",
            Self::ActedBesideApi => "no step to a decision while an API server runs beside undecided data",
            Self::StartedBesideStray => "nothing is started or exchanged beside a stray that holds the old data",
        }
    }
}

impl World {
    /// A healthy cluster of three, an order in the active slot, nobody has seen it yet.
    pub fn new(setting: &Setting) -> Self {
        let node = |index: usize| Node::new(index < setting.members, setting.separate_wal);
        let bucket = Bucket { order: Some(0), slot: Some(0), ..Bucket::default() };
        Self { nodes: [node(0), node(1), node(2)], bucket, hands: vec![], budget: [0; FAULTS], breaches: 0 }
    }

    pub fn breach(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u16;
    }

    pub fn has(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u16) != 0
    }

    pub fn left(&self, fault: Fault) -> bool {
        self.budget[fault as usize] > 0
    }

    pub fn spend(&mut self, fault: Fault) -> bool {
        let left = &mut self.budget[fault as usize];
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    /// Nodes whose etcd runs on this data.
    pub fn running(&self, side: Side) -> usize {
        let runs = |node: &&Node| node.up && node.host.etcd != Etcd::Stopped && node.host.placed.is(side);
        self.nodes.iter().filter(runs).count()
    }

    pub fn has_quorum(&self, setting: &Setting, side: Side) -> bool {
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

    /// Cluster id in the data in place.
    pub fn placed_cluster(&self, index: usize) -> Option<EtcdClusterId> {
        let node = &self.nodes[index];
        match node.host.placed.member {
            _ if node.new_disk => None,
            Lies::Old => Some(OLD_CLUSTER),
            Lies::New => Some(NEW_CLUSTER),
            Lies::Unknown => None,
        }
    }

    /// What node `index` sees of itself.
    pub fn host(&self, setting: &Setting, index: usize) -> Host {
        let host = self.nodes[index].host;
        let serves = host.etcd == Etcd::Alone && self.has_quorum(setting, Side::New);
        // While WAL and member are of two clusters there is no saying which it is.
        let is_one = host.placed.is(Side::Old) || host.placed.is(Side::New);
        let placed_cluster = self.placed_cluster(index).filter(|_| is_one);
        Host { served: serves.then(|| self.facts(setting, index)), placed_cluster, ..host }
    }

    pub fn wishes(&self, index: usize) -> Wishes {
        let node = &self.nodes[index];
        Wishes { cancel: node.cancel, release: node.release, surrender: node.asked, hand: node.word }
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
            failure: self.nodes[index].failure,
            refused: self.nodes[index].refused,
        }
    }
}
