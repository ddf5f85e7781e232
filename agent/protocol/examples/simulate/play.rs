//! Reads a scenario, plays it round by round, and writes the time line.

use std::fmt::Write;

use super::world::action::Action;
use super::world::breach::Breach;
use super::world::cluster::World;
use super::world::fault::FAULTS;
use super::world::model::Restore;
use super::world::setting::{NODES, Setting};
use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Verdict;
use lifeboat_protocol::observed::ControlPlane;
use lifeboat_protocol::{Next, Wait};
use serde::Deserialize;
use stateright::Model;

/// Rounds after which a scenario that does not end is given up.
const ROUNDS: usize = 500;
/// Rounds in which nothing happens, after which time runs out for whoever waits.
const PATIENCE: usize = 3;
const WIDTH: usize = 54;

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    title: String,
    /// Masters that take part; those after them are lost.
    #[serde(default = "all")]
    members: usize,
    /// Number of a member whose staged data differs.
    differs: Option<usize>,
    #[serde(default)]
    hold_before_release: bool,
    /// The WAL lies in a directory of its own.
    #[serde(default)]
    separate_wal: bool,
    /// m0 and m1 both write an order.
    #[serde(default)]
    two_starters: bool,
    /// A start that was decided happens a round later.
    #[serde(default)]
    slow_starts: bool,
    #[serde(default)]
    events: Vec<Event>,
    /// How it must end.
    ends: Ending,
}

