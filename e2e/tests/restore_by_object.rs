//! The whole control plane is put back by an EtcdRestore, which survives its own rewind: operator, agents, an API server on each
//! of three masters, real etcd with TLS, a real S3 server. A GitOps loop applies the object all the while.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition};
use lifeboat_e2e::manifests::backup;
use lifeboat_e2e::masters::{equip, line_or};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Options};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
/// Within which a restore of a small cluster ends, whatever becomes of it.
const ENDS: Duration = Duration::from_secs(240);
/// Revisions by which a restore goes beyond the highest seen.
const BUMP: i64 = 1_000_000_000;

fn restore(name: &str, from: &Value) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore", "metadata": {"name": name},
        "spec": {"cluster": {"from": from}}})
}

fn reason<'o>(object: &'o Value, type_: &str) -> &'o str {
    condition(object, type_).and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

async fn revision(cluster: &Cluster) -> Result<i64> {
    let node = &cluster.bed.nodes()[0];
    let endpoint = format!("--endpoints=https://{}:2379", node.ip);
    let text = cluster.bed.etcdctl(node, &["endpoint", "status", "-w", "json", &endpoint]).await?;
    let value: Value = serde_json::from_str(&text)?;
    value.pointer("/0/Status/header/revision").and_then(Value::as_i64).context("no revision")
}

async fn config_maps(cluster: &Cluster) -> Result<Vec<String>> {
    let args = ["-n", "default", "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"];
    let names = cluster.bed.kubectl(&args).await?;
    Ok(names.split_whitespace().filter(|name| *name != "kube-root-ca.crt").map(str::to_owned).collect())
}

async fn create_config_map(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.bed.kubectl(&["-n", "default", "create", "configmap", name, "--from-literal=a=b"]).await.map(drop)
}

async fn planned(cluster: &Cluster, name: &str) -> Result<(Value, String)> {
    let planned = cluster.wait_for("etcdr", name, MINUTE, |r| is_condition(r, "PlanReady", "True")).await?;
    let code = planned.pointer("/status/plan/approvalCode").and_then(Value::as_str).context("no code")?.to_owned();
    Ok((planned, code))
}

async fn approve(cluster: &Cluster, name: &str, code: &str) -> Result<()> {
    let patch = json!({"spec": {"approval": code}}).to_string();
    cluster.kubectl(&["patch", "etcdr", name, "--type=merge", "-p", &patch]).await.map(drop)
}

