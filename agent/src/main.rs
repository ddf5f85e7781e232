//! `lifeboat`: reads the command line, starts what was asked for, and says how it ended.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod archive;
mod archives;
mod backup;
mod catalog;
mod cli;
mod daemon;
mod etcd;
mod etcd_pod;
mod host;
mod install;
mod keeping;
mod keyring;
mod location;
mod manifest;
mod master;
mod node_cli;
mod partial_file;
mod rejoin;
mod report;
mod restore_cli;
mod restore_engine;
mod restores;
mod restoring;
mod snapshot_file;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use lifeboat_process::logging::{LogArguments, start_logging};
use lifeboat_process::signals::stop_on_signal;
use tokio_util::sync::CancellationToken;

use crate::archives::{ArchiveCommand, run_archive_command};
use crate::cli::{Cli, Command, PodCommand};
use crate::daemon::config::{AgentArguments, Config};
use crate::etcd_pod::settings::{PodArguments, read_settings};
use crate::etcd_pod::supervise::supervise;
use crate::host::child::become_program;
use crate::host::enter::become_host_program;
use crate::host::keys::{KeyDirectory, KeysError};
use crate::node_cli::{NodeCommand, run_node_command, run_pod_action};
use crate::restore_cli::{RestoreCommand, run_restore_command};

/// Reading, verifying, compressing and uploading go on at once; every further thread costs memory.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    lifeboat_heap::keep_small();
    match Cli::parse().command {
        Command::Agent(arguments) => run_agent(*arguments),
        Command::Backup(command) => run_on_archives(*command),
        Command::Keygen { state_dir } => make_host_key(&state_dir),
        Command::Install(arguments) => match install::install(&arguments, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "lifeboat: {error}");
                ExitCode::from(error.exit_code())
            }
        },
        Command::Etcd(command) => run_on_node(*command),
        Command::Restore(command) => run_restore(*command),
        Command::EtcdPod(command) => match *command {
            PodCommand { action: Some(action), run: _ } => run_to_end(async |_| {
                let ran = run_pod_action(action, &mut std::io::stdout()).await;
                ran.map_err(|error| (error.exit_code(), error.to_string()))
            }),
            PodCommand { action: None, run } => run_etcd(run),
        },
        Command::WithParent { parent, line } => {
            let error = become_program(parent, &line);
            let _ = writeln!(std::io::stderr(), "lifeboat: {line:?}: {error}");
            ExitCode::FAILURE
        }
        Command::EnterHost { line } => {
            let error = become_host_program(&line);
            let _ = writeln!(std::io::stderr(), "lifeboat: {line:?} on the host: {error}");
            ExitCode::FAILURE
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lifeboat", &mut script);
            match std::io::stdout().write_all(&script) {
                // Whoever closes the pipe (`| head`) has seen enough.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    let _ = writeln!(std::io::stderr(), "lifeboat: cannot write the output: {error}");
                    ExitCode::FAILURE
                }
                Ok(()) | Err(_) => ExitCode::SUCCESS,
            }
        }
    }
}

fn run_on_archives(command: ArchiveCommand) -> ExitCode {
    run_to_end(async |cancel| {
        let ran = run_archive_command(command, &mut std::io::stdout(), &cancel).await;
        ran.map_err(|error| (error.exit_code(), error.to_string()))
    })
}

fn run_on_node(command: NodeCommand) -> ExitCode {
    run_to_end(async |cancel| {
        let ran = run_node_command(command, &mut std::io::stdout(), &cancel).await;
        ran.map_err(|error| (error.exit_code(), error.to_string()))
    })
}

fn run_restore(command: RestoreCommand) -> ExitCode {
    run_to_end(async |cancel| {
        let ran = run_restore_command(command, &mut std::io::stdout(), &cancel).await;
        ran.map_err(|error| (error.exit_code(), error.to_string()))
    })
}

/// Runs a command of the command line; its words go to standard error, its code to the shell.
fn run_to_end(command: impl AsyncFnOnce(CancellationToken) -> Result<(), (u8, String)>) -> ExitCode {
    let ran = runtime().map_err(|error| (1, format!("{error:#}"))).and_then(|runtime| {
        runtime.block_on(async {
            let cancel = stop_on_signal().map_err(|error| (1, error.to_string()))?;
            command(cancel).await
        })
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, words)) => {
            let _ = writeln!(std::io::stderr(), "lifeboat: {words}");
            ExitCode::from(code)
        }
    }
}

fn make_host_key(state_dir: &std::path::Path) -> ExitCode {
    match KeyDirectory::below(state_dir).generate() {
        Ok((id, public)) => {
            let _ = writeln!(std::io::stdout(), "key {id} was made; its public part is {}", public.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lifeboat: {error}");
            ExitCode::from(if matches!(error, KeysError::Exists(_)) { 4 } else { 1 })
        }
    }
}

/// Runs etcd under supervision. One thread: the kernel ends etcd with the thread that started it.
fn run_etcd(arguments: PodArguments) -> ExitCode {
    let log = LogArguments { log_format: None, log_level: "info".to_owned() };
    let _ = start_logging(&log);
    let ran = read_settings(arguments).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let ran = runtime.block_on(supervise(settings));
        // A restore that was asked to stop ends by itself, where it does no harm.
        runtime.shutdown_timeout(std::time::Duration::from_secs(20));
        ran
    });
    ran.unwrap_or_else(|words| {
        let _ = writeln!(std::io::stderr(), "lifeboat: {words}");
        ExitCode::FAILURE
    })
}

fn run_agent(arguments: AgentArguments) -> ExitCode {
    if let Err(error) = start_logging(&arguments.log) {
        // Nothing is logged yet.
        let _ = writeln!(std::io::stderr(), "--log-level {}: {error}", arguments.log.log_level);
        return ExitCode::from(2);
    }
    match start_agent(arguments.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

fn start_agent(config: Config) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run::run(config));
    // Watches and connections need no farewell.
    runtime.shutdown_background();
    Ok(result?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
