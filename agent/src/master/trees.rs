//! The two data trees of a restore, old and new: which lies in place, told by inode; exchanged, locked, thrown away. Blocking
//! I/O.

use std::path::{Path, PathBuf};

use lifeboat_crds::journal::{Inodes, WalInodes};
use lifeboat_crds::order::EtcdClusterId;
use lifeboat_protocol::next::Tree;
use lifeboat_protocol::observed::{Lies, Locks, Placed, Side, Staging};
use rustix::fs::RenameFlags;

use crate::host::crashsafe::{self, sync_directory};
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::exchange::{inode, rename};
use crate::restore_engine::identity::read_wal_head;
use crate::restore_engine::layout::{Place, RestoreDirectory};
use crate::restore_engine::stage::clear;
use crate::restore_engine::standstill::{Lock, lock_database};

/// Says that the staged data is whole and equal to its backup, by the inode of its `member`.
const PROVEN: &str = "proven";

/// Both trees.
#[derive(Debug)]
pub struct Trees {
    place: Place,
    directory: RestoreDirectory,
    old: Option<Lock>,
    new: Option<Lock>,
}

/// What lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laid {
    /// Which data is in place.
    pub placed: Placed,
    /// Cluster id in it.
    pub cluster: Option<EtcdClusterId>,
    /// The restored data.
    pub staging: Staging,
    /// Directories to exchange, once both are there.
    pub inodes: Option<Inodes>,
}

impl Trees {
    /// The trees of a restore. Touches nothing.
    pub fn new(place: Place, id: &str) -> Self {
        let directory = place.directory(id);
        Self { place, directory, old: None, new: None }
    }

    /// etcd's directories.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where the restore works.
    pub fn directory(&self) -> &RestoreDirectory {
        &self.directory
    }

    /// Locks that are held.
    pub fn locks(&self) -> Locks {
        Locks { old: self.old.is_some(), new: self.new.is_some() }
    }

    /// Sees what lies where. `known` are the directories that the journal names.
    ///
    /// # Errors
    /// The disk.
    pub fn look(&self, known: Option<Inodes>) -> Result<Laid, RestoreError> {
        let member = inode(&self.place.member())?;
        let wal = match &self.place.wal_dir {
            Some(wal) => Some(inode(wal)?),
            None => None,
        };
        let placed = match known {
            None => Placed {
                member: if member.is_some() { Lies::Old } else { Lies::Unknown },
                wal: wal.map(|wal| if wal.is_some() { Lies::Old } else { Lies::Unknown }),
            },
            Some(Inodes { old_member, new_member, wal: wals }) => Placed {
                member: which(member, old_member, new_member),
                wal: wal.map(|wal| wals.map_or(Lies::Unknown, |WalInodes { old, new }| which(wal, old, new))),
            },
        };
        let head = read_wal_head(&self.place.wal()).map_err(RestoreError::disk("read", &self.place.wal()))?;
        // While WAL and member are of two clusters there is no saying which it is.
        let is_one = placed.is(Side::Old) || placed.is(Side::New);
        let staging = self.staging(member)?;
        let inodes = match (staging, known) {
            (_, Some(known)) => Some(known),
            (Staging::Proven, None) => self.to_exchange()?,
            (Staging::Absent | Staging::Partial, None) => None,
        };
        Ok(Laid {
            placed,
            cluster: head.filter(|_| is_one).map(|head| EtcdClusterId(head.cluster_id)),
            staging,
            inodes,
        })
    }

    fn staging(&self, live: Option<u64>) -> Result<Staging, RestoreError> {
        let staged = inode(&self.directory.staged_member())?;
        let text = std::fs::read_to_string(self.proven()).ok();
        let proven = text.and_then(|text| text.trim().parse::<u64>().ok());
        if proven.is_some() && (proven == staged || proven == live) {
            return Ok(Staging::Proven);
        }
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let leftovers = [self.directory.staging(), self.proven()].into_iter().chain(self.directory.staged_wal.clone());
        Ok(if leftovers.into_iter().any(|path| is_there(&path)) { Staging::Partial } else { Staging::Absent })
    }

