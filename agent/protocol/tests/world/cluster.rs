//! Three masters and a store, as small as they can be and still go wrong as real ones do.
//!
//! Nothing here decides: nodes ask the shipped `decide` and carry out what it says.

use lifeboat_crds::mark::ServedFacts;
use lifeboat_crds::order::EtcdClusterId;
use lifeboat_protocol::ledger::Ledger;
use lifeboat_protocol::observed::{Etcd, Host, Lies, Marks, Observed, Side, Wishes};
use std::time::Duration;

use super::fault::FAULTS;
use super::human::Hand;
use super::node::Node;
use super::setting::{BUMP_TO, LATE, NEW_CLUSTER, NODES, OLD_CLUSTER, Setting};
use super::store::Bucket;

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

impl World {
    /// A healthy cluster of three, an order in the active slot, nobody has seen it yet.
    pub fn new(setting: &Setting) -> Self {
        let node = |index: usize| Node::new(index < setting.members, setting.separate_wal);
        let bucket = Bucket { order: Some(0), slot: Some(0), ..Bucket::default() };
        Self { nodes: [node(0), node(1), node(2)], bucket, hands: vec![], budget: [0; FAULTS], breaches: 0 }
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
