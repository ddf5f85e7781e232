//! The task Backup: from an assigned EtcdBackup to an archive with a manifest, or to the reason why there is none.
//!
//! The manifest comes last and is created only where none is, so a backup exists if and only if its manifest does. An
//! attempt that finds a manifest of its backup adopts it; one that loses deletes its own data and nothing else. After
//! the first calls the API server is not needed any more.

mod error;
mod manifest;
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::backup::{ArchiveFacts, EtcdBackupSpec, VerificationLevel};
use lifeboat_crds::location::{AccessMode, EtcdBackupLocationSpec};
use lifeboat_crds::manifest::ManifestObject;
use lifeboat_crds::{BackupId, NodeName};
use lifeboat_snapshot::Level;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::BackupError;
use self::manifest::{Made, archive_facts, build_manifest};
use self::shelf::{OpenLocation, Shelf};
use crate::archive::progress::{Progress, Stage};
use crate::archive::spool::RESERVE_PERCENT;
use crate::archive::transfer::{Transfer, run_transfer};
use crate::etcd::client::MemberClient;
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest};
use crate::etcd::status::fetch_member;
use crate::host::files::{HostOptions, HostView, read_host};
use crate::host::fingerprint::read_fingerprints;
use crate::host::identity::HostId;
use crate::keyring::Keyring;
use crate::location::ownership::{Claim, Ownership, OwnershipError};
use crate::location::{LocationError, LocationOpener};

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);

/// For how long a store that does not say whose prefix it is is asked again.
const OWNER_PATIENCE: Duration = Duration::from_secs(120);

/// What every backup of this agent needs.
#[derive(Clone, Debug)]
pub struct BackupRunner {
    /// Opens locations.
    pub opener: LocationOpener,
    /// Signs manifests.
    pub keyring: Arc<Keyring>,
    /// How the host is read.
    pub host: HostOptions,
    /// This node.
    pub node: NodeName,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// Identity of this host: whether it may write.
    pub host_id: HostId,
    /// Directory below which each run spools.
    pub spool_dir: PathBuf,
    /// Version of this program.
    pub version: &'static str,
    /// One database is read at a time: each read holds parts in memory. A location that is away keeps nobody waiting.
    pub turn: Arc<Semaphore>,
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
        let seconds = u64::try_from(order.object.spec.limits.timeout_seconds).unwrap_or(0);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        progress.enter(Stage::Preparing);
        let ended = || if cancel.is_cancelled() { BackupError::Interrupted } else { BackupError::Late };
        let location = within(deadline, cancel, self.open_location(order)).await.ok_or_else(ended)??;
        let keys = within(deadline, cancel, self.keyring.current()).await.ok_or_else(ended)?;
        let shelf = Shelf::new(&location, &self.cluster_uid, &order.backup_id, &keys, cancel);
        if let Some(manifest) = within(deadline, cancel, shelf.adopt()).await.ok_or_else(ended)?? {
            tracing::info!(backup = %order.backup_id, "the archive is there already");
            return Ok(archive_facts(&manifest, &shelf.manifest_uri()?));
        }
        within(deadline, cancel, self.check_ownership(&location, cancel)).await.ok_or_else(ended)??;
        progress.enter(Stage::Waiting);
        let turn = within(deadline, cancel, self.turn.acquire()).await.ok_or_else(ended)?;
        let _turn = turn.map_err(|_closed| BackupError::Interrupted)?;
        // Waiting for another backup of this master is no part of how long this one took.
        let begun = Timestamp::now();
        progress.enter(Stage::Preparing);
        let source = within(deadline, cancel, self.find_source()).await.ok_or_else(ended)??;
        let (key, data) = shelf.new_data_key(order.attempt)?;
        let transfer = Transfer {
            client: source.client.clone(),
            snapshot: snapshot_request(&order.object.spec),
            level: snapshot_level(order.object.spec.verification),
            zstd_level: order.object.spec.compression.zstd_level,
            store: Arc::clone(&shelf.store),
            key,
            spool_directory: self.spool_dir.join(format!("{}-{}", order.backup_id, order.attempt)),
            spool_reserve_percent: RESERVE_PERCENT,
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

    /// Nothing is written where others own the prefix. One that nobody owns is claimed, as a probe would.
    async fn check_ownership(&self, location: &OpenLocation, cancel: &CancellationToken) -> Result<(), OwnershipError> {
        let OpenLocation { store, is_conditional } = location;
        let (store, cluster, me) = (store.as_ref(), self.cluster_uid.as_str(), &self.host_id);
        let ownership = Ownership { store, cluster, me, patience: OWNER_PATIENCE, cancel };
        match ownership.check().await {
            Err(OwnershipError::Unclaimed { .. }) => {
                ownership.settle(&Claim::default(), *is_conditional, Timestamp::now()).await.map(drop)
            }
            checked => checked,
        }
    }

    async fn open_location(&self, order: &BackupOrder) -> Result<OpenLocation, BackupError> {
        let location = self.opener.fetch(&order.object.spec.location_ref.name).await?;
        let EtcdBackupLocationSpec { access_mode, encryption, s3: _, directory: _ } = &location.spec;
        // The operator refuses these before; an agent that is newer or older must not write in the clear all the same.
        if encryption.is_some() {
            return Err(BackupError::NotSupported("spec.encryption of the location"));
        }
        if order.object.spec.verification == VerificationLevel::Members {
            return Err(BackupError::NotSupported("spec.verification: Members"));
        }
        match access_mode {
            AccessMode::ReadWrite => Ok(OpenLocation {
                store: self.opener.open(&location.spec).await?,
                is_conditional: location.status.as_ref().and_then(|status| status.conditional_writes) == Some(true),
            }),
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

/// What comes of `work` before the deadline and the cancellation; nothing after. Only for work that leaves nothing behind.
async fn within<T>(deadline: Instant, cancel: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        done = tokio::time::timeout_at(deadline, work) => done.ok(),
    }
}

impl From<LocationError> for BackupError {
    fn from(error: LocationError) -> Self {
        Self::Location(error)
    }
}
