//! What becomes of finished backups, on real components: a policy lets them go, pins hold, deletions that were cut off are
//! finished, and nothing else in the bucket is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition, is_terminal};
use lifeboat_e2e::command_line::CommandLine;
use lifeboat_e2e::manifests::{backup, schedule};
use lifeboat_e2e::wait::eventually;
use serde_json::{Value, json};
use tokio::process::Command;

const MINUTE: Duration = Duration::from_secs(60);
const SCHEDULE: &str = "etcd.lifeboat.dev/schedule";
/// Header with the SHA-256 of no body, which curl does not send by itself.
const EMPTY_BODY: &str = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SLOT: &str = "etcd.lifeboat.dev/slot";

/// A suspended schedule that keeps so many.
fn keeping(name: &str, last: i32, more: &Value) -> Value {
    let mut object = schedule(name, "@yearly", "offsite");
    object["spec"]["suspend"] = json!(true);
    object["spec"]["retention"] =
        json!({"keepLast": last, "keepDaily": 0, "keepWeekly": 0, "keepMonthly": 0, "minimumHealthy": 1});
    for (key, value) in more.as_object().unwrap() {
        object["spec"]["retention"][key] = value.clone();
    }
    object
}

/// A run of a schedule for a slot, made as the schedule would have made it then.
fn run_of(schedule: &str, name: &str, slot: Timestamp) -> Value {
    let mut object = backup(name, "offsite");
    object["metadata"]["labels"] = json!({SCHEDULE: schedule});
    object["metadata"]["annotations"] = json!({SLOT: slot.to_string()});
    object
}

async fn annotate(cluster: &Cluster, name: &str, what: &str) -> Result<()> {
    cluster.kubectl(&["annotate", "--overwrite", "etcdb", name, &format!("etcd.lifeboat.dev/{what}")]).await?;
    Ok(())
}

/// Starts a run now and waits for its good end: its name and backupId.
async fn run_now(cluster: &Cluster, schedule: &str, value: &str) -> Result<(String, String)> {
    let asked = format!("etcd.lifeboat.dev/run-now={value}");
    cluster.kubectl(&["annotate", "--overwrite", "etcdbs", schedule, &asked]).await?;
    let run = eventually(&format!("run {value}"), MINUTE, || async {
        let backups = cluster.list("etcdb").await?;
        let is_ours = |b: &&Value| b["metadata"]["annotations"]["etcd.lifeboat.dev/run-now"] == value;
        anyhow::Ok(backups.iter().find(is_ours).filter(|b| is_condition(b, "Complete", "True")).cloned())
    })
    .await
    .with_context(|| cluster.log_tails())?;
    Ok((text(&run, "/metadata/name"), text(&run, "/status/backupId")))
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The directory of a backup in the bucket of the testbed's store.
fn place(cluster: &Cluster, id: &str) -> Result<PathBuf> {
    let root = cluster.bed.s3().bucket_dir(BUCKET).join("offsite");
    for entry in std::fs::read_dir(&root)? {
        let found = entry?.path().join("backups").join(id);
        if found.is_dir() {
            return Ok(found);
        }
    }
    anyhow::bail!("nothing of {id} in {}", root.display())
}

/// Names of what lies there, sorted.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return vec![] };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn wait_gone(cluster: &Cluster, name: &str, limit: Duration) -> Result<()> {
    eventually(&format!("{name} to be gone"), limit, || async {
        let found = cluster.get("etcdb", name).await?;
        if let Some(found) = &found {
            anyhow::ensure!(false, "{:#}", found["status"]);
        }
        anyhow::Ok(Some(()))
    })
    .await
    .with_context(|| cluster.log_tails())
}

async fn wait_expiry(cluster: &Cluster, name: &str, words: &str) -> Result<()> {
    let limit = Duration::from_secs(30);
    let has = |b: &Value| b["status"]["expiry"]["reasons"].to_string().contains(words);
    cluster.wait_for("etcdb", name, limit, has).await.map(drop)
}

/// Retention waits until a location has been listed as a whole.
async fn wait_listed(cluster: &Cluster) -> Result<()> {
    let is_listed = |l: &Value| l.pointer("/status/catalog/fullPassTime").is_some();
    cluster.wait_for("etcdbl", "offsite", MINUTE, is_listed).await.map(drop)
}

