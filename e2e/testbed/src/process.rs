//! Processes in machines. Each runs below an `nsenter` that stays outside as its parent: signals must go to the process inside, and
//! `nsenter` follows it, stopping, going on and ending as it does.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process};
use tokio::process::Child;

pub use rustix::process::Signal;

use crate::machine::Entrance;

/// The process inside, seen from the host: the only child of its `nsenter` (or `unshare`). `None` once it ended, and before the fork.
pub(crate) fn inner(outer: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))
        .ok()?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Signals the process below `outer`, which must not have been reaped yet.
pub(crate) fn signal_inner(outer: u32, signal: Signal) -> Result<()> {
    // A process spawned this instant may not have forked yet; one that ended has no child any more, and its parent is a zombie.
    let deadline = Instant::now() + Duration::from_secs(2);
    let target = loop {
        match inner(outer) {
            Some(pid) => break pid,
            None if Instant::now() > deadline || is_zombie(outer) => bail!("it is not running"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    kill(target, signal)?;
    // nsenter stops itself with its child, and would neither wake with it nor notice its end.
    if signal != Signal::STOP {
        let _ = kill(outer, Signal::CONT);
    }
    Ok(())
}

fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("signal {signal:?}"))
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

/// All that is needed to start a process, and to start it again.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub entrance: Entrance,
    pub search_path: OsString,
    /// Program and arguments.
    pub line: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// Output is appended here.
    pub log: PathBuf,
}

impl Recipe {
    pub(crate) fn command(&self) -> Result<Command> {
        let Self { entrance, search_path, line, env, log } = self;
        let [program, arguments @ ..] = line.as_slice() else { bail!("nothing to run") };
        let mut output = open_log(log)?;
        writeln!(output, "--- testbed starts {}", program.display())?;
        let mut command = entrance.command(search_path, program);
        command
            .args(arguments)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command)
    }
}

fn open_log(log: &Path) -> Result<File> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))
}

/// A process that a test started, such as an agent on its node. Killed when dropped.
#[derive(Debug)]
pub struct ManagedProcess {
    recipe: Recipe,
    child: Child,
}

impl ManagedProcess {
    pub(crate) fn start(recipe: Recipe) -> Result<Self> {
        let child = Self::spawn(&recipe)?;
        Ok(Self { recipe, child })
    }

    fn spawn(recipe: &Recipe) -> Result<Child> {
        let mut command = tokio::process::Command::from(recipe.command()?);
        command.kill_on_drop(true).spawn().context("run nsenter (hack/install-deps.sh)")
    }

    /// Process id on the host; `None` once it ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id().and_then(inner)
    }

    /// Whether it runs; a stopped (SIGSTOP) one does.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// When it ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let outer = self.child.id().context("it ended already")?;
        signal_inner(outer, signal).with_context(|| self.name())
    }

    /// Kills it without a chance to clean up, and returns when it is gone. One that ended already is fine.
    ///
    /// # Errors
    /// When waiting for its end fails.
    pub async fn kill9(&mut self) -> Result<ExitStatus> {
        let _ = self.signal(Signal::KILL);
        self.wait().await
    }

    /// SIGTERM, and SIGKILL if it still runs after `grace`. One that ended already is fine.
    ///
    /// # Errors
    /// When waiting for its end fails.
    pub async fn terminate(&mut self, grace: Duration) -> Result<ExitStatus> {
        let _ = self.signal(Signal::TERM);
        match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_elapsed) => self.kill9().await,
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Those of the system call.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.with_context(|| self.name())
    }

    /// Kills it if it runs, and starts it again with the same arguments, environment and log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9().await?;
        self.child = Self::spawn(&self.recipe)?;
        Ok(())
    }

    /// Sets a variable for the next [`Self::restart`].
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.recipe.env.retain(|(known, _)| known != name);
        self.recipe.env.push((name.into(), value.into()));
    }

    /// The file that takes its output, of all its lives.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.recipe.log
    }

    /// The end of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.recipe.log)
    }

    fn name(&self) -> String {
        self.recipe.line.first().map(|program| program.display().to_string()).unwrap_or_default()
    }
}

impl Drop for ManagedProcess {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            // nsenter alone is killed by tokio; its child would live on as an orphan of the machine.
            let _ = kill(pid, Signal::KILL);
        }
    }
}

/// The last lines of a log, for messages.
pub(crate) fn tail(log: &Path) -> String {
    const BYTES: u64 = 3000;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => format!("--- end of {}\n{text}", log.display()),
        Err(error) => format!("--- {}: {error}", log.display()),
    }
}

/// Runs a command to its end under a deadline.
///
/// # Errors
/// When it fails, with what it wrote to standard error; when it takes longer than `limit`.
pub(crate) async fn run(command: Command, limit: Duration) -> Result<String> {
    let what = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let what = format!("{} {what}", command.get_program().to_string_lossy());
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(limit, output).await.with_context(|| format!("{what}: not done within {limit:?}"))?;
    text_of(output.with_context(|| what.clone())?).with_context(|| what)
}

/// As [`run`], with something on standard input.
pub(crate) async fn run_with_input(command: Command, input: &str, limit: Duration) -> Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::from(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(what.clone())?;
    let mut stdin = child.stdin.take().context("no input")?;
    let exchange = async {
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await?;
        drop(stdin);
        child.wait_with_output().await
    };
    let output =
        tokio::time::timeout(limit, exchange).await.with_context(|| format!("{what}: not done within {limit:?}"))?;
    text_of(output.context(what.clone())?).context(what)
}

fn text_of(output: Output) -> Result<String> {
    let Output { status, stdout, stderr } = output;
    if !status.success() {
        bail!("{status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
