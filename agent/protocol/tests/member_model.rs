//! Two of three members are asked to be re-initialised at once, while health, lock and executors fail: the shipped
//! `decide_member`, explored to the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;
use lifeboat_protocol::member::{
    AFTER_STOP, ClusterSeen, Lock, MemberEffect, MemberEtcd, MemberHost, MemberLedger, MemberNext, MemberSeen,
    MemberWait, OtherMember, OwnEntry, PlacedMember, decide_member,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

const NODES: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    /// Its entry in the member list: id, learner, started.
    listed: Option<(EtcdMemberId, bool, bool)>,
    sick: bool,
    wants: bool,
    journal: MemberLedger,
    host: MemberHost,
    /// The member that its etcd last ran as.
    ran_as: EtcdMemberId,
    /// Members that it was added as.
    added: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: [Node; NODES],
    leader: usize,
    lock: Option<usize>,
    /// Decided to stop etcd and has not yet.
    about_to_stop: [bool; NODES],
    sicknesses: u8,
    lost_leases: u8,
    cancels: u8,
    crashes: u8,
    disks: u8,
    forgot: bool,
    promoted_unlocked: bool,
    old_started_after_removal: bool,
    two_away: bool,
    quorum_taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    TakesNoLock,
    StartsOldAfterRemoval,
    AsksNobody,
    /// Whatever lies in place after the removal is taken for the old data.
    MovesNewDataAside,
    /// A learner is promoted whoever holds the lock and however the others are.
    PromotesBlindly,
}

struct Reinitialise {
    broken: Option<Broken>,
    /// A stop that was decided is done later, when the world has moved on; no lease is lost then.
    slow_stops: bool,
    faults: Faults,
}

/// How often each may happen.
#[derive(Clone, Copy, Debug)]
struct Faults {
    sicknesses: u8,
    lost_leases: u8,
    crashes: u8,
    disks: u8,
}

const SICK: Faults = Faults { sicknesses: 2, lost_leases: 2, crashes: 0, disks: 0 };
const CRASH: Faults = Faults { sicknesses: 1, lost_leases: 0, crashes: 1, disks: 0 };
const DISK: Faults = Faults { sicknesses: 1, lost_leases: 0, crashes: 0, disks: 1 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Look {
        node: usize,
        cancel: bool,
    },
    StopNow(usize),
    FallSick(usize),
    Recover(usize),
    LoseLease,
    /// The executor dies; what it had decided is not done, and its lease ends or does not.
    Crash {
        node: usize,
        lease: bool,
    },
    /// etcd of a member that joins stops, with its data or without.
    EtcdDies {
        node: usize,
        data: bool,
    },
}

impl World {
    fn is_healthy(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.host.etcd == MemberEtcd::Runs && !node.sick && node.listed.is_some_and(|(_, _, started)| started)
    }

    fn has_quorum(&self) -> bool {
        let is_voter = |node: &usize| self.nodes[*node].listed.is_some_and(|(_, learner, _)| !learner);
        let voters: Vec<_> = (0..NODES).filter(is_voter).collect();
        voters.iter().filter(|node| self.is_healthy(**node)).count() > voters.len() / 2
    }

    /// Whether a quorum serves and nobody is sick: what is lost now is lost by re-initialising.
    fn is_well(&self) -> bool {
        self.nodes.iter().all(|node| !node.sick) && self.has_quorum()
    }

    /// Whether a member that is being re-initialised does not serve as a voter. Once it does it may be counted on again,
    /// whether its journal says so yet or not.
    fn is_away(node: &Node) -> bool {
        let is_voter = node.listed.is_some_and(|(_, learner, started)| started && !learner);
        node.journal.stopping && node.journal.ended.is_none() && !(is_voter && node.host.etcd == MemberEtcd::Runs)
    }

