//! A snapshot's file in the making: beside its final name as `.part`, readable by nobody else, and gone unless it was put in
//! its place. Writes one file, overwrites none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::host::crashsafe::{self, WriteError};
use crate::host::space::read_space;

/// Of a file system that is left free, in percent.
const RESERVE_PERCENT: u64 = 5;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
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
}

/// The file, removed when it goes out of scope.
#[derive(Debug)]
pub struct PartialFile {
    target: PathBuf,
    path: PathBuf,
    file: File,
}

impl PartialFile {
    /// An empty one, for a file that is not there yet.
    ///
    /// # Errors
    /// It is, or nothing can be written there.
    pub fn make(target: &Path) -> Result<Self, PartialError> {
        if target.symlink_metadata().is_ok() {
            return Err(PartialError::Exists(target.to_owned()));
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = target.with_file_name(name);
        let failed = |source| PartialError::Write { path: path.clone(), source };
        // What a try that was killed left behind is worth nothing.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // A snapshot holds every secret of the cluster.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        Ok(Self { target: target.to_owned(), path, file })
    }

    /// Whether so many bytes have room, and some is left.
    ///
    /// # Errors
    /// They have not.
    pub fn check_space(&self, bytes: u64) -> Result<(), PartialError> {
        let space = read_space(&self.path).map_err(|source| self.failed(source))?;
        let needed = bytes.saturating_add(space.total / 100 * RESERVE_PERCENT);
        if space.available < needed {
            return Err(PartialError::NoSpace { path: self.path.clone(), available: space.available, needed });
        }
        Ok(())
    }

    /// Appends.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, bytes: &[u8]) -> Result<(), PartialError> {
        (&self.file).write_all(bytes).map_err(|source| self.failed(source))
    }

    /// The same file for somebody else to write.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn share(&self) -> Result<File, PartialError> {
        self.file.try_clone().map_err(|source| self.failed(source))
    }

    /// Gives it its name, whole and on the disk.
    ///
    /// # Errors
    /// The name is taken, or the disk fails.
    pub fn place(self) -> Result<(), PartialError> {
        self.file.sync_all().map_err(|source| self.failed(source))?;
        match crashsafe::place_new(&self.path, &self.target)? {
            true => Ok(()),
            false => Err(PartialError::Exists(self.target.clone())),
        }
    }

    fn failed(&self, source: std::io::Error) -> PartialError {
        PartialError::Write { path: self.path.clone(), source }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Where the file has its name, this is its second one.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("snapshot.db");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let given_up = PartialFile::make(&target).unwrap();
        given_up.write(b"half").unwrap();
        drop(given_up);
        assert_eq!(names(), 0);
        std::fs::write(dir.path().join("snapshot.db.part"), b"left by a try that was killed").unwrap();
        let partial = PartialFile::make(&target).unwrap();
        partial.write(b"whole").unwrap();
        partial.place().unwrap();
        assert_eq!((std::fs::read(&target).unwrap().as_slice(), names()), (&b"whole"[..], 1));
        assert!(matches!(PartialFile::make(&target), Err(PartialError::Exists(_))));
    }

    #[test]
    fn what_has_no_room_is_refused_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let partial = PartialFile::make(&dir.path().join("snapshot.db")).unwrap();
        assert!(matches!(partial.check_space(u64::MAX / 2), Err(PartialError::NoSpace { .. })));
    }
}
