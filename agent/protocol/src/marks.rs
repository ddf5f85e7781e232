//! Marks: what this node should be showing. Pure.
//!
//! A mark is written only after the journal or the disk holds what it claims, and never taken back; a decision that was
//! learnt and not yet carried out may be replaced by the one in the store.

use lifeboat_crds::mark::Claim;

use crate::barrier;
use crate::observed::{Marks, Observed, Side, Staging, Store};

/// The first mark that is due and not in the store; else the one whose counter tells that this node lives.
pub(crate) fn due(seen: &Observed<'_>) -> Option<Claim> {
    let own = match seen.store {
        Store::Answers(reading) => barrier::own(reading.marks, seen.terms.seat),
        Store::Silent => return None,
    };
    let journal = seen.journal;
    let left = journal.left.filter(|_| !own.left).map(|reason| Claim::Left { reason });
    match (journal.ended, journal.learned) {
        (Some(outcome), _) if own.ended != Some(outcome) => Some(Claim::Ended { outcome }),
        (Some(_), _) => left,
        (None, Some((verdict, _))) => (own.learned != Some(verdict)).then_some(Claim::Learned { verdict }),
        (None, None) if journal.left.is_some() => left,
        (None, None) => under_way(seen, own),
    }
}

fn under_way(seen: &Observed<'_>, own: Marks) -> Option<Claim> {
    let journal = seen.journal;
    let is_prepared = journal.inodes.is_some() && seen.host.placed.is(Side::New);
    let is_staged = journal.staged && seen.host.staging == Staging::Proven;
    let served = journal.served.map(|facts| Claim::Served { facts });
    let due = [
        (is_staged && own.staged.is_none()).then_some(Claim::Staged),
        journal.safety.filter(|_| !own.safety).map(|taken| Claim::Safety { taken }),
        (is_prepared && !own.prepared).then_some(Claim::Prepared),
        served.filter(|_| own.served.is_none()),
        (journal.in_doubt && !own.verified).then_some(Claim::Verified),
    ];
    let renewed = (is_staged && !is_prepared).then_some(Claim::Staged);
    due.into_iter().flatten().next().or(renewed)
}
