//! Whether members hold the same keys as the snapshot: judges what they answered. Pure.
//!
//! Hashes are compared only where revision and compact revision are equal. That two members differ is said only where
//! their own answers do, and only after it was seen twice: the word divergence makes people rebuild members.

use std::collections::BTreeMap;

use lifeboat_crds::{Reason, TaskError};
use lifeboat_snapshot::HashKvError;

use crate::etcd::hash_kv::{HashAnswer, HashError, HashPair};

/// Rounds of questions at most.
pub const MOST_ROUNDS: usize = 3;
/// Other members that must agree, where there are so many.
pub const WANTED: usize = 2;
/// Times that a difference must be seen.
const SEEN: usize = 2;

/// What a member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its name.
    pub member: String,
    /// Its answer, or why there is none.
    pub answer: Result<HashAnswer, HashError>,
}

/// One round of questions and what the snapshot says to each pair that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The member that was read, if it was asked.
    pub read: Option<Said>,
    /// Others that were asked.
    pub others: Vec<Said>,
    /// Hashes of the snapshot.
    pub computed: BTreeMap<HashPair, Result<u32, HashKvError>>,
}

/// What came of all rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The snapshot and as many other members as were wanted hold the same.
    Agreed {
        /// Which members.
        others: Vec<String>,
    },
    /// It is not known.
    NotCompared(TaskError),
    /// Members differ from each other.
    Diverged {
        /// Up to which revision.
        revision: i64,
        /// Which members, by what they hash.
        members: BTreeMap<String, u32>,
    },
    /// The snapshot is not what the member that was read holds.
    StreamDiffers {
        /// That member.
        member: String,
    },
}

/// What one round says.
enum Finding {
    Agreed { others: Vec<String> },
    NotCompared(TaskError),
    Diverged { revision: i64, members: BTreeMap<String, u32> },
    StreamDiffers { member: String },
}

/// Rounds so far.
#[derive(Debug, Default)]
pub struct Comparison {
    rounds: usize,
    diverged: usize,
    stream_differs: usize,
}

impl Comparison {
    /// Takes a round into account; nothing while another one is wanted. `others` is how many other members there are.
    pub fn judge(&mut self, round: &Round, others: usize) -> Option<Verdict> {
        self.rounds += 1;
        let is_last = self.rounds >= MOST_ROUNDS;
        match find(round, others) {
            Finding::Agreed { others } => Some(Verdict::Agreed { others }),
            Finding::NotCompared(why) => is_last.then_some(Verdict::NotCompared(why)),
            Finding::Diverged { revision, members } => {
                self.diverged += 1;
                if self.diverged >= SEEN {
                    return Some(Verdict::Diverged { revision, members });
                }
                let words = format!("{} differed once and could not be compared again", names(&members));
                is_last.then(|| Verdict::NotCompared(TaskError::new(Reason::CompactionMoved, words)))
            }
            Finding::StreamDiffers { member } => {
                self.stream_differs += 1;
                if self.stream_differs >= SEEN {
                    return Some(Verdict::StreamDiffers { member });
                }
                let words = format!("the snapshot differed once from what {member} holds");
                is_last.then(|| Verdict::NotCompared(TaskError::new(Reason::CompactionMoved, words)))
            }
        }
    }
}

/// Whether nobody else need be asked: enough members hold what the snapshot holds, and none that was asked differs.
pub fn is_agreed(round: &Round, others: usize) -> bool {
    match find(round, others) {
        Finding::Agreed { .. } => true,
        Finding::NotCompared(_) | Finding::Diverged { .. } | Finding::StreamDiffers { .. } => false,
    }
}

/// Members with their hashes, for people.
pub fn names(members: &BTreeMap<String, u32>) -> String {
    let named: Vec<String> = members.iter().map(|(name, hash)| format!("{name} ({hash:08x})")).collect();
    named.join(", ")
}

