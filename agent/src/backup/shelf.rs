//! The place of one backup in its store: who wins among attempts, what is adopted, what may be deleted.
//!
//! A request that a store has already taken may land after the process that sent it is gone, so nothing that a manifest
//! might still name is deleted before there is a manifest; and no manifest is believed whose data is not there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_crds::manifest::{Manifest, SealedManifest};
use lifeboat_crds::signing::{Domain, SignatureState};
use lifeboat_crds::{BackupId, layout};
use lifeboat_storage::{
    Creation, ObjectKey, ObjectStore, PutMode, RetryPolicy, StoreError, create_once, retry as ask_store,
};
use tokio_util::sync::CancellationToken;

use super::error::BackupError;
use crate::host::keys::HostKeys;
use crate::manifest::{FoundManifest, LARGEST_MANIFEST, read_manifest};

/// Longest for a small question to the store, its retries included.
const SMALL_PATIENCE: Duration = Duration::from_secs(120);
/// What other attempts left of one backup are a handful; more is somebody else's doing and is left alone.
const MOST_LEFTOVERS: usize = 1_000;

/// A location that may be written.
pub struct OpenLocation {
    /// Its store.
    pub store: Arc<dyn ObjectStore>,
    /// Whether a probe proved that it creates an object only where none is.
    pub is_conditional: bool,
}

/// The place of one backup.
pub struct Shelf<'s> {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    is_conditional: bool,
    cluster: &'s str,
    backup: &'s BackupId,
    keys: &'s HostKeys,
    cancel: &'s CancellationToken,
}

impl<'s> Shelf<'s> {
    /// The place of a backup of this cluster.
    pub fn new(
        location: &OpenLocation,
        cluster: &'s str,
        backup: &'s BackupId,
        keys: &'s HostKeys,
        cancel: &'s CancellationToken,
    ) -> Self {
        let OpenLocation { store, is_conditional } = location;
        Self { store: Arc::clone(store), is_conditional: *is_conditional, cluster, backup, keys, cancel }
    }

    /// Where the manifest is, for other tools.
    ///
    /// # Errors
    /// The cluster's UID makes no key.
    pub fn manifest_uri(&self) -> Result<String, BackupError> {
        Ok(self.store.uri(&self.manifest_key()?))
    }

    /// A key that no other attempt uses, and its file name.
    ///
    /// # Errors
    /// The cluster's UID makes no key.
    pub fn new_data_key(&self, attempt: i32, is_encrypted: bool) -> Result<(ObjectKey, String), BackupError> {
        let name = layout::data_name(attempt, &format!("{:08x}", rand::random::<u32>()), is_encrypted);
        Ok((self.data_key(&name)?, name))
    }

