//! The main job on real components: a schedule makes verified backups that stock tools can restore.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Served, Setup, is_condition, is_terminal};
use lifeboat_e2e::command_line::CommandLine;
use lifeboat_e2e::kstatus::{Kstatus, kstatus};
use lifeboat_e2e::manifests::{backup, schedule};
use lifeboat_e2e::stock_tools::{run, s3cmd};
use lifeboat_e2e::wait::eventually;
use lifeboat_ports::free_port;
use lifeboat_testbed::EtcdLine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;

/// Fetches a backup's archive with stock tools and unpacks it: path of the snapshot file.
async fn fetch(cluster: &Cluster, backup: &Value) -> Result<std::path::PathBuf> {
    let dir = cluster.bed.dir().join("fetched");
    std::fs::create_dir_all(&dir)?;
    let url = backup["status"]["archive"].as_str().context("no archive")?;
    let manifest_path = dir.join("manifest.json");
    s3cmd(cluster, &["get", url, &manifest_path.to_string_lossy()]).await?;
    let manifest: Value = serde_json::from_slice(&std::fs::read(&manifest_path)?)?;
    let data = manifest["payload"]["data"].as_str().context("manifest names no data")?;
    let stored = dir.join("snapshot.db.zst");
    s3cmd(cluster, &["get", &url.replace("manifest.json", data), &stored.to_string_lossy()]).await?;
    ensure!(
        manifest["payload"]["archive"]["sha256"] == hex::encode(Sha256::digest(std::fs::read(&stored)?)),
        "the manifest's SHA-256 of the archive is wrong"
    );
    let snapshot = dir.join("snapshot.db");
    run("zstd", &["-d", "-f", "-q", &stored.to_string_lossy(), "-o", &snapshot.to_string_lossy()]).await?;
    Ok(snapshot)
}

/// Every key and value below /registry/configmaps/default/ that an etcd serves.
async fn config_maps(etcdctl: &Path, endpoint: &str) -> Result<Value> {
    let text =
        run(etcdctl, &["--endpoints", endpoint, "get", "--prefix", "/registry/configmaps/default/", "-w", "json"])
            .await?;
    let found: Value = serde_json::from_str(&text)?;
    Ok(found["kvs"]
        .as_array()
        .context("no keys")?
        .iter()
        .map(|kv| json!([kv["key"], kv["value"], kv["mod_revision"]]))
        .collect())
}

/// Restores a snapshot with the line's own etcdutl, starts an etcd on it, and gives the config maps it serves.
async fn served_after_restore(cluster: &Cluster, snapshot: &Path, line: EtcdLine) -> Result<Value> {
    let tool = |name: &str| cluster.bed.binaries().of_line(line, name);
    let data = cluster.bed.dir().join("restored");
    let _ = std::fs::remove_dir_all(&data);
    run(tool("etcdutl"), &["snapshot", "restore", &snapshot.to_string_lossy(), "--data-dir", &data.to_string_lossy()])
        .await?;
    let (client, peer) = (free_port(), free_port());
    let endpoint = format!("http://127.0.0.1:{client}");
    let mut etcd = Command::new(tool("etcd"))
        .args([
            "--data-dir",
            &data.to_string_lossy(),
            "--listen-client-urls",
            &endpoint,
            "--advertise-client-urls",
            &endpoint,
        ])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}"), "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let etcdctl = tool("etcdctl");
    let served = eventually("the restored etcd", Duration::from_secs(30), || async {
        config_maps(&etcdctl, &endpoint).await.map(Some)
    })
    .await;
    etcd.kill().await?;
    served
}

