//! The decision by hand: what a human may conclude from the journals when the store does not come back. Pure.
//!
//! The journals must stand still while the human looks: a node whose journal was read and that then writes a Commit would
//! be told Rollback. So a node first *surrenders* its journal, durably, and attempts nothing from then on; only a
//! surrendered journal is evidence that something was not attempted.

use lifeboat_crds::mark::{Outcome, Verdict};

use crate::ledger::{Attempts, Ledger};
use crate::seat::{Seat, Seats};

/// What all journals together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// This, on every node.
    Obey(Verdict),
    /// Journals are missing: bring them, or the store.
    Missing(Seats),
    /// These may still write a decision: `lifeboat restore decide --surrender` there first.
    NotSurrendered(Seats),
    /// Both decisions were attempted, and either may have landed: only the store can tell. Tell every node to resume.
    Unknowable,
}

/// Judges the journals of all members, by seat; `None` for one that is not at hand.
pub fn judge(journals: &[Option<Ledger>]) -> Judgement {
    if let Some(verdict) = journals.iter().flatten().find_map(proven) {
        return Judgement::Obey(verdict);
    }
    let missing = seats(journals, |journal| journal.is_none());
    if !missing.is_empty() {
        return Judgement::Missing(missing);
    }
    let moving = seats(journals, |journal| journal.is_some_and(|journal| !journal.surrendered));
    if !moving.is_empty() {
        return Judgement::NotSurrendered(moving);
    }
    let attempted = |verdict| journals.iter().flatten().any(|journal| journal.attempted.of(verdict));
    match (Attempts { commit: attempted(Verdict::Commit), rollback: attempted(Verdict::Rollback) }) {
        Attempts { commit: false, rollback: _ } => Judgement::Obey(Verdict::Rollback),
        Attempts { commit: true, rollback: false } => Judgement::Obey(Verdict::Commit),
        Attempts { commit: true, rollback: true } => Judgement::Unknowable,
    }
}

/// What one journal proves by itself.
fn proven(journal: &Ledger) -> Option<Verdict> {
    let learned = journal.learned.map(|(verdict, _)| verdict);
    let ended = journal.ended.map(|outcome| match outcome {
        Outcome::Committed => Verdict::Commit,
        Outcome::RolledBack => Verdict::Rollback,
    });
    // It was never Verified, so nobody can ever have seen all Verified.
    let left = journal.left.map(|_| Verdict::Rollback);
    learned.or(ended).or(left)
}

fn seats(journals: &[Option<Ledger>], holds: fn(&Option<Ledger>) -> bool) -> Seats {
    let numbered = journals.iter().zip(0..);
    numbered.filter(|(journal, _)| holds(journal)).map(|(_, seat)| Seat(seat)).collect()
}
