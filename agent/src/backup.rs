//! The task Backup: from an assigned EtcdBackup to an archive with a manifest, or to the reason why there is none.
//!
//! The manifest comes last and is created only where none is, so a backup exists if and only if its manifest does. An
//! attempt that finds a manifest of its backup adopts it; one that loses deletes its own data and nothing else. After
//! the first calls the API server is not needed any more.

mod comparison;
mod error;
mod manifest;
mod members;
mod proof;
mod shelf;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::backup::{ArchiveFacts, EtcdBackupSpec, VerificationLevel};
use lifeboat_crds::location::{AccessMode, EtcdBackupLocationSpec};
use lifeboat_crds::manifest::ManifestObject;
use lifeboat_crds::member::Divergence;
use lifeboat_crds::{BackupId, NodeName, Time};
use lifeboat_snapshot::{Content, HashKv, HashKvError, Level};
use lifeboat_storage::{ObjectKey, ObjectStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::BackupError;
pub use self::manifest::archive_facts;
use self::manifest::{Made, build_manifest};
use self::members::Question;
use self::proof::{Bounds, Diverged, Proof, Unpublished, prove_content, prove_members};
use self::shelf::{OpenLocation, Shelf};
use crate::archive::encode::Packing;
use crate::archive::encryption::{Recipients, parse_recipients};
use crate::archive::progress::{Progress, Stage};
use crate::archive::spool::RESERVE_PERCENT;
use crate::archive::transfer::{Transfer, Transferred, run_transfer};
use crate::etcd::client::{Endpoint, MemberClient};
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest};
use crate::etcd::status::fetch_member;
use crate::host::divergence::DivergenceNote;
use crate::host::files::{HostOptions, HostView, read_host};
use crate::host::fingerprint::read_fingerprints;
use crate::host::identity::HostId;
use crate::keyring::Keyring;
use crate::location::ownership::{Claim, Ownership, OwnershipError};
use crate::location::{LocationError, LocationOpener, is_conditional};

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);

/// For how long a store that does not say whose prefix it is is asked again.
const OWNER_PATIENCE: Duration = Duration::from_secs(120);
/// Longest for clearing up after a failure.
const CLEAN_UP: Duration = Duration::from_secs(15);

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
    /// That members were found to differ; this agent's own finding.
    pub divergence: Arc<Mutex<DivergenceNote>>,
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
        let (location, recipients) = within(deadline, cancel, self.open_location(order)).await.ok_or_else(ended)??;
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
        let (key, data) = shelf.new_data_key(order.attempt, recipients.is_some())?;
        let spec = &order.object.spec;
        let packing = Packing { zstd_level: spec.compression.zstd_level, recipients: recipients.clone() };
        let place = (Arc::clone(&shelf.store), key.clone());
        let transfer = self.plan_transfer(order, &source, packing, place, deadline);
        let Transferred { facts, encoded, hash_kv } = run_transfer(transfer, progress, cancel).await?;
        let proof = Proof::of_stream(&facts);
        let made = Made {
            runner: self,
            order,
            source: &source,
            facts: &facts,
            encoded,
            proof: &proof,
            recipients: recipients.as_ref(),
            data,
            begun,
            now: Timestamp::now(),
        };
        progress.enter(Stage::Verifying);
        let archive =
            Unpublished { store: shelf.store.as_ref(), key: &key, manifest: &build_manifest(&made), progress };
        let bounds = Bounds { deadline, cancel };
        let proof = match self.prove(&archive, &source, proof.clone(), hash_kv, bounds).await {
            Ok(proof) => proof,
            Err(error) => {
                discard(&archive).await;
                return Err(error);
            }
        };
        progress.enter(Stage::Publishing);
        let manifest = build_manifest(&Made { proof: &proof, now: Timestamp::now(), ..made });
        let published = shelf.publish(manifest).await?;
        Ok(archive_facts(&published, &shelf.manifest_uri()?))
    }

    fn plan_transfer(
        &self,
        order: &BackupOrder,
        source: &Source,
        packing: Packing,
        (store, key): (Arc<dyn ObjectStore>, ObjectKey),
        deadline: Instant,
    ) -> Transfer {
        let spec = &order.object.spec;
        Transfer {
            client: source.client.clone(),
            snapshot: snapshot_request(spec),
            level: snapshot_level(spec.verification),
            wants_hash_kv: spec.verification == VerificationLevel::Members,
            packing,
            store,
            key,
            spool_directory: self.spool_dir.join(format!("{}-{}", order.backup_id, order.attempt)),
            spool_reserve_percent: RESERVE_PERCENT,
            spool_bytes: spec.limits.spool.bytes().unwrap_or(0),
            deadline,
        }
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

    /// As much as was asked for, and as can be known.
    async fn prove(
        &self,
        archive: &Unpublished<'_>,
        source: &Source,
        proof: Proof,
        hash_kv: Option<Result<HashKv, HashKvError>>,
        bounds: Bounds<'_>,
    ) -> Result<Proof, BackupError> {
        let asked = archive.manifest.object.spec.verification;
        let proof = match asked {
            VerificationLevel::Checksum => return Ok(proof),
            VerificationLevel::Content | VerificationLevel::Members => prove_content(proof, archive, bounds).await?,
        };
        let Content::Verified(database) = &proof.content else { return Ok(proof) };
        let question =
            Question { endpoint: &source.endpoint, status: &source.status, revision: database.revision, bounds };
        let proven = prove_members(proof, hash_kv, &question).await;
        self.note_divergence(proven.as_ref().map(|proof| proof.level));
        proven
    }

    /// Keeps in mind that members differ, until they are found not to.
    fn note_divergence(&self, found: Result<VerificationLevel, &BackupError>) {
        let mut note = self.divergence.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match found {
            Ok(VerificationLevel::Members) => note.clear(),
            Err(BackupError::Diverged { diverged: Diverged { revision, members }, words: _ }) => {
                let members = members.iter().map(|(name, hash)| format!("{name} ({hash:08x})")).collect();
                note.set(Divergence { revision: *revision, members, time: Time(Timestamp::now()) })
            }
            Ok(VerificationLevel::Checksum | VerificationLevel::Content) | Err(_) => Ok(()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "whether members differ is not kept over a restart of this agent");
        }
    }

    /// The location that is written to, and to whom archives in it are encrypted.
    async fn open_location(&self, order: &BackupOrder) -> Result<(OpenLocation, Option<Recipients>), BackupError> {
        let location = self.opener.fetch(&order.object.spec.location_ref.name).await?;
        let EtcdBackupLocationSpec { access_mode, encryption, s3: _, directory: _ } = &location.spec;
        // Before anything else: where encryption is asked for, nothing leaves this host in the clear.
        let recipients = encryption.as_ref().map(parse_recipients).transpose()?;
        match access_mode {
            AccessMode::ReadWrite => {
                let is_conditional = is_conditional(&location);
                Ok((OpenLocation { store: self.opener.open(&location.spec).await?, is_conditional }, recipients))
            }
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
        Ok(Source { endpoint, client, status, name: discovery.name, fingerprints })
    }
}

/// The member that is read.
struct Source {
    endpoint: Endpoint,
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

/// Takes an archive away that no manifest names.
async fn discard(archive: &Unpublished<'_>) {
    let words = match tokio::time::timeout(CLEAN_UP, archive.store.delete(archive.key)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("no answer within {} s", CLEAN_UP.as_secs()),
    };
    tracing::warn!(key = %archive.key, error = words, "an archive that is not published was left with the store");
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