async fn scheduled_backup_restores_with_stock_tools(line: EtcdLine, name: &str) -> Result<()> {
    let cluster = Cluster::start(Setup { etcd_line: line, ..Setup::named(name) }).await?;
    for index in 0..20 {
        let value = format!("--from-literal=value={}", "x".repeat(index * 500));
        cluster.bed.kubectl(&["-n", "default", "create", "configmap", &format!("before-{index}"), &value]).await?;
    }
    cluster.create_location("offsite").await?;
    cluster.apply(&schedule("every-minute", "*/1 * * * *", "offsite")).await?;
    let good = eventually("two scheduled backups", Duration::from_secs(180), || async {
        let mut backups = cluster.list("etcdb").await?;
        backups.retain(|b| is_condition(b, "Complete", "True"));
        anyhow::Ok((backups.len() >= 2).then_some(backups))
    })
    .await
    .with_context(|| cluster.log_tails())?;

    // What people read.
    let printed = cluster.kubectl(&["get", "etcdbs,etcdb,etcdbl,etcdm"]).await?;
    println!("{printed}");
    ensure!(!printed.contains("<invalid>") && !printed.contains("<unknown>"), "{printed}");
    for header in [
        "SCHEDULE",
        "LAST SUCCESS",
        "NEXT",
        "REVISION",
        "VERIFIED",
        "DURATION",
        "PROVIDER",
        "LAST CHECKED",
        "DB SIZE",
        "LEADER",
    ] {
        ensure!(printed.contains(header), "column {header} is missing:\n{printed}");
    }
    ensure!(printed.contains("Content") && printed.contains("S3") && printed.contains("Complete"), "{printed}");
    for wide in ["etcdbs", "etcdb", "etcdbl", "etcdm"] {
        println!("{}", cluster.kubectl(&["get", wide, "-o", "wide"]).await?);
    }
    let first = good[0]["metadata"]["name"].as_str().unwrap();
    cluster.kubectl(&["wait", "--for=condition=Complete", &format!("etcdb/{first}"), "--timeout=5s"]).await?;
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("etcdb/{first}"), "--timeout=5s"]).await?;
    ensure!(good.iter().all(|b| kstatus(b) == Kstatus::Current), "kstatus: {good:#?}");
    // Every digit of what a run costs the API server is counted by it.
    let selected =
        cluster.kubectl(&["get", "etcdb", "--field-selector", "status.phase=Complete", "-o", "name"]).await?;
    ensure!(selected.contains(first), "selectable field status.phase: {selected}");

    // What stock tools make of the archive.
    let newest = good.iter().max_by_key(|b| b["metadata"]["name"].as_str().unwrap().to_owned()).unwrap();
    let snapshot = fetch(&cluster, newest).await?;
    let status_text = run(
        cluster.bed.binaries().of_line(line, "etcdutl"),
        &["snapshot", "status", &snapshot.to_string_lossy(), "-w", "json"],
    )
    .await?;
    let status: Value = serde_json::from_str(&status_text)?;
    let shown = &newest["status"];
    ensure!(status["revision"] == shown["revision"], "revision: etcdutl {status}, status {shown:#}");
    // The etcdutl of 3.5 counts every entry; later ones count user keys that are alive.
    let counting = cluster.bed.binaries().of_line(EtcdLine::V3_5, "etcdutl");
    let counted: Value = serde_json::from_str(
        &run(counting, &["snapshot", "status", &snapshot.to_string_lossy(), "-w", "json"]).await?,
    )?;
    ensure!(counted["totalKey"] == shown["keys"], "keys: etcdutl {status}, status {shown:#}");
    ensure!(shown["sizeBytes"] == std::fs::metadata(&snapshot)?.len(), "size: {shown:#}");
    ensure!(shown["sha256"] == hex::encode(Sha256::digest(std::fs::read(&snapshot)?)), "sha256: {shown:#}");
    let live = cluster
        .bed
        .etcdctl(&cluster.bed.nodes()[0], &["get", "--prefix", "/registry/configmaps/default/", "-w", "json"])
        .await?;
    let live: Value = serde_json::from_str(&live)?;
    let live: Value =
        live["kvs"].as_array().unwrap().iter().map(|kv| json!([kv["key"], kv["value"], kv["mod_revision"]])).collect();
    let served = served_after_restore(&cluster, &snapshot, line).await?;
    ensure!(served == live, "the restored etcd serves other keys");
    ensure!(served.as_array().unwrap().len() >= 20);
    the_command_line_finds_the_same(&cluster, newest, &snapshot).await?;
    cluster.shutdown().await
}

/// `lifeboat backup …` on a file that describes the location, with no API server asked.
async fn the_command_line_finds_the_same(cluster: &Cluster, newest: &Value, snapshot: &Path) -> Result<()> {
    let lifeboat = CommandLine::set_up(cluster, &cluster.s3_objects("offsite", "offsite"))?;
    let id = newest["status"]["backupId"].as_str().unwrap();
    let (code, listed) = lifeboat.backup(&["list"]).await?;
    println!("{listed}");
    ensure!(code == Some(0) && listed.contains(id) && listed.starts_with("BACKUP"), "{code:?} {listed}");
    let (_, described) = lifeboat.backup(&["describe", id, "-o", "json"]).await?;
    let described: Value = serde_json::from_str(&described)?;
    ensure!(described["snapshot"]["revision"] == newest["status"]["revision"], "{described:#}");
    let (code, verified) = lifeboat.backup(&["verify", id]).await?;
    ensure!(code == Some(0) && verified.contains("whole and sound"), "{code:?} {verified}");
    let file = lifeboat.path("etcd-{time}.db");
    let (code, said) = lifeboat.backup(&["fetch", id, "--file", &file]).await?;
    let fetched = lifeboat.dir.join(format!("etcd-{}.db", &id[..15]));
    ensure!(code == Some(0) && std::fs::read(&fetched)? == std::fs::read(snapshot)?, "{code:?} {said}");
    let (code, said) = lifeboat.backup(&["fetch", id, "--file", &file]).await?;
    ensure!(code == Some(4) && said.contains("not overwritten"), "{code:?} {said}");
    let (code, said) = lifeboat.backup(&["verify", "20200101-000000-00000000"]).await?;
    ensure!(code == Some(4) && said.contains("holds no archive"), "{code:?} {said}");

    // Damage in the bucket is found, and no file is left behind.
    let archive = newest["status"]["archive"].as_str().unwrap();
    let path = archive
        .trim_start_matches(&format!("s3://{BUCKET}/"))
        .replace("manifest.json", described["data"].as_str().unwrap());
    let stored = cluster.bed.s3().bucket_dir(BUCKET).join(path);
    let mut bytes = std::fs::read(&stored)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stored, &bytes)?;
    let damaged = lifeboat.path("damaged.db");
    let (code, said) = lifeboat.backup(&["fetch", id, "--file", &damaged]).await?;
    ensure!(code == Some(1) && said.contains("corrupt"), "{code:?} {said}");
    ensure!(
        std::fs::read_dir(&lifeboat.dir)?.all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("damaged"))
    );
    Ok(())
}

