//! A store that is ill while backups run: a sick front stands before the real S3 server. Every run ends in one state, etcd is
//! never held up, nothing half-made is listed or left, and people are told what to do. Rows of docs/faults.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use lifeboat_e2e::bucket::look_into;
use lifeboat_e2e::cluster::{Cluster, Setup, condition, is_condition};
use lifeboat_e2e::command_line::CommandLine;
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::manifests::{S3Objects, schedule};
use lifeboat_e2e::runs::{backup_on, see_complete};
use lifeboat_testbed::{Fault, Kind, S3Front};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

fn no_attempt_failed(done: &Value) -> bool {
    done["status"]["attempts"].as_array().is_none_or(Vec::is_empty)
}

async fn every_third_request_refused(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("busy").await?;
    front.set(Fault::SlowDown { every: 3 });
    let done = see_complete(cluster, &backup_on("busy", "busy", None, &json!({})), "busy").await?;
    ensure!(no_attempt_failed(&done), "{done:#}");
    ensure!(front.happened() >= 3, "only {} requests were refused", front.happened());
    Ok(())
}

async fn connections_reset_in_the_middle_of_parts(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("resets").await?;
    front.set(Fault::Reset { after_bytes: 3 * MIB }.times(4));
    let done = see_complete(cluster, &backup_on("resets", "resets", None, &json!({})), "resets").await?;
    ensure!(no_attempt_failed(&done), "parts are to be tried again, not the whole: {done:#}");
    ensure!(front.happened() == 4, "{} resets", front.happened());
    Ok(())
}

async fn completion_that_errs_but_lands(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("complete").await?;
    front.set(Fault::ErrButLand.on(Kind::Complete).times(1));
    let done = see_complete(cluster, &backup_on("complete", "complete", None, &json!({})), "complete").await?;
    ensure!(no_attempt_failed(&done), "{done:#}");
    ensure!(front.happened() == 1 && front.requests(Kind::Complete) >= 2, "{:?}", front.seen());
    Ok(())
}

async fn manifest_that_errs_but_lands(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("manifest").await?;
    front.set(Fault::ErrButLand.on(Kind::WriteManifest).times(1));
    let done = see_complete(cluster, &backup_on("manifest", "manifest", None, &json!({})), "manifest").await?;
    ensure!(front.happened() == 1, "{:?}", front.seen());
    println!("manifest: {:#}", done["status"]["attempts"]);
    Ok(())
}

async fn upload_that_arrives_changed(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("changed").await?;
    front.set(Fault::CorruptUpload.on(Kind::Part).times(2));
    let done = see_complete(cluster, &backup_on("changed", "changed", None, &json!({})), "changed").await?;
    ensure!(no_attempt_failed(&done), "{done:#}");
    ensure!(front.happened() == 2, "{:?}", front.seen());
    // Nothing of it is in the archive.
    let said = command_line(cluster, &front, "changed")?.backup(&["verify", "latest"]).await?;
    ensure!(said.0 == Some(0) && said.1.contains("whole and sound"), "{said:?}");
    Ok(())
}

async fn clock_that_is_off(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("clock").await?;
    front.set(Fault::Skew { seconds: 600 });
    let skewed = |l: &Value| l["status"]["clockSkewSeconds"].as_i64().is_some_and(|skew| (590..=610).contains(&skew));
    // The next probe comes within a few minutes; a change of the spec asks for it at once.
    let objects = S3Objects { endpoint: &front.endpoint, bucket: "clock", ..cluster.s3_objects("clock", "clock-2") };
    cluster.apply(&objects.location()).await?;
    cluster.wait_for("etcdbl", "clock", 2 * MINUTE, skewed).await?;
    ensure!(front.happened() > 0);
    Ok(())
}

