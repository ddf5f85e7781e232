//! Humans who decide by hand: each goes from node to node, collects journals, judges, and tells.

use lifeboat_crds::journal::Record;
use lifeboat_protocol::hand::{self, Judgement, Word};
use lifeboat_protocol::ledger::Ledger;

use super::action::Action;
use super::broken::Broken;
use super::cluster::World;
use super::fault::Fault;
use super::model::Restore;
use super::setting::NODES;

/// A human with journals in hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hand {
    pub journals: [Option<Ledger>; NODES],
    pub word: Option<Word>,
    /// Nodes that were told it.
    pub told: [bool; NODES],
}

/// The word to go on with the store, which only journals with both attempts make.
fn resume() -> Option<Word> {
    use lifeboat_crds::mark::{Reason, Verdict};
    let attempts =
        [Verdict::Commit, Verdict::Rollback].map(|verdict| Record::Attempted { verdict, reason: Reason::Cancelled });
    let ledger = attempts.iter().fold(Ledger { surrendered: true, ..Ledger::default() }, |ledger, record| {
        ledger.with(record, Default::default())
    });
    match hand::judge(&[Some(ledger)]) {
        Judgement::Tell(word) => Some(word),
        _ => None,
    }
}

fn proves(ledger: &Ledger) -> bool {
    ledger.learned.is_some() || ledger.left.is_some() || ledger.ended.is_some()
}

impl Restore {
    pub fn by_humans(&self, world: &World, actions: &mut Vec<Action>) {
        for (human, hand) in world.hands.iter().zip(0_u8..).map(|(hand, human)| (human, hand)) {
            for node in 0..self.setting.members as u8 {
                actions.extend(if hand.word.is_some() {
                    vec![Action::TellWord { human, node }]
                } else {
                    vec![Action::Ask { human, node }, Action::Testify { human, node }]
                });
            }
            if hand.word.is_none() {
                actions.push(Action::Judge(human));
                if self.is(Broken::ResumesAtWill) {
                    actions.push(Action::GiveBack(human));
                }
            }
        }
    }

    /// A human sits down with empty hands.
    pub fn ask_by_hand(world: &mut World) -> bool {
        world.hands.push(Hand::default());
        world.spend(Fault::Hand)
    }

    /// That the journal is wanted.
    pub fn ask(&self, world: &mut World, human: u8, index: usize) -> bool {
        let wants = world.hands.get(usize::from(human)).is_some_and(|hand| hand.word.is_none());
        let node = &mut world.nodes[index];
        let was_told = node.word.and_then(Word::verdict).is_some();
        let asks =
            wants && !was_told && node.is_awake() && !node.asked && !node.ledger.surrendered && !proves(&node.ledger);
        if asks && !self.is(Broken::HandWithoutSurrender) {
            node.asked = true;
            node.word = None;
            return true;
        }
        false
    }

    /// The human copies a journal that stands still or proves; on the disk of a machine that is off, after surrendering it
    /// there.
    pub fn testify(&self, world: &mut World, human: u8, index: usize) -> bool {
        let moves = self.is(Broken::HandWithoutSurrender);
        let node = &mut world.nodes[index];
        let Some(hand) = world.hands.get_mut(usize::from(human)) else { return false };
        if hand.journals[index].is_some() || node.sealed.is_none() || hand.word.is_some() {
            return false;
        }
        if !node.up && !proves(&node.ledger) {
            node.ledger.surrendered = true;
        }
        let mut ledger = node.ledger;
        ledger.surrendered |= moves;
        let counts = ledger.surrendered || proves(&ledger);
        if counts {
            hand.journals[index] = Some(ledger);
        }
        counts
    }

    pub fn judge(&self, world: &mut World, human: u8) -> bool {
        let Some(hand) = world.hands.get_mut(usize::from(human)).filter(|hand| hand.word.is_none()) else {
            return false;
        };
        let journals = &mut hand.journals[..self.setting.members];
        if self.is(Broken::NoNodeKnows) {
            // "If no node knows a decision, there is none."
            journals.iter_mut().flatten().for_each(|journal| journal.attempted = Default::default());
        }
        hand.word = match hand::judge(journals) {
            Judgement::Tell(word) => Some(word),
            Judgement::Missing(_) | Judgement::NotSurrendered(_) | Judgement::Contradiction => None,
        };
        hand.word.is_some()
    }

    /// Tells the nodes to go on, whatever the journals say.
    pub fn give_back(world: &mut World, human: u8) -> bool {
        let Some(hand) = world.hands.get_mut(usize::from(human)) else { return false };
        hand.word = resume();
        true
    }

    pub fn tell_word(world: &mut World, human: u8, index: usize) -> bool {
        let word = world.hands.get(usize::from(human)).and_then(|hand| hand.word);
        let node = &mut world.nodes[index];
        // Resuming is a moment; what is to be obeyed stays said.
        let is_news = match word.map(Word::verdict) {
            Some(None) => node.ledger.surrendered && node.word != word,
            Some(verdict) => node.word.and_then(Word::verdict) != verdict,
            None => false,
        };
        let was_told = world.hands.get(usize::from(human)).is_none_or(|hand| hand.told[index]);
        let tells = is_news && !was_told && node.is_awake() && !proves(&node.ledger);
        if tells {
            node.word = word;
            node.asked = false;
            world.hands[usize::from(human)].told[index] = true;
        }
        tells
    }

    /// A surrendered journal stands still: when it is read makes no difference.
    pub fn due_testimony(&self, world: &World) -> Option<Action> {
        if self.is(Broken::HandWithoutSurrender) || self.is(Broken::ResumesAtWill) {
            return None;
        }
        let hands = world.hands.iter().zip(0_u8..).filter(|(hand, _)| hand.word.is_none());
        let due = hands.flat_map(|(hand, human)| {
            let is_due = |index: &usize| hand.journals[*index].is_none() && world.nodes[*index].ledger.surrendered;
            (0..self.setting.members).filter(is_due).map(move |index| Action::Testify { human, node: index as u8 })
        });
        due.into_iter().next()
    }

    /// Whether somebody handed a journal over and never got it back: that node waits for who took it.
    pub fn waits_for_a_human(&self, world: &World) -> bool {
        let waits = |node: &super::node::Node| node.ledger.surrendered && !proves(&node.ledger);
        world.nodes[..self.setting.members].iter().any(waits) && NODES >= self.setting.members
    }
}
