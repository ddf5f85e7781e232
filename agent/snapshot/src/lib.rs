//! The snapshot format of etcd, checked while it streams: SHA-256 trailer, bbolt pages, contentHash, facts.
//!
//! Pure: bytes in, [`Facts`] or a [`SnapshotError`] out. No path, no runtime, no trust in any byte: offsets and counts
//! are bounded before they are used, and memory does not grow with what a file claims.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bucket;
mod candidate;
mod content_hash;
mod error;
mod facts;
mod hash_kv;
mod keys;
mod page;
mod record;
mod revision;
mod trailer;
mod verifier;
mod wal_head;
mod walk;

pub use content_hash::ContentHash;
pub use error::SnapshotError;
pub use facts::{Content, Database, Facts, SnapshotMember};
pub use hash_kv::{HashKv, HashKvError, MemoryScratch, SEEN_BYTES, Scratch};
pub use keys::{KeyVersion, KeysError, visit_keys};
pub use verifier::{Level, Options, Verifier, verify_reader};
pub use wal_head::{WAL_HEAD_BYTES, WalHead, parse_wal_head};
