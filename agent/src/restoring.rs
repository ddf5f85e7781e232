//! What a master needs to take part in a restore of all masters, whoever asks for it: `lifeboat restore` or the agent.
//!
//! Where it is and what it is called, which orders it believes, how its executor is reached and started, what people say to
//! that one, and how the restore stands. Reads and writes this host and the location; decides nothing of the protocol.

pub mod code;
#[cfg(test)]
pub mod fixture;
pub mod hand;
pub mod humans;
pub mod keys;
pub mod launch;
pub mod reach;
pub mod sealing;
pub mod site;
pub mod standing;

use lifeboat_executor::{DirectoryError, JournalFileError, RunError, SealError, StartError};

use crate::archives::ArchiveError;
use crate::archives::file::FileError;
use crate::host::crashsafe::WriteError;
use crate::node_cli::NodeError;

/// Why something of a restore was not done.
#[derive(Debug, thiserror::Error)]
pub enum RestoringError {
    /// It is refused; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// It goes on, and is not waited for any longer.
    #[error("{0}")]
    GoesOn(String),
    /// This master.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The location, or the backup.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The order does not count.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What is sealed here.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
    /// The executor.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Standard output is gone, or a program could not be started.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<FileError> for RestoringError {
    fn from(error: FileError) -> Self {
        Self::Archive(error.into())
    }
}

impl RestoringError {
    /// The exit code (docs/reference).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Start(StartError::Refused(_)) => 4,
            Self::GoesOn(_) => 3,
            Self::Node(error) => error.exit_code(),
            Self::Archive(error) => error.exit_code(),
            Self::Failed(_)
            | Self::Start(_)
            | Self::Seal(_)
            | Self::Directory(_)
            | Self::Journal(_)
            | Self::Run(_)
            | Self::Write(_)
            | Self::Io(_) => 1,
        }
    }
}
