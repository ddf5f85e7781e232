//! What counts as a breach, and what as a good end.

use lifeboat_crds::mark::{Outcome, Verdict};
use lifeboat_protocol::observed::{ControlPlane, Etcd, Side};

use super::breach::Breach;
use super::cluster::World;
use super::fold::key_of;
use super::node::Node;
use super::setting::{NODES, Setting};

impl World {
    /// Whether a control plane of node `index` can reach an etcd on this data. A quorum is not asked for: what cannot
    /// write now may in a moment. Only the etcds of lost masters are let off without one; the plan says what they can do.
    fn api_reaches(&self, setting: &Setting, index: usize, side: Side) -> bool {
        let node = &self.nodes[index];
        let counts = |at: usize| side == Side::New || at < setting.members || self.has_quorum(setting, Side::Old);
        let own = node.host.etcd != Etcd::Stopped && node.host.placed.is(side) && counts(index);
        let serves = |at: usize| {
            let other = &self.nodes[at];
            let is_open = other.host.etcd == Etcd::Full || (other.host.etcd == Etcd::Alone && other.open);
            other.up && other.host.placed.is(side) && is_open && counts(at)
        };
        let any = own || (setting.list_all && (0..NODES).any(serves));
        // One that came up by itself is the executor's to stop; see `ActedBesideApi`.
        node.up && node.host.control_plane != ControlPlane::None && !node.meddled && any
    }

    /// Looks for what must never be.
    pub fn check(&mut self, setting: &Setting) {
        let members = &self.nodes[..setting.members];
        let reached = |side| (0..NODES).any(|index| self.api_reaches(setting, index, side));
        let (new, old) = (reached(Side::New), reached(Side::Old));
        let learned = |node: &Node, verdict| node.ledger.learned.is_some_and(|(learned, _)| learned == verdict);
        let obeys = |node: &Node, verdict| learned(node, verdict) && (node.ledger.obeys || !node.ledger.in_doubt);
        let is_committed =
            self.bucket.decision == Some(Verdict::Commit) || members.iter().any(|node| learned(node, Verdict::Commit));
        let may_go_back = |node: &Node| {
            !node.new_disk && (!node.ledger.in_doubt || node.ledger.left.is_some() || obeys(node, Verdict::Rollback))
        };
        let undecided = new && (!is_committed || members.iter().any(may_go_back));
        let runs_new = |node: &Node| {
            node.up && node.host.control_plane != ControlPlane::None && !node.meddled && node.host.placed.is(Side::New)
        };
        let unequal = setting.differs.is_some() && members.iter().any(runs_new);
        let forward = members.iter().any(|node| node.went_forward || obeys(node, Verdict::Commit));
        let back =
            members.iter().any(|node| node.went_back || node.ledger.left.is_some() || obeys(node, Verdict::Rollback));
        let reversed = members.iter().any(|node| node.went_forward && node.went_back);
        let mut sealed = members.iter().filter_map(|node| node.sealed);
        let first = sealed.next();
        let ended_held = |node: &Node| node.up && node.ledger.ended.is_some() && node.host.held;
        let breaches = [
            (undecided, Breach::ApiOnUndecidedData),
            (new && old, Breach::ApiOnOldBesideNew),
            (unequal, Breach::ApiOnUnequalMember),
            (forward && back, Breach::BothDecisionsObeyed),
            (members.iter().any(|node| node.seals > 1), Breach::SecondRun),
            (sealed.any(|tag| Some(tag) != first), Breach::TwoOrders),
            (reversed, Breach::WentBackOnADecision),
            (members.iter().any(ended_held), Breach::EndedHeld),
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
            let flying =
                self.bucket.flying.mark.filter(|(node, _)| usize::from(*node) == index).map(|(_, claim)| claim);
            let hands: Vec<_> = self.hands.iter().map(|hand| (hand.journals[index], hand.told[index])).collect();
            key_of(&(&self.nodes[index], self.bucket.marks[index], flying, hands))
        };
        if key(2) < key(1) {
            self.nodes.swap(1, 2);
            self.bucket.marks.swap(1, 2);
            self.bucket.flying.mark = self.bucket.flying.mark.map(|(node, claim)| match node {
                0 => (0, claim),
                other => (3 - other, claim),
            });
            for hand in &mut self.hands {
                hand.journals.swap(1, 2);
                hand.told.swap(1, 2);
            }
        }
    }

    /// Every node up, done, owing the store nothing, and running the same data; lost ones that were turned on too.
    pub fn is_well_ended(&self, setting: &Setting) -> bool {
        let Some(outcome) = self.outcome(setting) else { return false };
        let side = match outcome {
            Outcome::Committed => Side::New,
            Outcome::RolledBack => Side::Old,
        };
        let runs = |node: &Node| {
            let host = &node.host;
            let all = host.control_plane == ControlPlane::All && host.etcd == Etcd::Full;
            node.up && all && !host.held && host.placed.is(side)
        };
        let (members, lost) = self.nodes.split_at(setting.members);
        // One that had not begun when the others rolled back has nothing to end.
        let never_began = |node: &Node| node.sealed.is_none() && outcome == Outcome::RolledBack;
        let is_done = |node: &Node| never_began(node) || (node.ledger.ended == Some(outcome) && node.gone);
        // What was lost when nobody was left to mend it stays lost.
        let is_told = self.bucket.has_lost || self.bucket.decision == Some(outcome.verdict());
        is_told
            && members.iter().all(|node| is_done(node) && runs(node))
            && lost.iter().all(|node| !node.powered || runs(node))
    }

    /// The decision that all obeyed, where all have ended.
    pub fn ended_by(&self, setting: &Setting) -> Option<Verdict> {
        self.outcome(setting).filter(|_| self.is_well_ended(setting)).map(Outcome::verdict)
    }

    fn outcome(&self, setting: &Setting) -> Option<Outcome> {
        self.nodes[..setting.members].iter().find_map(|node| node.ledger.ended)
    }
}
