//! A store in memory, for tests: the promises of [`ObjectStore`] in their plainest form, and the yardstick the other
//! backends are compared with. Clones share their content. No I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::listing::PageBuilder;
use crate::store::{Checksum, ListPage, ListRequest, ObjectMeta, ObjectStore, ObjectStream, Put, PutMode};
use crate::upload::{Part, PartReceipt, PendingUpload, Upload, plan_whole};

/// Body chunks are cut to this size, so that readers meet more than one.
const CHUNK_BYTES: usize = 64 * 1024;

/// See the module's own words.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<ObjectKey, Object>,
    uploads: BTreeMap<u64, Parts>,
    writes: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    version: u64,
    crc32: u32,
    modified: Timestamp,
    /// The upload that made it, so that a repeated `complete` knows its own work.
    made_by: Option<u64>,
}

#[derive(Debug)]
struct Parts {
    key: ObjectKey,
    begun: Timestamp,
    bytes: BTreeMap<u32, Bytes>,
}

impl Object {
    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            size: self.bytes.len() as u64,
            etag: Some(format!("\"{}\"", self.version)),
            checksum: Some(Checksum::Crc32(self.crc32)),
            last_modified: Some(self.modified),
        }
    }
}

impl Content {
    fn insert(&mut self, key: ObjectKey, bytes: Bytes, made_by: Option<u64>) -> ObjectMeta {
        self.writes += 1;
        let crc32 = crc32fast::hash(&bytes);
        let object = Object { bytes, version: self.writes, crc32, modified: Timestamp::now(), made_by };
        let meta = object.meta();
        self.objects.insert(key, object);
        meta
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &ObjectKey) -> Result<Object, StoreError> {
        self.content()
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| StoreError::NotFound { store: self.describe(), key: key.clone() })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn uri(&self, key: &ObjectKey) -> String {
        format!("memory:{key}")
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, StoreError> {
        self.object(key).map(|object| object.meta())
    }

    async fn get_from(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError> {
        let object = self.object(key)?;
        let meta = object.meta();
        let Some(start) = usize::try_from(offset).ok().filter(|start| *start <= object.bytes.len()) else {
            return Err(StoreError::Corrupt {
                store: self.describe(),
                key: key.clone(),
                words: format!("it has {} bytes, byte {offset} was asked for", meta.size),
            });
        };
        let bytes = object.bytes.slice(start..);
        let chunks: Vec<Result<Bytes, StoreError>> = (0..bytes.len())
            .step_by(CHUNK_BYTES)
            .map(|at| Ok(bytes.slice(at..bytes.len().min(at + CHUNK_BYTES))))
            .collect();
        Ok(ObjectStream { meta, body: futures::stream::iter(chunks).boxed() })
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<Put, StoreError> {
        let mut content = self.content();
        match mode {
            PutMode::CreateNew if content.objects.contains_key(key) => {
                return Err(StoreError::AlreadyExists { store: self.describe(), key: key.clone() });
            }
            PutMode::CreateNew | PutMode::Overwrite => {}
        }
        let meta = content.insert(key.clone(), body, None);
        Ok(Put { etag: meta.etag, size: meta.size })
    }

    async fn begin_upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>, StoreError> {
        let mut content = self.content();
        content.writes += 1;
        let id = content.writes;
        let begun = Timestamp::now();
        content.uploads.insert(id, Parts { key: key.clone(), begun, bytes: BTreeMap::new() });
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.clone(), id, begun }))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let content = self.content();
        let mut page = PageBuilder::new(request);
        for (key, object) in &content.objects {
            let flow =
                page.offer::<StoreError>(key, || Ok(Some((object.bytes.len() as u64, Some(object.modified)))))?;
            if flow.is_break() {
                break;
            }
        }
        Ok(page.finish())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.content().objects.remove(key);
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        Ok(self
            .content()
            .uploads
            .iter()
            .filter(|(_, parts)| parts.key.as_str().starts_with(prefix))
            .map(|(id, parts)| PendingUpload {
                key: parts.key.clone(),
                upload_id: id.to_string(),
                initiated: Some(parts.begun),
            })
            .collect())
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), StoreError> {
        if let Ok(id) = upload.upload_id.parse::<u64>() {
            self.content().uploads.remove(&id);
        }
        Ok(())
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    key: ObjectKey,
    id: u64,
    begun: Timestamp,
}

impl MemoryUpload {
    fn gone(&self) -> StoreError {
        StoreError::NotFound { store: format!("upload {} to memory", self.id), key: self.key.clone() }
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    fn pending(&self) -> PendingUpload {
        PendingUpload { key: self.key.clone(), upload_id: self.id.to_string(), initiated: Some(self.begun) }
    }

    async fn put_part(&self, part: Part) -> Result<PartReceipt, StoreError> {
        let Part { number, offset, body } = part;
        let crc32 = crc32fast::hash(&body);
        let size = body.len() as u64;
        let mut content = self.store.content();
        let parts = content.uploads.get_mut(&self.id).ok_or_else(|| self.gone())?;
        parts.bytes.insert(number, body);
        Ok(PartReceipt { number, offset, size, crc32, etag: number.to_string() })
    }

    async fn complete(&self, parts: Vec<PartReceipt>) -> Result<ObjectMeta, StoreError> {
        let corrupt = |words| StoreError::Corrupt { store: self.store.describe(), key: self.key.clone(), words };
        let whole = plan_whole(parts).map_err(corrupt)?;
        let mut content = self.store.content();
        let stored = match content.objects.get(&self.key) {
            Some(object) if object.made_by == Some(self.id) => return Ok(object.meta()),
            Some(_) => {
                return Err(StoreError::AlreadyExists { store: self.store.describe(), key: self.key.clone() });
            }
            None => content.uploads.get(&self.id).ok_or_else(|| self.gone())?,
        };
        let mut bytes = Vec::new();
        for part in &whole.parts {
            let Some(body) = stored.bytes.get(&part.number) else {
                return Err(corrupt(format!("part {} was never sent", part.number)));
            };
            bytes.extend_from_slice(body);
        }
        if crc32fast::hash(&bytes) != whole.crc32 {
            return Err(corrupt("the parts are not those of the receipts".to_owned()));
        }
        content.uploads.remove(&self.id);
        Ok(content.insert(self.key.clone(), bytes.into(), Some(self.id)))
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.store.content().uploads.remove(&self.id);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises() {
        crate::conformance::run(&MemoryStore::new()).await.unwrap();
    }
}
