//! The kubelet of the testbed: follows every node's manifest directory and keeps the processes as the manifests say. Present = runs,
//! and is restarted when it ends; moved out = SIGTERM, then SIGKILL after the grace period; changed = both in turn.
//! It has a thread of its own, so that a test that blocks its runtime does not stop the world it tests. No probes, no mirror pods.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::machine::Entrance;
use crate::manifest::{Manifest, ManifestReader};
use crate::process::{Recipe, inner, signal_inner};

const TICK: Duration = Duration::from_millis(50);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// kubelet goes up to five minutes; a test has no such time.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);
/// After a run of this length a crash counts as the first again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// One node's part.
pub(crate) struct Followed {
    pub node: String,
    /// The directory of manifests, on the host.
    pub manifests: PathBuf,
    /// etcd's member directory, on the host.
    pub member: PathBuf,
    pub logs: PathBuf,
    pub entrance: Entrance,
    pub search_path: OsString,
    pub pods: Arc<Pods>,
}

/// The members of a cluster that is to be born, as etcd's `--initial-cluster`. As long as it is in force an etcd without data starts as
/// a new cluster of all, whatever its manifest says: kubeadm's manifests describe how members joined one after the other, and starting
/// all at once saves those rounds. Later, an etcd without data gets what its manifest says, as on any master.
#[derive(Debug, Default)]
pub(crate) struct Birth {
    pub initial_cluster: String,
    pub over: AtomicBool,
}

/// The pods of one node, shared between the supervisor and the node's handle. Processes are only reaped under the lock, so that a
/// process id read under it is the one meant.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<BTreeMap<String, Pod>>);

#[derive(Debug)]
struct Pod {
    manifest: Manifest,
    phase: Phase,
    child: Option<Child>,
    crashes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Running { since: Instant },
    Stopping { kill_at: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Leave,
    Start,
    Restart { since: Instant },
    Terminate,
    Kill,
    Forget,
}

/// What to do about one pod. `wanted`: its manifest is there, unchanged.
fn decide(phase: Phase, ended: bool, wanted: bool, now: Instant) -> Step {
    match (phase, ended, wanted) {
        (Phase::Waiting { until }, _, true) if now < until => Step::Leave,
        (Phase::Waiting { .. }, _, true) => Step::Start,
        (Phase::Running { since }, true, true) => Step::Restart { since },
        (Phase::Running { .. }, false, true) => Step::Leave,
        (Phase::Running { .. }, false, false) => Step::Terminate,
        // A stop that has begun is carried through even if the manifest is back; then it starts anew.
        (Phase::Stopping { kill_at }, false, _) if now >= kill_at => Step::Kill,
        (Phase::Stopping { .. }, false, _) => Step::Leave,
        (Phase::Waiting { .. } | Phase::Running { .. }, _, false) | (Phase::Stopping { .. }, true, _) => Step::Forget,
    }
}

fn backoff(crashes: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << crashes.min(8)).min(LONGEST_BACKOFF)
}

impl Pods {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Process id on the host, if the pod's process runs.
    pub(crate) fn pid(&self, pod: &str) -> Option<u32> {
        self.lock().get(pod)?.child.as_ref().and_then(|child| inner(child.id()))
    }

    /// Neither a process nor the intention to start one.
    pub(crate) fn is_gone(&self, pod: &str) -> bool {
        !self.lock().contains_key(pod)
    }

    pub(crate) fn signal(&self, pod: &str, signal: Signal) -> Result<()> {
        let pods = self.lock();
        let child = pods.get(pod).and_then(|pod| pod.child.as_ref()).with_context(|| format!("{pod} does not run"))?;
        signal_inner(child.id(), signal).with_context(|| pod.to_owned())
    }
}

/// What wakes the thread before its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wake {
    /// A directory changed.
    Look,
    /// The testbed ends.
    Stop,
}

