//! The decision by hand: what a human may conclude from the journals when the store does not come back. Pure.
//!
//! The journals must stand still while the human looks: a node whose journal was read and that then writes a Commit would
//! be told Rollback. So a node first *surrenders* its journal, durably, and attempts nothing from then on; only a
//! surrendered journal is evidence that something was not attempted. It is given back only where the journals prove that
//! nobody can know: attempts are never taken back, so every later judgement comes to the same, also one by somebody else
//! who still holds older copies. A judgement by two humans at once is one judgement, for the journals stand still.

use lifeboat_crds::mark::{Outcome, Verdict};

use crate::ledger::Ledger;
use crate::seat::{Seat, Seats};

/// What a human brings to a node. Only [`judge`] and an authentic decision make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub(crate) Said);

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    /// This was decided, and here is the proof.
    Proven(Verdict),
    /// Nothing else can have been decided, as all the journals say together.
    Judged(Verdict),
    /// Either may have been decided: go on with the store.
    Resume,
}

impl Word {
    /// The word of an authentic `decision.json`, copied from another node or from the bucket.
    pub const fn decision(verdict: Verdict) -> Self {
        Self(Said::Proven(verdict))
    }

    /// What to obey; `None` to go on with the store.
    pub const fn verdict(self) -> Option<Verdict> {
        match self.0 {
            Said::Proven(verdict) | Said::Judged(verdict) => Some(verdict),
            Said::Resume => None,
        }
    }
}

/// What all journals together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// This, to every node. Where both decisions were attempted it tells them to go on with the store.
    Tell(Word),
    /// Journals are missing: bring them, or the store.
    Missing(Seats),
    /// These may still write a decision: `lifeboat restore decide --surrender` there first.
    NotSurrendered(Seats),
    /// One journal proves Commit, another Rollback. No node that keeps to the protocol wrote that: compare the journals
    /// with docs/restore-protocol.md, Damage, before anything is started.
    Contradiction,
}

/// Judges the journals of all members, by seat; `None` for one that is not at hand.
pub fn judge(journals: &[Option<Ledger>]) -> Judgement {
    let proves = |verdict| journals.iter().flatten().any(|journal| proven(journal) == Some(verdict));
    match (proves(Verdict::Commit), proves(Verdict::Rollback)) {
        (true, true) => return Judgement::Contradiction,
        (true, false) => return Judgement::Tell(Word(Said::Proven(Verdict::Commit))),
        (false, true) => return Judgement::Tell(Word(Said::Proven(Verdict::Rollback))),
        (false, false) => {}
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
    Judgement::Tell(Word(match (attempted(Verdict::Commit), attempted(Verdict::Rollback)) {
        (false, _) => Said::Judged(Verdict::Rollback),
        (true, false) => Said::Judged(Verdict::Commit),
        (true, true) => Said::Resume,
    }))
}

/// What one journal proves by itself.
fn proven(journal: &Ledger) -> Option<Verdict> {
    let learned = journal.learned.map(|(verdict, _)| verdict);
    // It was never Verified, so nobody can ever have seen all Verified.
    let left = journal.left.map(|_| Verdict::Rollback);
    journal.ended.map(Outcome::verdict).or(learned).or(left)
}

fn seats(journals: &[Option<Ledger>], holds: fn(&Option<Ledger>) -> bool) -> Seats {
    let numbered = journals.iter().zip(0..);
    numbered.filter(|(journal, _)| holds(journal)).map(|(_, seat)| Seat(seat)).collect()
}
