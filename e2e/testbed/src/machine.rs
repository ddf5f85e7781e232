//! A machine made of namespaces: network, mounts, processes, host name. Its init is a shell that waits on a pipe held by this
//! process, and when an init ends the kernel ends all else in its namespaces: nothing of a machine can outlive its owner.
//! Nothing is named, neither network namespaces nor mounts, so nothing is left to unname.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::inner;
use crate::sweep::Identity;

/// `cat` waits for the end of the pipe while the shell, as the init of its process namespace, reaps orphans in `wait`. Descriptor 3
/// is there because a shell gives its background commands an empty standard input.
const INIT: &str = r#"set -e
hostname "$1"; shift
ip link set lo up
while [ $# -gt 0 ]; do mkdir -p "$1" "$2"; mount --bind "$1" "$2"; shift 2; done
exec 3<&0
echo ready
cat <&3 >/dev/null & wait $!
"#;

/// Namespaces with a living init.
#[derive(Debug)]
pub(crate) struct Machine {
    init: Identity,
    holder: Mutex<Option<Child>>,
}

/// How to run something in a machine: the arguments in front of it.
#[derive(Debug, Clone)]
pub(crate) struct Entrance(Vec<OsString>);

impl Machine {
    /// Blocks for some milliseconds. `binds` are (own directory, path that it covers in the machine); both are made if missing.
    pub(crate) fn boot(name: &str, binds: &[(PathBuf, PathBuf)]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["--", "/bin/sh", "-c", INIT, "lifeboat-testbed-machine", name])
            .args(binds.iter().flat_map(|(from, to)| [from.as_os_str(), to.as_os_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Away from the terminal's Ctrl-C, which is for the owner alone.
            .process_group(0);
        let mut holder = command.spawn().context("run unshare (hack/install-deps.sh)")?;
        let booted = Self::await_ready(&mut holder)
            .with_context(|| format!("machine {name} does not come up; testbeds need root"));
        match booted {
            Ok(init) => Ok(Self { init, holder: Mutex::new(Some(holder)) }),
            Err(error) => {
                let _ = holder.kill();
                let _ = holder.wait();
                Err(error)
            }
        }
    }

    fn await_ready(holder: &mut Child) -> Result<Identity> {
        let mut line = String::new();
        let stdout = holder.stdout.take().context("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim_end() != "ready" {
            let mut complaint = String::new();
            if let Some(mut stderr) = holder.stderr.take() {
                stderr.read_to_string(&mut complaint)?;
            }
            bail!("{}", complaint.trim());
        }
        inner(holder.id()).and_then(Identity::of).context("its init is gone")
    }

    pub(crate) fn init(&self) -> Identity {
        self.init
    }

    /// Where a path of this machine lies for the host, whatever is mounted there.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        on_host(Path::new(&format!("/proc/{}/root", self.init.pid)), path)
    }

    /// All namespaces: what a process of this machine sees.
    pub(crate) fn entrance(&self) -> Entrance {
        let pid = self.init.pid.to_string();
        Entrance(["nsenter", "--target", &pid, "--mount", "--uts", "--net", "--pid", "--"].map(OsString::from).to_vec())
    }

    /// Runs `ip -batch` in this machine's network, seeing the process ids of the host (needed to hand interfaces over).
    pub(crate) fn ip(&self, script: &str) -> Result<()> {
        let pid = self.init.pid.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "--", "ip", "-batch", "-"]);
        ip_batch(command, script)
    }

    /// Pulls the plug: every process in it is killed at once, and gone on return.
    pub(crate) fn power_off(&self) {
        let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut holder) = holder {
            self.init.signal(Signal::KILL);
            drop(holder.stdin.take());
            // The init is only reaped once every process of the namespace is gone.
            let _ = holder.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Entrance {
    /// `program` in the machine, with a clean environment but for `path`: what the test's shell exports must not leak in.
    pub(crate) fn command(&self, path: &OsStr, program: impl AsRef<OsStr>) -> Command {
        let [enter, arguments @ ..] = self.0.as_slice() else { return Command::new(program) };
        let mut command = Command::new(enter);
        command.args(arguments).arg(program).env_clear().env("PATH", path).env("HOME", "/root").process_group(0);
        command
    }
}

/// Runs `ip -batch` in the host's own network.
pub(crate) fn host_ip(script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    ip_batch(command, script)
}

fn ip_batch(mut command: Command, script: &str) -> Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run ip (hack/install-deps.sh)")?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {} in:\n{script}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Where `path` of a machine lies on the host, given the directory that holds the machine's own ones.
pub(crate) fn on_host(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_machine_lies_below_its_directory() {
        assert_eq!(on_host(Path::new("/x/n0"), "/etc/kubernetes/pki"), Path::new("/x/n0/etc/kubernetes/pki"));
    }
}
