//! The command line. No I/O; what a command does is its own room's business.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::archives::ArchiveCommand;
use crate::daemon::config::AgentArguments;
use crate::etcd_pod::settings::PodArguments;
use crate::install::InstallArguments;
use crate::node_cli::{NodeCommand, PodAction};
use crate::restore_cli::RestoreCommand;
use lifeboat_process::version::VERSION;

/// Backup and restore of the etcd of self-hosted Kubernetes control planes.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version = VERSION, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of a master (the DaemonSet's process).
    Agent(Box<AgentArguments>),
    /// Look at archives in a location, prove them, fetch them, pin and delete them; needs no API server.
    #[command(subcommand)]
    Backup(Box<ArchiveCommand>),
    /// Make a signing key of this host's own, for use without an API server; agents sign with the installation's key.
    Keygen {
        /// Directory of Lifeboat's state on this host.
        #[arg(long, env = "LIFEBOAT_STATE_DIR", default_value = "/var/lib/lifeboat")]
        state_dir: PathBuf,
    },
    /// Put this program and etcd's own tools on this host, each file whole or not at all (the DaemonSet does it).
    Install(InstallArguments),
    /// Backup and restore of this master's etcd; needs no API server.
    #[command(subcommand)]
    Etcd(Box<NodeCommand>),
    /// Restore all masters at once from a backup in a location; needs no API server.
    #[command(subcommand)]
    Restore(Box<RestoreCommand>),
    /// Run etcd under supervision (`lifeboat etcd-pod -- etcd …`), or put that into this master's manifest.
    EtcdPod(Box<PodCommand>),
    /// Become another program that ends with its parent; for lifeboat itself.
    #[command(hide = true, name = crate::host::child::WITH_PARENT)]
    WithParent {
        /// Process id of the parent.
        parent: i32,
        /// Program and arguments.
        #[arg(last = true, required = true)]
        line: Vec<std::ffi::OsString>,
    },
    /// Become a program of the host from within the agent's container; for lifeboat itself.
    #[command(hide = true, name = crate::host::enter::ENTER_HOST)]
    EnterHost {
        /// Program, by its path on the host, and arguments.
        #[arg(last = true, required = true)]
        line: Vec<std::ffi::OsString>,
    },
    /// Print completion for a shell, such as `source <(lifeboat completion bash)`.
    Completion {
        /// Which shell.
        shell: Shell,
    },
}

/// The supervisor, or what is to be done with it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct PodCommand {
    /// What to do; without it, run etcd.
    #[command(subcommand)]
    pub action: Option<PodAction>,
    /// How to run etcd.
    #[command(flatten)]
    pub run: PodArguments,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_agent_can_be_set_by_environment() {
        let cli = Cli::command();
        let agent = cli.find_subcommand("agent").unwrap();
        for argument in agent.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_env().is_some(), "--{} has no variable", argument.get_id());
        }
    }

    #[test]
    fn directories_are_names_and_absolute_paths() {
        let parse =
            |directory: &str| Cli::try_parse_from(["lifeboat", "agent", "--node-name", "m1", "--directory", directory]);
        assert!(parse("nfs=/mnt/nfs,usb=/mnt/usb").is_ok());
        assert!(parse("nfs").is_err() && parse("nfs=relative").is_err() && parse("=/mnt").is_err());
    }
}
