//! Verification level Members on a real cluster of three: agreement, a member that holds other data, and what is said
//! of it until it is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use lifeboat_e2e::cluster::{BUCKET, Cluster, Setup, condition, is_condition, is_terminal};
use lifeboat_e2e::manifests::backup;
use lifeboat_e2e::stock_tools::s3cmd;
use lifeboat_testbed::{Node, Options};
use serde_json::{Value, json};

/// A value that no other object holds, and the same with one other letter.
const GOOD: &[u8] = b"a-value-that-stands-nowhere-else-good";
const BAD: &[u8] = b"a-value-that-stands-nowhere-else-gooD";

fn compared(name: &str, node: &str) -> Value {
    let mut object = backup(name, "offsite");
    object["spec"]["verification"] = json!("Members");
    object["spec"]["source"] = json!({"nodeName": node});
    object["spec"]["backoffLimit"] = json!(0);
    object
}

/// Replaces a value in a member's database file while it is down; bolt's pages carry no checksum.
async fn alter(cluster: &Cluster, node: &Node, from: &[u8], to: &[u8]) -> Result<()> {
    node.stop_pod("etcd").await?;
    let path = node.path("/var/lib/etcd/member/snap/db");
    let mut bytes = std::fs::read(&path)?;
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter_map(|(at, window)| (window == from).then_some(at)).collect();
    ensure!(!places.is_empty(), "the value is not in {}", path.display());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    std::fs::write(&path, bytes)?;
    node.start_pod("etcd").await?;
    cluster.bed.etcd_healthy(Duration::from_secs(60)).await
}

#[tokio::test]
async fn a_member_with_other_data_fails_the_backup_and_is_named_until_it_is_mended() -> Result<()> {
    // kubeadm has members compare themselves as they start; the one that differs would not come up at all.
    let unchecked = vec![("feature-gates".to_owned(), "InitialCorruptCheck=false".to_owned())];
    let bed = Options { etcd_args: unchecked, ..Options::default() };
    let cluster = Cluster::start(Setup { bed, ..Setup::named("members") }).await?;
    let value = format!("--from-literal=value={}", std::str::from_utf8(GOOD)?);
    cluster.bed.kubectl(&["-n", "default", "create", "configmap", "marked", &value]).await?;
    cluster.create_location("offsite").await?;
    let names = cluster.node_names();
    cluster.apply(&compared("equal", &names[0])).await?;
    let done = cluster.wait_for("etcdb", "equal", Duration::from_secs(120), is_terminal).await?;
    ensure!(done["status"]["verification"]["level"] == "Members", "{done:#}");
    ensure!(is_condition(&done, "Verified", "True"), "{done:#}");

    let last = cluster.node(&names[2])?;
    alter(&cluster, last, GOOD, BAD).await?;
    cluster.wait_members_ready().await?;
    cluster.apply(&compared("diverged", &names[0])).await?;
    let failed = cluster.wait_for("etcdb", "diverged", Duration::from_secs(120), is_terminal).await?;
    ensure!(is_condition(&failed, "Failed", "True"), "{failed:#}");
    let ready = condition(&failed, "Ready").unwrap().to_string();
    ensure!(ready.contains("VerificationFailed") && names.iter().all(|name| ready.contains(name.as_str())), "{ready}");
    let listed = s3cmd(&cluster, &["ls", "--recursive", &format!("s3://{BUCKET}/offsite/")]).await?;
    ensure!(listed.matches("manifest.json").count() == 1 && listed.matches(".db.zst").count() == 1, "{listed}");
    let events = cluster.kubectl(&["get", "events", "-o", "json"]).await?;
    ensure!(events.contains("VerificationFailed"), "no event: {events}");
    let is_named = |member: &Value| {
        let ready = condition(member, "Ready").cloned().unwrap_or_default();
        ready["status"] == "False" && ready["reason"] == "VerificationFailed"
    };
    cluster.wait_for("etcdm", &names[0], Duration::from_secs(60), is_named).await?;

    alter(&cluster, last, BAD, GOOD).await?;
    cluster.apply(&compared("mended", &names[0])).await?;
    let done = cluster.wait_for("etcdb", "mended", Duration::from_secs(120), is_terminal).await?;
    ensure!(done["status"]["verification"]["level"] == "Members", "{done:#}");
    cluster.wait_for("etcdm", &names[0], Duration::from_secs(60), |m| is_condition(m, "Ready", "True")).await?;
    cluster.shutdown().await
}