fn all() -> usize {
    NODES
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// "m1 is InDoubt", "m1 is Verified" (its mark), "Commit is in flight": as soon as this holds.
    when: Option<String>,
    /// Rounds after the event before.
    after: Option<usize>,
    /// What happens.
    #[serde(rename = "do")]
    does: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Ending {
    Committed,
    RolledBack,
    InDoubt,
}

struct Stage {
    restore: Restore,
    world: World,
    /// Some node took a step in the last round.
    moved: bool,
    told: String,
    round: usize,
    next_write_errs: [bool; NODES],
}

/// Plays a scenario; the time line, or why it went otherwise than the file says.
pub fn play(text: &str) -> Result<String, String> {
    let scenario: Scenario = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    let setting = Setting::new(scenario.members.clamp(1, NODES));
    let mut setting = Setting { differs: scenario.differs, separate_wal: scenario.separate_wal, ..setting };
    for terms in &mut setting.terms {
        terms.hold_before_release = scenario.hold_before_release;
    }
    let (two_starters, slow_starts) = (scenario.two_starters, scenario.slow_starts);
    let restore = Restore { symmetric: false, two_starters, slow_starts, ..Restore::new(setting, &[]) };
    let mut world = restore.init_states().remove(0);
    world.budget = [u8::MAX; FAULTS];
    let mut stage =
        Stage { restore, world, told: String::new(), round: 0, next_write_errs: [false; NODES], moved: false };
    stage.title(&scenario);
    let ending = stage.run(&scenario.events)?;
    let _ = writeln!(stage.told, "\nends: {ending:?}");
    let breaches: Vec<_> = Breach::ALL.iter().filter(|breach| stage.world.has(**breach)).map(|b| b.name()).collect();
    if ending == scenario.ends && breaches.is_empty() {
        Ok(stage.told)
    } else {
        Err(format!("expected {:?}, came to {ending:?}, breaches {breaches:?}\n{}", scenario.ends, stage.told))
    }
}

impl Stage {
    fn title(&mut self, scenario: &Scenario) {
        let _ = writeln!(self.told, "{}\n", scenario.title);
        let heads: String = (0..NODES).map(|node| format!("{:<WIDTH$}", format!("m{node}"))).collect();
        let _ = writeln!(self.told, "round  {}", heads.trim_end());
    }

    fn run(&mut self, events: &[Event]) -> Result<Ending, String> {
        let mut events = events.iter().peekable();
        let (mut since_event, mut idle) = (0, 0);
        while self.round < ROUNDS {
            while let Some(event) = events.next_if(|event| self.is_due(event, since_event)) {
                self.happen(&event.does)?;
                since_event = 0;
                idle = 0;
            }
            self.round += 1;
            since_event += 1;
            let moved = self.play_round();
            idle = if moved { 0 } else { idle + 1 };
            if self.world.is_well_ended(&self.restore.setting) && events.peek().is_none() {
                return Ok(if self.world.ended_by(&self.restore.setting) == Some(Verdict::Commit) {
                    Ending::Committed
                } else {
                    Ending::RolledBack
                });
            }
            let waits_for_event = events.peek().is_some_and(|event| event.after.is_some());
            if idle >= PATIENCE && !waits_for_event {
                if !self.time_out() {
                    return match events.peek() {
                        Some(event) => Err(format!("{event:?} never came\n{}", self.told)),
                        None => Ok(Ending::InDoubt),
                    };
                }
                idle = 0;
            }
        }
        Err(format!("no end after {ROUNDS} rounds\n{}", self.told))
    }

    fn is_due(&self, event: &Event, since_event: usize) -> bool {
        let is_so = event.when.as_ref().is_none_or(|when| self.holds(when));
        is_so && event.after.is_none_or(|rounds| since_event >= rounds)
    }

    fn holds(&self, when: &str) -> bool {
        match when.split_once(" is ") {
            Some(("Commit", "in flight")) => self.world.bucket.flying.commit,
            Some(("Rollback", "in flight")) => self.world.bucket.flying.rollback,
            Some((node, "Verified")) => node_number(node).is_ok_and(|node| self.world.bucket.marks[node].verified),
            Some((node, phase)) => {
                let is_in = |node: usize| format!("{:?}", self.world.nodes[node].ledger.phase()) == phase;
                node_number(node).is_ok_and(is_in)
            }
            None => false,
        }
    }

    /// Every node takes one step; true if any did.
    fn play_round(&mut self) -> bool {
        let mut cells: [String; NODES] = Default::default();
        let mut moved = false;
        for (node, cell) in cells.iter_mut().enumerate() {
            let (did, words) = self.step(node);
            moved |= did;
            *cell = words;
        }
        // What they wait for is said once, when the last of them has come to a halt.
        if moved || self.moved {
            let cells: String = cells.iter().map(|cell| format!("{:<WIDTH$}", clip(cell))).collect();
            let _ = writeln!(self.told, "{:>5}  {}", self.round, cells.trim_end());
        }
        self.moved = moved;
        moved
    }

    fn step(&mut self, node: usize) -> (bool, String) {
        let number = node as u8;
        let restore = self.restore.clone();
        for action in [Action::Guard(number), Action::Rejoin(number)] {
            if node >= restore.setting.members && self.try_now(action) {
                let runs = self.world.nodes[node].host.control_plane;
                let words =
                    if runs != ControlPlane::None { "starts etcd and API server" } else { "held, or re-initialised" };
                return (true, words.to_owned());
            }
        }
        if node >= restore.setting.members || !self.world.nodes[node].up {
            return (false, if node < restore.setting.members { "(off)".to_owned() } else { String::new() });
        }
        if restore.two_starters && node < 2 && self.try_now(Action::WriteOrder(number)) {
            return (true, "writes the order, or its slot".to_owned());
        }
        if self.try_now(Action::SealOrder(number)) {
            return (true, "seals the order".to_owned());
        }
        if let Some(words) = self.by_hand(number) {
            return (true, words);
        }
        if self.world.nodes[node].starting.is_some() && self.try_now(Action::StartNow(number)) {
            return (true, "it has started".to_owned());
        }
        if !self.world.nodes[node].is_awake() {
            return (
                false,
                if self.world.nodes[node].gone { "(its executor is gone)".to_owned() } else { String::new() },
            );
        }
        // What is shown first is seen by the look that follows; one look says what is done, and is what is printed.
        let publishes = self.publish(node);
        let (decision, _) = restore.look(&self.world, node, false);
        let writes = matches!(decision.next, Next::Propose { verdict: _, reason: _ });
        let errs = writes && std::mem::take(&mut self.next_write_errs[node]);
        let action = if errs {
            Action::LookAndErr { node: number, late: false }
        } else {
            Action::Look { node: number, late: false }
        };
        let did = restore.apply(&mut self.world, action);
        self.world.check(&restore.setting);
        let step = format!("{}{}", words_of(&decision.next), if did && errs { ": the write errs" } else { "" });
        let words = match publishes {
            Some(mark) => format!("marks {mark}; {step}"),
            None => step,
        };
        (did || publishes.is_some(), words)
    }

    /// What the human who decides by hand does next on a node, in words.
    fn by_hand(&mut self, node: u8) -> Option<String> {
        let human = 0;
        let steps = [
            (Action::Ask { human, node }, "a human asks for its journal"),
            (Action::Testify { human, node }, "a human copies its journal"),
            (Action::Judge(human), "a human judges all journals"),
            (Action::TellWord { human, node }, "a human tells it the judgement"),
        ];
        let begun = !self.world.hands.is_empty();
        steps.into_iter().find(|(action, _)| begun && self.try_now(*action)).map(|(_, words)| words.to_owned())
    }

    /// Does it where it changes anything; says whether it did, and looks for breaches.
    fn try_now(&mut self, action: Action) -> bool {
        let mut next = self.world.clone();
        let did = self.restore.apply(&mut next, action);
        if did {
            next.check(&self.restore.setting);
            self.world = next;
        }
        did
    }

    /// Writes the mark that is due and not there; its name.
    fn publish(&mut self, node: usize) -> Option<&'static str> {
        let (decision, _) = self.restore.look(&self.world, node, false);
        let did = self.try_now(Action::Publish(node as u8));
        decision.mark.filter(|_| did).map(|claim| claim.step().as_str())
    }

    /// Time runs out for the first that waits; true if it made a difference.
    fn time_out(&mut self) -> bool {
        let restore = self.restore.clone();
        for node in 0..restore.setting.members {
            let is_awake = self.world.nodes[node].is_awake();
            if is_awake && restore.apply(&mut self.world, Action::Look { node: node as u8, late: true }) {
                let _ = writeln!(self.told, "{:>5}  * the deadline of m{node} passes", self.round);
                return true;
            }
        }
        false
    }

    fn happen(&mut self, what: &str) -> Result<(), String> {
        let _ = writeln!(self.told, "{:>5}  * {what}", self.round);
        let words: Vec<&str> = what.split_whitespace().collect();
        let node = |text: &str| node_number(text).map(|node| node as u8);
        let action = match words.as_slice() {
            ["power", "off", name] => Action::PowerOff(node(name)?),
            ["kill", "executor", name] => Action::KillExecutor(node(name)?),
            ["boot", name] => Action::Boot(node(name)?),
            ["turn", "on", name] => Action::TurnOnLost(node(name)?),
            ["store", "away"] => Action::StoreAway,
            ["store", "away", "for", name] => Action::Cut(node(name)?),
            ["store", "back"] => Action::StoreBack,
            ["store", "back", "for", name] => Action::Uncut(node(name)?),
            ["cancel", "on", name] => Action::Cancel(node(name)?),
            ["release", name] => Action::Release(node(name)?),
            ["stray", "on", name] => Action::StrayWaits(node(name)?),
            ["stray", "gets", "the", "lock", "on", name] => Action::StrayGetsLock(node(name)?),
            ["API", "server", "comes", "up", "on", name] => Action::ApiComesUp(node(name)?),
            ["decision", "is", "deleted"] => Action::LoseDecision,
            ["decision", "is", "overwritten"] => Action::SpoilDecision,
            ["garbage", "is", "deleted"] => Action::ClearGarbage,
            ["order", "is", "deleted"] => Action::LoseOrder,
            ["order", "is", "put", "back"] => Action::PutOrderBack,
            ["decide", "by", "hand"] => Action::AskByHand,
            ["Commit", "lands"] => Action::LandDecision(Verdict::Commit),
            ["Rollback", "lands"] => Action::LandDecision(Verdict::Rollback),
            ["next", "write", "errs", "on", name] => {
                self.next_write_errs[node_number(name)?] = true;
                return Ok(());
            }
            _ => return Err(format!("{what:?} is nothing that can happen; see the shipped scenarios")),
        };
        let restore = self.restore.clone();
        if restore.apply(&mut self.world, action) {
            Ok(())
        } else {
            Err(format!("{what:?} changes nothing\n{}", self.told))
        }
    }
}

