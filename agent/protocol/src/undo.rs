//! Rollback, decided or by itself: the old data back in place byte for byte, everything started, nothing left over. Pure;
//! needs no store.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Outcome;

use crate::next::{Effect, Next};
use crate::observed::{Etcd, Observed, Side, Staging};
use crate::prepare;
use crate::quiet;

/// Puts everything back.
pub(crate) fn put_back(seen: &Observed<'_>) -> Next {
    if !seen.host.placed.is(Side::Old) {
        return quiet::missing(&seen.host)
            .or_else(|| prepare::place(seen.host.placed, Side::Old))
            .unwrap_or(Next::Carry(Effect::StartAll));
    }
    // A node that never stopped anything has nothing to start.
    let was_stopped = seen.journal.quiesced_at.is_some();
    if was_stopped && !(seen.host.control_plane && seen.host.etcd == Etcd::Full) {
        return Next::Carry(Effect::StartAll);
    }
    match seen.host.staging {
        Staging::Partial | Staging::Proven => Next::Carry(Effect::DiscardStaging),
        Staging::Absent => {
            Next::Record(Record::Ended { restore_id: seen.terms.restore_id.clone(), outcome: Outcome::RolledBack })
        }
    }
}
