//! The task Backup: from an assigned EtcdBackup to an archive with a manifest, or to the reason why there is none.
//!
//! The manifest comes last and is created only where none is, so a backup exists if and only if its manifest does. An
//! attempt that finds a manifest of its backup adopts it; one that loses deletes its own data and nothing else. After
//! the first calls the API server is not needed any more.

mod comparison;
mod error;
mod manifest;
mod members;
mod opener;
mod proof;
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::backup::{ArchiveFacts, EtcdBackupSpec, VerificationLevel};
use lifeboat_crds::location::{AccessMode, EtcdBackupLocationSpec};
use lifeboat_crds::manifest::{Manifest, ManifestObject};
use lifeboat_crds::member::{Agreement, Divergence};
use lifeboat_crds::{BackupId, NodeName, Time};
use lifeboat_snapshot::{Content, HashKv, HashKvError, Level};
use lifeboat_storage::{ObjectKey, ObjectStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::BackupError;
pub use self::manifest::archive_facts;
use self::manifest::{Made, build_manifest, member_name};
use self::members::Question;
pub use self::opener::{Given, Opener};
use self::proof::{Bounds, Diverged, Proof, Unpublished, prove_content, prove_members};
use self::shelf::{OpenLocation, Shelf};
use crate::archive::encode::Packing;
use crate::archive::encryption::{Recipients, parse_recipients};
use crate::archive::progress::{Progress, Stage};
use crate::archive::spool::RESERVE_PERCENT;
use crate::archive::transfer::{BegunUpload, Transfer, Transferred, begin_upload, run_transfer};
use crate::etcd::client::{Endpoint, MemberClient};
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest};
use crate::etcd::status::fetch_member;
use crate::host::files::{HostOptions, HostView, read_host};
use crate::host::fingerprint::read_fingerprints;
use crate::host::identity::HostId;
use crate::host::last_comparison::{Finding, LastComparison};
use crate::keyring::Keyring;
use crate::location::ownership::{Claim, Ownership, OwnershipError};
use crate::location::{LocationError, is_conditional};

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);
/// For how long a store that does not say whose prefix it is is asked again.
const OWNER_PATIENCE: Duration = Duration::from_secs(120);

