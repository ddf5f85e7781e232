//! After the end: what the others may still need from this node. Pure.

use lifeboat_crds::journal::Source;
use lifeboat_crds::mark::{Outcome, Verdict};

use crate::decided;
use crate::next::Next;
use crate::observed::Observed;

/// Writes the decision that this node ended by without the store, once the store is back.
///
/// `Left` and a decision learnt by hand stand in the journal already, so no `Attempted` is needed before the write: a human
/// who reads this journal finds the same verdict in it.
pub(crate) fn finish(seen: &Observed<'_>, outcome: Outcome) -> Next {
    let owed = match (seen.journal.learned, seen.journal.left) {
        (Some((verdict, Source::Hand)), _) => Some(verdict),
        (Some((_, Source::Store)), _) => None,
        (None, Some(_)) => Some(Verdict::Rollback),
        (None, None) => None,
    };
    match owed.filter(|_| decided::undecided(seen).is_some()) {
        Some(verdict) => Next::Propose(verdict),
        None => Next::Rest(outcome),
    }
}
