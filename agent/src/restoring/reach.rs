//! How the executor of a restore reaches the store and the restore: a copy of the location's file and of what it names, and where
//! etcd's data is, on this host.
//!
//! Made before the executor starts, because afterwards nobody is there to be asked; removed when the restore is over.

use std::path::{Path, PathBuf};

use lifeboat_crds::order::RestoreId;

use zeroize::Zeroizing;

use super::RestoringError;
use crate::archives::file::PortableFile;
use crate::host::crashsafe::{self, WriteError};

/// Below the state directory: one directory a restore.
const RESTORES: &str = "restores";
/// Holds etcd's data directory on the host: while its manifest is held, nothing else tells it.
const DATA_DIRECTORY: &str = "data-directory";

/// The private keys that open the backup.
const IDENTITY: &str = "identity";
/// Directory of the location of the backup, where it is another one.
const SOURCE: &str = "source";

/// Reads a file of private keys that a human named.
///
/// # Errors
/// It cannot be read.
pub fn read_identity(path: Option<&Path>) -> Result<Option<Zeroizing<Vec<u8>>>, RestoringError> {
    let Some(path) = path else { return Ok(None) };
    let read = std::fs::read(path).map(Zeroizing::new);
    let refused = |error| RestoringError::Refused(format!("{} cannot be read: {error}", path.display()));
    read.map(Some).map_err(refused)
}

fn write_all(root: &Path, files: &[PortableFile]) -> Result<(), WriteError> {
    files.iter().rev().try_for_each(|(name, text)| crashsafe::replace(&root.join(name), text.as_bytes(), 0o600))
}

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
        let path = self.root.join(IDENTITY);
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

    /// The file of the location that holds the backup, where it is another one than that in which the masters meet.
    pub fn source(&self) -> Option<PathBuf> {
        let path = self.root.join(SOURCE).join("location.yaml");
        path.exists().then_some(path)
    }

    /// Makes the copy: of the location in which the masters meet, of that of the backup where it is another one, of the private
    /// keys that open it, and of where etcd's data is.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn keep(
        &self,
        location: &[PortableFile],
        source: Option<&[PortableFile]>,
        identity: Option<Zeroizing<Vec<u8>>>,
        data_dir: &Path,
    ) -> Result<(), WriteError> {
        crashsafe::make_private_directory(&self.root)?;
        crashsafe::replace(&self.root.join(DATA_DIRECTORY), data_dir.as_os_str().as_encoded_bytes(), 0o600)?;
        // The location last: what can be reached is reached with everything that belongs to it.
        if let Some(files) = source {
            let root = self.root.join(SOURCE);
            crashsafe::make_private_directory(&root)?;
            write_all(&root, files)?;
        }
        if let Some(text) = identity {
            crashsafe::replace(&self.root.join(IDENTITY), &text, 0o600)?;
        }
        write_all(&self.root, location)
    }

    /// Removes it, private keys above all.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self) -> Result<(), WriteError> {
        crashsafe::remove_tree(&self.root)
    }
}
