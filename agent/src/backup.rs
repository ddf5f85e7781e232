//! The task Backup: from an assigned EtcdBackup to an archive with a manifest, or to the reason why there is none.
//!
//! The manifest comes last and is created only where none is, so a backup exists if and only if its manifest does. An
//! attempt that finds a manifest of its backup adopts it; one that loses deletes its own data and nothing else. After
//! the first calls the API server is not needed any more.

mod error;
mod manifest;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_crds::backup::{ArchiveFacts, EtcdBackupSpec, VerificationLevel};
use lifeboat_crds::location::{AccessMode, EtcdBackupLocationSpec};
use lifeboat_crds::manifest::{Manifest, ManifestObject, SealedManifest};
use lifeboat_crds::{BackupId, NodeName, layout};
use lifeboat_snapshot::Level;
use lifeboat_storage::{Creation, ObjectKey, ObjectStore, RetryPolicy, StoreError, create_once, retry as ask_store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::BackupError;
use self::manifest::{Made, archive_facts, build_manifest};
use crate::archive::progress::{Progress, Stage};
use crate::archive::transfer::{Transfer, run_transfer};
use crate::etcd::client::MemberClient;
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest};
use crate::etcd::status::fetch_member;
use crate::host::files::{HostOptions, HostView, read_host};
use crate::host::fingerprint::read_fingerprints;
use crate::location::{LocationError, LocationOpener};

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);
/// Longest for a small question to the store, its retries included.
const SMALL_PATIENCE: Duration = Duration::from_secs(120);
/// A manifest is a few KiB.
const LARGEST_MANIFEST: usize = 1 << 20;
/// Leftovers of one backup are a handful; more is somebody else's doing and is left alone.
const MOST_LEFTOVERS: usize = 1_000;

/// What every backup of this agent needs.
#[derive(Clone, Debug)]
pub struct BackupRunner {
    /// Opens locations.
    pub opener: LocationOpener,
    /// How the host is read.
    pub host: HostOptions,
    /// This node.
    pub node: NodeName,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// Directory below which each run spools.
    pub spool_dir: PathBuf,
    /// Version of this program.
    pub version: &'static str,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct BackupOrder {
    /// Identity in the bucket.
    pub backup_id: BackupId,
    /// The attempt.
    pub attempt: i32,
    /// The object it is for.
    pub object: ManifestObject,
    /// Highest revision this host ever saw.
    pub highest_revision_seen: Option<i64>,
}

