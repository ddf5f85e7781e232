//! Step 4, Prepare: the new data takes the old one's place; and the barrier before any of it is started. Pure.

use lifeboat_crds::journal::Record;

use crate::barrier;
use crate::decided;
use crate::next::{Effect, Next, Tree, Wait};
use crate::observed::{Lies, Observed, Placed, Side};
use crate::quiet;
use crate::stage::wait_for_store;

/// Exchanges old for new, and waits until all members have.
pub(crate) fn exchange(seen: &Observed<'_>) -> Next {
    if let Some(next) = quiet::missing(&seen.host).or_else(|| place(seen.host.placed, Side::New)) {
        return next;
    }
    let Some(reading) = decided::undecided(seen) else { return wait_for_store(seen) };
    let missing = barrier::not_prepared(reading.marks, seen.terms.members);
    if missing.is_empty() { Next::Record(Record::IntendServed) } else { Next::Wait(Wait::Prepared(missing)) }
}

/// The next exchange until everything in place is of `side`. Two directories are two exchanges; a crash between them
/// leaves a mixture, which nothing starts.
pub(crate) fn place(placed: Placed, side: Side) -> Option<Next> {
    let Placed { member, wal } = placed;
    let wanted = Lies::from(side);
    let tree = if member != wanted {
        Tree::Member
    } else if wal.is_some_and(|wal| wal != wanted) {
        Tree::Wal
    } else {
        return None;
    };
    Some(Next::Carry(Effect::Exchange { tree, to: side }))
}
