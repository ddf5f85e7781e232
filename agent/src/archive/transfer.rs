//! One pass from etcd to the store: read → verify, and read → compress → parts → upload, all at once.
//!
//! The object appears only after the verifier agreed to every byte, and is read back by size and checksum. An upload is
//! begun before etcd is read: where the store cannot be used, etcd is left in peace and nobody waits for it. What is
//! listed as a backup is decided elsewhere, by a manifest; whoever began an upload clears it away if none is written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lifeboat_snapshot::{Facts, HashKv, HashKvError, Level, Options, SnapshotError, Verifier};
use lifeboat_storage::{ObjectKey, ObjectStore, Part, PartReceipt, RetryPolicy, StoreError, Upload, retry};
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::encode::{EncodeError, Encoded, Packing, encode};
use super::progress::{Progress, Stage};
use super::spool::{Spool, SpoolError, SpoolLimits, SpoolReader, open_spool};
use crate::etcd::client::MemberClient;
use crate::etcd::error::EtcdError;
use crate::etcd::snapshot::{SnapshotRequest, SnapshotStream, open_snapshot};

/// Parts that go up at once.
const UPLOADS: usize = 2;
/// Chunks of 32 KiB that are handed on at once: waking two threads for each would cost more than it gains.
const BATCH: usize = 16;
/// Batches between reader and each of its two readers.
const BATCHES: usize = 2;
/// Longest that a store may be away before the try is given up; the next may be luckier elsewhere.
const STORE_PATIENCE: Duration = Duration::from_secs(180);
/// Longest for clearing up after a failure.
const CLEAN_UP: Duration = Duration::from_secs(15);
/// A full spool is told this much before etcd's own limit, or the limit would be blamed.
const SPOOL_MARGIN: u32 = 20;

/// What is to be transferred, and within which bounds.
#[derive(Debug)]
pub struct Transfer {
    /// The member to read.
    pub client: MemberClient,
    /// How it is read.
    pub snapshot: SnapshotRequest,
    /// How much is proven.
    pub level: Level,
    /// Whether what members hash is to be computed, too.
    pub wants_hash_kv: bool,
    /// How it is packed.
    pub packing: Packing,
    /// Given back when etcd was read and every part is with the store: what is left then needs no memory.
    pub turn: OwnedSemaphorePermit,
    /// Directory for parts that wait; this transfer's own.
    pub spool_directory: PathBuf,
    /// Bytes in it at most.
    pub spool_bytes: u64,
    /// Percent of its file system that stay free.
    pub spool_reserve_percent: u64,
    /// When everything must be over.
    pub deadline: Instant,
}

/// What was transferred.
#[derive(Debug)]
pub struct Transferred {
    /// The snapshot.
    pub facts: Facts,
    /// The archive.
    pub encoded: Encoded,
    /// What members' hashes are computed from, where that was wanted.
    pub hash_kv: Option<Result<HashKv, HashKvError>>,
}

