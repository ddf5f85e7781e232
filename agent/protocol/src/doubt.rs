//! From IntendVerified until the decision is learnt: a Commit may exist, so this node neither goes back nor forward by
//! itself. It keeps its new etcd running, for those who may have read Commit. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Reason, Verdict};

use crate::barrier;
use crate::decided::{self, Known};
use crate::early;
use crate::next::{Effect, Next, Wait};
use crate::observed::{DecisionSeen, Etcd, Observed, Reading, Store};
use crate::quiet;
use crate::serve;

/// Learns the decision, or has one made. This node's own safety goes before both: whatever the store does, no API server
/// runs beside undecided data and nobody gets at the old.
pub(crate) fn await_decision(seen: &Observed<'_>) -> Next {
    if let Some(next) = safety(seen) {
        return next;
    }
    match decided::known(seen) {
        Known::Decided(verdict, from) => return decided::learn(verdict, from),
        Known::Contradicts => return Next::Wait(Wait::Contradiction),
        Known::Nothing => {}
    }
    if let Some(next) = decided::hand_over(seen) {
        return next;
    }
    let start = serve::run_alone(seen).filter(may_be_done);
    // An etcd that cannot be started is a reason to decide, not to try for ever.
    let just_failed = seen.failure.is_some_and(|failure| matches!(failure.effect, Effect::StartAlone { clients: _ }));
    if let Some(next) = start.clone().filter(|_| !just_failed) {
        return next;
    }
    match wanted(seen).filter(|_| !seen.refused) {
        Some((verdict, reason)) => attempt(seen, verdict, reason),
        None => start.unwrap_or_else(|| Next::Wait(reason_to_wait(seen))),
    }
}

/// What is missing on this node for undecided data to be left to itself.
pub(crate) fn safety(seen: &Observed<'_>) -> Option<Next> {
    match seen.host.etcd {
        Etcd::Alone => quiet::missing_beside_new(&seen.host),
        Etcd::Stopped | Etcd::Full => quiet::missing(&seen.host),
    }
}

/// Where etcd cannot be started for want of the store, doubt is what the human must hear of.
fn may_be_done(next: &Next) -> bool {
    match next {
        Next::Record(_) | Next::Carry(_) | Next::Propose { verdict: _, reason: _ } | Next::Rest(_) => true,
        Next::Wait(_) => false,
    }
}

/// The decision that this node would write now. A journal that a human holds must not change under their hands, so a
/// surrendered node writes none.
fn wanted(seen: &Observed<'_>) -> Option<(Verdict, Reason)> {
    let reading = decided::undecided(seen)?;
    if seen.journal.surrendered {
        return None;
    }
    // One mind per node: flipping would leave both attempts in the journal, which no human could judge.
    if let Some(reason) = seen.journal.attempted.rollback {
        return Some((Verdict::Rollback, reason));
    }
    let all_verified = barrier::not_verified(reading.marks, seen.terms.members).is_empty();
    let reasons = [
        (seen.wishes.cancel, Reason::Cancelled),
        (barrier::has_left(reading.marks), Reason::PeerLeft),
        (seen.lost_answers, Reason::LostMemberAnswers),
        (seen.failure.is_some_and(|failure| failure.permanent), Reason::StepFailed),
        (early::is_late(seen) && !all_verified, Reason::DeadlineExceeded),
    ];
    match reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason)) {
        Some(reason) => Some((Verdict::Rollback, reason)),
        None => all_verified.then_some((Verdict::Commit, Reason::AllVerified)),
    }
}

/// The attempt goes into the journal before the store hears of it: a write that errs may have landed.
fn attempt(seen: &Observed<'_>, verdict: Verdict, reason: Reason) -> Next {
    if seen.journal.attempted.of(verdict) {
        Next::Propose { verdict, reason }
    } else {
        Next::Record(Record::Attempted { verdict, reason })
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
            Some(_) if seen.refused => Wait::Refused,
            Some(_) => Wait::Verified(barrier::not_verified(reading.marks, seen.terms.members)),
        },
    }
}