impl BackupRunner {
    /// Carries out one attempt.
    ///
    /// # Errors
    /// Why there is no archive; then none is listed.
    pub async fn run(
        &self,
        order: &BackupOrder,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<ArchiveFacts, BackupError> {
        let begun = Timestamp::now();
        let seconds = u64::try_from(order.object.spec.limits.timeout_seconds).unwrap_or(0);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        progress.enter(Stage::Preparing);
        let store = self.open_store(order).await?;
        let shelf = Shelf { store, cluster: &self.cluster_uid, backup: &order.backup_id, cancel };
        if let Some(manifest) = shelf.fetch_manifest().await? {
            tracing::info!(backup = %order.backup_id, "the archive is there already");
            return Ok(archive_facts(&manifest, &shelf.manifest_uri()?));
        }
        shelf.delete_leftovers(order.attempt).await?;
        let source = self.find_source().await?;
        let (key, data) = shelf.new_data_key(order.attempt)?;
        let transfer = Transfer {
            client: source.client.clone(),
            snapshot: snapshot_request(&order.object.spec),
            level: snapshot_level(order.object.spec.verification),
            zstd_level: order.object.spec.compression.zstd_level,
            store: Arc::clone(&shelf.store),
            key,
            spool_directory: self.spool_dir.join(format!("{}-{}", order.backup_id, order.attempt)),
            spool_bytes: order.object.spec.limits.spool.bytes().unwrap_or(0),
            deadline,
        };
        let transferred = run_transfer(transfer, progress, cancel).await?;
        progress.enter(Stage::Publishing);
        let now = Timestamp::now();
        let manifest =
            build_manifest(&Made { runner: self, order, source: &source, transferred: &transferred, data, begun, now });
        let published = shelf.publish(manifest).await?;
        Ok(archive_facts(&published, &shelf.manifest_uri()?))
    }

    async fn open_store(&self, order: &BackupOrder) -> Result<Arc<dyn ObjectStore>, BackupError> {
        let location = self.opener.fetch(&order.object.spec.location_ref.name).await?;
        let EtcdBackupLocationSpec { access_mode, encryption, s3, directory: _ } = &location.spec;
        // The operator refuses these before; an agent that is newer or older must not write in the clear all the same.
        if encryption.is_some() {
            return Err(BackupError::NotSupported("spec.encryption of the location"));
        }
        if s3.as_ref().is_some_and(|s3| s3.object_lock.is_some()) {
            return Err(BackupError::NotSupported("spec.s3.objectLock of the location"));
        }
        if order.object.spec.verification == VerificationLevel::Members {
            return Err(BackupError::NotSupported("spec.verification: Members"));
        }
        match access_mode {
            AccessMode::ReadWrite => Ok(self.opener.open(&location.spec).await?),
            AccessMode::ReadOnly => Err(BackupError::ReadOnly(order.object.spec.location_ref.name.clone())),
        }
    }

    /// This node's member, as its files and the member itself describe it.
    async fn find_source(&self) -> Result<Source, BackupError> {
        let options = self.host.clone();
        let view =
            tokio::task::spawn_blocking(move || read_host(&options)).await.map_err(|_| BackupError::Interrupted)?;
        let HostView { discovery, endpoint, not_after: _ } = view;
        let Some(endpoint) = endpoint else { return Err(BackupError::NoMember(discovery.problems.join("; "))) };
        let client = MemberClient::connect(&endpoint).await?;
        let status = fetch_member(&client).await?;
        let (root, files) = (self.host.root.clone(), discovery.api_server.clone());
        let fingerprints = tokio::task::spawn_blocking(move || read_fingerprints(&root, &files))
            .await
            .map_err(|_| BackupError::Interrupted)?;
        for words in &fingerprints.unreadable {
            tracing::warn!(words, "the manifest will lack a fingerprint");
        }
        Ok(Source { client, status, name: discovery.name, fingerprints })
    }
}

/// The member that is read.
struct Source {
    client: MemberClient,
    status: crate::etcd::status::MemberStatus,
    name: Option<String>,
    fingerprints: crate::host::fingerprint::Fingerprints,
}

fn snapshot_request(spec: &EtcdBackupSpec) -> SnapshotRequest {
    let seconds = u64::try_from(spec.limits.transfer_seconds).unwrap_or(0);
    SnapshotRequest {
        limits: SnapshotLimits { transfer: Duration::from_secs(seconds), no_progress: NO_PROGRESS },
        bytes_per_second: spec.limits.bytes_per_second.as_ref().and_then(lifeboat_crds::Quantity::bytes),
        require_leader: true,
    }
}

fn snapshot_level(level: VerificationLevel) -> Level {
    match level {
        VerificationLevel::Checksum => Level::Checksum,
        VerificationLevel::Content | VerificationLevel::Members => Level::Content,
    }
}

/// The place of one backup in its store.
struct Shelf<'s> {
    store: Arc<dyn ObjectStore>,
    cluster: &'s str,
    backup: &'s BackupId,
    cancel: &'s CancellationToken,
}