/// The thread; stops, and kills what it started, when dropped.
#[derive(Debug)]
pub(crate) struct Supervisor {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(crate) fn start(mut nodes: Vec<Followed>, birth: Arc<Birth>) -> Result<Self> {
        let (wake, woken) = channel();
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || follow(&mut nodes, &birth, &woken))?;
        Ok(Self { wake, thread: Some(thread) })
    }

    /// For handles that want the directories looked at right now.
    pub(crate) fn waker(&self) -> Sender<Wake> {
        self.wake.clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // The handles of nodes have senders too, so the end of ours would not be seen.
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(nodes: &mut [Followed], birth: &Birth, woken: &Receiver<Wake>) {
    let mut readers: Vec<ManifestReader> = nodes.iter().map(|_| ManifestReader::default()).collect();
    loop {
        for (node, reader) in nodes.iter_mut().zip(&mut readers) {
            node.look(reader, birth);
        }
        match woken.recv_timeout(TICK) {
            Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    nodes.iter().for_each(Followed::abandon);
}

impl Followed {
    fn look(&mut self, reader: &mut ManifestReader, birth: &Birth) {
        let wanted = reader.read(&self.manifests);
        let now = Instant::now();
        let mut pods = self.pods.lock();
        let mut gone = Vec::new();
        for (name, pod) in pods.iter_mut() {
            let ended = pod.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))));
            let step = decide(pod.phase, ended, wanted.get(name) == Some(&pod.manifest), now);
            match step {
                Step::Leave => {}
                Step::Start => self.run(pod, birth, now),
                Step::Restart { since } => {
                    pod.crashes = if now - since > FORGIVEN_AFTER { 0 } else { pod.crashes + 1 };
                    pod.child = None;
                    pod.phase = Phase::Waiting { until: now + backoff(pod.crashes) };
                }
                Step::Terminate => {
                    pod.send(Signal::TERM);
                    pod.phase = Phase::Stopping { kill_at: now + pod.manifest.grace };
                }
                Step::Kill => pod.send(Signal::KILL),
                Step::Forget => gone.push(name.clone()),
            }
        }
        for name in gone {
            pods.remove(&name);
        }
        for (name, manifest) in wanted {
            pods.entry(name).or_insert_with(|| {
                let mut pod = Pod { manifest, phase: Phase::Waiting { until: now }, child: None, crashes: 0 };
                self.run(&mut pod, birth, now);
                pod
            });
        }
    }

    fn run(&self, pod: &mut Pod, birth: &Birth, now: Instant) {
        let mut line = pod.manifest.line.clone();
        if pod.manifest.pod == "etcd" && !birth.over.load(Ordering::SeqCst) && !self.member.exists() {
            line.retain(|argument| {
                !argument.starts_with("--initial-cluster=") && !argument.starts_with("--initial-cluster-state=")
            });
            line.push(format!("--initial-cluster={}", birth.initial_cluster));
            line.push("--initial-cluster-state=new".to_owned());
        }
        let recipe = Recipe {
            entrance: self.entrance.clone(),
            search_path: self.search_path.clone(),
            line: line.into_iter().map(OsString::from).collect(),
            env: pod.manifest.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            log: self.logs.join(format!("{}.log", pod.manifest.pod)),
        };
        match recipe.command().and_then(|mut command| Ok(command.spawn()?)) {
            Ok(child) => {
                tracing::debug!(node = self.node, pod = pod.manifest.pod, "started");
                pod.child = Some(child);
                pod.phase = Phase::Running { since: now };
            }
            Err(error) => {
                tracing::warn!(node = self.node, pod = pod.manifest.pod, %error, "not started");
                pod.crashes += 1;
                pod.phase = Phase::Waiting { until: now + backoff(pod.crashes) };
            }
        }
    }

    fn abandon(&self) {
        for (_, mut pod) in std::mem::take(&mut *self.pods.lock()) {
            pod.send(Signal::KILL);
            if let Some(mut child) = pod.child.take() {
                // Of a machine that was switched off before only a stopped nsenter may be left.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Pod {
    fn send(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended this instant; the next look sees it.
            let _ = signal_inner(child.id(), signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_follows_its_manifest() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let running = Phase::Running { since: now };
        let table = [
            (Phase::Waiting { until: later }, true, true, Step::Leave),
            (Phase::Waiting { until: now }, true, true, Step::Start),
            (Phase::Waiting { until: later }, true, false, Step::Forget),
            (running, false, true, Step::Leave),
            (running, true, true, Step::Restart { since: now }),
            (running, false, false, Step::Terminate),
            (running, true, false, Step::Forget),
            (Phase::Stopping { kill_at: later }, false, false, Step::Leave),
            (Phase::Stopping { kill_at: later }, false, true, Step::Leave),
            (Phase::Stopping { kill_at: now }, false, false, Step::Kill),
            (Phase::Stopping { kill_at: later }, true, true, Step::Forget),
        ];
        for (phase, ended, wanted, step) in table {
            assert_eq!(decide(phase, ended, wanted, now), step, "{phase:?} ended={ended} wanted={wanted}");
        }
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        assert!(backoff(0) < backoff(1));
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }
}
