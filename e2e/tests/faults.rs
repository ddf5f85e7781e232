//! Things that break while a backup runs, on real components: every run ends in one terminal state, and nothing
//! half-made is listed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::bucket::look_into;
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition, is_terminal};
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::kstatus::{Kstatus, kstatus};
use lifeboat_e2e::manifests::backup;
use lifeboat_e2e::wait::eventually;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// A backup slowed down so that there is time to break something while it runs.
fn slow(name: &str, bytes_per_second: &str) -> Value {
    let mut object = backup(name, "offsite");
    object["spec"]["limits"] = json!({"bytesPerSecond": bytes_per_second});
    object
}

async fn wait_running(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.wait_for("etcdb", name, MINUTE, |b| b.pointer("/status/execution/stage").is_some()).await
}

#[tokio::test]
async fn with_one_member_stopped_the_next_run_succeeds_on_another() -> Result<()> {
    let cluster = Cluster::start(Setup::named("onedown")).await?;
    cluster.create_location("offsite").await?;
    let down = cluster.node_names()[1].clone();
    cluster.node(&down)?.stop_pod("etcd").await?;
    for index in 0..3 {
        let name = format!("b{index}");
        cluster.apply(&backup(&name, "offsite")).await?;
        let done = cluster.wait_for("etcdb", &name, 3 * MINUTE, is_terminal).await?;
        ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
        ensure!(done["status"]["assignment"]["nodeName"] != down.as_str(), "{done:#}");
    }
    let member = cluster.wait_for("etcdm", &down, MINUTE, |m| is_condition(m, "Ready", "False")).await?;
    let words = condition(&member, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    ensure!(words.contains("etcd"), "words for people: {words}");
    cluster.shutdown().await
}

#[tokio::test]
async fn with_the_agents_cut_off_from_etcd_a_run_fails_with_words_within_its_deadline() -> Result<()> {
    let cluster = Cluster::start(Setup::named("cutoff")).await?;
    cluster.create_location("offsite").await?;
    for node in cluster.node_names() {
        cluster.node(&node)?.block_agent_etcd().await?;
    }
    let mut object = backup("b", "offsite");
    object["spec"]["limits"] = json!({"timeoutSeconds": 60});
    cluster.apply(&object).await?;
    let done = cluster.wait_for("etcdb", "b", 2 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Failed", "True") && kstatus(&done) == Kstatus::Failed, "{done:#}");
    let words = condition(&done, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    ensure!(words.contains("etcd"), "words for people: {words}");
    for node in cluster.node_names() {
        cluster.node(&node)?.unblock_agent_etcd().await?;
    }
    cluster.wait_members_ready().await?;
    cluster.apply(&backup("after", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "after", 2 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    cluster.shutdown().await
}

#[tokio::test]
async fn with_etcd_gone_altogether_a_run_is_terminal_after_its_return_and_the_next_succeeds() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("etcdgone")).await?;
    cluster.create_location("offsite").await?;
    fill(&cluster, 8).await?;
    let mut object = slow("during", "1Mi");
    object["spec"]["limits"]["timeoutSeconds"] = json!(120);
    cluster.apply(&object).await?;
    wait_running(&cluster, "during").await?;
    for node in cluster.node_names() {
        cluster.node(&node)?.stop_pod("etcd").await?;
    }
    eventually("the API to be gone", MINUTE, || async {
        anyhow::Ok(cluster.list("etcdb").await.is_err().then_some(()))
    })
    .await?;
    for node in cluster.node_names() {
        cluster.node(&node)?.start_pod("etcd").await?;
    }
    let done = cluster.wait_for_while_restarting("etcdb", "during", 4 * MINUTE, is_terminal).await?;
    println!("during: {:#}", done["status"]["conditions"]);
    cluster.apply(&backup("after", "offsite")).await?;
    let done = cluster.wait_for_while_restarting("etcdb", "after", 4 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    cluster.shutdown().await
}

#[tokio::test]
async fn with_the_store_killed_during_an_upload_and_back_the_run_completes() -> Result<()> {
    let cluster = Cluster::start(Setup::named("storekill")).await?;
    cluster.create_location("offsite").await?;
    fill(&cluster, 16).await?;
    cluster.apply(&slow("b", "2Mi")).await?;
    wait_running(&cluster, "b").await?;
    cluster.bed.s3().kill().await?;
    tokio::time::sleep(Duration::from_secs(20)).await; // the outage itself, not a wait for something
    let during = cluster.get("etcdb", "b").await?.context("the backup is gone")?;
    ensure!(!is_condition(&during, "Complete", "True"), "complete without a store: {during:#}");
    cluster.bed.s3().start().await?;
    let done = cluster.wait_for("etcdb", "b", 4 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(
        look_into(&cluster, BUCKET, "offsite")?.is_one_backup(),
        "half-made things: {:?}",
        look_into(&cluster, BUCKET, "offsite")?
    );
    cluster.shutdown().await
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_a_run_ends_in_one_terminal_state() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("agentkill")).await?;
    cluster.create_location("offsite").await?;
    fill(&cluster, 8).await?;
    cluster.apply(&slow("b", "1Mi")).await?;
    let running = wait_running(&cluster, "b").await?;
    let node = running["status"]["assignment"]["nodeName"].as_str().unwrap().to_owned();
    cluster.agents.get_mut(&node).unwrap().kill9().await?;
    cluster.start_agent(&node).await?;
    let done = cluster.wait_for("etcdb", "b", 4 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True") != is_condition(&done, "Failed", "True"), "{done:#}");
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(
        look_into(&cluster, BUCKET, "offsite")?.is_one_backup(),
        "leftovers: {:?}",
        look_into(&cluster, BUCKET, "offsite")?
    );
    cluster.shutdown().await
}

#[tokio::test]
async fn an_agent_that_never_comes_back_is_replaced_by_another() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("agentgone")).await?;
    cluster.create_location("offsite").await?;
    fill(&cluster, 8).await?;
    cluster.apply(&slow("b", "1Mi")).await?;
    let running = wait_running(&cluster, "b").await?;
    let node = running["status"]["assignment"]["nodeName"].as_str().unwrap().to_owned();
    cluster.agents.get_mut(&node).unwrap().kill9().await?;
    let done = cluster.wait_for("etcdb", "b", 5 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(done["status"]["assignment"]["nodeName"] != node.as_str(), "{done:#}");
    ensure!(done["status"]["attempts"][0]["error"]["reason"] == "AgentUnavailable", "{done:#}");
    cluster.shutdown().await
}

#[tokio::test]
async fn operators_killed_and_doubled_run_every_slot_once() -> Result<()> {
    let mut cluster = Cluster::start(Setup { operators: 2, ..Setup::named("twoops") }).await?;
    cluster.create_location("offsite").await?;
    fill(&cluster, 8).await?;
    cluster.apply(&slow("b", "1Mi")).await?;
    wait_running(&cluster, "b").await?;
    // Whichever leads is among the two: kill both, one after the other, each back at once.
    for index in 0..2 {
        cluster.operators[index].kill9().await?;
        cluster.start_operator(index).await?;
    }
    let done = cluster.wait_for("etcdb", "b", 3 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(done["status"]["assignment"]["attempt"] == 1, "a new operator started it again: {done:#}");
    ensure!(look_into(&cluster, BUCKET, "offsite")?.is_one_backup(), "{:?}", look_into(&cluster, BUCKET, "offsite")?);
    cluster.shutdown().await
}

#[tokio::test]
async fn a_second_agent_of_a_node_waits_for_the_first() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("twoagents")).await?;
    cluster.create_location("offsite").await?;
    let node = cluster.node_names()[0].clone();
    let mut second = cluster.spawn_agent(&node, "second-agent", 8082, &[]).await?;
    let mut pinned = backup("b", "offsite");
    pinned["spec"]["source"] = json!({"nodeName": node});
    cluster.apply(&pinned).await?;
    let done = cluster.wait_for("etcdb", "b", 2 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(look_into(&cluster, BUCKET, "offsite")?.is_one_backup(), "{:?}", look_into(&cluster, BUCKET, "offsite")?);
    // The first one ends: the second takes over.
    cluster.agents.get_mut(&node).unwrap().kill9().await?;
    pinned["metadata"]["name"] = json!("after");
    cluster.apply(&pinned).await?;
    let done = cluster.wait_for("etcdb", "after", 3 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    second.terminate(Duration::from_secs(10)).await?;
    cluster.shutdown().await
}
