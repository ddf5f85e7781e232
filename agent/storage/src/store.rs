//! The trait every store keeps, and what it hands out: metadata, streams and pages. The promises written here are the
//! ones [`crate::conformance`] checks on every backend. Provided methods only combine required ones.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::upload::{PendingUpload, Upload};

/// A checksum the store keeps for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// CRC32 (IEEE) of the whole object.
    Crc32(u32),
    /// S3's composite of a multipart object: CRC32 over the parts' CRC32s.
    Crc32Composite {
        /// CRC32 of the big-endian CRC32s of all parts.
        crc32: u32,
        /// How many parts there are.
        parts: u32,
    },
}

/// What a store says about an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Length in bytes.
    pub size: u64,
    /// Changes whenever the content is replaced; opaque.
    pub etag: Option<String>,
    /// Only where the store keeps one and returns it.
    pub checksum: Option<Checksum>,
    /// By the store's clock.
    pub last_modified: Option<Timestamp>,
}

/// The bytes of an object as they arrive. Ends with an error if fewer come than the store announced.
pub type ObjectBody = BoxStream<'static, Result<Bytes, StoreError>>;

/// An object being read.
pub struct ObjectStream {
    /// Metadata of the whole object, also when reading starts in its middle.
    pub meta: ObjectMeta,
    /// The bytes from the offset asked for to the end.
    pub body: ObjectBody,
}

impl Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStream").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// What a put may do to an object of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replace it.
    Overwrite,
    /// Leave it and fail with [`StoreError::AlreadyExists`]. On a store without conditional writes this may overwrite:
    /// see [`crate::probe_conditional_create`].
    CreateNew,
}

/// Receipt of a put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// As in [`ObjectMeta::etag`].
    pub etag: Option<String>,
    /// Bytes written.
    pub size: u64,
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that start with this text; need not end at a `/`.
    pub prefix: String,
    /// Only keys that sort after this text (exclusive).
    pub start_after: Option<String>,
    /// Collapse everything behind the first `/` after the prefix into one common prefix.
    pub delimiter: bool,
    /// Where the page before ended.
    pub cursor: Option<ListCursor>,
}

impl ListRequest {
    /// Every key under a prefix.
    #[must_use]
    pub fn under(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }
}

/// Where a page ended. Meaningful only to the store that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor(pub(crate) String);

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its name.
    pub key: ObjectKey,
    /// Length in bytes.
    pub size: u64,
    /// By the store's clock.
    pub last_modified: Option<Timestamp>,
}

/// One page of a listing, at most 1000 entries, in byte order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, each ending in `/`; only with a delimiter.
    pub prefixes: Vec<String>,
    /// Names in the store that are no valid [`ObjectKey`]; nothing of ours is ever named so.
    pub foreign: u64,
    /// Present when there is more.
    pub next: Option<ListCursor>,
}

/// A place that keeps objects under keys.
///
/// Promises every backend keeps: an object is seen whole or not at all; a put that returned is durable and visible to
/// the next read and listing; `CreateNew` has exactly one winner among concurrent callers; `delete` of nothing succeeds;
/// a listing is in byte order and never shows uploads that are not complete.
///
/// A call that ends in [`StoreError::Unavailable`] may have taken effect: the answer may be what was lost.
#[async_trait]
pub trait ObjectStore: Send + Sync + Debug {
    /// `s3://bucket/prefix` or `directory mount/sub`; never a credential.
    fn describe(&self) -> String;

    /// Where an object can be found by other tools: `s3://…` or a file path.
    fn uri(&self, key: &ObjectKey) -> String;

    /// Metadata of an object.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, StoreError>;

    /// Reads an object from `offset` bytes to its end. An offset at the end gives an empty body; one behind it is
    /// [`StoreError::Corrupt`], because the reader knows of bytes that are not there.
    async fn get_from(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError>;

    /// Writes a whole object from memory.
    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<Put, StoreError>;

    /// Starts an upload in parts. Nothing is visible under the key before [`Upload::complete`] returned.
    async fn begin_upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>, StoreError>;

    /// One page of names.
    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError>;

    /// Deletes an object; succeeds if there is none.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Uploads under a prefix that were begun and neither completed nor aborted; at most 10,000.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError>;

    /// Throws an unfinished upload away; succeeds if it is already gone.
    async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), StoreError>;

    /// The store's own clock (whole seconds, from its `Date` header); `None` where it has none but this host's.
    async fn server_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Whether the store can hold what is written against deletion, where that was asked for.
    ///
    /// # Errors
    /// It cannot, or does not say.
    async fn check_lock(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads an object from its start.
    async fn get(&self, key: &ObjectKey) -> Result<ObjectStream, StoreError> {
        self.get_from(key, 0).await
    }

    /// Reads an object that must fit in memory.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when it has more than `max_bytes`, without reading further.
    async fn get_small(&self, key: &ObjectKey, max_bytes: usize) -> Result<Bytes, StoreError> {
        let too_large = || StoreError::TooLarge { what: self.uri(key), limit: format!("{max_bytes} bytes") };
        let ObjectStream { meta, mut body } = self.get(key).await?;
        let Ok(size) = usize::try_from(meta.size) else { return Err(too_large()) };
        if size > max_bytes {
            return Err(too_large());
        }
        let mut whole = BytesMut::with_capacity(size);
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > max_bytes {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Every object under a prefix, page by page.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when there are more than `max_objects`: memory stays bounded, nothing is cut off silently.
    async fn list_all(&self, prefix: &str, max_objects: usize) -> Result<Vec<ListedObject>, StoreError> {
        let mut request = ListRequest::under(prefix);
        let mut all = Vec::new();
        loop {
            let page = self.list(&request).await?;
            all.extend(page.objects);
            if all.len() > max_objects {
                return Err(StoreError::TooLarge {
                    what: format!("the listing of {prefix:?} in {}", self.describe()),
                    limit: format!("{max_objects} objects"),
                });
            }
            let Some(next) = page.next else { return Ok(all) };
            request.cursor = Some(next);
        }
    }
}
