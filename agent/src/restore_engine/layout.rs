//! Names and places of everything a restore reads and leaves. No I/O.

use std::path::{Path, PathBuf};

use super::order::Own;

/// Mode of files that hold secrets of the cluster.
pub const PRIVATE: u32 = 0o600;

/// The directories of one etcd, as this process sees them: on the host or in etcd's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Root of the data volume, where the control files are.
    pub volume: PathBuf,
    /// etcd's data directory, the volume itself or below it.
    pub data_dir: PathBuf,
    /// Separate directory of the WAL.
    pub wal_dir: Option<PathBuf>,
    /// etcd's own name and peer URLs.
    pub own: Own,
}

impl Place {
    /// The file to restore from; present at etcd's start means restore.
    pub fn restore_db(&self) -> PathBuf {
        self.volume.join("restore.db")
    }

    /// Its order.
    pub fn order(&self) -> PathBuf {
        self.volume.join("restore.db.order")
    }

    /// The file of a restore that failed; as long as it exists, no etcd is started.
    pub fn failed(&self) -> PathBuf {
        self.volume.join("restore.db.failed")
    }

    /// What became of the last restore.
    pub fn result(&self) -> PathBuf {
        result_in(&self.volume)
    }

    /// What etcd's supervisor is told.
    pub fn command(&self) -> PathBuf {
        self.volume.join("command")
    }

    /// What became of the last command.
    pub fn command_result(&self) -> PathBuf {
        self.volume.join("command-result")
    }

    /// etcd's data itself.
    pub fn member(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.member().join("snap/db")
    }

    /// Where the WAL is.
    pub fn wal(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.member().join("wal"))
    }

    /// Our own directory beside etcd's data; etcd warns about it and leaves it alone.
    pub fn own_directory(&self) -> PathBuf {
        self.data_dir.join("lifeboat")
    }

    /// The lock of whoever changes etcd's data.
    pub fn lock(&self) -> PathBuf {
        self.own_directory().join("lock")
    }

    /// The journal of re-initialising this member.
    pub fn rejoin_directory(&self) -> PathBuf {
        self.own_directory().join("reinitialize")
    }

    /// The directory of one restore.
    pub fn restore(&self, id: &RestoreId) -> RestoreDirectory {
        self.directory(&id.0)
    }

    /// The directory of a restore of this name, and what of it lies beside a WAL of its own.
    pub fn directory(&self, id: &str) -> RestoreDirectory {
        let beside_wal = |kind: &str| {
            self.wal_dir.as_ref().map(|wal| {
                let name = wal.file_name().unwrap_or_default().to_string_lossy();
                wal.with_file_name(format!(".{name}.lifeboat-{id}{kind}"))
            })
        };
        RestoreDirectory {
            root: self.own_directory().join(id),
            staged_wal: beside_wal(""),
            old_wal: beside_wal("-old"),
            old_rejoin_wal: beside_wal("-reinitialize"),
        }
    }
}

/// What became of the last restore, in a data volume.
pub fn result_in(volume: &Path) -> PathBuf {
    volume.join("restore-result")
}

/// Identity of a restore on this node: the first digits of its order's digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RestoreId(String);

impl RestoreId {
    /// Of an order's digest.
    pub fn of_digest(digest: &str) -> Self {
        Self(format!("restore-{}", digest.chars().take(16).collect::<String>()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of a directory's name.
    pub fn parse(name: &str) -> Option<Self> {
        name.starts_with("restore-").then(|| Self(name.to_owned()))
    }
}

/// Where one restore works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreDirectory {
    /// The directory.
    pub root: PathBuf,
    /// Where a separate WAL is staged: beside the one in use, on the same file system.
    pub staged_wal: Option<PathBuf>,
    /// Where the WAL that it replaced is kept: there too, because it cannot be moved to another file system in one step.
    pub old_wal: Option<PathBuf>,
    /// The old WAL of a re-initialisation that the restore took the place of.
    pub old_rejoin_wal: Option<PathBuf>,
}

impl RestoreDirectory {
    /// What is to be done, and how far it is.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The order it follows.
    pub fn order(&self) -> PathBuf {
        self.root.join("order")
    }

    /// A data directory in the making; after the exchange it holds the old data.
    pub fn staging(&self) -> PathBuf {
        self.root.join("new")
    }

    /// The old data, once the new is in place.
    pub fn old(&self) -> PathBuf {
        self.root.join("old")
    }

    /// What a re-initialisation had put aside that the restore took the place of.
    pub fn old_rejoin(&self) -> PathBuf {
        self.root.join("reinitialize")
    }

    /// The data in the making.
    pub fn staged_member(&self) -> PathBuf {
        self.staging().join("member")
    }

    /// The WAL in the making.
    pub fn staged_wal(&self) -> PathBuf {
        self.staged_wal.clone().unwrap_or_else(|| self.staged_member().join("wal"))
    }
}
