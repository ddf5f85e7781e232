//! What is known of a re-initialisation under way, on the node's disk beside etcd's data. Reads and writes one small file.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::quorum::Nonce;
use crate::etcd::status::{ClusterId, MemberId};
use crate::host::crashsafe;
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::layout::{PRIVATE, Place};

/// Version that this build writes and reads.
const FORMAT: u32 = 1;

/// What was decided, and how far it is. Where it stands besides that, the members and the disk tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// Version of this document; another one is refused.
    pub format_version: u32,
    /// What this run writes into the lock in etcd, to know it again.
    #[cfg_attr(test, schemars(with = "String"))]
    pub nonce: Nonce,
    /// Id of the cluster, hex.
    pub cluster_id: String,
    /// Id of the member that leaves, hex; absent where it was removed before.
    pub old_member: Option<String>,
    /// Inode of its data; absent where there is none.
    pub old_inode: Option<u64>,
    /// Inode of a separate WAL.
    pub old_wal_inode: Option<u64>,
    /// Whether the member may have been removed: from then on the old data must not be started again.
    pub is_leaving: bool,
    /// Its new id, hex, once it votes again with the content of the others: all that is left is to say so.
    pub done: Option<String>,
    /// Where the others were found.
    pub endpoints: Vec<String>,
    /// When it was decided.
    #[cfg_attr(test, schemars(with = "String"))]
    pub begun: Timestamp,
}

impl Journal {
    /// A run that is about to begin.
    pub fn new(cluster: ClusterId, old_member: Option<MemberId>, nonce: Nonce, now: Timestamp) -> Self {
        Self {
            format_version: FORMAT,
            nonce,
            cluster_id: cluster.to_string(),
            old_member: old_member.map(|id| id.to_string()),
            old_inode: None,
            old_wal_inode: None,
            is_leaving: false,
            done: None,
            endpoints: Vec::new(),
            begun: now,
        }
    }

    /// Id of the member that leaves.
    pub fn old_id(&self) -> Option<MemberId> {
        let text = self.old_member.as_deref()?;
        u64::from_str_radix(text, 16).ok().map(MemberId)
    }

    /// The journal of a run under way.
    ///
    /// # Errors
    /// It cannot be read: then nothing may be started.
    pub fn read(place: &Place) -> Result<Option<Self>, RestoreError> {
        let path = path(place);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RestoreError::disk("read", &path)(error)),
        };
        let bad = |words: String| RestoreError::BadJournal { path: path.clone(), words };
        let journal: Self = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if journal.format_version != FORMAT {
            return Err(bad(format!("its version is {}", journal.format_version)));
        }
        Ok(Some(journal))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, place: &Place) -> Result<(), RestoreError> {
        let path = path(place);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| RestoreError::BadJournal { path: path.clone(), words: error.to_string() })?;
        text.push(b'\n');
        crashsafe::make_directory(&place.rejoin_directory(), 0o700)?;
        Ok(crashsafe::replace(&path, &text, PRIVATE)?)
    }
}

fn path(place: &Place) -> PathBuf {
    place.rejoin_directory().join("journal")
}

/// Where the old data waits.
pub fn old_data(place: &Place) -> PathBuf {
    place.rejoin_directory().join("old")
}

/// Where the old WAL waits, if it has a directory of its own: beside that, because it may be on another file system than the data.
pub fn old_wal_data(place: &Place) -> Option<PathBuf> {
    let wal = place.wal_dir.as_ref()?;
    let name = wal.file_name().unwrap_or_default().to_string_lossy();
    Some(wal.with_file_name(format!(".{name}.lifeboat-reinitialize")))
}

/// The snapshot taken before.
pub fn safety(place: &Place) -> PathBuf {
    place.rejoin_directory().join("before.db")
}

/// Client URLs of other members, one a line, as `etcd reinitialize --endpoint` leaves them for the supervisor.
pub fn given_endpoints(place: &Place) -> PathBuf {
    place.rejoin_directory().join("endpoints")
}

/// Takes everything of a run away, the journal last.
///
/// # Errors
/// The disk.
pub fn remove_all(place: &Place) -> Result<(), RestoreError> {
    let beside = [safety(place), given_endpoints(place), path(place)];
    for path in [old_data(place)].into_iter().chain(old_wal_data(place)).chain(beside) {
        if path.is_dir() { crashsafe::remove_tree(&path)? } else { crashsafe::remove(&path)? }
    }
    Ok(())
}
