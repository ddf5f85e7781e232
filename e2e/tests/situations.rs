//! Every situation of the table "What tools must see", on real components, and the words people get for bad input.
//!
//! Every row of docs/situations.md is seen here; the test fails where an object is not as documented.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, OWN, SHARED, Setup, condition, is_condition};
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::kstatus::{Kstatus, kstatus};
use lifeboat_e2e::manifests::{backup, directory, schedule};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::Signal;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// What people are told; each row seen here must stand there.
const DOCUMENTED: &str = include_str!("../../docs/situations.md");

/// Situations that were seen: in the end, all that are documented.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// How the conditions of an object fit together.
#[derive(Clone, Copy)]
enum Shape {
    /// Somebody must do something.
    Stalled,
    /// A run that ended for good.
    Failed,
    /// Wrong at present, and waited for.
    Troubled,
    /// Not known yet.
    Waiting,
    /// As its spec says; this condition is True beside Ready.
    Current(Option<&'static str>),
}

impl Shape {
    /// Status of Ready, the condition beside it, and what kstatus makes of both.
    const fn parts(self) -> (&'static str, Option<&'static str>, Kstatus) {
        match self {
            Self::Stalled => ("False", Some("Stalled"), Kstatus::Failed),
            Self::Failed => ("False", Some("Failed"), Kstatus::Failed),
            Self::Troubled => ("False", Some("Reconciling"), Kstatus::InProgress),
            Self::Waiting => ("Unknown", Some("Reconciling"), Kstatus::InProgress),
            Self::Current(marker) => ("True", marker, Kstatus::Current),
        }
    }
}

/// What a row expects of an object.
struct Row<'r> {
    situation: &'r str,
    /// Resource and name.
    object: (&'r str, &'r str),
    shape: Shape,
    reason: &'r str,
    words: &'r [&'r str],
}

