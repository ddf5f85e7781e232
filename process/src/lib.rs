//! What operator and agent share as processes of a cluster: logs, probes and metrics over HTTP, the connection to the
//! API server, signals, and the words of API errors.
//!
//! Knows nothing of backups: no kind, no decision, no etcd, no object store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api_error;
pub mod connection;
pub mod health;
pub mod logging;
pub mod signals;
pub mod version;
