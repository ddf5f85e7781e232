//! The model: every order in which three nodes, a store, humans and faults can act, for `stateright` to explore.
//!
//! Deliberately broken variants live here and nowhere else: they bend what a node sees or does around the shipped
//! `decide`, which knows nothing of them.

use std::time::Duration;

use lifeboat_crds::journal::{LeaveReason, Record, Source};
use lifeboat_crds::mark::{Claim, Verdict};
use lifeboat_crds::order::{ActiveSlot, OrderDigest};
use lifeboat_protocol::guard::{Guard, HoldReason};
use lifeboat_protocol::hand::{self, Judgement};
use lifeboat_protocol::ledger::{Ledger, Phase};
use lifeboat_protocol::next::{Clients, Effect};
use lifeboat_protocol::observed::{Etcd, HandWord, Marks, Placed, Side};
use lifeboat_protocol::start::{self, Seal, SealSeen, Start, StartSeen};
use lifeboat_protocol::{Decision, Next, decide};
use stateright::{Model, Property};

use super::cluster::{Breach, Fault, Hand, Heard, NODES, Setting, World};

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    CommitByQuorum,
    LeavesInDoubt,
    ReleasesBothLocks,
    ObeysBeforeJournal,
    NoNodeKnows,
    TwoAuthors,
    GuardIgnoresUndecided,
    JournalOnRootDisk,
    BelievesItsWrite,
    AttemptNotJournaled,
    HandWithoutSurrender,
    BelievesForgedMarks,
    OpenWhileUndecided,
    ServesBeforeAllPrepared,
    ComparesNothing,
    RunsAgain,
}

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
    /// Steps of one node that no other can see are not interleaved with the others' (faults of that node still are).
    pub eager: bool,
    /// The story begins when every member waits for the decision: where humans come in.
    pub from_doubt: bool,
    /// Members that differ in nothing but their number are taken for each other.
    pub symmetric: bool,
    pub broken: Option<Broken>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    WriteOrder(u8),
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
    StartNow(u8),
    Publish(u8),
    /// The mark it writes errs and may land later.
    PublishAndErr(u8),
    LandMark,
    LandDecision(Verdict),
    PowerOff(u8),
    KillExecutor(u8),
    Boot(u8),
    BootWithNewRootDisk(u8),
    StoreAway,
    StoreBack,
    Cut(u8),
    Uncut(u8),
    Cancel(u8),
    Release(u8),
    AskByHand,
    Ask(u8),
    Testify(u8),
    Judge,
    TellWord(u8),
    TurnOnLost(u8),
    Guard(u8),
    Rejoin(u8),
    StrayWaits(u8),
    StrayGetsLock(u8),
}

impl Restore {
    pub fn new(setting: Setting, faults: &[(Fault, u8)]) -> Self {
        let faults = faults.to_vec();
        Self {
            setting,
            faults,
            two_starters: false,
            forged: false,
            slow_starts: false,
            eager: true,
            from_doubt: false,
            symmetric: true,
            broken: None,
        }
    }