fn find(round: &Round, others: usize) -> Finding {
    let Round { read, others: answered, computed } = round;
    let said = |said: &Said| said.answer.clone().ok().map(|answer| (said.member.clone(), answer));
    let theirs: Vec<(String, HashAnswer)> = answered.iter().filter_map(said).collect();
    let own = read.as_ref().and_then(said);
    // Where no key is alive, members that agree may answer differently: nothing can be said.
    let undetermined = |why: &Result<u32, HashKvError>| match why {
        Err(why @ HashKvError::NothingAlive { .. }) => Some(why.to_string()),
        Ok(_) | Err(_) => None,
    };
    if let Some(words) = computed.values().find_map(undetermined) {
        return Finding::NotCompared(TaskError::new(Reason::CompactionMoved, words));
    }
    if let Some((revision, members)) = difference(own.iter().chain(&theirs)) {
        return Finding::Diverged { revision, members };
    }
    let ours = |answer: &HashAnswer| computed.get(&answer.pair).and_then(|computed| computed.as_ref().ok());
    if let Some((member, answer)) = &own
        && ours(answer).is_some_and(|ours| *ours != answer.hash)
    {
        return Finding::StreamDiffers { member: member.clone() };
    }
    let agreeing = theirs.iter().filter(|(_, answer)| ours(answer) == Some(&answer.hash));
    let agreeing: Vec<String> = agreeing.map(|(member, _)| member.clone()).collect();
    if others > 0 && agreeing.len() >= others.min(WANTED) {
        return Finding::Agreed { others: agreeing };
    }
    Finding::NotCompared(shortfall(round, others, agreeing.len()))
}

/// Members whose answers to one pair are not the same, all that answered to it.
fn difference<'a>(answers: impl Iterator<Item = &'a (String, HashAnswer)>) -> Option<(i64, BTreeMap<String, u32>)> {
    let mut pairs: BTreeMap<HashPair, BTreeMap<String, u32>> = BTreeMap::new();
    for (member, HashAnswer { pair, hash }) in answers {
        pairs.entry(*pair).or_default().insert(member.clone(), *hash);
    }
    let differ = |members: &BTreeMap<String, u32>| members.values().any(|hash| Some(hash) != members.values().next());
    pairs.into_iter().find(|(_, members)| differ(members)).map(|(pair, members)| (pair.revision, members))
}

