//! Quiet: nothing runs, nothing can come back, both data are locked, nobody else has them open. Established before every
//! exchange and before every start of etcd, however often the executor died in between. Pure.

use crate::next::{Effect, Next};
use crate::observed::{Etcd, Host, Locks};

/// What is still to be done for it to be quiet; `None` when it is.
///
/// The hold goes first: a crash after it leaves a node that starts nothing by itself, a crash before it leaves one that
/// runs as it did. The API server goes before etcd, so that nobody writes what nobody will keep.
pub(crate) fn missing(host: &Host) -> Option<Next> {
    let Host { control_plane, etcd, held, locks, strangers, .. } = *host;
    let runs = match etcd {
        Etcd::Stopped => false,
        Etcd::Alone | Etcd::Full => true,
    };
    let steps = [
        (!held, Effect::Hold),
        (control_plane, Effect::StopControlPlane),
        (runs, Effect::StopEtcd),
        // One that waits for a lock would run the old data with the new WAL as soon as it got it (measured).
        (strangers, Effect::EndStrangers),
        (locks != Locks { old: true, new: true }, Effect::TakeLocks),
    ];
    steps.into_iter().find_map(|(missing, effect)| missing.then_some(Next::Carry(effect)))
}

/// The same while the new etcd runs alone: the old data stays locked, also by an executor that was started again.
pub(crate) fn missing_beside_new(host: &Host) -> Option<Next> {
    let steps = [
        (host.control_plane, Effect::StopControlPlane),
        (host.strangers, Effect::EndStrangers),
        (!host.locks.old, Effect::LockOld),
    ];
    steps.into_iter().find_map(|(missing, effect)| missing.then_some(Next::Carry(effect)))
}
