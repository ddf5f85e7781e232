//! Lifeboat on the process tier: a real control plane with operator and agents at work, for tests and the demo.
//!
//! Starts the testbed, installs the chart's CRDs, RBAC and policies, and runs operator and agents with the chart's
//! ServiceAccounts, so that a missing right is seen at once. All I/O; no knowledge of how Lifeboat decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

pub mod bucket;
pub mod cluster;
pub mod command_line;
pub mod fill;
pub mod kstatus;
pub mod manifests;
pub mod masters;
pub mod pages;
pub mod restores;
pub mod runs;
pub mod schema;
pub mod stock_tools;
pub mod wait;
