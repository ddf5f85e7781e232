//! What the reduction of `world/reduction.rs` leaves out, measured: the same worlds with and without it, where both fit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "world/world.rs"]
mod world;

use std::collections::{BTreeSet, HashSet};

use lifeboat_crds::mark::{Outcome, Verdict};
use stateright::Model;
use world::breach::Breach;
use world::broken::Broken;
use world::cluster::World;
use world::explore::{from_doubt, of, reduced};
use world::fault::Fault;
use world::fold::key_of;
use world::model::Restore;

/// How far a node went, as its journal tells at the end: stopped, about to exchange, to serve, verified; decisions it
/// attempted; whether it left; what it learnt; how it ended. And what its disk and processes tell: the new data was in place,
/// started whole, put back or never.
type Did = ([bool; 4], [bool; 2], bool, Option<Verdict>, Option<Outcome>, [bool; 3]);
/// Of every member, and by which decision.
type End = (Vec<Did>, Option<Verdict>);

/// All that a restore can come to.
#[derive(Debug, Default)]
struct Reached {
    states: usize,
    /// Good ends.
    ends: BTreeSet<End>,
    /// Breaches with which a story ends.
    breaches: BTreeSet<&'static str>,
    /// A state that no good end can be reached from once faults have stopped.
    stuck: bool,
}

impl Reached {
    fn verdict(&self) -> (&BTreeSet<&'static str>, bool, BTreeSet<Option<Verdict>>) {
        (&self.breaches, self.stuck, self.ends.iter().map(|(_, verdict)| *verdict).collect())
    }
}

fn end_of(world: &World, members: usize) -> End {
    let did = world.nodes[..members].iter().map(|node| {
        let ledger = node.ledger;
        let went = [ledger.quiesced_at.is_some(), ledger.inodes.is_some(), ledger.serving, ledger.in_doubt];
        let attempted = [Verdict::Commit, Verdict::Rollback].map(|verdict| ledger.attempted.of(verdict));
        let learned = ledger.learned.map(|(verdict, _)| verdict);
        let host = [node.was_prepared, node.went_forward, node.went_back];
        (went, attempted, ledger.left.is_some(), learned, ledger.ended, host)
    });
    (did.collect(), world.bucket.decision)
}

fn explored(restore: &Restore) -> Reached {
    let mut reached = Reached::default();
    let mut stack = restore.init_states();
    let mut seen: HashSet<u64> = stack.iter().map(key_of).collect();
    let mut actions = Vec::new();
    while let Some(world) = stack.pop() {
        reached.stuck |= !restore.calm.ends_well(restore, &world);
        reached.breaches.extend(Breach::ALL.into_iter().filter(|breach| world.has(*breach)).map(Breach::name));
        if world.is_well_ended(&restore.setting) {
            reached.ends.insert(end_of(&world, restore.setting.members));
        }
        restore.actions(&world, &mut actions);
        for action in actions.drain(..) {
            let next = restore.next_state(&world, action).filter(|next| seen.insert(key_of(next)));
            stack.extend(next);
        }
    }
    reached.states = seen.len();
    reached
}

fn both(name: &str, restore: &Restore) -> (Reached, Reached) {
    let (all, fewer) = (explored(restore), explored(&reduced(restore.clone())));
    println!(
        "{name}: {} states and {} ends; reduced {} and {}; {:?}, stuck {}",
        all.states,
        all.ends.len(),
        fewer.states,
        fewer.ends.len(),
        all.breaches,
        all.stuck,
    );
    assert!(fewer.states < all.states, "{name}: nothing is reduced");
    assert!(fewer.ends.is_subset(&all.ends), "{name}: an end that cannot be");
    assert_eq!(fewer.verdict(), all.verdict(), "{name}");
    (all, fewer)
}

#[test]
fn what_is_shipped_gets_the_same_verdict_with_and_without_the_reduction() {
    for (name, restore) in [
        ("two members", of(2, &[])),
        ("two members, a cancel", of(2, &[(Fault::Cancel, 1)])),
        ("two members in doubt, a crash", from_doubt(2, &[(Fault::Crash, 1)])),
    ] {
        let (all, fewer) = both(name, &restore);
        assert!(all.breaches.is_empty() && !all.stuck, "{name}");
        for (did, verdict) in all.ends.difference(&fewer.ends) {
            // One that learnt of a Rollback after it had begun to stop and before it served.
            let midway = |(went, _, _, learned, _, _): &Did| went[0] && !went[2] && *learned == Some(Verdict::Rollback);
            assert!(*verdict == Some(Verdict::Rollback) && did.iter().any(midway), "{did:?}");
        }
    }
}

#[test]
fn what_is_broken_gets_the_same_verdict_with_and_without_the_reduction() {
    let away = [(Fault::Away, 1)];
    for (broken, restore) in [
        (Broken::OpenWhileUndecided, of(2, &[])),
        (Broken::EndsOnAnyProcess, of(2, &[(Fault::Cancel, 1)])),
        (Broken::ProposesFirst, of(2, &[(Fault::Meddle, 1)])),
        (Broken::RunsAgain, of(2, &[(Fault::Reapply, 1)])),
        (Broken::LeavesInDoubt, from_doubt(2, &away)),
        (Broken::BelievesItsWrite, from_doubt(2, &[(Fault::LateWrite, 1)])),
        (Broken::TrustsOneObject, from_doubt(2, &[(Fault::Loss, 1)])),
    ] {
        let (all, _) = both(&format!("{broken:?}"), &restore.broken(broken));
        assert!(all.stuck || !all.breaches.is_empty(), "{broken:?} is not seen at all");
    }
}