#[tokio::test]
async fn a_policy_lets_go_what_no_rule_keeps_and_pins_and_annotations_have_their_way() -> Result<()> {
    let cluster = Cluster::start(Setup::named("retention")).await?;
    cluster.create_location("offsite").await?;
    // Another cluster's archive in the same prefix, older than anything here.
    let foreign = cluster.bed.s3().bucket_dir(BUCKET).join("offsite/another-cluster/backups/20200101-000000-00000001");
    std::fs::create_dir_all(&foreign)?;
    std::fs::write(foreign.join("manifest.json"), "{}")?;
    std::fs::write(foreign.join("snapshot-1-aa.db.zst"), "x")?;

    cluster.apply(&keeping("nightly", 2, &json!({}))).await?;
    let (first, first_id) = run_now(&cluster, "nightly", "1").await?;
    annotate(&cluster, &first, "pin=audit 2026").await?;
    let pinned = cluster.wait_for("etcdb", &first, MINUTE, |b| is_condition(b, "Pinned", "True")).await?;
    ensure!(condition(&pinned, "Pinned").unwrap()["message"] == "audit 2026", "{pinned:#}");
    ensure!(names(&place(&cluster, &first_id)?).contains(&"pin.json".to_owned()));
    let mut runs = vec![];
    for value in ["2", "3", "4"] {
        runs.push(run_now(&cluster, "nightly", value).await?);
    }
    wait_listed(&cluster).await?;
    wait_gone(&cluster, &runs[0].0, 2 * MINUTE).await?;
    let left = names(&place(&cluster, &runs[0].1)?);
    ensure!(left == ["expired.json"], "{left:?}");
    let mark = std::fs::read_to_string(place(&cluster, &runs[0].1)?.join("expired.json"))?;
    ensure!(mark.contains("retention of schedule nightly") && mark.contains("kept by no rule (last 2)"), "{mark}");
    for (name, _) in &runs[1..] {
        wait_expiry(&cluster, name, "last 2").await?;
    }
    wait_expiry(&cluster, &first, "pinned: audit 2026").await?;
    println!("{}", cluster.kubectl(&["get", "etcdbs,etcdb", "-o", "wide"]).await?);
    let events = eventually("the event", MINUTE, || async {
        let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=BackupExpired"]).await?;
        anyhow::Ok(events.contains(&runs[0].0).then_some(events))
    })
    .await?;
    println!("{events}");
    let kept = cluster.get("etcdbs", "nightly").await?.unwrap();
    ensure!(kept["status"]["retained"]["count"] == 3, "{:#}", kept["status"]);

    // Nobody pins it any more.
    annotate(&cluster, &first, "pin-").await?;
    wait_gone(&cluster, &first, 2 * MINUTE).await?;
    ensure!(names(&place(&cluster, &first_id)?) == ["expired.json"]);

    // By a human's word: the wrong one, then the right one; and for one made by hand.
    let (name, id) = runs[1].clone();
    annotate(&cluster, &name, "delete-archive=yes").await?;
    let refused = cluster
        .wait_for("etcdb", &name, MINUTE, |b| {
            condition(b, "Ready")
                .is_some_and(|ready| ready["message"].as_str().unwrap().contains("nothing was deleted"))
        })
        .await?;
    ensure!(condition(&refused, "Ready").unwrap()["message"].as_str().unwrap().contains(&id), "{refused:#}");
    ensure!(is_condition(&refused, "Ready", "True") && names(&place(&cluster, &id)?).len() == 2, "{refused:#}");
    annotate(&cluster, &name, &format!("delete-archive={id}")).await?;
    wait_gone(&cluster, &name, MINUTE).await?;
    ensure!(names(&place(&cluster, &id)?) == ["expired.json"]);
    cluster.apply(&backup("by-hand", "offsite")).await?;
    let by_hand = cluster.wait_for("etcdb", "by-hand", MINUTE, is_terminal).await?;
    let by_hand_id = text(&by_hand, "/status/backupId");
    ensure!(by_hand["status"]["expiry"].is_null(), "{by_hand:#}");
    annotate(&cluster, "by-hand", &format!("delete-archive={by_hand_id}")).await?;
    wait_gone(&cluster, "by-hand", MINUTE).await?;

    the_command_line_does_the_same(&cluster, &runs[2].1).await?;
    ensure!(names(&foreign) == ["manifest.json", "snapshot-1-aa.db.zst"], "a foreign archive was touched");
    cluster.shutdown().await
}

