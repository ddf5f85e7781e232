//! One pass from the store to proof: download → decompress → verify, and into a file where one is wanted.
//!
//! Nothing is believed before the end: the caller gets facts only if the stored bytes are those the manifest names and
//! the snapshot in them is sound and the one described. A store that breaks off is asked for the rest.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lifeboat_crds::manifest::{Manifest, ManifestArchive, ManifestSnapshot};
use lifeboat_snapshot::{Content, Facts, Options, SnapshotError, Verifier};
use lifeboat_storage::{ObjectKey, ObjectStore, ObjectStream, RetryPolicy, StoreError, retry};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::progress::{Progress, Stage};

/// Longest that a store may be away in the middle of a download.
const STORE_PATIENCE: Duration = Duration::from_secs(120);
/// Times that a download may break off; each time it goes on where it was.
const MOST_BREAKS: u32 = 100;
/// Chunks between download and decompression.
const CHUNKS: usize = 16;
/// zstd frames that need more memory than 128 MiB are not ours.
const LARGEST_WINDOW_LOG: u32 = 27;

/// Why an archive could not be read to its end, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored bytes are not those that were written.
    #[error("the archive is corrupt: {0}")]
    Corrupt(String),
    /// What is in it is no sound snapshot.
    #[error("the archive is corrupt: the snapshot in it is not sound: {0}")]
    Snapshot(#[from] SnapshotError),
    /// It is sound and another than the manifest describes.
    #[error("the archive is not the one that its manifest describes: {0}")]
    Mismatch(String),
    /// The archive is of a kind that this version cannot read.
    #[error("{0}")]
    NotSupported(String),
    /// The file could not be written.
    #[error("the snapshot cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A thread died.
    #[error("reading the archive ended unexpectedly")]
    Stopped,
}

/// Reads the archive at `key` and proves it; every byte of the snapshot goes into `sink`, if there is one.
///
/// # Errors
/// What is wrong. What was written into the sink is then worth nothing.
pub async fn read_archive(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    manifest: &Manifest,
    sink: Option<File>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Facts, ReadError> {
    let ManifestArchive { size_bytes, sha256, compression, recipients } = &manifest.archive;
    if compression != "zstd" {
        return Err(ReadError::NotSupported(format!("compression {compression:?} is not known to this version")));
    }
    if !recipients.is_empty() {
        return Err(ReadError::NotSupported(
            "the archive is encrypted, which this version cannot read: fetch it with a stock S3 client, then `age -d | \
             zstd -d`"
                .to_owned(),
        ));
    }
    progress.enter(Stage::Reading);
    progress.expect(u64::try_from(*size_bytes).unwrap_or(0));
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let unpacking = tokio::task::spawn_blocking(move || unpack(receiver, sink));
    let (downloaded, unpacked) = tokio::join!(download(store, key, sender, progress, cancel), unpacking);
    let unpacked = unpacked.unwrap_or(Err(ReadError::Stopped));
    let stored = match (downloaded, unpacked) {
        // Whoever unpacks says why it stopped listening.
        (Ok(None), Err(error @ (ReadError::Write(_) | ReadError::Snapshot(_) | ReadError::Corrupt(_)))) => {
            return Err(error);
        }
        // What there was to unpack ended with the download; the store says why.
        (Err(error), _) => return Err(error.into()),
        (Ok(None), _) => return Err(ReadError::Stopped),
        (Ok(Some(stored)), unpacked) => (stored, unpacked),
    };
    let (Stored { size, sha256: found }, unpacked) = stored;
    if i64::try_from(size) != Ok(*size_bytes) || hex::encode(found) != *sha256 {
        return Err(ReadError::Corrupt(format!(
            "the store has {size} bytes with SHA-256 {}, {size_bytes} with {sha256} were written",
            hex::encode(found)
        )));
    }
    let facts = unpacked?;
    compare(&facts, &manifest.snapshot).map_err(ReadError::Mismatch)?;
    Ok(facts)
}

/// What came from the store.
struct Stored {
    size: u64,
    sha256: [u8; 32],
}

/// Passes the object on, going on where it broke off; nothing if nobody listens any more.
async fn download(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    sink: mpsc::Sender<Bytes>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Option<Stored>, StoreError> {
    let (mut size, mut hash, mut breaks) = (0_u64, Sha256::new(), 0);
    loop {
        let open = || store.get_from(key, size);
        let ObjectStream { meta: _, mut body } =
            retry("reading the archive", RetryPolicy::until(STORE_PATIENCE), cancel, open).await?;
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    return Err(StoreError::Cancelled { what: "reading the archive".to_owned() });
                }
                next = body.try_next() => next,
            };
            match next {
                Ok(Some(chunk)) => {
                    size += chunk.len() as u64;
                    hash.update(&chunk);
                    progress.add(chunk.len() as u64);
                    if sink.send(chunk).await.is_err() {
                        return Ok(None);
                    }
                }
                Ok(None) => return Ok(Some(Stored { size, sha256: hash.finalize().into() })),
                Err(error) if error.is_worth_retrying() && breaks < MOST_BREAKS => {
                    breaks += 1;
                    tracing::warn!(key = %key, size, %error, "the download broke off and goes on");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Decompresses and verifies. Blocking.
fn unpack(mut chunks: mpsc::Receiver<Bytes>, sink: Option<File>) -> Result<Facts, ReadError> {
    let sink = Sink { verifier: Verifier::new(Options::default()), file: sink, failed: None };
    let damaged = |error: io::Error| ReadError::Corrupt(format!("it cannot be decompressed: {error}"));
    let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(damaged)?;
    decoder.window_log_max(LARGEST_WINDOW_LOG).map_err(damaged)?;
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = decoder.write_all(&chunk) {
            return Err(decoder.get_mut().failed.take().unwrap_or_else(|| damaged(error)));
        }
    }
    if let Err(error) = decoder.flush() {
        return Err(decoder.get_mut().failed.take().unwrap_or_else(|| damaged(error)));
    }
    let Sink { verifier, file, failed: _ } = decoder.into_inner();
    let facts = verifier.finish()?;
    if let Some(file) = file {
        file.sync_all().map_err(ReadError::Write)?;
    }
    Ok(facts)
}

/// Takes the bytes of the snapshot.
struct Sink {
    verifier: Verifier,
    file: Option<File>,
    failed: Option<ReadError>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.verifier.update(bytes) {
            self.failed = Some(error.into());
            return Err(io::Error::other("not a snapshot"));
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            self.failed = Some(ReadError::Write(error));
            return Err(io::Error::other("not written"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a sound snapshot is the one that was described; words if it is not.
fn compare(facts: &Facts, described: &ManifestSnapshot) -> Result<(), String> {
    let Facts { size, file_sha256, content } = facts;
    let found = hex::encode(file_sha256);
    if i64::try_from(*size) != Ok(described.size_bytes) || found != described.sha256 {
        return Err(format!(
            "the snapshot has {size} bytes with SHA-256 {found}, the manifest says {} with {}",
            described.size_bytes, described.sha256
        ));
    }
    let Content::Verified(database) = content else { return Ok(()) };
    let hash = database.content_hash.to_string();
    if described.content_hash.as_ref().is_some_and(|expected| *expected != hash) {
        return Err(format!("its content hash is {hash}, the manifest says {:?}", described.content_hash));
    }
    if described.revision.is_some_and(|expected| expected != database.revision) {
        return Err(format!("its revision is {}, the manifest says {:?}", database.revision, described.revision));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
