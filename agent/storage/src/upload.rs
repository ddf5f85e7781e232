//! Uploads in parts: parts go up concurrently and in any order, and only `complete` makes an object of them. The checks
//! that all backends share live here: parts must tile the object, and its checksum follows from theirs. No I/O.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::store::{Checksum, ObjectMeta};

/// Highest part number of S3.
pub(crate) const MAX_PARTS: u32 = 10_000;

/// One piece of an object.
#[derive(Debug, Clone)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// Where its first byte stands in the object. Parts may grow on the way, so the number alone does not tell.
    pub offset: u64,
    /// Its bytes; on S3 at least 5 MiB except for the last part. Cheap to clone, so a retry costs no copy.
    pub body: Bytes,
}

/// Proof that a part is with the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// As in [`Part::number`].
    pub number: u32,
    /// As in [`Part::offset`].
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// CRC32 of the bytes as they left this process.
    pub crc32: u32,
    pub(crate) etag: String,
}

/// An upload that was begun by somebody and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUpload {
    /// The object it would become.
    pub key: ObjectKey,
    /// The store's name for the upload.
    pub upload_id: String,
    /// When it was begun, by the store's clock.
    pub initiated: Option<Timestamp>,
}

/// An upload in progress. Dropping it leaves its parts with the store; they are found by
/// [`crate::ObjectStore::list_uploads`].
#[async_trait]
pub trait Upload: Send + Sync + Debug {
    /// The store's name for this upload, to abort it from elsewhere.
    fn pending(&self) -> PendingUpload;

    /// Sends one part; may be called concurrently, and again for the same number (the last one counts).
    async fn put_part(&self, part: Part) -> Result<PartReceipt, StoreError>;

    /// Makes the object of all its parts, which must tile it from its first byte to its last, and reads size and
    /// checksum back. Safe to repeat after [`StoreError::Unavailable`]: an object that is already there with this very
    /// content is a success.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the parts do not tile the object or the store keeps something else than was sent;
    /// [`StoreError::AlreadyExists`] where the backend sees that the key is taken.
    async fn complete(&self, parts: Vec<PartReceipt>) -> Result<ObjectMeta, StoreError>;

    /// Throws all parts away; succeeds if that was done before.
    async fn abort(&self) -> Result<(), StoreError>;
}

/// The whole that a list of parts makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    /// In order of their numbers.
    pub parts: Vec<PartReceipt>,
    /// Length of the object.
    pub size: u64,
    /// CRC32 of the object.
    pub crc32: u32,
    /// CRC32 over the parts' CRC32s.
    pub composite: u32,
}

impl Whole {
    /// Whether a checksum the store returned is the one of what was sent.
    pub(crate) fn matches(&self, checksum: &Checksum) -> bool {
        match checksum {
            Checksum::Crc32(crc32) => *crc32 == self.crc32,
            Checksum::Crc32Composite { crc32, parts } => {
                *crc32 == self.composite && usize::try_from(*parts).is_ok_and(|n| n == self.parts.len())
            }
        }
    }

    /// Compares what the store says it has with what was sent; words if they differ.
    pub(crate) fn check(&self, meta: &ObjectMeta) -> Result<(), String> {
        if meta.size != self.size {
            return Err(format!("the store has {} bytes, {} were sent", meta.size, self.size));
        }
        match &meta.checksum {
            Some(checksum) if !self.matches(checksum) => Err(format!(
                "the store has checksum {checksum:?}, sent were CRC32 {:08x} and composite {:08x} of {} parts",
                self.crc32,
                self.composite,
                self.parts.len()
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// Puts receipts in order and checks that they tile one object; words if they do not.
pub(crate) fn plan_whole(mut parts: Vec<PartReceipt>) -> Result<Whole, String> {
    parts.sort_by_key(|part| part.number);
    if parts.is_empty() {
        return Err("an upload needs at least one part".to_owned());
    }
    let mut size = 0_u64;
    let mut whole = crc32fast::Hasher::new();
    let mut composite = crc32fast::Hasher::new();
    let mut last_number = 0;
    for part in &parts {
        if part.number <= last_number || part.number > MAX_PARTS {
            return Err(format!("part number {} is used twice or is not within 1 to {MAX_PARTS}", part.number));
        }
        if part.offset != size {
            return Err(format!("part {} starts at byte {}, expected {size}", part.number, part.offset));
        }
        last_number = part.number;
        size += part.size;
        whole.combine(&crc32fast::Hasher::new_with_initial_len(part.crc32, part.size));
        composite.update(&part.crc32.to_be_bytes());
    }
    Ok(Whole { parts, size, crc32: whole.finalize(), composite: composite.finalize() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn receipt(number: u32, offset: u64, bytes: &[u8]) -> PartReceipt {
        PartReceipt {
            number,
            offset,
            size: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
            etag: format!("\"{number}\""),
        }
    }

    #[test]
    fn the_checksum_of_the_whole_follows_from_its_parts() {
        let whole = plan_whole(vec![receipt(2, 5, b", mast"), receipt(1, 0, b"hello"), receipt(3, 11, b"er")]).unwrap();
        assert_eq!(whole.size, 13);
        assert_eq!(whole.crc32, crc32fast::hash(b"hello, master"));
        assert!(whole.matches(&Checksum::Crc32Composite { crc32: whole.composite, parts: 3 }));
        assert!(!whole.matches(&Checksum::Crc32Composite { crc32: whole.composite, parts: 2 }));
        assert!(!whole.matches(&Checksum::Crc32(whole.crc32 ^ 1)));
    }

    #[test]
    fn gaps_overlaps_and_doubles_are_refused() {
        assert!(plan_whole(vec![]).is_err());
        assert!(plan_whole(vec![receipt(1, 0, b"ab"), receipt(2, 3, b"c")]).is_err(), "gap");
        assert!(plan_whole(vec![receipt(1, 0, b"ab"), receipt(2, 1, b"c")]).is_err(), "overlap");
        assert!(plan_whole(vec![receipt(1, 0, b"ab"), receipt(1, 2, b"c")]).is_err(), "double");
        assert!(plan_whole(vec![receipt(0, 0, b"ab")]).is_err(), "number 0");
        assert!(plan_whole(vec![receipt(10_001, 0, b"ab")]).is_err(), "number past the end");
    }
}
