//! The how-to pages, tried from their text: each block of commands that is marked `<!-- try: … -->` is typed on the
//! masters that its mark names, with real etcd and an API server on every master. Only what the prose asks a person to do
//! between them (copy a file, wait) is done here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, Masters, VOLUME, line_or};
use lifeboat_e2e::pages::{commands, enter, enter_on_all};
use lifeboat_testbed::{EtcdLine, Options, Signal};

const KUBEADM: &str = include_str!("../../docs/how-to/kubeadm-by-hand.md");
const ONE_MEMBER: &str = include_str!("../../docs/how-to/one-member.md");
const ALL_LOST: &str = include_str!("../../docs/how-to/all-masters-lost.md");
const FILE: &str = "/root/etcd.db";
const SERVES: Duration = Duration::from_secs(120);

/// Step 1, and the wait after it. An API server would drain its connections for half a minute.
async fn stop(masters: &Masters) -> Result<()> {
    enter_on_all(masters, KUBEADM, "stop, every master").await?;
    for node in masters.nodes() {
        for pod in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] {
            if pod != "etcd" {
                // Once its own way of ending has begun.
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = node.kill_pod(pod, Signal::KILL);
            }
            node.pod_gone(pod, Duration::from_secs(40)).await?;
        }
    }
    Ok(())
}

/// Steps 2 to 4; the first master types what it is given.
async fn restore(masters: &Masters, on_first: &[String]) -> Result<()> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    let mut code = enter(masters, first, on_first).await?;
    code = code.lines().find(|line| line.starts_with("order ")).context("no code is shown")?.to_owned();
    for node in others {
        std::fs::copy(first.path(format!("{FILE}.order")), node.path(format!("{FILE}.order")))?;
        let said = enter(masters, node, &commands(KUBEADM, "restore, other masters")).await?;
        ensure!(said.contains(&code), "{code} is not shown by {}: {said}", node.name);
    }
    enter_on_all(masters, KUBEADM, "start etcd, every master").await?;
    masters.bed.etcd_healthy(SERVES).await?;
    let healthy = enter(masters, first, &commands(KUBEADM, "ask etcd, one master")).await?;
    ensure!(healthy.matches("is healthy").count() == masters.nodes().len(), "{healthy}");
    enter_on_all(masters, KUBEADM, "start the rest, every master").await?;
    masters.bed.api_ready(SERVES).await?;
    ensure!(masters.created().await? == ["before"]);
    masters.see_equal().await.map(drop)
}

#[tokio::test]
async fn the_pages_for_administrators_do_what_they_say() -> Result<()> {
    let etcd_line = line_or(EtcdLine::V3_6)?;
    let options = Options { etcd_line, api_servers: 3, scheduler: true, ..Options::named("by-hand") };
    let masters = Masters::start_on(options, Build::Release).await?;
    let [first, second, _] = masters.nodes() else { unreachable!("three masters") };
    masters.create("before").await?;
    enter(&masters, second, &commands(KUBEADM, "one master")).await?;
    masters.create("after").await?;
    let made = std::fs::read_dir(second.path("/var/backups"))?.next().context("no backup was made")??.path();
    for node in masters.nodes() {
        std::fs::copy(&made, node.path(FILE))?;
    }

    stop(&masters).await?;
    restore(&masters, &commands(KUBEADM, "restore, first master")).await?;

    for node in masters.nodes() {
        enter(&masters, node, &commands(KUBEADM, "supervise, every master")).await?;
        masters.wait_supervised(node, Build::Release).await?;
    }
    masters.bed.etcd_healthy(SERVES).await?;
    enter(&masters, second, &commands(ONE_MEMBER, "damaged master")).await?;
    masters.see_equal().await?;

    // All is lost but the file, the manifests and the PKI.
    stop(&masters).await?;
    for node in masters.nodes() {
        std::fs::remove_file(node.path(format!("{FILE}.order")))?;
        for entry in std::fs::read_dir(node.path(VOLUME))?.flatten() {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
    }
    let mut lost = commands(ALL_LOST, "lost, first master");
    for (number, node) in masters.nodes().iter().enumerate() {
        let (from, to) =
            (format!("m{number}=https://10.0.1.1{number}:"), format!("{}=https://{}:", node.name, node.ip));
        ensure!(lost[0].contains(&from), "{lost:?}");
        lost[0] = lost[0].replace(&from, &to);
    }
    restore(&masters, &lost).await?;
    ensure!(!masters.told(first).await?.is_learner);
    masters.bed.shutdown().await
}
