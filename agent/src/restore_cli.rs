//! `lifeboat restore …`: a restore of all masters at once, without operator and API server.
//!
//! `start` on one master writes the order into the location, `join` on the others seals it; on each an executor of its own
//! carries it out and survives whoever started it. These commands write the location's `restores/`, the restore's directory in
//! etcd's data volume, and a cache of how the location is reached; what is done to the master, the executor does. Exit codes:
//! 0 done or shown, 1 failed or rolled back, 2 usage, 3 it goes on and is not waited for, 4 refused and nothing changed.

mod cleanup;
mod code;
mod decide;
mod executor;
#[cfg(test)]
mod fixture;
mod follow;
mod hand;
mod humans;
mod join;
mod keys;
mod launch;
mod plan;
mod reach;
mod site;
mod start;
mod status;
mod wish;

use std::io::Write;

use lifeboat_executor::{DirectoryError, JournalFileError, RunError, SealError, StartError};
use tokio_util::sync::CancellationToken;

use crate::archives::ArchiveError;
use crate::archives::file::FileError;
use crate::host::crashsafe::WriteError;
use crate::node_cli::NodeError;

/// Restore of all masters at once, without an API server.
#[derive(Debug, clap::Subcommand)]
pub enum RestoreCommand {
    /// Show what a restore would do; with --approve, order it and begin it on this master.
    Start(Box<start::StartArguments>),
    /// Take part in the restore that was started on another master.
    Join(Box<join::JoinArguments>),
    /// Show the restores of this master, and how far they are.
    Status(status::StatusArguments),
    /// Call off the restore under way: all masters put the old data back, unless it is decided already.
    Cancel(wish::WishArguments),
    /// Go on with a restore that holds before its release; say it on every master.
    Release(wish::WishArguments),
    /// End a restore that is in doubt because the location does not come back.
    Decide(decide::DecideArguments),
    /// Show or remove what restores that are over keep on this master: the old data.
    Cleanup(cleanup::CleanupArguments),
    /// Carry out what is sealed on this master; `start` and `join` run it by themselves.
    #[command(hide = true)]
    Run(executor::RunArguments),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RestoreCliError {
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

impl From<FileError> for RestoreCliError {
    fn from(error: FileError) -> Self {
        Self::Archive(error.into())
    }
}

impl RestoreCliError {
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

/// Runs a command; what it has to say goes to `out`.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run_restore_command(
    command: RestoreCommand,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoreCliError> {
    match command {
        RestoreCommand::Start(arguments) => start::run(*arguments, out, cancel).await,
        RestoreCommand::Join(arguments) => join::run(*arguments, out, cancel).await,
        RestoreCommand::Status(arguments) => status::run(arguments, out).await,
        RestoreCommand::Cancel(arguments) => wish::run(arguments, humans::CANCEL, out).await,
        RestoreCommand::Release(arguments) => wish::run(arguments, humans::RELEASE, out).await,
        RestoreCommand::Decide(arguments) => decide::run(arguments, out).await,
        RestoreCommand::Cleanup(arguments) => cleanup::run(arguments, out).await,
        RestoreCommand::Run(arguments) => executor::run(arguments, cancel).await,
    }
}
