//! `kill -9` at every step of a restore and of a re-initialisation, then started again as a kubelet does, or typed again as a person
//! does: the old data or the new, never a mixture, never an empty cluster. Runs a build that can be told where to kill itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, Masters, line_or};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Node};

/// What etcd says once in each of its lives.
const SERVES: &str = "published local member to cluster through raft";
const FILE: &str = "/var/lib/lifeboat/etcd.db";
const ORDER: &str = "/var/lib/lifeboat/etcd.db.order";

/// Every step of a restore, in order; there is no WAL of its own here.
const RESTORE: [&str; 10] = [
    "FileIsProven",
    "FileIsUnpacked",
    "StagingIsProven",
    "BeforeSwapIsWritten",
    "SwapIsWritten",
    "MemberIsSwapped",
    "OldIsKept",
    "SwapIsDone",
    "ResultIsWritten",
    "FileIsGone",
];
/// Every step of a re-initialisation, in order.
const REJOIN: [&str; 9] = [
    "RejoinIsLocked",
    "RejoinIsWritten",
    "RejoinStopped",
    "RejoinRemoved",
    "RejoinAdded",
    "RejoinMovedAside",
    "RejoinStarted",
    "RejoinPromoted",
    "RejoinDone",
];

async fn stage_on_all(masters: &Masters) -> Result<()> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.restore(first, &["--file", FILE]).await?.done()?;
    for node in others {
        std::fs::copy(first.path(FILE), node.path(FILE))?;
        std::fs::copy(first.path(ORDER), node.path(ORDER))?;
        masters.restore(node, &["--file", FILE, "--order", ORDER]).await?.done()?;
    }
    Ok(())
}

async fn a_restore_killed_at_every_step_is_done_once(masters: &Masters, before: u64) -> Result<u64> {
    let [first, second, third] = masters.nodes() else { unreachable!("three masters") };
    masters.stop_all().await?;
    stage_on_all(masters).await?;
    // The first is killed at each step in one restore; the others once each, where it hurts most.
    let plans = [(first, &RESTORE[..]), (second, &["SwapIsWritten"]), (third, &["MemberIsSwapped"])];
    let from: Vec<u64> = masters.nodes().iter().map(|node| masters.log_end(node)).collect();
    for (node, points) in plans {
        masters.crash_at(node, points)?;
        node.start_pod("etcd").await?;
    }
    masters.bed.etcd_healthy(Duration::from_secs(120)).await?;
    for ((node, points), from) in plans.into_iter().zip(from) {
        ensure!(masters.crashes_left(node).is_empty(), "{} never met {:?}", node.name, masters.crashes_left(node));
        let log = masters.log_from(node, from)?;
        ensure!(log.matches("--- testbed starts").count() == points.len() + 1, "{}", node.pod_log("etcd").display());
        ensure!(log.matches(SERVES).count() == 1, "etcd ran in between: {}", node.pod_log("etcd").display());
        ensure!(masters.read_json(node, "restore-result")?["state"] == "Restored");
        let names = masters.files(node)?;
        ensure!(!names.iter().any(|name| name.starts_with("restore.db")), "{names:?}");
    }
    let cluster = masters.see_equal().await?;
    ensure!(cluster != before);
    masters.start_api().await?;
    ensure!(masters.created().await? == ["before"]);
    Ok(cluster)
}

/// Killed before anything was exchanged, and taken back then: the old data, whole.
async fn a_restore_killed_early_can_be_taken_back(masters: &Masters, before: u64) -> Result<()> {
    masters.stop_all().await?;
    stage_on_all(masters).await?;
    let first = &masters.nodes()[0];
    masters.crash_at(first, &["BeforeSwapIsWritten"])?;
    first.start_pod("etcd").await?;
    eventually("the kill", Duration::from_secs(60), async || {
        anyhow::Ok(masters.crashes_left(first).is_empty().then_some(()))
    })
    .await?;
    // The manifest goes before the kubelet starts the container again; where it was quicker, it is restored by now.
    first.stop_pod("etcd").await?;
    let status = masters.restore(first, &["--status", "-o", "json"]).await?.done()?.json()?;
    if status["state"] == "Staged" {
        for node in masters.nodes() {
            masters.restore(node, &["--abort"]).await?.done()?;
        }
    }
    masters.start_etcd().await?;
    let cluster = masters.see_equal().await?;
    ensure!((cluster == before) == (status["state"] == "Staged"), "{status:#}");
    std::fs::remove_file(first.path(ORDER))?;
    masters.start_api().await
}

