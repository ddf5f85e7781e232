//! The model: every order in which three nodes, a store, humans and faults can act, for `stateright` to explore.

use std::time::Duration;

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::{MarkStep, Reason, Verdict};
use lifeboat_crds::order::ActiveSlot;
use lifeboat_protocol::Next;
use lifeboat_protocol::guard::{Guard, HoldReason};
use lifeboat_protocol::ledger::{Ledger, Phase};
use lifeboat_protocol::next::{Effect, Tree};
use lifeboat_protocol::observed::{ControlPlane, DecisionSeen, Etcd, Failure, Freshness, Lies, Marks, Placed, Side};
use lifeboat_protocol::start::{self, Approved, OrderThere, Seal, SealSeen, SlotSeen, SlotState, Start, StartSeen};
use stateright::{Model, Property};

use super::broken::Broken;
use super::calm::Calm;
use super::cluster::{Breach, Fault, NODES, Setting, World, digest};

/// What is explored.
#[derive(Clone, Debug)]
pub struct Restore {
    pub setting: Setting,
    /// Faults allowed, by kind.
    pub faults: Vec<(Fault, u8)>,
    /// Two masters write an order at once.
    pub two_starters: bool,
    /// Somebody forges marks.
    pub forged: bool,
    /// What was decided to be started is started later, when the world has moved on.
    pub slow_starts: bool,
    /// What is held stops by itself, at any moment.
    pub drains: bool,
    /// Steps of one node that no other can see are not interleaved with the others' (faults of that node still are).
    pub eager: bool,
    /// Where the story begins.
    pub from: From,
    /// What has happened then.
    pub begun_by: Vec<Action>,
    /// Members that differ in nothing but their number are taken for each other.
    pub symmetric: bool,
    pub broken: Option<Broken>,
    /// Only this breach is looked for, so that a story goes on after others.
    pub only: Option<Breach>,
    /// Where it ends once faults have stopped.
    pub calm: Calm,
    /// The same when the humans have walked away.
    pub calm_alone: Calm,
}

