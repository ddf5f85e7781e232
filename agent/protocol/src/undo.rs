//! Rollback, decided or by itself: the old data back in place byte for byte, everything started, nothing left over. Pure;
//! needs no store.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Outcome;

use crate::next::{Effect, Next, Wait};
use crate::observed::{Observed, Side, Staging};
use crate::prepare;
use crate::quiet;
use crate::whole;

/// Puts everything back.
pub(crate) fn put_back(seen: &Observed<'_>) -> Next {
    let host = &seen.host;
    if !host.placed.is(Side::Old) {
        let back = quiet::missing(host).or_else(|| prepare::place(host.placed, Side::Old));
        return back.unwrap_or(Next::Wait(Wait::Contradiction));
    }
    // A node that never stopped anything has nothing to start.
    let was_stopped = seen.journal.quiesced_at.is_some();
    if was_stopped && !whole::is_whole(host) {
        return whole::start_everything(host);
    }
    match host.staging {
        Staging::Partial | Staging::Proven => Next::Carry(Effect::DiscardStaging),
        Staging::Absent => {
            Next::Record(Record::Ended { restore_id: seen.terms.restore_id.clone(), outcome: Outcome::RolledBack })
        }
    }
}