#[tokio::test]
async fn a_schedule_on_etcd_3_6_makes_backups_that_stock_tools_restore() -> Result<()> {
    scheduled_backup_restores_with_stock_tools(EtcdLine::V3_6, "sched36").await
}

async fn backup_by_hand(line: EtcdLine, name: &str) -> Result<()> {
    let cluster = Cluster::start(Setup { etcd_line: line, ..Setup::named(name) }).await?;
    cluster.bed.kubectl(&["-n", "default", "create", "configmap", "before"]).await?;
    cluster.create_location("offsite").await?;
    cluster.apply(&backup("by-hand", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "by-hand", Duration::from_secs(60), is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    let snapshot = fetch(&cluster, &done).await?;
    let served = served_after_restore(&cluster, &snapshot, line).await?;
    ensure!(served.to_string().len() > 100, "{served}");
    probes_and_metrics(&cluster, done["status"]["assignment"]["nodeName"].as_str().unwrap()).await?;
    cluster.shutdown().await
}

/// What monitoring reads of both programs.
async fn probes_and_metrics(cluster: &Cluster, node: &str) -> Result<()> {
    for of in [Served::Operator, Served::Agent(node)] {
        for path in ["/healthz", "/readyz"] {
            let said = cluster.http(of, path).await?;
            ensure!(said == "ok\n", "{path}: {said}");
        }
    }
    let operator = cluster.http(Served::Operator, "/metrics").await?;
    for line in [
        "lifeboat_operator_leader 1",
        r#"lifeboat_location_available{location="offsite"} 1"#,
        &format!(r#"lifeboat_member_ready{{node="{node}"}} 1"#),
    ] {
        ensure!(operator.contains(line), "no {line} in\n{operator}");
    }
    let agent = cluster.http(Served::Agent(node), "/metrics").await?;
    for line in [r#"lifeboat_agent_backup_attempts_total{outcome="Succeeded"} 1"#, "lifeboat_agent_member_usable 1"] {
        ensure!(agent.contains(line), "no {line} in\n{agent}");
    }
    Ok(())
}

#[tokio::test]
async fn a_backup_by_hand_of_etcd_3_5_restores_with_its_own_tools() -> Result<()> {
    backup_by_hand(EtcdLine::V3_5, "hand35").await
}

#[tokio::test]
async fn a_backup_by_hand_of_etcd_3_7_restores_with_its_own_tools() -> Result<()> {
    backup_by_hand(EtcdLine::V3_7, "hand37").await
}

#[tokio::test]
async fn run_now_starts_a_run_even_where_the_schedule_is_suspended() -> Result<()> {
    let cluster = Cluster::start(Setup::named("runnow")).await?;
    cluster.create_location("offsite").await?;
    let mut nightly = schedule("nightly", "@yearly", "offsite");
    nightly["spec"]["suspend"] = json!(true);
    nightly["spec"]["copies"] = json!(2);
    cluster.apply(&nightly).await?;
    cluster.wait_for("etcdbs", "nightly", Duration::from_secs(20), |s| is_condition(s, "Suspended", "True")).await?;
    for value in ["one", "two"] {
        cluster
            .kubectl(&["annotate", "--overwrite", "etcdbs", "nightly", &format!("etcd.lifeboat.dev/run-now={value}")])
            .await?;
        let wanted = if value == "one" { 2 } else { 4 };
        eventually(&format!("{wanted} complete backups"), Duration::from_secs(60), || async {
            let backups = cluster.list("etcdb").await?;
            anyhow::Ok((backups.iter().filter(|b| is_condition(b, "Complete", "True")).count() == wanted).then_some(()))
        })
        .await
        .with_context(|| cluster.log_tails())?;
    }
    let nodes: std::collections::BTreeSet<String> =
        cluster.list("etcdb").await?.iter().map(|b| b["status"]["assignment"]["nodeName"].to_string()).collect();
    ensure!(nodes.len() >= 2, "copies of one slot went to one member: {nodes:?}");
    let listed = s3cmd(&cluster, &["ls", "--recursive", &format!("s3://{BUCKET}/offsite/")]).await?;
    ensure!(listed.matches("manifest.json").count() == 4 && listed.matches(".db.zst").count() == 4, "{listed}");
    cluster.shutdown().await
}
