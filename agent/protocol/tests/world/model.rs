//! The model: every order in which three nodes, a store, humans and faults can act, for `stateright` to explore.

use lifeboat_crds::mark::Verdict;
use stateright::{Model, Property};

use super::action::Action;
use super::breach::Breach;
use super::broken::Broken;
use super::calm::Calm;
use super::cluster::World;
use super::fault::Fault;
use super::setting::{NODES, Setting};

/// Name of the property that every story ends well once faults have stopped.
pub const STUCK: &str = "once faults stop, every node ends, equal to all others, and the executors go";
/// Name of what some story must come to.
pub const COMMITS: &str = "some restore commits";
/// And some other.
pub const ROLLS_BACK: &str = "some restore rolls back";
/// Name of the same where humans who decide by hand have walked away.
pub const WALKED_AWAY: &str = "a human who walks away keeps only those waiting whose journals they took";

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
    /// Steps of one node that no other can see are not interleaved with the others' (faults of that node still are). What
    /// that leaves out stands in `reduction.rs`.
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
            eager: false,
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
