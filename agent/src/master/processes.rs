//! Which processes of the control plane run on this master, and who has files of etcd's data open. Reads `/proc`, and ends
//! processes. Blocking.
//!
//! Asks no runtime: after a crash, or with a runtime that is stopped, `/proc` still tells. Several masters may share a
//! kernel (machines in namespaces): a server counts as this master's if it is in the network namespace of this process,
//! where static pods of a control plane live.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::pods::{CLIENTS, ETCD};
use crate::host::open_files::Files;

/// How often it is looked whether a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// The program's file name.
    pub program: String,
}

/// What runs here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// API server, controller-manager, scheduler, by program.
    pub clients: BTreeMap<String, Vec<Process>>,
    /// etcd on the data in place.
    pub etcd: Vec<Process>,
    /// Others that have files of either data open.
    pub strangers: Vec<Process>,
}

/// Looks at every process. `placed` and `aside` are directories of data.
///
/// # Errors
/// `/proc` cannot be read.
pub fn look([placed, aside]: [Vec<PathBuf>; 2]) -> io::Result<Running> {
    let [placed, aside] = [placed, aside].map(|directories| Files::below(directories.iter().map(PathBuf::as_path)));
    let own = std::process::id();
    let here = fs::read_link("/proc/self/ns/net")?;
    let mut running = Running::default();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(program) = program_of(&entry.path()).filter(|_| id != own) else { continue };
        let process = Process { id, program };
        if CLIENTS.contains(&process.program.as_str()) {
            if fs::read_link(entry.path().join("ns/net")).is_ok_and(|found| found == here) {
                running.clients.entry(process.program.clone()).or_default().push(process);
            }
            continue;
        }
        let open = Files::open_in(&entry.path());
        match (open.meet(&placed), open.meet(&aside)) {
            (true, false) if process.program == ETCD => running.etcd.push(process),
            (false, false) => {}
            (true, _) | (_, true) => running.strangers.push(process),
        }
    }
    Ok(running)
}

/// The program of a process; nothing for a thread of the kernel, and for one that has ended and was not waited for.
fn program_of(process: &Path) -> Option<String> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next().filter(|word| !word.is_empty())?;
    Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_str().map(str::to_owned)
}

/// Ends processes: politely, and for good after `patience`, or as soon as `hurry` says so. Returns when none is left.
///
/// # Errors
/// One does not end: its name and number.
pub fn end(processes: &[Process], patience: Duration, hurry: impl Fn(&Process) -> bool) -> Result<(), String> {
    let signal = |process: &Process, signal| {
        if let Some(pid) = i32::try_from(process.id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    };
    for process in processes {
        signal(process, Signal::TERM);
    }
    let begun = Instant::now();
    loop {
        // A number that was given to another program meanwhile is not the one that was to end.
        let left: Vec<&Process> = processes
            .iter()
            .filter(|process| {
                let path = PathBuf::from(format!("/proc/{}", process.id));
                program_of(&path).is_some_and(|program| program == process.program)
            })
            .collect();
        let Some(first) = left.first() else { return Ok(()) };
        for process in &left {
            if begun.elapsed() > patience || hurry(process) {
                signal(process, Signal::KILL);
            }
        }
        if begun.elapsed() > patience * 2 {
            return Err(format!("process {} ({}) does not end", first.id, first.program));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// A program of a name of our choice that holds a file open until it is told to end.
    fn program(dir: &Path, name: &str, holds: &Path) -> Child {
        let path = dir.join(name);
        if !path.exists() {
            std::fs::copy("/bin/sleep", &path).unwrap();
        }
        Command::new(path).arg("60").stdin(fs::File::open(holds).unwrap()).spawn().unwrap()
    }

    #[test]
    fn etcd_strangers_and_clients_are_told_apart_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (placed, aside) = (dir.path().join("placed"), dir.path().join("aside"));
        for tree in [&placed, &aside] {
            std::fs::create_dir_all(tree.join("snap")).unwrap();
            std::fs::write(tree.join("snap/db"), "x").unwrap();
        }
        let other = dir.path().join("other");
        std::fs::write(&other, "x").unwrap();
        let trees = || [vec![placed.clone()], vec![aside.clone()]];
        let names = |processes: &[Process]| processes.iter().map(|process| process.id).collect::<Vec<_>>();
        let mut etcd = program(dir.path(), "etcd", &placed.join("snap/db"));
        let mut stray = program(dir.path(), "etcd", &aside.join("snap/db"));
        let mut reader = program(dir.path(), "tar", &placed.join("snap/db"));
        let mut scheduler = program(dir.path(), "kube-scheduler", &other);
        let begun = Instant::now();
        let running = loop {
            let running = look(trees()).unwrap();
            let seen = running.etcd.len() + running.strangers.len();
            let scheduled =
                running.clients.get("kube-scheduler").is_some_and(|found| names(found).contains(&scheduler.id()));
            if (seen == 3 && scheduled) || begun.elapsed() > Duration::from_secs(10) {
                break running;
            }
        };
        assert_eq!(names(&running.etcd), [etcd.id()]);
        let mut strangers = names(&running.strangers);
        strangers.sort_unstable();
        let mut expected = [stray.id(), reader.id()];
        expected.sort_unstable();
        assert_eq!(strangers, expected);
        // Somebody must wait for them, or they stay as zombies, which count as ended.
        end(&running.etcd, Duration::from_secs(5), |_| false).unwrap();
        end(&running.strangers, Duration::from_secs(5), |_| true).unwrap();
        for child in [&mut etcd, &mut stray, &mut reader] {
            child.wait().unwrap();
        }
        assert_eq!(look(trees()).unwrap().etcd, []);
        scheduler.kill().unwrap();
        scheduler.wait().unwrap();
    }
}
