//! A journal is all the memory there is: read back, cut anywhere, or left by a crash anywhere, it leads to the same end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

#[path = "world/world.rs"]
mod world;

use std::time::Duration;

use lifeboat_crds::journal::{self, Entry, JOURNAL_FORMAT, Journal, Record};
use lifeboat_protocol::{KEEP_TIME_EVERY, Ledger, Next, Observed, Terms, decide};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stateright::Model;
use world::action::Action;
use world::cluster::World;
use world::executor::plain;
use world::fault::Fault;
use world::model::Restore;
use world::setting::{NODES, Setting, digest};

fn restore(members: usize, separate_wal: bool) -> Restore {
    let setting = Setting { separate_wal, ..Setting::new(members) };
    let faults = [(Fault::Crash, u8::MAX), (Fault::Away, 2), (Fault::Cancel, 1)];
    Restore { eager: false, symmetric: false, ..Restore::new(setting, &faults) }
}

fn some_step(restore: &Restore, world: &World, random: &mut StdRng, faults: bool) -> Option<(Action, World)> {
    let mut actions = Vec::new();
    if faults {
        restore.actions(world, &mut actions);
    } else {
        restore.by_itself(world, &mut actions);
    }
    actions.retain(|action| !matches!(action, Action::Look { late: true, .. }) || random.random_ratio(1, 50));
    let action = *actions.choose(random)?;
    restore.next_state(world, action).map(|world| (action, world))
}

fn finish(restore: &Restore, mut world: World, random: &mut StdRng) -> World {
    for _ in 0..6000 {
        if world.is_well_ended(&restore.setting) {
            break;
        }
        if let Some((_, next)) = some_step(restore, &world, random, false) {
            world = next;
        }
    }
    world
}

fn entry(sequence: usize, record: Record) -> Entry {
    Entry { format: JOURNAL_FORMAT, sequence: sequence as u64, elapsed_millis: 0, record }
}

fn text(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| journal::encode(entry).unwrap()).collect()
}

fn read(bytes: &[u8], terms: &Terms) -> (Ledger, usize) {
    match journal::decode(bytes).unwrap() {
        Journal::Entries { entries, good: _ } => (Ledger::replay(&entries, terms).unwrap(), entries.len()),
        Journal::EndedElsewhere { .. } => panic!("another version's"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// After every record the journal on disk says what the node that wrote it knew, so the next step is the same; and a
    /// record that a power cut tore leaves exactly the step that led to it.
    #[test]
    fn every_prefix_of_a_journal_gives_the_same_next_step(seed in any::<u64>(), wal in any::<bool>()) {
        let random = &mut StdRng::seed_from_u64(seed);
        let restore = restore(3, wal);
        let mut world = restore.init_states().remove(0);
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..1500 {
            let before = world.clone();
            let Some((action, next)) = some_step(&restore, &world, random, true) else { continue };
            world = next;
            if let Action::SealOrder(0) = action {
                let restore_id = restore.setting.order.restore_id.clone();
                entries.push(entry(0, Record::Sealed { restore_id, order_digest: digest(0) }));
            }
            let Action::Look { node: 0, late } = action else { continue };
            let (decision, _) = restore.look(&before, 0, late);
            let Next::Record(record) = decision.next.clone() else { continue };
            entries.push(entry(entries.len(), plain(record)));
            let bytes = text(&entries);
            let (ledger, _) = read(&bytes, &restore.setting.terms[0]);
            prop_assert_eq!(ledger, world.nodes[0].ledger);
            let marks = world.marks(0);
            let live = decide(&world.observe(&restore.setting, 0, &world.nodes[0].ledger, &marks, false));
            prop_assert_eq!(decide(&world.observe(&restore.setting, 0, &ledger, &marks, false)), live);

            // Time is in it too: as old as the node that died, and as late.
            let timed: Vec<Entry> = entries.iter().map(|entry| Entry { elapsed_millis: 7001 * entry.sequence, ..entry.clone() }).collect();
            let lived = timed.iter().fold(Ledger::default(), |ledger, entry| {
                ledger.with(&entry.record, Duration::from_millis(entry.elapsed_millis))
            });
            let (ledger, _) = read(&text(&timed), &restore.setting.terms[0]);
            prop_assert_eq!(ledger, lived);
            let at = |journal| {
                let seen = world.observe(&restore.setting, 0, journal, &marks, false);
                decide(&Observed { elapsed: lived.elapsed + KEEP_TIME_EVERY, ..seen })
            };
            prop_assert_eq!(at(&ledger), at(&lived));

            let last = journal::encode(entries.last().unwrap()).unwrap().len();
            let torn = &bytes[..bytes.len() - random.random_range(1..=last)];
            let (ledger, whole) = read(torn, &restore.setting.terms[0]);
            prop_assert_eq!(whole, entries.len() - 1);
            let marks = before.marks(0);
            prop_assert_eq!(decide(&before.observe(&restore.setting, 0, &ledger, &marks, late)), decision);
        }
    }

    /// A power cut or a killed executor before or after any one step ends as well as any other story.
    #[test]
    fn a_crash_before_or_after_any_effect_converges(
        seed in any::<u64>(), wal in any::<bool>(), members in 1..=NODES, length in 0_usize..150, victim in 0_u8..3,
        only_executor in any::<bool>(),
    ) {
        let random = &mut StdRng::seed_from_u64(seed);
        let restore = restore(members, wal);
        let mut world = restore.init_states().remove(0);
        for _ in 0..length {
            if let Some((_, next)) = some_step(&restore, &world, random, false) {
                world = next;
            }
        }
        let victim = victim % members as u8;
        let crash = if only_executor { Action::KillExecutor(victim) } else { Action::PowerOff(victim) };
        let crashed = restore.next_state(&world, crash).unwrap_or(world);
        let end = finish(&restore, crashed, random);
        prop_assert!(end.is_well_ended(&restore.setting), "{:#?}", end);
        prop_assert_eq!(end.breaches, 0);
    }
}

/// Every effect is idempotent: done twice, the host is as after once.
#[test]
fn carrying_an_effect_out_twice_changes_nothing_more() {
    let random = &mut StdRng::seed_from_u64(7);
    for wal in [false, true] {
        let restore = restore(3, wal);
        let mut world = restore.init_states().remove(0);
        let mut tried = 0;
        for _ in 0..10_000 {
            for node in 0..3 {
                let (decision, _) = restore.look(&world, node, false);
                if let (Next::Carry(effect), Some(_)) = (decision.next, world.nodes[node].sealed) {
                    let mut once = world.clone();
                    if once.carry(&restore.setting, node, effect) {
                        let mut twice = once.clone();
                        twice.carry(&restore.setting, node, effect);
                        assert_eq!(once, twice, "{effect:?}");
                        tried += 1;
                    }
                }
            }
            if let Some((_, next)) = some_step(&restore, &world, random, true) {
                world = next;
            }
            if world.is_well_ended(&restore.setting) {
                world = restore.init_states().remove(0);
            }
        }
        assert!(tried > 100, "{tried}");
    }
}

#[test]
fn time_that_passed_before_a_restart_counts() {
    let waited = Entry { format: JOURNAL_FORMAT, sequence: 0, elapsed_millis: 5000, record: Record::Waited };
    assert_eq!(Ledger::sum(std::slice::from_ref(&waited)).elapsed, Duration::from_secs(5));
    let stopped = Entry { record: Record::IntendQuiesced, ..waited };
    assert_eq!(Ledger::sum(&[stopped]).quiesced_at, Some(Duration::from_secs(5)));
}
