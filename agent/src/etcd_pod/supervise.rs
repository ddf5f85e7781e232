//! The supervisor's loop: before etcd, etcd, and what happens while it runs. Starts and ends processes; decides nothing
//! about data.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::OptionFuture;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::process::Child;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::time::Instant;

use super::guard::{Before, may_start};
use super::settings::Settings;
use super::work::{self, Joined};
use crate::host::child::with_parent;
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::rejoin::journal::Journal;
use crate::restore_engine::perform::Done;
use crate::restore_engine::standstill::Lock;

/// How often the control files are looked at; a command is to be seen within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the reason for not starting etcd is repeated.
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// etcd hands on its lead and closes its database when it is asked to end; the kubelet waits no longer either.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Signals that are passed on.
const PASSED: [(SignalKind, Signal); 6] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Runs etcd under supervision until it ends.
///
/// # Errors
/// The supervisor itself cannot work: words.
pub async fn supervise(settings: Settings) -> Result<ExitCode, String> {
    let mut signals = Signals::new().map_err(|error| format!("signals cannot be received: {error}"))?;
    // The lock of replaced data: a stray etcd that waits for it must not run on it.
    let mut _old: Option<Lock> = None;
    loop {
        let joined = match before_start(&settings, &mut signals, &mut _old).await? {
            Ready::Start(joined) => joined,
            Ready::End(code) => return Ok(code),
        };
        let (line, journal) = match joined {
            None => (settings.line.clone(), None),
            Some((journal, line)) => (line, Some(journal)),
        };
        let child = spawn(&line)?;
        if let Some(status) = watch(&settings, &mut signals, child, journal).await? {
            return Ok(exit_code(status));
        }
    }
}

/// Whether etcd may start.
enum Ready {
    /// It may; as its manifest says, or to join.
    Start(Option<(Journal, Vec<OsString>)>),
    /// The supervisor was asked to end.
    End(ExitCode),
}

/// Everything that comes before etcd, until it may start.
async fn before_start(settings: &Settings, signals: &mut Signals, old: &mut Option<Lock>) -> Result<Ready, String> {
    let mut said: Option<(String, Instant)> = None;
    loop {
        let stop = Arc::new(AtomicBool::new(false));
        let restored = tokio::select! {
            restored = work::restore(settings, &stop) => restored,
            ended = signals.end() => {
                // It stops where it does no harm; the next start begins anew.
                stop.store(true, Ordering::Relaxed);
                return Ok(Ready::End(ended));
            }
        };
        let hold = match restored {
            Ok(Done::Nothing) => None,
            Ok(Done::Restored { result, old: lock }) => {
                *old = lock;
                let kept = result.old_data.as_ref().map(|path| format!("; the old data is kept in {}", path.display()));
                work::say(&format!("{}{}", result.message, kept.unwrap_or_default()));
                None
            }
            Ok(Done::Held) => Some(
                "a restore failed, see restore-result: etcd is not started until `lifeboat etcd restore --abort`, or a new \
                 file with `lifeboat etcd restore`; the other masters may be restored already"
                    .to_owned(),
            ),
            Err(error) => {
                tracing::error!(%error, "the restore was not done");
                Some(format!("the restore was not done: {error}"))
            }
        };
        let hold = match hold {
            Some(words) => Some(words),
            None => match prepare_rejoin(settings, signals).await? {
                Prepared::Ready(ready) => return Ok(ready),
                Prepared::Hold(words) => Some(words),
            },
        };
        if let Some(words) = hold {
            let is_new = said.as_ref().is_none_or(|(last, at)| *last != words || at.elapsed() > REPEAT_EVERY);
            if is_new {
                tracing::warn!("etcd is not started: {words}");
                said = Some((words, Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                ended = signals.end() => return Ok(Ready::End(ended)),
            }
        }
    }
}

enum Prepared {
    Ready(Ready),
    Hold(String),
}

/// A re-initialisation that was begun or is asked for, else the manifest's own start if that is safe.
async fn prepare_rejoin(settings: &Settings, signals: &mut Signals) -> Result<Prepared, String> {
    let journal = match Journal::read(&settings.place) {
        Ok(journal) => journal,
        Err(error) => return Ok(Prepared::Hold(error.to_string())),
    };
    let journal = match journal {
        Some(journal) if journal.done.is_some() => {
            work::conclude(settings, &journal);
            None
        }
        Some(journal) => Some(journal),
        None if work::take_command(settings) => tokio::select! {
            begun = work::begin_rejoin(settings) => begun,
            ended = signals.end() => return Ok(Prepared::Ready(Ready::End(ended))),
        },
        None => None,
    };
    if let Some(journal) = journal {
        crash_point(CrashPoint::RejoinStopped);
        let joined = tokio::select! {
            joined = work::leave_and_join(settings, journal) => joined,
            ended = signals.end() => return Ok(Prepared::Ready(Ready::End(ended))),
        };
        match joined {
            Joined::Ready(journal, join) => {
                let line = settings.joining(&join.initial_cluster);
                return Ok(Prepared::Ready(Ready::Start(Some((*journal, line)))));
            }
            Joined::Waits(words) => return Ok(Prepared::Hold(words)),
            Joined::Ended => {}
        }
    }
    let before = Before {
        has_data: has_data(settings),
        begins_cluster: settings.begins_cluster,
        may_begin_cluster: settings.may_begin_cluster,
    };
    if may_start(before) {
        return Ok(Prepared::Ready(Ready::Start(None)));
    }
    Ok(Prepared::Hold(
        "its data directory is empty, and its manifest would make that a new cluster with nothing in it: if the other masters \
         still run, `lifeboat etcd reinitialize`; if all is lost, `lifeboat etcd restore`; for a new cluster give the \
         supervisor --allow-new-cluster"
            .to_owned(),
    ))
}

fn has_data(settings: &Settings) -> bool {
    let wal = settings.place.wal();
    std::fs::read_dir(wal).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))
    })
}