    pub fn broken(self, broken: Broken) -> Self {
        Self { broken: Some(broken), symmetric: false, ..self }
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn digest(draft: u8) -> OrderDigest {
        format!("{draft:064}").parse().unwrap()
    }

    fn slot(&self, draft: u8) -> ActiveSlot {
        ActiveSlot {
            number: 0,
            restore_id: self.setting.terms[0].restore_id.clone(),
            order_digest: Self::digest(draft),
        }
    }

    /// What the node decides, bent where a broken variant says so; and the ledger it was decided by.
    pub fn look(&self, world: &World, index: usize, late: bool) -> (Decision, Ledger) {
        let ledger = world.nodes[index].ledger;
        let marks = self.bend_marks(world, index);
        let decide_by = |ledger: &Ledger| decide(&world.observe(&self.setting, index, ledger, &marks, late));
        let mut decision = decide_by(&ledger);
        match (self.broken, &decision.next) {
            (Some(Broken::LeavesInDoubt), Next::Wait(_)) if late && ledger.phase() == Phase::InDoubt => {
                decision.next = Next::Record(Record::Left { reason: LeaveReason::DeadlineExceeded });
            }
            (Some(Broken::ObeysBeforeJournal), Next::Record(record @ Record::Learned { verdict: _, from: _ })) => {
                let virtual_ledger = ledger.with(record, Duration::ZERO);
                return (decide_by(&virtual_ledger), virtual_ledger);
            }
            (Some(Broken::AttemptNotJournaled), Next::Record(Record::Attempted { verdict })) => {
                decision.next = Next::Propose(*verdict);
            }
            (Some(Broken::OpenWhileUndecided), Next::Carry(Effect::StartAlone { clients: _ })) => {
                decision.next = Next::Carry(Effect::StartAlone { clients: Clients::Configured });
            }
            _ => {}
        }
        (decision, ledger)
    }

    fn bend_marks(&self, world: &World, index: usize) -> [Marks; NODES] {
        let mut marks = world.marks(index);
        let members = &mut marks[..self.setting.members];
        let quorum = members.len() / 2 + 1;
        match self.broken {
            Some(Broken::BelievesForgedMarks) if world.bucket.forged => {
                members.iter_mut().for_each(|marks| marks.verified = true);
            }
            Some(Broken::CommitByQuorum) if members.iter().filter(|marks| marks.verified).count() >= quorum => {
                members.iter_mut().for_each(|marks| marks.verified = true);
            }
            Some(Broken::ServesBeforeAllPrepared)
                if members.iter().filter(|marks| marks.prepared).count() >= quorum =>
            {
                members.iter_mut().for_each(|marks| marks.prepared = true);
            }
            Some(Broken::ComparesNothing) => {
                let own = world.facts(&self.setting, index);
                members.iter_mut().filter(|marks| marks.served.is_some()).for_each(|marks| marks.served = Some(own));
            }
            _ => {}
        }
        marks
    }

    fn act(&self, world: &mut World, index: usize, late: bool, errs: bool) -> bool {
        if late && self.look(world, index, false) == self.look(world, index, true) {
            return false;
        }
        let (decision, _) = self.look(world, index, late);
        let node = &mut world.nodes[index];
        match decision.next {
            Next::Record(record) if !errs => {
                node.ledger = node.ledger.with(&plain(record), Duration::ZERO);
                true
            }
            Next::Carry(effect) if !errs => {
                let is_start = matches!(effect, Effect::StartAlone { clients: _ } | Effect::StartAll);
                if self.slow_starts && is_start {
                    node.starting = Some(effect);
                    return true;
                }
                self.carry(world, index, effect)
            }
            Next::Propose(verdict) => {
                self.propose(world, index, verdict, errs);
                true
            }
            Next::Record(_) | Next::Carry(_) | Next::Wait(_) | Next::Rest(_) => false,
        }
    }

    fn carry(&self, world: &mut World, index: usize, effect: Effect) -> bool {
        let done = world.carry(&self.setting, index, effect);
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
        if self.is(Broken::BelievesItsWrite) {
            let learned = Record::Learned { verdict, from: Source::Store };
            world.nodes[index].ledger = world.nodes[index].ledger.with(&learned, Duration::ZERO);
        }
    }

    fn publish(&self, world: &mut World, index: usize, errs: bool) -> bool {
        let (decision, _) = self.look(world, index, false);
        let Some(claim) = decision.mark else { return false };
        if errs {
            world.bucket.flying_mark = Some((index as u8, claim));
        } else {
            world.land(index, claim);
        }
        true
    }

    fn write_order(&self, world: &mut World, index: usize) -> bool {
        if self.is(Broken::TwoAuthors) {
            world.bucket.order = world.bucket.order.or(Some(index as u8));
            world.bucket.slot = world.bucket.slot.or(Some(index as u8));
            return self.seal(world, index, index as u8);
        }
        let (order, slot) = (world.bucket.order.map(Self::digest), world.bucket.slot.map(|draft| self.slot(draft)));
        let next = start::decide_start(&StartSeen {
            id: &self.setting.terms[0].restore_id,
            order: order.as_ref(),
            slot: slot.as_ref(),
            slot_is_over: false,
            already_ran: world.nodes[index].sealed.is_some(),
        });
        match next {
            Start::CreateOrder => world.bucket.order = Some(index as u8),
            Start::CreateSlot(_) => world.bucket.slot = world.bucket.order,
            Start::Follow | Start::Refuse(_) => return false,
        }
        true
    }

    fn seal_slot(&self, world: &mut World, index: usize) -> bool {
        let Some(draft) = world.bucket.slot else { return false };
        let order = world.bucket.order.map(Self::digest);
        let known = [self.setting.terms[0].restore_id.clone()];
        let knows = world.nodes[index].sealed.is_some();
        let forgets = self.is(Broken::RunsAgain)
            && matches!(world.nodes[index].ledger.phase(), Phase::Over(_))
            && world.spend(Fault::Reapply);
        let seal = start::decide_seal(&SealSeen {
            slot: &self.slot(draft),
            order: order.as_ref(),
            approval_fits: true,
            takes_part: true,
            known: if knows && !forgets { &known } else { &[] },
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

    fn testify(&self, world: &mut World, index: usize) -> bool {
        let node = &world.nodes[index];
        let (mut ledger, is_sealed) = (node.ledger, node.sealed.is_some());
        let Some(hand) = world.hand.as_mut() else { return false };
        let is_proof =
            ledger.surrendered || ledger.learned.is_some() || ledger.left.is_some() || ledger.ended.is_some();
        let moves = self.is(Broken::HandWithoutSurrender);
        if hand.journals[index].is_some() || !is_sealed || hand.word.is_some() || !(is_proof || moves) {
            return false;
        }
        ledger.surrendered = true;
        hand.journals[index] = Some(ledger);
        true
    }

    /// The human goes from node to node.
    fn says(&self, world: &mut World, index: usize, heard: Heard) -> bool {
        let has_word = world.hand.as_ref().is_some_and(|hand| hand.word.is_some());
        let node = &mut world.nodes[index];
        let fits = match heard {
            Heard::Word => has_word && node.heard != Heard::Word,
            Heard::Asked => !has_word && node.heard == Heard::Nothing && !self.is(Broken::HandWithoutSurrender),
            Heard::Nothing => false,
        };
        let says = fits && node.up && node.sealed.is_some() && index < self.setting.members;
        if says {
            node.heard = heard;
        }
        says
    }

    fn judge(&self, world: &mut World) -> bool {
        let Some(hand) = world.hand.as_mut().filter(|hand| hand.word.is_none()) else { return false };
        let journals = &mut hand.journals[..self.setting.members];
        if self.is(Broken::NoNodeKnows) {
            // "If no node knows a decision, there is none."
            journals.iter_mut().flatten().for_each(|journal| journal.attempted = Default::default());
        }
        hand.word = match hand::judge(journals) {
            Judgement::Obey(verdict) => Some(HandWord::Obey(verdict)),
            Judgement::Unknowable => Some(HandWord::Resume),
            Judgement::Missing(_) | Judgement::NotSurrendered(_) => None,
        };
        hand.word.is_some()
    }

    fn obey_guard(&self, world: &mut World, index: usize) -> bool {
        let guard = match world.guard(&self.setting, index) {
            Guard::Hold(HoldReason::LostUndecided) if self.is(Broken::GuardIgnoresUndecided) => Guard::Start,
            guard => guard,
        };
        let runs = world.nodes[index].host.control_plane;
        match guard {
            Guard::Start if !runs => world.start_everything(&self.setting, index),
            Guard::Hold(_) if runs => {
                world.nodes[index].host.control_plane = false;
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
        node.host.placed = Placed { member: Side::New, wal: node.host.placed.wal.map(|_| Side::New) };
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

    fn stray(&self, world: &mut World, index: usize, gets_lock: bool) -> bool {
        let node = &mut world.nodes[index];
        if gets_lock {
            let is_over = matches!(node.ledger.phase(), Phase::Over(_));
            let changed = node.host.strangers && !node.host.locks.old && node.host.placed.is(Side::New) && !is_over;
            if changed {
                world.breach(Breach::OldDataChanged);
            }
            return changed;
        }
        let may = node.up && node.ledger.quiesced_at.is_some() && !node.host.strangers;
        node.host.strangers = true;
        may && world.spend(Fault::Stray)
    }

    /// A surrendered journal stands still: when it is read makes no difference.
    fn due_testimony(&self, world: &World) -> Option<Action> {
        let hand = world.hand.as_ref().filter(|hand| hand.word.is_none())?;
        let is_due = |index: &usize| hand.journals[*index].is_none() && world.nodes[*index].ledger.surrendered;
        let moves = self.is(Broken::HandWithoutSurrender);
        (0..self.setting.members).filter(|_| !moves).find(is_due).map(|index| Action::Testify(index as u8))
    }

    /// A node whose next step nobody else can see, now or later.
    fn private_step(&self, world: &World) -> Option<u8> {
        let is_private = |index: usize| {
            let node = &world.nodes[index];
            if !node.up || node.sealed.is_none() || node.starting.is_some() {
                return false;
            }
            let (decision, _) = self.look(world, index, false);
            let own = world.bucket.marks[index];
            // Marks that only let others go on, which they need not; a node that shows Prepared, Verified or Left shows
            // where it stands, and when it does is explored.
            let shows = match decision.mark {
                Some(Claim::Staged) => own.staged.is_none(),
                Some(Claim::Safety { taken: _ } | Claim::Served { facts: _ } | Claim::Ended { outcome: _ }) => true,
                Some(Claim::Prepared | Claim::Verified | Claim::Left) | None => false,
            };
            if shows {
                return true;
            }
            match decision.next {
                // While a human collects journals, what stands in them is no private matter.
                Next::Record(
                    Record::Attempted { verdict: _ }
                    | Record::Surrendered
                    | Record::Resumed
                    | Record::Learned { verdict: _, from: Source::Hand },
                ) => false,
                Next::Record(_) => true,
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
                    | Effect::RestartKubelet => true,
                    Effect::StopControlPlane
                    | Effect::StopEtcd
                    | Effect::StartAlone { clients: _ }
                    | Effect::StartAll => false,
                },
                Next::Propose(_) | Next::Wait(_) | Next::Rest(_) => false,
            }
        };
        (0..self.setting.members).find(|index| is_private(*index)).map(|index| index as u8)
    }

    /// What node `node` does by itself. What cannot be is not even tried.
    fn by_node(&self, world: &World, index: u8, actions: &mut Vec<Action>) {
        let node = &world.nodes[usize::from(index)];
        let is_awake = node.up && node.sealed.is_some() && node.starting.is_none();
        if is_awake {
            actions.push(Action::Look { node: index, late: false });
            actions.push(Action::Look { node: index, late: true });
            actions.push(Action::Publish(index));
        }
        if usize::from(index) >= self.setting.members {
            actions.push(Action::Guard(index));
            actions.push(Action::Rejoin(index));
        } else if node.up && (node.sealed.is_none() || self.is(Broken::RunsAgain)) {
            actions.push(Action::SealOrder(index));
        } else if !node.up {
            actions.push(Action::Boot(index));
        }
        let may_release = node.ledger.phase() == Phase::Obeying(Verdict::Commit) && !node.release;
        if may_release && self.setting.terms[usize::from(index).min(self.setting.members - 1)].hold_before_release {
            actions.push(Action::Release(index));
        }
        if node.cut {
            actions.push(Action::Uncut(index));
        }
        if node.starting.is_some() {
            actions.push(Action::StartNow(index));
        }
        if self.two_starters && index < 2 {
            actions.push(Action::WriteOrder(index));
        }
    }

    /// What happens by itself: no fault, nobody's will.
    pub fn by_itself(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..NODES as u8 {
            self.by_node(world, node, actions);
        }
        if world.bucket.away {
            actions.push(Action::StoreBack);
        }
    }

    pub fn by_hand(world: &World, actions: &mut Vec<Action>) {
        if world.hand.is_some() {
            for node in 0..NODES as u8 {
                actions.extend([Action::Ask(node), Action::Testify(node), Action::TellWord(node)]);
            }
            actions.push(Action::Judge);
        }
    }

    fn by_fault_of(&self, world: &World, node: u8, actions: &mut Vec<Action>) {
        let left = |fault: Fault| world.budget[fault as usize] > 0;
        if left(Fault::Crash) {
            actions.extend([Action::PowerOff(node), Action::KillExecutor(node)]);
        }
        if left(Fault::Away) {
            actions.push(Action::Cut(node));
        }
        if left(Fault::LateWrite) {
            actions.extend([
                Action::LookAndErr { node, late: false },
                Action::LookAndErr { node, late: true },
                Action::PublishAndErr(node),
            ]);
        }
        if left(Fault::Cancel) {
            actions.push(Action::Cancel(node));
        }
        if world.nodes[usize::from(node)].host.strangers {
            actions.push(Action::StrayGetsLock(node));
        }
        if left(Fault::Stray) {
            actions.push(Action::StrayWaits(node));
        }
        if self.is(Broken::JournalOnRootDisk) {
            actions.push(Action::BootWithNewRootDisk(node));
        }
    }

    fn by_fault(&self, world: &World, actions: &mut Vec<Action>) {
        let left = |fault: Fault| world.budget[fault as usize] > 0;
        for node in 0..self.setting.members as u8 {
            self.by_fault_of(world, node, actions);
        }
        if left(Fault::PowerOn) {
            actions.extend((self.setting.members..NODES).map(|node| Action::TurnOnLost(node as u8)));
        }
        if left(Fault::Away) {
            actions.push(Action::StoreAway);
        }
        if left(Fault::Hand) {
            actions.push(Action::AskByHand);
        }
        let bucket = &world.bucket;
        let lands = [
            (bucket.flying_mark.is_some(), Action::LandMark),
            (bucket.flying.commit, Action::LandDecision(Verdict::Commit)),
            (bucket.flying.rollback, Action::LandDecision(Verdict::Rollback)),
        ];
        actions.extend(lands.into_iter().filter_map(|(flies, action)| flies.then_some(action)));
    }

    /// Applies an action; false where it changes nothing.
    pub fn apply(&self, world: &mut World, action: Action) -> bool {
        let awake = |world: &World, node: u8| {
            let node = &world.nodes[usize::from(node)];
            node.up && node.sealed.is_some() && node.starting.is_none()
        };
        match action {
            Action::WriteOrder(node) => world.reaches_store(node.into()) && self.write_order(world, node.into()),
            Action::SealOrder(node) => {
                world.nodes[usize::from(node)].up
                    && world.reaches_store(node.into())
                    && self.seal_slot(world, node.into())
            }
            Action::Look { node, late } => awake(world, node) && self.act(world, node.into(), late, false),
            Action::LookAndErr { node, late } => {
                awake(world, node) && world.spend(Fault::LateWrite) && self.act(world, node.into(), late, true)
            }
            Action::StartNow(node) => {
                let starting = world.nodes[usize::from(node)].starting.take();
                starting.is_some_and(|effect| self.carry(world, node.into(), effect))
            }
            Action::Publish(node) => awake(world, node) && self.publish(world, node.into(), false),
            Action::PublishAndErr(node) => {
                awake(world, node)
                    && world.bucket.flying_mark.is_none()
                    && world.spend(Fault::LateWrite)
                    && self.publish(world, node.into(), true)
            }
            Action::LandMark => match world.bucket.flying_mark.take() {
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
            Action::KillExecutor(node) => self.fail(world, node, |world, node| world.crash(node, true)),
            Action::Boot(node) => self.boot(world, node.into(), false),
            Action::BootWithNewRootDisk(node) => self.boot(world, node.into(), true),
            Action::StoreAway => !std::mem::replace(&mut world.bucket.away, true) && world.spend(Fault::Away),
            Action::StoreBack => std::mem::take(&mut world.bucket.away),
            Action::Cut(node) => {
                !std::mem::replace(&mut world.nodes[usize::from(node)].cut, true) && world.spend(Fault::Away)
            }
            Action::Uncut(node) => std::mem::take(&mut world.nodes[usize::from(node)].cut),
            Action::Cancel(node) => {
                let is_new = !std::mem::replace(&mut world.nodes[usize::from(node)].cancel, true);
                is_new && world.nodes[usize::from(node)].sealed.is_some() && world.spend(Fault::Cancel)
            }
            Action::Release(node) => !std::mem::replace(&mut world.nodes[usize::from(node)].release, true),
            Action::AskByHand => {
                let is_new = world.hand.is_none();
                world.hand = Some(Box::new(Hand { journals: [None; NODES], word: None }));
                is_new && world.spend(Fault::Hand)
            }
            Action::Testify(node) => self.testify(world, node.into()),
            Action::Ask(node) => self.says(world, node.into(), Heard::Asked),
            Action::TellWord(node) => self.says(world, node.into(), Heard::Word),
            Action::Judge => self.judge(world),
            Action::TurnOnLost(node) => {
                let node = &mut world.nodes[usize::from(node)];
                let is_new = !std::mem::replace(&mut node.powered, true);
                node.up = true;
                is_new && world.spend(Fault::PowerOn)
            }
            Action::Guard(node) => world.nodes[usize::from(node)].up && self.obey_guard(world, node.into()),
            Action::Rejoin(node) => world.nodes[usize::from(node)].up && self.rejoin(world, node.into()),
            Action::StrayWaits(node) => self.stray(world, node.into(), false),
            Action::StrayGetsLock(node) => self.stray(world, node.into(), true),
        }
    }

    fn fail(&self, world: &mut World, node: u8, fault: fn(&mut World, usize)) -> bool {
        let before = world.nodes[usize::from(node)].clone();
        if !before.up || !world.spend(Fault::Crash) {
            return false;
        }
        fault(world, node.into());
        world.nodes[usize::from(node)] != before
    }

    /// Nothing goes wrong until every member waits for the decision.
    fn in_doubt(&self, mut world: World) -> World {
        let members = self.setting.members;
        for _ in 0..200 {
            for index in 0..members {
                let node = index as u8;
                for action in [Action::SealOrder(node), Action::Publish(node), Action::Look { node, late: false }] {
                    let goes_on = !world.nodes[index].ledger.in_doubt;
                    let next = self.next_state(&world, action).filter(|_| goes_on);
                    world = next.unwrap_or(world);
                }
            }
        }
        assert!(world.nodes[..members].iter().all(|node| node.ledger.in_doubt), "the way to doubt is open");
        world
    }

    /// Whether a world that has not ended can do nothing more by itself, once faults have stopped.
    pub fn is_stuck(&self, world: &World) -> bool {
        if world.is_well_ended(&self.setting) {
            return false;
        }
        let mut actions = Vec::new();
        self.by_itself(world, &mut actions);
        Self::by_hand(world, &mut actions);
        !actions.into_iter().any(|action| self.apply(&mut world.clone(), action))
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
        vec![if self.from_doubt { self.in_doubt(world) } else { world }]
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
            Self::by_hand(world, actions);
            self.by_fault(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if !self.apply(&mut next, action) {
            return None;
        }
        next.check(&self.setting);
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
                    Property::always(STUCK, |model: &Self, world: &World| world.breaches != 0 || !model.is_stuck(world)),
                    Property::sometimes("some restore commits", |model: &Self, world: &World| {
                        world.is_well_ended(&model.setting) && world.bucket.decision == Some(Verdict::Commit)
                    }),
                    Property::sometimes("some restore rolls back", |model: &Self, world: &World| {
                        world.is_well_ended(&model.setting) && world.bucket.decision == Some(Verdict::Rollback)
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
            HalfExchanged
        ]
    }
}

/// A record without what tells stories apart that are the same.
pub fn plain(record: Record) -> Record {
    match record {
        Record::Left { reason: _ } => Record::Left { reason: LeaveReason::DeadlineExceeded },
        record => record,
    }
}

/// Name of the property that every story ends well once faults have stopped.
pub const STUCK: &str = "once faults stop, every node ends, equal to all others";
