//! Members of etcd that are ill while they are read: a front before each breaks the snapshot off as a real member would. The next
//! member gives the backup. And an API server that is away while a run goes on. Rows of docs/faults.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::bucket::look_into;
use lifeboat_e2e::cluster::{Cluster, Setup, is_condition, is_terminal};
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::runs::{backup_on, see_complete, see_no_spool};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdFault, EtcdFront};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
/// Far into a snapshot, far beyond any short call.
const AFTER: u64 = 4 << 20;

/// What a member does, the reason that is told, and a word of the message.
type Case = (EtcdFault, &'static str, &'static [&'static str]);

/// Each member does one thing wrong, once. Three backups at once meet all three, and each is Complete from another member.
async fn every_member_fails_once(
    cluster: &Cluster,
    fronts: &BTreeMap<String, EtcdFront>,
    cases: [Case; 3],
) -> Result<()> {
    for (front, (fault, ..)) in fronts.values().zip(cases) {
        front.set(fault);
    }
    let names: Vec<String> = (0..3).map(|index| format!("silent-{index}")).collect();
    for name in &names {
        cluster.apply(&backup_on(name, "good", None, &json!({}))).await?;
    }
    // Once is enough: what is tried again shall meet a healthy member.
    let healing = async {
        for front in fronts.values() {
            eventually("the fault to happen", 2 * MINUTE, async || anyhow::Ok((front.happened() > 0).then_some(())))
                .await?;
        }
        anyhow::Ok(())
    };
    healing.await.with_context(|| cluster.log_tails())?;
    for front in fronts.values() {
        front.set(EtcdFault::Healthy);
    }
    let mut seen = vec![];
    for name in &names {
        let done = cluster.wait_for("etcdb", name, 3 * MINUTE, is_terminal).await?;
        let node = first_failed_on(&done)?;
        let position = fronts.keys().position(|known| *known == node).unwrap();
        see_next_member(cluster, &done, cases[position]).await?;
        seen.push(node);
    }
    seen.sort();
    seen.dedup();
    ensure!(seen.len() == 3, "not every member was met: {seen:?}");
    Ok(())
}

/// Whichever member is read first does something wrong; the backup is Complete from another.
async fn first_member_fails(
    cluster: &Cluster,
    fronts: &BTreeMap<String, EtcdFront>,
    name: &str,
    case: Case,
) -> Result<()> {
    for front in fronts.values() {
        front.set(case.0);
    }
    cluster.apply(&backup_on(name, "good", None, &json!({}))).await?;
    // The next try begins seconds later.
    eventually("the fault to happen", MINUTE, async || {
        anyhow::Ok(fronts.values().any(|front| front.happened() > 0).then_some(()))
    })
    .await
    .with_context(|| cluster.log_tails())?;
    for front in fronts.values() {
        front.set(EtcdFault::Healthy);
    }
    let done = cluster.wait_for("etcdb", name, 3 * MINUTE, is_terminal).await?;
    see_next_member(cluster, &done, case).await
}

fn first_failed_on(done: &Value) -> Result<String> {
    let node = done.pointer("/status/attempts/0/nodeName").and_then(Value::as_str);
    Ok(node.with_context(|| format!("no attempt failed: {done:#}"))?.to_owned())
}

/// A backup that is Complete on its second attempt, from another member; why the first failed.
async fn see_next_member(cluster: &Cluster, done: &Value, (fault, reason, words): Case) -> Result<()> {
    ensure!(is_condition(done, "Complete", "True"), "{done:#}");
    let node = first_failed_on(done)?;
    let error = &done["status"]["attempts"][0]["error"];
    println!("{fault:?} on {node}: {error}");
    ensure!(done["status"]["attempts"].as_array().map(Vec::len) == Some(1), "{done:#}");
    ensure!(done["status"]["assignment"]["nodeName"] != node.as_str(), "the same member again: {done:#}");
    let message = error["message"].as_str().unwrap();
    ensure!(error["reason"] == reason && words.iter().all(|word| message.contains(word)), "{fault:?}: {error}");
    see_no_spool(cluster, done).await
}

/// The API server goes away in the middle of a run: the agent finishes it, and tells when the API is back.
async fn api_server_away(cluster: &mut Cluster) -> Result<()> {
    cluster.apply(&backup_on("untold", "good", None, &json!({"bytesPerSecond": "8Mi"}))).await?;
    cluster.wait_for("etcdb", "untold", MINUTE, |b| b.pointer("/status/execution/stage").is_some()).await?;
    let before = look_into(cluster, "good", "good")?.manifests.len();
    let first = cluster.node_names()[0].clone();
    cluster.node(&first)?.stop_pod("kube-apiserver").await?;
    eventually("the archive, with nobody to tell", 2 * MINUTE, async || {
        anyhow::Ok((look_into(cluster, "good", "good")?.manifests.len() > before).then_some(()))
    })
    .await
    .with_context(|| cluster.log_tails())?;
    ensure!(cluster.list("etcdb").await.is_err(), "the API server was there all the time");
    cluster.node(&first)?.start_pod("kube-apiserver").await?;
    let done = cluster.wait_for_while_restarting("etcdb", "untold", 4 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(done["status"]["assignment"]["attempt"] == 1, "it was run again: {done:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_fails_while_it_is_read_is_replaced_by_the_next() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("sicketcd")).await?;
    fill(&cluster, 48).await?;
    let mut fronts = BTreeMap::new();
    for node in cluster.node_names() {
        let front = cluster.bed.etcd_front(cluster.node(&node)?).await?;
        cluster.start_agent_with(&node, &["--etcd-endpoint", &front.endpoint]).await?;
        fronts.insert(node, front);
    }
    cluster.wait_members_ready().await?;
    let _store = cluster.create_sick_location("good").await?;
    see_complete(&cluster, &backup_on("healthy", "good", None, &json!({})), "good").await?;
    ensure!(fronts.values().any(|front| front.longest_call() > AFTER), "nothing went through a front");
    let silent = [
        (EtcdFault::NoData { after_bytes: AFTER }, "SnapshotFailed", &["sent no byte of its snapshot for 20 s"][..]),
        (EtcdFault::EmptyBlobs { after_bytes: AFTER }, "SnapshotFailed", &["sent no byte of its snapshot for 20 s"]),
        (EtcdFault::Silent { after_bytes: AFTER }, "SnapshotFailed", &["etcd at"]),
    ];
    every_member_fails_once(&cluster, &fronts, silent).await?;
    let broken: [(&str, Case); 3] = [
        ("reset", (EtcdFault::Reset { after_bytes: AFTER }, "SnapshotFailed", &["broke off after"])),
        (
            "short",
            (EtcdFault::EndsEarly { after_bytes: AFTER }, "VerificationFailed", &["etcd ended its snapshot after"]),
        ),
        ("flipped", (EtcdFault::Flip { after_bytes: AFTER }, "VerificationFailed", &["not sound"])),
    ];
    for (name, case) in broken {
        first_member_fails(&cluster, &fronts, name, case).await?;
    }
    let contents = look_into(&cluster, "good", "good")?;
    ensure!(contents.manifests.len() == 7 && contents.named.len() == 7, "{contents:#?}");
    ensure!(contents.orphans.is_empty() && contents.uploads.is_empty(), "{contents:#?}");
    api_server_away(&mut cluster).await?;
    cluster.shutdown().await
}
