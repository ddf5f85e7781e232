//! Quiet: nothing runs, nothing can come back, the data is locked, nobody else has it open. Established before every
//! exchange and before every start, however often the executor died in between. Pure.

use crate::next::{Effect, Next};
use crate::observed::{ControlPlane, Etcd, Host, Locks, Staging};

/// What is still to be done for it to be quiet; `None` when it is.
///
/// The hold goes first: a crash after it leaves a node that starts nothing by itself, a crash before it leaves one that
/// runs as it did. The API server goes before etcd, so that nobody writes what nobody will keep. Strangers go before the
/// locks: one that waits for a lock would run the old data with the new WAL as soon as it got it (measured).
pub(crate) fn missing(host: &Host) -> Option<Next> {
    let runs = match host.etcd {
        Etcd::Stopped => false,
        Etcd::Alone | Etcd::Full => true,
    };
    let Locks { old, new } = host.locks;
    let has_new = host.staging != Staging::Absent;
    first(&[
        (!host.held, Effect::Hold),
        (host.control_plane != ControlPlane::None, Effect::StopControlPlane),
        (runs, Effect::StopEtcd),
        (host.strangers, Effect::EndStrangers),
        (!old || (has_new && !new), Effect::TakeLocks),
    ])
}

/// The same while the new etcd runs alone: no API server, nothing that could start one, the old data kept.
pub(crate) fn missing_beside_new(host: &Host) -> Option<Next> {
    let apart = [(!host.held, Effect::Hold), (host.control_plane != ControlPlane::None, Effect::StopControlPlane)];
    first(&apart).or_else(|| old_is_free(host))
}

/// The old data stays locked while etcd runs on the new, also by an executor that was started again: while it was dead
/// anybody could take the lock, and would keep it.
pub(crate) fn old_is_free(host: &Host) -> Option<Next> {
    first(&[(host.strangers, Effect::EndStrangers), (!host.locks.old, Effect::LockOld)])
}

fn first(steps: &[(bool, Effect)]) -> Option<Next> {
    steps.iter().find_map(|(missing, effect)| missing.then_some(Next::Carry(*effect)))
}