    /// The backup as an earlier attempt made it, if it exists: its manifest, whose data is there in the size it says.
    ///
    /// # Errors
    /// The store fails, or the manifest is not of this backup, was altered, or names data that is not there.
    pub async fn adopt(&self) -> Result<Option<Manifest>, BackupError> {
        let Some(manifest) = self.fetch_manifest().await? else { return Ok(None) };
        let key = self.data_key(&manifest.data)?;
        let head = self.ask("looking at the archive", || self.store.head(&key)).await;
        let uri = self.store.uri(&key);
        match head {
            Ok(meta) if i64::try_from(meta.size) == Ok(manifest.archive.size_bytes) => Ok(Some(manifest)),
            Ok(meta) => {
                let expected = manifest.archive.size_bytes;
                Err(BackupError::DataDiffers { uri, found: meta.size, expected })
            }
            Err(StoreError::NotFound { .. }) => Err(BackupError::DataMissing { uri }),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the manifest; where another attempt was first, its manifest counts. Data of those who lost goes, as far as
    /// that is safe.
    ///
    /// # Errors
    /// Whether the manifest landed is not known, or the one that is there is not sound. The data stays: with a manifest it
    /// is a backup, without one an orphan.
    pub async fn publish(&self, manifest: Manifest) -> Result<Manifest, BackupError> {
        let key = self.manifest_key()?;
        let bytes = Bytes::from(self.seal(manifest.clone())?.to_bytes()?);
        if !self.is_conditional {
            return self.publish_unconditionally(&key, bytes).await;
        }
        let created = || create_once(self.store.as_ref(), &key, bytes.clone());
        match self.ask("writing the manifest", created).await {
            Ok(Creation::Created(_) | Creation::AlreadySame) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let published = self.adopt().await?.ok_or_else(|| self.vanished(&key))?;
        if published.attempt != manifest.attempt {
            tracing::info!(backup = %self.backup, attempt = published.attempt, "another attempt was first");
        }
        self.clear_losers(&published.data).await;
        Ok(published)
    }

    /// Without conditional create two attempts may both write: whoever reads back later is right, and nobody deletes.
    async fn publish_unconditionally(&self, key: &ObjectKey, bytes: Bytes) -> Result<Manifest, BackupError> {
        if let Some(first) = self.adopt().await? {
            return Ok(first);
        }
        self.ask("writing the manifest", || self.store.put(key, bytes.clone(), PutMode::Overwrite)).await?;
        self.adopt().await?.ok_or_else(|| self.vanished(key))
    }

    fn vanished(&self, key: &ObjectKey) -> BackupError {
        StoreError::NotFound { store: self.store.describe(), key: key.clone() }.into()
    }

    /// Signed, where there is a key: a backup that nobody can vouch for is better than none.
    fn seal(&self, manifest: Manifest) -> Result<SealedManifest, BackupError> {
        match &self.keys.signer {
            Some(key) => Ok(SealedManifest::sign(manifest, Domain::MANIFEST, key)?),
            None => {
                tracing::error!(
                    backup = %self.backup,
                    "the manifest is written UNSIGNED: this host has never seen the Secret {}; does an operator lead?",
                    lifeboat_crds::signing::INSTALLATION_SECRET
                );
                Ok(SealedManifest::unsigned(manifest))
            }
        }
    }

    /// The manifest, if the backup exists and nobody altered it.
    async fn fetch_manifest(&self) -> Result<Option<Manifest>, BackupError> {
        let key = self.manifest_key()?;
        let bytes = match self.ask("reading the manifest", || self.store.get_small(&key, LARGEST_MANIFEST)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let FoundManifest { manifest, signature } = read_manifest(&bytes, self.backup, &self.keys.known)?;
        match signature {
            SignatureState::Valid(_) | SignatureState::Unsigned => Ok(Some(manifest)),
            SignatureState::Unknown(key) => {
                tracing::warn!(backup = %self.backup, %key, "the manifest is signed by a key that this host does not know");
                Ok(Some(manifest))
            }
            SignatureState::Invalid => Err(BackupError::ManifestAltered { uri: self.store.uri(&key) }),
        }
    }

    /// Data and uploads of other attempts: their manifest can never be created any more. Tried once; what stays is
    /// reported.
    async fn clear_losers(&self, winner: &str) {
        let prefix = format!("{}snapshot-", layout::backup_prefix(self.cluster, self.backup));
        let objects = async {
            for object in self.store.list_all(&prefix, MOST_LEFTOVERS).await? {
                if !object.key.as_str().ends_with(&format!("/{winner}")) {
                    self.store.delete(&object.key).await?;
                }
            }
            Ok::<_, StoreError>(())
        };
        let uploads = async {
            for upload in self.store.list_uploads(&prefix).await? {
                self.store.abort_upload(&upload).await?;
            }
            Ok::<_, StoreError>(())
        };
        let clearing = tokio::time::timeout(SMALL_PATIENCE, async { tokio::join!(objects, uploads) });
        match clearing.await {
            Ok((Ok(()), Ok(()))) => {}
            Ok((Err(error), _) | (_, Err(error))) => {
                tracing::warn!(backup = %self.backup, %error, "what other attempts left stays in the store");
            }
            Err(_elapsed) => tracing::warn!(backup = %self.backup, "what other attempts left stays in the store"),
        }
    }

    fn manifest_key(&self) -> Result<ObjectKey, BackupError> {
        key(layout::manifest(self.cluster, self.backup))
    }

    fn data_key(&self, name: &str) -> Result<ObjectKey, BackupError> {
        key(layout::data(self.cluster, self.backup, name))
    }

    async fn ask<T, F, Fut>(&self, doing: &str, question: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        ask_store(doing, RetryPolicy::until(SMALL_PATIENCE), self.cancel, question).await
    }
}

fn key(text: String) -> Result<ObjectKey, BackupError> {
    Ok(ObjectKey::parse(text).map_err(StoreError::from)?)
}

#[cfg(test)]
mod tests;
