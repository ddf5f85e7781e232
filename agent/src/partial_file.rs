//! A snapshot's file in the making: beside its final name as `.part`, readable by nobody else, and gone unless it was put in
//! its place. Writes one file, overwrites none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::host::crashsafe::{self, WriteError};
use crate::host::space::read_space;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// The file is there already.
    #[error("{path} exists already and is not overwritten", path = .0.display())]
    Exists(PathBuf),
    /// Somebody else is writing it.
    #[error("{path} is being written by another lifeboat: wait for it", path = .0.display())]
    Busy(PathBuf),
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
        for _ in 0..TRIES {
            // A snapshot holds every secret of the cluster.
            let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_remnant(&path)?;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            // The lock tells a file that is being written from what a kill left behind; the kernel drops it with the process.
            if file.try_lock().is_err() || !is_at(&file, &path).map_err(failed)? {
                continue;
            }
            return Ok(Self { target: target.to_owned(), path, file });
        }
        Err(PartialError::Busy(path))
    }

    /// Where it is in the making.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether so many bytes have room, and some is left.
    ///
    /// # Errors
    /// They have not.
    pub fn check_space(&self, bytes: u64) -> Result<(), PartialError> {
        let space = read_space(&self.path).map_err(|source| self.failed(source))?;
        let needed = space.needed_for(bytes);
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
        if !is_at(&self.file, &self.path).map_err(|source| self.failed(source))? {
            return Err(self.failed(io::Error::other("somebody put another file in its place")));
        }
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
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How often another writer may come and go meanwhile.
const TRIES: usize = 8;

/// Takes away what a try that was killed left behind: it is worth nothing.
fn remove_remnant(path: &Path) -> Result<(), PartialError> {
    let failed = |source| PartialError::Write { path: path.to_owned(), source };
    // Read only: it may have its final name already, and then nothing must be done to its content.
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if file.try_lock().is_err() {
        return Err(PartialError::Busy(path.to_owned()));
    }
    if is_at(&file, path).map_err(failed)? {
        std::fs::remove_file(path).map_err(failed)?;
    }
    Ok(())
}

/// Whether a file that is open is the one of this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
    fn two_who_write_the_same_file_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("snapshot.db");
        let first = PartialFile::make(&target).unwrap();
        first.write(b"whole").unwrap();
        assert!(matches!(PartialFile::make(&target), Err(PartialError::Busy(_))));
        // Somebody removed it by hand, and another one began: what is not one's own gets no name.
        std::fs::remove_file(first.path()).unwrap();
        let second = PartialFile::make(&target).unwrap();
        second.write(b"ha").unwrap();
        assert!(first.place().is_err() && !target.exists());
        second.write(b"lf").unwrap();
        second.place().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"half");
    }

    #[test]
    fn what_has_no_room_is_refused_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let partial = PartialFile::make(&dir.path().join("snapshot.db")).unwrap();
        assert!(matches!(partial.check_space(u64::MAX / 2), Err(PartialError::NoSpace { .. })));
    }
}
