//! The whole manual procedure on three masters with TLS, real etcd under the supervisor and a real API server: back up,
//! refuse, take back, restore, hold where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use lifeboat_e2e::masters::{Build, Masters, Told, VOLUME, line_or};
use lifeboat_e2e::schema;
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Node, Signal};
use serde_json::json;

/// What lies where the masters can read it.
const DIRECTORY: &str = "/var/lib/lifeboat";
/// Revisions by which a restore goes beyond the highest seen.
const BUMP: i64 = 1_000_000_000;

/// A reflector as every controller has one, which lives through the restore.
struct Follower {
    /// How often it listed everything.
    lists: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Follower {
    async fn start(masters: &Masters) -> Result<Self> {
        let kubeconfig = kube::config::Kubeconfig::read_from(masters.bed.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let api: Api<ConfigMap> = Api::namespaced(Client::try_from(config)?, "default");
        let lists = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&lists);
        let task = tokio::spawn(async move {
            let mut events = Box::pin(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::InitDone) => *counted.lock().unwrap() += 1,
                    Ok(_) => {}
                    // The API is away.
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        });
        let follower = Self { lists, task };
        follower.wait_list(1).await?;
        Ok(follower)
    }

    fn lists(&self) -> usize {
        *self.lists.lock().unwrap()
    }

    async fn wait_list(&self, at_least: usize) -> Result<()> {
        eventually("a controller to list everything again", Duration::from_secs(60), async || {
            anyhow::Ok((self.lists() >= at_least).then_some(()))
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Brings a file from one master to all others, as a person would with scp.
fn copy_to_others(masters: &Masters, from: &Node, path: &str) -> Result<()> {
    for node in masters.nodes().iter().filter(|node| node.name != from.name) {
        std::fs::copy(from.path(path), node.path(path))?;
    }
    Ok(())
}

/// A backup of one master, brought to all.
async fn back_up(masters: &Masters, node: &Node) -> Result<String> {
    let pattern = format!("{DIRECTORY}/etcd-{{time}}.db");
    let said = masters.run(node, &["etcd", "backup", "--file", &pattern, "-o", "json"]).await?.done()?;
    let report = said.json()?;
    let file = report["file"].as_str().context("no file")?.to_owned();
    ensure!(report["verified"] == "Content" && !file.contains('{'), "{report:#}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(node.path(&file))?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    masters.run(node, &["etcd", "backup", "--file", &file]).await?.refused(&["not overwritten"])?;
    masters.bed.etcdutl(Some(node), &["snapshot", "status", &file]).await?;
    copy_to_others(masters, node, &file)?;
    Ok(file)
}

/// Stages a file on every master; the first mints the order.
async fn stage_on_all(masters: &Masters, file: &str) -> Result<String> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    let minted = masters.restore(first, &["--file", file, "-o", "json"]).await?.done()?.json()?;
    ensure!(minted["state"] == "Staged", "{minted:#}");
    masters.read_json(first, "restore.db.order")?;
    let order = minted["orderFile"].as_str().context("no order")?.to_owned();
    ensure!(order == format!("{file}.order"), "{order}");
    copy_to_others(masters, first, &order)?;
    for node in others {
        let said = masters.restore(node, &["--file", file, "--order", &order]).await?.done()?;
        let code = minted["code"].as_str().unwrap();
        ensure!(said.out.contains(code) && said.out.contains("--abort"), "{}", said.out);
    }
    Ok(order)
}

/// A backup of one master in a location, found and fetched by another one; nobody else's prefix is written to.
async fn back_up_off_the_node(masters: &Masters, from: &Node, to: &Node) -> Result<String> {
    let s3 = masters.bed.s3();
    let location = format!("{DIRECTORY}/offsite.yaml");
    let text = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation", "metadata": {"name": "offsite"},
        "spec": {"s3": {"bucket": "backups", "prefix": "by-hand", "region": s3.region, "endpoint": s3.endpoint,
            "forcePathStyle": true, "credentialsFile": "keys", "caBundleFile": "store.crt"}}});
    for node in [from, to] {
        std::fs::write(node.path(&location), text.to_string())?;
        let keys = format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", s3.access_key, s3.secret_key);
        std::fs::write(node.path(DIRECTORY).join("keys"), keys)?;
        std::fs::write(node.path(DIRECTORY).join("store.crt"), &s3.ca_pem)?;
    }
    let args = ["etcd", "backup", "--location", &location, "-o", "json"];
    let report = masters.run(from, &args).await?.done()?.json()?;
    ensure!(report["verified"] == "Content" && report["storedSizeBytes"].as_u64() < report["sizeBytes"].as_u64());
    let id = report["backupId"].as_str().context("no id")?;
    ensure!(report["archive"].as_str().is_some_and(|url| url.starts_with("s3://backups/by-hand/")), "{report:#}");
    let left = from.path(DIRECTORY).join("spool-by-hand");
    let is_left = std::fs::read_dir(left).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!is_left, "the spool is not empty");
    let listed = masters.run(to, &["backup", "list", "--location", &location]).await?.done()?;
    ensure!(listed.out.contains(id), "{}", listed.out);
    masters.run(from, &["backup", "verify", id, "--location", &location]).await?.done()?;
    // Another master of the cluster is not among the owners until somebody says so.
    masters.run(to, &args).await?.refused(&["belong to the hosts"])?;
    masters.run(to, &[&args[..], &["--join-owners"]].concat()).await?.done()?;
    masters.run(from, &args).await?.done()?;
    let file = format!("{DIRECTORY}/fetched.db");
    masters.run(to, &["backup", "fetch", id, "--location", &location, "--file", &file]).await?.done()?;
    std::fs::write(
        from.path(&location),
        text.to_string().replace("\"spec\":{", "\"spec\":{\"accessMode\":\"ReadOnly\","),
    )?;
    masters.run(from, &args).await?.refused(&["ReadOnly"])?;
    copy_to_others(masters, to, &file)?;
    Ok(file)
}

async fn refusals_while_it_runs(masters: &Masters, file: &str) -> Result<()> {
    let node = &masters.nodes()[1];
    masters.run(node, &["etcd", "restore", "--file", file]).await?.refused(&["stop it first"])?;
    masters.run(node, &["etcd", "restore", "--abort"]).await?.refused(&["nothing is staged"])?;
    masters.run(node, &["etcd", "restore"]).await?.ended(2, &["--file"])?;
    let names = masters.files(node)?;
    ensure!(!names.iter().any(|name| name.contains("restore")), "a refusal left something: {names:?}");
    // With etcd stopped but the API server running, this node is not at rest either.
    let first = &masters.nodes()[0];
    first.stop_pod("etcd").await?;
    masters.restore(first, &["--file", file]).await?.refused(&["something answers"])?;
    first.start_pod("etcd").await?;
    masters.bed.etcd_healthy(Duration::from_secs(60)).await
}

async fn refusals_while_it_is_stopped(masters: &Masters, file: &str, other: &str) -> Result<()> {
    let [first, second, third] = masters.nodes() else { unreachable!("three masters") };
    // Only the first mints, so there is one order.
    masters.restore(second, &["--file", file]).await?.refused(&[&first.name, "--order"])?;
    let order = format!("{file}.order");
    masters.restore(first, &["--file", file]).await?.done()?;
    masters.restore(first, &["--file", file]).await?.refused(&["--abort"])?;
    copy_to_others(masters, first, &order)?;
    masters
        .restore(second, &["--file", other, "--order", &order])
        .await?
        .refused(&["every master needs the same file"])?;
    let damaged = format!("{DIRECTORY}/damaged.db");
    let mut bytes = std::fs::read(third.path(file))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(third.path(&damaged), bytes)?;
    masters.restore(third, &["--file", &damaged, "--order", &order]).await?.refused(&["not a sound snapshot"])?;
    for node in [second, third] {
        ensure!(!masters.files(node)?.iter().any(|name| name.contains("restore")), "{:?}", masters.files(node)?);
    }
    masters.restore(second, &["--file", file, "--order", &order]).await?.done()?;
    let status = masters.restore(second, &["--status", "-o", "json"]).await?.done()?.json()?;
    ensure!(status["state"] == "Staged" && status["members"].as_array().unwrap().len() == 3, "{status:#}");
    Ok(())
}

/// Taken back before the start: everything is kept, what was made after the snapshot too.
async fn abort_keeps_everything(masters: &Masters, before: Told) -> Result<()> {
    for node in &masters.nodes()[..2] {
        masters.restore(node, &["--abort"]).await?.done()?;
        masters.restore(node, &["--abort"]).await?.refused(&["nothing is staged"])?;
        ensure!(masters.read_json(node, "restore-result")?["state"] == "Aborted");
    }
    masters.start_etcd().await?;
    masters.start_api().await?;
    ensure!(masters.created().await? == ["after", "before"]);
    let now = masters.told(&masters.nodes()[0]).await?;
    ensure!((now.cluster, now.member) == (before.cluster, before.member) && now.revision >= before.revision);
    Ok(())
}

/// What is true once all were restored.
async fn see_restored(masters: &Masters, before: Told) -> Result<Told> {
    let cluster = masters.see_equal().await?;
    ensure!(cluster != before.cluster, "the cluster's identity is the old one");
    for node in masters.nodes() {
        let result = masters
            .wait_json(node, "restore-result", Duration::from_secs(30), |result| result["afterStart"].is_string())
            .await?;
        ensure!(result["state"] == "Restored" && result["clusterId"] == format!("{cluster:016x}"), "{result:#}");
        let old = node.path(VOLUME).join(result["oldData"].as_str().context("no old data")?);
        for file in ["order", "journal"] {
            let bytes = std::fs::read(old.with_file_name(file))?;
            schema::check("files", &format!("lifeboat/restore-ID/{file}"), &serde_json::from_slice(&bytes)?)?;
        }
        ensure!(old.join("member/snap/db").exists(), "{} is gone", old.display());
        let names = masters.files(node)?;
        ensure!(!names.iter().any(|name| name.starts_with("restore.db")), "{names:?}");
    }
    let now = masters.told(&masters.nodes()[0]).await?;
    ensure!(now.revision >= before.revision + BUMP, "{now:?} after {before:?}");
    Ok(now)
}

/// An old watch ends as compacted, in etcd and in Kubernetes, and a controller lists everything again.
async fn see_old_watches_end(masters: &Masters, before: Told, follower: &Follower, lists: usize) -> Result<()> {
    let node = &masters.nodes()[1];
    let revision = before.revision.to_string();
    let said = masters
        .run_program(
            node,
            "etcdctl",
            &[
                "--endpoints=https://127.0.0.1:2379",
                "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
                "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
                "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
                "watch",
                "--prefix",
                "--rev",
                &revision,
                "/registry/configmaps",
            ],
        )
        .await?;
    ensure!(format!("{}{}", said.out, said.err).contains("compacted"), "{said:?}");
    let path = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion={revision}");
    let answer = match masters.bed.kubectl(&["get", "--raw", &path]).await {
        Ok(answer) => answer,
        Err(error) => format!("{error:#}"),
    };
    ensure!(answer.contains("too old resource version") || answer.contains("410"), "{answer}");
    follower.wait_list(lists + 1).await
}

/// A restore that fails in the pod holds etcd through any number of restarts, until a human acts.
async fn a_failed_restore_holds(masters: &Masters, file: &str) -> Result<()> {
    let last = &masters.nodes()[2];
    let order = stage_on_all(masters, file).await?;
    // Bits rot between staging and start.
    let staged = last.path(VOLUME).join("restore.db");
    let mut bytes = std::fs::read(&staged)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&staged, bytes)?;
    let old = inode(last)?;
    let from = masters.log_end(last);
    for node in masters.nodes() {
        node.start_pod("etcd").await?;
    }
    masters.wait_json(last, "restore-result", Duration::from_secs(60), |result| result["state"] == "Failed").await?;
    for _ in 0..3 {
        let pid = last.pod_pid("etcd").context("the pod does not run")?;
        let from = masters.log_end(last);
        last.kill_pod("etcd", Signal::KILL)?;
        masters.wait_log(last, from, "etcd is not started: a restore failed", Duration::from_secs(30)).await?;
        ensure!(last.pod_pid("etcd") != Some(pid));
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", last.pod_pid("etcd").unwrap()))?;
        ensure!(children.trim().is_empty(), "the supervisor that holds has children: {children}");
    }
    ensure!(!masters.log_from(last, from)?.contains("ready to serve client requests"), "etcd was started");
    ensure!(inode(last)? == old, "the old data was touched");
    let status = masters.run(last, &["etcd", "restore", "--status", "-o", "json"]).await?.done()?.json()?;
    ensure!(status["state"] == "Held" && status["lastResult"]["state"] == "Failed", "{status:#}");
    // A human brings a good file; the pod that waits takes it without a restart.
    let file_there = masters.run(last, &["etcd", "restore", "--file", file, "--order", &order]).await?.done()?;
    ensure!(file_there.out.contains("order"), "{file_there:?}");
    masters.bed.etcd_healthy(Duration::from_secs(60)).await?;
    masters.see_equal().await.map(drop)
}

fn inode(node: &Node) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(node.path(VOLUME).join("member"))?.ino())
}