/// Waits until an object is as the row says, and checks what may never be.
async fn see(cluster: &Cluster, row: Row<'_>, limit: Duration) -> Result<Value> {
    let Row { situation, object: (resource, name), shape, reason, words } = row;
    let (ready, marker, expected) = shape.parts();
    let object = cluster
        .wait_for(resource, name, limit, |object| {
            condition(object, "Ready").is_some_and(|c| c["status"] == ready && c["reason"] == reason)
                && marker.is_none_or(|type_| is_condition(object, type_, "True"))
                && kstatus(object) == expected
        })
        .await
        .map_err(|error| {
            error.context(format!("situation {situation:?}: Ready={ready}/{reason} {marker:?} {expected:?}"))
        })?;
    ensure!(
        !(is_condition(&object, "Reconciling", "True") && is_condition(&object, "Stalled", "True")),
        "{situation}: Reconciling and Stalled at once"
    );
    for type_ in ["Reconciling", "Stalled"] {
        ensure!(
            condition(&object, type_).is_none_or(|c| c["status"] == "True"),
            "{situation}: {type_} present but not True"
        );
    }
    let message = condition(&object, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    for word in words {
        ensure!(message.contains(word), "{situation}: {word:?} is not in the message: {message}");
    }
    let documented = format!("| {situation} | {ready}/{reason} | {} | {expected:?} |", marker.unwrap_or("–"));
    println!("{documented} {message} |");
    ensure!(DOCUMENTED.contains(&documented), "docs/situations.md has no row {documented:?}");
    SEEN.lock().unwrap().insert(situation.to_owned());
    Ok(object)
}

fn with(mut object: Value, path: &str, value: Value) -> Value {
    let mut target = &mut object;
    for part in path.split('.') {
        target = &mut target[part];
    }
    *target = value;
    object
}

async fn bad_schedules(cluster: &Cluster) -> Result<()> {
    for (name, cron, zone, reason, words) in [
        ("six-fields", "0 0 * * * *", "Etc/UTC", "InvalidSchedule", &["five fields"][..]),
        ("every", "@every 1h", "Etc/UTC", "InvalidSchedule", &["@every"]),
        ("tz-prefix", "TZ=Europe/Berlin 0 6 * * *", "Etc/UTC", "InvalidSchedule", &["timeZone"]),
        ("nonsense", "61 * * * *", "Etc/UTC", "InvalidSchedule", &["61"]),
        ("bad-zone", "0 6 * * *", "Europe/Atlantis", "InvalidSchedule", &["Europe/Atlantis"]),
        ("never", "30 2 30 2 *", "Etc/UTC", "NeverFires", &["30 2 30 2 *"]),
    ] {
        cluster.apply(&with(schedule(name, cron, "good"), "spec.timeZone", json!(zone))).await?;
        let row = Row {
            situation: &format!("schedule {cron:?} in {zone}"),
            object: ("etcdbs", name),
            shape: Shape::Stalled,
            reason,
            words,
        };
        see(cluster, row, MINUTE).await?;
    }
    Ok(())
}

async fn bad_locations(cluster: &Cluster) -> Result<()> {
    let objects = |name: &'static str| cluster.s3_objects(name, name);
    let failed = |situation: &'static str, name: &'static str, reason: &'static str, words: &'static [&'static str]| {
        Row { situation, object: ("etcdbl", name), shape: Shape::Stalled, reason, words }
    };
    cluster.apply(&with(objects("wrong-bucket").all(), "unused", json!(null))).await?;
    cluster.apply(&with(objects("wrong-bucket").location(), "spec.s3.bucket", json!("no-such-bucket"))).await?;
    see(cluster, failed("location: no such bucket", "wrong-bucket", "AccessDenied", &["no-such-bucket"]), 2 * MINUTE)
        .await?;

    cluster.apply(&objects("wrong-key").all()).await?;
    cluster.apply(&with(objects("wrong-key").secret(), "stringData.AWS_SECRET_ACCESS_KEY", json!("wrong"))).await?;
    cluster.apply(&with(objects("wrong-key").location(), "spec.s3.prefix", json!("again"))).await?;
    see(
        cluster,
        failed("location: wrong secret key", "wrong-key", "AccessDenied", &["SignatureDoesNotMatch"]),
        2 * MINUTE,
    )
    .await?;

    let untrusted = with(objects("untrusted").location(), "spec.s3.caBundleRef", json!(null));
    cluster.apply(&objects("untrusted").secret()).await?;
    cluster.apply(&strip_nulls(untrusted)).await?;
    see(
        cluster,
        failed("location: certificate of an unknown CA", "untrusted", "AccessDenied", &["certificate", "caBundleRef"]),
        2 * MINUTE,
    )
    .await?;

    cluster.apply(&objects("no-secret").ca()).await?;
    cluster.apply(&objects("no-secret").location()).await?;
    let first = Row {
        situation: "location: Secret missing, first minute",
        object: ("etcdbl", "no-secret"),
        shape: Shape::Troubled,
        reason: "CredentialsMissing",
        words: &["Secret", "no-secret"],
    };
    see(cluster, first, 50 * MINUTE / 60).await?;
    see(
        cluster,
        failed("location: Secret missing, later", "no-secret", "CredentialsMissing", &["Secret", "no-secret"]),
        3 * MINUTE,
    )
    .await?;
    // Mended by the user: it recovers without a restart.
    cluster.apply(&objects("no-secret").secret()).await?;
    let mended = Row {
        situation: "location: Secret added",
        object: ("etcdbl", "no-secret"),
        shape: Shape::Current(None),
        reason: "Accepted",
        words: &[],
    };
    see(cluster, mended, 3 * MINUTE).await?;

    let unreachable = with(objects("unreachable").location(), "spec.s3.endpoint", json!("https://127.0.0.1:9"));
    cluster.apply(&objects("unreachable").secret()).await?;
    cluster.apply(&objects("unreachable").ca()).await?;
    cluster.apply(&unreachable).await?;
    let row = Row {
        situation: "location: unreachable",
        object: ("etcdbl", "unreachable"),
        shape: Shape::Troubled,
        reason: "LocationUnavailable",
        words: &["127.0.0.1:9"],
    };
    see(cluster, row, 2 * MINUTE).await?;
    cluster.apply(&schedule("on-unreachable", "@daily", "unreachable")).await?;
    let row = Row {
        situation: "schedule on an unreachable location",
        object: ("etcdbs", "on-unreachable"),
        shape: Shape::Troubled,
        reason: "LocationUnavailable",
        words: &["unreachable"],
    };
    see(cluster, row, 2 * MINUTE).await?;
    Ok(())
}

fn strip_nulls(mut object: Value) -> Value {
    if let Value::Object(map) = &mut object {
        map.retain(|_, value| !value.is_null());
        for value in map.values_mut() {
            *value = strip_nulls(value.take());
        }
    }
    object
}

/// A bucket that cannot do what the location asks for, and what a human asks for in the wrong words.
async fn not_to_be_had(cluster: &Cluster) -> Result<()> {
    let objects = cluster.s3_objects("locked", "x");
    cluster.apply(&objects.secret()).await?;
    cluster.apply(&objects.ca()).await?;
    let lock = json!({"mode": "Governance", "days": 1});
    cluster.apply(&with(objects.location(), "spec.s3.objectLock", lock)).await?;
    let row = Row {
        situation: "location with objectLock, bucket without",
        object: ("etcdbl", "locked"),
        shape: Shape::Stalled,
        reason: "AccessDenied",
        words: &["without object lock", "spec.s3.objectLock"],
    };
    see(cluster, row, MINUTE).await.map(drop)
}

/// A finished backup that somebody pins, and tries to delete.
async fn kept_for_ever(cluster: &Cluster, name: &str) -> Result<()> {
    let annotate = async |what: &str| cluster.kubectl(&["annotate", "--overwrite", "etcdb", name, what]).await;
    let row = |situation: &'static str, marker: &'static str, words: &'static [&'static str]| Row {
        situation,
        object: ("etcdb", name),
        shape: Shape::Current(Some(marker)),
        reason: "Succeeded",
        words,
    };
    let says = async |words: &'static str| {
        let has =
            |b: &Value| condition(b, "Ready").is_some_and(|ready| ready["message"].as_str().unwrap().contains(words));
        cluster.wait_for("etcdb", name, MINUTE, has).await
    };
    annotate("etcd.lifeboat.dev/delete-archive=yes").await?;
    says("nothing was deleted").await?;
    let words = &["nothing was deleted", "must say"];
    see(cluster, row("backup: delete-archive with a wrong value", "Complete", words), MINUTE).await?;
    annotate("etcd.lifeboat.dev/pin=audit").await?;
    let id = cluster.get("etcdb", name).await?.unwrap()["status"]["backupId"].as_str().unwrap().to_owned();
    annotate(&format!("etcd.lifeboat.dev/delete-archive={id}")).await?;
    says("is pinned").await?;
    let words = &["nothing was deleted", "pinned (audit)"];
    see(cluster, row("backup pinned, delete-archive", "Pinned", words), MINUTE).await?;
    annotate("etcd.lifeboat.dev/delete-archive-").await?;
    Ok(())
}

