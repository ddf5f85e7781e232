//! Questions about a store that take more than one call: does it keep conditional creates, and did my own create land
//! although its answer was lost. I/O only through [`ObjectStore`].

use bytes::Bytes;

use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::store::{ObjectStore, Put, PutMode};

/// How a create of exact bytes ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// This call made the object.
    Created(Put),
    /// An object with these very bytes was there before: usually an earlier try of ours whose answer was lost.
    /// Callers for whom two writers of equal bytes differ must put a nonce into the bytes.
    AlreadySame,
}

/// Creates an object, and takes one with the same bytes for success.
///
/// # Errors
/// [`StoreError::AlreadyExists`] if an object with other bytes is there; else as [`ObjectStore::put`].
pub async fn create_once(store: &dyn ObjectStore, key: &ObjectKey, body: Bytes) -> Result<Creation, StoreError> {
    match store.put(key, body.clone(), PutMode::CreateNew).await {
        Ok(put) => Ok(Creation::Created(put)),
        Err(StoreError::AlreadyExists { store: description, key: taken }) => {
            let other = StoreError::AlreadyExists { store: description, key: taken };
            match store.get_small(key, body.len()).await {
                Ok(present) if present == body => Ok(Creation::AlreadySame),
                Ok(_) | Err(StoreError::TooLarge { .. }) => Err(other),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether the store refuses a second conditional create of one key. Leaves `key` deleted; nobody else may probe with
/// the same key at the same time, or its deletes would look like a store that ignores conditions.
///
/// A store that ignores the condition answers the second create with success; that is `false`, and callers then need
/// the slower rule of write, read back and compare.
///
/// # Errors
/// As [`ObjectStore::put`] and [`ObjectStore::delete`].
pub async fn probe_conditional_create(store: &dyn ObjectStore, key: &ObjectKey) -> Result<bool, StoreError> {
    store.delete(key).await?;
    match store.put(key, Bytes::from_static(b"first"), PutMode::CreateNew).await {
        Ok(_) => {}
        Err(StoreError::NotSupported { .. }) => return Ok(false),
        Err(error) => return Err(error),
    }
    let kept = match store.put(key, Bytes::from_static(b"second"), PutMode::CreateNew).await {
        Ok(_) => false,
        Err(StoreError::AlreadyExists { .. }) => true,
        Err(error) => return Err(error),
    };
    store.delete(key).await?;
    Ok(kept)
}