#[tokio::test]
async fn three_masters_go_back_to_a_file_together_or_not_at_all() -> Result<()> {
    let line = line_or(EtcdLine::V3_6)?;
    let masters = Masters::supervised("restore", line, Build::Release).await?;
    let first = &masters.nodes()[0];
    for node in masters.nodes() {
        let status = masters.run(node, &["etcd", "status", "-o", "json"]).await?.done()?.json()?;
        ensure!(status["incomplete"].as_array().is_some_and(Vec::is_empty), "{status:#}");
        masters.run(node, &["etcd", "validate"]).await?.done()?;
    }
    masters.create("before").await?;
    let file = back_up(&masters, &masters.nodes()[1]).await?;
    masters.create("after").await?;
    let other = back_up_off_the_node(&masters, first, &masters.nodes()[2]).await?;
    let before = masters.told(first).await?;

    refusals_while_it_runs(&masters, &file).await?;
    let follower = Follower::start(&masters).await?;
    masters.stop_all().await?;
    refusals_while_it_is_stopped(&masters, &file, &other).await?;
    abort_keeps_everything(&masters, before).await?;

    masters.stop_all().await?;
    let lists = follower.lists();
    // The order from before is still there: it would be minted twice.
    masters.restore(first, &["--file", &file]).await?.refused(&["exists already", "--order"])?;
    for node in masters.nodes() {
        std::fs::remove_file(node.path(format!("{file}.order")))?;
    }
    stage_on_all(&masters, &file).await?;
    let from = masters.log_end(first);
    masters.start_etcd().await?;
    let log = masters.log_from(first, from)?;
    let (said, served) = (log.find("the data was restored"), log.find("ready to serve client requests"));
    ensure!(said.is_some() && said < served, "the restore is not at the top of the log:\n{log}");
    masters.start_api().await?;
    ensure!(masters.created().await? == ["before"]);
    let after = see_restored(&masters, before).await?;
    see_old_watches_end(&masters, before, &follower, lists).await?;
    masters.create("later").await?;
    drop(follower);

    masters.stop_all().await?;
    a_failed_restore_holds(&masters, &other).await?;
    let last = masters.told(first).await?;
    ensure!(last.cluster != after.cluster && last.revision >= after.revision + BUMP, "{last:?} after {after:?}");
    masters.start_api().await?;
    ensure!(masters.created().await? == ["after", "before"]);
    masters.bed.shutdown().await
}