/// Restored, while a GitOps loop applies the approved object all the time.
async fn restored_under_gitops(cluster: &mut Cluster) -> Result<()> {
    create_config_map(cluster, "before").await?;
    cluster.apply(&backup("good", "bucket")).await?;
    cluster.wait_for("etcdb", "good", 2 * MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    create_config_map(cluster, "after").await?;
    let highest = revision(cluster).await?;

    let wanted = restore("back", &json!({"backupRef": {"name": "good"}}));
    cluster.apply(&wanted).await?;
    let (plan, code) = planned(cluster, "back").await?;
    let members = plan.pointer("/status/plan/members").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(members == 3 && plan["status"]["plan"]["blockers"].is_null(), "{plan:#}");
    ensure!(plan.pointer("/status/plan/dataLoss/revisions").and_then(Value::as_i64) > Some(0), "{plan:#}");
    ensure!(reason(&plan, "Ready") == "AwaitingApproval", "{plan:#}");
    approve(cluster, "back", "0000-0000").await?;
    cluster.wait_for("etcdr", "back", MINUTE, |r| reason(r, "Approved") == "ApprovalMismatch").await?;

    // From now on a GitOps tool wants it, approved, whatever there is.
    let mut approved = wanted.clone();
    approved["spec"]["approval"] = code.clone().into();
    let begun = Instant::now();
    let restored = loop {
        cluster.restart_ended().await?;
        let _ = cluster.apply(&approved).await;
        let found = cluster.get("etcdr", "back").await.ok().flatten().unwrap_or_default();
        if is_condition(&found, "Complete", "True") {
            break found;
        }
        ensure!(!is_condition(&found, "Failed", "True"), "{found:#}\n{}", cluster.log_tails());
        ensure!(begun.elapsed() < ENDS, "{found:#}\n{}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("restored in {:.1} s; outage {} s", begun.elapsed().as_secs_f32(), restored["status"]["outageSeconds"]);
    ensure!(reason(&restored, "Ready") == "Restored" && is_condition(&restored, "Ready", "True"), "{restored:#}");
    ensure!(config_maps(cluster).await? == ["before"], "{:?}", config_maps(cluster).await?);
    ensure!(revision(cluster).await? >= highest + BUMP);
    let all = cluster
        .wait_for("etcdr", "back", MINUTE, |r| {
            r["status"]["nodesReady"] == "3/3" && r["status"]["outageSeconds"].is_i64()
        })
        .await?;
    ensure!(all["status"]["restoredRevision"].as_i64() > Some(BUMP), "{all:#}");
    // Applied again and again, it is done once.
    for _ in 0..5 {
        cluster.apply(&approved).await?;
        let now = cluster.get("etcdr", "back").await?.context("gone")?;
        ensure!(reason(&now, "Ready") == "Restored", "{now:#}");
    }
    ensure!(slots(cluster) == 1, "{} restores were ordered", slots(cluster));
    Ok(())
}

/// Restores that were ever ordered.
fn slots(cluster: &Cluster) -> usize {
    let active = walk(&cluster.bed.s3().bucket_dir(BUCKET));
    active.iter().filter(|path| path.contains("/restores/active/")).count()
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(walk(&path)) } else { all.push(path.display().to_string()) }
    }
    all
}

/// After a restore that nobody keeps in Git: the object is not in the older etcd, and is made again with its outcome; who
/// deletes it then is not contradicted.
async fn made_again(cluster: &mut Cluster) -> Result<()> {
    // What was put back holds the record as it was while the backup ran. Its agent finds the archive and reports it once more, or
    // the operator, which was told of the restore before that, ends it and the archive gets a record from the bucket.
    cluster.wait_for("etcdb", "good", MINUTE, |b| ["Succeeded", "Interrupted"].contains(&reason(b, "Ready"))).await?;
    eventually("the archive to be listed again", 2 * MINUTE, async || {
        let listed = cluster.list("etcdb").await?;
        anyhow::Ok(listed.iter().any(|backup| is_condition(backup, "Ready", "True")).then_some(()))
    })
    .await?;
    create_config_map(cluster, "later").await?;
    cluster.apply(&restore("again", &json!({"latest": {"locationRef": {"name": "bucket"}}}))).await?;
    let (_, code) = planned(cluster, "again").await?;
    approve(cluster, "again", &code).await?;
    let restored =
        cluster.wait_for_while_restarting("etcdr", "again", ENDS, |r| is_condition(r, "Complete", "True")).await?;
    let annotations = &restored["metadata"]["annotations"];
    ensure!(annotations["etcd.lifeboat.dev/recreated"] == restored["status"]["restoreId"], "{restored:#}");
    ensure!(restored["spec"]["approval"].as_str().unwrap_or_default().is_empty(), "{restored:#}");
    eventually("the members to be told of", MINUTE, async || {
        let told = cluster.list("etcdm").await?;
        let is_told = |member: &Value| {
            member["metadata"]["annotations"]["etcd.lifeboat.dev/told-restore"] == restored["status"]["restoreId"]
        };
        anyhow::Ok(told.iter().all(is_told).then_some(()))
    })
    .await?;
    cluster.kubectl(&["delete", "etcdr", "again"]).await?;
    Ok(())
}

/// Begun on a host, as on a day without API: the agents of the other masters join by themselves, and afterwards an object tells.
async fn joined_unasked(cluster: &mut Cluster) -> Result<()> {
    create_config_map(cluster, "unasked").await?;
    let node = &cluster.bed.nodes()[0];
    let kept = node.path("/var/lib/lifeboat/locations/bucket/location.yaml");
    eventually("the location to be kept on the master", 2 * MINUTE, async || anyhow::Ok(kept.exists().then_some(())))
        .await?;
    let program = "/opt/lifeboat/bin/lifeboat";
    let location = "/var/lib/lifeboat/locations/bucket/location.yaml";
    let run = async |more: &[&str]| -> Result<String> {
        let args = [&["restore", "start", "--latest", "--location", location], more].concat();
        let output = node.command(program).args(args).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let plan: Value = serde_json::from_str(&run(&["-o", "json"]).await?)?;
    let code = plan["approvalCode"].as_str().context("no code")?;
    let said = run(&["--approve", code, "--detach"]).await?;
    let id = said.split_whitespace().nth(1).context("no id")?.to_owned();
    let name = format!("api-less-{id}");
    let told = cluster.wait_for_while_restarting("etcdr", &name, ENDS, |r| is_condition(r, "Complete", "True")).await?;
    ensure!(reason(&told, "Ready") == "Restored" && told["status"]["restoreId"] == id.as_str(), "{told:#}");
    ensure!(!config_maps(cluster).await?.contains(&"unasked".to_owned()));
    Ok(())
}

/// Called off while a master is missing: everything stays as it is.
async fn called_off(cluster: &mut Cluster) -> Result<()> {
    create_config_map(cluster, "kept").await?;
    let names = config_maps(cluster).await?;
    cluster.apply(&restore("off", &json!({"latest": {"locationRef": {"name": "bucket"}}}))).await?;
    let (_, code) = planned(cluster, "off").await?;
    let absent = cluster.node_names().pop().context("no nodes")?;
    let mut stopped = cluster.agents.remove(&absent).context("no agent")?;
    stopped.kill9().await?;
    approve(cluster, "off", &code).await?;
    let is_staged = |r: &Value| {
        let nodes = r["status"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(|node| node["step"] == "2/10 Safety").count() == 2
    };
    cluster.wait_for("etcdr", "off", 2 * MINUTE, is_staged).await?;
    let patch = json!({"spec": {"cancel": true}}).to_string();
    cluster.kubectl(&["patch", "etcdr", "off", "--type=merge", "-p", &patch]).await?;
    let ended = cluster.wait_for("etcdr", "off", 2 * MINUTE, |r| is_condition(r, "Failed", "True")).await?;
    ensure!(reason(&ended, "Ready") == "RolledBack" && is_condition(&ended, "RolledBack", "True"), "{ended:#}");
    ensure!(config_maps(cluster).await? == names, "{:?}", config_maps(cluster).await?);
    cluster.start_agent_with(&absent, &["--restore"]).await
}

#[tokio::test]
async fn a_control_plane_is_put_back_by_an_object_that_survives_it() -> Result<()> {
    let line = line_or(EtcdLine::V3_6)?;
    let bed = Options { api_servers: 3, ..Options::default() };
    let mut cluster = Cluster::start(Setup { etcd_line: line, bed, ..Setup::named("by-object") }).await?;
    equip(&cluster.bed, &cluster.binary("lifeboat"))?;
    for node in cluster.node_names() {
        cluster.start_agent_with(&node, &["--restore"]).await?;
    }
    cluster.create_location("bucket").await?;
    restored_under_gitops(&mut cluster).await.context("under GitOps")?;
    made_again(&mut cluster).await.context("made again")?;
    called_off(&mut cluster).await.context("called off")?;
    // Meanwhile agents have written, and the operator has looked at each of them again.
    ensure!(cluster.get("etcdr", "again").await?.is_none(), "made again though it was deleted");
    joined_unasked(&mut cluster).await.context("joined unasked")?;
    cluster.shutdown().await
}
