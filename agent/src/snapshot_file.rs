//! A member's snapshot in a file, as `etcdctl snapshot save` makes it: there only once it is whole and every page of it is
//! proven. Reads etcd, writes one file, overwrites none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_snapshot::{Facts, Options, SnapshotError, Verifier};
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::etcd::client::MemberClient;
use crate::etcd::error::EtcdError;
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest, open_snapshot};
use crate::host::crashsafe::{self, WriteError};
use crate::host::space::read_space;

/// Silence of etcd after which a stream is given up.
const NO_PROGRESS: Duration = Duration::from_secs(20);
/// Of a file system that is left free, in percent.
const RESERVE_PERCENT: u64 = 5;
/// Written at once.
const BUFFER: usize = 1 << 20;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file is there already.
    #[error("{path} exists already and is not overwritten", path = .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("{path} cannot be written: {source}", path = .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It cannot be put in its place.
    #[error(transparent)]
    Place(#[from] WriteError),
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// What came is no sound snapshot.
    #[error("what etcd sent is not a sound snapshot, so it was not kept: {0}")]
    Unsound(#[from] SnapshotError),
    /// There is not enough room.
    #[error("the file system of {path} has {available} bytes free and the snapshot needs {needed}", path = .path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Free.
        available: u64,
        /// Needed, with what is to stay free.
        needed: u64,
    },
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
    if target.symlink_metadata().is_ok() {
        return Err(SaveError::Exists(target.to_owned()));
    }
    let partial = Partial::make(target)?;
    let facts = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(SaveError::Stopped),
        read = read(client, save, Some(&partial), progress) => read?,
    };
    if !crashsafe::place_new(&partial.path, target)? {
        return Err(SaveError::Exists(target.to_owned()));
    }
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
    into: Option<&Partial>,
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
        verifier.update(&chunk.bytes)?;
        progress.add(chunk.bytes.len() as u64);
        if let Some(partial) = into {
            buffer.extend_from_slice(&chunk.bytes);
            if buffer.len() >= BUFFER {
                partial.write(&buffer)?;
                buffer.clear();
            }
        }
    }
    let facts = verifier.finish()?;
    if let Some(partial) = into {
        partial.write(&buffer)?;
        partial.file.sync_all().map_err(|source| partial.failed(source))?;
    }
    Ok(facts)
}

/// The file in the making, removed when it goes out of scope.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn make(target: &Path) -> Result<Self, SaveError> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = target.with_file_name(name);
        let failed = |source| SaveError::Write { path: path.clone(), source };
        // What a try that was killed left behind is worth nothing.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // A snapshot holds every secret of the cluster.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        Ok(Self { path, file })
    }

    fn check_space(&self, size: u64) -> Result<(), SaveError> {
        let space = read_space(&self.path).map_err(|source| self.failed(source))?;
        let needed = size.saturating_add(space.total / 100 * RESERVE_PERCENT);
        if space.available < needed {
            return Err(SaveError::NoSpace { path: self.path.clone(), available: space.available, needed });
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), SaveError> {
        (&self.file).write_all(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> SaveError {
        SaveError::Write { path: self.path.clone(), source }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Where the file has its name, this is its second one.
        let _ = std::fs::remove_file(&self.path);
    }
}
