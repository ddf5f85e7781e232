//! Steps 7 to 10 after Commit: Hold, Release, Settle, Complete. Forward only; whatever fails is tried again. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Outcome;

use crate::next::{Effect, Next, Wait};
use crate::observed::{Etcd, Observed, Side};
use crate::quiet;
use crate::serve;

/// Starts everything on the new data and says that it is done.
pub(crate) fn release(seen: &Observed<'_>) -> Next {
    let journal = seen.journal;
    if journal.settled {
        return Next::Record(Record::Ended { restore_id: seen.terms.restore_id.clone(), outcome: Outcome::Committed });
    }
    // Kept until the end, also by an executor that was started again.
    if !seen.host.locks.old && seen.host.etcd == Etcd::Full {
        return Next::Carry(Effect::LockOld);
    }
    if journal.released {
        return settle(seen);
    }
    if !seen.host.placed.is(Side::New) {
        return Next::Wait(Wait::Contradiction);
    }
    if seen.terms.hold_before_release && !journal.release_granted {
        return hold(seen);
    }
    if seen.host.control_plane && seen.host.etcd == Etcd::Full {
        Next::Record(Record::Released)
    } else {
        Next::Carry(Effect::StartAll)
    }
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

fn settle(seen: &Observed<'_>) -> Next {
    if seen.terms.restart_kubelet && !seen.host.kubelet_restarted {
        Next::Carry(Effect::RestartKubelet)
    } else {
        Next::Record(Record::Settled)
    }
}
