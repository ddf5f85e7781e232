//! What /proc and the programs say about the machine and the processes on it. Reads only, but for the peak that it sets back.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

/// Kernel ticks in a second: fixed for user space on Linux.
const TICKS: f64 = 100.0;
/// How long the machine is looked at to find it quiet.
const LOOK: Duration = Duration::from_secs(1);
/// Share of all cores that a quiet machine may be busy: a bed at rest needs a part of it.
const QUIET: f64 = 0.15;

/// The machine that figures are of.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
}

impl Machine {
    /// The one this runs on.
    pub fn here() -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let processor = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, n)| n));
        Ok(Self {
            processor: processor.unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: kib("/proc/meminfo", "MemTotal:")? / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

fn kib(file: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(field)).with_context(|| format!("{file}: no {field}"))?;
    Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
}

/// Resident memory of a process, MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    Ok(kib(&format!("/proc/{pid}/status"), "VmRSS:")? as f64 / 1024.0)
}

/// Most resident memory of a process since [`forget_peak`], MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    Ok(kib(&format!("/proc/{pid}/status"), "VmHWM:")? as f64 / 1024.0)
}

/// Sets a process's peak back to what it holds now.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("clear_refs of {pid}"))
}

/// Processor time that a process has used.
pub fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(')').context("stat")?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // Fields 14 and 15, user and system, of which two stand before the parenthesis.
    Ok((ticks(11) + ticks(12)) / TICKS)
}

/// How busy the machine was before a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quiet {
    /// Share of all cores that was in use while nothing was measured.
    pub busy_share: f64,
    /// Load of the last minute.
    pub load: f64,
    /// Whether the run may be believed.
    pub is_quiet: bool,
}

/// Waits until the machine is quiet, but not longer than `patience`.
pub async fn wait_quiet(patience: Duration) -> Result<Quiet> {
    // What the last run left to be written must not be paid for by the next.
    tokio::task::spawn_blocking(rustix::fs::sync).await?;
    let begun = Instant::now();
    loop {
        let before = busy_and_all()?;
        tokio::time::sleep(LOOK).await;
        let after = busy_and_all()?;
        let busy_share = (after.0 - before.0) / (after.1 - before.1).max(1.0);
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default();
        let is_quiet = busy_share <= QUIET;
        if is_quiet || begun.elapsed() >= patience {
            return Ok(Quiet { busy_share, load, is_quiet });
        }
    }
}

fn busy_and_all() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    // Idle and waiting for disks.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let all: f64 = ticks.iter().sum();
    Ok((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_memory_and_a_peak_that_can_be_set_back() {
        let me = std::process::id();
        let large = vec![1_u8; 64 << 20];
        assert!(large.iter().all(|byte| *byte == 1));
        drop(large);
        let before = peak_mib(me).unwrap();
        forget_peak(me).unwrap();
        let after = peak_mib(me).unwrap();
        assert!(before - after > 32.0, "{before} {after}");
        assert!(resident_mib(me).unwrap() > 1.0);
        assert!(processor_seconds(me).unwrap() >= 0.0);
    }
}
