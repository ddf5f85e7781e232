//! Runs of one backup, and what must be true of each that ended, whatever was ill meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bucket::{Contents, look_into};
use crate::cluster::{Cluster, condition, is_condition, is_terminal};
use crate::kstatus::{Kstatus, kstatus};
use crate::manifests::backup;
use crate::wait::eventually;

/// Where an agent keeps what the store does not take.
pub const SPOOL: &str = "/var/lib/lifeboat/spool";

/// A backup of the name of its location, on one node or any.
pub fn backup_on(name: &str, location: &str, node: Option<&str>, limits: &Value) -> Value {
    let mut object = backup(name, location);
    object["spec"]["limits"] = limits.clone();
    if let Some(node) = node {
        object["spec"]["source"] = json!({"nodeName": node});
    }
    object
}

/// Applies a backup and waits for its end.
pub async fn run(cluster: &Cluster, object: &Value, limit: Duration) -> Result<Value> {
    cluster.apply(object).await?;
    let name = object["metadata"]["name"].as_str().unwrap();
    let done = cluster.wait_for("etcdb", name, limit, is_terminal).await?;
    ensure!(
        is_condition(&done, "Complete", "True") != is_condition(&done, "Failed", "True"),
        "not exactly one end: {done:#}"
    );
    let printed = cluster.kubectl(&["get", "etcdb", name, "-o", "wide"]).await?;
    println!("{printed}");
    ensure!(!printed.contains("<invalid>"), "{printed}");
    Ok(done)
}

/// A run that ended well: one whole backup in its bucket, nothing half-made there, nothing in any spool.
pub async fn see_complete(cluster: &Cluster, object: &Value, bucket: &str) -> Result<Value> {
    let done = run(cluster, object, Duration::from_secs(300)).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}\n{}", cluster.log_tails());
    ensure!(kstatus(&done) == Kstatus::Current, "{done:#}");
    let contents = look_into(cluster, bucket, bucket)?;
    ensure!(contents.is_one_backup(), "{bucket}: {contents:#?}");
    see_no_spool(cluster, &done).await?;
    Ok(done)
}

/// A run that failed for a reason, in words; nothing of it is listed. What it left in its bucket.
pub async fn see_failed(
    cluster: &Cluster,
    object: &Value,
    bucket: &str,
    reason: &str,
    words: &[&str],
) -> Result<Contents> {
    let done = run(cluster, object, Duration::from_secs(300)).await?;
    let failed = condition(&done, "Failed").cloned().unwrap_or_default();
    ensure!(failed["status"] == "True" && failed["reason"] == reason, "{done:#}\n{}", cluster.log_tails());
    ensure!(kstatus(&done) == Kstatus::Failed, "{done:#}");
    let message = failed["message"].as_str().unwrap_or_default().to_owned();
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in: {message}");
    }
    let contents = look_into(cluster, bucket, bucket)?;
    ensure!(contents.manifests.is_empty(), "a failed run is listed: {contents:#?}");
    see_no_spool(cluster, &done).await?;
    Ok(contents)
}

/// Nothing of a run is left in any master's spool.
pub async fn see_no_spool(cluster: &Cluster, done: &Value) -> Result<()> {
    let id = done["status"]["backupId"].as_str().unwrap_or("none").to_owned();
    // The object is told of the end a moment before the last file goes.
    eventually("the spool to be empty", Duration::from_secs(20), async || {
        let left: Vec<_> = spooled(cluster).into_iter().filter(|(name, _)| name.starts_with(&id)).collect();
        if left.is_empty() { Ok(Some(())) } else { Err(left) }
    })
    .await
}

/// Directories in the spools of all masters, with the bytes in them.
pub fn spooled(cluster: &Cluster) -> Vec<(String, u64)> {
    let mut found = vec![];
    for node in cluster.bed.nodes() {
        let Ok(runs) = std::fs::read_dir(node.live_path(SPOOL)) else { continue };
        for run in runs.flatten() {
            let parts = std::fs::read_dir(run.path()).into_iter().flatten().flatten();
            let bytes = parts.filter_map(|part| part.metadata().ok()).map(|meta| meta.len()).sum();
            found.push((run.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    found
}

/// Bytes in the spools of all masters that are of one backup: others may run beside it.
pub async fn spooled_for(cluster: &Cluster, name: &str) -> Result<u64> {
    let backup = cluster.get("etcdb", name).await?.context("no such backup")?;
    let id = backup["status"]["backupId"].as_str().context("no backupId")?.to_owned();
    Ok(spooled(cluster).iter().filter(|(run, _)| run.starts_with(&id)).map(|(_, bytes)| bytes).sum())
}
