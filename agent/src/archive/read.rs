//! One pass from the store to proof: download → decrypt → decompress → verify, and into a file where one is wanted.
//!
//! Nothing is believed before the end: the caller gets facts only if the stored bytes are those the manifest names and
//! the snapshot in them is sound and the one described. A store that breaks off is asked for the rest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lifeboat_crds::manifest::{Manifest, ManifestArchive, ManifestSnapshot};
use lifeboat_snapshot::{Content, Facts, Level, Options, SnapshotError, Verifier};
use lifeboat_storage::{ObjectKey, ObjectStore, ObjectStream, RetryPolicy, StoreError, retry};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::encryption::{Identities, Unsealed};
use super::progress::Progress;

/// Longest that a store may be away in the middle of a download.
const STORE_PATIENCE: Duration = Duration::from_secs(120);
/// Times that a download may break off; each time it goes on where it was.
const MOST_BREAKS: u32 = 100;
/// Chunks between download and decompression.
const CHUNKS: usize = 16;
/// Bytes of the snapshot that are looked at together.
const PIECE: usize = 256 << 10;
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
    /// It is encrypted, and there is no key, or no right one.
    #[error(
        "the archive is encrypted to {recipients}, and {have}: give the age identity of one of them with --identity; \
         without Lifeboat: fetch it with a stock S3 client, then `age --decrypt -i KEY | zstd -d`"
    )]
    Encrypted {
        /// To whom.
        recipients: String,
        /// What there is.
        have: &'static str,
    },
    /// The file could not be written.
    #[error("the snapshot cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A thread died.
    #[error("reading the archive ended unexpectedly")]
    Stopped,
}

/// Memory for a reading, bytes: unlike a backup it holds no parts, and the chart allows the agent 512 MiB.
const ROOMY: Options = Options { level: Level::Content, window_bytes: 64 << 20, raw_bytes: 128 << 20 };

/// What an archive is read with.
#[derive(Debug, Default)]
pub struct Reading {
    /// Takes every byte of the snapshot, if anybody wants them.
    pub sink: Option<File>,
    /// Private keys; only for an archive that is encrypted.
    pub identities: Option<Arc<Identities>>,
}

/// Reads the archive at `key` and proves it.
///
/// # Errors
/// What is wrong. What was written into the sink is then worth nothing.
pub async fn read_archive(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    manifest: &Manifest,
    reading: Reading,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Facts, ReadError> {
    let ManifestArchive { size_bytes, sha256, compression, recipients } = &manifest.archive;
    if compression != "zstd" {
        return Err(ReadError::NotSupported(format!("compression {compression:?} is not known to this version")));
    }
    let Reading { sink, identities } = reading;
    // Keys are no reason to refuse what anybody can read.
    let identities = identities.filter(|_| !recipients.is_empty());
    let locked = |have| ReadError::Encrypted { recipients: recipients.join(", "), have };
    if !recipients.is_empty() && identities.is_none() {
        return Err(locked("no key was given"));
    }
    progress.expect(u64::try_from(*size_bytes).unwrap_or(0));
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let unpacking = tokio::task::spawn_blocking(move || unpack(receiver, identities.as_deref(), sink));
    let (downloaded, unpacked) = tokio::join!(download(store, key, sender, progress, cancel), unpacking);
    let unpacked = match unpacked.unwrap_or(Err(UnpackError::Stopped)) {
        Ok(facts) => Ok(facts),
        Err(UnpackError::WrongKey) => return Err(locked("none of the keys given is theirs")),
        Err(UnpackError::Damaged(words)) => Err(ReadError::Corrupt(words)),
        Err(UnpackError::Snapshot(error)) => Err(ReadError::Snapshot(error)),
        Err(UnpackError::Write(error)) => Err(ReadError::Write(error)),
        Err(UnpackError::Stopped) => Err(ReadError::Stopped),
    };
    let stored = match (downloaded, unpacked) {
        // A store that broke off says nothing about the archive, whatever its beginning looks like.
        (Err(error), _) => return Err(error.into()),
        // Whoever unpacks says why it stopped listening.
        (Ok(None), Err(error)) => return Err(error),
        (Ok(None), Ok(_)) => return Err(ReadError::Stopped),
        (Ok(Some(_)), Err(error @ ReadError::Write(_))) => return Err(error),
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

/// Why nothing was unpacked.
enum UnpackError {
    WrongKey,
    Damaged(String),
    Snapshot(SnapshotError),
    Write(io::Error),
    Stopped,
}

/// Decrypts, decompresses and verifies. Blocking.
fn unpack(
    chunks: mpsc::Receiver<Bytes>,
    identities: Option<&Identities>,
    mut sink: Option<File>,
) -> Result<Facts, UnpackError> {
    let damaged = |error: io::Error| UnpackError::Damaged(format!("it cannot be decompressed: {error}"));
    let stored = Unsealed::new(Received { chunks, chunk: Bytes::new() }, identities).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => UnpackError::WrongKey,
        error => UnpackError::Damaged(format!("it cannot be decrypted: {error}")),
    })?;
    let mut decoder = zstd::stream::read::Decoder::new(stored).map_err(damaged)?;
    decoder.window_log_max(LARGEST_WINDOW_LOG).map_err(damaged)?;
    let mut verifier = Verifier::new(ROOMY);
    let mut piece = vec![0; PIECE];
    loop {
        let bytes = match decoder.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => piece.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        verifier.update(bytes).map_err(UnpackError::Snapshot)?;
        if let Some(file) = &mut sink {
            file.write_all(bytes).map_err(UnpackError::Write)?;
        }
    }
    let facts = verifier.finish().map_err(UnpackError::Snapshot)?;
    if let Some(file) = sink {
        file.sync_all().map_err(UnpackError::Write)?;
    }
    Ok(facts)
}

/// What came, as something to read from. Ends with the download, whole or not.
struct Received {
    chunks: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let now = self.chunk.split_to(buffer.len().min(self.chunk.len()));
        buffer[..now.len()].copy_from_slice(&now);
        Ok(now.len())
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
