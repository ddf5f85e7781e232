//! Faults, counted by kind.

use super::cluster::World;

/// Kinds of faults that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node goes down, or its executor is killed, in the middle of an effect too.
    Crash,
    /// The store goes away, for one or all.
    Away,
    /// A write errs and lands later.
    LateWrite,
    /// A write is refused.
    Refuse,
    /// Somebody cancels.
    Cancel,
    /// Somebody decides by hand.
    Hand,
    /// A lost master is turned on.
    PowerOn,
    /// A process waits for the lock of the old data.
    Stray,
    /// The same object is applied again.
    Reapply,
    /// An effect fails, once or for good.
    Fail,
    /// The store loses one object, or somebody deletes or overwrites it.
    Loss,
    /// An API server comes up by itself, or the hold goes.
    Meddle,
    /// A node's data volume is replaced.
    NewDisk,
}

/// How many kinds there are.
pub const FAULTS: usize = 13;

impl World {
    pub fn left(&self, fault: Fault) -> bool {
        self.budget[fault as usize] > 0
    }

    pub fn spend(&mut self, fault: Fault) -> bool {
        let left = &mut self.budget[fault as usize];
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}
