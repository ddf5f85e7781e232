//! The place of one archive in its store, and the small documents beside it.
//!
//! That something is absent is believed only from a store that says so; anything else is an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_crds::document::Envelope;
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::marker::{Expired, ExpiredDocument, Pin, PinDocument};
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{BackupId, layout};
use lifeboat_storage::{ObjectKey, ObjectStore, PutMode, RetryPolicy, StoreError, retry};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::KeepError;
use crate::manifest::{FoundManifest, ManifestError, Manifests};

/// Longest for a small question to the store, its retries included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Marks are some hundred bytes.
const LARGEST_MARK: usize = 64 << 10;

/// The place of one archive.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// UID of the cluster's kube-system namespace.
    pub cluster: String,
    /// Which backup.
    pub backup: BackupId,
    /// Whose signatures are believed.
    pub known: KnownKeys,
    /// Ends whatever goes on.
    pub cancel: CancellationToken,
}

impl Place {
    /// Where the manifest is, for people.
    ///
    /// # Errors
    /// The cluster's UID makes no key.
    pub fn manifest_uri(&self) -> Result<String, KeepError> {
        Ok(self.store.uri(&self.manifest_key()?))
    }

    /// That there is no such archive.
    pub(super) fn gone(&self) -> KeepError {
        self.manifest_uri().map_or_else(|error| error, |uri| KeepError::Gone { uri })
    }

    pub(super) fn manifest_key(&self) -> Result<ObjectKey, KeepError> {
        key(layout::manifest(&self.cluster, &self.backup))
    }

    pub(super) fn pin_key(&self) -> Result<ObjectKey, KeepError> {
        key(layout::pin(&self.cluster, &self.backup))
    }

    pub(super) fn expired_key(&self) -> Result<ObjectKey, KeepError> {
        key(layout::expired(&self.cluster, &self.backup))
    }

    pub(super) fn data_key(&self, name: &str) -> Result<ObjectKey, KeepError> {
        key(layout::data(&self.cluster, &self.backup, name))
    }

    /// The manifest.
    ///
    /// # Errors
    /// There is none, it is not to be believed, or the store fails.
    pub async fn manifest(&self) -> Result<Manifest, KeepError> {
        let Self { store, cluster, backup, known, cancel } = self;
        let manifests = Manifests { store: store.as_ref(), cluster, known, patience: PATIENCE, cancel };
        match manifests.fetch_believed(backup).await {
            Ok(FoundManifest { manifest, signature: _ }) => Ok(manifest),
            Err(ManifestError::Store(StoreError::NotFound { .. })) => Err(self.gone()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the backup exists.
    ///
    /// # Errors
    /// The store fails.
    pub async fn has_manifest(&self) -> Result<bool, KeepError> {
        let key = self.manifest_key()?;
        match self.ask("looking for the manifest", || self.store.head(&key)).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What `pin.json` says; `None` where there is none. One that cannot be read is an error: it is a pin all the same.
    ///
    /// # Errors
    /// The store fails, or the document is not what it should be.
    pub async fn pin(&self) -> Result<Option<Pin>, KeepError> {
        self.read::<PinDocument>(&self.pin_key()?).await.map(|found| found.map(|document| document.payload))
    }

    pub(super) async fn expired(&self) -> Result<Option<Expired>, KeepError> {
        self.read::<ExpiredDocument>(&self.expired_key()?).await.map(|found| found.map(|document| document.payload))
    }

    async fn read<T: EnvelopeDocument>(&self, key: &ObjectKey) -> Result<Option<T>, KeepError> {
        match self.ask("reading a mark", || self.store.get_small(key, LARGEST_MARK)).await {
            Ok(bytes) => {
                let read = T::parse(&bytes);
                read.map(Some).map_err(|source| KeepError::Document { uri: self.store.uri(key), source })
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn write<T>(&self, key: &ObjectKey, mark: T) -> Result<(), KeepError>
    where
        T: Serialize + DeserializeOwned,
    {
        let wrong = |source| KeepError::Document { uri: self.store.uri(key), source };
        let bytes = Bytes::from(Envelope::unsigned(mark).to_bytes().map_err(wrong)?);
        self.ask("writing a mark", || self.store.put(key, bytes.clone(), PutMode::Overwrite)).await?;
        Ok(())
    }

    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), KeepError> {
        Ok(self.ask("deleting", || self.store.delete(key)).await?)
    }

    pub(super) async fn ask<T, F, Fut>(&self, doing: &str, question: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        retry(doing, RetryPolicy::until(PATIENCE), &self.cancel, question).await
    }
}

/// An enveloped document.
trait EnvelopeDocument: Sized {
    fn parse(bytes: &[u8]) -> Result<Self, lifeboat_crds::document::DocumentError>;
}

impl<T: Serialize + DeserializeOwned> EnvelopeDocument for Envelope<T> {
    fn parse(bytes: &[u8]) -> Result<Self, lifeboat_crds::document::DocumentError> {
        Self::from_bytes(bytes)
    }
}

fn key(text: String) -> Result<ObjectKey, KeepError> {
    Ok(ObjectKey::parse(text).map_err(StoreError::from)?)
}
