//! Archives that only the holder of a private key can read, on real components: written by the agent, read by age, zstd
//! and etcdutl, and by `lifeboat backup` with the same key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition, is_terminal};
use lifeboat_e2e::command_line::CommandLine;
use lifeboat_e2e::manifests::backup;
use lifeboat_e2e::stock_tools::{run, s3cmd};
use lifeboat_testbed::EtcdLine;
use serde_json::{Value, json};

/// A value that no other object holds.
const SECRET: &str = "a-value-that-only-the-holder-of-the-key-may-see";

/// A pair of keys, as an administrator makes it: the file and the public half.
async fn make_key(dir: &Path, name: &str) -> Result<(PathBuf, String)> {
    let file = dir.join(name);
    run("age-keygen", &["-o", &file.to_string_lossy()]).await?;
    let recipient = run("age-keygen", &["-y", &file.to_string_lossy()]).await?.trim().to_owned();
    Ok((file, recipient))
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_string_lossy().into_owned()
}

#[tokio::test]
async fn an_encrypted_backup_is_read_with_stock_tools_and_the_key_alone() -> Result<()> {
    let cluster = Cluster::start(Setup::named("crypt")).await?;
    let dir = cluster.bed.dir().join("keys");
    std::fs::create_dir_all(&dir)?;
    let (mine, recipient) = make_key(&dir, "mine.txt").await?;
    let (spare, second) = make_key(&dir, "spare.txt").await?;
    let (stranger, _) = make_key(&dir, "stranger.txt").await?;
    let value = format!("--from-literal=value={SECRET}");
    cluster.bed.kubectl(&["-n", "default", "create", "configmap", "secret", &value]).await?;
    let mut objects = cluster.s3_objects("sealed", "sealed").all();
    objects["items"][2]["spec"]["encryption"] = json!({"recipients": [recipient, second]});
    cluster.apply(&objects).await?;
    cluster.apply(&backup("sealed", "sealed")).await?;
    let done = cluster.wait_for("etcdb", "sealed", Duration::from_secs(90), is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    ensure!(done["status"]["encryption"]["recipients"] == json!([recipient, second]), "{done:#}");

    // With stock tools, by either recipient.
    let url = done["status"]["archive"].as_str().context("no archive")?;
    s3cmd(&cluster, &["get", url, &path(&dir, "manifest.json")]).await?;
    let manifest: Value = serde_json::from_slice(&std::fs::read(dir.join("manifest.json"))?)?;
    let data = manifest["payload"]["data"].as_str().context("manifest names no data")?;
    ensure!(data.ends_with(".db.zst.age"), "{data}");
    let stored = path(&dir, "snapshot.db.zst.age");
    s3cmd(&cluster, &["get", &url.replace("manifest.json", data), &stored]).await?;
    for key in [&mine, &spare] {
        let (packed, snapshot) = (path(&dir, "snapshot.db.zst"), path(&dir, "snapshot.db"));
        run("age", &["-d", "-i", &key.to_string_lossy(), "-o", &packed, &stored]).await?;
        run("zstd", &["-d", "-f", "-q", &packed, "-o", &snapshot]).await?;
        let etcdutl = cluster.bed.binaries().of_line(EtcdLine::V3_6, "etcdutl");
        let status: Value =
            serde_json::from_str(&run(etcdutl, &["snapshot", "status", &snapshot, "-w", "json"]).await?)?;
        ensure!(status["revision"] == done["status"]["revision"], "{status} {done:#}");
        let bytes = std::fs::read(&snapshot)?;
        ensure!(bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
    let denied = run("age", &["-d", "-i", &stranger.to_string_lossy(), "-o", &path(&dir, "no"), &stored]).await;
    ensure!(denied.is_err(), "a stranger's key opens it");

    // With Lifeboat's own command.
    let lifeboat = CommandLine::set_up(&cluster, &cluster.s3_objects("sealed", "sealed"))?;
    let fetched = path(&dir, "fetched.db");
    let with = mine.to_string_lossy().into_owned();
    let (code, said) = lifeboat.backup(&["fetch", "latest", "--file", &fetched, "--identity", &with]).await?;
    ensure!(code == Some(0) && std::fs::read(&fetched)? == std::fs::read(dir.join("snapshot.db"))?, "{code:?} {said}");
    let denied_file = lifeboat.path("denied.db");
    for (arguments, words) in [
        (&["verify", "latest"][..], "--identity"),
        (&["verify", "latest", "--identity", &stranger.to_string_lossy()], "none of the keys"),
        (&["verify", "latest", "--identity", &lifeboat.path("keys")], "no age identity"),
        (&["verify", "latest", "--identity", "/nonexistent"], "/nonexistent cannot be read"),
        (&["fetch", "latest", "--file", &denied_file], "--identity"),
        (&["fetch", "latest", "--file", &denied_file, "--identity", &stranger.to_string_lossy()], "none of the keys"),
    ] {
        let (code, said) = lifeboat.backup(arguments).await?;
        ensure!(code == Some(4) && said.contains(words), "{arguments:?}: {code:?} {said}");
        ensure!(!said.contains(&cluster.bed.s3().secret_key), "a line of the file was repeated");
    }
    let is_left = |name: &str| name.starts_with("denied");
    let left = std::fs::read_dir(&lifeboat.dir)?.flatten().any(|file| is_left(&file.file_name().to_string_lossy()));
    ensure!(!left, "a file that nobody may read was left");
    cluster.shutdown().await
}

#[tokio::test]
async fn without_a_usable_recipient_nothing_is_written() -> Result<()> {
    let cluster = Cluster::start(Setup::named("nokey")).await?;
    let mut objects = cluster.s3_objects("sealed", "sealed").all();
    objects["items"][2]["spec"]["encryption"] = json!({"recipients": ["age1qqqq"]});
    cluster.apply(&objects).await?;
    cluster.apply(&backup("never", "sealed")).await?;
    let is_told = |object: &Value| {
        let ready = condition(object, "Ready").cloned().unwrap_or_default();
        ready["reason"] == "EncryptionKeyMissing" && ready["message"].to_string().contains("recipients[0]")
    };
    cluster.wait_for("etcdbl", "sealed", Duration::from_secs(60), is_told).await?;
    let failed = cluster.wait_for("etcdb", "never", Duration::from_secs(150), is_terminal).await?;
    ensure!(is_condition(&failed, "Failed", "True"), "{failed:#}");
    let listed = s3cmd(&cluster, &["ls", "--recursive", &format!("s3://{BUCKET}/sealed/")]).await?;
    ensure!(!listed.contains("snapshot-") && !listed.contains("manifest.json"), "{listed}");
    cluster.shutdown().await
}
