//! Which testbeds live on this machine, and what dead ones left behind. One file per subnet under `/run/lifeboat-testbed`, locked
//! (flock) for as long as its owner lives: a lock that can be had means a dead owner, whatever its process id is used for by now.
//! Never ends a process whose start time differs from the recorded one.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::network::uplink;
use crate::workdir;

const REGISTRY: &str = "/run/lifeboat-testbed";
/// Third octets of 10.123.x.0/24. 0 to 9 are left to people, among them the machines of the cluster tier.
const SUBNETS: std::ops::RangeInclusive<u8> = 10..=250;

/// A process, with what tells it from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub started: u64,
}

impl Identity {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)? })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    pub(crate) fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid.cast_signed())) {
            // Gone between the look and the signal is what we want anyway.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The command in field 2 may hold blanks and parentheses, so fields are counted from its last closing one. A zombie counts as dead.
fn start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// What the sweep must know about a testbed whose owner is dead.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    owner: u32,
    dir: PathBuf,
    keep: bool,
    machines: Vec<Identity>,
}

/// The right to a subnet, held until dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    pub(crate) subnet: u8,
}

impl Claim {
    /// Takes the first free subnet, after sweeping what dead owners left.
    pub(crate) fn take() -> Result<Self> {
        sweep()?;
        let used = addresses_of_this_host()?;
        for subnet in SUBNETS {
            if used.contains(&format!("inet 10.123.{subnet}.")) {
                continue;
            }
            let Some(mut file) = lock(&path(subnet))? else { continue };
            // Someone may have claimed and died since the sweep.
            if read(&mut file)?.is_none() {
                return Ok(Self { file, subnet });
            }
        }
        bail!("all subnets 10.123.{}.0/24 to 10.123.{}.0/24 are in use by testbeds", SUBNETS.start(), SUBNETS.end())
    }

    /// Tells a later sweep what to remove should this process not come to it.
    pub(crate) fn record(&mut self, name: &str, dir: &Path, keep: bool, machines: Vec<Identity>) -> Result<()> {
        let record =
            Record { name: name.to_owned(), owner: std::process::id(), dir: dir.to_path_buf(), keep, machines };
        let text = serde_json::to_vec(&record)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An empty file is a free subnet; the lock ends with the descriptor.
        let _ = self.file.set_len(0);
    }
}

/// A testbed whose owner was dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Name given in its options.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether the directory was left because the testbed was to be kept.
    pub kept: bool,
}

/// Removes what testbeds of dead owners left: their directories, and processes and interfaces should any have outlived them.
///
/// # Errors
/// When the registry under `/run` cannot be used, or something cannot be removed.
pub fn sweep() -> Result<Vec<Swept>> {
    fs::create_dir_all(REGISTRY).with_context(|| format!("create {REGISTRY} (testbeds need root)"))?;
    let mut swept = Vec::new();
    for subnet in SUBNETS {
        let path = path(subnet);
        if !path.exists() {
            continue;
        }
        let Some(mut file) = lock(&path)? else { continue };
        let Some(record) = read(&mut file)? else { continue };
        let Record { name, owner, dir, keep, machines } = record;
        tracing::info!(name, owner, dir = %dir.display(), "sweeping after a dead owner");
        end(&machines)?;
        if Path::new("/sys/class/net").join(uplink(subnet)).exists() {
            let _ = Command::new("ip").args(["link", "delete", &uplink(subnet)]).status();
        }
        if !keep {
            workdir::remove(&dir)?;
        }
        file.set_len(0)?;
        swept.push(Swept { name, dir, kept: keep });
    }
    Ok(swept)
}

fn path(subnet: u8) -> PathBuf {
    Path::new(REGISTRY).join(format!("{subnet}.json"))
}

fn lock(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// `None` for a free subnet. A record cut short by a crash while it was written counts as free: its owner had begun nothing yet,
/// or wrote it again and held the former one, whose processes ended with it.
fn read(file: &mut File) -> Result<Option<Record>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    match file.read_to_string(&mut text) {
        Ok(_) => Ok(serde_json::from_str(&text).ok()),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn end(machines: &[Identity]) -> Result<()> {
    machines.iter().for_each(|machine| machine.signal(Signal::KILL));
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(machine) = machines.iter().find(|machine| machine.is_alive()) {
        end_entrances(*machine);
        if Instant::now() > deadline {
            bail!("process {} of a dead testbed does not end", machine.pid);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends whoever stands outside a dying machine as the parent of a process in it. An `nsenter` stops itself with its child;
/// one that did so after its own parent had died is woken by nobody, reaps nothing, and the machine waits for it for ever.
fn end_entrances(machine: Identity) {
    let entrance = format!("nsenter\0--target\0{}\0", machine.pid);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Some(process) = Identity::of(pid) else { continue };
        if fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(entrance.as_bytes())) {
            process.signal(Signal::KILL);
        }
    }
}

fn addresses_of_this_host() -> Result<String> {
    let output =
        Command::new("ip").args(["-4", "-oneline", "address"]).output().context("run ip (hack/install-deps.sh)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_read_behind_a_command_with_blanks_and_parentheses() {
        let rest = (4..=22).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_ticks(&format!("7 (a) b) (c) S {rest} 23")), Some(22));
        assert_eq!(start_ticks(&format!("7 (a) Z {rest} 23")), None, "a zombie is dead");
        assert_eq!(start_ticks("7 (a) S 1 2"), None);
    }

    #[test]
    fn a_process_is_told_from_another_with_the_same_number() {
        let me = Identity::of(std::process::id()).expect("own stat");
        assert!(me.is_alive());
        assert!(!Identity { started: me.started + 1, ..me }.is_alive());
    }
}
