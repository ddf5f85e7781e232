//! Reads an archive whole and proves it; where a file is wanted, it appears only once it is proven.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
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
use crate::host::crashsafe::{self, WriteError};

/// How often progress is shown on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Why there is no proof, or no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file is there already.
    #[error("{path} exists already and is not overwritten", path = .0.display())]
    Exists(PathBuf),
    /// The file cannot be made.
    #[error("{path} cannot be made: {source}", path = .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file cannot be put in its place.
    #[error(transparent)]
    Place(#[from] WriteError),
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
            return Err(FetchError::Exists(path));
        }
        Ok(Self { path })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn partial(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        self.path.with_file_name(name)
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
    let partial = target.partial();
    let file = make(&partial)?;
    let reading = Reading { sink: Some(file), identities };
    let read = read_archive(store, key, manifest, reading, &progress, cancel).await;
    let placed = match read {
        Ok(facts) => crashsafe::place_new(&partial, &target.path).map(|placed| placed.then_some(facts)),
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            return Err(error.into());
        }
    };
    let _ = std::fs::remove_file(&partial);
    placed?.ok_or(FetchError::Exists(target.path))
}

/// A file of our own, readable by nobody else: a snapshot holds every secret of the cluster.
fn make(path: &Path) -> Result<File, FetchError> {
    let failed = |source| FetchError::Make { path: path.to_owned(), source };
    // What a try that was killed left behind is worth nothing.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)
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
