//! The operator of Lifeboat: controllers that observe, have it decided (`lifeboat-decisions`), and apply.
//!
//! Talks to the Kubernetes API only, in its own namespace: never to the object store, never to etcd, and it holds no
//! credentials. A library only so that its parts can be tested; the program is `lifeboat-operator`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api_error;
pub mod apply;
pub mod assignments;
pub mod config;
pub mod freshness;
pub mod health;
pub mod kind;
pub mod leadership;
pub mod lease;
pub mod liveness;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod mock;
pub mod object_metrics;
pub mod readiness;
pub mod stores;
