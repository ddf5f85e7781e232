//! Whose archives they are, and who vouches for them, on real components: masters that were rebuilt (or a cluster that
//! was restored from another's backup) write nothing until somebody says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition, is_terminal};
use lifeboat_e2e::command_line::CommandLine;
use lifeboat_e2e::manifests::{backup, schedule};
use lifeboat_e2e::wait::eventually;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const TAKE_OVER: &str = "etcd.lifeboat.dev/take-over";

async fn kube_system_uid(cluster: &Cluster) -> Result<String> {
    cluster.bed.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]).await
}

fn prefix(cluster: &Cluster, uid: &str) -> PathBuf {
    cluster.bed.s3().bucket_dir(BUCKET).join("offsite").join(uid)
}

fn owner(cluster: &Cluster, uid: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(prefix(cluster, uid).join("owner.json"))?)?)
}

/// Everything below a directory, with its content.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(found)
}

/// Ids that the hosts have on their disks, by node.
fn host_ids(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let id = |name: &String| -> Result<String> {
        Ok(std::fs::read_to_string(cluster.node(name)?.path("/var/lib/lifeboat/host-id"))?.trim().to_owned())
    };
    cluster.node_names().iter().map(|name| Ok((name.clone(), id(name)?))).collect()
}

/// Gives the hosts these identities, or new ones, and starts their agents anew. All at once: an owner that is still there
/// would add a master that is new.
async fn rebuild(cluster: &mut Cluster, ids: Option<&BTreeMap<String, String>>) -> Result<()> {
    for agent in cluster.agents.values_mut() {
        agent.terminate(Duration::from_secs(20)).await?;
    }
    for name in cluster.node_names() {
        let file = cluster.node(&name)?.path("/var/lib/lifeboat/host-id");
        match ids {
            Some(ids) => std::fs::write(&file, format!("{}\n", ids[&name]))?,
            None => std::fs::remove_file(&file)?,
        }
        cluster.start_agent(&name).await?;
    }
    let ids = eventually("new host ids", MINUTE, async || anyhow::Ok(host_ids(cluster).ok())).await?;
    for (name, id) in ids {
        cluster.wait_for("etcdm", &name, MINUTE, |m| m["status"]["hostId"] == id.as_str()).await?;
    }
    Ok(())
}

