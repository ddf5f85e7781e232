//! One member of three leaves the cluster and comes back without data: while it runs, where its data is gone, in a crash
//! loop; refused where the others cannot do without it, and for all but one of two that want it at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, Masters, VOLUME, line_or};
use lifeboat_testbed::{EtcdLine, Node};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const REINITIALIZE: [&str; 5] = ["etcd", "reinitialize", "--wait", "-o", "json"];

/// What is true of a member that came back.
async fn see_back(masters: &Masters, node: &Node, cluster: u64, old: u64, result: &Value) -> Result<()> {
    ensure!(result["outcome"] == "Done" && result["command"] == "reinitialize", "{result:#}");
    ensure!(masters.see_equal().await? == cluster, "it came back as another cluster");
    let member = masters.members().await?[&node.name];
    ensure!(member != old, "the member has its old identity");
    ensure!(result["message"].as_str().unwrap().contains(&format!("{member:016x}")), "{result:#}");
    let names = masters.files(node)?;
    ensure!(!names.contains(&"command".to_owned()), "{names:?}");
    let left = node.path(VOLUME).join("lifeboat/reinitialize");
    let left: Vec<_> = std::fs::read_dir(left)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

async fn unknown_commands_are_refused(masters: &Masters, node: &Node) -> Result<()> {
    let pid = node.pod_pid("etcd");
    for (content, word) in [("defragment\n", "defragment"), ("reinitialize; reboot", "reinitialize; reboot")] {
        let seen = Instant::now();
        std::fs::write(node.path(VOLUME).join("command"), content)?;
        let result =
            masters.wait_json(node, "command-result", Duration::from_secs(6), |result| result["command"] == word);
        let result = result.await?;
        ensure!(seen.elapsed() < Duration::from_secs(5), "seen after {:?}", seen.elapsed());
        ensure!(result["outcome"] == "Refused", "{result:#}");
        ensure!(!node.path(VOLUME).join("command").exists());
    }
    ensure!(node.pod_pid("etcd") == pid, "etcd's pod was restarted");
    Ok(())
}

async fn a_member_that_leads_comes_back(masters: &Masters, cluster: u64) -> Result<()> {
    let leader = masters.told(&masters.nodes()[0]).await?.leader;
    let mut leads = &masters.nodes()[0];
    for node in masters.nodes() {
        if masters.told(node).await?.member == leader {
            leads = node;
        }
    }
    let result = masters.run(leads, &REINITIALIZE).await?.done()?.json()?;
    see_back(masters, leads, cluster, leader, &result).await
}

/// The trap: the manifest of the first master lists that master alone, so emptied it would boot as a cluster of its own.
async fn an_emptied_first_master_starts_nothing_until_it_is_told(masters: &Masters, cluster: u64) -> Result<()> {
    let first = &masters.nodes()[0];
    let old = masters.told(first).await?.member;
    let manifest = std::fs::read_to_string(first.path("/etc/kubernetes/manifests/etcd.yaml"))?;
    ensure!(manifest.contains(&format!("--initial-cluster={}=https://{}:2380\n", first.name, first.ip)), "{manifest}");
    ensure!(!manifest.contains("--initial-cluster-state=existing"), "{manifest}");
    first.stop_pod("etcd").await?;
    for entry in std::fs::read_dir(first.path(VOLUME))?.flatten() {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    let from = masters.log_end(first);
    first.start_pod("etcd").await?;
    masters.wait_log(first, from, "etcd is not started: its data directory is empty", SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(!first.path(VOLUME).join("member").exists(), "an empty cluster was born");
    ensure!(masters.bed.etcdctl(first, &["endpoint", "status", "--command-timeout=1s"]).await.is_err());
    let result = masters.run(first, &REINITIALIZE).await?.done()?.json()?;
    see_back(masters, first, cluster, old, &result).await?;
    masters.bed.api_ready(SOON).await
}

async fn a_member_in_a_crash_loop_comes_back(masters: &Masters, node: &Node, cluster: u64) -> Result<()> {
    let old = masters.told(node).await?.member;
    node.stop_pod("etcd").await?;
    let database = node.path(VOLUME).join("member/snap/db");
    let mut bytes = std::fs::read(&database)?;
    bytes[..16384].fill(0xff);
    std::fs::write(&database, bytes)?;
    let from = masters.log_end(node);
    node.start_pod("etcd").await?;
    // Two starts of the container at least.
    let starts = || Ok::<_, anyhow::Error>(masters.log_from(node, from)?.matches("--- testbed starts").count());
    lifeboat_e2e::wait::eventually("a crash loop", SOON, async || {
        Ok::<_, anyhow::Error>((starts()? > 2).then_some(()))
    })
    .await
    .with_context(|| node.pod_log_tail("etcd"))?;
    let result = masters.run(node, &REINITIALIZE).await?.done()?.json()?;
    see_back(masters, node, cluster, old, &result).await
}

async fn of_two_at_once_one_runs(masters: &Masters, one: &Node, other: &Node, cluster: u64) -> Result<()> {
    let before = masters.members().await?;
    let (first, second) = tokio::join!(masters.run(one, &REINITIALIZE), masters.run(other, &REINITIALIZE));
    let ended = [(one, first?), (other, second?)];
    let codes: Vec<i32> = ended.iter().map(|(_, said)| said.code).collect();
    ensure!(codes == [0, 4] || codes == [4, 0], "{ended:?}");
    for (node, said) in ended {
        let result = said.json()?;
        if said.code == 0 {
            see_back(masters, node, cluster, before[&node.name], &result).await?;
        } else {
            let words = result["message"].as_str().unwrap();
            // By the lock, by the learner among the members, or because the other one is away already.
            let reasons = ["re-initialised now", "one change of the members", "and there is 1"];
            ensure!(reasons.iter().any(|reason| words.contains(reason)), "{words}");
            ensure!(masters.members().await?[&node.name] == before[&node.name]);
        }
    }
    Ok(())
}

async fn while_another_one_holds_the_lock_it_is_refused(masters: &Masters, node: &Node) -> Result<()> {
    const LOCK: &str = "lifeboat/reinitialize";
    masters.bed.etcdctl(node, &["put", LOCK, "another-master 0123456789abcdef"]).await?;
    masters.run(node, &REINITIALIZE).await?.refused(&["another-master is being re-initialised now"])?;
    masters.bed.etcdctl(node, &["del", LOCK]).await.map(drop)
}

async fn without_a_quorum_of_the_others_it_is_refused(masters: &Masters, cluster: u64) -> Result<()> {
    let [first, second, third] = masters.nodes() else { unreachable!("three masters") };
    let before = masters.members().await?;
    let pid = second.pod_pid("etcd");
    third.stop_pod("etcd").await?;
    let words = ["3 voting members need 2 healthy ones besides this one", "there is 1", &third.name];
    masters.run(second, &REINITIALIZE).await?.refused(&words)?;
    first.stop_pod("etcd").await?;
    masters.run(second, &REINITIALIZE).await?.refused(&["3 voting members need 2", "there are 0"])?;
    ensure!(second.pod_pid("etcd") == pid, "etcd's pod was restarted");
    for node in [first, third] {
        node.start_pod("etcd").await?;
    }
    masters.bed.etcd_healthy(SOON).await?;
    ensure!(masters.see_equal().await? == cluster && masters.members().await? == before);
    Ok(())
}

#[tokio::test]
async fn a_member_leaves_and_comes_back_where_the_others_can_do_without_it() -> Result<()> {
    let line = line_or(EtcdLine::V3_7)?;
    let masters = Masters::supervised("reinitialize", line, Build::Release).await?;
    let [_, second, third] = masters.nodes() else { unreachable!("three masters") };
    masters.create("kept").await?;
    let cluster = masters.see_equal().await?;
    unknown_commands_are_refused(&masters, third).await?;
    while_another_one_holds_the_lock_it_is_refused(&masters, second).await?;
    without_a_quorum_of_the_others_it_is_refused(&masters, cluster).await?;
    a_member_that_leads_comes_back(&masters, cluster).await?;
    a_member_in_a_crash_loop_comes_back(&masters, second, cluster).await?;
    an_emptied_first_master_starts_nothing_until_it_is_told(&masters, cluster).await?;
    of_two_at_once_one_runs(&masters, second, third, cluster).await?;
    ensure!(masters.created().await? == ["kept"]);
    masters.bed.shutdown().await
}
