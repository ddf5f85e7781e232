//! What can be wrong with a snapshot, in words for whoever has to decide at night.

/// A snapshot that is not whole, not a snapshot, or not sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Shorter than the smallest database etcd writes.
    #[error("the stream ended after {size} bytes: that is no etcd snapshot")]
    TooShort {
        /// Bytes seen.
        size: u64,
    },
    /// The length is that of a copied database file.
    #[error(
        "{size} bytes is the length of a database file without a checksum: a copied member/snap/db is no snapshot; take one with `lifeboat etcd backup` or `etcdctl snapshot save`"
    )]
    NoTrailer {
        /// Bytes seen.
        size: u64,
    },
    /// The length is neither that of a snapshot nor of a database.
    #[error("{size} bytes is no length of an etcd snapshot (a multiple of 512, and 32): it was cut off")]
    CutOff {
        /// Bytes seen.
        size: u64,
    },
    /// The SHA-256 at the end is not that of the bytes before.
    #[error("the SHA-256 at the end does not match the {size} bytes: the snapshot is damaged")]
    ChecksumMismatch {
        /// Bytes seen.
        size: u64,
    },
    /// Neither meta page is valid.
    #[error("not an etcd snapshot: no valid bbolt meta page")]
    NoMeta,
    /// The database has pages that the file has not.
    #[error("the database says it has {wanted} pages, the file has {found}: it was cut off")]
    PagesMissing {
        /// High-water mark of the meta page.
        wanted: u64,
        /// Whole pages in the file.
        found: u64,
    },
    /// A page that is in use is not what it must be.
    #[error("page {page} is damaged: {what}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A page is reached twice.
    #[error("page {page} is used twice")]
    UsedTwice {
        /// Its number.
        page: u64,
    },
    /// The tree is deeper than any that bbolt makes.
    #[error("page {page} lies deeper than {limit} levels: the tree is damaged")]
    TooDeep {
        /// Its number.
        page: u64,
        /// The bound.
        limit: usize,
    },
    /// A bucket that every etcd has is not there.
    #[error("the database has no bucket {name:?}: it is not etcd's")]
    BucketMissing {
        /// Its name.
        name: &'static str,
    },
    /// An entry of a bucket is not what etcd writes there.
    #[error("bucket {bucket:?}: {what}")]
    Entry {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        what: String,
    },
    /// The bytes could not be read.
    #[error("reading the snapshot: {0}")]
    Read(String),
}
