//! Puts staged data in the place of the old, in one step of the file system each, and can always tell which is where.
//!
//! The journal with the inodes is on disk before the first exchange. From then on the way is forward only: whoever comes
//! next ends what was begun. The old data is kept. Blocking I/O.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::decision::{Side, decide_side};
use super::error::RestoreError;
use super::layout::{PRIVATE, Place, RestoreDirectory, RestoreId, old_wal};
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::crashsafe;

/// Directories of old data that are kept; the newest.
const KEPT: usize = 2;

/// How far the exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Progress {
    /// Begun: the staged data is whole and proven.
    Swapping,
    /// Ended.
    Done,
}

/// What is to be exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// Version of this document; another one is refused.
    pub format_version: u32,
    /// How far it is.
    pub progress: Progress,
    /// Digest of the order.
    pub order_digest: String,
    /// Inodes of `member`.
    pub member: Inodes,
    /// Inodes of a separate directory of the WAL.
    pub wal: Option<Inodes>,
    /// When the exchange was begun.
    #[cfg_attr(test, schemars(with = "String"))]
    pub begun: Timestamp,
}

/// Inodes of two directories that change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inodes {
    /// Of the old one; absent where there was none.
    pub old: Option<u64>,
    /// Of the new one.
    pub new: u64,
}

/// Version of the journal that this build writes and reads.
const FORMAT: u32 = 1;

/// Inode of a directory; nothing where it is not there.
///
/// # Errors
/// It cannot be looked at.
pub fn inode(path: &Path) -> Result<Option<u64>, RestoreError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(Some(metadata.ino())),
        Ok(_) => Err(RestoreError::Layout(format!(
            "{} is no directory: lifeboat changes places of directories only",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RestoreError::disk("looked at", path)(error)),
    }
}

/// The restores of this node that began an exchange and did not end it.
///
/// # Errors
/// A journal cannot be read: then nothing may be started.
pub fn find_unfinished(place: &Place) -> Result<Option<(RestoreId, Journal)>, RestoreError> {
    for id in restores(place)? {
        if let Some(journal) = read_journal(&place.restore(&id))?
            && journal.progress == Progress::Swapping
        {
            return Ok(Some((id, journal)));
        }
    }
    Ok(None)
}

fn restores(place: &Place) -> Result<Vec<RestoreId>, RestoreError> {
    let directory = place.own_directory();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RestoreError::disk("read", &directory)(error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| RestoreId::parse(&name)).collect())
}

/// The journal of one restore.
///
/// # Errors
/// It is there and cannot be read, or is of another version.
pub fn read_journal(directory: &RestoreDirectory) -> Result<Option<Journal>, RestoreError> {
    let path = directory.journal();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RestoreError::disk("read", &path)(error)),
    };
    let bad = |words: String| RestoreError::BadJournal { path: path.clone(), words };
    let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if journal.format_version != FORMAT {
        return Err(bad(format!("its version is {}", journal.format_version)));
    }
    Ok(Some(journal))
}

fn write_journal(directory: &RestoreDirectory, journal: &Journal) -> Result<(), RestoreError> {
    let mut text = serde_json::to_vec_pretty(journal)
        .map_err(|error| RestoreError::BadJournal { path: directory.journal(), words: error.to_string() })?;
    text.push(b'\n');
    Ok(crashsafe::replace(&directory.journal(), &text, PRIVATE)?)
}

/// Writes down what is about to be exchanged. From here on the way is forward.
///
/// # Errors
/// The disk; then nothing was begun.
pub fn begin(place: &Place, id: &RestoreId, digest: &str, now: Timestamp) -> Result<Journal, RestoreError> {
    let directory = place.restore(id);
    let of = |live: &Path, staged: &Path| -> Result<Inodes, RestoreError> {
        let missing = || RestoreError::Layout(format!("{} is gone", staged.display()));
        Ok(Inodes { old: inode(live)?, new: inode(staged)?.ok_or_else(missing)? })
    };
    let wal = match (&place.wal_dir, &directory.staged_wal) {
        (Some(live), Some(staged)) => Some(of(live, staged)?),
        (Some(_) | None, _) => None,
    };
    let journal = Journal {
        format_version: FORMAT,
        progress: Progress::Swapping,
        order_digest: digest.to_owned(),
        member: of(&place.member(), &directory.staged_member())?,
        wal,
        begun: now,
    };
    crash_point(CrashPoint::BeforeSwapIsWritten);
    write_journal(&directory, &journal)?;
    crash_point(CrashPoint::SwapIsWritten);
    Ok(journal)
}

/// Exchanges what is not exchanged yet. May run any number of times.
///
/// # Errors
/// Somebody moved the directories, or the file system refuses; where nothing at all was exchanged, `NotBegun` tells.
pub fn carry_out(place: &Place, id: &RestoreId, journal: &Journal) -> Result<(), RestoreError> {
    let directory = place.restore(id);
    let Journal { format_version: _, progress: _, order_digest: _, member, wal, begun: _ } = journal;
    if let (Some(inodes), Some(live), Some(staged)) = (wal, &place.wal_dir, &directory.staged_wal) {
        swap(*inodes, live, staged)?;
        crash_point(CrashPoint::WalIsSwapped);
    }
    swap(*member, &place.member(), &directory.staged_member())?;
    crash_point(CrashPoint::MemberIsSwapped);
    Ok(())
}

