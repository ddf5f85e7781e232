//! That members were found to hold different data, kept on this host's disk until a comparison finds them equal: it
//! must not be forgotten with a restart of the agent.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_crds::member::Divergence;

use super::crashsafe::{self, WriteError};

const FILE: &str = "divergence.json";

/// Why it is not kept.
#[derive(Debug, thiserror::Error)]
pub enum DivergenceError {
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It could not be removed.
    #[error("{path} cannot be removed: {source}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// What is known, in memory and on disk.
#[derive(Debug)]
pub struct DivergenceNote {
    path: PathBuf,
    noted: Option<Divergence>,
}

impl DivergenceNote {
    /// What this host knows; a file that cannot be read is nothing, and the next comparison tells. Blocking.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let noted = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "it holds no divergence"))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "whether members differed is not known");
                None
            }
        };
        Self { path, noted }
    }

    /// What was found, if it was not found to be over.
    pub fn get(&self) -> Option<Divergence> {
        self.noted.clone()
    }

    /// Takes note that members differ. Blocking.
    ///
    /// # Errors
    /// It is known for as long as this process lives, and not kept.
    pub fn set(&mut self, found: Divergence) -> Result<(), DivergenceError> {
        let bytes = serde_json::to_vec(&found).unwrap_or_default();
        self.noted = Some(found);
        Ok(crashsafe::replace(&self.path, &bytes, 0o600)?)
    }

    /// Takes note that they agree. Blocking.
    ///
    /// # Errors
    /// It comes back with the next start.
    pub fn clear(&mut self) -> Result<(), DivergenceError> {
        if self.noted.take().is_none() {
            return Ok(());
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(()) => Ok(()),
            Err(source) => Err(DivergenceError::Remove { path: self.path.clone(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_a_restart_until_members_agree() {
        let dir = tempfile::tempdir().unwrap();
        let mut note = DivergenceNote::load(dir.path());
        assert_eq!(note.get(), None);
        let found: Divergence = serde_json::from_value(
            serde_json::json!({"revision": 7, "members": ["a", "b"], "time": "2026-11-24T00:00:00Z"}),
        )
        .unwrap();
        note.set(found.clone()).unwrap();
        let mut again = DivergenceNote::load(dir.path());
        assert_eq!(again.get(), Some(found));
        again.clear().unwrap();
        again.clear().unwrap();
        assert_eq!(DivergenceNote::load(dir.path()).get(), None);
    }
}
