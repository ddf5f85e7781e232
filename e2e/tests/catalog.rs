//! The records in the API follow what lies in the bucket: found anew, missed, altered, put back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, SHARED, Setup, condition, is_condition};
use lifeboat_e2e::kstatus::{Kstatus, kstatus};
use lifeboat_e2e::manifests::{backup, directory, schedule};
use lifeboat_e2e::wait::eventually;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn data_in(place: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.to_string_lossy().contains("snapshot-")).unwrap()
}

async fn complete(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.wait_for("etcdb", name, 2 * MINUTE, |b| is_condition(b, "Complete", "True")).await
}

/// What describes an archive, without what is of the object alone.
fn facts(backup: &Value) -> Value {
    let status = &backup["status"];
    let names = [
        "archive",
        "backupId",
        "member",
        "etcdVersion",
        "storageVersion",
        "clusterId",
        "revision",
        "contentHash",
        "compactRevision",
        "keys",
        "size",
        "storedSize",
        "sizeBytes",
        "storedSizeBytes",
        "sha256",
        "startTime",
        "completionTime",
        "durationSeconds",
        "duration",
        "verification",
        "phase",
    ];
    names.iter().map(|name| ((*name).to_owned(), status[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

async fn events(cluster: &Cluster, reason: &str) -> Result<String> {
    cluster.kubectl(&["get", "events", "--field-selector", &format!("reason={reason}")]).await
}

/// The records go, the schedule too, as in a cluster whose etcd was made anew; the bucket stays.
async fn a_new_api_server_finds_its_backups(cluster: &Cluster) -> Result<()> {
    cluster.create_location("offsite").await?;
    let mut nightly = schedule("nightly", "@yearly", "offsite");
    nightly["spec"]["copies"] = json!(2);
    cluster.apply(&nightly).await?;
    cluster.kubectl(&["annotate", "etcdbs", "nightly", "etcd.lifeboat.dev/run-now=1"]).await?;
    cluster.apply(&backup("by-hand", "offsite")).await?;
    complete(cluster, "by-hand").await?;
    let before = eventually("three backups", 2 * MINUTE, async || {
        let mut backups = cluster.list("etcdb").await?;
        backups.retain(|b| is_condition(b, "Complete", "True"));
        anyhow::Ok((backups.len() == 3).then_some(backups))
    })
    .await
    .with_context(|| cluster.log_tails())?;
    let last = cluster
        .wait_for("etcdbs", "nightly", MINUTE, |s| s.pointer("/status/lastSuccessTime").is_some())
        .await?["status"]["lastSuccessTime"]
        .clone();
    cluster.kubectl(&["delete", "etcdbs,etcdb,etcdbl", "--all", "--wait"]).await?;

    cluster.create_location("offsite").await?;
    nightly["spec"]["runOnCreate"] = json!(false);
    cluster.apply(&nightly).await?;
    for old in &before {
        let name = old["metadata"]["name"].as_str().unwrap();
        let new = complete(cluster, name).await?;
        ensure!(facts(&new) == facts(old), "{name}: {:#}\nwas {:#}", facts(&new), facts(old));
        ensure!(new["spec"] == old["spec"] && new["metadata"]["labels"] == old["metadata"]["labels"], "{new:#}");
        ensure!(
            new["metadata"]["annotations"]["etcd.lifeboat.dev/slot"]
                == old["metadata"]["annotations"]["etcd.lifeboat.dev/slot"],
            "{new:#}"
        );
        ensure!(condition(&new, "Ready").unwrap()["reason"] == "ImportedFromCatalog", "{new:#}");
        ensure!(is_condition(&new, "Verified", "True") && kstatus(&new) == Kstatus::Current, "{new:#}");
        ensure!(new["status"]["assignment"].is_null(), "no run is started for it: {new:#}");
    }
    let found = cluster.wait_for("etcdbs", "nightly", MINUTE, |s| s["status"]["lastSuccessTime"] == last).await?;
    ensure!(found["status"]["retained"]["count"] == 2, "{found:#}");
    ensure!(cluster.list("etcdb").await?.len() == 3, "an import is no missed run, and none is repeated");
    let location = cluster.wait_for("etcdbl", "offsite", MINUTE, |l| l["status"]["backups"]["count"] == 3).await?;
    ensure!(location["status"]["backups"]["bytes"].as_i64().unwrap() > 0, "{location:#}");
    println!("{}", cluster.kubectl(&["get", "etcdbs,etcdb,etcdbl"]).await?);
    println!("{}", cluster.kubectl(&["get", "etcdb", "-o", "wide"]).await?);
    let told = events(cluster, "BackupImported").await?;
    ensure!(told.contains("3 archives"), "{told}");
    Ok(())
}

async fn a_deleted_record_comes_back(cluster: &Cluster) -> Result<()> {
    let before = cluster.get("etcdb", "by-hand").await?.unwrap();
    cluster.kubectl(&["delete", "etcdb", "by-hand"]).await?;
    cluster.relist("offsite").await?;
    let after = complete(cluster, "by-hand").await?;
    ensure!(facts(&after) == facts(&before) && after["metadata"]["uid"] != before["metadata"]["uid"], "{after:#}");
    Ok(())
}

async fn shown(cluster: &Cluster, name: &str, reason: &str, words: &str) -> Result<()> {
    let object = cluster
        .wait_for("etcdb", name, 2 * MINUTE, |b| condition(b, "Ready").is_some_and(|c| c["reason"] == reason))
        .await?;
    let message = condition(&object, "Ready").unwrap()["message"].as_str().unwrap();
    println!("{name}: {reason}: {message}");
    ensure!(message.contains(words), "{words:?} is not in {message}");
    let expected = if reason.starts_with("Archive") { Kstatus::Failed } else { Kstatus::Current };
    ensure!(kstatus(&object) == expected && is_condition(&object, "Complete", "True"), "{object:#}");
    Ok(())
}

/// What somebody does to the files of an archive is seen, and seen to be undone.
async fn archives_that_are_lost_altered_and_put_back(cluster: &Cluster) -> Result<()> {
    let object = cluster.get("etcdb", "by-hand").await?.unwrap();
    let place = cluster.place_of(&object);
    let aside = cluster.bed.dir().join("aside");
    let manifest = place.join("manifest.json");
    let data = data_in(&place);
    let good = "ImportedFromCatalog";

    std::fs::rename(&manifest, &aside)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", "ArchiveMissing", "is gone from location offsite").await?;
    ensure!(events(cluster, "ArchiveMissing").await?.contains("by-hand"));
    std::fs::rename(&aside, &manifest)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", good, "revision").await?;

    std::fs::rename(&data, &aside)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", "ArchiveMissing", "is gone").await?;
    std::fs::rename(&aside, &data)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", good, "revision").await?;

    let whole = std::fs::read(&data)?;
    std::fs::write(&data, &whole[..whole.len() - 7])?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", "ArchiveCorrupt", "bytes, the manifest says").await?;
    println!("{}", cluster.kubectl(&["get", "etcdb"]).await?);
    std::fs::write(&data, &whole)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", good, "revision").await?;

    let text = std::fs::read(&manifest)?;
    std::fs::write(&manifest, b"{}")?;
    // Whoever alters a manifest later leaves a later time; the test cannot wait for it.
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    std::fs::File::options().write(true).open(&manifest)?.set_modified(later)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", "ArchiveCorrupt", "manifest").await?;
    std::fs::write(&manifest, &text)?;
    cluster.relist("offsite").await?;
    shown(cluster, "by-hand", good, "revision").await?;
    Ok(())
}

/// Another cluster's archives in the same prefix are neither listed nor counted.
async fn two_clusters_share_a_prefix(cluster: &Cluster) -> Result<()> {
    let object = cluster.get("etcdb", "by-hand").await?.unwrap();
    let place = cluster.place_of(&object);
    let mine = place.parent().unwrap().parent().unwrap();
    let uid = mine.file_name().unwrap().to_string_lossy().into_owned();
    let theirs = mine.with_file_name("11111111-2222-3333-4444-555555555555/backups/20200101-000000-0123abcd");
    std::fs::create_dir_all(&theirs)?;
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(place.join("manifest.json"))?)?;
    manifest["payload"]["backupId"] = json!("20200101-000000-0123abcd");
    manifest["payload"]["object"]["name"] = json!("theirs");
    std::fs::write(theirs.join("manifest.json"), manifest.to_string())?;
    // And one that somebody copied into this cluster's place.
    let copied = mine.join("backups/20200101-000000-0123abce");
    std::fs::create_dir_all(&copied)?;
    manifest["payload"]["backupId"] = json!("20200101-000000-0123abce");
    manifest["payload"]["cluster"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    // Its own key is not known here; altered as it is, ours would not fit.
    for field in ["keyId", "signature"] {
        manifest.as_object_mut().unwrap().remove(field);
    }
    std::fs::write(copied.join("manifest.json"), manifest.to_string())?;
    std::fs::write(mine.join("backups/notes.txt"), "x")?;
    cluster.relist("offsite").await?;
    let location = cluster.get("etcdbl", "offsite").await?.unwrap();
    let names: Vec<String> = cluster.list("etcdb").await?.iter().map(|b| b["metadata"]["name"].to_string()).collect();
    ensure!(names.len() == 3, "{names:?}");
    let note = condition(&location, "Ready").unwrap()["message"].as_str().unwrap();
    println!("{note}");
    ensure!(note.contains("20200101-000000-0123abce") && note.contains("not of this one"), "{note}");
    ensure!(note.contains("1 objects belong to no backup") && note.contains("notes.txt"), "{note}");
    ensure!(note.contains(&uid) && mine.join("backups/notes.txt").exists() && theirs.join("manifest.json").exists());
    let available = condition(&location, "Available").unwrap();
    ensure!(available["status"] == "True" && available["reason"] == "ArchiveOrphaned", "{available:#}");
    let told = events(cluster, "ArchiveOrphaned").await?;
    ensure!(told.contains("etcdbackuplocation/offsite") && told.contains("notes.txt"), "{told}");
    std::fs::remove_dir_all(copied)?;
    std::fs::remove_file(mine.join("backups/notes.txt"))?;
    Ok(())
}

/// A location that is only read shows its archives; where two lead to one place, each archive is shown once.
async fn a_read_only_location_is_listed(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "etcdbl", "offsite"]).await?;
    cluster.kubectl(&["delete", "etcdb", "--all"]).await?;
    let mut objects = cluster.s3_objects("mirror", "offsite").all();
    objects["items"][2]["spec"]["accessMode"] = json!("ReadOnly");
    let s3 = cluster.bed.s3().bucket_dir(BUCKET);
    let files = || walk(&s3);
    let before = files();
    cluster.apply(&objects).await?;
    let found = complete(cluster, "by-hand").await?;
    ensure!(found["spec"]["locationRef"]["name"] == "mirror", "{found:#}");
    cluster.wait_for("etcdbl", "mirror", MINUTE, |l| l["status"]["backups"]["count"] == 3).await?;
    ensure!(files() == before, "nothing was written or deleted");
    cluster.create_location("offsite").await?;
    cluster.relist("offsite").await?;
    ensure!(cluster.list("etcdb").await?.len() == 3, "the same archives by another way");
    Ok(())
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

async fn a_record_of_nothing_fails(cluster: &Cluster) -> Result<()> {
    let mut object = backup("nothing", "offsite");
    object["metadata"]["annotations"] = json!({"etcd.lifeboat.dev/imported": "20200101-000000-0123abcd"});
    cluster.apply(&object).await?;
    let waits = cluster.wait_for("etcdb", "nothing", MINUTE, |b| condition(b, "Ready").is_some()).await?;
    ensure!(kstatus(&waits) == Kstatus::InProgress, "{waits:#}");
    cluster.relist("offsite").await?;
    let failed = cluster.wait_for("etcdb", "nothing", MINUTE, |b| is_condition(b, "Failed", "True")).await?;
    ensure!(condition(&failed, "Ready").unwrap()["reason"] == "ArchiveMissing", "{failed:#}");
    Ok(())
}

#[tokio::test]
async fn the_records_follow_the_bucket() -> Result<()> {
    let cluster = Cluster::start(Setup::named("catalog")).await?;
    a_new_api_server_finds_its_backups(&cluster).await?;
    a_deleted_record_comes_back(&cluster).await?;
    archives_that_are_lost_altered_and_put_back(&cluster).await?;
    two_clusters_share_a_prefix(&cluster).await?;
    a_read_only_location_is_listed(&cluster).await?;
    a_record_of_nothing_fails(&cluster).await?;
    cluster.shutdown().await
}

/// Resident memory of a process, MiB.
fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? / 1_024)
}

/// Copies of one archive's manifest, one an hour, as a schedule of years would leave them.
fn many(place: &Path, count: i64) -> Result<()> {
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(place.join("manifest.json"))?)?;
    // Altered as they are, the signature of the first would not fit.
    for field in ["keyId", "signature"] {
        manifest.as_object_mut().unwrap().remove(field);
    }
    let data = data_in(place);
    let backups = place.parent().unwrap();
    let start: jiff::Timestamp = "2025-01-01T00:00:00Z".parse()?;
    for hour in 0..count {
        let time = start + jiff::SignedDuration::from_hours(hour);
        let id = format!("{}-{hour:08x}", time.strftime("%Y%m%d-%H%M%S"));
        let dir = backups.join(&id);
        std::fs::create_dir(&dir)?;
        let payload = &mut manifest["payload"];
        payload["backupId"] = json!(id);
        payload["object"]["name"] = json!(format!("hourly-{}", time.strftime("%Y%m%d%H%M%S")));
        payload["object"]["schedule"] = json!("hourly");
        payload["startTime"] = json!(time.to_string());
        payload["completionTime"] = json!((time + jiff::SignedDuration::from_secs(9)).to_string());
        std::fs::hard_link(&data, dir.join(data.file_name().unwrap()))?;
        std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "ten thousand records; run by hand: it takes minutes"]
async fn ten_thousand_archives_are_found() -> Result<()> {
    let count: i64 = std::env::var("LIFEBOAT_ARCHIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let cluster = Cluster::start(Setup::named("thousands")).await?;
    cluster.apply(&directory("shelf", SHARED)).await?;
    cluster.apply(&backup("first", "shelf")).await?;
    let first = complete(&cluster, "first").await?;
    many(&cluster.place_of(&first), count)?;
    let operator = cluster.operators[0].pid().context("no operator")?;
    println!("operator before: {} MiB", resident(operator)?);
    let mut hourly = schedule("hourly", "0 * * * *", "shelf");
    hourly["spec"]["retention"] = json!({"keepLast": 10_000});
    cluster.apply(&hourly).await?;
    let begun = Instant::now();
    let before = cluster.get("etcdbl", "shelf").await?.unwrap();
    let region = json!({"spec": {"directory": {"subPath": "etcd/"}}}).to_string();
    cluster.kubectl(&["patch", "etcdbl", "shelf", "--type=merge", "-p", &region]).await?;
    let mut peak = 0;
    let done = loop {
        for agent in cluster.agents.values() {
            peak = peak.max(resident(agent.pid().context("no agent")?)?);
        }
        let location = cluster.get("etcdbl", "shelf").await?.unwrap();
        let pass = &location["status"]["catalog"];
        if pass["fullPassTime"].is_string() && pass["passId"] != before["status"]["catalog"]["passId"] {
            break location;
        }
        ensure!(begun.elapsed() < 20 * MINUTE, "{:#}\n{}", location["status"], cluster.log_tails());
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    println!("{count} archives imported in {:?}; agents' peak {peak} MiB", begun.elapsed());
    ensure!(done["status"]["backups"]["count"].as_i64().unwrap() > count, "{:#}", done["status"]);
    let all = eventually("all records complete", 10 * MINUTE, async || {
        let said = cluster
            .kubectl(&["get", "etcdb", "--field-selector", "status.phase=Complete", "-o", "name", "--chunk-size=500"])
            .await?;
        let lines = said.lines().count();
        anyhow::Ok((i64::try_from(lines)? > count).then_some(lines))
    })
    .await
    .with_context(|| cluster.log_tails())?;
    println!("{all} records complete after {:?}", begun.elapsed());
    let kept = cluster
        .wait_for("etcdbs", "hourly", 2 * MINUTE, |s| s["status"]["retained"]["count"].as_i64() >= Some(count))
        .await?;
    println!("schedule: {}", kept["status"]["retained"]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!("operator with {all} records: {} MiB", resident(operator)?);
    for (node, agent) in &cluster.agents {
        println!("agent {node} at rest: {} MiB", resident(agent.pid().context("no agent")?)?);
    }
    // A listing of everything with nothing to do.
    let begun = Instant::now();
    cluster.relist("shelf").await?;
    println!("a listing of everything with nothing to import: {:?}", begun.elapsed());
    cluster.shutdown().await
}