async fn not_supported_yet(cluster: &Cluster) -> Result<()> {
    let untrusting =
        with(cluster.s3_objects("untrusting", "x").location(), "spec.s3.insecureSkipTLSVerify", json!(true));
    cluster.apply(&untrusting).await?;
    let row = Row {
        situation: "location with insecureSkipTLSVerify",
        object: ("etcdbl", "untrusting"),
        shape: Shape::Stalled,
        reason: "NotSupported",
        words: &["insecureSkipTLSVerify"],
    };
    see(cluster, row, MINUTE).await.map(drop)
}

async fn backups(cluster: &Cluster) -> Result<()> {
    let slow = with(backup("slow", "good"), "spec.limits", json!({"bytesPerSecond": "200Ki"}));
    cluster.apply(&slow).await?;
    let row = Row {
        situation: "backup running",
        object: ("etcdb", "slow"),
        shape: Shape::Waiting,
        reason: "Running",
        words: &[],
    };
    see(cluster, row, MINUTE).await?;
    let row = Row {
        situation: "backup good",
        object: ("etcdb", "slow"),
        shape: Shape::Current(Some("Complete")),
        reason: "Succeeded",
        words: &[],
    };
    see(cluster, row, 3 * MINUTE).await?;
    cluster.kubectl(&["wait", "--for=condition=Complete", "etcdb/slow", "--timeout=5s"]).await?;
    kept_for_ever(cluster, "slow").await?;
    archives(cluster).await?;

    cluster.apply(&backup("nowhere", "no-such-location")).await?;
    let row = Row {
        situation: "backup: location missing, first minute",
        object: ("etcdb", "nowhere"),
        shape: Shape::Troubled,
        reason: "LocationMissing",
        words: &["no-such-location"],
    };
    see(cluster, row, MINUTE / 2).await?;
    let row = Row {
        situation: "backup: location missing, later",
        object: ("etcdb", "nowhere"),
        shape: Shape::Failed,
        reason: "LocationMissing",
        words: &["no-such-location"],
    };
    see(cluster, row, 2 * MINUTE).await?;
    cluster.kubectl(&["wait", "--for=condition=Failed", "etcdb/nowhere", "--timeout=5s"]).await?;

    // On a bucket that is not there: failed for good, with the store's words; schedules go on being Ready or not by
    // their location, not by their last run.
    cluster.apply(&backup("denied", "wrong-bucket")).await?;
    let row = Row {
        situation: "backup: failed for good",
        object: ("etcdb", "denied"),
        shape: Shape::Stalled,
        reason: "AccessDenied",
        words: &["no-such-bucket"],
    };
    see(cluster, row, 3 * MINUTE).await?;

    let pinned = with(backup("elsewhere", "good"), "spec.source", json!({"nodeName": "no-such-node"}));
    let pinned = with(pinned, "spec.limits", json!({"timeoutSeconds": 40}));
    cluster.apply(&pinned).await?;
    let row = Row {
        situation: "backup: no healthy member",
        object: ("etcdb", "elsewhere"),
        shape: Shape::Waiting,
        reason: "NoHealthyMember",
        words: &["no-such-node"],
    };
    see(cluster, row, MINUTE / 2).await?;
    let row = Row {
        situation: "backup: no healthy member, deadline over",
        object: ("etcdb", "elsewhere"),
        shape: Shape::Failed,
        reason: "NoHealthyMember",
        words: &["no-such-node"],
    };
    see(cluster, row, 2 * MINUTE).await?;
    Ok(())
}