/// Killed while a person restores by `--perform`: the next `--perform` goes on, and nothing of it can be taken back once the exchange
/// is written down.
async fn a_perform_killed_at_every_step_is_ended_by_the_next(masters: &Masters, before: u64) -> Result<u64> {
    let [first, second, third] = masters.nodes() else { unreachable!("three masters") };
    masters.stop_all().await?;
    std::fs::remove_file(first.path(ORDER))?;
    masters.crash_at(first, &RESTORE)?;
    masters.restore_until_crash(first, &["--file", FILE, "--perform"]).await?.ended(-1, &["order "])?;
    for point in RESTORE {
        let left = masters.crashes_left(first);
        ensure!(!left.iter().any(|one| one == point), "{point} was not met: {left:?}");
        if ["SwapIsWritten", "MemberIsSwapped", "OldIsKept"].contains(&point) {
            masters.restore(first, &["--abort"]).await?.refused(&["cannot be taken back any more"]).context(point)?;
        }
        let status = masters.restore(first, &["--status", "-o", "json"]).await?.done()?.json()?;
        let said = masters.restore_until_crash(first, &["--perform"]).await?;
        // With the file gone it is over.
        let (state, code, words) = match point {
            "FileIsProven" | "FileIsUnpacked" | "StagingIsProven" | "BeforeSwapIsWritten" => ("Staged", -1, ""),
            "FileIsGone" => ("Nothing", 4, "the last restore was done"),
            _ => ("Swapping", -1, ""),
        };
        ensure!(status["state"] == state, "after {point}: {status:#}");
        said.ended(code, &[words]).context(point)?;
    }
    // On the others the same command once more goes on.
    masters.crash_at(second, &["SwapIsWritten"])?;
    for node in [second, third] {
        std::fs::copy(first.path(ORDER), node.path(ORDER))?;
        let args = ["--file", FILE, "--order", ORDER, "--perform"];
        if node.name == second.name {
            masters.restore_until_crash(node, &args).await?.ended(-1, &[])?;
        }
        masters.restore(node, &args).await?.done()?;
    }
    for node in masters.nodes() {
        ensure!(masters.read_json(node, "restore-result")?["state"] == "Restored");
        let names = masters.files(node)?;
        ensure!(!names.iter().any(|name| name == "restore.db"), "{names:?}");
        masters.restore(node, &["--perform"]).await?.refused(&["the last restore was done"])?;
    }
    masters.start_etcd().await?;
    let cluster = masters.see_equal().await?;
    ensure!(cluster != before);
    masters.start_api().await?;
    ensure!(masters.created().await? == ["before"]);
    Ok(cluster)
}

async fn a_member_killed_at_every_step_of_its_way_comes_back(
    masters: &Masters,
    node: &Node,
    cluster: u64,
) -> Result<()> {
    let old = masters.told(node).await?.member;
    masters.crash_at(node, &REJOIN)?;
    let said = masters.run(node, &["etcd", "reinitialize", "--wait", "-o", "json"]).await?.done()?;
    ensure!(said.json()?["outcome"] == "Done", "{said:?}");
    ensure!(masters.crashes_left(node).is_empty(), "never met {:?}", masters.crashes_left(node));
    ensure!(masters.see_equal().await? == cluster, "another cluster was born");
    ensure!(masters.members().await?[&node.name] != old);
    masters.bed.api_ready(Duration::from_secs(60)).await?;
    ensure!(masters.created().await? == ["before"]);
    Ok(())
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_the_old_data_or_the_new() -> Result<()> {
    let line = line_or(EtcdLine::V3_5)?;
    let masters = Masters::supervised("killed", line, Build::WithCrashPoints).await?;
    let first = &masters.nodes()[0];
    masters.create("before").await?;
    masters.run(first, &["etcd", "backup", "--file", FILE]).await?.done()?;
    let cluster = masters.see_equal().await?;
    a_restore_killed_early_can_be_taken_back(&masters, cluster).await.context("taken back")?;
    masters.create("after").await?;
    let cluster = masters.see_equal().await?;
    let restored = a_restore_killed_at_every_step_is_done_once(&masters, cluster).await.context("restore")?;
    masters.create("after").await?;
    let restored =
        a_perform_killed_at_every_step_is_ended_by_the_next(&masters, restored).await.context("perform by hand")?;
    // The first master is the one whose manifest would make an empty directory a cluster of its own.
    a_member_killed_at_every_step_of_its_way_comes_back(&masters, first, restored).await.context("rejoin")?;
    masters.bed.shutdown().await
}