async fn complete(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.apply(&backup(name, "offsite")).await?;
    let done = cluster.wait_for("etcdb", name, 2 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    Ok(done)
}

async fn wait_refused(cluster: &Cluster) -> Result<Value> {
    cluster
        .wait_for("etcdbl", "offsite", 3 * MINUTE, |l| {
            is_condition(l, "Stalled", "True")
                && condition(l, "Writable").is_some_and(|w| w["reason"] == "OwnedByAnother")
        })
        .await
}

#[tokio::test]
async fn rebuilt_masters_write_nothing_until_they_took_the_prefix_over() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("owner")).await?;
    cluster.create_location("offsite").await?;
    complete(&cluster, "before").await?;
    let uid = kube_system_uid(&cluster).await?;
    let former = host_ids(&cluster)?;
    let listed = |document: &Value| -> Vec<String> {
        let hosts = document["payload"]["hosts"].as_array().unwrap();
        hosts.iter().map(|host| host.as_str().unwrap().to_owned()).collect()
    };
    let all_listed = |ids: &BTreeMap<String, String>, document: &Value| {
        let hosts = listed(document);
        hosts.len() == ids.len() && ids.values().all(|id| hosts.contains(id))
    };
    let made = eventually("every master in owner.json", 2 * MINUTE, async || {
        let document = owner(&cluster, &uid)?;
        anyhow::Ok(all_listed(&former, &document).then_some(document))
    })
    .await?;
    println!("owner.json: {made}");

    rebuild(&mut cluster, None).await?;
    let before = files(&prefix(&cluster, &uid))?;
    let refused = wait_refused(&cluster).await?;
    let words = condition(&refused, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    println!("refused: {words}");
    let annotation = format!("{TAKE_OVER}={uid}");
    ensure!(words.contains(&annotation) && words.contains("prefix of its own"), "{words}");
    // Nothing is written, nothing is deleted; what is asked for ends with the reason.
    cluster.apply(&schedule("held", "@yearly", "offsite")).await?;
    cluster.wait_for("etcdbs", "held", MINUTE, |s| is_condition(s, "Stalled", "True")).await?;
    cluster.apply(&backup("meanwhile", "offsite")).await?;
    let failed = cluster.wait_for("etcdb", "meanwhile", 3 * MINUTE, is_terminal).await?;
    ensure!(failed["status"]["failure"]["reason"] == "OwnedByAnother", "{failed:#}");
    cluster.kubectl(&["annotate", "etcdb", "before", &delete_annotation(&cluster, "before").await?]).await?;
    cluster
        .wait_for("etcdb", "before", 2 * MINUTE, |b| b.to_string().contains("belong to the hosts"))
        .await
        .context("the deletion is refused by the agent")?;
    ensure!(files(&prefix(&cluster, &uid))? == before, "something was written or deleted in another's prefix");

    // Not by any value: the UID is what somebody looked up.
    cluster.kubectl(&["annotate", "etcdbl", "offsite", &format!("{TAKE_OVER}=yes")]).await?;
    cluster
        .wait_for("etcdbl", "offsite", MINUTE, |l| {
            condition(l, "Ready").is_some_and(|r| r["message"].as_str().unwrap().contains("\"yes\""))
        })
        .await?;
    cluster.kubectl(&["annotate", "etcdb", "before", "etcd.lifeboat.dev/delete-archive-"]).await?;
    let begun = std::time::Instant::now();
    cluster.kubectl(&["annotate", "--overwrite", "etcdbl", "offsite", &annotation]).await?;
    let ready = |l: &Value| is_condition(l, "Writable", "True") && is_condition(l, "Ready", "True");
    let taken = cluster.wait_for("etcdbl", "offsite", MINUTE, ready).await?;
    println!("taken over {:?} after the annotation", begun.elapsed());
    let words = condition(&taken, "Writable").unwrap()["message"].as_str().unwrap();
    ensure!(words.contains("remove the annotation"), "{words}");
    let (rebuilt, document) = (host_ids(&cluster)?, owner(&cluster, &uid)?);
    println!("owner.json: {document}");
    ensure!(listed(&document).iter().all(|host| rebuilt.values().any(|id| id == host)), "{document}");
    ensure!(rebuilt.values().any(|id| document["payload"]["takenOver"]["by"] == id.as_str()), "{document}");
    cluster.kubectl(&["annotate", "etcdbl", "offsite", &format!("{TAKE_OVER}-")]).await?;
    cluster
        .wait_for("etcdbl", "offsite", MINUTE, |l| {
            ready(l) && !condition(l, "Writable").unwrap()["message"].as_str().unwrap().contains("annotation")
        })
        .await?;
    complete(&cluster, "after").await?;
    cluster.wait_for("etcdbs", "held", MINUTE, |s| is_condition(s, "Ready", "True")).await?;

    // The former owners come back, as they were.
    rebuild(&mut cluster, Some(&former)).await?;
    wait_refused(&cluster).await?;
    let document = owner(&cluster, &uid)?;
    ensure!(former.values().all(|id| !listed(&document).contains(id)), "{document}");
    cluster.shutdown().await
}

async fn delete_annotation(cluster: &Cluster, name: &str) -> Result<String> {
    let object = cluster.get("etcdb", name).await?.unwrap();
    Ok(format!("etcd.lifeboat.dev/delete-archive={}", object["status"]["backupId"].as_str().unwrap()))
}

/// The manifest of a backup, in the bucket.
fn manifest_file(cluster: &Cluster, done: &Value) -> PathBuf {
    let archive = done["status"]["archive"].as_str().unwrap();
    cluster.bed.s3().bucket_dir(BUCKET).join(archive.trim_start_matches(&format!("s3://{BUCKET}/")))
}

