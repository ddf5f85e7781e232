//! Marks: what this node should be showing. Pure.
//!
//! A mark is written only after the journal or the disk holds what it claims, and never taken back.

use lifeboat_crds::mark::Claim;

use crate::observed::{Marks, Observed, Side, Staging, Store};

/// The first mark that is due and not in the store; else the one whose counter tells that this node lives.
pub(crate) fn due(seen: &Observed<'_>) -> Option<Claim> {
    let own = match seen.store {
        Store::Answers(reading) => reading.marks.get(usize::from(seen.terms.seat.0)).copied().unwrap_or_default(),
        Store::Silent => return None,
    };
    ended(seen, own).or_else(|| if seen.journal.ended.is_some() { None } else { under_way(seen, own) })
}

fn ended(seen: &Observed<'_>, own: Marks) -> Option<Claim> {
    let claim = seen.journal.ended.filter(|_| own.ended.is_none()).map(|outcome| Claim::Ended { outcome });
    claim.or((seen.journal.left.is_some() && !own.left).then_some(Claim::Left))
}

fn under_way(seen: &Observed<'_>, own: Marks) -> Option<Claim> {
    let journal = seen.journal;
    if journal.left.is_some() || journal.learned.is_some() {
        return None;
    }
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
