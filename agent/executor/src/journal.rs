//! The journal file: locked, read whole, appended to with fsync. What is in a line is `lifeboat-crds`' matter. Blocking I/O.
//!
//! What is acted upon must be on the disk. After an fsync that failed nobody knows what is, and the next one may answer
//! well all the same (the page was marked clean by the first); so a journal that could not be written is closed for good,
//! and whoever opens it writes what was read into a new file before it counts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_crds::journal::{Entry, JOURNAL_FORMAT, Journal, JournalError, Record, decode, encode};
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::RestoreId;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalFileError {
    /// The disk.
    #[error("{path} cannot be {step}: {source}", path = .path.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Another executor has it.
    #[error("another executor of this restore runs on this node ({path} is locked)", path = .0.display())]
    Locked(PathBuf),
    /// It says what must not be acted upon.
    #[error("{path}: {source}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: JournalError,
    },
    /// A newer version ended the restore.
    #[error("restore {restore_id:?} was ended here by a newer version of lifeboat: {outcome:?}")]
    EndedElsewhere {
        /// The restore, where it is named.
        restore_id: Option<RestoreId>,
        /// How.
        outcome: Outcome,
    },
    /// An earlier entry could not be written.
    #[error("{path} could not be written before; it is not written again until it was read anew", path = .0.display())]
    Closed(PathBuf),
}

impl JournalFileError {
    fn disk<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Disk { step, path: path.to_owned(), source }
    }
}

/// The journal of one restore on this node, open for appending. Nobody else has it.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    /// `None` once an entry could not be written.
    file: Option<File>,
    entries: Vec<Entry>,
    _lock: File,
}

impl JournalFile {
    /// Opens a journal; what is read is on the disk when this returns.
    ///
    /// # Errors
    /// Another executor has it, it cannot be read or written, or it must not be acted upon.
    pub fn open(path: &Path, lock: &Path) -> Result<Self, JournalFileError> {
        let lock = take_lock(lock)?;
        let bytes = std::fs::read(path).map_err(JournalFileError::disk("read", path))?;
        let unusable = |source| JournalFileError::Unusable { path: path.to_owned(), source };
        let (entries, good) = match decode(&bytes).map_err(unusable)? {
            Journal::Entries { entries, good } => (entries, good),
            Journal::EndedElsewhere { restore_id, outcome } => {
                return Err(JournalFileError::EndedElsewhere { restore_id, outcome });
            }
        };
        rewrite(path, bytes.get(..good).unwrap_or(&bytes))?;
        let opened = OpenOptions::new().append(true).open(path).map_err(JournalFileError::disk("opened", path))?;
        Ok(Self { path: path.to_owned(), file: Some(opened), entries, _lock: lock })
    }

    /// Every entry, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Appends an entry; it is on the disk when this returns.
    ///
    /// # Errors
    /// It may be there or not: nothing may be done upon it, and the journal must be opened anew.
    pub fn append(&mut self, record: Record, elapsed: Duration) -> Result<(), JournalFileError> {
        let path = self.path.clone();
        let mut file = self.file.take().ok_or_else(|| JournalFileError::Closed(path.clone()))?;
        let entry = Entry {
            format: JOURNAL_FORMAT,
            sequence: self.entries.len() as u64,
            elapsed_millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            record,
        };
        let line = encode(&entry).map_err(|source| JournalFileError::Unusable { path: path.clone(), source })?;
        file.write_all(&line).map_err(JournalFileError::disk("written", &path))?;
        file.sync_all().map_err(JournalFileError::disk("synced", &path))?;
        self.file = Some(file);
        self.entries.push(entry);
        Ok(())
    }
}

/// Reads a journal that somebody else may be writing; `None` where there is none.
///
/// # Errors
/// The disk.
pub fn read_journal(path: &Path) -> Result<Option<Result<Journal, JournalError>>, JournalFileError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalFileError::disk("read", path)(error)),
    }
}

