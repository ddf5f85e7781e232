//! Step 3, Quiesce: from here on the API is away. Pure.

use lifeboat_crds::journal::Record;

use crate::next::{Next, Wait};
use crate::observed::Observed;
use crate::quiet;

/// Stops everything, then says durably which directories are about to be exchanged.
pub(crate) fn stop(seen: &Observed<'_>) -> Next {
    if let Some(next) = quiet::missing(&seen.host) {
        return next;
    }
    match seen.host.inodes {
        Some(inodes) => Next::Record(Record::IntendPrepared { inodes }),
        // Old or new data vanished under the locks.
        None => Next::Wait(Wait::Contradiction),
    }
}
