//! `command-result`: what became of the last command, for people and programs. Writes one small file.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::crashsafe::{self, WriteError};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Outcome {
    /// It is being done.
    Running,
    /// It is done.
    Done,
    /// It was not begun; nothing was changed.
    Refused,
    /// It was begun and did not work; etcd runs as before.
    Failed,
    /// Another pod than lifeboat's has answered, in words of its own; never in the file, only shown.
    Answered,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CommandResult {
    /// Version of this document.
    pub format_version: String,
    /// The command, as far as it can be shown.
    pub command: String,
    /// What became of it.
    pub outcome: Outcome,
    /// In words.
    pub message: String,
    /// When it was seen.
    #[cfg_attr(test, schemars(with = "String"))]
    pub start_time: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub completion_time: Option<Timestamp>,
}

impl CommandResult {
    /// What is known of a command now.
    pub fn new(command: &str, outcome: Outcome, message: String, begun: Timestamp, now: Timestamp) -> Self {
        let is_over = outcome != Outcome::Running;
        Self {
            format_version: "1.0".to_owned(),
            command: command.chars().filter(|character| !character.is_control()).take(64).collect(),
            outcome,
            message,
            start_time: begun,
            completion_time: is_over.then_some(now),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        crashsafe::replace(path, &text, 0o644)
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
