//! Steps 5 and 6, Serve and Verify: the new etcd runs alone, and all members compare what they hold. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Reason, ServedFacts};

use crate::barrier;
use crate::decided;
use crate::next::{Clients, Effect, Next, Wait};
use crate::observed::{Etcd, Observed};
use crate::quiet;
use crate::stage::wait_for_store;
use crate::terms::Terms;

/// Starts etcd alone, shows what it holds, compares with all others.
pub(crate) fn serve(seen: &Observed<'_>) -> Next {
    if let Some(next) = run_alone(seen) {
        return next;
    }
    let Some(facts) = seen.host.served else { return Next::Wait(Wait::Etcd) };
    if !is_restored(seen.terms, facts) || seen.journal.served.is_some_and(|before| before != facts) {
        return Next::Record(Record::Left { reason: Reason::MembersDiffer });
    }
    if seen.journal.served.is_none() {
        return Next::Record(Record::Served { facts });
    }
    compare(seen, facts)
}

fn compare(seen: &Observed<'_>, facts: ServedFacts) -> Next {
    let Some(reading) = decided::undecided(seen) else { return wait_for_store(seen) };
    if !barrier::all_equal(reading.marks, facts) {
        return Next::Record(Record::Left { reason: Reason::MembersDiffer });
    }
    let missing = barrier::not_served(reading.marks, seen.terms.members);
    if !missing.is_empty() {
        return Next::Wait(Wait::Served(missing));
    }
    if seen.host.tidy { Next::Record(Record::IntendVerified) } else { Next::Carry(Effect::Tidy) }
}

/// A new cluster whose revisions lie above everything ever served. `bumpTo` itself lies above it, and is the revision that
/// an untouched restored member answers with.
fn is_restored(terms: &Terms, facts: ServedFacts) -> bool {
    facts.cluster_id != terms.old_cluster_id && facts.revision >= terms.bump_to
}

/// What is to be done for etcd to run alone on the new data; `None` when it does.
///
/// It is started only after reading that nothing is decided: after a reboot the others may be back on the old data.
pub(crate) fn run_alone(seen: &Observed<'_>) -> Option<Next> {
    match seen.host.etcd {
        Etcd::Alone => quiet::missing_beside_new(&seen.host),
        Etcd::Stopped | Etcd::Full => Some(quiet::missing(&seen.host).unwrap_or_else(|| start_alone(seen))),
    }
}

fn start_alone(seen: &Observed<'_>) -> Next {
    match decided::undecided(seen) {
        Some(_) => Next::Carry(Effect::StartAlone { clients: clients(seen.terms) }),
        None => wait_for_store(seen),
    }
}

/// Who may reach undecided data.
pub(crate) const fn clients(terms: &Terms) -> Clients {
    if terms.loopback_api_servers { Clients::Configured } else { Clients::Loopback }
}
