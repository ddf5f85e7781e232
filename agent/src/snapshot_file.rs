//! A member's snapshot in a file, as `etcdctl snapshot save` makes it: there only once it is whole and every page of it is
//! proven. Reads etcd, writes one file, overwrites none.

use std::path::Path;
use std::time::Duration;

use lifeboat_snapshot::{Facts, Options, SnapshotError, Verifier};
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::etcd::client::MemberClient;
use crate::etcd::error::EtcdError;
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest, open_snapshot};
use crate::partial_file::{PartialError, PartialFile};

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);
/// Written at once.
const BUFFER: usize = 1 << 20;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file.
    #[error(transparent)]
    File(#[from] PartialError),
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// What came is no sound snapshot.
    #[error("what etcd sent is not a sound snapshot, so it was not kept: {0}")]
    Unsound(#[from] SnapshotError),
    /// It was asked to stop.
    #[error("stopped; no file was made")]
    Stopped,
}

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug)]
pub struct Save {
    /// The whole transfer.
    pub transfer: Duration,
    /// Refuse a member that sees no leader.
    pub require_leader: bool,
}

/// Reads a member's snapshot, proves it, and leaves it in a file that was not there before.
///
/// # Errors
/// Why there is none; then there is no file.
pub async fn save_snapshot(
    client: &MemberClient,
    save: Save,
    target: &Path,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Facts, SaveError> {
    let partial = PartialFile::make(target)?;
    let facts = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(SaveError::Stopped),
        read = read(client, save, Some(&partial), progress) => read?,
    };
    partial.place()?;
    Ok(facts)
}

/// Reads a member's snapshot and proves it, and keeps nothing.
///
/// # Errors
/// What is wrong.
pub async fn prove_member(client: &MemberClient, save: Save) -> Result<Facts, SaveError> {
    read(client, save, None, &Progress::default()).await
}

async fn read(
    client: &MemberClient,
    save: Save,
    into: Option<&PartialFile>,
    progress: &Progress,
) -> Result<Facts, SaveError> {
    let Save { transfer, require_leader } = save;
    let limits = SnapshotLimits { transfer, no_progress: NO_PROGRESS };
    let mut stream = open_snapshot(client, SnapshotRequest { limits, bytes_per_second: None, require_leader }).await?;
    progress.enter(Stage::Reading);
    progress.expect(stream.size);
    if let Some(partial) = into {
        partial.check_space(stream.size)?;
    }
    let mut verifier = Verifier::new(Options::default());
    let mut buffer = Vec::with_capacity(BUFFER);
    while let Some(chunk) = stream.next_chunk().await? {
        verifier.update(&chunk)?;
        progress.add(chunk.len() as u64);
        if let Some(partial) = into {
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= BUFFER {
                partial.write(&buffer)?;
                buffer.clear();
            }
        }
    }
    let facts = verifier.finish()?;
    if let Some(partial) = into {
        partial.write(&buffer)?;
    }
    Ok(facts)
}
