//! One master: its machine, its files, its static pods, and the faults a test can inflict on it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command as StdCommand;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::machine::{Entrance, Machine, on_host};
use crate::process::{Signal, run, tail};
use crate::supervisor::{Pods, Wake};
use crate::wait::wait_for;

/// Directories of which each node has its own, at their real paths.
pub(crate) const NODE_DIRS: [&str; 6] =
    ["/etc/kubernetes", "/var/lib/etcd", "/var/lib/kubelet", "/var/lib/lifeboat", "/opt/lifeboat", "/run/lifeboat"];
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where manifests wait that nobody follows.
pub(crate) const MANIFESTS_OFF: &str = "/etc/kubernetes/manifests-off";
/// Supplementary group of what tests start on nodes: that is how a firewall tells an agent from the API server beside it.
pub(crate) const AGENT_GROUP: &str = "4123";

/// A master of the testbed.
#[derive(Debug)]
pub struct Node {
    /// Name of its Node object, its etcd member, and its host name.
    pub name: String,
    /// Its address on the bridge.
    pub ip: Ipv4Addr,
    pub(crate) ordinal: u8,
    pub(crate) root: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) search_path: OsString,
    pub(crate) pods: Arc<Pods>,
    pub(crate) wake: Option<Sender<Wake>>,
}

impl Node {
    /// Where the node's `path` (below one of its own directories) lies for the test.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        on_host(&self.root, path)
    }

    /// Where any `path` of the node lies for the test as long as the node is on, also below what was mounted later.
    #[must_use]
    pub fn live_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.machine.path(path.as_ref())
    }

    /// Covers a directory of the node, made if missing, with an empty file system of its own: how full the disks of the test's
    /// machine are is then nothing to whoever counts bytes there. `size` as tmpfs takes it: `512m`.
    ///
    /// # Errors
    /// What `mount` said.
    pub async fn mount_tmpfs(&self, path: &str, size: &str) -> Result<()> {
        let mut mkdir = self.std_command("mkdir");
        mkdir.args(["-p", path]);
        let mut mount = self.std_command("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", path]);
        for command in [mkdir, mount] {
            run(command, Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// A program in this node's namespaces, with a clean environment; programs of the testbed go by their bare names. Dropping a
    /// running one does not end it: for what lives long see [`crate::Testbed::spawn_in`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::from(self.std_command(program))
    }

    pub(crate) fn std_command(&self, program: impl AsRef<OsStr>) -> StdCommand {
        self.entrance().command(&self.search_path, program)
    }

    pub(crate) fn entrance(&self) -> Entrance {
        self.machine.entrance()
    }

    /// The node's end of the cable, in the hub.
    pub(crate) fn port(&self) -> String {
        format!("master{}", self.ordinal)
    }

    /// Process id on the host of a static pod's process, if it runs.
    #[must_use]
    pub fn pod_pid(&self, pod: &str) -> Option<u32> {
        self.pods.pid(pod)
    }

    /// The file that takes a static pod's output.
    #[must_use]
    pub fn pod_log(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.log"))
    }

    /// The end of a static pod's output.
    #[must_use]
    pub fn pod_log_tail(&self, pod: &str) -> String {
        tail(&self.pod_log(pod))
    }

    /// Moves a manifest out of the followed directory and returns when its process is gone.
    ///
    /// # Errors
    /// When there is no such manifest, or the process outlives its grace period.
    pub async fn stop_pod(&self, pod: &str) -> Result<()> {
        self.move_manifest(pod, MANIFESTS, MANIFESTS_OFF)?;
        self.pod_gone(pod, Duration::from_secs(40)).await
    }

    /// Moves a manifest (back) into the followed directory and returns when its process runs, which is not yet when it serves.
    ///
    /// # Errors
    /// When there is no such manifest, or nothing starts.
    pub async fn start_pod(&self, pod: &str) -> Result<()> {
        self.move_manifest(pod, MANIFESTS_OFF, MANIFESTS)?;
        self.pod_running(pod, Duration::from_secs(40)).await
    }

    /// Waits until a static pod has no process and will get none.
    ///
    /// # Errors
    /// After `limit`, with the end of its log.
    pub async fn pod_gone(&self, pod: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("{pod} of {} gone", self.name), limit, async || Ok(self.pods.is_gone(pod)))
            .await
            .with_context(|| self.pod_log_tail(pod))
    }

    /// Waits until a static pod has a process.
    ///
    /// # Errors
    /// After `limit`, with the end of its log.
    pub async fn pod_running(&self, pod: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("{pod} of {} running", self.name), limit, async || Ok(self.pod_pid(pod).is_some()))
            .await
            .with_context(|| self.pod_log_tail(pod))
    }

    fn move_manifest(&self, pod: &str, from: &str, to: &str) -> Result<()> {
        let file = format!("{pod}.yaml");
        fs::rename(self.path(from).join(&file), self.path(to).join(&file))
            .with_context(|| format!("{file} of {}", self.name))?;
        if let Some(wake) = &self.wake {
            // Only fails when the supervisor ended, with the testbed.
            let _ = wake.send(Wake::Look);
        }
        Ok(())
    }

    /// Signals a static pod's process; a killed one is started again, as its manifest is still there.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_pod(&self, pod: &str, signal: Signal) -> Result<()> {
        self.pods.signal(pod, signal).with_context(|| self.name.clone())
    }

    /// Freezes a static pod's process: ports accept, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_pod(&self, pod: &str) -> Result<()> {
        self.kill_pod(pod, Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume_pod(&self, pod: &str) -> Result<()> {
        self.kill_pod(pod, Signal::CONT)
    }

    /// Drops the packets of processes started with [`crate::Testbed::spawn_in`] on this node to any etcd's client port, its own
    /// included. The API server's go on. Already open connections stall too.
    ///
    /// # Errors
    /// When iptables is missing or refuses.
    pub async fn block_agent_etcd(&self) -> Result<()> {
        self.unblock_agent_etcd().await?;
        run(self.firewall("-I"), Duration::from_secs(10)).await.context("run iptables (hack/install-deps.sh)")?;
        Ok(())
    }

    /// Ends [`Self::block_agent_etcd`]; harmless without one.
    ///
    /// # Errors
    /// When iptables is missing.
    pub async fn unblock_agent_etcd(&self) -> Result<()> {
        if run(self.std_command_version(), Duration::from_secs(10)).await.is_err() {
            bail!("no iptables: run hack/install-deps.sh");
        }
        // Refused when there is no such rule; there is never more than one.
        let _ = run(self.firewall("-D"), Duration::from_secs(10)).await;
        Ok(())
    }

    fn std_command_version(&self) -> StdCommand {
        let mut command = self.std_command("iptables");
        command.arg("--version");
        command
    }

    fn firewall(&self, action: &str) -> StdCommand {
        let mut command = self.std_command("iptables");
        command.args(["--wait", action, "OUTPUT", "--protocol", "tcp", "--dport", "2379", "--match", "owner"]).args([
            "--gid-owner",
            AGENT_GROUP,
            "--suppl-groups",
            "--jump",
            "DROP",
        ]);
        command
    }
}
