//! What an action does to the world.

use lifeboat_crds::mark::{MarkStep, Verdict};
use lifeboat_protocol::Next;
use lifeboat_protocol::ledger::{Ledger, Phase};
use lifeboat_protocol::observed::{ControlPlane, Etcd, Freshness};

use super::action::Action;
use super::broken::Broken;
use super::cluster::World;
use super::fault::Fault;
use super::model::Restore;

impl Restore {
    /// Applies an action; false where it changes nothing.
    pub fn apply(&self, world: &mut World, action: Action) -> bool {
        let awake = |world: &World, node: u8| world.nodes[usize::from(node)].is_awake();
        let reaches = |world: &World, node: u8| world.nodes[usize::from(node)].up && world.reaches_store(node.into());
        match action {
            Action::WriteOrder(node) => reaches(world, node) && self.write_order(world, node.into(), false),
            Action::WriteOrderAndErr(node) => {
                reaches(world, node) && self.write_order(world, node.into(), true) && world.spend(Fault::LateWrite)
            }
            Action::LandOrder(draft) => {
                let flies = std::mem::take(&mut world.bucket.flying.orders[usize::from(draft)]);
                world.bucket.order = world.bucket.order.or(Some(draft).filter(|_| flies));
                flies
            }
            Action::LandSlot => {
                let flying = world.bucket.flying.slot.take();
                world.bucket.slot = world.bucket.slot.or(flying);
                flying.is_some()
            }
            Action::SealOrder(node) => {
                let is_new = world.nodes[usize::from(node)].sealed.is_none();
                is_new && reaches(world, node) && self.seal_slot(world, node.into(), false)
            }
            Action::Reapply(node) => {
                let is_over = matches!(world.nodes[usize::from(node)].ledger.phase(), Phase::Over(_));
                let forgets = self.is(Broken::RunsAgain);
                is_over
                    && reaches(world, node)
                    && self.seal_slot(world, node.into(), forgets)
                    && world.spend(Fault::Reapply)
            }
            Action::Look { node, late } => awake(world, node) && self.act(world, node.into(), late, false),
            Action::LookAndErr { node, late } => {
                awake(world, node)
                    && self.writes_decision(world, node, late)
                    && world.spend(Fault::LateWrite)
                    && self.act(world, node.into(), late, true)
            }
            Action::LookRefused(node) => {
                let refused = awake(world, node) && self.writes_decision(world, node, false);
                world.nodes[usize::from(node)].refused |= refused;
                refused && world.spend(Fault::Refuse)
            }
            Action::LookFails { node, for_good } => awake(world, node) && self.fails(world, node.into(), for_good),
            Action::DieHalfway(node) => awake(world, node) && self.die_halfway(world, node.into()),
            Action::StartNow(node) => {
                let starting = world.nodes[usize::from(node)].starting.take();
                starting.is_some_and(|effect| self.carry(world, node.into(), effect))
            }
            Action::Publish(node) => awake(world, node) && self.publish(world, node.into(), false),
            Action::PublishAndErr(node) => {
                awake(world, node)
                    && world.bucket.flying.mark.is_none()
                    && world.spend(Fault::LateWrite)
                    && self.publish(world, node.into(), true)
            }
            Action::PublishRefused(node) => {
                let refused = awake(world, node) && self.look(world, node.into(), false).0.mark.is_some();
                world.nodes[usize::from(node)].refused |= refused;
                refused && world.spend(Fault::Refuse)
            }
            Action::LandMark => match world.bucket.flying.mark.take() {
                Some((node, claim)) => {
                    world.land(node.into(), claim);
                    true
                }
                None => false,
            },
            Action::LandDecision(verdict) => {
                let flying = &mut world.bucket.flying;
                let flies = match verdict {
                    Verdict::Commit => std::mem::take(&mut flying.commit),
                    Verdict::Rollback => std::mem::take(&mut flying.rollback),
                };
                if flies {
                    world.decide(verdict);
                }
                flies
            }
            Action::PowerOff(node) => self.fail(world, node, |world, node| world.crash(node, false)),
            Action::KillExecutor(node) => {
                !world.nodes[usize::from(node)].gone && self.fail(world, node, |world, node| world.crash(node, true))
            }
            Action::Boot(node) => self.boot(world, node.into(), false),
            Action::BootWithNewRootDisk(node) => self.boot(world, node.into(), true),
            Action::Drain(node) => world.drain(node.into()),
            Action::StoreAway => !std::mem::replace(&mut world.bucket.away, true) && world.spend(Fault::Away),
            Action::StoreBack => std::mem::take(&mut world.bucket.away),
            Action::Cut(node) => {
                !std::mem::replace(&mut world.nodes[usize::from(node)].cut, true) && world.spend(Fault::Away)
            }
            Action::Uncut(node) => std::mem::take(&mut world.nodes[usize::from(node)].cut),
            Action::GoStale(node) => {
                world.bucket.marks[usize::from(node)].staged = Some(Freshness::Stale);
                true
            }
            Action::LoseDecision => {
                world.bucket.has_lost = true;
                world.bucket.decision.take().is_some() && world.spend(Fault::Loss)
            }
            Action::SpoilDecision => {
                world.bucket.has_lost = true;
                world.bucket.decision = None;
                !std::mem::replace(&mut world.bucket.garbage, true) && world.spend(Fault::Loss)
            }
            Action::ClearGarbage => std::mem::take(&mut world.bucket.garbage),
            Action::LoseOrder => {
                world.bucket.has_lost = true;
                world.bucket.deleted_order = world.bucket.order.take();
                world.bucket.deleted_order.is_some() && world.spend(Fault::Loss)
            }
            Action::PutOrderBack => {
                let back = world.bucket.deleted_order.take();
                world.bucket.order = world.bucket.order.or(back);
                back.is_some()
            }
            Action::LoseMark { node, step } => {
                world.bucket.has_lost = true;
                world.lose_mark(node.into(), MarkStep::ALL[usize::from(step)]) && world.spend(Fault::Loss)
            }
            Action::Cancel(node) => {
                let is_new = !std::mem::replace(&mut world.nodes[usize::from(node)].cancel, true);
                is_new && awake(world, node) && world.spend(Fault::Cancel)
            }
            Action::Release(node) => !std::mem::replace(&mut world.nodes[usize::from(node)].release, true),
            Action::AskByHand => Self::ask_by_hand(world),
            Action::Ask { human, node } => self.ask(world, human, node.into()),
            Action::Testify { human, node } => self.testify(world, human, node.into()),
            Action::Judge(human) => self.judge(world, human),
            Action::GiveBack(human) => Self::give_back(world, human),
            Action::TellWord { human, node } => Self::tell_word(world, human, node.into()),
            Action::TurnOnLost(node) => {
                let node = &mut world.nodes[usize::from(node)];
                let is_new = !std::mem::replace(&mut node.powered, true);
                node.up = true;
                is_new && world.spend(Fault::PowerOn)
            }
            Action::Guard(node) => world.nodes[usize::from(node)].up && self.obey_guard(world, node.into()),
            Action::Rejoin(node) => world.nodes[usize::from(node)].up && self.rejoin(world, node.into()),
            Action::StrayWaits(node) => world.stray(node.into(), false),
            Action::StrayGetsLock(node) => world.stray(node.into(), true),
            Action::ApiComesUp(node) => Self::meddle(world, node.into(), true),
            Action::HoldGoes(node) => Self::meddle(world, node.into(), false),
            Action::ReplaceDisk(node) => {
                let may = world.nodes[usize::from(node)].sealed.is_some() && world.spend(Fault::NewDisk);
                world.replace_disk(node.into());
                may
            }
        }
    }

