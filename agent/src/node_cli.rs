//! `lifeboat etcd …` and `lifeboat etcd-pod install|uninstall`: the administrator's tools on a master. No API server, no
//! operator.
//!
//! Reads the host and its etcd and leaves files in etcd's data volume, which etcd's supervisor or Kublr's own pod obeys. Two change
//! more: `restore --perform` puts restored data in the place of the old, with etcd stopped by whoever calls; `etcd-pod` changes
//! etcd's manifest. Nothing is started or stopped here but by the kubelet that follows it. Exit codes: 0 done, 1 failed, 2 usage,
//! 3 timed out but work goes on, 4 refused and nothing changed.

mod backup;
mod node;
mod pod;
mod reinitialize;
mod restore;
mod shown;
mod staging;
mod status;
mod upload;

use std::io::Write;

use tokio_util::sync::CancellationToken;

pub use self::node::{Node, NodeArguments};
pub use self::pod::{PodAction, run_pod_action};
pub use self::restore::parse_member;
pub use self::shown::{Format, print};
pub use self::upload::{LocationArguments, fetch_cluster_uid, upload};
use crate::archives::ArchiveError;
use crate::backup::BackupError;
use crate::etcd::error::EtcdError;
use crate::host::crashsafe::WriteError;
use crate::partial_file::PartialError;
use crate::restore_engine::error::RestoreError;
use crate::snapshot_file::SaveError;

/// Backup and restore of this master's etcd, without an API server.
#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Take a snapshot from this master's etcd into a file or a location, proven page by page.
    Backup(backup::BackupArguments),
    /// Restore this master's etcd from a file: once it is stopped, on every master with the same file and order.
    Restore(restore::RestoreArguments),
    /// Have this master's member leave the cluster and join it again without data, which it gets from the others.
    Reinitialize(reinitialize::ReinitializeArguments),
    /// Show what is known of this master's etcd, its files and itself, and what was done last.
    Status(status::StatusArguments),
    /// Show what was discovered on this master, and from where; asks no etcd.
    Validate(status::StatusArguments),
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is refused; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
    /// It goes on, and is not waited for any longer.
    #[error("{0}")]
    TimedOut(String),
    /// The restore.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The snapshot.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The location.
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    /// The backup into a location.
    #[error(transparent)]
    Backup(#[from] Box<BackupError>),
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// A file.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl NodeError {
    /// The exit code (host.md).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Archive(error) => error.exit_code(),
            Self::Backup(error) if error.is_refusal() => 4,
            Self::Backup(_) => 1,
            Self::Refused(_) => 4,
            Self::Restore(error) if error.is_refusal() => 4,
            Self::Save(SaveError::File(
                PartialError::Exists(_) | PartialError::Busy(_) | PartialError::NoSpace { .. },
            )) => 4,
            Self::TimedOut(_) => 3,
            Self::Failed(_) | Self::Restore(_) | Self::Save(_) | Self::Etcd(_) | Self::Write(_) | Self::Output(_) => 1,
        }
    }
}

/// Runs a command; what it has to say goes to `out`.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run_node_command(
    command: NodeCommand,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    match command {
        NodeCommand::Backup(arguments) => backup::run(arguments, out, cancel).await,
        NodeCommand::Restore(arguments) => restore::run(arguments, out, cancel).await,
        NodeCommand::Reinitialize(arguments) => reinitialize::run(arguments, out, cancel).await,
        NodeCommand::Status(arguments) => status::run(arguments, status::Depth::Whole, out).await,
        NodeCommand::Validate(arguments) => status::run(arguments, status::Depth::Files, out).await,
    }
}

#[cfg(test)]
mod schema_tests;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[tokio::test]
    async fn where_no_etcd_is_found_every_command_is_refused_and_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let place = format!("--host-root={}", root.path().display());
        for words in [&["reinitialize", "--wait"][..], &["restore", "--status"], &["backup", "--file", "/x.db"]] {
            let line = ["lifeboat", "etcd"].iter().chain(words).copied().chain([place.as_str()]);
            let Command::Etcd(command) = Cli::try_parse_from(line).unwrap().command else { panic!("{words:?}") };
            let error = run_node_command(*command, &mut Vec::new(), &CancellationToken::new()).await.unwrap_err();
            assert_eq!(error.exit_code(), 4, "{error}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{words:?}");
        }
    }
}
