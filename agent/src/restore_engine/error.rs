//! Why a restore of this node was not done. Pure.

use std::path::{Path, PathBuf};

use lifeboat_crds::document::DocumentError;
use lifeboat_snapshot::SnapshotError;

use super::order::OrderError;
use crate::host::crashsafe::WriteError;
use crate::partial_file::PartialError;

/// Why it was not done. Unless it says otherwise, the old data is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file or directory is not as it must be.
    #[error("{path} cannot be {step}: {source}", path = .path.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The copy of the file could not be written.
    #[error(transparent)]
    Copy(#[from] PartialError),
    /// The file is no sound snapshot.
    #[error("{path} is not a sound snapshot of etcd: {source}", path = .path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SnapshotError,
    },
    /// The file's pages could not all be checked.
    #[error("{path} cannot be proven: {reason}", path = .path.display())]
    Unproven {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The order cannot be read.
    #[error("{path} is not an order of this version of lifeboat: {source}", path = .path.display())]
    BadOrder {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DocumentError,
    },
    /// There is no order.
    #[error(
        "{path} has no order beside it: put it there with `lifeboat etcd restore`, so that every master restores alike",
        path = .0.display()
    )]
    NoOrder(PathBuf),
    /// The order is not for this node or this file.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The journal cannot be read.
    #[error("{path} is not a journal of this version of lifeboat: {words}", path = .path.display())]
    BadJournal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// The order was carried out here before, and etcd's data is other data by now.
    #[error(
        "this order was carried out here already: its token must not be used again. To go back to the same file once more, remove \
         the order beside it on the first master and begin there again: that makes a new order, which all others need too"
    )]
    DoneBefore,
    /// The versions do not go together.
    #[error("{0}")]
    Version(String),
    /// No tool of the version.
    #[error("{0}")]
    NoTool(String),
    /// The tool failed.
    #[error("etcd's own tool failed: {0}")]
    Tool(String),
    /// What the tool made is not what was in the file.
    #[error("what etcd's tool made of the file is not what was in it: {0}")]
    ReadBack(String),
    /// Not enough room.
    #[error("{path} has {available} bytes free and needs {needed}: make room, nothing was changed. Old data of earlier restores is shown by \
         `lifeboat etcd restore --status`; what is not needed any more may be removed", path = .path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Free.
        available: u64,
        /// Needed.
        needed: u64,
    },
    /// Something still uses the data.
    #[error("{0}")]
    InUse(String),
    /// The directories cannot be exchanged.
    #[error("{0}")]
    Layout(String),
    /// It was asked to stop.
    #[error("stopped before the exchange; it begins anew at the next start")]
    Interrupted,
}

impl RestoreError {
    /// Names what was being done with which file.
    pub fn disk<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Disk { step, path: path.to_owned(), source }
    }

    /// Whether the same try can never work: the file, the order or the node would have to change.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Unsound { .. }
            | Self::Unproven { .. }
            | Self::BadOrder { .. }
            | Self::NoOrder(_)
            | Self::Order(_)
            | Self::BadJournal { .. }
            | Self::DoneBefore
            | Self::Version(_)
            | Self::NoTool(_)
            | Self::NoSpace { .. }
            | Self::InUse(_)
            | Self::Layout(_) => true,
            Self::Disk { .. }
            | Self::Write(_)
            | Self::Copy(_)
            | Self::Tool(_)
            | Self::ReadBack(_)
            | Self::Interrupted => false,
        }
    }
}
