//! Programs of others that must not outlive this process: an orphaned tool would go on writing into a directory that the
//! next run makes anew, an orphaned etcd would serve without its supervisor.
//!
//! The kernel can end a child with its parent, but only the child itself can ask for that; so a child begins as this
//! program, asks, and becomes the other.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Name of the hidden command.
pub const WITH_PARENT: &str = "with-parent";

/// A command whose process is killed when the thread that starts it ends.
pub fn with_parent(program: impl Into<OsString>) -> Command {
    let program = program.into();
    if cfg!(test) {
        return Command::new(program);
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg(WITH_PARENT).arg(getpid().as_raw_nonzero().to_string()).arg("--").arg(program);
    command
}

/// Becomes the other program; comes back only where that failed.
pub fn become_program(parent: i32, words: &[OsString]) -> std::io::Error {
    let [program, arguments @ ..] = words else { return std::io::Error::other("no program") };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the kernel was asked.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(parent) {
        return std::io::Error::other("whoever started this is gone");
    }
    Command::new(program).args(arguments).exec()
}
