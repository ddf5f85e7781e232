//! The DaemonSet's process: watches what is assigned to its node, has it carried out, and says how it goes.
//!
//! Decides nothing about backups; the operator does. Writes `status.execution` of work assigned to this node and the
//! facts of its own EtcdMember.

mod assigned;
pub mod config;
mod heartbeat;
mod member;
mod metrics;
mod readiness;
pub mod run;
mod watch;
pub mod worker;