/// The lock is a file of its own: one on the journal would go with the file that is replaced.
fn take_lock(path: &Path) -> Result<File, JournalFileError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(JournalFileError::disk("opened", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalFileError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(JournalFileError::disk("locked", path)(error)),
    }
}

fn rewrite(path: &Path, good: &[u8]) -> Result<(), JournalFileError> {
    let temporary = path.with_extension("tmp");
    write_synced(&temporary, good).map_err(JournalFileError::disk("written", &temporary))?;
    std::fs::rename(&temporary, path).map_err(JournalFileError::disk("renamed into place", path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    sync_directory(directory).map_err(JournalFileError::disk("synced", directory))
}

/// Writes a file that only its owner may read, to the disk.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the names in a directory last.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::order::OrderDigest;

    fn sealed() -> Record {
        let order_digest: OrderDigest = "0".repeat(64).parse().unwrap();
        Record::Sealed { restore_id: RestoreId::new("n", "a", 1, "s"), order_digest }
    }

    fn paths(dir: &Path) -> (PathBuf, PathBuf) {
        (dir.join("journal"), dir.join("executor.lock"))
    }

    fn open(dir: &Path) -> Result<JournalFile, JournalFileError> {
        let (path, lock) = paths(dir);
        JournalFile::open(&path, &lock)
    }

    #[test]
    fn what_was_appended_is_read_again_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal"), "").unwrap();
        let mut journal = open(dir.path()).unwrap();
        journal.append(sealed(), Duration::ZERO).unwrap();
        journal.append(Record::Staged, Duration::from_millis(1500)).unwrap();
        let before = journal.entries().to_vec();
        drop(journal);
        let again = open(dir.path()).unwrap();
        assert_eq!(again.entries(), before);
        assert_eq!(again.entries()[1].elapsed_millis, 1500);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_off_and_the_journal_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = paths(dir.path());
        std::fs::write(&path, "").unwrap();
        let mut journal = open(dir.path()).unwrap();
        journal.append(sealed(), Duration::ZERO).unwrap();
        let whole = std::fs::read(&path).unwrap().len();
        journal.append(Record::Staged, Duration::ZERO).unwrap();
        drop(journal);
        let both = std::fs::read(&path).unwrap();
        for cut in whole..both.len() {
            std::fs::write(&path, &both[..cut]).unwrap();
            let mut journal = open(dir.path()).unwrap();
            assert_eq!(journal.entries().len(), 1, "cut at {cut}");
            journal.append(Record::Waited, Duration::ZERO).unwrap();
            drop(journal);
            assert_eq!(open(dir.path()).unwrap().entries()[1].record, Record::Waited);
        }
    }

    #[test]
    fn a_second_executor_is_refused_and_one_after_the_first_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal"), "").unwrap();
        let first = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(JournalFileError::Locked(_))));
        drop(first);
        assert!(open(dir.path()).is_ok());
    }

    #[test]
    fn a_damaged_journal_is_not_opened_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = paths(dir.path());
        std::fs::write(&path, "").unwrap();
        let mut journal = open(dir.path()).unwrap();
        journal.append(sealed(), Duration::ZERO).unwrap();
        journal.append(Record::Staged, Duration::ZERO).unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(dir.path()), Err(JournalFileError::Unusable { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn after_a_write_that_failed_nothing_is_written_until_it_was_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = paths(dir.path());
        std::fs::write(&path, "").unwrap();
        let mut journal = open(dir.path()).unwrap();
        // A file that is open for reading takes no write.
        journal.file = Some(File::open(&path).unwrap());
        assert!(matches!(journal.append(sealed(), Duration::ZERO), Err(JournalFileError::Disk { .. })));
        assert!(matches!(journal.append(sealed(), Duration::ZERO), Err(JournalFileError::Closed(_))));
        assert!(journal.entries().is_empty());
        drop(journal);
        open(dir.path()).unwrap().append(sealed(), Duration::ZERO).unwrap();
    }
}
