//! Barriers: which members have not shown yet what all must show. Pure.
//!
//! A later mark counts for an earlier one: a node that is Prepared was Staged, whatever became of that mark.

use lifeboat_crds::mark::{Outcome, ServedFacts, Verdict};

use crate::observed::{Freshness, Marks};
use crate::seat::{Seat, Seats};

fn missing(marks: &[Marks], members: usize, shown: fn(&Marks) -> bool) -> Seats {
    let there = |seat: Seat| marks.get(usize::from(seat.0)).is_some_and(shown);
    (0..members).filter_map(|seat| u8::try_from(seat).ok().map(Seat)).filter(|seat| !there(*seat)).collect()
}

fn was_prepared(marks: &Marks) -> bool {
    marks.prepared || marks.served.is_some() || marks.verified
}

/// Members that were not seen Staged, or were, but not lately.
pub(crate) fn not_staged(marks: &[Marks], members: usize) -> Seats {
    missing(marks, members, |marks| marks.staged == Some(Freshness::Fresh) || was_prepared(marks))
}

/// Whether the node that takes the safety backup is through with it. Nobody stops anything before, so a member that
/// stopped proves it too.
pub(crate) fn is_safe(marks: &[Marks]) -> bool {
    marks.iter().any(|marks| marks.safety || was_prepared(marks))
}

/// Members that were not seen Prepared.
pub(crate) fn not_prepared(marks: &[Marks], members: usize) -> Seats {
    missing(marks, members, was_prepared)
}

/// Members that were not seen serving.
pub(crate) fn not_served(marks: &[Marks], members: usize) -> Seats {
    missing(marks, members, |marks| marks.served.is_some())
}

/// Members that were not seen Verified.
pub(crate) fn not_verified(marks: &[Marks], members: usize) -> Seats {
    missing(marks, members, |marks| marks.verified)
}

/// Whether every member that serves, serves the same as this node.
pub(crate) fn all_equal(marks: &[Marks], own: ServedFacts) -> bool {
    marks.iter().filter_map(|marks| marks.served).all(|facts| facts == own)
}

/// This node's own marks.
pub(crate) fn own(marks: &[Marks], seat: Seat) -> Marks {
    marks.get(usize::from(seat.0)).copied().unwrap_or_default()
}

/// What the marks say was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing.
    Nothing,
    /// This.
    One(Verdict),
    /// Both; no member that keeps to the protocol wrote that.
    Both,
}

/// What the marks say was decided. A member that ended was certain; one that had learnt it only may have learnt another
/// since.
pub(crate) fn told(marks: &[Marks]) -> Told {
    let says = |shown: fn(&Marks) -> Option<Verdict>| {
        let has = |verdict| marks.iter().any(|marks| shown(marks) == Some(verdict));
        match (has(Verdict::Commit), has(Verdict::Rollback)) {
            (false, false) => Told::Nothing,
            (true, false) => Told::One(Verdict::Commit),
            (false, true) => Told::One(Verdict::Rollback),
            (true, true) => Told::Both,
        }
    };
    match says(|marks| marks.ended.map(Outcome::verdict)) {
        Told::Nothing => says(|marks| marks.learned),
        told @ (Told::One(_) | Told::Both) => told,
    }
}

/// Whether a member ended by this decision.
pub(crate) fn has_ended_by(marks: &[Marks], verdict: Verdict) -> bool {
    marks.iter().any(|marks| marks.ended == Some(verdict.outcome()))
}

/// Whether a member gave up. It was not Verified then and never will be, so no Commit can exist.
pub(crate) fn has_left(marks: &[Marks]) -> bool {
    marks.iter().any(|marks| marks.left)
}