/// Why too few agree.
fn shortfall(round: &Round, others: usize, agreeing: usize) -> TaskError {
    let Round { read, others: answered, computed } = round;
    let mut words = vec![format!("{agreeing} of {} other members could be compared", others.min(WANTED))];
    let mut is_silent = false;
    for Said { member, answer } in read.iter().chain(answered) {
        match answer {
            Ok(HashAnswer { pair, hash: _ }) => {
                if let Some(Err(why)) = computed.get(pair) {
                    words.push(format!("{member}: {why}"));
                }
            }
            Err(why) => {
                is_silent |= match why {
                    HashError::Another(_) | HashError::Etcd(_) => true,
                    HashError::Compacted(_) | HashError::Behind(_) => false,
                };
                words.push(format!("{member}: {why}"));
            }
        }
    }
    let reason = if is_silent { Reason::NoHealthyMember } else { Reason::CompactionMoved };
    TaskError::new(reason, words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::error::EtcdError;

    const HERE: HashPair = HashPair { revision: 100, compact_revision: 40 };
    const LATER: HashPair = HashPair { revision: 100, compact_revision: 90 };

    fn said(member: &str, pair: HashPair, hash: u32) -> Said {
        Said { member: member.into(), answer: Ok(HashAnswer { pair, hash }) }
    }

    fn silent(member: &str) -> Said {
        let error = EtcdError::NoLeader { url: "https://m".into() };
        Said { member: member.into(), answer: Err(error.into()) }
    }

    /// The snapshot hashes to 7 wherever it is asked.
    fn round(read: Said, others: &[Said]) -> Round {
        Round { read: Some(read), others: others.to_vec(), computed: BTreeMap::from([(HERE, Ok(7)), (LATER, Ok(7))]) }
    }

    fn verdict(rounds: &[Round], others: usize) -> Option<Verdict> {
        let mut comparison = Comparison::default();
        rounds.iter().find_map(|round| comparison.judge(round, others))
    }

    fn agreed(others: &[&str]) -> Option<Verdict> {
        Some(Verdict::Agreed { others: others.iter().map(ToString::to_string).collect() })
    }

    fn reason(verdict: Option<Verdict>) -> String {
        let Some(Verdict::NotCompared(error)) = verdict else { panic!("{verdict:?}") };
        error.reason
    }

    #[test]
    fn two_others_that_hash_the_same_are_agreement_also_at_other_compactions() {
        let all = round(said("a", HERE, 7), &[said("b", HERE, 7), said("c", LATER, 7)]);
        assert_eq!(verdict(&[all], 2), agreed(&["b", "c"]));
        let without_read = round(silent("a"), &[said("b", HERE, 7), said("c", HERE, 7)]);
        assert_eq!(verdict(std::slice::from_ref(&without_read), 2), agreed(&["b", "c"]));
        assert_eq!(verdict(&[Round { read: None, ..without_read }], 2), agreed(&["b", "c"]));
        let of_two = round(said("a", HERE, 7), &[said("b", HERE, 7)]);
        assert_eq!(verdict(std::slice::from_ref(&of_two), 1), agreed(&["b"]));
        assert_eq!(verdict(&[of_two], 2), None, "one of two is too few");
    }

    #[test]
    fn divergence_is_said_only_of_answers_to_one_pair_and_the_second_time() {
        let differ = round(said("a", HERE, 7), &[said("b", HERE, 8), said("c", HERE, 7)]);
        let agree = round(said("a", HERE, 7), &[said("b", HERE, 7), said("c", HERE, 7)]);
        assert_eq!(verdict(std::slice::from_ref(&differ), 2), None);
        assert_eq!(verdict(&[differ.clone(), agree], 2), agreed(&["b", "c"]));
        let members = BTreeMap::from([("a".into(), 7), ("b".into(), 8), ("c".into(), 7)]);
        let diverged = Some(Verdict::Diverged { revision: 100, members });
        assert_eq!(verdict(&[differ.clone(), differ.clone()], 2), diverged);
        let apart = round(said("a", HERE, 7), &[said("b", LATER, 8), said("c", HERE, 7)]);
        assert_eq!(reason(verdict(&[apart.clone(), apart.clone(), apart.clone()], 2)), "CompactionMoved");
        assert_eq!(reason(verdict(&[apart.clone(), differ, apart], 2)), "CompactionMoved");
    }

    #[test]
    fn a_stream_that_is_not_what_its_member_holds_is_told_the_second_time() {
        let wrong = round(said("a", HERE, 8), &[said("b", HERE, 8), said("c", HERE, 8)]);
        assert_eq!(verdict(std::slice::from_ref(&wrong), 2), None);
        assert_eq!(verdict(&[wrong.clone(), wrong], 2), Some(Verdict::StreamDiffers { member: "a".into() }));
    }

    #[test]
    fn silence_and_compaction_are_told_apart_after_three_rounds() {
        let away = round(said("a", HERE, 7), &[said("b", HERE, 7), silent("c")]);
        assert_eq!(verdict(&[away.clone(), away.clone()], 2), None);
        assert_eq!(reason(verdict(&[away.clone(), away.clone(), away], 2)), "NoHealthyMember");
        let gone = Said { member: "b".into(), answer: Err(HashError::Compacted(100)) };
        let gone = round(said("a", HERE, 7), &[gone, said("c", HERE, 7)]);
        assert_eq!(reason(verdict(&[gone.clone(), gone.clone(), gone], 2)), "CompactionMoved");
    }

    #[test]
    fn nothing_is_said_where_no_key_is_alive() {
        let mut empty = round(said("a", HERE, 7), &[said("b", HERE, 8), said("c", HERE, 9)]);
        empty.computed.insert(HERE, Err(HashKvError::NothingAlive { revision: 100 }));
        assert_eq!(reason(verdict(&[empty.clone(), empty.clone(), empty], 2)), "CompactionMoved");
    }
}
