//! A restore of all masters at once by `lifeboat restore`, with nothing but the masters and a bucket: no operator, no
//! supervisor in etcd's pod, the API away in between. Real etcd with TLS, an API server on each master, a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, LIFEBOAT, Masters, line_or};
use lifeboat_e2e::restores::{DIRECTORY, ENDS, LOCATION, Ordered, Restores};
use lifeboat_testbed::{EtcdLine, Node, Options};
use serde_json::{Value, json};

/// Revisions by which a restore goes beyond the highest seen.
const BUMP: i64 = 1_000_000_000;

async fn refusals(restore: &Restores<'_>) -> Result<()> {
    let node = &restore.masters.nodes()[1];
    let masters = restore.masters;
    let run = async |args: &[&str]| masters.run_program(node, LIFEBOAT, args).await;
    restore.start(node, &["--approve", "0000-0000"]).await?.refused(&["not the code of this plan"])?;
    let untrusted = ["restore", "start", "--latest", "--location", LOCATION];
    run(&untrusted).await?.refused(&["--trust"])?;
    restore.join(node, "lifeboat-join-nonsense").await?.refused(&["no join code"])?;
    run(&["restore", "cancel"]).await?.refused(&["under way"])?;
    run(&["restore", "release"]).await?.refused(&["under way"])?;
    let status = run(&["restore", "status"]).await?.done()?;
    ensure!(status.out.contains("no restore"), "{}", status.out);
    ensure!(!node.path("/var/lib/etcd/lifeboat").join("restores").exists());
    Ok(())
}

/// All masters go back together; revisions go on above everything ever served.
async fn all_new(restore: &Restores<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.create("after").await?;
    let before = masters.see_equal().await?;
    let highest = masters.told(first).await?.revision;
    let Ordered { plan, id, code } = restore.order(first, &[]).await?;
    ensure!(plan["lostRevisions"].as_i64() > Some(0) && plan["blockers"] == json!([]), "{plan:#}");
    let begun = Instant::now();
    for node in others {
        restore.join(node, &code).await?.done()?;
    }
    let all: Vec<&Node> = masters.nodes().iter().collect();
    ensure!(restore.wait_ended(&all, &id, ENDS).await?.0 == "Committed");
    println!("restored in {:.1} s", begun.elapsed().as_secs_f32());
    let after = masters.see_equal().await?;
    ensure!(after != before, "the old cluster still runs");
    ensure!(masters.told(first).await?.revision >= highest + BUMP);
    masters.bed.api_ready(Duration::from_secs(60)).await?;
    ensure!(masters.created().await? == ["before"], "{:?}", masters.created().await?);
    // The state that was replaced was backed up first.
    let args = ["backup", "list", "--location", LOCATION, "-o", "json"];
    let listed = masters.run_program(first, LIFEBOAT, &args).await?.done()?.json()?;
    ensure!(listed.as_array().is_some_and(|all| all.len() == 2), "{listed:#}");
    // How the store was reached is forgotten, private keys above all.
    for node in masters.nodes() {
        ensure!(!node.path(DIRECTORY).join("restores").join(&id).exists());
    }
    // A restore runs once: who joins it again takes no part.
    restore.join(first, &code).await?.refused(&[])?;
    Ok(())
}

/// Executors are killed again and again, each started anew by the command that people would type: the end is the same.
async fn killed_again_and_again(restore: &Restores<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.create("doomed").await?;
    let before = masters.see_equal().await?;
    let Ordered { id, code, .. } = restore.order(first, &[]).await?;
    for node in others {
        restore.join(node, &code).await?.done()?;
    }
    let mut kills = 0;
    let begun = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let mut open = 0;
        for node in masters.nodes() {
            let standing = restore.standing(node, &id).await?;
            if !standing["outcome"].is_null() {
                continue;
            }
            open += 1;
            let phase = standing["phase"].as_str().unwrap_or_default().to_owned();
            // Once in each state of each master, so that it gets somewhere in between.
            if standing["isRunning"] == true && seen.insert((node.name.clone(), phase)) {
                let pattern = format!("restore run --restore {id}");
                masters.run_program(node, "pkill", &["-KILL", "-f", &pattern]).await?;
                kills += 1;
            } else if standing["isRunning"] == false {
                // As a unit would. Refused where it has just ended; the next look tells.
                restore.join(node, &code).await?;
            }
        }
        if open == 0 {
            break;
        }
        ensure!(begun.elapsed() < ENDS, "{}", restore.log(first, &id));
    }
    println!("{kills} kills: {seen:?}");
    ensure!(kills >= 6, "only {seen:?}");
    let all: Vec<&Node> = masters.nodes().iter().collect();
    ensure!(restore.wait_ended(&all, &id, ENDS).await?.0 == "Committed");
    ensure!(masters.see_equal().await? != before, "the old cluster still runs");
    masters.bed.api_ready(Duration::from_secs(60)).await?;
    ensure!(masters.created().await? == ["before"], "{:?}", masters.created().await?);
    Ok(())
}

/// Called off while a master is missing: the others put everything back, and nobody noticed.
async fn cancelled(restore: &Restores<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, second, _] = masters.nodes() else { unreachable!("three masters") };
    masters.create("kept").await?;
    let before = masters.see_equal().await?;
    let Ordered { id, code, .. } = restore.order(first, &[]).await?;
    restore.join(second, &code).await?.done()?;
    for node in [first, second] {
        let is_staged = |standing: &Value| standing["phase"].as_str().is_some_and(|phase| phase.starts_with("staged"));
        restore.wait_until(node, &id, "staged data", ENDS, is_staged).await?;
    }
    masters.run_program(second, LIFEBOAT, &["restore", "cancel"]).await?.done()?;
    ensure!(restore.wait_ended(&[first, second], &id, ENDS).await?.0 == "RolledBack");
    ensure!(masters.see_equal().await? == before, "another cluster");
    ensure!(masters.created().await? == ["before", "kept"]);
    Ok(())
}

#[tokio::test]
async fn three_masters_go_back_together_by_one_command_each() -> Result<()> {
    let line = line_or(EtcdLine::V3_6)?;
    let options = Options { etcd_line: line, api_servers: 3, ..Options::named("coordinated") };
    let masters = Masters::start_on(options, Build::Release).await?;
    masters.create("before").await?;
    let restore = Restores::back_up(&masters).await?;
    refusals(&restore).await.context("refusals")?;
    all_new(&restore).await.context("all new")?;
    cancelled(&restore).await.context("cancelled")?;
    killed_again_and_again(&restore).await.context("killed")?;
    Ok(())
}
