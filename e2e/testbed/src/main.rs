//! `testbed`: a testbed for people, as `make demo` uses it. Stays in the foreground for as long as the testbed is to live.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lifeboat_testbed::{EtcdLine, Options, Summary, Testbed, sweep, wait_for};
use tokio::signal::unix::{SignalKind, signal};

/// Three masters of Kubernetes on this machine, without containers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring a testbed up and keep it until SIGTERM or Ctrl-C; prints "ready" when all of it is healthy
    Up(Up),
    /// Shut down the testbed of a directory
    Down {
        /// The directory given to `up`
        #[arg(long)]
        dir: PathBuf,
    },
    /// Run a command on a master, in its namespaces
    Exec {
        /// The directory given to `up`
        #[arg(long)]
        dir: PathBuf,
        /// Name of the master, such as master-0
        node: String,
        /// Program and arguments
        #[arg(last = true, required = true)]
        line: Vec<String>,
    },
    /// Remove what testbeds of dead owners left
    Gc,
}

#[derive(clap::Args)]
struct Up {
    /// Where all files go; absent or empty
    #[arg(long)]
    dir: PathBuf,
    /// Line of etcd: 3.5, 3.6 or 3.7
    #[arg(long, default_value_t)]
    etcd: EtcdLine,
    /// Masters, each with a member of etcd
    #[arg(long, default_value_t = 3)]
    masters: usize,
    /// How many of the masters run an API server
    #[arg(long, default_value_t = 1)]
    api_servers: usize,
    /// Run the scheduler too
    #[arg(long)]
    scheduler: bool,
    /// Leave the directory behind
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match Cli::parse().action {
        Action::Up(up) => run_up(up).await,
        Action::Down { dir } => run_down(dir).await,
        Action::Exec { dir, node, line } => run_exec(&dir, &node, &line),
        Action::Gc => run_gc(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_up(Up { dir, etcd, masters, api_servers, scheduler, keep }: Up) -> Result<()> {
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let options =
        Options { etcd_line: etcd, masters, api_servers, scheduler, keep, dir: Some(dir), ..Options::named("up") };
    let stopped = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let bed = tokio::select! {
        bed = Testbed::start(options) => bed?,
        // What has been started ends with this process.
        () = &mut stopped => return Ok(()),
    };
    // Whoever waited for the first line may have closed the pipe behind it; that must not end the testbed.
    let _ = say(&format!("ready\nexport KUBECONFIG={}", bed.kubeconfig().display()));
    stopped.await;
    bed.shutdown().await
}

async fn run_down(dir: PathBuf) -> Result<()> {
    let summary = Summary::read(&dir)?;
    summary.terminate();
    wait_for("the end of the testbed", Duration::from_secs(30), async || Ok(!summary.is_alive())).await?;
    // In case its owner had been dead before.
    sweep()?;
    Ok(())
}

fn run_exec(dir: &std::path::Path, node: &str, line: &[String]) -> Result<()> {
    let Summary { masters, search_path, .. } = Summary::read(dir)?;
    let names = masters.iter().map(|master| master.name.as_str()).collect::<Vec<_>>().join(", ");
    let master = masters
        .iter()
        .find(|master| master.name == node)
        .with_context(|| format!("no master {node}; there are {names}"))?;
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &master.init.to_string(), "--mount", "--uts", "--net", "--pid", "--"])
        .args(line)
        .env("PATH", search_path);
    // Replaces this process; comes back only with an error.
    bail!("nsenter: {}", command.exec())
}

fn run_gc() -> Result<()> {
    for swept in sweep()? {
        say(&format!("{}: {}{}", swept.name, swept.dir.display(), if swept.kept { " (kept)" } else { "" }))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}