    fn carry(&mut self, index: usize, effect: MemberEffect) -> bool {
        let serves = self.has_quorum();
        let node = &mut self.nodes[index];
        match effect {
            MemberEffect::TakeLock
            | MemberEffect::DropLock
            | MemberEffect::TakeSnapshot
            | MemberEffect::MoveLeader
            | MemberEffect::Remove(_)
            | MemberEffect::AddLearner
            | MemberEffect::Promote(_)
                if !serves =>
            {
                return false;
            }
            MemberEffect::TakeLock => self.lock = self.lock.or(Some(index)),
            MemberEffect::DropLock => self.lock = self.lock.filter(|holder| *holder != index),
            MemberEffect::TakeSnapshot => node.host.snapshot = true,
            MemberEffect::MoveLeader => {
                let other = (0..NODES).find(|other| *other != index && self.is_healthy(*other));
                self.leader = other.unwrap_or(self.leader);
            }
            MemberEffect::Stop => node.host.etcd = MemberEtcd::Stopped,
            MemberEffect::StartOld => {
                node.host.etcd = MemberEtcd::Runs;
                self.old_started_after_removal |= node.journal.removing;
            }
            MemberEffect::Remove(_) => node.listed = None,
            MemberEffect::AddLearner => {
                node.added += 1;
                node.listed = Some((EtcdMemberId(10 * (1 + index as u64) + node.added), true, false));
                node.host.manifest_joins = false;
            }
            MemberEffect::MoveAside => node.host.placed = PlacedMember::Nothing,
            MemberEffect::WriteManifest => node.host.manifest_joins = true,
            MemberEffect::Start => {
                node.host.etcd = MemberEtcd::Runs;
                node.host.hash_equal = node.listed.and_then(|(_, learner, _)| (!learner).then_some(true));
                node.listed = node.listed.map(|(id, learner, _)| (id, learner, true));
                if let Some((id, _, _)) = node.listed {
                    // Started again as the same member, without what it voted for.
                    self.forgot |= node.ran_as == id && node.host.placed != PlacedMember::Of(id);
                    (node.ran_as, node.host.placed) = (id, PlacedMember::Of(id));
                }
            }
            MemberEffect::Promote(id) => {
                self.promoted_unlocked |= self.lock != Some(index);
                node.listed = Some((id, false, true));
                node.host.hash_equal = Some(true);
            }
        }
        true
    }
}

impl Reinitialise {
    fn look(&self, world: &World, index: usize, cancel: bool) -> MemberNext {
        let node = &world.nodes[index];
        let others: Vec<_> = (0..NODES)
            .filter(|other| *other != index)
            .filter_map(|other| {
                let (_, learner, started) = world.nodes[other].listed?;
                Some(OtherMember {
                    healthy: world.is_healthy(other) || self.broken == Some(Broken::AsksNobody),
                    learner,
                    started,
                })
            })
            .collect();
        let own = node.listed.map_or(OwnEntry::Absent, |(id, learner, _)| OwnEntry::Listed {
            id,
            learner,
            leads: world.leader == index,
        });
        let lock = match world.lock {
            _ if self.broken == Some(Broken::TakesNoLock) => Lock::Mine,
            None => Lock::Free,
            Some(holder) if holder == index => Lock::Mine,
            Some(_) => Lock::Other,
        };
        let anybody = (0..NODES).any(|other| other != index && world.is_healthy(other));
        let cluster =
            if anybody { ClusterSeen::Answers { agree: true, own, others: &others } } else { ClusterSeen::Silent };
        let (mut journal, mut host) = (node.journal, node.host);
        if self.broken == Some(Broken::MovesNewDataAside) && host.etcd == MemberEtcd::Stopped {
            journal.started = None;
            let is_there = host.placed != PlacedMember::Nothing;
            host.placed = if is_there { PlacedMember::Unreadable } else { PlacedMember::Nothing };
        }
        let seen = MemberSeen {
            journal,
            cluster,
            lock,
            host,
            stopped_for: AFTER_STOP,
            joining_for: Duration::ZERO,
            failed: None,
            cancel,
        };
        match decide_member(&seen) {
            MemberNext::Wait(MemberWait::Quorum | MemberWait::Lock) | MemberNext::Carry(MemberEffect::TakeLock)
                if self.broken == Some(Broken::PromotesBlindly)
                    && node.host.etcd == MemberEtcd::Runs
                    && node.journal.removing =>
            {
                node.listed.map_or(MemberNext::Wait(MemberWait::Quorum), |(id, _, _)| {
                    MemberNext::Carry(MemberEffect::Promote(id))
                })
            }
            MemberNext::Wait(_)
                if self.broken == Some(Broken::StartsOldAfterRemoval)
                    && node.journal.removing
                    && node.host.etcd == MemberEtcd::Stopped =>
            {
                MemberNext::Carry(MemberEffect::StartOld)
            }
            next => next,
        }
    }
}

