//! What becomes of masters that take no part: the guard, and joining again.

use lifeboat_protocol::guard::{Guard, HoldReason};
use lifeboat_protocol::observed::{ControlPlane, Etcd, Lies, Placed, Side};

use super::broken::Broken;
use super::cluster::World;
use super::model::Restore;

impl Restore {
    pub fn obey_guard(&self, world: &mut World, index: usize) -> bool {
        let guard = match world.guard(&self.setting, index) {
            Guard::Hold(HoldReason::LostUndecided) if self.is(Broken::GuardIgnoresUndecided) => Guard::Start,
            guard => guard,
        };
        let runs = world.nodes[index].host.control_plane != ControlPlane::None;
        match guard {
            Guard::Start if !runs => world.start_everything(&self.setting, index),
            Guard::Hold(_) if runs => {
                world.nodes[index].host.control_plane = ControlPlane::None;
                world.nodes[index].host.etcd = Etcd::Stopped;
            }
            Guard::Start | Guard::Hold(_) => return false,
        }
        true
    }

    /// A sleeper is re-initialised by the second machine, as soon as the restored cluster serves.
    pub fn rejoin(&self, world: &mut World, index: usize) -> bool {
        let is_sleeper = world.guard(&self.setting, index) == Guard::Hold(HoldReason::Sleeper);
        if !is_sleeper || world.running(Side::New) <= self.setting.members / 2 {
            return false;
        }
        let node = &mut world.nodes[index];
        node.rejoined = true;
        node.host.placed = Placed { member: Lies::New, wal: node.host.placed.wal.map(|_| Lies::New) };
        true
    }
}
