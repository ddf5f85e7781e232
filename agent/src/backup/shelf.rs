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
    Creation, ListedObject, ObjectKey, ObjectStore, PutMode, RetryPolicy, StoreError, create_once, retry as ask_store,
};
use tokio_util::sync::CancellationToken;

use super::error::BackupError;
use crate::host::keys::HostKeys;
use crate::keeping::{Place, abort_uploads, is_named, remove_data};
use crate::manifest::{FoundManifest, ManifestError, Manifests};

/// Longest for a small question to the store, its retries included.
const SMALL_PATIENCE: Duration = Duration::from_secs(120);

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
    /// is a backup, without one an orphan. Or the archive was deleted meanwhile; then the data goes too.
    pub async fn publish(&self, manifest: Manifest) -> Result<Manifest, BackupError> {
        let key = self.manifest_key()?;
        self.refuse_given_up().await?;
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
        // Their manifest can never be created any more.
        self.clear(|object| !is_named(object, &published.data)).await;
        Ok(published)
    }

    /// An agent that was cut off from the API server may come to its end when the archive was deleted long ago, and must not
    /// bring it back.
    async fn refuse_given_up(&self) -> Result<(), BackupError> {
        let mark = key(layout::expired(self.cluster, self.backup))?;
        match self.ask("looking for a deletion", || self.store.head(&mark)).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // As long as there is a manifest there is an archive, whatever lies beside it.
        if self.fetch_manifest().await?.is_some() {
            return Ok(());
        }
        self.clear(|_| true).await;
        Err(BackupError::GivenUp { uri: self.store.uri(&mark) })
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
        let Self { store, is_conditional: _, cluster, backup, keys, cancel } = self;
        let (store, known) = (store.as_ref(), &keys.known);
        let manifests = Manifests { store, cluster, known, patience: SMALL_PATIENCE, cancel };
        let FoundManifest { manifest, signature } = match manifests.fetch_believed(backup).await {
            Ok(found) => found,
            Err(ManifestError::Store(StoreError::NotFound { .. })) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let SignatureState::Unknown(key) = signature {
            tracing::warn!(%backup, %key, "the manifest is signed by a key that this host does not know");
        }
        Ok(Some(manifest))
    }

    /// Removes the data that `goes`, and uploads that were not completed. What stays is reported.
    async fn clear(&self, goes: impl Fn(&ListedObject) -> bool) {
        let place = self.place();
        let clearing = async {
            remove_data(&place, goes).await?;
            abort_uploads(&place).await
        };
        let words = match tokio::time::timeout(SMALL_PATIENCE, clearing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("not done within {} s", SMALL_PATIENCE.as_secs()),
        };
        tracing::warn!(backup = %self.backup, error = words, "what attempts left stays in the store");
    }

    fn place(&self) -> Place {
        let Self { store, is_conditional: _, cluster, backup, keys, cancel } = self;
        Place {
            store: Arc::clone(store),
            cluster: (*cluster).to_owned(),
            backup: (*backup).clone(),
            known: keys.known.clone(),
            cancel: (*cancel).clone(),
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
