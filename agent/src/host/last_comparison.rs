//! What the last comparison of members by this host found, kept on its disk: neither that members differ nor that they
//! no longer do may be forgotten with a restart of the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifeboat_crds::member::{Agreement, Divergence};
use serde::{Deserialize, Serialize};

use super::crashsafe::{self, WriteError};

const FILE: &str = "comparison.json";

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// All members that were asked hold the same.
    Agreement(Agreement),
    /// They do not.
    Divergence(Divergence),
}

/// What is known, in memory and on disk.
#[derive(Debug)]
pub struct LastComparison {
    path: PathBuf,
    /// Never held while a disk is written.
    found: Mutex<Option<Finding>>,
    writing: Mutex<()>,
}

impl LastComparison {
    /// What this host knows; a file that cannot be read is nothing, and the next comparison tells. Blocking.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let found = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "it holds no comparison"))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "whether members differed is not known");
                None
            }
        };
        Self { path, found: Mutex::new(found), writing: Mutex::default() }
    }

    /// What the last one found.
    pub fn get(&self) -> Option<Finding> {
        self.found().clone()
    }

    /// Takes note for as long as this process lives; [`LastComparison::keep`] for longer.
    pub fn note(&self, found: Finding) {
        *self.found() = Some(found);
    }

    /// Writes down what the last one found. Blocking.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep(&self) -> Result<(), WriteError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // What is found by now, also when another comparison ended meanwhile.
        let Some(found) = self.get() else { return Ok(()) };
        crashsafe::replace(&self.path, &serde_json::to_vec(&found).unwrap_or_default(), 0o600)
    }

    fn found(&self) -> MutexGuard<'_, Option<Finding>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_finding_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let last = LastComparison::load(dir.path());
        assert_eq!(last.get(), None);
        last.keep().unwrap();
        let differ = serde_json::json!({"revision": 7, "members": ["a", "b"], "time": "2026-11-24T00:00:00Z"});
        let agree = serde_json::json!({"revision": 9, "members": ["a", "b"], "time": "2026-11-24T01:00:00Z"});
        for found in [
            Finding::Divergence(serde_json::from_value(differ).unwrap()),
            Finding::Agreement(serde_json::from_value(agree).unwrap()),
        ] {
            last.note(found.clone());
            last.keep().unwrap();
            assert_eq!(LastComparison::load(dir.path()).get(), Some(found));
        }
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(LastComparison::load(dir.path()).get(), None);
    }
}