/// Takes an exchange back that could not be carried out whole, and says whether the old data is in place again.
pub fn take_back(place: &Place, id: &RestoreId, journal: &Journal) -> Result<(), RestoreError> {
    let directory = place.restore(id);
    let back = |inodes: Inodes, live: &Path, staged: &Path| match decide_side(
        inodes.old,
        inodes.new,
        inode(live)?,
        inode(staged)?,
    ) {
        Side::Before => Ok(()),
        Side::After if inodes.old.is_some() => rename(live, staged, RenameFlags::EXCHANGE),
        Side::After => rename(live, staged, RenameFlags::NOREPLACE),
        Side::Lost => Err(lost(live, staged)),
    };
    back(journal.member, &place.member(), &directory.staged_member())?;
    if let (Some(inodes), Some(live), Some(staged)) = (journal.wal, &place.wal_dir, &directory.staged_wal) {
        back(inodes, live, staged)?;
    }
    // The intention is void: without a journal the staging is only something to be made anew.
    std::fs::remove_file(directory.journal()).map_err(RestoreError::disk("removed", &directory.journal()))?;
    sync_directory(&directory.root)
}

fn swap(inodes: Inodes, live: &Path, staged: &Path) -> Result<(), RestoreError> {
    match decide_side(inodes.old, inodes.new, inode(live)?, inode(staged)?) {
        Side::After => Ok(()),
        Side::Before if inodes.old.is_some() => rename(staged, live, RenameFlags::EXCHANGE),
        Side::Before => rename(staged, live, RenameFlags::NOREPLACE),
        Side::Lost => Err(lost(live, staged)),
    }
}

fn lost(live: &Path, staged: &Path) -> RestoreError {
    RestoreError::Layout(format!(
        "neither the old data nor the new is at {} (the other was to be at {}): somebody moved them; put them back by hand",
        live.display(),
        staged.display()
    ))
}

/// Renames, and sees to it that a power cut cannot undo half of it.
fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), RestoreError> {
    renameat_with(CWD, from, CWD, to, flags).map_err(|error| RestoreError::disk("put in place", to)(error.into()))?;
    sync_parent(from)?;
    sync_parent(to)
}

fn sync_parent(path: &Path) -> Result<(), RestoreError> {
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Makes the names in a directory last.
///
/// # Errors
/// The disk.
pub fn sync_directory(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(RestoreError::disk("synced", path))
}

/// Gives the old data its name, and writes down that all is done. May run any number of times.
///
/// # Errors
/// The disk.
pub fn end(place: &Place, id: &RestoreId, journal: &Journal) -> Result<Option<PathBuf>, RestoreError> {
    let directory = place.restore(id);
    let (new, old) = (directory.staging(), directory.old());
    if journal.member.old.is_none() {
        // Nothing was in the place of the new data: what is left of the staging holds nothing.
        super::stage::clear(&directory)?;
    } else if new.exists() && !old.exists() {
        rename(&new, &old, RenameFlags::NOREPLACE)?;
    }
    if let (Some(_), Some(staged)) = (&journal.wal, &directory.staged_wal)
        && staged.exists()
        && old.exists()
    {
        rename(staged, &old_wal(&old), RenameFlags::NOREPLACE)?;
    }
    crash_point(CrashPoint::OldIsKept);
    write_journal(&directory, &Journal { progress: Progress::Done, ..journal.clone() })?;
    crash_point(CrashPoint::SwapIsDone);
    Ok((journal.member.old.is_some()).then_some(old))
}

/// Removes old data beyond the last two restores. What `current` has just put aside stays in any case: after a power cut the
/// clock may be set back, and by it the newest restore would be the oldest.
///
/// # Errors
/// The disk.
pub fn forget_oldest(place: &Place, current: &RestoreId) -> Result<(), RestoreError> {
    let mut ended = Vec::new();
    for id in restores(place)? {
        if let Some(journal) = read_journal(&place.restore(&id))?
            && journal.progress == Progress::Done
        {
            ended.push((id == *current, journal.begun, id));
        }
    }
    ended.sort();
    for (_, _, id) in ended.iter().rev().skip(KEPT) {
        let root = place.restore(id).root;
        std::fs::remove_dir_all(&root).map_err(RestoreError::disk("removed", &root))?;
    }
    Ok(())
}

/// Whether this file system can exchange two directories in one step; tried on two empty ones.
///
/// # Errors
/// It cannot, or the disk.
pub fn try_exchange(directory: &Path) -> Result<(), RestoreError> {
    let [one, two] = ["one", "two"].map(|name| directory.join(format!(".{name}.try")));
    for path in [&one, &two] {
        crashsafe::make_directory(path, 0o700)?;
    }
    let tried = renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE);
    for path in [&one, &two] {
        std::fs::remove_dir(path).map_err(RestoreError::disk("removed", path))?;
    }
    tried.map_err(|error| {
        RestoreError::Layout(format!(
            "the file system of {} cannot exchange two directories in one step ({error}), and without that a power cut could \
             leave no data in place",
            directory.display()
        ))
    })
}

#[cfg(test)]
mod tests;
