//! A restore of all masters, as far as this one is concerned: what `lifeboat-executor` asks for, done to kubeadm's static pods.
//!
//! `machine` sees and does; the other rooms each know one part of a master. Deciding is the protocol's.

pub mod alone;
pub mod machine;
pub mod pods;
pub mod processes;
pub mod services;
pub mod staging;
pub mod trees;
