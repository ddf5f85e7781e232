//! What was asked for, kept beside a restore: an API server that was put back does not know it any more.

use std::io;

use lifeboat_crds::EtcdRestoreSpec;
use lifeboat_crds::finding::without_approval;
use lifeboat_executor::RestoreDirectory;

use crate::host::crashsafe::{self, WriteError};

/// Beside the order.
const FILE: &str = "request.json";
/// More than the schema of EtcdMember takes is not read.
const LARGEST: usize = 16_384;

/// Keeps the spec of a request, without its approval.
///
/// # Errors
/// The disk.
pub fn keep_request(directory: &RestoreDirectory, spec: &EtcdRestoreSpec) -> Result<(), WriteError> {
    let text = serde_json::to_vec(&without_approval(spec)).unwrap_or_default();
    crashsafe::replace(&directory.root().join(FILE), &text, 0o600)
}

/// The spec that was kept, as JSON; nothing where none was, or it is too large to be told.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_request(directory: &RestoreDirectory) -> io::Result<Option<String>> {
    match std::fs::read_to_string(directory.root().join(FILE)) {
        Ok(text) => Ok(Some(text).filter(|text| text.len() <= LARGEST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