/// Why nothing was transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// etcd did not deliver.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// What etcd delivered is no sound snapshot.
    #[error("the snapshot that etcd sent is not sound: {0}")]
    Snapshot(#[from] SnapshotError),
    /// etcd ended the stream in order, and too early.
    #[error(
        "etcd ended its snapshot after {received} of {announced} bytes: look at the log of the etcd pod and at the disk \
         of this master"
    )]
    EndedEarly {
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        announced: u64,
    },
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No place for parts that wait.
    #[error(transparent)]
    Spool(SpoolError),
    /// The compressor failed.
    #[error("compressing the snapshot: {0}")]
    Compress(#[source] std::io::Error),
    /// Time is up.
    #[error("the time for this try was up while {0}")]
    Deadline(&'static str),
    /// The caller gave it up.
    #[error("cancelled")]
    Cancelled,
    /// A stage ended because another did, or a thread died.
    #[error("a stage of the transfer ended unexpectedly")]
    Stopped,
}

/// An upload that was begun. Somebody must complete it, or clear it away.
#[derive(Clone, Debug)]
pub struct BegunUpload {
    store: Arc<dyn ObjectStore>,
    key: ObjectKey,
    upload: Arc<dyn Upload>,
}

/// Begins an upload, and waits for the store as long as for any part.
///
/// # Errors
/// The store refuses, or is away for too long.
pub async fn begin_upload(
    store: &Arc<dyn ObjectStore>,
    key: &ObjectKey,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<BegunUpload, TransferError> {
    let begin = || store.begin_upload(key);
    match retry("beginning an upload", patience(deadline), cancel, begin).await {
        Ok(upload) => Ok(BegunUpload { store: Arc::clone(store), key: key.clone(), upload: Arc::from(upload) }),
        Err(error) => Err(ended(error.into(), deadline, cancel, "waiting for the store")),
    }
}

impl BegunUpload {
    /// What comes of `work`. On an error nothing stays in the store, as far as the store can be reached.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn or_nothing<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let outcome = work.await;
        if outcome.is_err() {
            self.throw_away().await;
        }
        outcome
    }

    /// Parts, and an object that a completion has made, whether its answer came or not.
    async fn throw_away(&self) {
        let Self { store, key, upload } = self;
        // One that fails keeps the other from nothing.
        let clearing = async { tokio::join!(upload.abort(), store.delete(key)) };
        let words = match tokio::time::timeout(CLEAN_UP, clearing).await {
            Ok((Ok(()), Ok(()))) => return,
            Ok((Err(error), _) | (_, Err(error))) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} s", CLEAN_UP.as_secs()),
        };
        tracing::warn!(key = %key, error = words, "what nobody publishes was left with the store");
    }
}

/// Carries a transfer out.
///
/// # Errors
/// The first cause. What was sent by then is still with the store: [`BegunUpload::or_nothing`].
pub async fn run_transfer(
    transfer: Transfer,
    BegunUpload { upload, .. }: &BegunUpload,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Transferred, TransferError> {
    let Transfer {
        client,
        snapshot,
        level,
        wants_hash_kv,
        packing,
        turn,
        spool_directory,
        spool_bytes,
        spool_reserve_percent,
        deadline,
    } = transfer;
    let stop = cancel.child_token();
    let _alarm = Alarm::set(deadline, stop.clone());
    let outcome = async {
        progress.enter(Stage::Reading);
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(TransferError::Stopped),
            stream = open_snapshot(&client, snapshot) => stream?,
        };
        let limits = SpoolLimits {
            directory: spool_directory,
            disk_bytes: spool_bytes,
            reserve_percent: spool_reserve_percent,
            deadline: Instant::now() + snapshot.limits.transfer - snapshot.limits.transfer / SPOOL_MARGIN,
        };
        let spool = open_spool(limits, stop.clone());
        let stages = Stages { stream, level, wants_hash_kv, packing, spool, upload: Arc::clone(upload), deadline };
        let (transferred, receipts) = stages.run(progress, &stop).await?;
        drop(turn);
        let policy = patience(deadline);
        retry("completing the upload", policy, &stop, || upload.complete(receipts.clone())).await?;
        Ok(transferred)
    }
    .await;
    outcome.map_err(|error| {
        stop.cancel();
        let doing = match progress.stage() {
            Stage::Waiting | Stage::Preparing => "preparing",
            Stage::Reading => "etcd was read",
            Stage::Uploading | Stage::Verifying | Stage::Publishing => "the store took the rest of the archive",
        };
        ended(error, deadline, cancel, doing)
    })
}

/// The cause behind an error that follows from time or cancellation.
fn ended(error: TransferError, deadline: Instant, cancel: &CancellationToken, doing: &'static str) -> TransferError {
    match error {
        TransferError::Stopped | TransferError::Cancelled | TransferError::Store(StoreError::Cancelled { .. }) => {
            if cancel.is_cancelled() {
                TransferError::Cancelled
            } else if Instant::now() >= deadline {
                TransferError::Deadline(doing)
            } else {
                error
            }
        }
        TransferError::Etcd(_)
        | TransferError::Snapshot(_)
        | TransferError::EndedEarly { .. }
        | TransferError::Store(_)
        | TransferError::Spool(_)
        | TransferError::Compress(_)
        | TransferError::Deadline(_) => error,
    }
}