    fn to_exchange(&self) -> Result<Option<Inodes>, RestoreError> {
        let pair = (inode(&self.place.member())?, inode(&self.directory.staged_member())?);
        let (Some(old_member), Some(new_member)) = pair else { return Ok(None) };
        let wal = match (&self.place.wal_dir, &self.directory.staged_wal) {
            (Some(live), Some(staged)) => {
                let (Some(old), Some(new)) = (inode(live)?, inode(staged)?) else { return Ok(None) };
                Some(WalInodes { old, new })
            }
            (Some(_) | None, _) => None,
        };
        Ok(Some(Inodes { old_member, new_member, wal }))
    }

    fn proven(&self) -> PathBuf {
        self.directory.root.join(PROVEN)
    }

    /// Writes down that what is staged is whole and proven.
    ///
    /// # Errors
    /// The disk.
    pub fn mark_proven(&self) -> Result<(), RestoreError> {
        let staged = self.directory.staged_member();
        let number = inode(&staged)?.ok_or_else(|| RestoreError::Layout(format!("{} is gone", staged.display())))?;
        Ok(crashsafe::replace(&self.proven(), format!("{number}\n").as_bytes(), 0o600)?)
    }

    /// Throws the restored data away. Only ever asked for while the old data is in place.
    ///
    /// # Errors
    /// The disk, or the old data is not in place.
    pub fn discard(&mut self, known: Option<Inodes>) -> Result<(), RestoreError> {
        if !self.look(known)?.placed.is(Side::Old) {
            return Err(RestoreError::Layout("the old data is not in place; nothing is thrown away".to_owned()));
        }
        self.new = None;
        crashsafe::remove(&self.proven())?;
        clear(&self.directory)?;
        Ok(sync_directory(&self.directory.root)?)
    }

    /// Takes the locks of both data, or of the one that is left. One that is held is kept.
    ///
    /// # Errors
    /// Somebody else holds one.
    pub fn lock_both(&mut self, known: Option<Inodes>) -> Result<(), RestoreError> {
        self.lock_old(known)?;
        if self.new.is_none() {
            self.new = lock_database(&self.database(Side::New, known)?)?;
        }
        Ok(())
    }

    /// Takes the lock of the old data.
    ///
    /// # Errors
    /// Somebody else holds it.
    pub fn lock_old(&mut self, known: Option<Inodes>) -> Result<(), RestoreError> {
        if self.old.is_none() {
            self.old = lock_database(&self.database(Side::Old, known)?)?;
        }
        Ok(())
    }

    /// Gives up the lock of the data in place, so that etcd can start on it.
    ///
    /// # Errors
    /// The disk.
    pub fn release_placed(&mut self, known: Option<Inodes>) -> Result<(), RestoreError> {
        match self.look(known)?.placed.member {
            Lies::Old => self.old = None,
            Lies::New => self.new = None,
            Lies::Unknown => {}
        }
        Ok(())
    }

    fn database(&self, side: Side, known: Option<Inodes>) -> Result<PathBuf, RestoreError> {
        let is_placed = self.look(known)?.placed.member == side.into();
        let member = if is_placed { self.place.member() } else { self.directory.staged_member() };
        Ok(member.join("snap/db"))
    }

    /// `member` and WAL directories in place, and those aside.
    pub fn directories(&self) -> [Vec<PathBuf>; 2] {
        let placed = [Some(self.place.member()), self.place.wal_dir.clone()];
        let aside = [Some(self.directory.staged_member()), self.directory.staged_wal.clone()];
        [placed, aside].map(|paths| paths.into_iter().flatten().collect())
    }

