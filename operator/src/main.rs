//! `lifeboat-operator`: reads the command line, starts logging and the runtime, and says how it ended.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use lifeboat_operator::config::{Arguments, Config};
use lifeboat_operator::run;
use lifeboat_process::logging::start_logging;

/// Enough for a process that waits most of its life; every further thread costs memory.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = start_logging(&arguments.log) {
        // Nothing is logged yet.
        let _ = writeln!(std::io::stderr(), "--log-level {}: {error}", arguments.log.log_level);
        return ExitCode::from(2);
    }
    match start(arguments.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "lifeboat-operator ends");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run::run(config));
    // Watches and connections need no farewell.
    runtime.shutdown_background();
    Ok(result?)
}
