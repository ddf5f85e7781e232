//! The imagined world around the shipped `decide`: hosts, a store, humans, faults, and what counts as a breach.

pub mod action;
pub mod apply;
pub mod breach;
pub mod broken;
pub mod calm;
pub mod check;
pub mod cluster;
pub mod draft;
pub mod executor;
pub mod explore;
pub mod fault;
pub mod fold;
pub mod host;
pub mod human;
pub mod lost;
pub mod model;
pub mod node;
pub mod order;
pub mod reduction;
pub mod setting;
pub mod store;
pub mod walk;
