//! The reduction: a step of one node that is the same with the store silent, and that no other can see, is not interleaved
//! with the others'. Faults and time-outs of the node that takes it still are.
//!
//! It is no proof. What it leaves out: a Rollback or a peer's Left that a node reads between two such steps, in the middle
//! of stopping, exchanging or putting back; there it only sees it at the next step that asks the store. So two members are
//! explored without it, and only what is too big for that with it.

use super::cluster::World;
use super::fault::Fault;
use super::model::Restore;
use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::Claim;
use lifeboat_protocol::next::Effect;
use lifeboat_protocol::observed::Store;
use lifeboat_protocol::{Next, Observed, decide};

impl Restore {
    /// A node whose next step nobody else can see or change, now or later.
    pub fn private_step(&self, world: &World) -> Option<u8> {
        (0..self.setting.members).find(|index| self.is_private(world, *index)).map(|index| index as u8)
    }

    fn is_private(&self, world: &World, index: usize) -> bool {
        let node = &world.nodes[index];
        if !node.is_awake() || node.failure.is_some() || node.meddled {
            return false;
        }
        let (decision, ledger) = self.look(world, index, false);
        // A barrier that must be passed before anything is stopped: it lets others go on, which they need not.
        let (own, may_lose) = (world.bucket.marks[index], world.left(Fault::Loss));
        match decision.mark {
            Some(Claim::Staged) if own.staged.is_none() => return true,
            Some(Claim::Safety { taken: _ }) => return true,
            // It tells nobody more than what it showed before.
            Some(Claim::Ended { outcome: _ }) if !may_lose && (own.learned.is_some() || own.left) => return true,
            _ => {}
        }
        let marks = world.marks(index);
        let seen = world.observe(&self.setting, index, &ledger, &marks, false);
        let alone = decide(&Observed { store: Store::Silent, lost_answers: false, ..seen });
        let same = alone.next == decision.next;
        match decision.next {
            // While a human collects journals, what stands in them is no private matter.
            Next::Record(
                Record::Attempted { verdict: _, reason: _ }
                | Record::Surrendered
                | Record::Resumed
                | Record::Learned { verdict: _, from: Source::Hand },
            ) => false,
            Next::Record(_) => same,
            Next::Carry(effect) => match effect {
                Effect::Stage | Effect::TakeSafetyBackup => world.reaches_store(index),
                Effect::SaveManifests
                | Effect::Hold
                | Effect::EndStrangers
                | Effect::TakeLocks
                | Effect::LockOld
                | Effect::Exchange { tree: _, to: _ }
                | Effect::Tidy
                | Effect::DiscardStaging
                | Effect::RestartKubelet => same,
                Effect::StopControlPlane | Effect::StopEtcd | Effect::StartAlone { clients: _ } | Effect::StartAll => {
                    false
                }
            },
            Next::Rest(_) => !may_lose,
            Next::Propose { verdict: _, reason: _ } | Next::Wait(_) => false,
        }
    }
}