/// Where a story begins: nothing goes wrong until every member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The order lies in the store.
    Order,
    /// The restored etcd is about to be started.
    Serving,
    /// Only the decision counts.
    Doubt,
}

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
    pub fn new(setting: Setting, faults: &[(Fault, u8)]) -> Self {
        let (faults, drains) = (faults.to_vec(), setting.members < NODES);
        Self {
            setting,
            faults,
            two_starters: false,
            forged: false,
            slow_starts: false,
            drains,
            eager: true,
            from: From::Order,
            begun_by: vec![],
            symmetric: true,
            broken: None,
            only: None,
            calm: Calm::new(true),
            calm_alone: Calm::new(false),
        }
    }

    pub fn broken(self, broken: Broken) -> Self {
        Self { broken: Some(broken), symmetric: false, ..self }
    }

    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn slot(&self, draft: u8) -> ActiveSlot {
        ActiveSlot { number: 0, restore_id: self.setting.order.restore_id.clone(), order_digest: digest(draft) }
    }

    fn act(&self, world: &mut World, index: usize, late: bool, errs: bool) -> bool {
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

    fn carry(&self, world: &mut World, index: usize, effect: Effect) -> bool {
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

    fn propose(&self, world: &mut World, index: usize, verdict: Verdict, errs: bool) {
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

    fn publish(&self, world: &mut World, index: usize, errs: bool) -> bool {
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

    fn fails(&self, world: &mut World, index: usize, for_good: bool) -> bool {
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

    fn die_halfway(&self, world: &mut World, index: usize) -> bool {
        let (decision, _) = self.look(world, index, false);
        let Next::Carry(effect) = decision.next else { return false };
        let died = world.carry_half(&self.setting, index, effect);
        world.crash(index, true);
        died && world.spend(Fault::Crash)
    }

    fn write_order(&self, world: &mut World, index: usize, errs: bool) -> bool {
        let own = index as u8;
        if self.is(Broken::TwoAuthors) {
            if world.nodes[index].sealed.is_some() {
                return false;
            }
            world.bucket.order = world.bucket.order.or(Some(own));
            world.bucket.slot = world.bucket.slot.or(Some(own));
            return self.seal(world, index, own);
        }
        let request = &self.setting.order.request;
        let approved = Approved { nonce: request.nonce.clone(), code: request.approval_code.clone() };
        let found = world.bucket.order.map(digest);
        let slots: Vec<_> = world
            .bucket
            .slot
            .map(|_| SlotSeen { number: 0, restore_id: &self.setting.order.restore_id, state: SlotState::Active })
            .into_iter()
            .collect();
        let next = start::decide_start(&StartSeen {
            id: &self.setting.order.restore_id,
            approved: &approved,
            order: match &found {
                None => OrderThere::None,
                Some(digest) => OrderThere::Authentic { digest, approved: &approved },
            },
            slots: &slots,
            already_ran: world.nodes[index].sealed.is_some(),
        });
        let bucket = &mut world.bucket;
        match next {
            Start::CreateOrder if errs => bucket.flying.orders[index] = true,
            Start::CreateOrder => bucket.order = Some(own),
            Start::CreateSlot(_) if errs => bucket.flying.slot = bucket.order,
            Start::CreateSlot(_) => bucket.slot = bucket.order,
            Start::Follow | Start::Refuse(_) => return false,
        }
        true
    }

    fn seal_slot(&self, world: &mut World, index: usize, forgets: bool) -> bool {
        let Some(draft) = world.bucket.slot else { return false };
        let order = world.bucket.order.map(digest);
        let known = [self.setting.order.restore_id.clone()];
        let knows = world.nodes[index].sealed.is_some() && !forgets;
        let blind = self.is(Broken::SealsBlindly) || forgets;
        let seal = start::decide_seal(&SealSeen {
            slot: &self.slot(draft),
            order: order.as_ref().map(|digest| (&self.setting.order, digest)),
            node: &self.setting.order.members[index].node_name,
            known: if knows { &known } else { &[] },
            is_busy: false,
            rejoins: false,
            placed_cluster: if blind { Some(super::cluster::OLD_CLUSTER) } else { world.placed_cluster(index) },
            peers: &[],
            decision: if blind { DecisionSeen::Absent } else { world.decision_seen() },
            has_marks: !blind && world.bucket.marks[index] != Marks::default(),
        });
        seal == Seal::Seal && self.seal(world, index, draft)
    }

    fn seal(&self, world: &mut World, index: usize, draft: u8) -> bool {
        let node = &mut world.nodes[index];
        node.sealed = Some(draft);
        node.ledger = Ledger::default();
        node.seals += 1;
        true
    }

    fn obey_guard(&self, world: &mut World, index: usize) -> bool {
        let guard = match world.guard(&self.setting, index) {
            Guard::Hold(HoldReason::LostUndecided) if self.is(Broken::GuardIgnoresUndecided) => Guard::Start,
            guard => guard,
        };
        let runs = world.nodes[index].host.control_plane != ControlPlane::None;
        match guard {
            Guard::Start if !runs => world.start_everything(&self.setting, index),
            Guard::Hold(_) if runs => {
                world.nodes[index].host.control_plane = ControlPlane::None;
                world.nodes[index].host.etcd = Etcd::Stopped;
            }
            Guard::Start | Guard::Hold(_) => return false,
        }
        true
    }

    /// A sleeper is re-initialised by the second machine, as soon as the restored cluster serves.
    fn rejoin(&self, world: &mut World, index: usize) -> bool {
        let is_sleeper = world.guard(&self.setting, index) == Guard::Hold(HoldReason::Sleeper);
        if !is_sleeper || world.running(Side::New) <= self.setting.members / 2 {
            return false;
        }
        let node = &mut world.nodes[index];
        node.rejoined = true;
        node.host.placed = Placed { member: Lies::New, wal: node.host.placed.wal.map(|_| Lies::New) };
        true
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

    /// Nothing goes wrong until every member is where the story begins.
    fn begin(&self, mut world: World) -> World {
        let members = self.setting.members;
        let is_there = |world: &World, index: usize| match self.from {
            From::Order => true,
            From::Serving => world.nodes[index].ledger.serving,
            From::Doubt => world.nodes[index].ledger.in_doubt,
        };
        let budget = std::mem::take(&mut world.budget);
        for _ in 0..200 {
            if (0..members).all(|index| is_there(&world, index)) {
                break;
            }
            for index in 0..members {
                let node = index as u8;
                let look = Action::Look { node, late: false };
                for action in [Action::SealOrder(node), Action::Publish(node), look, Action::StartNow(node)] {
                    let goes_on = !is_there(&world, index);
                    let next = self.next_state(&world, action).filter(|_| goes_on);
                    world = next.unwrap_or(world);
                }
            }
        }
        assert!((0..members).all(|index| is_there(&world, index)), "the way is open");
        let begun = World { budget, ..world };
        self.begun_by.iter().fold(begun, |world, action| {
            let next = self.next_state(&world, *action);
            assert!(next.is_some(), "{action:?} changes nothing");
            next.unwrap_or(world)
        })
    }

    /// Whether no good end can be asked of this world: a member's disk is gone, or who took a journal is.
    pub fn is_excused(&self, world: &World, with_humans: bool) -> bool {
        let lost_disk = world.nodes.iter().any(|node| node.new_disk);
        lost_disk || world.breaches != 0 || (!with_humans && self.waits_for_a_human(world))
    }
}

impl Model for Restore {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(&self.setting);
        for (fault, count) in &self.faults {
            world.budget[*fault as usize] = *count;
        }
        if self.two_starters {
            world.bucket.order = None;
            world.bucket.slot = None;
        }
        world.bucket.forged = self.forged;
        vec![self.begin(world)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // A breach is the end of a story; what follows only hides where it began.
        if world.breaches != 0 {
            return;
        }
        if let Some(action) = if self.eager { self.due_testimony(world) } else { None } {
            actions.push(action);
        } else if let Some(node) = if self.eager { self.private_step(world) } else { None } {
            self.by_node(world, node, actions);
            self.by_fault_of(world, node, actions);
        } else {
            self.by_itself(world, actions);
            self.by_humans(world, actions);
            self.by_fault(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if !self.apply(&mut next, action) {
            return None;
        }
        next.check(&self.setting);
        if let Some(only) = self.only {
            next.breaches &= 1 << only as u16;
        }
        if self.symmetric && self.setting.members == NODES && self.setting.differs.is_none() && !self.two_starters {
            next.sort();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! never {
            ($($breach:ident),*) => {
                vec![
                    $(Property::always(Breach::$breach.name(), |_, world: &World| !world.has(Breach::$breach)),)*
                    Property::always(STUCK, |model: &Self, world: &World| model.calm.ends_well(model, world)),
                    Property::always(WALKED_AWAY, |model: &Self, world: &World| {
                        world.hands.is_empty() || model.calm_alone.ends_well(model, world)
                    }),
                    Property::sometimes(COMMITS, |model: &Self, world: &World| {
                        world.ended_by(&model.setting) == Some(Verdict::Commit)
                    }),
                    Property::sometimes(ROLLS_BACK, |model: &Self, world: &World| {
                        world.ended_by(&model.setting) == Some(Verdict::Rollback)
                    }),
                ]
            };
        }
        never![
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
            StartedBesideStray
        ]
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

/// Name of the property that every story ends well once faults have stopped.
pub const STUCK: &str = "once faults stop, every node ends, equal to all others, and the executors go";
/// Name of what some story must come to.
pub const COMMITS: &str = "some restore commits";
/// And some other.
pub const ROLLS_BACK: &str = "some restore rolls back";
/// Name of the same where humans who decide by hand have walked away.
pub const WALKED_AWAY: &str = "a human who walks away keeps only those waiting whose journals they took";
