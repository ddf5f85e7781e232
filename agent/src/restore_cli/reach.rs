//! How the executor of a restore reaches the store and the restore: a copy of the location's file and of what it names, and where
//! etcd's data is, on this host.
//!
//! Made before the executor starts, because afterwards nobody is there to be asked; removed when the restore is over.

use std::path::{Path, PathBuf};

use lifeboat_crds::order::RestoreId;

use super::RestoreCliError;
use crate::archives::file::{LocationFile, StoreKeys};
use crate::host::crashsafe::{self, WriteError};

/// Below the state directory: one directory a restore.
const RESTORES: &str = "restores";
/// Holds etcd's data directory on the host: while its manifest is held, nothing else tells it.
const DATA_DIRECTORY: &str = "data-directory";

/// The copy for one restore.
#[derive(Clone, Debug)]
pub struct Reach {
    root: PathBuf,
}

impl Reach {
    /// Where it is. Touches nothing.
    pub fn of(state_dir: &Path, id: &RestoreId) -> Self {
        Self { root: state_dir.join(RESTORES).join(id.as_str()) }
    }

    /// The location's file.
    pub fn location(&self) -> PathBuf {
        self.root.join("location.yaml")
    }

    /// The file of private keys, where the backup needs one.
    pub fn identity(&self) -> Option<PathBuf> {
        let path = self.root.join("identity");
        path.exists().then_some(path)
    }

    /// Whether it is there: until everything about the restore is done.
    pub fn is_kept(&self) -> bool {
        self.root.exists()
    }

    /// etcd's data directories of restores that are not over on this host; what cannot be read is left out.
    pub fn data_directories(state_dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(state_dir.join(RESTORES)).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join(DATA_DIRECTORY)).ok());
        texts.map(PathBuf::from).collect()
    }

    /// Makes the copy.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn keep(
        &self,
        location: &LocationFile,
        keys: &StoreKeys,
        identity: Option<&Path>,
        data_dir: &Path,
    ) -> Result<(), RestoreCliError> {
        crashsafe::make_private_directory(&self.root)?;
        crashsafe::replace(&self.root.join(DATA_DIRECTORY), data_dir.as_os_str().as_encoded_bytes(), 0o600)?;
        for (name, text) in location.portable(keys)? {
            crashsafe::replace(&self.root.join(name), text.as_bytes(), 0o600)?;
        }
        if let Some(path) = identity {
            let text = std::fs::read(path)
                .map_err(|error| RestoreCliError::Refused(format!("{} cannot be read: {error}", path.display())))?;
            crashsafe::replace(&self.root.join("identity"), &text, 0o600)?;
        }
        Ok(())
    }

    /// Removes it, private keys above all.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self) -> Result<(), WriteError> {
        crashsafe::remove_tree(&self.root)
    }
}
