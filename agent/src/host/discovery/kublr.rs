//! What Kublr's own files say of a master: where etcd's data volume is. Pure.

use std::path::PathBuf;

use serde::Deserialize;
use serde_norway::Value;

/// Where Kublr keeps etcd's data unless it is told otherwise.
pub const DEFAULT_VOLUME: &str = "/mnt/master-pd/etcd";

/// Texts as they were read; absent where there is nothing to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KublrFiles {
    /// `/etc/kublr/daemon.yaml`.
    pub daemon: Option<String>,
    /// What `kublr validate` prints: a stream of YAML documents, possibly between lines of its log.
    pub validate: Option<String>,
}

/// What is known of the data volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoragePath {
    /// It is said.
    Known {
        /// The directory on the host.
        path: PathBuf,
        /// Who says so.
        source: &'static str,
    },
    /// Nothing says it.
    Unknown,
    /// Something says it that cannot be read.
    NotUnderstood(String),
}

impl KublrFiles {
    /// `etcd_storage.path`: of daemon.yaml, else of what `kublr validate` prints.
    pub fn storage_path(&self) -> StoragePath {
        let Self { daemon, validate } = self;
        for (text, source) in [(daemon, "/etc/kublr/daemon.yaml"), (validate, "kublr validate")] {
            let Some(text) = text else { continue };
            match find_path(text) {
                Ok(Some(path)) if path.is_absolute() => return StoragePath::Known { path, source },
                Ok(Some(path)) => {
                    return StoragePath::NotUnderstood(format!(
                        "{source} says that etcd_storage.path is {path:?}, which is no absolute path: say --data-dir"
                    ));
                }
                Ok(None) => {}
                Err(words) => {
                    return StoragePath::NotUnderstood(format!("{source} is not understood ({words}): say --data-dir"));
                }
            }
        }
        StoragePath::Unknown
    }
}

/// The first `etcd_storage.path` in a stream of YAML documents.
fn find_path(text: &str) -> Result<Option<PathBuf>, String> {
    let mut failed = None;
    // By hand: a parser of streams ends at the first document that is none, and the program's log lines are such.
    for document in text.split("\n---") {
        match serde_norway::from_str::<Value>(document.trim_start_matches("---")) {
            Ok(value) => {
                if let Some(path) = value.get("etcd_storage").and_then(|storage| storage.get("path")) {
                    return PathBuf::deserialize(path).map(Some).map_err(|error| error.to_string());
                }
            }
            Err(error) => failed = Some(error.to_string()),
        }
    }
    // Only a document that could have held it is worth complaining about.
    match failed {
        Some(words) if text.contains("etcd_storage") => Err(words),
        Some(_) | None => Ok(None),
    }
}
