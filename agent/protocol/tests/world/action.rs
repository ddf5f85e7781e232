//! What can happen: by itself, by humans, by fault.

use lifeboat_crds::mark::{MarkStep, Verdict};
use lifeboat_protocol::ledger::Phase;
use lifeboat_protocol::observed::Freshness;

use super::broken::Broken;
use super::cluster::World;
use super::fault::Fault;
use super::model::Restore;
use super::setting::NODES;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    WriteOrder(u8),
    WriteOrderAndErr(u8),
    LandOrder(u8),
    LandSlot,
    SealOrder(u8),
    /// A node looks and does what `decide` says; late: after every deadline.
    Look {
        node: u8,
        late: bool,
    },
    /// The same, and the decision it writes errs and may land later.
    LookAndErr {
        node: u8,
        late: bool,
    },
    /// The same, and the decision it writes is refused.
    LookRefused(u8),
    /// The same, and the effect fails.
    LookFails {
        node: u8,
        for_good: bool,
    },
    /// The same, and the executor dies in the middle of it.
    DieHalfway(u8),
    StartNow(u8),
    Publish(u8),
    /// The mark it writes errs and may land later.
    PublishAndErr(u8),
    PublishRefused(u8),
    LandMark,
    LandDecision(Verdict),
    PowerOff(u8),
    KillExecutor(u8),
    Boot(u8),
    BootWithNewRootDisk(u8),
    Drain(u8),
    StoreAway,
    StoreBack,
    Cut(u8),
    Uncut(u8),
    /// Others have not heard of this node lately.
    GoStale(u8),
    LoseDecision,
    SpoilDecision,
    ClearGarbage,
    LoseOrder,
    PutOrderBack,
    LoseMark {
        node: u8,
        step: u8,
    },
    Cancel(u8),
    Release(u8),
    AskByHand,
    Ask {
        human: u8,
        node: u8,
    },
    Testify {
        human: u8,
        node: u8,
    },
    Judge(u8),
    GiveBack(u8),
    TellWord {
        human: u8,
        node: u8,
    },
    TurnOnLost(u8),
    Guard(u8),
    Rejoin(u8),
    StrayWaits(u8),
    StrayGetsLock(u8),
    ApiComesUp(u8),
    HoldGoes(u8),
    ReplaceDisk(u8),
    Reapply(u8),
}

impl Restore {
    /// What node `node` does by itself.
    pub fn by_node(&self, world: &World, index: u8, actions: &mut Vec<Action>) {
        let node = &world.nodes[usize::from(index)];
        if node.is_awake() {
            actions.push(Action::Look { node: index, late: false });
            actions.push(Action::Publish(index));
            actions.push(Action::Look { node: index, late: true });
        }
        if usize::from(index) >= self.setting.members {
            actions.push(Action::Guard(index));
            actions.push(Action::Rejoin(index));
        } else if node.up && node.sealed.is_none() {
            actions.push(Action::SealOrder(index));
        } else if !node.up {
            actions.push(Action::Boot(index));
        }
        let may_release = node.ledger.phase() == Phase::Obeying(Verdict::Commit) && !node.release;
        if may_release && self.setting.terms[usize::from(index).min(self.setting.members - 1)].hold_before_release {
            actions.push(Action::Release(index));
        }
        if node.starting.is_some() {
            actions.push(Action::StartNow(index));
        }
        if self.two_starters && index < 2 {
            actions.push(Action::WriteOrder(index));
        }
    }

    /// What somebody mends.
    pub fn repairs(&self, world: &World, actions: &mut Vec<Action>) {
        let bucket = &world.bucket;
        let mends = [
            (bucket.away, Action::StoreBack),
            (bucket.garbage, Action::ClearGarbage),
            (bucket.deleted_order.is_some(), Action::PutOrderBack),
        ];
        actions.extend(mends.into_iter().filter_map(|(may, action)| may.then_some(action)));
        let cut = |node: &u8| world.nodes[usize::from(*node)].cut;
        actions.extend((0..NODES as u8).filter(cut).map(Action::Uncut));
    }