/// What every backup of this agent needs.
#[derive(Clone, Debug)]
pub struct BackupRunner {
    /// Opens locations.
    pub opener: Opener,
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
    /// What the last comparison of members by this agent found.
    pub comparison: Arc<LastComparison>,
    /// One database is read at a time: each read holds parts in memory. Held from when the store has agreed to take an
    /// archive until it has every part of it: a location that is away keeps nobody waiting.
    pub turn: Arc<Semaphore>,
    /// One archive is read back at a time, beside a database at most.
    pub reading: Arc<Semaphore>,
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
        let bounds = Bounds { deadline: Instant::now() + Duration::from_secs(seconds), cancel };
        progress.enter(Stage::Preparing);
        let (location, recipients) = bounds.within(self.open_location(order)).await??;
        let keys = bounds.within(self.keyring.current()).await?;
        let shelf = Shelf::new(&location, &self.cluster_uid, &order.backup_id, &keys, cancel);
        if let Some(manifest) = bounds.within(shelf.adopt()).await?? {
            tracing::info!(backup = %order.backup_id, "the archive is there already");
            return Ok(archive_facts(&manifest, &shelf.manifest_uri()?));
        }
        bounds.within(self.check_ownership(&location, cancel)).await??;
        // On the heap: one within the other they are too much for the stack of a thread.
        Box::pin(self.fill(order, &shelf, recipients.as_ref(), progress, bounds)).await
    }

    /// From a place without this backup to one with it. Until there is a manifest, whatever ends the attempt takes the
    /// archive along.
    async fn fill(
        &self,
        order: &BackupOrder,
        shelf: &Shelf<'_>,
        recipients: Option<&Recipients>,
        progress: &Arc<Progress>,
        bounds: Bounds<'_>,
    ) -> Result<ArchiveFacts, BackupError> {
        let (key, data) = shelf.new_data_key(order.attempt, recipients.is_some())?;
        let upload = begin_upload(&shelf.store, &key, bounds.deadline, bounds.cancel).await?;
        let making = async {
            let place = Place { store: &shelf.store, key: &key, data, upload: &upload };
            let manifest = Box::pin(self.make(order, place, recipients, progress, bounds)).await?;
            // Proofs end early where they are cancelled, and count as far as they came.
            if bounds.cancel.is_cancelled() { Err(BackupError::Interrupted) } else { Ok(manifest) }
        };
        let manifest = upload.or_nothing(making).await?;
        progress.enter(Stage::Publishing);
        let published = shelf.publish(manifest).await?;
        Ok(archive_facts(&published, &shelf.manifest_uri()?))
    }

    /// Reads etcd into the place and proves what lies there then.
    async fn make(
        &self,
        order: &BackupOrder,
        Place { store, key, data, upload }: Place<'_>,
        recipients: Option<&Recipients>,
        progress: &Arc<Progress>,
        bounds: Bounds<'_>,
    ) -> Result<Manifest, BackupError> {
        let turn = match Arc::clone(&self.turn).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_taken) => {
                progress.enter(Stage::Waiting);
                let turn = bounds.within(Arc::clone(&self.turn).acquire_owned()).await?;
                turn.map_err(|_closed| BackupError::Interrupted)?
            }
        };
        // Waiting for another backup of this master is no part of how long this one took.
        let begun = Timestamp::now();
        progress.enter(Stage::Preparing);
        let source = bounds.within(self.find_source()).await??;
        let transfer = self.plan_transfer(order, &source, recipients.cloned(), turn, bounds.deadline);
        let transferred = Box::pin(run_transfer(transfer, upload, progress, bounds.cancel)).await?;
        let Transferred { facts, encoded, hash_kv } = transferred;
        let proof = Proof::of_stream(&facts);
        let made = Made {
            runner: self,
            order,
            source: &source,
            facts: &facts,
            encoded,
            proof: &proof,
            recipients,
            data,
            begun,
            now: Timestamp::now(),
        };
        progress.enter(Stage::Verifying);
        let unproven = build_manifest(&made);
        let reading = self.reading.as_ref();
        let archive = Unpublished { store: store.as_ref(), key, manifest: &unproven, progress, reading };
        let proof = Box::pin(self.prove(&archive, &source, proof.clone(), hash_kv, bounds)).await?;
        Ok(build_manifest(&Made { proof: &proof, now: Timestamp::now(), ..made }))
    }

    fn plan_transfer(
        &self,
        order: &BackupOrder,
        source: &Source,
        recipients: Option<Recipients>,
        turn: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Transfer {
        let spec = &order.object.spec;
        Transfer {
            client: source.client.clone(),
            snapshot: snapshot_request(spec),
            level: snapshot_level(spec.verification),
            wants_hash_kv: spec.verification == VerificationLevel::Members,
            packing: Packing { zstd_level: spec.compression.zstd_level, recipients },
            turn,
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
        let question = Question {
            endpoint: &source.endpoint,
            status: &source.status,
            revision: database.revision,
            is_thorough: matches!(self.comparison.get(), Some(Finding::Divergence(_))),
            bounds,
        };
        let proven = prove_members(proof, hash_kv, &question).await;
        self.note_comparison(source, question.revision, &proven);
        proven
    }

    /// Keeps in mind what a comparison found; one that found nothing changes nothing.
    fn note_comparison(&self, source: &Source, revision: i64, proven: &Result<Proof, BackupError>) {
        let time = Time(Timestamp::now());
        let found = match proven {
            Ok(Proof { level: VerificationLevel::Members, content: _, shortfall: _, agreeing }) => {
                let read = member_name(&source.status, source.name.as_deref());
                let members = std::iter::once(read).chain(agreeing.iter().cloned()).collect();
                Finding::Agreement(Agreement { revision, members, time })
            }
            Err(BackupError::Diverged { diverged: Diverged { revision, members }, words: _ }) => {
                let members = members.iter().map(|(name, hash)| format!("{name} ({hash:08x})")).collect();
                Finding::Divergence(Divergence { revision: *revision, members, time })
            }
            Ok(_) | Err(_) => return,
        };
        self.comparison.note(found);
        let comparison = Arc::clone(&self.comparison);
        // The disk is etcd's own: nobody waits for it.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = comparison.keep() {
                tracing::warn!(%error, "what members were found to hold is not kept over a restart of this agent");
            }
        });
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
        let view = on_thread("reading this host's files", move || read_host(&options)).await?;
        let HostView { discovery, endpoint, not_after: _ } = view;
        let Some(endpoint) = endpoint else { return Err(BackupError::NoMember(discovery.problems.join("; "))) };
        let client = MemberClient::connect(&endpoint).await?;
        let status = fetch_member(&client).await?;
        let (root, files) = (self.host.root.clone(), discovery.api_server.clone());
        let fingerprints = on_thread("taking fingerprints", move || read_fingerprints(&root, &files)).await?;
        for words in &fingerprints.unreadable {
            tracing::warn!(words, "the manifest will lack a fingerprint");
        }
        Ok(Source { endpoint, client, status, name: discovery.name, fingerprints })
    }
}

/// Where an archive goes.
struct Place<'p> {
    store: &'p Arc<dyn ObjectStore>,
    key: &'p ObjectKey,
    /// File name of the data.
    data: String,
    upload: &'p BegunUpload,
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

/// Work that blocks.
async fn on_thread<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.is_cancelled() {
        true => BackupError::Interrupted,
        false => BackupError::Died(doing),
    })
}

impl From<LocationError> for BackupError {
    fn from(error: LocationError) -> Self {
        Self::Location(error)
    }
}

#[cfg(test)]
mod tests;