fn node_number(name: &str) -> Result<usize, String> {
    let number = name.strip_prefix('m').and_then(|digits| digits.parse().ok());
    number.filter(|number| *number < NODES).ok_or_else(|| format!("{name:?} is no node: m0, m1, m2"))
}

fn clip(words: &str) -> String {
    words.chars().take(WIDTH - 2).collect()
}

fn words_of(next: &Next) -> String {
    match next {
        Next::Record(Record::Left { reason }) => format!("journal: Left ({reason})"),
        Next::Record(Record::Learned { verdict, from }) => format!("journal: Learned {verdict} from {from:?}"),
        Next::Record(Record::Attempted { verdict, reason }) => {
            format!("journal: Attempted {verdict} ({reason})")
        }
        Next::Record(Record::Ended { restore_id: _, outcome }) => format!("journal: Ended, {outcome:?}"),
        Next::Record(record) => {
            let name = format!("{record:?}");
            format!("journal: {}", name.split([' ', '{']).next().unwrap_or_default())
        }
        Next::Carry(effect) => effect.to_string(),
        Next::Propose { verdict, reason: _ } => format!("writes decision {verdict}"),
        Next::Wait(Wait::Doubt) => "IN DOUBT: the store does not answer".to_owned(),
        Next::Wait(wait) => wait.to_string(),
        Next::Rest(outcome) => format!("done: {outcome:?}"),
    }
}
