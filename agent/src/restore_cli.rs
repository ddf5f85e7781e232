//! `lifeboat restore …`: a restore of all masters at once, without operator and API server.
//!
//! `start` on one master writes the order into the location, `join` on the others seals it; on each an executor of its own
//! carries it out and survives whoever started it. These commands write the location's `restores/`, the restore's directory in
//! etcd's data volume, and a cache of how the location is reached; what is done to the master, the executor does. Exit codes:
//! 0 done or shown, 1 failed or rolled back, 2 usage, 3 it goes on and is not waited for, 4 refused and nothing changed.

mod cleanup;
mod decide;
mod executor;
mod follow;
mod join;
pub mod plan;
mod start;
mod status;
mod wish;

use std::io::Write;

use tokio_util::sync::CancellationToken;

use crate::restoring::{RestoringError, humans};

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
    /// Start the executor of what is sealed on this master; agents do it from their containers.
    #[command(hide = true)]
    Launch(executor::RunArguments),
}

/// Runs a command; what it has to say goes to `out`.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run_restore_command(
    command: RestoreCommand,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoringError> {
    match command {
        RestoreCommand::Start(arguments) => start::run(*arguments, out, cancel).await,
        RestoreCommand::Join(arguments) => join::run(*arguments, out, cancel).await,
        RestoreCommand::Status(arguments) => status::run(arguments, out).await,
        RestoreCommand::Cancel(arguments) => wish::run(arguments, humans::CANCEL, out).await,
        RestoreCommand::Release(arguments) => wish::run(arguments, humans::RELEASE, out).await,
        RestoreCommand::Decide(arguments) => decide::run(arguments, out).await,
        RestoreCommand::Cleanup(arguments) => cleanup::run(arguments, out).await,
        RestoreCommand::Launch(arguments) => executor::launch_here(arguments).await,
        RestoreCommand::Run(arguments) => executor::run(arguments, cancel).await,
    }
}
