//! From the agent's container onto its host: a program of the host, in the host's own file system.
//!
//! The executor of a restore must outlive the pod, and be started by the host's service manager. The container's program enters
//! the mount namespace of the host's first process, which it sees because the pod shares the host's processes, and becomes the
//! program there.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Name of the hidden command.
pub const ENTER_HOST: &str = "enter-host";
/// The mount namespace of the host.
const NAMESPACE: &str = "/proc/1/ns/mnt";
/// The root of the host's file system.
const ROOT: &str = "/proc/1/root";

/// A command that becomes a program of the host, by its path there.
pub fn on_host(program: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ENTER_HOST).arg("--").arg(program);
    command
}

/// Becomes a program of the host; comes back only where that failed. For a process with one thread.
pub fn become_host_program(words: &[OsString]) -> std::io::Error {
    let [program, arguments @ ..] = words else { return std::io::Error::other("no program") };
    let entered = File::open(NAMESPACE)
        .and_then(|namespace| Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?));
    match entered {
        Ok(()) => Command::new(program).args(arguments).current_dir("/").exec(),
        Err(error) => std::io::Error::new(error.kind(), format!("{NAMESPACE}: {error}")),
    }
}

/// Why no program of the host could be started from this container, in words.
pub fn obstacle(program: &Path) -> Option<String> {
    let below: PathBuf = program.strip_prefix("/").unwrap_or(program).into();
    let path = Path::new(ROOT).join(below);
    match std::fs::metadata(&path) {
        Ok(_) => None,
        Err(error) => Some(format!(
            "{} cannot be started on the host from the agent's pod ({error}): set agent.restore.enabled in the chart's values, \
             which also needs agent.hostTools.install",
            program.display()
        )),
    }
}