    /// Exchanges one pair of directories, in one step of the file system, and makes it last.
    ///
    /// # Errors
    /// The file system, or what lies there is not what is to be exchanged.
    pub fn exchange(&self, tree: Tree, to: Side, known: Option<Inodes>) -> Result<(), RestoreError> {
        let placed = self.look(known)?.placed;
        let (live, staged, lies) = match (tree, &self.place.wal_dir, &self.directory.staged_wal) {
            (Tree::Member, _, _) => (self.place.member(), self.directory.staged_member(), placed.member),
            (Tree::Wal, Some(live), Some(staged)) => {
                (live.clone(), staged.clone(), placed.wal.unwrap_or(Lies::Unknown))
            }
            (Tree::Wal, _, _) => return Err(RestoreError::Layout("there is no WAL of its own here".to_owned())),
        };
        let lost = || RestoreError::Layout(format!("{} is not what the journal names", live.display()));
        if lies == to.into() {
            return Ok(());
        }
        if lies == Lies::Unknown || inode(&staged)? != known.and_then(|known| inode_of(known, tree, to)) {
            return Err(lost());
        }
        rename(&staged, &live, RenameFlags::EXCHANGE)
    }
}

fn which(found: Option<u64>, old: u64, new: u64) -> Lies {
    match found {
        Some(number) if number == old => Lies::Old,
        Some(number) if number == new => Lies::New,
        Some(_) | None => Lies::Unknown,
    }
}

fn inode_of(known: Inodes, tree: Tree, side: Side) -> Option<u64> {
    match (tree, side) {
        (Tree::Member, Side::Old) => Some(known.old_member),
        (Tree::Member, Side::New) => Some(known.new_member),
        (Tree::Wal, Side::Old) => known.wal.map(|wal| wal.old),
        (Tree::Wal, Side::New) => known.wal.map(|wal| wal.new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore_engine::order::Own;

    fn trees(dir: &Path) -> Trees {
        let place = Place {
            volume: dir.to_owned(),
            data_dir: dir.to_owned(),
            wal_dir: None,
            own: Own { name: "m0".into(), peer_urls: vec![] },
        };
        for member in [place.member(), dir.join("lifeboat/0123/new/member")] {
            std::fs::create_dir_all(member.join("snap")).unwrap();
            std::fs::create_dir_all(member.join("wal")).unwrap();
            std::fs::write(member.join("snap/db"), member.display().to_string()).unwrap();
        }
        Trees::new(place, "0123")
    }

    #[test]
    fn an_exchange_is_told_by_inodes_done_once_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut trees = trees(dir.path());
        assert_eq!(trees.look(None).unwrap().staging, Staging::Partial);
        trees.mark_proven().unwrap();
        let before = trees.look(None).unwrap();
        assert_eq!((before.staging, before.placed.member), (Staging::Proven, Lies::Old));
        let known = before.inodes;
        assert!(known.is_some());
        trees.lock_both(known).unwrap();
        assert_eq!(trees.locks(), Locks { old: true, new: true });
        for _ in 0..2 {
            trees.exchange(Tree::Member, Side::New, known).unwrap();
            let after = trees.look(known).unwrap();
            assert_eq!((after.staging, after.placed.member, after.inodes), (Staging::Proven, Lies::New, known));
        }
        assert!(trees.discard(known).is_err(), "the new data is in place");
        // The lock goes with the data, not with the path.
        trees.release_placed(known).unwrap();
        assert_eq!(trees.locks(), Locks { old: true, new: false });
        assert!(lock_database(&trees.place.database()).is_ok());
        assert!(lock_database(&trees.directory.staged_member().join("snap/db")).is_err());
        trees.exchange(Tree::Member, Side::Old, known).unwrap();
        assert_eq!(trees.look(known).unwrap().placed.member, Lies::Old);
        trees.discard(known).unwrap();
        assert_eq!(trees.look(known).unwrap().staging, Staging::Absent);
    }

    #[test]
    fn what_somebody_moved_is_not_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let trees = trees(dir.path());
        trees.mark_proven().unwrap();
        let known = trees.look(None).unwrap().inodes;
        std::fs::rename(trees.place.member(), dir.path().join("elsewhere")).unwrap();
        std::fs::create_dir_all(trees.place.member()).unwrap();
        assert_eq!(trees.look(known).unwrap().placed.member, Lies::Unknown);
        assert!(trees.exchange(Tree::Member, Side::New, known).is_err());
    }
}