impl Shelf<'_> {
    fn key(&self, text: String) -> Result<ObjectKey, BackupError> {
        ObjectKey::parse(text).map_err(|error| StoreError::InvalidConfiguration { words: error.to_string() }.into())
    }

    fn manifest_key(&self) -> Result<ObjectKey, BackupError> {
        self.key(layout::manifest(self.cluster, self.backup))
    }

    fn manifest_uri(&self) -> Result<String, BackupError> {
        Ok(self.store.uri(&self.manifest_key()?))
    }

    /// A key that no other attempt uses, and its file name.
    fn new_data_key(&self, attempt: i32) -> Result<(ObjectKey, String), BackupError> {
        let name = layout::data_name(attempt, &format!("{:08x}", rand::random::<u32>()), false);
        Ok((self.key(layout::data(self.cluster, self.backup, &name))?, name))
    }

    /// The manifest, if the backup exists.
    async fn fetch_manifest(&self) -> Result<Option<Manifest>, BackupError> {
        let key = self.manifest_key()?;
        let read = ask_store("reading the manifest", RetryPolicy::until(SMALL_PATIENCE), self.cancel, || {
            self.store.get_small(&key, LARGEST_MANIFEST)
        });
        match read.await {
            Ok(bytes) => Ok(Some(read_manifest(&bytes, self.backup)?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes what an earlier process left of this very attempt. No manifest names it, and the host lock says that
    /// nobody writes it any more.
    async fn delete_leftovers(&self, attempt: i32) -> Result<(), BackupError> {
        let own = format!("{}snapshot-{attempt}-", layout::backup_prefix(self.cluster, self.backup));
        for upload in self.store.list_uploads(&own).await? {
            self.store.abort_upload(&upload).await?;
        }
        for object in self.store.list_all(&own, MOST_LEFTOVERS).await? {
            self.store.delete(&object.key).await?;
        }
        Ok(())
    }

    /// Creates the manifest; where another attempt was first, its manifest counts and our data goes.
    async fn publish(&self, manifest: Manifest) -> Result<Manifest, BackupError> {
        let key = self.manifest_key()?;
        let bytes = Bytes::from(SealedManifest::unsigned(manifest.clone()).to_bytes()?);
        let created = ask_store("writing the manifest", RetryPolicy::until(SMALL_PATIENCE), self.cancel, || {
            create_once(self.store.as_ref(), &key, bytes.clone())
        });
        let published = match created.await {
            Ok(Creation::Created(_) | Creation::AlreadySame) => manifest,
            Err(StoreError::AlreadyExists { .. }) => {
                let first = self.fetch_manifest().await?.ok_or(BackupError::Interrupted)?;
                tracing::info!(backup = %self.backup, attempt = first.attempt, "another attempt was first");
                first
            }
            // Whether it landed is not known. The data stays: with a manifest it is a backup, without it is an orphan
            // that the next attempt clears away.
            Err(error) => return Err(error.into()),
        };
        self.delete_losers(&published.data).await;
        Ok(published)
    }

    /// Data of other attempts: their manifest can never be created any more.
    async fn delete_losers(&self, winner: &str) {
        let prefix = format!("{}snapshot-", layout::backup_prefix(self.cluster, self.backup));
        let deleting = async {
            for object in self.store.list_all(&prefix, MOST_LEFTOVERS).await? {
                if !object.key.as_str().ends_with(&format!("/{winner}")) {
                    self.store.delete(&object.key).await?;
                }
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = deleting.await {
            tracing::warn!(backup = %self.backup, %error, "data of another attempt was left in the store");
        }
    }
}

/// Reads a manifest, which must be that of this backup.
fn read_manifest(bytes: &[u8], backup: &BackupId) -> Result<Manifest, BackupError> {
    let manifest = SealedManifest::from_bytes(bytes)?.payload;
    if manifest.backup_id != *backup {
        return Err(BackupError::ForeignManifest { expected: backup.clone(), found: manifest.backup_id });
    }
    Ok(manifest)
}

impl From<LocationError> for BackupError {
    fn from(error: LocationError) -> Self {
        Self::Location(error)
    }
}

#[cfg(test)]
mod tests;
