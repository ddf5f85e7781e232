//! Random walks, far beyond what can be explored: several faults of each kind at once, without the reduction.
#![allow(clippy::print_stdout)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use lifeboat_crds::mark::Verdict;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use stateright::Model;

use super::action::Action;
use super::breach::Breach;
use super::cluster::World;
use super::explore::{cores, tell};
use super::fault::Fault;
use super::model::{From, Restore};
use super::setting::{NODES, Setting};

/// Walks of up to `faults` faults of each kind, numbered from 0; each seed is one story.
pub fn walk(walks: u64, faults: u8) {
    let begun = Instant::now();
    let (next, steps, commits) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= walks {
                        break;
                    }
                    let (length, verdict) = walk_one(seed, faults);
                    steps.fetch_add(length as u64, Ordering::Relaxed);
                    commits.fetch_add(u64::from(verdict == Some(Verdict::Commit)), Ordering::Relaxed);
                }
            });
        }
    });
    let (steps, commits) = (steps.into_inner(), commits.into_inner());
    println!(
        "{walks} random walks, up to {faults} faults of each kind: {steps} steps, {commits} committed, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(commits > walks / 20, "walks that hardly ever commit show nothing");
}

/// Faults for a while, then none for a while, and then calm, which must end it well.
fn walk_one(seed: u64, faults: u8) -> (usize, Option<Verdict>) {
    let random = &mut StdRng::seed_from_u64(seed);
    let restore = some_restore(random, faults);
    let mut world = restore.init_states().remove(0);
    let mut story = Vec::new();
    let (with_faults, without) = (random.random_range(0..250), random.random_range(0..60));
    for turn in 0..with_faults + without {
        let Some((action, next)) = step(&restore, &world, random, turn < with_faults) else { continue };
        story.push(action);
        world = next;
        if world.breaches != 0 {
            break;
        }
    }
    let (calm, _) = restore.calm.story(&restore, &world);
    for action in calm {
        // Calm looks at where it ends; here every step of it is looked at.
        world = restore.next_state(&world, action).unwrap_or(world);
        story.push(action);
        if world.breaches != 0 {
            break;
        }
    }
    let ended = world.is_well_ended(&restore.setting);
    if world.breaches != 0 || !ended {
        tell(&story, &world);
        let breaches: Vec<_> = Breach::ALL.into_iter().filter(|breach| world.has(*breach)).collect();
        panic!("seed {seed}: {breaches:?}, well ended: {ended}");
    }
    (story.len(), world.ended_by(&restore.setting))
}

/// Something that changes something. Faults are kept for the whole length of a story, and time-outs are rare: they are too
/// many among what may happen for anything to ever commit.
fn step(restore: &Restore, world: &World, random: &mut StdRng, may_fail: bool) -> Option<(Action, World)> {
    let mut actions = Vec::new();
    if may_fail && random.random_ratio(1, 8) {
        restore.by_fault(world, &mut actions);
    } else {
        restore.by_itself(world, &mut actions);
        restore.by_humans(world, &mut actions);
    }
    actions.retain(|action| !matches!(action, Action::Look { late: true, .. }) || random.random_ratio(1, 150));
    actions.shuffle(random);
    actions.into_iter().find_map(|action| Some((action, restore.next_state(world, action)?)))
}

fn some_restore(random: &mut StdRng, faults: u8) -> Restore {
    let members = *[3, 3, 3, 2, 1].choose(random).unwrap();
    let loopback = random.random_ratio(1, 3);
    let mut setting = Setting {
        separate_wal: random.random_ratio(1, 4),
        list_all: !loopback,
        differs: random.random_ratio(1, 8).then_some(0).filter(|_| members > 1),
        ..Setting::new(members)
    };
    let hold = random.random_ratio(1, 4);
    for terms in &mut setting.terms {
        terms.hold_before_release = hold;
        terms.loopback_api_servers = loopback;
    }
    let mut kinds = vec![Fault::Crash, Fault::LateWrite, Fault::Refuse, Fault::Cancel, Fault::Fail];
    // With two faults at once, tampering can do what one alone cannot: docs/restore-protocol.md, What is assumed.
    kinds.push(if random.random_ratio(1, 2) { Fault::Away } else { Fault::Meddle });
    if random.random_ratio(1, 2) {
        kinds.push(Fault::Hand);
    }
    let mut faults: Vec<_> = kinds.iter().map(|kind| (*kind, random.random_range(0..=faults))).collect();
    // Two lost masters that wake while they can reach nobody are the one accepted exception; see the docs.
    let may_wake = if members == 1 && kinds.contains(&Fault::Away) { 1 } else { NODES - members };
    faults.push((Fault::PowerOn, may_wake as u8));
    let two_starters = members > 1 && random.random_ratio(1, 4);
    // Half of the stories begin where it hurts.
    let begins_late = setting.differs.is_none() && !two_starters && random.random_ratio(2, 3);
    let from = if begins_late { *[From::Serving, From::Doubt].choose(random).unwrap() } else { From::Order };
    Restore {
        two_starters,
        slow_starts: random.random_ratio(1, 2),
        eager: false,
        symmetric: false,
        from,
        ..Restore::new(setting, &faults)
    }
}
