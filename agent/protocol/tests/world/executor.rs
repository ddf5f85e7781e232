//! What an executor does with what `decide` says: whole, half, failing, or with a write that errs.

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::{Reason, Verdict};
use lifeboat_protocol::Next;
use lifeboat_protocol::next::{Effect, Tree};
use lifeboat_protocol::observed::{Failure, Side};
use std::time::Duration;

use super::breach::Breach;
use super::broken::Broken;
use super::cluster::World;
use super::fault::Fault;
use super::model::Restore;

impl Restore {
    pub fn act(&self, world: &mut World, index: usize, late: bool, errs: bool) -> bool {
        if late && self.look(world, index, false) == self.look(world, index, true) {
            return false;
        }
        let (decision, _) = self.look(world, index, late);
        let acts = matches!(
            decision.next,
            Next::Propose { verdict: _, reason: _ }
                | Next::Record(Record::Attempted { verdict: _, reason: _ } | Record::IntendVerified)
        );
        if acts && world.nodes[index].meddled && world.nodes[index].ledger.ended.is_none() {
            world.breach(Breach::ActedBesideApi);
        }
        let before = world.nodes[index].clone();
        let node = &mut world.nodes[index];
        match decision.next {
            Next::Record(record) if !errs => {
                node.ledger = node.ledger.with(&plain(record.clone()), Duration::ZERO);
                (node.failure, node.refused) = (None, false);
                match record {
                    Record::Surrendered => node.asked = false,
                    Record::Resumed => node.word = None,
                    _ => {}
                }
                *node != before
            }
            Next::Carry(effect) if !errs => {
                if node.never == Some(effect) {
                    node.refused = false;
                    node.failure = Some(Failure { effect, permanent: true });
                    return *node != before;
                }
                let is_start = matches!(effect, Effect::StartAlone { clients: _ } | Effect::StartAll);
                if self.slow_starts && is_start {
                    (node.starting, node.failure) = (Some(effect), None);
                    return true;
                }
                self.carry(world, index, effect)
            }
            Next::Propose { verdict, reason: _ } => {
                self.propose(world, index, verdict, errs);
                true
            }
            Next::Wait(_) if !errs => {
                node.refused = false;
                *node != before
            }
            Next::Rest(_) if !errs => {
                node.gone = true;
                *node != before
            }
            Next::Record(_) | Next::Carry(_) | Next::Wait(_) | Next::Rest(_) => false,
        }
    }

    pub fn carry(&self, world: &mut World, index: usize, effect: Effect) -> bool {
        let done = world.carry(&self.setting, index, effect);
        if done {
            (world.nodes[index].failure, world.nodes[index].refused) = (None, false);
        }
        let alone = matches!(effect, Effect::StartAlone { clients: _ });
        if alone && self.is(Broken::ReleasesBothLocks) {
            world.nodes[index].host.locks.old = false;
        }
        done
    }

    pub fn propose(&self, world: &mut World, index: usize, verdict: Verdict, errs: bool) {
        if errs {
            match verdict {
                Verdict::Commit => world.bucket.flying.commit = true,
                Verdict::Rollback => world.bucket.flying.rollback = true,
            }
        } else {
            world.decide(verdict);
        }
        world.nodes[index].refused = errs;
        if self.is(Broken::BelievesItsWrite) {
            let learned = Record::Learned { verdict, from: Source::Store };
            let node = &mut world.nodes[index];
            node.ledger = node.ledger.with(&learned, Duration::ZERO).with(&Record::IntendObeyed, Duration::ZERO);
        }
    }

    pub fn publish(&self, world: &mut World, index: usize, errs: bool) -> bool {
        let (decision, _) = self.look(world, index, false);
        let Some(claim) = decision.mark else { return false };
        let before = world.bucket.marks;
        if errs {
            world.bucket.flying.mark = Some((index as u8, claim));
            world.nodes[index].refused = true;
            return true;
        }
        world.land(index, claim);
        let was_refused = std::mem::take(&mut world.nodes[index].refused);
        world.bucket.marks != before || was_refused
    }

    pub fn fails(&self, world: &mut World, index: usize, for_good: bool) -> bool {
        let (decision, _) = self.look(world, index, false);
        let Next::Carry(effect) = decision.next else { return false };
        // Only what is on the way forward may fail for good: nothing could end well where the old data cannot be put back.
        let forward = matches!(
            effect,
            Effect::Stage
                | Effect::TakeSafetyBackup
                | Effect::StartAlone { clients: _ }
                | Effect::Exchange { tree: Tree::Member | Tree::Wal, to: Side::New }
                | Effect::Tidy
        );
        if for_good && !forward {
            return false;
        }
        let node = &mut world.nodes[index];
        node.refused = false;
        node.failure = Some(Failure { effect, permanent: for_good });
        node.never = if for_good { Some(effect) } else { node.never };
        world.spend(Fault::Fail)
    }

    pub fn die_halfway(&self, world: &mut World, index: usize) -> bool {
        let (decision, _) = self.look(world, index, false);
        let Next::Carry(effect) = decision.next else { return false };
        let died = world.carry_half(&self.setting, index, effect);
        world.crash(index, true);
        died && world.spend(Fault::Crash)
    }
}

/// A record without what tells stories apart that are the same.
pub fn plain(record: Record) -> Record {
    match record {
        Record::Left { reason: _ } => Record::Left { reason: Reason::DeadlineExceeded },
        Record::Attempted { verdict, reason: _ } => Record::Attempted { verdict, reason: Reason::DeadlineExceeded },
        record => record,
    }
}
