//! Calm: faults have stopped. Every node takes its turn, the store is back, everybody is up; then it must end well.
//!
//! From each state one fair schedule is played to its end. It is deterministic, so stories that meet go on together, and
//! a state that was passed once need not be played again. A step counts only if it changes something, and a state that
//! comes back is a story without an end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::action::Action;
use super::cluster::World;
use super::fold::key_of;
use super::model::Restore;
use super::setting::NODES;

const SHARDS: u64 = 64;

/// States from which calm is known to end well.
#[derive(Clone, Debug)]
pub struct Calm {
    known: Arc<Vec<Mutex<HashSet<u64>>>>,
    /// Humans who began to decide by hand go on with it; else they have walked away.
    pub with_humans: bool,
}

impl Calm {
    pub fn new(with_humans: bool) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { known: Arc::new(shards), with_humans }
    }

    fn shard(&self, key: u64) -> &Mutex<HashSet<u64>> {
        &self.known[(key % SHARDS) as usize]
    }

    fn knows(&self, key: u64) -> bool {
        self.shard(key).lock().unwrap().contains(&key)
    }

    /// Whether it ends well from here.
    pub fn ends_well(&self, restore: &Restore, world: &World) -> bool {
        self.story(restore, world).1
    }

    /// What happens in calm, and whether it ends well.
    pub fn story(&self, restore: &Restore, world: &World) -> (Vec<Action>, bool) {
        let (mut world, mut passed, mut story) = (world.clone(), Vec::new(), Vec::new());
        let good = loop {
            let key = key_of(&world);
            if self.knows(key) || restore.is_excused(&world, self.with_humans) {
                break true;
            }
            if passed.contains(&key) {
                break false;
            }
            passed.push(key);
            if world.is_well_ended(&restore.setting) {
                break true;
            }
            match self.step(restore, &world) {
                Some((action, next)) => {
                    story.push(action);
                    world = next;
                }
                None => break false,
            }
        };
        if good {
            for key in passed {
                self.shard(key).lock().unwrap().insert(key);
            }
        }
        (story, good)
    }

    fn step(&self, restore: &Restore, world: &World) -> Option<(Action, World)> {
        let mut actions = Vec::with_capacity(32);
        for node in 0..NODES as u8 {
            actions.push(Action::Drain(node));
        }
        restore.repairs(world, &mut actions);
        if self.with_humans {
            restore.by_humans(world, &mut actions);
        }
        let mut late = Vec::new();
        for node in 0..NODES as u8 {
            let mut own = Vec::new();
            restore.by_node(world, node, &mut own);
            for action in own {
                if matches!(action, Action::Look { late: true, .. }) { late.push(action) } else { actions.push(action) }
            }
        }
        actions.into_iter().chain(late).find_map(|action| {
            let mut next = world.clone();
            (restore.apply(&mut next, action) && next != *world).then_some((action, next))
        })
    }
}
