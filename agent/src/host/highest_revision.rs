//! The highest revision this host ever saw its etcd serve, kept on its disk: a restore must bump beyond it, and etcd
//! itself no longer knows it then.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::crashsafe::{self, WriteError};

const FILE: &str = "highest-revision";
/// Written at most this often; what is lost with a crash is far below the bump of a restore.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// Why the number is not known or not kept.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The file is there and cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file holds no number.
    #[error("{path} does not hold a revision; remove it, the next heartbeat writes it anew")]
    NotANumber {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The number in memory and on disk.
#[derive(Debug)]
pub struct HighestRevision {
    path: PathBuf,
    /// Never held while a disk is written.
    seen: Mutex<Seen>,
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    highest: Option<i64>,
    written: Option<(i64, Instant)>,
}

impl HighestRevision {
    /// What this host knows. Blocking.
    pub fn load(state_dir: &Path) -> Result<Self, RevisionError> {
        let path = state_dir.join(FILE);
        let highest = match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<i64>() {
                Ok(revision) => Some(revision),
                Err(_) => return Err(RevisionError::NotANumber { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(RevisionError::Unreadable { path, source }),
        };
        Ok(Self { seen: Mutex::new(Seen { highest, written: None }), ..Self::unknown(state_dir) })
    }

    /// Starts from nothing, where the file cannot be read and a heartbeat must go on.
    pub fn unknown(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE), seen: Mutex::default(), writing: Mutex::default() }
    }

    /// The number, where one is known.
    pub fn get(&self) -> Option<i64> {
        self.seen().highest
    }

    /// Takes note of a revision. Says whether to [`HighestRevision::keep`] it: it is the highest, and the last write is a
    /// minute past.
    pub fn observe(&self, revision: i64, now: Instant) -> bool {
        let mut seen = self.seen();
        let highest = seen.highest.map_or(revision, |known| known.max(revision));
        let is_on_disk = match seen.written {
            Some((written, at)) => written == highest || now.duration_since(at) < WRITE_EVERY,
            None => seen.highest == Some(highest),
        };
        seen.highest = Some(highest);
        !is_on_disk
    }

    /// Writes the number down, unless another thread is still at it. Blocking.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep(&self, now: Instant) -> Result<(), RevisionError> {
        let Ok(_writing) = self.writing.try_lock() else { return Ok(()) };
        let Some(highest) = self.get() else { return Ok(()) };
        crashsafe::replace(&self.path, format!("{highest}\n").as_bytes(), 0o600)?;
        self.seen().written = Some((highest, now));
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_revision_survives_and_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let seen = HighestRevision::load(dir.path()).unwrap();
        assert_eq!(seen.get(), None);
        seen.keep(now).unwrap();
        assert!(seen.observe(100, now));
        seen.keep(now).unwrap();
        assert!(!seen.observe(40, now));
        assert_eq!(seen.get(), Some(100));
        let again = HighestRevision::load(dir.path()).unwrap();
        assert_eq!(again.get(), Some(100));
        assert!(!again.observe(41, now));
        assert_eq!(HighestRevision::load(dir.path()).unwrap().get(), Some(100));
    }

    #[test]
    fn it_is_written_at_most_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let seen = HighestRevision::load(dir.path()).unwrap();
        let on_disk = || HighestRevision::load(dir.path()).unwrap().get();
        for (seconds, revision, expected) in [(0, 1, 1), (30, 2, 1), (59, 3, 1), (60, 3, 3), (61, 9, 3), (120, 9, 9)] {
            let now = now + Duration::from_secs(seconds);
            if seen.observe(revision, now) {
                seen.keep(now).unwrap();
            }
            assert_eq!(on_disk(), Some(expected), "after {seconds} s");
        }
    }

    #[test]
    fn a_damaged_file_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "12x").unwrap();
        assert!(HighestRevision::load(dir.path()).is_err());
    }
}
