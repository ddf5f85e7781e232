//! The operator of Lifeboat: controllers that observe, have it decided (`lifeboat-decisions`), and apply.
//!
//! Talks to the Kubernetes API only, in its own namespace: never to the object store, never to etcd, and it holds no
//! credentials: it draws the signing key of the installation, and cannot read it again. A library only so that its parts can be tested; the program is `lifeboat-operator`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod apply;
mod assignments;
mod backup_index;
mod backups;
pub mod config;
mod controller;
mod events;
mod freshness;
mod health;
mod installation;
mod kind;
mod leadership;
mod lease;
mod liveness;
mod locations;
mod members;
mod metrics;
#[cfg(test)]
mod mock;
mod object_metrics;
mod observe;
mod readiness;
mod restores;
pub mod run;
#[cfg(test)]
mod scale_tests;
mod schedules;
mod stores;
