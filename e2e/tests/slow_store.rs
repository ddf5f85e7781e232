//! A store that is slower than etcd, or silent: etcd is read at its own pace and let go, the spool takes what the store does not,
//! and goes when the run ends. Rows of docs/faults.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::bucket::look_into;
use lifeboat_e2e::cluster::{Cluster, Setup, is_condition, is_terminal};
use lifeboat_e2e::fill::fill;
use lifeboat_e2e::runs::{SPOOL, backup_on, see_complete, see_failed, see_no_spool, spooled, spooled_for};
use lifeboat_testbed::{Fault, Kind};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// The smallest database that the tests are worth something with.
const DATABASE: u64 = 200 * MIB;

/// Waits until the agent says that etcd was read and the store takes the rest, or that the run is over: how long that took.
/// Told by heartbeats, so up to ten seconds late.
async fn see_read(cluster: &Cluster, name: &str) -> Result<Duration> {
    let begun = Instant::now();
    let is_read = |b: &Value| is_terminal(b) || b.pointer("/status/execution/stage") == Some(&json!("Uploading"));
    cluster.wait_for("etcdb", name, 3 * MINUTE, is_read).await?;
    Ok(begun.elapsed())
}

/// Median time of a write to etcd.
async fn put_time(cluster: &Cluster, node: &str) -> Result<Duration> {
    let node = cluster.node(node)?;
    let mut times = vec![];
    for index in 0..15 {
        let begun = Instant::now();
        cluster.bed.etcdctl(node, &["put", "/latency", &index.to_string()]).await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// 1 MiB a second: etcd is let go long before the upload ends; what waits lies in the spool, and nothing afterwards.
async fn one_mebibyte_a_second(cluster: &Cluster, node: &str) -> Result<()> {
    let front = cluster.create_sick_location("slow").await?;
    let usual = put_time(cluster, node).await?;
    front.set(Fault::Limit { bytes_per_second: MIB });
    let object = backup_on("slow", "slow", Some(node), &json!({}));
    let begun = Instant::now();
    let watching = async {
        let held = see_read(cluster, "slow").await?;
        let (let_go, uploaded) = (begun.elapsed(), front.seen().bytes_up);
        let waiting = spooled_for(cluster, "slow").await?;
        let meanwhile = put_time(cluster, node).await?;
        anyhow::Ok((held, let_go, uploaded, waiting, meanwhile))
    };
    let (done, watched) = tokio::join!(see_complete(cluster, &object, "slow"), watching);
    let ((held, let_go, uploaded, waiting, meanwhile), done, took) = (watched?, done?, begun.elapsed());
    println!(
        "1 MiB/s: etcd held {held:?}, let go after {let_go:?} with {} MiB uploaded and {} MiB spooled; all done after \
         {took:?}; a put {usual:?} before, {meanwhile:?} meanwhile",
        uploaded / MIB,
        waiting / MIB
    );
    let stored = done["status"]["storedSizeBytes"].as_u64().unwrap();
    ensure!(done["status"]["sizeBytes"].as_u64().unwrap() >= DATABASE, "{done:#}");
    ensure!(took.as_secs() >= stored / MIB * 9 / 10, "the front limits nothing: {took:?} for {stored} bytes");
    ensure!(uploaded < stored / 2, "etcd was held while {uploaded} of {stored} bytes went up");
    ensure!(took > let_go + Duration::from_secs(20), "let go after {let_go:?} of {took:?}");
    ensure!(waiting > 8 * MIB, "no spool was needed: {waiting}");
    ensure!(
        meanwhile < 2 * usual + Duration::from_millis(50),
        "puts: {usual:?}, {meanwhile:?} while the store is slow"
    );
    ensure!(done["status"]["attempts"].is_null(), "{done:#}");
    Ok(())
}

/// The store falls silent in the middle of a part and comes back: etcd is let go meanwhile, the run goes on.
async fn silent_and_back(cluster: &Cluster, node: &str) -> Result<()> {
    let front = cluster.create_sick_location("stall").await?;
    front.set(Fault::Stall { after_bytes: 4 * MIB });
    let object = backup_on("stall", "stall", Some(node), &json!({"transferSeconds": 120}));
    let watching = async {
        let held = see_read(cluster, "stall").await?;
        ensure!(front.happened() > 0, "nothing stalled");
        ensure!(front.seen().bytes_up < 8 * MIB, "{:?}", front.seen());
        let waiting = spooled_for(cluster, "stall").await?;
        let during = cluster.get("etcdb", "stall").await?.context("gone")?;
        ensure!(!is_terminal(&during), "{during:#}");
        front.set(Fault::Healthy);
        anyhow::Ok((held, waiting))
    };
    let (done, watched) = tokio::join!(see_complete(cluster, &object, "stall"), watching);
    let (held, waiting) = watched?;
    println!("silent store: etcd held {held:?}, {} MiB spooled when it was let go", waiting / MIB);
    ensure!(held < Duration::from_secs(120) && waiting > 16 * MIB, "held {held:?}, spooled {waiting}");
    ensure!(done?["status"]["attempts"].is_null());
    Ok(())
}

/// A spool too small for a store that does not take anything: said before etcd's own limit, nothing listed.
async fn silent_with_a_small_spool(cluster: &Cluster, node: &str) -> Result<()> {
    let front = cluster.create_sick_location("small").await?;
    front.set(Fault::Stall { after_bytes: MIB });
    let mut object = backup_on("small", "small", Some(node), &json!({"transferSeconds": 40, "spool": "8Mi"}));
    object["spec"]["backoffLimit"] = json!(0);
    let healing = async {
        let held = see_read(cluster, "small").await?;
        let most = spooled_for(cluster, "small").await?;
        anyhow::Ok((held, most))
    };
    let failing = see_failed(cluster, &object, "small", "InsufficientSpool", &["limits.spool", "slows the store down"]);
    let (contents, held) = tokio::join!(failing, healing);
    let (contents, (held, most)) = (contents?, held?);
    println!("small spool: etcd held {held:?}, {most} bytes spooled");
    // The reason says that the spool was full and not that the time was up; the rest is asking for the run.
    ensure!(held < Duration::from_secs(60) && most <= 8 * MIB, "held {held:?}, spooled {most}");
    ensure!(contents.orphans.is_empty(), "{contents:#?}");
    ensure!(front.happened() > 0);
    Ok(())
}

/// A store that never comes back: the run ends at its own limit with words; what was begun cannot be thrown away.
async fn silent_for_ever(cluster: &Cluster, node: &str) -> Result<()> {
    let front = cluster.create_sick_location("never").await?;
    front.set(Fault::Stall { after_bytes: MIB });
    let object = backup_on("never", "never", Some(node), &json!({"timeoutSeconds": 75}));
    let contents = see_failed(cluster, &object, "never", "DeadlineExceeded", &["timeoutSeconds"]).await?;
    ensure!(contents.orphans.is_empty(), "{contents:#?}");
    // The store could not be told; once it hears again, whoever succeeds next clears up (see docs/limitations.md).
    ensure!(contents.uploads.len() == 1, "{contents:#?}");
    Ok(())
}

/// The spool's file system is full: the run fails with words, a fifth stays free, nothing else on the host is touched.
async fn full_disk(cluster: &Cluster, node: &str) -> Result<()> {
    let machine = cluster.node(node)?;
    let inside = async |program: &str, args: &[&str]| -> Result<String> {
        let output = machine.command(program).args(args).output().await?;
        ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let front = cluster.create_sick_location("full").await?;
    front.set(Fault::Stall { after_bytes: MIB });
    machine.mount_tmpfs(SPOOL, "24m").await?;
    let used = async || -> Result<u64> {
        let said = inside("df", &["--output=pcent", SPOOL]).await?;
        Ok(said.lines().nth(1).context("df")?.trim().trim_end_matches('%').parse()?)
    };
    let mut object = backup_on("full", "full", Some(node), &json!({"transferSeconds": 30}));
    object["spec"]["backoffLimit"] = json!(0);
    let watching = async {
        let mut most = 0;
        loop {
            most = most.max(used().await?);
            if cluster.get("etcdb", "full").await?.is_some_and(|b| is_terminal(&b)) {
                return anyhow::Ok(most);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let failing = see_failed(cluster, &object, "full", "InsufficientSpool", &["a fifth of its file system stays free"]);
    let (contents, most) = tokio::join!(failing, watching);
    let (contents, most) = (contents?, most?);
    println!("full disk: at most {most} % used");
    ensure!(most > 30 && most <= 80, "{most} % of the spool's file system used");
    ensure!(contents.orphans.is_empty(), "{contents:#?}");
    // With a store that takes parts, the same small disk is enough. In a bucket of its own: the silent one could not be told
    // to throw away what was begun.
    let _healthy = cluster.create_sick_location("after").await?;
    let done = see_complete(cluster, &backup_on("after", "after", Some(node), &json!({})), "after").await?;
    see_no_spool(cluster, &done).await?;
    inside("umount", &[SPOOL]).await?;
    Ok(())
}

/// An agent dies while the store is silent: its successor takes the run up, and clears away what was begun.
async fn agent_killed_while_the_store_is_silent(cluster: &mut Cluster, node: &str) -> Result<()> {
    let front = cluster.create_sick_location("orphaned").await?;
    front.set(Fault::Stall { after_bytes: 4 * MIB });
    cluster.apply(&backup_on("orphaned", "orphaned", Some(node), &json!({}))).await?;
    see_read(cluster, "orphaned").await?;
    let begun = front.requests(Kind::Begin);
    ensure!(begun == 1, "{begun} uploads");
    cluster.agents.get_mut(node).unwrap().kill9().await?;
    front.set(Fault::Healthy);
    cluster.start_agent(node).await?;
    let done = cluster.wait_for("etcdb", "orphaned", 4 * MINUTE, is_terminal).await?;
    ensure!(is_condition(&done, "Complete", "True"), "{done:#}");
    let contents = look_into(cluster, "orphaned", "orphaned")?;
    ensure!(contents.is_one_backup(), "{contents:#?}");
    ensure!(spooled(cluster).is_empty(), "{:?}", spooled(cluster));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_or_silent_store_never_holds_up_etcd() -> Result<()> {
    let mut cluster = Cluster::start(Setup::named("slowstore")).await?;
    // The reserve of a fifth is of the whole file system: on a fuller disk nothing would be spooled at all.
    for node in cluster.bed.nodes() {
        node.mount_tmpfs(SPOOL, "512m").await?;
    }
    fill(&cluster, 210).await?;
    let nodes: Vec<String> = cluster.node_names();
    let [first, second, third] = &nodes[..] else { panic!("three masters") };
    let on_second = async {
        silent_and_back(&cluster, second).await?;
        silent_for_ever(&cluster, second).await
    };
    let on_third = async {
        silent_with_a_small_spool(&cluster, third).await?;
        full_disk(&cluster, third).await
    };
    tokio::try_join!(one_mebibyte_a_second(&cluster, first), on_second, on_third)?;
    agent_killed_while_the_store_is_silent(&mut cluster, first).await?;
    let all: Vec<Value> = cluster.list("etcdb").await?;
    ensure!(all.iter().all(is_terminal), "{all:#?}");
    cluster.shutdown().await
}
