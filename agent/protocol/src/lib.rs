//! The restore protocol: what one member does next, decided from what it sees. The same machine on every member, no leader.
//!
//! Pure: no I/O, no clock, no memory but the journal. [`decide`] is total and answers with *one* durable thing at a time;
//! after it, everything is read again. So a crash before or after any effect is no special case. The tests explore this
//! very code with three nodes and every fault of docs/restore-protocol.md; it must never grow a switch for them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod barrier;
mod decided;
mod doubt;
mod early;
pub mod guard;
pub mod hand;
pub mod ledger;
mod marks;
pub mod member;
pub mod next;
pub mod observed;
mod over;
mod prepare;
mod quiesce;
mod quiet;
mod release;
pub mod seat;
mod serve;
mod stage;
pub mod start;
pub mod terms;
mod undo;
mod whole;

use std::time::Duration;

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Verdict;

use crate::observed::Side;

pub use ledger::{Ledger, Phase};
pub use next::{Decision, Effect, Next, Wait};
pub use observed::Observed;
pub use seat::{Seat, Seats};
pub use terms::Terms;

/// Longest time on this node that is not in its journal: what a deadline may grow by each time the executor dies.
pub const KEEP_TIME_EVERY: Duration = Duration::from_secs(10);

/// What this node does next.
pub fn decide(seen: &Observed<'_>) -> Decision {
    let next = if contradicts(seen) { Next::Wait(Wait::Contradiction) } else { step(seen) };
    Decision { next: keep_time(seen, next), mark: marks::due(seen) }
}

fn step(seen: &Observed<'_>) -> Next {
    match seen.journal.phase() {
        Phase::Staging => early::leave_or(seen, stage::stage),
        Phase::Gathering => early::leave_or(seen, stage::gather),
        Phase::Stopping => early::leave_or(seen, quiesce::stop),
        Phase::Exchanging => early::leave_or(seen, prepare::exchange),
        Phase::Serving => early::leave_or(seen, serve::serve),
        Phase::InDoubt => doubt::await_decision(seen),
        // One that was never Verified need not ask: no Commit can exist.
        Phase::Obeying(verdict) if seen.journal.in_doubt && !seen.journal.obeys => {
            doubt::safety(seen).unwrap_or_else(|| decided::confirm(seen, verdict))
        }
        Phase::Leaving | Phase::Obeying(Verdict::Rollback) => undo::put_back(seen),
        Phase::Obeying(Verdict::Commit) => release::release(seen),
        Phase::Over(outcome) => over::finish(seen, outcome),
    }
}

/// Whether the disk is not what the journal says: somebody moved directories, or attached another volume.
fn contradicts(seen: &Observed<'_>) -> bool {
    let (journal, host) = (seen.journal, &seen.host);
    if journal.inodes.is_none() || journal.ended.is_some() {
        return false;
    }
    let is_old = host.placed_cluster.map(|cluster| cluster == seen.terms.old_cluster_id);
    let confirmed = match is_old {
        Some(true) => !host.placed.is(Side::New),
        Some(false) => !host.placed.is(Side::Old),
        None => true,
    };
    let undecided = journal.learned.is_none() && journal.left.is_none();
    let is_missing = journal.serving && undecided && !host.placed.is(Side::New);
    !host.placed.is_known() || !confirmed || is_missing
}

/// Deadlines run on time kept in the journal, so an executor that is killed again and again does not begin them anew. One
/// that has passed need not be kept.
fn keep_time(seen: &Observed<'_>, next: Next) -> Next {
    let runs = match seen.journal.phase() {
        Phase::Staging | Phase::Gathering | Phase::Stopping | Phase::Exchanging | Phase::Serving | Phase::InDoubt => {
            true
        }
        Phase::Leaving | Phase::Obeying(_) | Phase::Over(_) => false,
    };
    let is_due = runs && !early::is_late(seen) && seen.elapsed.saturating_sub(seen.journal.elapsed) >= KEEP_TIME_EVERY;
    match next {
        Next::Carry(_) | Next::Propose { verdict: _, reason: _ } | Next::Wait(_) if is_due => {
            Next::Record(Record::Waited)
        }
        Next::Carry(_) | Next::Propose { verdict: _, reason: _ } | Next::Wait(_) | Next::Record(_) | Next::Rest(_) => {
            next
        }
    }
}

#[cfg(test)]
mod tests;
