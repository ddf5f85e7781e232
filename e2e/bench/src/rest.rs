//! Agent and operator at rest: what they hold and how much they do, with nothing to do.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams};
use lifeboat_crds::{EtcdBackup, EtcdBackupStatus};
use lifeboat_e2e::manifests::{backup, schedule};
use serde::Serialize;
use serde_json::json;

use crate::ground::{Ground, LOCATION};
use crate::machine::{processor_seconds, resident_mib};

/// How long a process is watched.
const WATCHED: Duration = Duration::from_secs(30);
/// Until the API server is asked again whether all is quiet.
const CALM: Duration = Duration::from_secs(5);
/// Looks until a busy API server is an error.
const LOOKS: u32 = 60;
/// Requests at once.
const WRITERS: usize = 16;
/// 2025-01-01; from then on a run an hour.
const FIRST_SLOT: i64 = 1_735_689_600;
/// The schedule that made them all.
const SCHEDULE: &str = "every-hour";

/// A process at rest.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rest {
    pub rss_mib: f64,
    /// Thousandths of a core.
    pub millicores: f64,
}

/// Watches a process at rest.
///
/// # Errors
/// It ended.
pub async fn watch(pid: u32) -> Result<Rest> {
    let before = processor_seconds(pid)?;
    tokio::time::sleep(WATCHED).await;
    let millicores = (processor_seconds(pid)? - before) / WATCHED.as_secs_f64() * 1e3;
    Ok(Rest { rss_mib: resident_mib(pid)?, millicores })
}

/// The operator with many finished backups: after a start that lists them, and when each of them has changed since.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OperatorAtRest {
    pub without_backups: Rest,
    pub after_start: Rest,
    pub after_changes: Rest,
    /// The agent beside them.
    pub agent: Rest,
}

/// Puts `count` finished backups into the API and watches the operator.
///
/// # Errors
/// The API refuses, or the operator does not come to rest.
pub async fn watch_operator(ground: &mut Ground, count: u32) -> Result<OperatorAtRest> {
    wait_calm(ground).await?;
    let without_backups = watch(ground.operator_pid()?).await?;
    println!("  operator without backups: {without_backups:?}");
    // Suspended, so that no run of it comes in between; and all are kept.
    let mut object = schedule(SCHEDULE, "0 * * * *", LOCATION);
    object["spec"]["suspend"] = json!(true);
    object["spec"]["retention"] = json!({"keepLast": 10_000});
    ground.cluster.apply(&object).await?;
    let pattern = ground.finished_backup("pattern").await?;
    // Without an operator, or it would begin the runs of all these before they get their status.
    ground.cluster.operators.first_mut().context("no operator")?.terminate(CALM).await?;
    stream::iter(0..count)
        .map(|index| create_like(ground, &pattern, index))
        .buffer_unordered(WRITERS)
        .try_collect::<Vec<()>>()
        .await?;
    ground.cluster.start_operator(0).await?;
    wait_calm(ground).await?;
    let after_start = watch(ground.operator_pid()?).await?;
    println!("  operator after a start with {count} backups: {after_start:?}");
    stream::iter(0..count).map(|index| touch(ground, index)).buffer_unordered(WRITERS).try_collect::<Vec<()>>().await?;
    wait_calm(ground).await?;
    let after_changes = watch(ground.operator_pid()?).await?;
    println!("  operator after a change of each: {after_changes:?}");
    let agent = watch(ground.agent_pid()?).await?;
    println!("  agent beside them: {agent:?}");
    Ok(OperatorAtRest { without_backups, after_start, after_changes, agent })
}

fn name_of(index: u32) -> String {
    format!("{SCHEDULE}-{:014}", 20_250_000_000_000_u64 + u64::from(index))
}

async fn touch(ground: &Ground, index: u32) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.org/touched": "yes"}}}));
    ground.backups().patch(&name_of(index), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A backup with the status of one that was really made, as of another hour.
async fn create_like(ground: &Ground, pattern: &EtcdBackupStatus, index: u32) -> Result<()> {
    let backups = ground.backups();
    let name = name_of(index);
    let mut object = backup(&name, LOCATION);
    object["metadata"]["labels"] = json!({lifeboat_crds::label::SCHEDULE: SCHEDULE});
    let slot = jiff::Timestamp::from_second(FIRST_SLOT + 3_600 * i64::from(index))?;
    object["metadata"]["annotations"] = json!({lifeboat_crds::label::SLOT: slot.to_string()});
    let object: EtcdBackup = serde_json::from_value(object)?;
    backups.create(&PostParams::default(), &object).await.with_context(|| name.clone())?;
    let mut status = pattern.clone();
    status.backup_id = Some(format!("20251124-000000-{index:08x}"));
    status.assignment.as_mut().context("no assignment")?.attempt = 1;
    let patch = Patch::Merge(json!({"status": status}));
    backups.patch_status(&name, &PatchParams::default(), &patch).await.with_context(|| name.clone())?;
    Ok(())
}

/// Waits until nothing is written any more but heartbeats.
async fn wait_calm(ground: &Ground) -> Result<()> {
    let mut before = ground.api_writes().await?;
    for _ in 0..LOOKS {
        tokio::time::sleep(CALM).await;
        let now = ground.api_writes().await?;
        if now - before <= 1 {
            return Ok(());
        }
        before = now;
    }
    bail!("the operator does not come to rest\n{}", ground.cluster.log_tails())
}