/// Away in every way a store can be, and back: locations and schedules say so and recover by themselves.
async fn away_and_back(cluster: &Cluster) -> Result<()> {
    for (name, fault, words) in [
        ("refuses", Fault::Refuse, "refused"),
        ("silent", Fault::Stall { after_bytes: 0 }, "timed out"),
        ("five-hundred", Fault::SlowDown { every: 1 }, "SlowDown"),
    ] {
        let front = cluster.create_sick_location(name).await?;
        front.set(fault);
        cluster.apply(&schedule(name, "@daily", name)).await?;
        let objects = S3Objects { endpoint: &front.endpoint, bucket: name, ..cluster.s3_objects(name, "moved") };
        cluster.apply(&objects.location()).await?;
        let away = |object: &Value| {
            condition(object, "Ready")
                .is_some_and(|ready| ready["status"] == "False" && ready["reason"] == "LocationUnavailable")
                && is_condition(object, "Reconciling", "True")
        };
        let location = cluster.wait_for("etcdbl", name, 3 * MINUTE, away).await?;
        let message = condition(&location, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
        println!("{name}: {message}");
        ensure!(message.contains(words), "{name}: {message}");
        cluster.wait_for("etcdbs", name, MINUTE, away).await?;
        ensure!(front.happened() > 0, "{name}");
        front.set(Fault::Healthy);
        cluster.wait_for("etcdbl", name, 3 * MINUTE, |l| is_condition(l, "Ready", "True")).await?;
        cluster.wait_for("etcdbs", name, MINUTE, |s| is_condition(s, "Ready", "True")).await?;
    }
    Ok(())
}

/// The store answers, and the region it was asked in is not its own.
async fn region_that_is_wrong(cluster: &Cluster) -> Result<()> {
    let mut objects = cluster.s3_objects("elsewhere", "elsewhere").all();
    objects["items"][2]["spec"]["s3"]["region"] = json!("mars-north-1");
    cluster.apply(&objects).await?;
    let refused = |l: &Value| condition(l, "Ready").is_some_and(|ready| ready["reason"] == "AccessDenied");
    let location = cluster.wait_for("etcdbl", "elsewhere", 2 * MINUTE, refused).await?;
    let message = condition(&location, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    println!("region: {message}");
    ensure!(is_condition(&location, "Stalled", "True") && message.contains("spec.s3.region"), "{message}");
    Ok(())
}

/// A Secret with half of what it needs.
async fn key_that_is_missing(cluster: &Cluster) -> Result<()> {
    let objects = cluster.s3_objects("half", "half");
    let mut secret = objects.secret();
    secret["stringData"].as_object_mut().unwrap().remove("AWS_SECRET_ACCESS_KEY");
    for object in [secret, objects.ca(), objects.location()] {
        cluster.apply(&object).await?;
    }
    let missing = |l: &Value| condition(l, "Ready").is_some_and(|ready| ready["reason"] == "CredentialsMissing");
    let location = cluster.wait_for("etcdbl", "half", 2 * MINUTE, missing).await?;
    let message = condition(&location, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    println!("half a Secret: {message}");
    ensure!(message.contains("AWS_SECRET_ACCESS_KEY") && message.contains("half"), "{message}");
    Ok(())
}

async fn name_that_does_not_resolve(cluster: &Cluster) -> Result<()> {
    let objects = S3Objects { endpoint: "https://store.invalid", ..cluster.s3_objects("unresolvable", "unresolvable") };
    cluster.apply(&objects.all()).await?;
    let location = cluster
        .wait_for("etcdbl", "unresolvable", 2 * MINUTE, |l| {
            condition(l, "Ready").is_some_and(|ready| ready["reason"] == "LocationUnavailable")
                && is_condition(l, "Reconciling", "True")
        })
        .await?;
    let message = condition(&location, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    println!("unresolvable: {message}");
    ensure!(message.contains("store.invalid"), "{message}");
    Ok(())
}

/// The command line on a bucket behind its front.
fn command_line(cluster: &Cluster, front: &S3Front, bucket: &str) -> Result<CommandLine> {
    let objects = S3Objects { endpoint: &front.endpoint, bucket, ..cluster.s3_objects(bucket, bucket) };
    CommandLine::set_up(cluster, &objects)
}

/// Downloads that break off go on; ones that are changed are called corrupt; no wrong file is ever left.
async fn downloads(cluster: &Cluster) -> Result<()> {
    let front = cluster.create_sick_location("downloads").await?;
    let done = see_complete(cluster, &backup_on("downloads", "downloads", None, &json!({})), "downloads").await?;
    let lifeboat = command_line(cluster, &front, "downloads")?;

    front.set(Fault::Truncate { after_bytes: MIB }.on(Kind::ReadArchive).times(3));
    let (code, said) = lifeboat.backup(&["fetch", "latest", "--file", "cut.db"]).await?;
    ensure!(code == Some(0) && front.happened() == 3, "{code:?} {said} {:?}", front.seen());
    let size = std::fs::metadata(lifeboat.dir.join("cut.db"))?.len();
    ensure!(done["status"]["sizeBytes"] == size, "{size}: {:#}", done["status"]);

    front.set(Fault::Reset { after_bytes: 3 * MIB }.times(3));
    let (code, said) = lifeboat.backup(&["fetch", "latest", "--file", "reset.db"]).await?;
    ensure!(code == Some(0) && front.happened() == 3, "{code:?} {said} {:?}", front.seen());
    ensure!(std::fs::read(lifeboat.dir.join("cut.db"))? == std::fs::read(lifeboat.dir.join("reset.db"))?);

    front.set(Fault::CorruptDownload.on(Kind::ReadArchive));
    let (code, said) = lifeboat.backup(&["fetch", "latest", "--file", "changed.db"]).await?;
    println!("changed on the way: {code:?} {said}");
    ensure!(code == Some(1) && said.contains("corrupt") && front.happened() > 0, "{code:?} {said}");

    // Ctrl-C in the middle, at a store that has just fallen silent.
    front.set(Fault::Limit { bytes_per_second: MIB });
    let begun = std::time::Instant::now();
    let is_begun = || {
        let is_there = std::fs::metadata(lifeboat.dir.join("left.db.part")).is_ok_and(|part| part.len() > 0);
        if is_there {
            // As good as silent: the next bytes take hours.
            front.set(Fault::Limit { bytes_per_second: 1 });
        }
        is_there
    };
    let (code, said) = lifeboat.interrupted(&["fetch", "latest", "--file", "left.db"], is_begun).await?;
    println!("interrupted after {:?}: {code:?} {said}", begun.elapsed());
    ensure!(code == Some(1) && said.contains("was cancelled"), "{code:?} {said}");

    // A store that is away for good: an error in words, within its patience, and no file.
    front.set(Fault::Healthy);
    let contents = look_into(cluster, "downloads", "downloads")?;
    let archive = contents.named.first().unwrap();
    let mut bytes = std::fs::read(archive)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(archive, &bytes)?;
    let (code, said) = lifeboat.backup(&["verify", "latest"]).await?;
    println!("flipped in the bucket: {code:?} {said}");
    ensure!(code == Some(1) && said.contains("the archive is corrupt"), "{code:?} {said}");

    std::fs::write(archive, &bytes[..middle])?;
    let (code, said) = lifeboat.backup(&["fetch", "latest", "--file", "short.db"]).await?;
    println!("cut in the bucket: {code:?} {said}");
    ensure!(code == Some(1) && said.contains("corrupt"), "{code:?} {said}");

    std::fs::remove_file(archive)?;
    let (code, said) = lifeboat.backup(&["verify", "latest"]).await?;
    println!("gone from the bucket: {code:?} {said}");
    ensure!(code == Some(1) && said.contains("does not exist") && !said.contains("corrupt"), "{code:?} {said}");
    for file in std::fs::read_dir(&lifeboat.dir)? {
        let name = file?.file_name().into_string().unwrap();
        ensure!(["keys", "location.yaml", "cut.db", "reset.db"].contains(&name.as_str()), "{name} was left");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_get_through_to_a_store_that_errs() -> Result<()> {
    let cluster = Cluster::start(Setup::named("sickstore")).await?;
    fill(&cluster, 64).await?;
    // Three masters, three runs at once.
    let first = async {
        every_third_request_refused(&cluster).await?;
        manifest_that_errs_but_lands(&cluster).await
    };
    let second = async {
        connections_reset_in_the_middle_of_parts(&cluster).await?;
        completion_that_errs_but_lands(&cluster).await
    };
    let third = async {
        upload_that_arrives_changed(&cluster).await?;
        clock_that_is_off(&cluster).await
    };
    let described_wrongly = async {
        name_that_does_not_resolve(&cluster).await?;
        region_that_is_wrong(&cluster).await?;
        key_that_is_missing(&cluster).await
    };
    tokio::try_join!(first, second, third, away_and_back(&cluster), described_wrongly)?;
    downloads(&cluster).await?;
    cluster.shutdown().await
}
