//! What a backup of a large database costs: time beside `etcdctl snapshot save`, the agent's peak memory, API writes.
//!
//! `make measure`. Not a test: figures of one machine, printed as a Markdown table.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lifeboat_e2e::cluster::{Cluster, Setup, is_condition, is_terminal};
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::manifests::backup;
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// Size of the database, MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Runs of each kind, one after the other in turn.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Writes to the API in our group and of events, as the API server counts them.
async fn api_writes(cluster: &Cluster) -> Result<u64> {
    let metrics = cluster.bed.kubectl(&["get", "--raw", "/metrics"]).await?;
    let ours = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && (line.contains(r#"group="etcd.lifeboat.dev""#) || line.contains(r#"group="events.k8s.io""#))
            && ["APPLY", "PATCH", "POST", "PUT", "DELETE"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    Ok(metrics.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
}

/// Peak resident memory of a process, MiB.
fn peak_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no value")?.parse::<u64>()? / 1024)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { mib, runs } = Arguments::parse();
    let cluster = Cluster::start(Setup::named("measure")).await?;
    cluster.create_location("offsite").await?;
    let begun = Instant::now();
    fill(&cluster, mib).await?;
    println!("filled {mib} MiB in {:.0} s", begun.elapsed().as_secs_f64());
    let node = cluster.node_names()[1].clone();
    let (mut saves, mut backups, mut wholes, mut writes) = (vec![], vec![], vec![], vec![]);
    let mut size = 0;
    for run in 0..runs {
        let file = cluster.bed.dir().join("saved.db");
        let _ = std::fs::remove_file(&file);
        let begun = Instant::now();
        cluster.bed.etcdctl(cluster.node(&node)?, &["snapshot", "save", &file.to_string_lossy()]).await?;
        saves.push(begun.elapsed().as_secs_f64());
        std::fs::remove_file(&file)?;

        let name = format!("run-{run}");
        let mut object = backup(&name, "offsite");
        object["spec"]["source"] = json!({"nodeName": node});
        let before = api_writes(&cluster).await?;
        let begun = Instant::now();
        cluster.apply(&object).await?;
        let done = cluster.wait_for("etcdb", &name, Duration::from_secs(300), is_terminal).await?;
        wholes.push(begun.elapsed().as_secs_f64());
        ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
        // The one write of the apply is the user's.
        writes.push((api_writes(&cluster).await? - before - 1) as f64);
        let facts = &done["status"]["execution"]["result"]["archive"];
        let time = |key: &str| facts[key].as_str().unwrap().parse::<jiff::Timestamp>();
        backups.push((time("completionTime")? - time("startTime")?).total(jiff::Unit::Second)?);
        size = facts["sizeBytes"].as_u64().unwrap();
    }
    let agent = cluster.agents[&node].pid().context("the agent ended")?;
    let (save, whole) = (median(saves), median(wholes));
    println!("\n| figure | value |\n|---|---|");
    println!("| snapshot | {} MiB |", size / 1024 / 1024);
    println!("| `etcdctl snapshot save` to disk, median of {runs} | {save:.1} s |");
    println!("| backup into S3, agent's start to completion (whole seconds), median | {:.1} s |", median(backups));
    println!("| from `kubectl apply` to seen Complete, median | {whole:.1} s ({:.2} of save) |", whole / save);
    println!("| agent's peak RSS | {} MiB |", peak_mib(agent)?);
    println!("| API writes per backup (members' heartbeats included), median | {:.0} |", median(writes));
    cluster.shutdown().await
}
