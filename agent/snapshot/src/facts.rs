//! What is known of a snapshot once it was checked.

use crate::content_hash::ContentHash;

/// A snapshot whose trailer is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Bytes, trailer included.
    pub size: u64,
    /// SHA-256 of the whole file, trailer included.
    pub file_sha256: [u8; 32],
    /// What the pages say, as far as they were read.
    pub content: Content,
}

/// Whether the pages were read and found sound.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Every page in use was checked.
    Verified(Box<Database>),
    /// The pages were not asked for, or could not be checked within the memory allowed: read the file again.
    Unverified {
        /// Why.
        reason: &'static str,
    },
}

/// A sound database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Database {
    /// Identity of what bucket `key` holds.
    pub content_hash: ContentHash,
    /// Identity of what all other buckets hold: leases, members, users, alarms, the place in the Raft log; it differs
    /// between members and from one commit to the next. The sum, as contentHash is one, over every bucket as an entry:
    /// its name, and as value the contentHash of its entries (u128 LE; 0 for bucket `key`) and its sequence (u64 LE).
    /// Nothing records it; it is how the tests of the verifier tell that it has seen every bit of these buckets.
    pub other_hash: ContentHash,
    /// Newest main revision in bucket `key`; at least that of the last compaction, finished or not, and 1.
    pub revision: i64,
    /// Revision up to which compaction has finished.
    pub compact_revision: i64,
    /// Revision up to which compaction was begun.
    pub scheduled_compact_revision: i64,
    /// Entries of bucket `key`, one a revision and key.
    pub revisions: u64,
    /// Entries of all buckets: TOTAL KEYS of `etcdutl snapshot status` of etcd 3.5; later ones count keys that are alive.
    pub total_keys: u64,
    /// Members as the store lists them.
    pub members: Vec<SnapshotMember>,
    /// Version of the storage format, from etcd 3.6 on.
    pub storage_version: Option<String>,
    /// Cluster version, such as `3.6.0`.
    pub cluster_version: Option<String>,
    /// Raft term at the last commit; 0 where it was not recorded.
    pub term: u64,
    /// Raft index that the database has applied.
    pub consistent_index: u64,
    /// Leases granted.
    pub leases: u64,
    /// Alarms raised.
    pub alarms: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages below the high-water mark.
    pub total_pages: u64,
    /// Pages that are reached from the root, overflow included.
    pub in_use_pages: u64,
}

/// A member as the store lists it.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct SnapshotMember {
    /// etcd's member id.
    pub id: u64,
    /// Its name; empty before its first start.
    #[serde(default)]
    pub name: String,
    /// Its peer URLs.
    #[serde(default, rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Its client URLs.
    #[serde(default, rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    #[serde(default, rename = "isLearner")]
    pub is_learner: bool,
}
