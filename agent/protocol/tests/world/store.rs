//! The store: what lies there, what a node reads of it, and what lands or is lost.

use lifeboat_crds::mark::{Claim, MarkStep, Verdict};
use lifeboat_protocol::observed::{DecisionSeen, Freshness, Marks, OrderSeen, Reading, Store};

use super::cluster::World;
use super::setting::NODES;

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

impl World {
    pub fn reaches_store(&self, index: usize) -> bool {
        !self.bucket.away && !self.nodes[index].cut
    }

    /// Authentic marks under the order that node `index` sealed.
    pub fn marks(&self, index: usize) -> [Marks; NODES] {
        let mut marks = self.bucket.marks;
        for (node, marks) in self.nodes.iter().zip(&mut marks) {
            let is_other = node.sealed.is_some_and(|draft| Some(draft) != self.nodes[index].sealed);
            if is_other {
                *marks = Marks::default();
            }
        }
        marks
    }

    pub fn decision_seen(&self) -> DecisionSeen {
        match self.bucket.decision {
            Some(verdict) => DecisionSeen::Made(verdict),
            None if self.bucket.garbage => DecisionSeen::Forged,
            None => DecisionSeen::Absent,
        }
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
        Store::Answers(Reading { order, decision: self.decision_seen(), marks })
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
            Claim::Learned { verdict } => marks.learned = Some(verdict),
            Claim::Left { reason: _ } => marks.left = true,
            Claim::Ended { outcome } => marks.ended = Some(outcome),
        }
    }

    /// A mark is gone; false where there was none.
    pub fn lose_mark(&mut self, index: usize, step: MarkStep) -> bool {
        let marks = &mut self.bucket.marks[index];
        match step {
            MarkStep::Staged => marks.staged.take().is_some(),
            MarkStep::Safety => std::mem::take(&mut marks.safety),
            MarkStep::Prepared => std::mem::take(&mut marks.prepared),
            MarkStep::Served => marks.served.take().is_some(),
            MarkStep::Verified => std::mem::take(&mut marks.verified),
            MarkStep::Learned => marks.learned.take().is_some(),
            MarkStep::Left => std::mem::take(&mut marks.left),
            MarkStep::Ended => marks.ended.take().is_some(),
        }
    }

    /// A decision lands, unless something is there.
    pub fn decide(&mut self, verdict: Verdict) {
        if !self.bucket.garbage {
            self.bucket.decision = self.bucket.decision.or(Some(verdict));
        }
    }
}