impl Model for Reinitialise {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let node = |index: usize| Node {
            listed: Some((EtcdMemberId(index as u64), false, true)),
            sick: false,
            wants: index < 2,
            journal: MemberLedger::default(),
            ran_as: EtcdMemberId(index as u64),
            added: 0,
            host: MemberHost {
                etcd: MemberEtcd::Runs,
                placed: PlacedMember::Of(EtcdMemberId(index as u64)),
                manifest_joins: false,
                snapshot: false,
                hash_equal: None,
            },
        };
        vec![World {
            nodes: [node(0), node(1), node(2)],
            leader: 0,
            lock: None,
            about_to_stop: [false; NODES],
            sicknesses: self.faults.sicknesses,
            lost_leases: if self.slow_stops { 0 } else { self.faults.lost_leases },
            cancels: 1,
            crashes: self.faults.crashes,
            disks: self.faults.disks,
            forgot: false,
            promoted_unlocked: false,
            old_started_after_removal: false,
            two_away: false,
            quorum_taken: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..NODES {
            if world.about_to_stop[node] {
                actions.push(Action::StopNow(node));
            } else if world.nodes[node].wants {
                actions.push(Action::Look { node, cancel: false });
                if world.cancels > 0 {
                    actions.push(Action::Look { node, cancel: true });
                }
            }
            if world.nodes[node].sick {
                actions.push(Action::Recover(node));
            } else if world.sicknesses > 0 {
                actions.push(Action::FallSick(node));
            }
        }
        for node in 0..NODES {
            let own = &world.nodes[node];
            if world.crashes > 0 && own.wants {
                actions.extend([true, false].map(|lease| Action::Crash { node, lease }));
            }
            let joins = own.journal.started.is_some() && !own.journal.rejoined;
            if world.disks > 0 && joins && own.host.etcd == MemberEtcd::Runs {
                actions.extend([true, false].map(|data| Action::EtcdDies { node, data }));
            }
        }
        if world.lost_leases > 0 && world.lock.is_some() {
            actions.push(Action::LoseLease);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Look { node, cancel } => {
                let decided = self.look(world, node, cancel);
                if cancel && decided == self.look(world, node, false) {
                    return None;
                }
                next.cancels -= u8::from(cancel);
                match decided {
                    MemberNext::Record(record) => next.nodes[node].journal = world.nodes[node].journal.with(record),
                    MemberNext::Carry(MemberEffect::Stop) if self.slow_stops => next.about_to_stop[node] = true,
                    MemberNext::Carry(effect) => {
                        if !next.carry(node, effect) || next == *world {
                            return None;
                        }
                        next.quorum_taken |= world.is_well() && !next.has_quorum();
                    }
                    MemberNext::Wait(_) | MemberNext::Refuse(_) | MemberNext::Rest(_) => return None,
                }
            }
            Action::StopNow(node) => {
                next.about_to_stop[node] = false;
                next.carry(node, MemberEffect::Stop);
                next.quorum_taken |= world.is_well() && !next.has_quorum();
            }
            Action::FallSick(node) => {
                next.sicknesses -= 1;
                next.nodes[node].sick = true;
            }
            Action::Recover(node) => next.nodes[node].sick = false,
            Action::Crash { node, lease } => {
                next.crashes -= 1;
                next.about_to_stop[node] = false;
                next.lock = next.lock.filter(|holder| !lease || *holder != node);
            }
            Action::EtcdDies { node, data } => {
                next.disks -= 1;
                next.nodes[node].host.etcd = MemberEtcd::Stopped;
                next.nodes[node].host.hash_equal = None;
                if !data {
                    next.nodes[node].host.placed = PlacedMember::Nothing;
                }
            }
            Action::LoseLease => {
                next.lost_leases -= 1;
                next.lock = None;
            }
        }
        next.two_away |= next.nodes.iter().filter(|node| World::is_away(node)).count() > 1;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two members away at once", |_, world: &World| !world.two_away),
            Property::always("re-initialising takes no quorum away", |_, world: &World| !world.quorum_taken),
            Property::always("data of a removed member is never started", |_, world: &World| {
                !world.old_started_after_removal
            }),
            Property::always("no member is started again without its data", |_, world: &World| !world.forgot),
            Property::always("no promotion while another may change the members", |_, world: &World| {
                !world.promoted_unlocked
            }),
            Property::always("it ends, with three voters", |model: &Self, world: &World| {
                let mut actions = Vec::new();
                model.actions(world, &mut actions);
                actions.retain(|action| {
                    matches!(action, Action::Look { cancel: false, .. } | Action::StopNow(_) | Action::Recover(_))
                });
                let moves = actions.into_iter().any(|action| model.next_state(world, action).is_some());
                let ended = |node: &Node| node.journal.begun.is_none() || node.journal.ended.is_some();
                let voters = (0..NODES).filter(|node| world.is_healthy(*node)).count();
                moves || (world.nodes.iter().all(ended) && voters == NODES && world.lock.is_none())
            }),
            Property::sometimes("both are re-initialised", |_, world: &World| {
                world.nodes[..2].iter().all(|node| node.journal.ended == Some(Outcome::Committed))
            }),
        ]
    }
}