/// A prefix whose owner.json lists another host, as after a restore from another cluster's backup; then taken over.
async fn archives_of_others(cluster: &Cluster) -> Result<()> {
    let uid = cluster.bed.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]).await?;
    let prefix = cluster.bed.s3().bucket_dir(BUCKET).join("theirs").join(&uid);
    std::fs::create_dir_all(&prefix)?;
    let owner = json!({"formatVersion": "1.0", "payload": {"uid": uid, "hosts": ["0123456789abcdef0123456789abcdef"]}});
    std::fs::write(prefix.join("owner.json"), owner.to_string())?;
    cluster.apply(&cluster.s3_objects("theirs", "theirs").all()).await?;
    let words: &[&str] = &["01234567", "etcd.lifeboat.dev/take-over"];
    let row = |situation: &'static str, resource: &'static str, name: &'static str, shape: Shape| Row {
        situation,
        object: (resource, name),
        shape,
        reason: "OwnedByAnother",
        words,
    };
    see(cluster, row("location: archives of other hosts", "etcdbl", "theirs", Shape::Stalled), MINUTE).await?;
    cluster.apply(&schedule("on-theirs", "@daily", "theirs")).await?;
    see(cluster, row("schedule on a location of other hosts", "etcdbs", "on-theirs", Shape::Stalled), MINUTE).await?;
    cluster.apply(&backup("to-theirs", "theirs")).await?;
    see(cluster, row("backup to a location of other hosts", "etcdb", "to-theirs", Shape::Failed), 3 * MINUTE).await?;
    ensure!(std::fs::read_dir(&prefix)?.count() == 1, "something was written beside owner.json");
    cluster.kubectl(&["annotate", "etcdbl", "theirs", &format!("etcd.lifeboat.dev/take-over={uid}")]).await?;
    let row = Row {
        situation: "location: taken over, annotation still there",
        object: ("etcdbl", "theirs"),
        shape: Shape::Current(None),
        reason: "Accepted",
        words: &["remove the annotation"],
    };
    see(cluster, row, MINUTE).await?;
    Ok(())
}

