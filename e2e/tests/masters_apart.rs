//! The administrator's tools where etcd is not as kubeadm makes it: the WAL on a mount of its own, and etcd as another user than root.
//! Restored by hand, killed between the exchange of the WAL and that of the data, restored under the supervisor, one member
//! re-initialised. Runs a build that can be told where to kill itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, MANIFESTS_OFF, Masters, VOLUME, line_or};
use lifeboat_testbed::{EtcdLine, Node, Options};

/// A directory of the host that etcd's container has as a volume of its own.
const WAL_VOLUME: &str = "/var/lib/etcd-wal";
/// Not the volume's root, which nothing can take the place of.
const WAL: &str = "/var/lib/etcd-wal/wal";
/// Who etcd runs as.
const USER: u32 = 4200;
const FILE: &str = "/var/lib/lifeboat/etcd.db";
const ORDER: &str = "/var/lib/lifeboat/etcd.db.order";
const SERVES: Duration = Duration::from_secs(120);

/// Gives etcd's files to its user, while it is stopped, and tells so in its manifest, with the volume of the WAL.
async fn make_rootless(masters: &Masters, node: &Node) -> Result<()> {
    let mine = format!(
        "chown -R {USER}:{USER} {VOLUME} {WAL_VOLUME} && chmod 700 {VOLUME} {WAL_VOLUME} && chown -R {USER} /etc/kubernetes/pki/etcd"
    );
    masters.run_program(node, "sh", &["-c", &mine]).await?.done()?;
    let path = node.path(MANIFESTS_OFF).join("etcd.yaml");
    let mut text = std::fs::read_to_string(&path)?;
    for (place, more) in [
        ("\n  securityContext:\n", format!("    runAsUser: {USER}\n    runAsGroup: {USER}\n")),
        ("\n    volumeMounts:\n", format!("    - mountPath: {WAL_VOLUME}\n      name: etcd-wal\n")),
        ("\n  volumes:\n", format!("  - hostPath: {{path: {WAL_VOLUME}, type: Directory}}\n    name: etcd-wal\n")),
    ] {
        ensure!(text.matches(place).count() == 1, "{place:?}: {text}");
        text = text.replace(place, &format!("{place}{more}"));
    }
    Ok(std::fs::write(path, text)?)
}

/// Everything that etcd writes is its user's.
fn see_owned(node: &Node) -> Result<()> {
    for path in ["member", "member/snap", "member/snap/db"].map(|name| Path::new(VOLUME).join(name)) {
        see_owner(&node.path(path))?;
    }
    for entry in std::fs::read_dir(node.path(WAL))?.flatten() {
        see_owner(&entry.path())?;
    }
    see_owner(&node.path(WAL))
}

fn see_owner(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    ensure!((metadata.uid(), metadata.gid()) == (USER, USER), "{} is {}'s", path.display(), metadata.uid());
    Ok(())
}

fn copy_from_first(masters: &Masters, file: &str) -> Result<()> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    for node in others {
        std::fs::copy(first.path(file), node.path(file))?;
    }
    Ok(())
}

/// What is true once all were restored; gives the cluster.
async fn see_restored(masters: &Masters, before: u64) -> Result<u64> {
    masters.start_etcd().await?;
    let cluster = masters.see_equal().await?;
    ensure!(cluster != before, "the cluster's identity is the old one");
    for node in masters.nodes() {
        see_owned(node)?;
        let result = masters.read_json(node, "restore-result")?;
        ensure!(result["state"] == "Restored", "{result:#}");
        let old = result["oldData"].as_str().context("no old data")?;
        ensure!(node.path(VOLUME).join(old).join("member/snap/db").exists(), "{old} of {} is gone", node.name);
        let old = result["oldWal"].as_str().context("no old WAL")?;
        let kept = node.path(WAL_VOLUME).join(old);
        ensure!(std::fs::read_dir(&kept)?.next().is_some(), "{} is empty", kept.display());
    }
    masters.start_api().await?;
    ensure!(masters.created().await? == ["before"]);
    std::fs::remove_file(masters.nodes()[0].path(ORDER))?;
    Ok(cluster)
}

async fn restored_by_hand(masters: &Masters, before: u64) -> Result<u64> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.stop_all().await?;
    masters.crash_at(first, &["WalIsSwapped"])?;
    masters.restore_until_crash(first, &["--file", FILE, "--perform"]).await?.ended(-1, &["order "])?;
    ensure!(masters.crashes_left(first).is_empty(), "it was never met");
    masters.restore(first, &["--abort"]).await?.refused(&["cannot be taken back any more"])?;
    masters.restore(first, &["--perform"]).await?.done()?;
    copy_from_first(masters, ORDER)?;
    for node in others {
        masters.restore(node, &["--file", FILE, "--order", ORDER, "--perform"]).await?.done()?;
    }
    see_restored(masters, before).await
}

async fn restored_by_the_supervisor(masters: &Masters, before: u64) -> Result<u64> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.stop_all().await?;
    masters.restore(first, &["--file", FILE]).await?.done()?;
    copy_from_first(masters, ORDER)?;
    for node in others {
        masters.restore(node, &["--file", FILE, "--order", ORDER]).await?.done()?;
    }
    see_restored(masters, before).await
}

#[tokio::test]
async fn a_wal_of_its_own_and_a_user_of_its_own_go_with_the_data() -> Result<()> {
    let options = Options {
        etcd_line: line_or(EtcdLine::V3_7)?,
        etcd_args: vec![("wal-dir".to_owned(), WAL.to_owned())],
        node_dirs: vec![PathBuf::from(WAL_VOLUME)],
        ..Options::named("apart")
    };
    let masters = Masters::start_on(options, Build::WithCrashPoints).await?;
    let [first, second, _] = masters.nodes() else { unreachable!("three masters") };
    masters.create("before").await?;
    masters.stop_all().await?;
    for node in masters.nodes() {
        make_rootless(&masters, node).await?;
    }
    masters.start_etcd().await?;
    masters.start_api().await?;
    masters.run(first, &["etcd", "backup", "--file", FILE]).await?.done()?;
    copy_from_first(&masters, FILE)?;
    masters.create("after").await?;
    let cluster = masters.see_equal().await?;
    let cluster = restored_by_hand(&masters, cluster).await.context("by hand")?;

    for node in masters.nodes() {
        masters.run(node, &["etcd-pod", "install"]).await?.done()?;
        // It does not kill itself.
        masters.wait_supervised(node, Build::Release).await?;
    }
    masters.bed.etcd_healthy(SERVES).await?;
    let old = masters.told(second).await?.member;
    let said = masters.run(second, &["etcd", "reinitialize", "--wait", "-o", "json"]).await?.done()?;
    ensure!(said.json()?["outcome"] == "Done", "{said:?}");
    ensure!(masters.see_equal().await? == cluster && masters.told(second).await?.member != old);
    see_owned(second)?;

    masters.create("after").await?;
    restored_by_the_supervisor(&masters, cluster).await.context("by the supervisor")?;
    masters.bed.shutdown().await
}
