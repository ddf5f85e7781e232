//! A whole node: everything runs as it was configured, and nothing holds it. A restore ends only there. Pure.

use crate::next::{Effect, Next};
use crate::observed::{ControlPlane, Etcd, Host, Side};
use crate::quiet;

/// Whether everything runs and nothing is held. A process that still drains is not one that was started.
pub(crate) const fn is_whole(host: &Host) -> bool {
    matches!((host.control_plane, host.etcd, host.held), (ControlPlane::All, Etcd::Full, false))
}

/// The next thing to do for everything to run on what lies in place. Nothing is started before it is quiet.
pub(crate) fn start_everything(host: &Host) -> Next {
    let is_new = host.placed.is(Side::New);
    let before = match host.etcd {
        Etcd::Alone if is_new => quiet::missing_beside_new(host),
        Etcd::Stopped | Etcd::Alone => quiet::missing(host),
        Etcd::Full if is_new => quiet::old_is_free(host),
        Etcd::Full => None,
    };
    before.unwrap_or(Next::Carry(Effect::StartAll))
}