/// What the listing of a location finds out about archives.
async fn archives(cluster: &Cluster) -> Result<()> {
    cluster.apply(&backup("found", "good")).await?;
    cluster.wait_for("etcdb", "found", MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    cluster.kubectl(&["delete", "etcdb", "found"]).await?;
    cluster.relist("good").await?;
    let row = |situation, shape, reason, words| Row { situation, object: ("etcdb", "found"), shape, reason, words };
    let found = row("archive found in the bucket", Shape::Current(Some("Complete")), "ImportedFromCatalog", &[]);
    let object = see(cluster, found, MINUTE).await?;
    let manifest = cluster.place_of(&object).join("manifest.json");
    let text = std::fs::read(&manifest)?;
    std::fs::remove_file(&manifest)?;
    cluster.relist("good").await?;
    let words = &["manifest.json", "good"];
    let gone = row("archive gone from the bucket", Shape::Stalled, "ArchiveMissing", words);
    see(cluster, gone, MINUTE).await?;
    std::fs::write(&manifest, b"{}")?;
    cluster.relist("good").await?;
    let words = &["manifest.json", "not the archive that was written"];
    let altered = row("archive altered in the bucket", Shape::Stalled, "ArchiveCorrupt", words);
    see(cluster, altered, MINUTE).await?;
    std::fs::write(&manifest, text)?;
    let mut nothing = backup("nothing", "good");
    nothing["metadata"]["annotations"] = json!({"etcd.lifeboat.dev/imported": "20200101-000000-0123abcd"});
    cluster.apply(&nothing).await?;
    cluster.relist("good").await?;
    let words = &["20200101-000000-0123abcd"];
    let situation = "record of an archive that is not there";
    let nothing = row(situation, Shape::Failed, "ArchiveMissing", words);
    see(cluster, Row { object: ("etcdb", "nothing"), ..nothing }, MINUTE).await?;
    Ok(())
}

async fn directories(cluster: &Cluster) -> Result<()> {
    cluster.apply(&directory("nowhere", "usb")).await?;
    let row = Row {
        situation: "location: no such mount",
        object: ("etcdbl", "nowhere"),
        shape: Shape::Stalled,
        reason: "AccessDenied",
        words: &["usb", SHARED, "agent.directories"],
    };
    see(cluster, row, MINUTE).await?;
    let sealed = with(directory("sealed", SHARED), "spec.encryption", json!({"recipients": ["age1qqqq"]}));
    cluster.apply(&sealed).await?;
    let row = Row {
        situation: "location: recipient that is no key, first minute",
        object: ("etcdbl", "sealed"),
        shape: Shape::Troubled,
        reason: "EncryptionKeyMissing",
        words: &["recipients[0]", "age-keygen"],
    };
    see(cluster, row, MINUTE).await?;
    cluster.apply(&directory("scattered", OWN)).await?;
    let names = cluster.node_names();
    let row = Row {
        situation: "location: another directory on each master",
        object: ("etcdbl", "scattered"),
        shape: Shape::Stalled,
        reason: "VerificationFailed",
        words: &["see different directories", &names[0], &names[1], "agent.directories"],
    };
    see(cluster, row, 3 * MINUTE).await?;
    cluster.apply(&directory("shelf", SHARED)).await?;
    let row = Row {
        situation: "location: directory",
        object: ("etcdbl", "shelf"),
        shape: Shape::Current(None),
        reason: "Accepted",
        words: &[],
    };
    see(cluster, row, MINUTE).await?;
    cluster.apply(&backup("shelved", "shelf")).await?;
    let done = cluster.wait_for("etcdb", "shelved", MINUTE, |b| is_condition(b, "Complete", "True")).await?;
    let manifest = std::path::PathBuf::from(done["status"]["archive"].as_str().unwrap());
    let text: Value = serde_json::from_slice(&std::fs::read(&manifest)?)?;
    let data = manifest.with_file_name(text["payload"]["data"].as_str().unwrap());
    ensure!(text["payload"]["archive"]["sizeBytes"] == std::fs::metadata(data)?.len(), "{text:#}");
    Ok(())
}

/// A run that a newer one of its schedule replaced, and one that fails at once, again and again.
async fn replaced_and_retried(cluster: &Cluster) -> Result<()> {
    let slow = with(schedule("replace", "@yearly", "good"), "spec.concurrencyPolicy", json!("Replace"));
    let slow = with(slow, "spec.template.spec.limits", json!({"bytesPerSecond": "20Ki"}));
    cluster.apply(&slow).await?;
    let of_schedule = ["-l", "etcd.lifeboat.dev/schedule=replace"];
    let names = async || -> Result<Vec<String>> {
        let said = cluster.kubectl(&["get", "etcdb", of_schedule[0], of_schedule[1], "-o", "name"]).await?;
        Ok(said.split_whitespace().filter_map(|name| Some(name.split_once('/')?.1.to_owned())).collect())
    };
    cluster.kubectl(&["annotate", "etcdbs", "replace", "etcd.lifeboat.dev/run-now=1"]).await?;
    let first = eventually("the first run", MINUTE, async || anyhow::Ok(names().await?.pop())).await?;
    cluster.wait_for("etcdb", &first, MINUTE, |b| b.pointer("/status/execution/stage").is_some()).await?;
    cluster.kubectl(&["annotate", "--overwrite", "etcdbs", "replace", "etcd.lifeboat.dev/run-now=2"]).await?;
    let row = Row {
        situation: "backup given up for a newer one",
        object: ("etcdb", &first),
        shape: Shape::Failed,
        reason: "Superseded",
        words: &["replace-"],
    };
    see(cluster, row, MINUTE).await?;

    let hopeless = json!({"bytesPerSecond": "1Ki", "transferSeconds": 10});
    cluster.apply(&with(backup("hopeless", "good"), "spec.limits", hopeless)).await?;
    let row = Row {
        situation: "backup: limits that cannot be kept",
        object: ("etcdb", "hopeless"),
        shape: Shape::Failed,
        reason: "LimitsTooLow",
        words: &["limits.bytesPerSecond", "transferSeconds"],
    };
    see(cluster, row, MINUTE).await?;

    // More than what is under way between etcd and the agent by the time that bytes are told.
    fill(cluster, 20).await?;
    cluster.apply(&with(backup("unlucky", "good"), "spec.limits", json!({"bytesPerSecond": "200Ki"}))).await?;
    let reading = |b: &Value| b.pointer("/status/execution/bytesDone").is_some();
    let running = cluster.wait_for("etcdb", "unlucky", MINUTE, reading).await?;
    let node = running["status"]["assignment"]["nodeName"].as_str().unwrap();
    cluster.node(node)?.kill_pod("etcd", Signal::KILL)?;
    let row = Row {
        situation: "backup being retried",
        object: ("etcdb", "unlucky"),
        shape: Shape::Waiting,
        reason: "Retrying",
        words: &["attempt 1", "broke off"],
    };
    see(cluster, row, MINUTE).await?;
    Ok(())
}

async fn schedules(cluster: &Cluster) -> Result<()> {
    cluster.apply(&schedule("missing", "@daily", "no-such-location")).await?;
    let row = Row {
        situation: "schedule: location missing, first minute",
        object: ("etcdbs", "missing"),
        shape: Shape::Troubled,
        reason: "LocationMissing",
        words: &["no-such-location"],
    };
    see(cluster, row, MINUTE / 2).await?;
    cluster.apply(&with(schedule("asleep", "@daily", "good"), "spec.suspend", json!(true))).await?;
    let row = Row {
        situation: "schedule suspended",
        object: ("etcdbs", "asleep"),
        shape: Shape::Current(Some("Suspended")),
        reason: "Accepted",
        words: &[],
    };
    see(cluster, row, MINUTE).await?;
    // A schedule whose run fails while its location is fine: the run's deadline is too short for its only member.
    let failing =
        with(schedule("failing", "@yearly", "good"), "spec.template.spec.source", json!({"nodeName": "no-such-node"}));
    let failing = with(failing, "spec.template.spec.limits", json!({"timeoutSeconds": 10}));
    cluster.apply(&with(failing, "spec.runOnCreate", json!(true))).await?;
    let object =
        cluster.wait_for("etcdbs", "failing", 2 * MINUTE, |s| is_condition(s, "LastBackupSucceeded", "False")).await?;
    ensure!(object["status"]["consecutiveFailures"] == 1, "{object:#}");
    let row = Row {
        situation: "schedule, last run failed",
        object: ("etcdbs", "failing"),
        shape: Shape::Current(None),
        reason: "Accepted",
        words: &[],
    };
    see(cluster, row, MINUTE).await?;
    cluster.kubectl(&["wait", "--for=condition=LastBackupSucceeded=false", "etcdbs/failing", "--timeout=5s"]).await?;
    let row = Row {
        situation: "schedule: location missing, later",
        object: ("etcdbs", "missing"),
        shape: Shape::Stalled,
        reason: "LocationMissing",
        words: &["no-such-location"],
    };
    see(cluster, row, 2 * MINUTE).await?;
    Ok(())
}

#[tokio::test]
async fn every_situation_shows_what_the_table_says() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("situations")).await?;
    ensure!(cluster.bed.s3().bucket_dir(BUCKET).exists());
    cluster.create_location("good").await?;
    bad_schedules(&cluster).await?;
    not_to_be_had(&cluster).await?;
    not_supported_yet(&cluster).await?;
    bad_locations(&cluster).await?;
    archives_of_others(&cluster).await?;
    directories(&cluster).await?;
    schedules(&cluster).await?;
    backups(&cluster).await?;
    replaced_and_retried(&cluster).await?;
    let described = cluster.kubectl(&["describe", "etcdb", "denied"]).await?;
    ensure!(described.contains("BackupFailed") && described.contains("no-such-bucket"), "{described}");
    // Just created, operator down: nothing looks finished.
    for operator in &mut cluster.operators {
        operator.kill9().await?;
    }
    cluster.apply(&schedule("unseen", "@daily", "good")).await?;
    let unseen = cluster.get("etcdbs", "unseen").await?.unwrap();
    ensure!(
        unseen["status"] == json!({"observedGeneration": -1}) && kstatus(&unseen) == Kstatus::InProgress,
        "{unseen:#}"
    );
    let situation = "just created, operator down";
    ensure!(DOCUMENTED.contains(&format!("| {situation} | – | – | {:?} |", kstatus(&unseen))));
    SEEN.lock().unwrap().insert(situation.to_owned());
    let rows = DOCUMENTED.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| situation"));
    let documented: BTreeSet<String> = rows.map(|line| line.split('|').nth(1).unwrap().trim().to_owned()).collect();
    let seen = SEEN.lock().unwrap().clone();
    ensure!(documented == seen, "documented and not seen: {:?}", documented.difference(&seen).collect::<Vec<_>>());
    cluster.shutdown().await
}
