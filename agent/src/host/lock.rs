//! The lock that makes one agent act on a host, also while a rollout runs two. The kernel drops it with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::crashsafe::{self, WriteError};

const FILE: &str = "agent.lock";
/// How often a waiting agent looks again; a rollout waits for nothing longer than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Held for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the lock lets another agent act on this host"]
pub struct HostLock {
    _file: File,
}

/// Why the lock could not even be tried.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The directory cannot be made.
    #[error(transparent)]
    Directory(#[from] WriteError),
    /// The file cannot be opened or locked.
    #[error("{path} cannot be locked: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl HostLock {
    /// Takes the lock, or nothing where another process holds it.
    pub fn try_acquire(state_dir: &Path) -> Result<Option<Self>, LockError> {
        crashsafe::make_private_directory(state_dir)?;
        let path = state_dir.join(FILE);
        // The file is never removed: whoever waits on a removed file waits on another lock than the next comer.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|source| LockError::File { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(LockError::File { path, source }),
        }
    }

    /// Waits until the lock is ours. May be dropped at any time.
    pub async fn acquire(state_dir: &Path) -> Result<Self, LockError> {
        loop {
            if let Some(lock) = Self::try_acquire(state_dir)? {
                return Ok(lock);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_that_others_could_read_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("lifeboat");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
        let _lock = HostLock::try_acquire(&state).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn the_second_agent_waits_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = HostLock::try_acquire(dir.path()).unwrap().unwrap();
        assert!(HostLock::try_acquire(dir.path()).unwrap().is_none());
        let mut waiting = Box::pin(HostLock::acquire(dir.path()));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        drop(first);
        let second = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        assert!(HostLock::try_acquire(dir.path()).unwrap().is_none());
        drop(second);
    }
}
