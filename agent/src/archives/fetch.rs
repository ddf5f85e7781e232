//! Reads an archive whole and proves it; where a file is wanted, it appears only once it is proven.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_crds::manifest::Manifest;
use lifeboat_snapshot::Facts;
use lifeboat_storage::{ObjectKey, ObjectStore};
use tokio_util::sync::CancellationToken;

use crate::archive::encryption::{Identities, IdentityError, parse_identities};
use crate::archive::progress::Progress;
use crate::archive::read::{ReadError, Reading, read_archive};
use crate::partial_file::{PartialError, PartialFile};

/// How often progress is shown on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Why there is no proof, or no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file.
    #[error(transparent)]
    File(#[from] PartialError),
    /// The file of private keys cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    IdentityFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of private keys is none.
    #[error("{path} cannot be used: {source}", path = .path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// The archive could not be read, or is corrupt.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads a file of private keys; nothing where none is named.
///
/// # Errors
/// It cannot be read, or holds no key.
pub fn read_identities(path: Option<&Path>) -> Result<Option<Arc<Identities>>, FetchError> {
    let Some(path) = path else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|source| FetchError::IdentityFile { path: path.to_owned(), source })?;
    match parse_identities(&text) {
        Ok(identities) => Ok(Some(Arc::new(identities))),
        Err(source) => Err(FetchError::Identity { path: path.to_owned(), source }),
    }
}

/// A file to be.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// A file that does not exist yet; `{time}` in its name becomes the backup's time, `20261124-020304`.
    ///
    /// # Errors
    /// It exists.
    pub fn new(file: &Path, manifest: &Manifest) -> Result<Self, FetchError> {
        let time: String = manifest.backup_id.as_str().chars().take(15).collect();
        let path = PathBuf::from(file.to_string_lossy().replace("{time}", &time));
        if path.symlink_metadata().is_ok() {
            return Err(PartialError::Exists(path).into());
        }
        Ok(Self { path })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is wanted of an archive besides its proof.
#[derive(Debug)]
pub struct Wanted {
    /// Where its snapshot goes.
    pub target: Option<Target>,
    /// What opens it.
    pub identities: Option<Arc<Identities>>,
}

/// Reads an archive and proves it; the snapshot ends up in the target, if there is one.
///
/// # Errors
/// What is wrong; then there is no file.
pub async fn prove(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    manifest: &Manifest,
    wanted: Wanted,
    cancel: &CancellationToken,
) -> Result<Facts, FetchError> {
    let progress = Arc::new(Progress::default());
    let _shown = Shown::start(Arc::clone(&progress));
    let Wanted { target, identities } = wanted;
    let Some(target) = target else {
        let reading = Reading { identities, ..Reading::default() };
        return Ok(read_archive(store, key, manifest, reading, &progress, cancel).await?);
    };
    let partial = PartialFile::make(&target.path)?;
    partial.check_space(u64::try_from(manifest.snapshot.size_bytes).unwrap_or(0))?;
    let reading = Reading { sink: Some(partial.share()?), identities };
    let facts = read_archive(store, key, manifest, reading, &progress, cancel).await?;
    partial.place()?;
    Ok(facts)
}

/// Progress on a terminal, until dropped.
struct Shown(Option<tokio::task::JoinHandle<()>>);

impl Shown {
    fn start(progress: Arc<Progress>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        Self(Some(tokio::spawn(async move {
            use std::io::Write;
            loop {
                tokio::time::sleep(SHOW_EVERY).await;
                if let Some((done, total)) = progress.bytes() {
                    let percent = done.saturating_mul(100) / total.max(1);
                    let _ = write!(std::io::stderr(), "\r{percent:3} % of {} MiB", total >> 20);
                }
            }
        })))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        use std::io::Write;
        if let Some(task) = &self.0 {
            task.abort();
            let _ = write!(std::io::stderr(), "\r{:30}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_storage::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_snapshot_without_room_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "backupId": "20261124-020304-00000001", "data": "data", "attempt": 1,
            "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
            "cluster": {"uid": "uid", "etcdClusterId": "1", "members": []},
            "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1_u64 << 62, "sha256": ""},
            "archive": {"sizeBytes": 1, "sha256": "", "compression": "zstd"},
            "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
            "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
        }))
        .unwrap();
        let target = Target::new(&dir.path().join("{time}.db"), &manifest).unwrap();
        let wanted = Wanted { target: Some(target), identities: None };
        let (store, key) = (MemoryStore::new(), ObjectKey::parse("data").unwrap());
        let error = prove(&store, &key, &manifest, wanted, &CancellationToken::new()).await.unwrap_err();
        // The store would have said that there is no such archive.
        assert!(matches!(error, FetchError::File(PartialError::NoSpace { .. })), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
