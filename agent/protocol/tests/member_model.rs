//! Two of three members are asked to be re-initialised at once, while health, lock and executors fail: the shipped
//! `decide_member`, explored to the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;
use lifeboat_protocol::member::{
    AFTER_STOP, ClusterSeen, Lock, MemberEffect, MemberEtcd, MemberHost, MemberLedger, MemberNext, MemberSeen, OldData,
    OtherMember, OwnEntry, decide_member,
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
    old_started_after_removal: bool,
    two_away: bool,
    quorum_taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    TakesNoLock,
    StartsOldAfterRemoval,
    AsksNobody,
}

struct Reinitialise {
    broken: Option<Broken>,
    /// A stop that was decided is done later, when the world has moved on; no lease is lost then.
    slow_stops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Look { node: usize, cancel: bool },
    StopNow(usize),
    FallSick(usize),
    Recover(usize),
    LoseLease,
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
            MemberEffect::AddLearner => node.listed = Some((EtcdMemberId(10 + index as u64), true, false)),
            MemberEffect::MoveAside => node.host.old_data = OldData::Aside,
            MemberEffect::WriteManifest => node.host.manifest_joins = true,
            MemberEffect::Start => {
                node.host.etcd = MemberEtcd::Runs;
                node.listed = node.listed.map(|(id, learner, _)| (id, learner, true));
            }
            MemberEffect::Promote(id) => {
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
        let seen =
            MemberSeen { journal: node.journal, cluster, lock, host: node.host, stopped_for: AFTER_STOP, cancel };
        match decide_member(&seen) {
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
            host: MemberHost {
                etcd: MemberEtcd::Runs,
                old_data: OldData::InPlace,
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
            sicknesses: 2,
            lost_leases: if self.slow_stops { 0 } else { 2 },
            cancels: 1,
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
    for slow_stops in [false, true] {
        let checker = Reinitialise { broken: None, slow_stops }.checker().threads(2).spawn_bfs().join();
        println!("two of three, slow stops {slow_stops}: {} distinct states", checker.unique_state_count());
        checker.assert_properties();
    }
}

fn caught(broken: Broken, slow_stops: bool, by: &'static str) {
    let checker = Reinitialise { broken: Some(broken), slow_stops }
        .checker()
        .finish_when(HasDiscoveries::AllOf([by].into()))
        .spawn_bfs()
        .join();
    let path = checker.discovery(by).unwrap_or_else(|| panic!("{broken:?} was not caught by: {by}"));
    println!("{broken:?} is caught by: {by}\n{:?}", path.into_actions());
}

#[test]
fn doing_without_the_lock_is_caught() {
    caught(Broken::TakesNoLock, true, "never two members away at once");
}

#[test]
fn starting_the_old_data_of_a_removed_member_is_caught() {
    caught(Broken::StartsOldAfterRemoval, false, "data of a removed member is never started");
}

#[test]
fn not_asking_the_others_is_caught() {
    caught(Broken::AsksNobody, false, "never two members away at once");
}

#[test]
fn the_records_are_those_of_the_contract() {
    let ledger = MemberLedger::default().with(MemberRecord::IntendRemoved);
    assert!(ledger.removing && ledger.ended.is_none());
}
