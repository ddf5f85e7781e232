//! The master this agent runs on: what its files say, who it is, and the few files of our own on its disk.
//!
//! Deciding (`discovery`, `arguments`, `static_pod`) is pure; `files` reads. Only `crashsafe` writes, so that every
//! file we leave on a host is whole or absent. Nothing here speaks to etcd, to Kubernetes or to the object store.

pub mod arguments;
pub mod certificate;
pub mod child;
pub mod crash_point;
pub mod crashsafe;
pub mod discovery;
pub mod enter;
pub mod files;
pub mod fingerprint;
pub mod highest_revision;
pub mod identity;
pub mod keys;
pub mod last_comparison;
pub mod lock;
pub mod open_files;
pub mod space;
pub mod static_pod;
pub mod stop_flag;
pub mod tools;
