//! This node's own etcd member: how it is reached, what it says of itself, its snapshot as a stream.
//!
//! Reads only: nothing here writes a key, disarms, compacts or defragments. Every call has a deadline, because etcd
//! itself has none.

pub mod client;
pub mod error;
pub mod facts;
pub mod hash_kv;
mod raw;
pub mod snapshot;
pub mod status;

#[cfg(test)]
pub mod server;
