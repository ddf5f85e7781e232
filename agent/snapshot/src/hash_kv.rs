//! HashKV: the hash that etcd servers give of their keys, computed from a snapshot, to compare the two.
//!
//! The server (mvcc/hash.go, the same rule from 3.5.16 to 3.7) takes crc32c over `key`, then over key and value of the
//! entries of bucket `key` up to revision R, in order. Of those up to its compact revision C it takes only what
//! `Keep(R)` holds: the newest entry of each user key at R, if that is no tombstone; and no tombstone at C itself. Hence
//! the answer depends on the member's C, which moves every few minutes under Kubernetes, and on what is newest, which
//! is known only once everything has passed.
//!
//! Design. An entry leaves 24 bytes in an index ([`Index`]) as its page streams by: main revision, fingerprint of the
//! user key, crc32c of key and value, length. crc32c of a concatenation follows from crcs and lengths, so no byte of
//! the snapshot is needed again, for any pair of R and C, whatever the members answer with — also for a C that a member
//! reached only after the snapshot, as compaction drops nothing that Keep(R) holds. The index goes to a [`Scratch`] that
//! the caller bounds, in memory or in a file. To compute, the index is read from the newest entry back; the set of user
//! keys seen is split so that it keeps within [`SEEN_BYTES`], and one bit an entry says what is kept.
//!
//! Pure but for the scratch, which the caller gives.

mod combine;
mod compute;
mod index;
mod scratch;

pub use compute::{HashKv, SEEN_BYTES};
pub(crate) use index::{Index, Runs};
pub use scratch::{MemoryScratch, Scratch};

/// Why a hash cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashKvError {
    /// The snapshot no longer holds what the asked pair covers.
    #[error(
        "the snapshot was compacted at revision {floor}: it cannot tell what a member with compact revision {compact_revision} hashes"
    )]
    Compacted {
        /// Revision up to which the snapshot's compaction was begun.
        floor: i64,
        /// The one asked for.
        compact_revision: i64,
    },
    /// The pair makes no sense: a server refuses a revision below its compaction.
    #[error("revision {revision} lies below compact revision {compact_revision}")]
    BelowCompaction {
        /// The revision asked for.
        revision: i64,
        /// The compact revision asked for.
        compact_revision: i64,
    },
    /// The revision is newer than the snapshot.
    #[error("revision {revision} is newer than the snapshot, which ends at {newest}")]
    Future {
        /// The revision asked for.
        revision: i64,
        /// The newest of the snapshot.
        newest: i64,
    },
    /// No key is alive at the revision.
    ///
    /// Then a server hashes whatever lies below its compaction (`len(keep) > 0` in mvcc/hash.go): the answer depends on
    /// how far the compaction has come and on whether it comes from the cache, and servers that agree may differ.
    #[error("no key is alive at revision {revision}: servers answer by the progress of their compaction")]
    NothingAlive {
        /// The revision asked for.
        revision: i64,
    },
    /// The pages were not verified, so nothing is known of their order.
    #[error("the content was not verified: {reason}")]
    Unverified {
        /// Why.
        reason: &'static str,
    },
    /// The index could not be kept or read.
    #[error("index of HashKV: {0}")]
    Scratch(String),
}
