//! Puts staged data in the place of the old, in one step of the file system each, and can always tell which is where.
//!
//! The journal with the inodes is on disk before the first exchange. From then on the way is forward only: whoever comes
//! next ends what was begun. The old data is kept. Blocking I/O.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, RenameFlags, StatxFlags, renameat_with, statx};
use serde::{Deserialize, Serialize};

use super::decision::{Side, decide_side};
use super::error::RestoreError;
use super::layout::{PRIVATE, Place, RestoreDirectory, RestoreId};
use super::stage::clear;
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::crashsafe::{self, sync_directory, sync_parent};

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
/// Somebody moved the directories, or the file system refuses.
pub fn carry_out(place: &Place, id: &RestoreId, journal: &Journal) -> Result<(), RestoreError> {
    let directory = place.restore(id);
    let Journal { format_version: _, progress: _, order_digest: _, member, wal, begun: _ } = journal;
    if wal.is_some() != place.wal_dir.is_some() {
        return Err(RestoreError::Layout(format!(
            "the exchange was begun {} a WAL directory of its own, and etcd's manifest now says otherwise: put it back as it was",
            if wal.is_some() { "with" } else { "without" }
        )));
    }
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
    Ok(sync_directory(&directory.root)?)
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
///
/// # Errors
/// The file system.
pub fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), RestoreError> {
    renameat_with(CWD, from, CWD, to, flags).map_err(|error| RestoreError::disk("put in place", to)(error.into()))?;
    sync_parent(from)?;
    Ok(sync_parent(to)?)
}

/// Gives the old data its name, and writes down that all is done. May run any number of times.
///
/// # Errors
/// The disk.
pub fn end(place: &Place, id: &RestoreId, journal: &Journal) -> Result<Option<PathBuf>, RestoreError> {
    let directory = place.restore(id);
    let old = directory.old();
    keep(&directory.staging(), &old, journal.member)?;
    if let (Some(inodes), Some(staged), Some(old_wal)) = (journal.wal, &directory.staged_wal, &directory.old_wal) {
        keep(staged, old_wal, inodes)?;
    }
    crash_point(CrashPoint::OldIsKept);
    write_journal(&directory, &Journal { progress: Progress::Done, ..journal.clone() })?;
    crash_point(CrashPoint::SwapIsDone);
    Ok((journal.member.old.is_some()).then_some(old))
}

/// Gives what was exchanged for the new the name of old data. Nothing is ever removed here but a directory that is empty.
fn keep(exchanged: &Path, old: &Path, inodes: Inodes) -> Result<(), RestoreError> {
    if inodes.old.is_none() {
        // The new was moved out of it; there was nothing to come back.
        let _ = std::fs::remove_dir(exchanged);
    } else if exchanged.exists() {
        rename(exchanged, old, RenameFlags::NOREPLACE)?;
    }
    Ok(())
}

/// Whether an order was carried out on this node, as far as its directory is still there.
///
/// # Errors
/// Its journal cannot be read.
pub fn was_ended(place: &Place, id: &RestoreId) -> Result<bool, RestoreError> {
    Ok(read_journal(&place.restore(id))?.is_some_and(|journal| journal.progress == Progress::Done))
}

/// Throws away what restores have staged that never came to an exchange: no journal, so nothing in there was ever in use.
///
/// # Errors
/// The disk, or a journal cannot be read.
pub fn forget_unbegun(place: &Place) -> Result<(), RestoreError> {
    for id in restores(place)? {
        let directory = place.restore(&id);
        if read_journal(&directory)?.is_some() {
            continue;
        }
        clear(&directory)?;
        // Whatever else is in there is not ours, and stays.
        let _ = std::fs::remove_file(directory.order());
        let _ = std::fs::remove_dir(&directory.root);
    }
    Ok(())
}

/// What restores have put aside on this node and is still there. Only people remove it.
///
/// # Errors
/// The disk.
pub fn find_kept(place: &Place) -> Result<Vec<PathBuf>, RestoreError> {
    let mut ids = restores(place)?;
    ids.sort();
    let directories = ids.iter().map(|id| place.restore(id));
    let kept = directories.flat_map(|directory| {
        let own = [directory.old(), directory.old_rejoin()];
        own.into_iter().chain(directory.old_wal).chain(directory.old_rejoin_wal)
    });
    Ok(kept.filter(|path| path.exists()).collect())
}

/// Whether etcd's directories can change places with others in one step: tried, as far as that changes nothing.
///
/// # Errors
/// They cannot, or the disk.
pub fn check_places(place: &Place) -> Result<(), RestoreError> {
    check_movable(&place.member())?;
    check_wal(place)?;
    try_exchange(&place.own_directory())?;
    match place.wal_dir.as_deref().and_then(Path::parent) {
        Some(above) if above.is_dir() => try_exchange(above),
        Some(_) | None => Ok(()),
    }
}

/// Whether a WAL of its own lies where it can be moved.
///
/// # Errors
/// It does not.
pub fn check_wal(place: &Place) -> Result<(), RestoreError> {
    let Some(wal) = &place.wal_dir else { return Ok(()) };
    if wal.starts_with(place.member()) {
        return Err(RestoreError::Layout(format!("the WAL directory {} lies within etcd's own", wal.display())));
    }
    check_movable(wal)
}

/// A link and the root of a mount stay where they are: only what is in them could be moved, and not in one step.
fn check_movable(path: &Path) -> Result<(), RestoreError> {
    let Some(above) = path.parent().filter(|above| above.is_dir()) else { return Ok(()) };
    if inode(path)?.is_none() || mount_of(path)? == mount_of(above)? {
        return Ok(());
    }
    Err(RestoreError::Layout(format!(
        "{} is a mount point, which cannot change places with another directory: where it is one only in etcd's pod, restore on \
         the host with --perform; else have etcd use a directory below it",
        path.display()
    )))
}

/// The mount and the device of a directory; two binds of one file system are two mounts, and no rename goes across.
fn mount_of(path: &Path) -> Result<(u64, u64), RestoreError> {
    let failed = RestoreError::disk("looked at", path);
    let device = match path.metadata() {
        Ok(metadata) => metadata.dev(),
        Err(error) => return Err(failed(error)),
    };
    // Kernels before 5.8 do not tell the mount; the device is what is left then.
    let mount = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .ok()
        .filter(|told| told.stx_mask & StatxFlags::MNT_ID.bits() != 0)
        .map_or(0, |told| told.stx_mnt_id);
    Ok((mount, device))
}

/// Whether this file system can exchange two directories in one step; tried on two empty ones.
///
/// # Errors
/// It cannot, or the disk.
pub fn try_exchange(directory: &Path) -> Result<(), RestoreError> {
    let [one, two] = ["one", "two"].map(|name| directory.join(format!(".lifeboat-try-{name}")));
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
