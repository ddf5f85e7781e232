//! Before IntendVerified: a node that is not Verified knows that no Commit can exist, so it may give up by itself, with
//! or without the store. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Reason, Verdict};
use lifeboat_crds::order::OrderedSafety;

use crate::barrier;
use crate::decided::{self, Known};
use crate::ledger::Phase;
use crate::next::{Effect, Next, Wait};
use crate::observed::{Failure, Observed, Store};

/// The step, unless there is a decision to learn or a reason to leave.
pub(crate) fn leave_or(seen: &Observed<'_>, step: fn(&Observed<'_>) -> Next) -> Next {
    match decided::known(seen) {
        Known::Decided(Verdict::Rollback, from) => return decided::learn(Verdict::Rollback, from),
        // A Commit needs this node's own mark Verified, which it never wrote.
        Known::Decided(Verdict::Commit, _) | Known::Contradicts => return Next::Wait(Wait::Contradiction),
        Known::Nothing => {}
    }
    if let Some(next) = decided::hand_over(seen) {
        return next;
    }
    match reason_to_leave(seen) {
        Some(reason) => Next::Record(Record::Left { reason }),
        None => step(seen),
    }
}

fn reason_to_leave(seen: &Observed<'_>) -> Option<Reason> {
    let peer_left = match seen.store {
        Store::Answers(reading) => barrier::has_left(reading.marks),
        Store::Silent => false,
    };
    let reasons = [
        (seen.wishes.cancel, Reason::Cancelled),
        (peer_left, Reason::PeerLeft),
        (seen.lost_answers, Reason::LostMemberAnswers),
        (has_failed(seen), Reason::StepFailed),
        (is_late(seen), Reason::DeadlineExceeded),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

fn has_failed(seen: &Observed<'_>) -> bool {
    let Some(Failure { effect, permanent }) = seen.failure else { return false };
    // A safety backup of best effort may fail; `stage::gather` says so and goes on.
    let may_fail = effect == Effect::TakeSafetyBackup && seen.terms.safety == Some(OrderedSafety::BestEffort);
    permanent && !may_fail
}

/// Whether the deadline of the present step is over, in elapsed time.
pub(crate) fn is_late(seen: &Observed<'_>) -> bool {
    let since_stop = seen.journal.quiesced_at.map_or(seen.elapsed, |at| seen.elapsed.saturating_sub(at));
    match seen.journal.phase() {
        Phase::Staging | Phase::Gathering => seen.elapsed > seen.terms.stage,
        Phase::Stopping | Phase::Exchanging => since_stop > seen.terms.prepare.min(seen.terms.outage),
        Phase::Serving | Phase::InDoubt => since_stop > seen.terms.outage,
        Phase::Leaving | Phase::Obeying(_) | Phase::Over(_) => false,
    }
}
