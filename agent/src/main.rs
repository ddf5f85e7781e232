//! `lifeboat`: reads the command line, starts what was asked for, and says how it ended.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod archive;
mod archives;
mod backup;
mod catalog;
mod cli;
mod daemon;
mod etcd;
mod host;
mod keeping;
mod keyring;
mod location;
mod manifest;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use lifeboat_process::logging::start_logging;
use lifeboat_process::signals::stop_on_signal;

use crate::archives::{ArchiveCommand, run_archive_command};
use crate::cli::{Cli, Command};
use crate::daemon::config::{AgentArguments, Config};
use crate::host::keys::{KeyDirectory, KeysError};

/// Reading, verifying, compressing and uploading go on at once; every further thread costs memory.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Agent(arguments) => run_agent(*arguments),
        Command::Backup(command) => run_on_archives(*command),
        Command::Keygen { state_dir } => make_host_key(&state_dir),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "lifeboat", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn run_on_archives(command: ArchiveCommand) -> ExitCode {
    let ran = runtime().map_err(|error| (1, format!("{error:#}"))).and_then(|runtime| {
        runtime.block_on(async {
            let cancel = stop_on_signal().map_err(|error| (1, error.to_string()))?;
            let ran = run_archive_command(command, &mut std::io::stdout(), &cancel).await;
            ran.map_err(|error| (error.exit_code(), error.to_string()))
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