fn patience(deadline: Instant) -> RetryPolicy {
    RetryPolicy::until(STORE_PATIENCE.min(deadline.saturating_duration_since(Instant::now())))
}

/// Cancels a token at a time, unless it is dropped before.
struct Alarm(tokio::task::JoinHandle<()>);

impl Alarm {
    fn set(at: Instant, token: CancellationToken) -> Self {
        Self(tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            token.cancel();
        }))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything that runs at once.
struct Stages {
    stream: SnapshotStream,
    level: Level,
    wants_hash_kv: bool,
    packing: Packing,
    spool: (Spool, SpoolReader),
    upload: Arc<dyn Upload>,
    deadline: Instant,
}

impl Stages {
    async fn run(
        self,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<(Transferred, Vec<PartReceipt>), TransferError> {
        let Self { stream, level, wants_hash_kv, packing, spool: (spool, parts), upload, deadline } = self;
        let size = stream.size;
        progress.expect(size);
        let is_whole = Arc::new(AtomicBool::new(false));
        let (to_verifier, for_verifier) = mpsc::channel(BATCHES);
        let (to_encoder, for_encoder) = mpsc::channel(BATCHES);
        let whole = Arc::clone(&is_whole);
        let options = Options { level, ..Options::default() };
        let verifier = match wants_hash_kv {
            true => Verifier::with_hash_kv(options, Box::new(spool.scratch())),
            false => Verifier::new(options),
        };
        let verifying = tokio::task::spawn_blocking(move || verify(for_verifier, verifier, &whole));
        let whole = Arc::clone(&is_whole);
        let encoding = tokio::task::spawn_blocking(move || compress(for_encoder, &packing, size, spool, &whole));
        let reading = async {
            read_all(stream, [to_verifier, to_encoder], progress, &is_whole, stop).await?;
            progress.enter(Stage::Uploading);
            Ok(())
        };
        // Whichever fails first ends the others.
        let (read, uploaded, verified, encoded) = tokio::join!(
            or_stop(reading, stop),
            or_stop(upload_all(parts, upload, deadline, stop), stop),
            or_stop(async { verifying.await.unwrap_or(Err(TransferError::Stopped)) }, stop),
            or_stop(async { encoding.await.unwrap_or(Err(TransferError::Stopped)) }, stop),
        );
        match (read, uploaded, verified, encoded) {
            (Ok(()), Ok(receipts), Ok((facts, hash_kv)), Ok(encoded)) => {
                let hash_kv = wants_hash_kv.then_some(hash_kv);
                Ok((Transferred { facts, encoded, hash_kv }, receipts))
            }
            (read, uploaded, verified, encoded) => {
                Err(first_cause([read.err(), uploaded.err(), verified.err(), encoded.err()]))
            }
        }
    }
}

async fn or_stop<T>(
    stage: impl Future<Output = Result<T, TransferError>>,
    stop: &CancellationToken,
) -> Result<T, TransferError> {
    let outcome = stage.await;
    if outcome.is_err() {
        stop.cancel();
    }
    outcome
}

/// The cause among what the stages said: one that stopped because another did is none. A stream that was cut off is told
/// by the verifier, in better words than the compressor's.
fn first_cause(errors: [Option<TransferError>; 4]) -> TransferError {
    let told = errors.into_iter().flatten();
    told.fold(TransferError::Stopped, |cause, error| match cause {
        TransferError::Stopped => error,
        cause => cause,
    })
}

/// Reads the stream to its end, for both readers of it; then notes that it was whole as far as the server is concerned.
async fn read_all(
    mut stream: SnapshotStream,
    readers: [mpsc::Sender<Vec<Bytes>>; 2],
    progress: &Progress,
    is_whole: &AtomicBool,
    stop: &CancellationToken,
) -> Result<(), TransferError> {
    let [verifier, encoder] = readers;
    let (mut received, announced) = (0, stream.size);
    // A reader that is gone has said why itself.
    let pass_on = async |batch: Vec<Bytes>| {
        verifier.send(batch.clone()).await.map_err(|_| TransferError::Stopped)?;
        encoder.send(batch).await.map_err(|_| TransferError::Stopped)
    };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(TransferError::Stopped),
            next = stream.next_chunk() => next?,
        };
        let Some(chunk) = next else {
            if received != announced {
                return Err(TransferError::EndedEarly { received, announced });
            }
            pass_on(batch).await?;
            is_whole.store(true, Ordering::Release);
            return Ok(());
        };
        received += chunk.len() as u64;
        progress.add(chunk.len() as u64);
        batch.push(chunk);
        if batch.len() == BATCH {
            pass_on(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await?;
        }
    }
}

