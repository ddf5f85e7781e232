//! Restores one node's etcd data from a file: proves the file, stages the new data beside the old, exchanges the two.
//!
//! Every byte needed afterwards is on this disk and proven before anything is touched; the intention is written down
//! before the exchange; a kill at any instruction leaves the old data or the new, and the next run goes on. Blocking
//! I/O; deciding (`order`, `decision`) is pure. Speaks to no network: what must be stopped is proven by locks and `/proc`.

pub mod decision;
pub mod error;
pub mod exchange;
pub mod identity;
pub mod layout;
pub mod order;
pub mod outcome;
pub mod perform;
pub mod proof;
pub mod stage;
pub mod standstill;