    fn writes_decision(&self, world: &World, node: u8, late: bool) -> bool {
        let (decision, _) = self.look(world, node.into(), late);
        let is_new = !late || decision != self.look(world, node.into(), false).0;
        is_new && matches!(decision.next, Next::Propose { verdict: _, reason: _ })
    }

    fn fail(&self, world: &mut World, node: u8, fault: fn(&mut World, usize)) -> bool {
        let before = world.nodes[usize::from(node)].clone();
        if !before.up || !world.spend(Fault::Crash) {
            return false;
        }
        fault(world, node.into());
        world.nodes[usize::from(node)] != before
    }

    fn boot(&self, world: &mut World, index: usize, new_root: bool) -> bool {
        if index >= self.setting.members || world.nodes[index].up {
            return false;
        }
        if new_root {
            let node = &mut world.nodes[index];
            node.host.held = false;
            if self.is(Broken::JournalOnRootDisk) {
                node.ledger = Ledger::default();
                node.sealed = None;
            }
        }
        world.boot(&self.setting, index);
        true
    }

    fn meddle(world: &mut World, index: usize, api: bool) -> bool {
        let node = &mut world.nodes[index];
        let undecided = node.up && node.ledger.quiesced_at.is_some() && node.ledger.ended.is_none();
        let goes = undecided && node.host.etcd == Etcd::Alone && node.starting.is_none();
        if api {
            let may = goes && node.host.control_plane == ControlPlane::None;
            (node.host.control_plane, node.meddled) = (ControlPlane::Some, true);
            may && world.spend(Fault::Meddle)
        } else {
            let may = goes && node.host.held;
            node.host.held = false;
            may && world.spend(Fault::Meddle)
        }
    }
}