/// Checks the bytes as they come. Blocking.
fn verify(
    mut batches: mpsc::Receiver<Vec<Bytes>>,
    mut verifier: Verifier,
    is_whole: &AtomicBool,
) -> Result<(Facts, Result<HashKv, HashKvError>), TransferError> {
    while let Some(batch) = batches.blocking_recv() {
        for chunk in batch {
            verifier.update(&chunk)?;
        }
    }
    if !is_whole.load(Ordering::Acquire) {
        return Err(TransferError::Stopped);
    }
    Ok(verifier.finish_with_hash_kv()?)
}

/// Compresses the bytes as they come. Blocking.
fn compress(
    batches: mpsc::Receiver<Vec<Bytes>>,
    packing: &Packing,
    size: u64,
    spool: Spool,
    is_whole: &AtomicBool,
) -> Result<Encoded, TransferError> {
    encode(batches, packing, size, spool).map_err(|error| match error {
        EncodeError::Spool(SpoolError::Closed) => TransferError::Stopped,
        EncodeError::Spool(error) => TransferError::Spool(error),
        // Shorter than announced, because nobody read on.
        EncodeError::Compress(_) if !is_whole.load(Ordering::Acquire) => TransferError::Stopped,
        EncodeError::Compress(source) => TransferError::Compress(source),
    })
}

/// Sends parts, a few at once, until the spool is closed and empty.
async fn upload_all(
    parts: SpoolReader,
    upload: Arc<dyn Upload>,
    deadline: Instant,
    stop: &CancellationToken,
) -> Result<Vec<PartReceipt>, TransferError> {
    let parts = Arc::new(Mutex::new(parts));
    let mut workers = JoinSet::new();
    for _ in 0..UPLOADS {
        workers.spawn(upload_some(Arc::clone(&parts), Arc::clone(&upload), deadline, stop.clone()));
    }
    drop(parts);
    let mut receipts = Vec::new();
    while let Some(worker) = workers.join_next().await {
        match worker.unwrap_or(Err(TransferError::Stopped)) {
            Ok(mut some) => receipts.append(&mut some),
            Err(error) => {
                // What the others hold in the spool goes with them, before anybody looks.
                workers.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(receipts)
}

async fn upload_some(
    parts: Arc<Mutex<SpoolReader>>,
    upload: Arc<dyn Upload>,
    deadline: Instant,
    stop: CancellationToken,
) -> Result<Vec<PartReceipt>, TransferError> {
    let mut receipts = Vec::new();
    loop {
        let next = parts.lock().await.next().await.map_err(TransferError::Spool)?;
        let Some(part) = next else { return Ok(receipts) };
        let doing = format!("uploading part {}", part.number);
        let send = || upload.put_part(Part { number: part.number, offset: part.offset, body: part.body.clone() });
        match retry(&doing, patience(deadline), &stop, send).await {
            Ok(receipt) => receipts.push(receipt),
            Err(StoreError::Cancelled { .. }) => return Err(TransferError::Stopped),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
