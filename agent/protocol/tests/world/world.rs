//! The imagined world around the shipped `decide`: hosts, a store, humans, faults, and what counts as a breach.

pub mod broken;
pub mod calm;
pub mod check;
pub mod cluster;
pub mod explore;
pub mod fold;
pub mod host;
pub mod human;
pub mod model;
pub mod reduction;
pub mod store;
pub mod walk;
