//! From IntendVerified until the decision is learnt: a Commit may exist, so this node neither goes back nor forward by
//! itself. It keeps its new etcd running, for those who may have read Commit. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Verdict;

use crate::barrier;
use crate::decided;
use crate::early;
use crate::next::{Next, Wait};
use crate::observed::{DecisionSeen, Observed, Reading, Store};
use crate::serve;

/// Learns the decision, or has one made.
pub(crate) fn await_decision(seen: &Observed<'_>) -> Next {
    if let Some(decision) = decided::known(seen) {
        return decided::learn(decision);
    }
    if let Some(next) = decided::hand_over(seen) {
        return next;
    }
    match wanted(seen) {
        Some(verdict) => attempt(seen, verdict),
        None => serve::run_alone(seen).map_or_else(|| Next::Wait(reason_to_wait(seen)), in_doubt),
    }
}

/// Where etcd cannot be started for want of the store, doubt is what the human must hear of.
fn in_doubt(next: Next) -> Next {
    match next {
        Next::Wait(Wait::Store) => Next::Wait(Wait::Doubt),
        Next::Wait(_) | Next::Record(_) | Next::Carry(_) | Next::Propose(_) | Next::Rest(_) => next,
    }
}

/// The decision that this node would write now. A journal that a human holds must not change under their hands, so a
/// surrendered node writes none.
fn wanted(seen: &Observed<'_>) -> Option<Verdict> {
    let reading = decided::undecided(seen)?;
    if seen.journal.surrendered {
        return None;
    }
    let all_verified = barrier::not_verified(reading.marks, seen.terms.members).is_empty();
    let failed = seen.failure.is_some_and(|failure| failure.permanent);
    let back = seen.wishes.cancel
        || barrier::has_left(reading.marks)
        || seen.lost_answers
        || failed
        // One mind per node: flipping would leave both attempts in the journal, which no human could judge.
        || seen.journal.attempted.rollback
        || (early::is_late(seen) && !all_verified);
    if back { Some(Verdict::Rollback) } else { all_verified.then_some(Verdict::Commit) }
}

/// The attempt goes into the journal before the store hears of it: a write that errs may have landed.
fn attempt(seen: &Observed<'_>, verdict: Verdict) -> Next {
    if seen.journal.attempted.of(verdict) {
        Next::Propose(verdict)
    } else {
        Next::Record(Record::Attempted { verdict })
    }
}

fn reason_to_wait(seen: &Observed<'_>) -> Wait {
    match seen.store {
        Store::Silent if seen.journal.surrendered => Wait::Hand,
        Store::Silent => Wait::Doubt,
        Store::Answers(Reading { order: _, decision: DecisionSeen::Forged, marks: _ }) => Wait::ForgedDecision,
        Store::Answers(reading) => match decided::undecided(seen) {
            None => Wait::Order,
            Some(_) if seen.journal.surrendered => Wait::Hand,
            Some(_) => Wait::Verified(barrier::not_verified(reading.marks, seen.terms.members)),
        },
    }
}
