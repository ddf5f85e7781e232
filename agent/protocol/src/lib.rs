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

use lifeboat_crds::mark::Verdict;

pub use ledger::{Ledger, Phase};
pub use next::{Decision, Effect, Next, Wait};
pub use observed::Observed;
pub use seat::{Seat, Seats};
pub use terms::Terms;

/// What this node does next.
pub fn decide(seen: &Observed<'_>) -> Decision {
    let next = match seen.journal.phase() {
        Phase::Staging => early::leave_or(seen, stage::stage),
        Phase::Gathering => early::leave_or(seen, stage::gather),
        Phase::Stopping => early::leave_or(seen, quiesce::stop),
        Phase::Exchanging => early::leave_or(seen, prepare::exchange),
        Phase::Serving => early::leave_or(seen, serve::serve),
        Phase::InDoubt => doubt::await_decision(seen),
        Phase::Leaving | Phase::Obeying(Verdict::Rollback) => undo::put_back(seen),
        Phase::Obeying(Verdict::Commit) => release::release(seen),
        Phase::Over(outcome) => over::finish(seen, outcome),
    };
    Decision { next, mark: marks::due(seen) }
}

#[cfg(test)]
mod tests;
