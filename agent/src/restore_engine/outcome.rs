//! `restore-result`: what became of the last restore of this node, for people and programs. Writes one small file.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::crashsafe::{self, WriteError};

/// Mode of the file: no secret is in it.
const MODE: u32 = 0o644;

/// How far a restore came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The file is being proven and unpacked; the old data is untouched.
    Staging,
    /// The new data is whole and takes the place of the old; goes on at the next start, whatever happens.
    Swapping,
    /// The new data is in place.
    Restored,
    /// It was not done; the old data is untouched.
    Failed,
    /// It was taken back before it was done.
    Aborted,
}

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreResult {
    /// Version of this document.
    pub format_version: String,
    /// How far it came.
    pub state: State,
    /// Digest of the order; the same on every master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_digest: Option<String>,
    /// Its beginning, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Id of the new cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// First revision of the new cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// What happened, in words.
    pub message: String,
    /// Where the old data is, relative to the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_data: Option<PathBuf>,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// What was done once etcd served again, such as disarming alarms that the snapshot held; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_start: Option<String>,
}

impl RestoreResult {
    /// One that begins now.
    pub fn begun(state: State, message: String, now: Timestamp) -> Self {
        Self {
            format_version: "1.0".to_owned(),
            state,
            order_digest: None,
            code: None,
            cluster_id: None,
            revision: None,
            message,
            old_data: None,
            start_time: now,
            completion_time: None,
            after_start: None,
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        crashsafe::replace(path, &text, MODE)
    }

    /// The last one; nothing where none is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
