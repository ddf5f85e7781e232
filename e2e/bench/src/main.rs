//! Measures Lifeboat beside the stock tools on one machine: `make bench`. Not a test: nothing fails because it is slow.
//!
//! Ratios are made of runs of one program run, in turn, medians; never of figures of two days.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod arguments;
mod database;
mod figures;
mod ground;
mod kubernetes;
mod latency;
mod machine;
mod object;
mod rest;
mod rounds;
mod stream;
mod table;
mod verifier;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::arguments::{Bench, Cli, Command, Part};
use crate::database::Wanted;
use crate::figures::{Figures, Raw, Report};
use crate::ground::Ground;
use crate::machine::Machine;
use crate::rounds::{Rounds, compare, disturb};

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { bench, command } = Cli::parse();
    match command {
        Some(Command::ReadStream(from)) => {
            println!("{}", stream::read_stream(&from).await?);
            Ok(())
        }
        None => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            run(&bench).await
        }
    }
}

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

async fn run(bench: &Bench) -> Result<()> {
    let dir = bench.dir.clone().unwrap_or_else(|| workspace().join("target/bench"));
    let mut raw = Raw::default();
    let mut versions = Vec::new();
    let kept = Wanted { mib: bench.mib, seed: bench.seed }.find_or_fill(&dir).await?;
    if bench.does(Part::Verifier) {
        println!("verifier alone");
        let (kept, runs) = (kept.clone(), bench.runs);
        raw.verifier_gib_per_s = tokio::task::spawn_blocking(move || verifier::measure_verifier(&kept, runs)).await??;
        println!("  {:.2?} GiB/s", raw.verifier_gib_per_s);
    }
    if [Part::Backup, Part::Latency, Part::Idle].into_iter().any(|part| bench.does(part)) {
        let mut ground = Ground::start(&kept).await?;
        let measured = measure(bench, &mut ground, &mut raw).await;
        versions = ground.versions().await?;
        ground.cluster.shutdown().await?;
        measured?;
    }
    if bench.does(Part::Growth) {
        println!("a database of {} MiB", bench.grown_mib);
        let kept = Wanted { mib: bench.grown_mib, seed: bench.seed }.find_or_fill(&dir).await?;
        let ground = Ground::start(&kept).await?;
        let grown = compare(&ground, rounds(bench), false).await;
        ground.cluster.shutdown().await?;
        raw.grown = Some(grown?);
    }
    report(bench, &dir, raw, versions)
}

fn rounds(bench: &Bench) -> Rounds {
    Rounds { runs: bench.runs, patience: Duration::from_secs(bench.patience) }
}

async fn measure(bench: &Bench, ground: &mut Ground, raw: &mut Raw) -> Result<()> {
    if bench.does(Part::Idle) {
        println!("agent before its first backup");
        raw.agent_fresh = Some(rest::watch(ground.agent_pid()?).await?);
        println!("  {:?}", raw.agent_fresh);
    }
    if bench.does(Part::Backup) {
        println!("backups beside etcdctl snapshot save and a bare read");
        raw.compared = Some(compare(ground, rounds(bench), true).await?);
    }
    if bench.does(Part::Latency) {
        println!("writes to etcd meanwhile");
        raw.disturbed = Some(disturb(ground, rounds(bench)).await?);
    }
    if bench.does(Part::Idle) {
        println!("agent after its last backup");
        raw.agent_after_backups = Some(rest::watch(ground.agent_pid()?).await?);
        println!("  {:?}", raw.agent_after_backups);
        println!("operator with {} backups", bench.backups);
        raw.operator = Some(rest::watch_operator(ground, bench.backups).await?);
    }
    Ok(())
}

fn report(bench: &Bench, dir: &Path, raw: Raw, versions: Vec<String>) -> Result<()> {
    let looks = raw.looks();
    let report = Report {
        figures: Figures::of(&raw),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        machine: Machine::here()?,
        versions,
        seed: bench.seed,
        runs: bench.runs,
        busy_runs: looks.iter().filter(|look| !look.is_quiet).count(),
        all_runs: looks.len(),
        raw,
    };
    let file = dir.join("backup.json");
    std::fs::create_dir_all(dir)?;
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    let table = table::render(&report);
    println!("\n{table}\nwritten to {}", file.display());
    if bench.write_docs {
        table::write_into(&workspace().join("docs/performance.md"), &table).context("docs/performance.md")?;
    }
    Ok(())
}