/// `lifeboat backup retention|pin|unpin|delete` with no API server asked; `last` is the one archive that is left.
async fn the_command_line_does_the_same(cluster: &Cluster, last: &str) -> Result<()> {
    let (name, id) = run_now(cluster, "nightly", "5").await?;
    let uid = place(cluster, &id)?.parent().and_then(Path::parent).unwrap().file_name().unwrap().to_owned();
    let lifeboat = CommandLine::set_up(cluster, &cluster.s3_objects("offsite", "offsite"))?;
    let lifeboat = lifeboat.of_cluster(&uid.to_string_lossy());
    let policy = ["retention", "--keep-last", "1", "--minimum-healthy", "1"];
    let with = |more: &[&'static str]| [&policy[..], more].concat();
    let (code, said) = lifeboat.backup(&policy).await?;
    println!("{said}");
    ensure!(code == Some(0) && said.contains("last 1 of 1") && said.contains("kept by no rule (last 1)"), "{said}");
    ensure!(names(&place(cluster, last)?).len() == 2, "only shown");
    let (_, rows) = lifeboat.backup(&with(&["-o", "json"])).await?;
    let rows: Value = serde_json::from_str(&rows)?;
    ensure!(rows[0]["backupId"] == id.as_str() && rows[1]["decision"] == "Expire", "{rows:#}");
    let (code, said) = lifeboat.backup(&with(&["--apply", "--yes", "--state-dir", "/nonexistent"])).await?;
    ensure!(code == Some(4) && said.contains("--although-not-owner"), "{code:?} {said}");
    let (code, said) = lifeboat.backup(&["pin", last, "--reason", "court", "--although-not-owner"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    let (code, said) = lifeboat.backup(&["delete", last, "--yes", "--although-not-owner"]).await?;
    ensure!(code == Some(4) && said.contains("pinned (court)"), "{code:?} {said}");
    let (code, said) = lifeboat.backup(&with(&["--apply", "--yes", "--although-not-owner"])).await?;
    ensure!(code == Some(0) && said.contains("pinned: court"), "{code:?} {said}");
    ensure!(names(&place(cluster, last)?).len() == 3, "a pinned archive was deleted");
    // The operator has not heard of the pin; the agent finds it in the bucket, and the record says so.
    cluster.apply(&keeping("nightly", 1, &json!({}))).await?;
    let stays = eventually("the pin to be found", 2 * MINUTE, || async {
        let backups = cluster.list("etcdb").await?;
        let is_it = |b: &&Value| b["status"]["backupId"] == last && is_condition(b, "Pinned", "True");
        anyhow::Ok(backups.iter().find(is_it).cloned())
    })
    .await
    .with_context(|| cluster.log_tails())?;
    ensure!(condition(&stays, "Pinned").unwrap()["reason"] == "ImportedFromCatalog", "{stays:#}");
    ensure!(names(&place(cluster, last)?).len() == 3);
    let (code, said) = lifeboat.backup(&["unpin", last, "--although-not-owner"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    let (code, said) = lifeboat.backup(&["delete", last, "--although-not-owner"]).await?;
    ensure!(code == Some(4) && said.contains("--yes"), "nobody to ask: {code:?} {said}");
    let (code, said) = lifeboat.backup(&with(&["--apply", "--yes", "--although-not-owner"])).await?;
    ensure!(code == Some(0) && said.contains(&format!("{last} was deleted")), "{code:?} {said}");
    ensure!(names(&place(cluster, last)?) == ["expired.json"]);
    let (code, said) = lifeboat.backup(&["delete", &name, "--yes", "--although-not-owner"]).await?;
    ensure!(code == Some(0), "{code:?} {said}");
    ensure!(names(&place(cluster, &id)?) == ["expired.json"]);
    Ok(())
}

#[tokio::test]
async fn while_the_newest_run_failed_age_lets_nothing_go_that_keep_last_keeps() -> Result<()> {
    let cluster = Cluster::start(Setup::named("aged")).await?;
    cluster.create_location("offsite").await?;
    cluster.apply(&keeping("aged", 2, &json!({"maxAgeDays": 1}))).await?;
    let now = Timestamp::now();
    let before = |days: i64| now - SignedDuration::from_hours(24 * days);
    let mut failing = run_of("aged", "newest-failed", now);
    failing["spec"]["source"] = json!({"nodeName": "no-such-node"});
    failing["spec"]["limits"] = json!({"timeoutSeconds": 10});
    cluster.apply(&failing).await?;
    let failed = cluster.wait_for("etcdb", "newest-failed", MINUTE, is_terminal).await?;
    ensure!(is_condition(&failed, "Failed", "True"), "{failed:#}");
    for days in [5, 4, 3] {
        cluster.apply(&run_of("aged", &format!("old-{days}"), before(days))).await?;
        cluster.wait_for("etcdb", &format!("old-{days}"), MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    }
    wait_listed(&cluster).await?;
    wait_gone(&cluster, "old-5", 2 * MINUTE).await?;
    wait_expiry(&cluster, "old-3", "minimum healthy 1").await?;
    wait_expiry(&cluster, "old-4", "the newest run failed: the last 2 stay").await?;
    cluster.apply(&run_of("aged", "newest", now + SignedDuration::from_secs(1))).await?;
    cluster.wait_for("etcdb", "newest", MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    wait_gone(&cluster, "old-4", 2 * MINUTE).await?;
    wait_gone(&cluster, "old-3", 2 * MINUTE).await?;
    let newest = cluster.get("etcdb", "newest").await?.unwrap();
    ensure!(newest["status"]["expiry"]["decision"] == "Keep", "{newest:#}");
    cluster.shutdown().await
}

#[tokio::test]
async fn a_deletion_whose_agent_was_killed_is_finished_by_another() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("delkill")).await?;
    cluster.create_location("offsite").await?;
    cluster.apply(&backup("b", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "b", MINUTE, is_terminal).await?;
    let id = text(&done, "/status/backupId");
    let dir = place(&cluster, &id)?;
    let data = names(&dir).into_iter().find(|name| name.starts_with("snapshot-")).context("no data")?;
    // The store cannot delete the data: the agent gets as far as that and tries again.
    let stuck = |flag: &'static str| Command::new("chattr").arg(flag).arg(dir.join(&data)).status();
    ensure!(stuck("+i").await?.success());
    annotate(&cluster, "b", &format!("delete-archive={id}")).await?;
    let reached = eventually("the manifest to be gone", MINUTE, || async {
        anyhow::Ok((!names(&dir).contains(&"manifest.json".to_owned())).then_some(names(&dir)))
    })
    .await;
    let killed = async {
        let assigned = cluster.get("etcdb", "b").await?.context("the record went before its data")?;
        let node = text(&assigned, "/status/assignment/nodeName");
        cluster.agents.get_mut(&node).unwrap().kill9().await?;
        anyhow::Ok(node)
    }
    .await;
    ensure!(stuck("-i").await?.success(), "or the bed cannot be cleared away");
    let left = reached.with_context(|| cluster.log_tails())?;
    ensure!(left == ["expired.json".to_owned(), data.clone()], "{left:?}");
    let node = killed?;
    wait_gone(&cluster, "b", 4 * MINUTE).await?;
    ensure!(names(&dir) == ["expired.json"], "{:?}", names(&dir));
    println!("{node} was killed; another agent finished");
    cluster.shutdown().await
}

/// What `lifeboat etcd restore` leaves on a master once it is done.
fn note_restore(cluster: &Cluster, node: &str, done: Timestamp) -> Result<()> {
    let result = json!({"formatVersion": "1.0", "state": "Restored", "message": "the data was restored", "revision": 9,
        "orderDigest": "0123456789abcdef0123456789abcdef", "startTime": done.to_string(), "completionTime": done.to_string()});
    Ok(std::fs::write(cluster.node(node)?.path("/var/lib/etcd/restore-result"), result.to_string())?)
}

#[tokio::test]
async fn after_a_restore_nothing_goes_before_another_listing() -> Result<()> {
    let cluster = Cluster::start(Setup::named("rewound")).await?;
    cluster.create_location("offsite").await?;
    cluster.apply(&keeping("nightly", 2, &json!({}))).await?;
    let (first, id) = run_now(&cluster, "nightly", "1").await?;
    run_now(&cluster, "nightly", "2").await?;
    wait_listed(&cluster).await?;
    wait_expiry(&cluster, &first, "last 2").await?;
    // Of a clock that is ahead, so that no listing within this test is later.
    let node = cluster.node_names().remove(0);
    note_restore(&cluster, &node, Timestamp::now() + SignedDuration::from_mins(30))?;
    let member =
        cluster.wait_for("etcdm", &node, MINUTE, |m| m["status"]["lastRestore"]["outcome"] == "Restored").await?;
    ensure!(member["status"]["lastRestore"]["ref"] == "api-less-restore-0123456789abcdef", "{member:#}");
    cluster.apply(&keeping("nightly", 1, &json!({}))).await?;
    wait_expiry(&cluster, &first, "has not been listed as a whole since the cluster was restored").await?;
    cluster.relist("offsite").await?;
    ensure!(names(&place(&cluster, &id)?).len() == 2, "an archive was deleted");
    let restored = Timestamp::now();
    note_restore(&cluster, &node, restored)?;
    let is_told = |m: &Value| {
        let time = text(m, "/status/lastRestore/time").parse::<Timestamp>();
        time.is_ok_and(|time| time <= restored)
    };
    cluster.wait_for("etcdm", &node, MINUTE, is_told).await?;
    cluster.relist("offsite").await?;
    wait_gone(&cluster, &first, 2 * MINUTE).await?;
    ensure!(names(&place(&cluster, &id)?) == ["expired.json"]);
    cluster.shutdown().await
}

#[tokio::test]
async fn archives_in_a_directory_go_the_same_way() -> Result<()> {
    let cluster = Cluster::start(Setup::named("dirkeep")).await?;
    let location = lifeboat_e2e::manifests::directory("offsite", lifeboat_e2e::cluster::SHARED);
    cluster.apply(&location).await?;
    cluster.wait_for("etcdbl", "offsite", MINUTE, |l| is_condition(l, "Ready", "True")).await?;
    cluster.apply(&keeping("nightly", 1, &json!({}))).await?;
    let (first, id) = run_now(&cluster, "nightly", "1").await?;
    annotate(&cluster, &first, "pin=why").await?;
    cluster.wait_for("etcdb", &first, MINUTE, |b| is_condition(b, "Pinned", "True")).await?;
    annotate(&cluster, &first, &format!("delete-archive={id}")).await?;
    let message = |b: &Value| condition(b, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    cluster.wait_for("etcdb", &first, MINUTE, |b| message(b).contains("remove the pin first")).await?;
    annotate(&cluster, &first, "pin=").await?;
    // What was refused does not come true when the pin goes.
    cluster.wait_for("etcdb", &first, MINUTE, |b| message(b).contains("set it anew")).await?;
    let unpinned = cluster.get("etcdb", &first).await?.context("it is gone")?;
    ensure!(!is_condition(&unpinned, "Pinned", "True"));
    annotate(&cluster, &first, "delete-archive-").await?;
    cluster.wait_for("etcdb", &first, MINUTE, |b| !message(b).contains("nothing was deleted")).await?;
    annotate(&cluster, &first, &format!("delete-archive={id}")).await?;
    wait_gone(&cluster, &first, MINUTE).await?;
    let root = cluster.shared_dir().join("etcd");
    let uid = names(&root).into_iter().find(|name| root.join(name).join("backups").is_dir()).context("no cluster")?;
    let left = names(&root.join(uid).join("backups").join(&id));
    ensure!(left == ["expired.json"], "{left:?}");
    cluster.shutdown().await
}

/// Makes a backup look as if only its checksum had been proven, the day before yesterday.
async fn unprove(cluster: &Cluster, name: &str) -> Result<()> {
    let time = Timestamp::now() - SignedDuration::from_hours(48);
    let patch = json!({"status": {"verification": {"level": "Checksum", "time": time.to_string()}}});
    let patch = ["patch", "etcdb", name, "--subresource=status", "--type=merge", "-p", &patch.to_string()];
    cluster.kubectl(&patch).await.map(drop)
}

#[tokio::test]
async fn an_archive_proven_less_than_asked_is_read_again_and_damage_is_found() -> Result<()> {
    let cluster = Cluster::start(Setup::named("again")).await?;
    cluster.create_location("offsite").await?;
    cluster.apply(&backup("b", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "b", MINUTE, is_terminal).await?;
    unprove(&cluster, "b").await?;
    let is_proven = |b: &Value| {
        b["status"]["assignment"]["task"] == "Verify"
            && b["status"]["verification"]["level"] == "Content"
            && is_condition(b, "Verified", "True")
    };
    cluster.wait_for("etcdb", "b", MINUTE, is_proven).await?;
    ensure!(names(&place(&cluster, &text(&done, "/status/backupId"))?).len() == 2, "reading writes nothing");

    cluster.apply(&backup("damaged", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "damaged", MINUTE, is_terminal).await?;
    let dir = place(&cluster, &text(&done, "/status/backupId"))?;
    let data = names(&dir).into_iter().find(|name| name.starts_with("snapshot-")).context("no data")?;
    let mut bytes = std::fs::read(dir.join(&data))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join(&data), &bytes)?;
    unprove(&cluster, "damaged").await?;
    let is_corrupt = |b: &Value| condition(b, "Ready").is_some_and(|ready| ready["reason"] == "ArchiveCorrupt");
    let corrupt = cluster.wait_for("etcdb", "damaged", MINUTE, is_corrupt).await?;
    ensure!(is_condition(&corrupt, "Stalled", "True") && is_condition(&corrupt, "Verified", "False"), "{corrupt:#}");
    ensure!(is_condition(&corrupt, "Complete", "True"), "the run was good: {corrupt:#}");
    cluster.shutdown().await
}

#[tokio::test]
async fn an_archive_that_the_store_locks_stays_and_is_called_held() -> Result<()> {
    let cluster = Cluster::start(Setup::named("vault")).await?;
    let s3 = cluster.bed.s3();
    let made = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--request", "PUT", "--cacert"])
        .arg(&s3.ca_file)
        .args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("{}:{}", s3.access_key, s3.secret_key)])
        .args(["--header", "x-amz-bucket-object-lock-enabled: true", "--header", EMPTY_BODY])
        .arg(format!("{}/vault", s3.endpoint))
        .output()
        .await?;
    ensure!(made.status.success(), "curl: {}", String::from_utf8_lossy(&made.stderr));
    let objects = cluster.s3_objects("offsite", "offsite");
    cluster.apply(&objects.secret()).await?;
    cluster.apply(&objects.ca()).await?;
    let mut location = objects.location();
    location["spec"]["s3"]["bucket"] = json!("vault");
    location["spec"]["s3"]["objectLock"] = json!({"mode": "Governance", "days": 1});
    cluster.apply(&location).await?;
    cluster.wait_for("etcdbl", "offsite", MINUTE, |l| is_condition(l, "Ready", "True")).await?;
    cluster.apply(&backup("b", "offsite")).await?;
    let done = cluster.wait_for("etcdb", "b", MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    let id = text(&done, "/status/backupId");
    annotate(&cluster, "b", "pin=marks are not locked").await?;
    cluster.wait_for("etcdb", "b", MINUTE, |b| is_condition(b, "Pinned", "True")).await?;
    annotate(&cluster, "b", "pin-").await?;
    cluster.wait_for("etcdb", "b", MINUTE, |b| condition(b, "Pinned").is_none()).await?;
    annotate(&cluster, "b", &format!("delete-archive={id}")).await?;
    let says = |b: &Value| {
        condition(b, "Ready").is_some_and(|c| c["message"].as_str().unwrap().contains("could not be deleted"))
    };
    let held = cluster.wait_for("etcdb", "b", MINUTE, says).await?;
    println!("{}", condition(&held, "Ready").unwrap()["message"]);
    ensure!(is_condition(&held, "Ready", "True"), "{held:#}");
    ensure!(held["status"]["execution"]["result"]["error"]["reason"] == "RetentionHeld", "{held:#}");
    let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=RetentionHeld"]).await?;
    ensure!(events.contains("Warning"), "{events}");
    let url = text(&held, "/status/archive").replace("s3://vault/", "");
    let left = names(s3.bucket_dir("vault").join(url).parent().unwrap());
    ensure!(left.contains(&"manifest.json".to_owned()) && left.len() == 3, "the archive is whole: {left:?}");
    cluster.shutdown().await
}