fn spawn(line: &[OsString]) -> Result<Child, String> {
    let [program, arguments @ ..] = line else { return Err("no program to run".to_owned()) };
    let mut command = tokio::process::Command::from(with_parent(program));
    let started = command.args(arguments).spawn();
    started.map_err(|error| format!("{} cannot be started: {error}", program.display()))
}

/// Follows etcd until it ends, or until it was stopped for a command: then nothing comes back.
async fn watch(
    settings: &Settings,
    signals: &mut Signals,
    mut child: Child,
    journal: Option<Journal>,
) -> Result<Option<ExitStatus>, String> {
    let failed = |error: std::io::Error| format!("etcd cannot be waited for: {error}");
    let is_joining = journal.is_some();
    let beside = async {
        match journal {
            Some(journal) => work::settle_rejoin(settings, journal).await,
            None => {
                work::settle_restore(settings).await;
                Ok(())
            }
        }
    };
    tokio::pin!(beside);
    let mut is_settled = false;
    // Asking the others takes as long as a snapshot of the cluster does; signals and etcd's end are not kept waiting by it.
    let mut begun = OptionFuture::from(None);
    let mut is_deciding = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            status = child.wait() => return status.map(Some).map_err(failed),
            passed = signals.next() => {
                send(&child, passed);
                reap_orphans(&child);
            }
            settled = &mut beside, if !is_settled => {
                is_settled = true;
                if let Err(words) = settled {
                    tracing::error!("etcd is stopped: {words}");
                    return stop(&mut child).await.map(Some).map_err(failed);
                }
            }
            _ = look.tick() => {
                reap_orphans(&child);
                // A member that joins already does what a command could ask for.
                let is_free = (is_settled || !is_joining) && !is_deciding;
                if is_free && work::take_command(settings) {
                    is_deciding = true;
                    begun = OptionFuture::from(Some(Box::pin(work::begin_rejoin(settings))));
                }
            }
            decided = &mut begun, if is_deciding => {
                is_deciding = false;
                if decided.flatten().is_some() {
                    work::say("etcd is stopped to rejoin");
                    stop(&mut child).await.map_err(failed)?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Ends etcd: asked first, killed after a while.
async fn stop(child: &mut Child) -> std::io::Result<ExitStatus> {
    send(child, Signal::TERM);
    match tokio::time::timeout(STOP_WITHIN, child.wait()).await {
        Ok(status) => status,
        Err(_elapsed) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended this moment; its status tells.
        let _ = kill_process(pid, signal);
    }
}

/// As the first process of a container this one inherits every orphan; etcd itself is left to its own wait.
fn reap_orphans(child: &Child) {
    let own = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
        if Some(pid) == child.id() {
            continue;
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// The code a shell would show: etcd's own, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Signals of the outside.
struct Signals(Vec<(Stream, Signal)>);

impl Signals {
    fn new() -> std::io::Result<Self> {
        PASSED.into_iter().map(|(kind, passed)| Ok((signal(kind)?, passed))).collect::<std::io::Result<_>>().map(Self)
    }

    /// The next signal, of whatever kind.
    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (stream, passed) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*passed);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The first signal that asks to end, where there is no etcd to pass others on to.
    async fn end(&mut self) -> ExitCode {
        loop {
            let ends = match self.next().await {
                Signal::TERM => Some(143),
                Signal::INT => Some(130),
                Signal::QUIT => Some(131),
                _ => None,
            };
            if let Some(code) = ends {
                return ExitCode::from(code);
            }
        }
    }
}
