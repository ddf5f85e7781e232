//! After the end: what the others may still need from this node. Pure.

use crate::barrier;
use crate::decided;
use crate::next::{Next, Wait};
use crate::observed::{DecisionSeen, Observed, OrderSeen, Store};
use lifeboat_crds::mark::Outcome;

/// Sees to it that the store says how it ended: the decision, and this node's marks. Only when both were read back is
/// nothing owed any more.
///
/// `Learned` and `Left` stand in the journal already, so no `Attempted` is needed before the write: a human who reads this
/// journal finds the same verdict in it.
pub(crate) fn finish(seen: &Observed<'_>, outcome: Outcome) -> Next {
    let Store::Answers(reading) = seen.store else { return Next::Wait(Wait::Owes) };
    let own = barrier::own(reading.marks, seen.terms.seat);
    let shown = own.ended == Some(outcome) && (seen.journal.left.is_none() || own.left);
    match (reading.order, reading.decision) {
        (_, DecisionSeen::Made(verdict)) if verdict != outcome.verdict() => Next::Wait(Wait::Contradiction),
        (_, DecisionSeen::Made(_)) if shown => Next::Rest(outcome),
        (_, DecisionSeen::Made(_)) => Next::Wait(Wait::Owes),
        (_, DecisionSeen::Forged) => Next::Wait(Wait::ForgedDecision),
        (OrderSeen::Sealed, DecisionSeen::Absent) if seen.refused => Next::Wait(Wait::Owes),
        (OrderSeen::Sealed, DecisionSeen::Absent) => decided::repeat(seen.journal, outcome.verdict()),
        (OrderSeen::Missing | OrderSeen::Other, DecisionSeen::Absent) => Next::Wait(Wait::Order),
    }
}
