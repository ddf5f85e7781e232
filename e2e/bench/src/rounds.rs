//! Rounds: each kind of run once, in an order that turns from round to round, so that what drifts drifts for all of them.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::database::connect;
use crate::ground::{BackupRun, Ground};
use crate::latency::{Latencies, Puts, write_steadily};
use crate::machine::{Quiet, wait_quiet};

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Save,
    Floor,
    Backup,
}

/// How rounds are held.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    pub runs: u32,
    pub patience: Duration,
}

/// Runs beside each other.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compared {
    /// Seconds of `etcdctl snapshot save`.
    pub save: Vec<f64>,
    /// Seconds of a bare read.
    pub floor: Vec<f64>,
    pub backups: Vec<BackupRun>,
    /// How busy the machine was before each run.
    pub before: Vec<Quiet>,
}

/// Writes to etcd beside runs, a value a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Disturbed {
    pub alone: Vec<Latencies>,
    pub save: Vec<Latencies>,
    pub backup: Vec<Latencies>,
    /// All writes of all runs together.
    pub pooled_save: Latencies,
    pub pooled_backup: Latencies,
    pub before: Vec<Quiet>,
}

/// Times backups beside a save and a bare read.
///
/// # Errors
/// A run fails.
pub async fn compare(ground: &Ground, rounds: Rounds, with_save: bool) -> Result<Compared> {
    let mut kinds = vec![Kind::Floor, Kind::Backup];
    if with_save {
        kinds.insert(0, Kind::Save);
    }
    let mut compared = Compared::default();
    // The first round warms caches and does not count.
    for round in 0..=rounds.runs {
        for kind in &kinds {
            let before = wait_quiet(rounds.patience).await?;
            compared.before.push(before);
            match kind {
                Kind::Save => compared.save.push(ground.save().await?),
                Kind::Floor => compared.floor.push(ground.read_stream().await?),
                Kind::Backup => compared.backups.push(ground.back_up(&format!("run-{round}")).await?),
            }
            println!("  round {round}: {kind:?} {}", compared.last(*kind));
        }
        if round == 0 {
            compared = Compared::default();
        }
        kinds.rotate_left(1);
    }
    Ok(compared)
}

impl Compared {
    fn last(&self, kind: Kind) -> String {
        let seconds = |seconds: Option<&f64>| seconds.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default();
        match kind {
            Kind::Save => seconds(self.save.last()),
            Kind::Floor => seconds(self.floor.last()),
            Kind::Backup => self.backups.last().map_or_else(String::new, |run| {
                format!(
                    "{:.2} s seen, {:.2} s of the agent, {:.2} s of processor, {:.0} MiB, {} API writes",
                    run.seconds_seen, run.seconds_agent, run.agent_cpu_seconds, run.agent_peak_rss_mib, run.api_writes
                )
            }),
        }
    }
}

/// Writes steadily while nothing, a save and a backup happen.
///
/// # Errors
/// A run or a write fails.
pub async fn disturb(ground: &Ground, rounds: Rounds) -> Result<Disturbed> {
    let (mut disturbed, mut saves, mut backups) = (Disturbed::default(), Vec::new(), Vec::new());
    for round in 0..rounds.runs {
        let mut kinds = [Kind::Save, Kind::Backup];
        kinds.rotate_left(round as usize % 2);
        for kind in kinds {
            disturbed.before.push(wait_quiet(rounds.patience).await?);
            let puts = disturb_once(ground, kind, round).await?;
            println!("  round {round}: writes during {kind:?}: {:?}", puts.latencies());
            match kind {
                Kind::Backup => backups.push(puts),
                Kind::Save | Kind::Floor => saves.push(puts),
            }
        }
        disturbed.before.push(wait_quiet(rounds.patience).await?);
        let alone = write_while(ground, async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(None)
        });
        disturbed.alone.push(alone.await?.latencies());
    }
    disturbed.save = saves.iter().map(Puts::latencies).collect();
    disturbed.backup = backups.iter().map(Puts::latencies).collect();
    disturbed.pooled_save = Puts::pool(&saves).latencies();
    disturbed.pooled_backup = Puts::pool(&backups).latencies();
    Ok(disturbed)
}

async fn disturb_once(ground: &Ground, kind: Kind, round: u32) -> Result<Puts> {
    match kind {
        Kind::Save => write_while(ground, async { ground.save().await.map(|_seconds| None) }).await,
        Kind::Floor => write_while(ground, async { ground.read_stream().await.map(|_seconds| None) }).await,
        Kind::Backup => {
            let backing_up = async { Ok(Some(ground.back_up(&format!("disturbing-{round}")).await?.window)) };
            write_while(ground, backing_up).await
        }
    }
}

/// The writes sent during `work`, or in the window that it names.
async fn write_while(
    ground: &Ground,
    work: impl Future<Output = Result<Option<(SystemTime, SystemTime)>>>,
) -> Result<Puts> {
    let client = connect(ground.node()?).await?;
    let stop = CancellationToken::new();
    let writer = tokio::spawn(write_steadily(client, stop.clone()));
    // The connection and the first writes are not what is measured.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = SystemTime::now();
    let window = work.await;
    let ended = SystemTime::now();
    stop.cancel();
    let puts = writer.await??;
    Ok(puts.within(window?.unwrap_or((begun, ended))))
}