    /// What happens by itself: no fault, nobody's will.
    pub fn by_itself(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..NODES as u8 {
            self.by_node(world, node, actions);
            let held = self.drains && world.nodes[usize::from(node)].host.held;
            actions.extend(held.then_some(Action::Drain(node)));
        }
        self.repairs(world, actions);
    }

    pub fn by_fault_of(&self, world: &World, node: u8, actions: &mut Vec<Action>) {
        let host = &world.nodes[usize::from(node)].host;
        let of_kind = |fault: Fault, faults: &[Action]| if world.left(fault) { faults.to_vec() } else { vec![] };
        actions.extend(of_kind(
            Fault::Crash,
            &[Action::PowerOff(node), Action::KillExecutor(node), Action::DieHalfway(node)],
        ));
        actions.extend(of_kind(Fault::Away, &[Action::Cut(node)]));
        let late = [
            Action::LookAndErr { node, late: false },
            Action::LookAndErr { node, late: true },
            Action::PublishAndErr(node),
        ];
        actions.extend(of_kind(Fault::LateWrite, &late));
        if self.two_starters && node < 2 {
            actions.extend(of_kind(Fault::LateWrite, &[Action::WriteOrderAndErr(node)]));
        }
        actions.extend(of_kind(Fault::Refuse, &[Action::LookRefused(node), Action::PublishRefused(node)]));
        let fails = [false, true].map(|for_good| Action::LookFails { node, for_good });
        actions.extend(of_kind(Fault::Fail, &fails));
        actions.extend(of_kind(Fault::Cancel, &[Action::Cancel(node)]));
        actions.extend(of_kind(Fault::Meddle, &[Action::ApiComesUp(node), Action::HoldGoes(node)]));
        actions.extend(of_kind(Fault::NewDisk, &[Action::ReplaceDisk(node)]));
        actions.extend(of_kind(Fault::Reapply, &[Action::Reapply(node)]));
        actions.extend(of_kind(Fault::Stray, &[Action::StrayWaits(node)]));
        if host.strangers {
            actions.push(Action::StrayGetsLock(node));
        }
        if self.is(Broken::JournalOnRootDisk) {
            actions.push(Action::BootWithNewRootDisk(node));
        }
        let is_silent = !world.nodes[usize::from(node)].up || world.nodes[usize::from(node)].cut;
        if is_silent && world.bucket.marks[usize::from(node)].staged == Some(Freshness::Fresh) {
            actions.push(Action::GoStale(node));
        }
    }

    pub fn by_fault(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..self.setting.members as u8 {
            self.by_fault_of(world, node, actions);
        }
        for lost in self.setting.members as u8..NODES as u8 {
            if world.left(Fault::PowerOn) {
                actions.push(Action::TurnOnLost(lost));
            }
            if world.left(Fault::Away) {
                actions.push(Action::Cut(lost));
            }
        }
        if world.left(Fault::Away) {
            actions.push(Action::StoreAway);
        }
        if world.left(Fault::Hand) {
            actions.push(Action::AskByHand);
        }
        if world.left(Fault::Loss) {
            actions.extend([Action::LoseDecision, Action::SpoilDecision, Action::LoseOrder]);
            for node in 0..self.setting.members as u8 {
                actions.extend((0..MarkStep::ALL.len() as u8).map(|step| Action::LoseMark { node, step }));
            }
        }
        let flying = &world.bucket.flying;
        let lands = [
            (flying.mark.is_some(), Action::LandMark),
            (flying.commit, Action::LandDecision(Verdict::Commit)),
            (flying.rollback, Action::LandDecision(Verdict::Rollback)),
            (flying.orders[0], Action::LandOrder(0)),
            (flying.orders[1], Action::LandOrder(1)),
            (flying.slot.is_some(), Action::LandSlot),
        ];
        actions.extend(lands.into_iter().filter_map(|(flies, action)| flies.then_some(action)));
    }
}