#[tokio::test]
async fn manifests_are_signed_and_an_altered_one_is_refused() -> Result<()> {
    let cluster = Cluster::start(Setup::named("signed")).await?;
    cluster.create_location("offsite").await?;
    let done = complete(&cluster, "signed").await?;
    let node = done["status"]["assignment"]["nodeName"].as_str().unwrap();
    let envelope: Value = serde_json::from_slice(&std::fs::read(manifest_file(&cluster, &done))?)?;
    let key = envelope["keyId"].as_str().context("the manifest names no key")?.to_owned();
    let secret = cluster.get("secret", "lifeboat-installation").await?.context("the operator made no Secret")?;
    ensure!(secret["immutable"] == json!(true) && secret["data"]["signing.pub"].is_string(), "the Secret's shape");
    // Every host gains the key, and nobody else on it may read it.
    for name in cluster.node_names() {
        let keys = cluster.node(&name)?.path("/var/lib/lifeboat/keys");
        eventually("the key on every host", MINUTE, async || {
            anyhow::Ok(keys.join(format!("installation-{key}.key")).exists().then_some(()))
        })
        .await?;
        let mode =
            |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
        ensure!(mode(&keys) & 0o777 == 0o700);
        ensure!(std::fs::read_dir(&keys)?.all(|entry| mode(&entry.unwrap().path()) & 0o777 == 0o600));
    }
    // Gone with an older etcd: the cached key signs.
    cluster.kubectl(&["delete", "secret", "lifeboat-installation"]).await?;
    let again = complete(&cluster, "without-secret").await?;
    let later: Value = serde_json::from_slice(&std::fs::read(manifest_file(&cluster, &again))?)?;
    ensure!(later["keyId"] == key.as_str(), "{later:#}");

    let keys = cluster.node(node)?.path("/var/lib/lifeboat/keys");
    let id = done["status"]["backupId"].as_str().unwrap();
    let lifeboat = CommandLine::set_up(&cluster, &cluster.s3_objects("offsite", "offsite"))?;
    let known = keys.to_string_lossy().into_owned();
    let (code, said) = lifeboat.run(&["backup", "verify", id, "--host-keys", &known]).await?;
    ensure!(code == Some(0) && said.contains(&format!("signed by {key}, a key known")), "{code:?} {said}");
    let (code, said) = lifeboat.run(&["backup", "verify", id, "--host-keys", "/nowhere"]).await?;
    ensure!(code == Some(0) && said.contains("not known on this host"), "{code:?} {said}");
    let public = keys.join(format!("installation-{key}.pub"));
    let trust = ["backup", "describe", id, "-o", "json", "--host-keys", "/nowhere", "--trust-keys"];
    let (code, said) = lifeboat.run(&[&trust[..], &[&public.to_string_lossy()]].concat()).await?;
    let described: Value = serde_json::from_str(&said)?;
    ensure!(code == Some(0) && described["signature"] == json!({"state": "Valid", "keyId": key}), "{described:#}");

    let state = cluster.bed.dir().join("keygen").to_string_lossy().into_owned();
    let (code, said) = lifeboat.run(&["keygen", "--state-dir", &state]).await?;
    ensure!(code == Some(0) && said.contains("/keys/host-"), "{code:?} {said}");
    let (code, said) = lifeboat.run(&["keygen", "--state-dir", &state]).await?;
    ensure!(code == Some(4) && said.contains("not replaced"), "{code:?} {said}");

    let file = manifest_file(&cluster, &done);
    let altered = std::fs::read_to_string(&file)?.replace("\"level\":\"Content\"", "\"level\":\"Members\"");
    // A new file: beside the old one the store keeps its checksum, and would refuse to give it out.
    std::fs::remove_file(&file)?;
    std::fs::write(&file, altered)?;
    for command in ["verify", "describe"] {
        let (code, said) = lifeboat.run(&["backup", command, id, "--host-keys", &known]).await?;
        ensure!(code == Some(1) && said.contains("INVALID"), "{command}: {code:?} {said}");
    }
    let (code, said) = lifeboat.run(&["backup", "list", "--host-keys", &known]).await?;
    println!("{said}");
    ensure!(code == Some(0) && said.contains("INVALID") && said.contains("known"), "{code:?} {said}");
    cluster.shutdown().await
}