#[test]
fn two_members_at_once_never_cost_the_quorum() {
    for (faults, slow_stops) in [(SICK, false), (SICK, true), (CRASH, false), (CRASH, true), (DISK, false)] {
        let checker = Reinitialise { broken: None, slow_stops, faults }.checker().threads(2).spawn_bfs().join();
        println!("two of three, {faults:?}, slow stops {slow_stops}: {} distinct states", checker.unique_state_count());
        checker.assert_properties();
    }
}

fn caught(broken: Broken, slow_stops: bool, faults: Faults, by: &'static str) {
    let checker = Reinitialise { broken: Some(broken), slow_stops, faults }
        .checker()
        .finish_when(HasDiscoveries::AllOf([by].into()))
        .timeout(Duration::from_secs(60))
        .spawn_bfs()
        .join();
    let path = checker.discovery(by).unwrap_or_else(|| panic!("{broken:?} was not caught by: {by}"));
    println!("{broken:?} is caught by: {by}\n{:?}", path.into_actions());
}

#[test]
fn doing_without_the_lock_is_caught() {
    caught(Broken::TakesNoLock, true, SICK, "never two members away at once");
}

#[test]
fn starting_the_old_data_of_a_removed_member_is_caught() {
    caught(Broken::StartsOldAfterRemoval, false, SICK, "data of a removed member is never started");
}

#[test]
fn not_asking_the_others_is_caught() {
    caught(Broken::AsksNobody, false, SICK, "never two members away at once");
}

#[test]
fn taking_new_data_for_old_is_caught() {
    caught(Broken::MovesNewDataAside, false, DISK, "no member is started again without its data");
}

#[test]
fn promoting_without_the_lock_is_caught() {
    caught(Broken::PromotesBlindly, false, SICK, "no promotion while another may change the members");
}

#[test]
fn the_records_are_those_of_the_contract() {
    let ledger = MemberLedger::default().with(MemberRecord::IntendRemoved);
    assert!(ledger.removing && ledger.ended.is_none());
}
