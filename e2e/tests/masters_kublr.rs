//! The page "Kublr, by hand", tried from its text on three masters that imitate Kublr's as its manual describes them (`kublr/`): names,
//! peer URLs, certificates, data volume, manifests, services and the entry point of etcd's image are stand-ins; etcd, API server
//! and the tool are real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, LIFEBOAT, Masters, Told, line_or};
use lifeboat_e2e::pages::{commands, enter, enter_on_all};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Node, Options, Signal};

const PAGE: &str = include_str!("../../docs/how-to/kublr-by-hand.md");
const MASTER: &str = include_str!("kublr/master.sh");
const PROGRAMS: [(&str, &str); 3] = [
    ("service", include_str!("kublr/service")),
    ("systemctl", include_str!("kublr/systemctl")),
    ("kublr-etcd", include_str!("kublr/kublr-etcd")),
];
/// The data volume.
const VOLUME: &str = "/mnt/master-pd/etcd";
/// What is restored, where the page has it.
const FILE: &str = "/root/etcd.db";
/// etcd's pod.
const POD: &str = "k8s-etcd";
const SERVES: Duration = Duration::from_secs(120);
/// Revisions by which a restore that obeys the order goes beyond the highest seen.
const BUMP: i64 = 1_000_000_000;

/// kubeadm's masters made into Kublr's, with the data that kubeadm's had.
async fn build(line: EtcdLine) -> Result<Masters> {
    let dirs = ["/etc/kublr", "/mnt/backups", "/mnt/master-pd", "/opt/kublr/bin", "/srv/kubernetes"];
    let node_dirs = dirs.map(PathBuf::from).to_vec();
    let options = Options { etcd_line: line, node_dirs, ..Options::named("kublr") };
    let masters = Masters::start_on(options, Build::Release).await?;
    let first = &masters.nodes()[0];
    let seed = "/root/seed.db";
    masters.run(first, &["etcd", "backup", "--file", seed]).await?.done()?;
    masters.stop_all().await?;
    let addresses: Vec<String> = masters.nodes().iter().map(|node| node.ip.to_string()).collect();
    for (ordinal, node) in masters.nodes().iter().enumerate() {
        if node.name != first.name {
            std::fs::copy(first.path(seed), node.path(seed))?;
        }
        std::fs::create_dir_all(node.path("/root/bin"))?;
        for (name, text) in PROGRAMS {
            let path = node.path("/root/bin").join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        std::fs::write(node.path("/root/master.sh"), MASTER)?;
        let ordinal = ordinal.to_string();
        let mut args = vec!["/root/master.sh", &ordinal];
        args.extend(addresses.iter().map(String::as_str));
        masters.run_program(node, "bash", &args).await?.done().with_context(|| node.name.clone())?;
    }
    start(&masters).await?;
    Ok(masters)
}

/// The last step, and what it leads to.
async fn start(masters: &Masters) -> Result<()> {
    enter_on_all(masters, PAGE, "start, every master").await?;
    masters.bed.etcd_healthy(SERVES).await.with_context(|| logs(masters))?;
    masters.bed.api_ready(SERVES).await
}

/// The first step, and the wait after it. An API server would drain its connections for half a minute.
async fn stop(masters: &Masters) -> Result<()> {
    enter_on_all(masters, PAGE, "stop, every master").await?;
    for node in masters.nodes() {
        for pod in ["kube-apiserver", "kube-controller-manager", POD] {
            if pod != POD {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = node.kill_pod(pod, Signal::KILL);
            }
            node.pod_gone(pod, Duration::from_secs(40)).await?;
        }
    }
    Ok(())
}

fn logs(masters: &Masters) -> String {
    masters.nodes().iter().map(|node| node.pod_log_tail(POD)).collect::<Vec<_>>().join("\n")
}

/// The stand-in for the kubelet looks at its manifests when a service is started.
async fn wait_supervised(masters: &Masters, node: &Node) -> Result<()> {
    enter(masters, node, &["service kublr-kubelet start".to_owned()]).await?;
    eventually(&format!("etcd of {} under the supervisor", node.name), SERVES, async || {
        let pid = node.pod_pid(POD).context("no pod")?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        ensure!(line.starts_with(LIFEBOAT) && line.contains("etcd-pod"), "{line}");
        masters.told(node).await.map(Some)
    })
    .await
    .map(drop)
    .with_context(|| node.pod_log_tail(POD))
}

/// The steps between, as two blocks of the page have them, and all that starts with the last one.
async fn restore(masters: &Masters, on_first: &str, on_others: &str) -> Result<Told> {
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    stop(masters).await?;
    let said = enter(masters, first, &commands(PAGE, on_first)).await?;
    let code = said.lines().find(|line| line.starts_with("order ")).context("no code is shown")?;
    for node in others {
        std::fs::copy(first.path(format!("{FILE}.order")), node.path(format!("{FILE}.order")))?;
        let other = enter(masters, node, &commands(PAGE, on_others)).await?;
        ensure!(other.contains(code), "{code} is not shown by {}: {other}", node.name);
    }
    start(masters).await?;
    ensure!(masters.created().await? == ["before"]);
    masters.see_equal().await?;
    for node in masters.nodes() {
        std::fs::remove_file(node.path(format!("{FILE}.order")))?;
    }
    masters.told(first).await
}

/// Who says where the data volume is.
async fn source(masters: &Masters, node: &Node) -> Result<String> {
    let status = masters.run(node, &["etcd", "status", "-o", "json"]).await?.done()?.json()?;
    let found = &status["host"];
    ensure!(found["platform"] == "Kublr" && found["volume"] == VOLUME, "{status:#}");
    Ok(found["sources"]["volume"].as_str().context("no source")?.to_owned())
}

#[tokio::test]
async fn the_page_for_administrators_of_kublr_does_what_it_says() -> Result<()> {
    let masters = build(line_or(EtcdLine::V3_6)?).await?;
    let [first, second, third] = masters.nodes() else { unreachable!("three masters") };
    ensure!(source(&masters, first).await? == "/etc/kublr/daemon.yaml");
    ensure!(source(&masters, third).await? == "kublr validate");
    masters.create("before").await?;
    enter(&masters, second, &commands(PAGE, "one master")).await?;
    let made = std::fs::read_dir(second.path("/mnt/backups"))?.next().context("no backup was made")??.path();
    for node in masters.nodes() {
        std::fs::copy(&made, node.path(FILE))?;
    }

    masters.create("after").await?;
    let before = masters.told(first).await?;
    let told = restore(&masters, "restore, first master", "restore, other masters").await?;
    ensure!(told.cluster != before.cluster && told.revision >= before.revision + BUMP, "{told:?} after {before:?}");

    // Through the pod: it knows neither token nor bump.
    masters.create("after").await?;
    let revision = told.revision;
    let stock = restore(&masters, "stage, first master", "stage, other masters").await?;
    ensure!(stock.cluster == before.cluster && stock.revision < revision, "{stock:?} after {told:?}");
    for node in masters.nodes() {
        let names: Vec<_> = std::fs::read_dir(node.path(VOLUME))?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(!names.iter().any(|name| name == Path::new("restore.db").as_os_str()), "{names:?}");
    }

    // A member without data is in a crash loop, until the pod is told.
    let old = masters.told(third).await?.member;
    std::fs::remove_dir_all(third.path(VOLUME).join("member"))?;
    third.kill_pod(POD, Signal::KILL)?;
    let said = enter(&masters, third, &commands(PAGE, "damaged master")).await?;
    ensure!(said.contains("reinitialized"), "{said}");
    ensure!(masters.see_equal().await? == stock.cluster && masters.told(third).await?.member != old);

    // What it leaves beside its restore.db hinders nothing later.
    masters.create("after").await?;
    let told = restore(&masters, "restore, first master", "restore, other masters").await?;
    ensure!(told.cluster != stock.cluster && told.revision >= stock.revision + BUMP, "{told:?} after {stock:?}");

    // Through the pod with the supervisor in it: it takes the place of the image's entry point, and obeys the order.
    for node in masters.nodes() {
        enter(&masters, node, &commands(PAGE, "supervise, every master")).await?;
        wait_supervised(&masters, node).await?;
    }
    masters.create("after").await?;
    let supervised = restore(&masters, "stage, first master", "stage, other masters").await?;
    ensure!(supervised.cluster != told.cluster && supervised.revision >= told.revision + BUMP, "{supervised:?}");
    masters.bed.shutdown().await
}
