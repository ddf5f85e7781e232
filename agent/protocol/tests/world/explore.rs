//! Explores a model to its end and says how big it was; where something is broken it tells the story.
#![allow(clippy::print_stdout)]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::action::Action;
use super::cluster::World;
use super::fault::Fault;
use super::model::{COMMITS, From, ROLLS_BACK, Restore};
use super::setting::Setting;
use stateright::{Checker, HasDiscoveries, Model};

/// How the states are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// What is found is the shortest story, for all states of one depth in memory.
    ByBreadth,
    /// Memory for a fingerprint of each state only, and a word each minute.
    ByDepth,
}

/// What happened, and where it led.
pub fn tell(actions: &[Action], last: &World) {
    for action in actions {
        println!("    {action:?}");
    }
    for (node, index) in last.nodes.iter().zip(0..) {
        let host = node.host;
        println!(
            "  node {index}: {:?}, {:?} in place, etcd {:?}, API server {:?}",
            node.ledger.phase(),
            host.placed.member,
            host.etcd,
            host.control_plane
        );
    }
    println!("  in the store: {:?}", last.bucket);
}

/// Explores a model to the end; prints its size. A world in which nothing ends shows nothing: some story commits, unless
/// one member holds other data, and some rolls back.
pub fn explore(name: &str, restore: Restore) -> usize {
    explore_to(name, restore, &[COMMITS, ROLLS_BACK], Search::ByBreadth)
}

/// The same, for what is too big for the breadth.
pub fn explore_far(name: &str, restore: Restore) -> usize {
    explore_to(name, restore, &[COMMITS, ROLLS_BACK], Search::ByDepth)
}

/// The same with the ends that must be seen; answers with the number of distinct states.
pub fn explore_to(name: &str, restore: Restore, ends: &[&'static str], search: Search) -> usize {
    let played = restore.clone();
    let builder = restore.checker().threads(cores()).finish_when(HasDiscoveries::AnyFailures);
    match search {
        Search::ByBreadth => judge(name, &played, ends, builder.spawn_bfs()),
        Search::ByDepth => judge(name, &played, ends, builder.spawn_dfs()),
    }
}

fn judge(name: &str, played: &Restore, ends: &[&'static str], checker: impl Checker<Restore>) -> usize {
    let begun = Instant::now();
    let mut told = begun;
    while !checker.is_done() {
        thread::sleep(Duration::from_millis(20));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!(
                "  … {} distinct after {} s, {}",
                checker.unique_state_count(),
                begun.elapsed().as_secs(),
                memory()
            );
        }
    }
    let checker = checker.join();
    println!(
        "{name}: {} states, {} distinct, depth {}, {:.1} s, {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64(),
        memory()
    );
    for (property, path) in checker.discoveries() {
        if !property.starts_with("some") {
            let last = path.last_state().clone();
            tell(&path.into_actions(), &last);
            for (calm, whose) in [(&played.calm, "in calm"), (&played.calm_alone, "in calm, humans gone")] {
                println!("  {whose}: {:?}", calm.story(played, &last));
            }
            panic!("{name}: {property}");
        }
    }
    for end in ends.iter().filter(|end| played.setting.differs.is_none() || **end != COMMITS) {
        assert!(checker.discovery(end).is_some(), "{name}: {end} is never seen");
    }
    checker.unique_state_count()
}

pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What this process holds now, and held at most.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
    };
    format!("{} MiB, at most {} MiB", mib("VmRSS:"), mib("VmHWM:"))
}

/// That many members, and these faults at any moment.
pub fn of(members: usize, faults: &[(Fault, u8)]) -> Restore {
    Restore::new(Setting::new(members), faults)
}

/// The same, where only the decision counts.
pub fn from_doubt(members: usize, faults: &[(Fault, u8)]) -> Restore {
    Restore { from: From::Doubt, ..of(members, faults) }
}

/// Not every order of all steps: see `reduction.rs` for what that leaves out.
pub fn reduced(restore: Restore) -> Restore {
    Restore { eager: true, ..restore }
}
