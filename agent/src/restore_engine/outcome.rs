//! `restore-result`: what became of the last restore of this node, for people and programs. Writes one small file.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::{Time, whole_seconds};
use serde::{Deserialize, Serialize};

use super::layout::{RestoreId, result_in};
use crate::host::crashsafe::{self, WriteError};

/// Mode of the file: no secret is in it.
const MODE: u32 = 0o644;

/// How far a restore came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Name of the directory beside a separate WAL that holds the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_wal: Option<PathBuf>,
    /// When it began.
    #[cfg_attr(test, schemars(with = "String"))]
    pub start_time: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
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
            old_wal: None,
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

/// What became of the last restore of this host, as its EtcdMember tells it; nothing where there was none. Blocking, one small
/// file.
///
/// A restore that failed or was taken back counts too: it takes the place of what was said of one before it, which may have
/// been done. One whose words cannot be read is of unknown time.
pub fn read_last_restore(volume: &Path) -> Option<LastRestore> {
    let path = result_in(volume);
    match RestoreResult::read(&path) {
        Ok(result) => result.map(told),
        Err(error) => Some(LastRestore {
            restore_id: "unknown".to_owned(),
            ref_: "unknown".to_owned(),
            outcome: "Unknown".to_owned(),
            message: format!(
                "{} cannot be read: {error}; no policy deletes anything until it is readable, or gone",
                path.display()
            ),
            ..LastRestore::default()
        }),
    }
}

fn told(result: RestoreResult) -> LastRestore {
    let RestoreResult {
        format_version: _,
        state,
        order_digest,
        code: _,
        cluster_id: _,
        revision,
        message,
        old_data: _,
        old_wal: _,
        start_time,
        completion_time,
        after_start: _,
    } = result;
    let restore_id =
        order_digest.map_or_else(|| "unknown".to_owned(), |digest| RestoreId::of_digest(&digest).as_str().to_owned());
    let outcome = match state {
        State::Staging => "Staging",
        State::Swapping => "Swapping",
        State::Restored => LastRestore::RESTORED,
        State::Failed => "Failed",
        State::Aborted => "Aborted",
    };
    // While it is under way there is no API server that could be told.
    let time = completion_time.unwrap_or(start_time);
    LastRestore {
        ref_: format!("api-less-{restore_id}"),
        restore_id,
        attempt: 1,
        outcome: outcome.to_owned(),
        message: message.chars().take(4_096).collect(),
        revision,
        outage_seconds: None,
        time: Some(Time(whole_seconds(time))),
        spec: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_restore_is_told_as_it_ended_and_one_that_cannot_be_read_is_of_unknown_time() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_last_restore(dir.path()), None);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begun = RestoreResult {
            order_digest: Some("0123456789abcdef0123".into()),
            ..RestoreResult::begun(State::Staging, "w".into(), at("2026-11-24T12:00:00.5Z"))
        };
        let path = result_in(dir.path());
        begun.write(&path).unwrap();
        let told = read_last_restore(dir.path()).unwrap();
        assert_eq!((told.outcome.as_str(), told.time.unwrap().0), ("Staging", at("2026-11-24T12:00:00Z")));
        let done = RestoreResult {
            state: State::Restored,
            completion_time: Some(at("2026-11-24T12:07:00Z")),
            revision: Some(9),
            ..begun
        };
        done.write(&path).unwrap();
        let told = read_last_restore(dir.path()).unwrap();
        assert_eq!((told.outcome.as_str(), told.revision), (LastRestore::RESTORED, Some(9)));
        assert_eq!(told.time.unwrap().0, at("2026-11-24T12:07:00Z"));
        assert_eq!(
            (told.restore_id.as_str(), told.ref_.as_str()),
            ("restore-0123456789abcdef", "api-less-restore-0123456789abcdef")
        );
        std::fs::write(&path, "{").unwrap();
        let told = read_last_restore(dir.path()).unwrap();
        assert!(told.time.is_none() && told.message.contains("cannot be read"), "{told:?}");
    }
}
