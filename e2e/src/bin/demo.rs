//! The demo: a cluster of the process tier with Lifeboat at work, until it is told to end. Run by hack/demo.sh.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use lifeboat_e2e::cluster::{Cluster, Setup, is_condition};
use lifeboat_e2e::manifests::schedule;
use tokio::signal::unix::{SignalKind, signal};

/// Brings up a control plane with Lifeboat and a schedule of one backup a minute.
#[derive(Parser)]
struct Arguments {
    /// Directory for everything of the demo; `kubeconfig` and, once all is up, `ready` appear in it.
    #[arg(long)]
    dir: PathBuf,
    /// Directory with `locations.yaml` and `schedule.yaml` as applied, for people to read.
    #[arg(long)]
    manifests: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Arguments { dir, manifests } = Arguments::parse();
    std::fs::create_dir_all(&manifests)?;
    let setup = Setup { dir: Some(dir.join("testbed")), namespace: "lifeboat".into(), ..Setup::named("demo") };
    println!("starting three masters, an API server and an S3 server");
    let mut cluster = Cluster::start(setup).await?;
    println!("operator and agents are at work");
    let kubeconfig = dir.join("kubeconfig");
    std::fs::copy(cluster.bed.kubeconfig(), &kubeconfig)?;
    cluster
        .bed
        .kubectl(&[
            "config",
            "set-context",
            "--current",
            "--namespace=lifeboat",
            "--kubeconfig",
            &kubeconfig.to_string_lossy(),
        ])
        .await?;
    let location = cluster.s3_objects("offsite", "demo").all();
    std::fs::write(manifests.join("location.yaml"), serde_norway::to_string(&location)?)?;
    let every_minute = schedule("every-minute", "*/1 * * * *", "offsite");
    std::fs::write(manifests.join("schedule.yaml"), serde_norway::to_string(&every_minute)?)?;
    cluster.apply(&location).await?;
    cluster.wait_for("etcdbl", "offsite", Duration::from_secs(60), |l| is_condition(l, "Ready", "True")).await?;
    cluster.apply(&every_minute).await?;
    println!("applied a location and a schedule");
    std::fs::write(dir.join("ready"), &cluster.bed.s3().endpoint)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = look.tick() => cluster.restart_ended().await?,
        }
    }
    cluster.shutdown().await
}
