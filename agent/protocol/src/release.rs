//! Steps 7 to 10 after Commit: Hold, Release, Settle, Complete. Forward only; whatever fails is tried again. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Outcome;

use crate::next::{Effect, Next, Wait};
use crate::observed::{Etcd, Observed, Side};
use crate::quiet;
use crate::serve;
use crate::whole;

/// Starts everything on the new data and says that it is done.
pub(crate) fn release(seen: &Observed<'_>) -> Next {
    let (journal, host) = (seen.journal, &seen.host);
    // Kept until the end, also by an executor that was started again.
    if let Some(next) = quiet::old_is_free(host).filter(|_| host.etcd == Etcd::Full) {
        return next;
    }
    if journal.released {
        return complete(seen);
    }
    if !host.placed.is(Side::New) {
        return Next::Wait(Wait::Contradiction);
    }
    if seen.terms.hold_before_release && !journal.release_granted {
        return hold(seen);
    }
    if whole::is_whole(host) { Next::Record(Record::Released) } else { whole::start_everything(host) }
}

/// The user restores volumes now: etcd answers here, no API server runs.
fn hold(seen: &Observed<'_>) -> Next {
    if seen.wishes.release {
        return Next::Record(Record::ReleaseGranted);
    }
    match seen.host.etcd {
        Etcd::Alone => quiet::missing_beside_new(&seen.host).unwrap_or(Next::Wait(Wait::Release)),
        Etcd::Stopped | Etcd::Full => quiet::missing(&seen.host)
            .unwrap_or(Next::Carry(Effect::StartAlone { clients: serve::clients(seen.terms) })),
    }
}

/// Everything ran once. What stops now is started by the kubelet, unless something holds it.
fn complete(seen: &Observed<'_>) -> Next {
    if !seen.journal.settled {
        let restarts = seen.terms.restart_kubelet && !seen.host.kubelet_restarted;
        return if restarts { Next::Carry(Effect::RestartKubelet) } else { Next::Record(Record::Settled) };
    }
    if whole::is_whole(&seen.host) {
        Next::Record(Record::Ended { restore_id: seen.terms.restore_id.clone(), outcome: Outcome::Committed })
    } else if seen.host.held {
        whole::start_everything(&seen.host)
    } else {
        Next::Wait(Wait::Whole)
    }
}
