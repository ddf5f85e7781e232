//! A restore of all masters at once by `lifeboat restore`, with nothing but the masters and a bucket: no operator, no
//! supervisor in etcd's pod, the API away in between. Real etcd with TLS, an API server on each master, a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lifeboat_e2e::masters::{Build, LIFEBOAT, Masters, Said, line_or};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Node, Options};
use serde_json::{Value, json};

const DIRECTORY: &str = "/var/lib/lifeboat";
const LOCATION: &str = "/var/lib/lifeboat/offsite.yaml";
/// Revisions by which a restore goes beyond the highest seen.
const BUMP: i64 = 1_000_000_000;
/// Within which a restore of a small cluster ends, whatever becomes of it.
const ENDS: Duration = Duration::from_secs(240);

/// Describes the location to every master.
fn describe_location(masters: &Masters) -> Result<()> {
    let s3 = masters.bed.s3();
    let text = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation", "metadata": {"name": "offsite"},
        "spec": {"s3": {"bucket": "backups", "prefix": "restores", "region": s3.region, "endpoint": s3.endpoint,
            "forcePathStyle": true, "credentialsFile": "keys", "caBundleFile": "store.crt"}}});
    for node in masters.nodes() {
        std::fs::write(node.path(LOCATION), text.to_string())?;
        let keys = format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", s3.access_key, s3.secret_key);
        std::fs::write(node.path(DIRECTORY).join("keys"), keys)?;
        std::fs::write(node.path(DIRECTORY).join("store.crt"), &s3.ca_pem)?;
    }
    Ok(())
}

struct Restore<'m> {
    masters: &'m Masters,
    backup: String,
    sha256: String,
}

impl Restore<'_> {
    async fn start(&self, node: &Node, more: &[&str]) -> Result<Said> {
        let args = ["restore", "start", &self.backup, "--location", LOCATION, "--trust", &self.sha256];
        self.masters.run_program(node, LIFEBOAT, &[&args[..], more].concat()).await
    }

    /// The plan, approved as it is shown.
    async fn order(&self, node: &Node) -> Result<Ordered> {
        let plan = self.start(node, &["-o", "json"]).await?.done()?.json()?;
        let code = plan["approvalCode"].as_str().context("no code")?;
        let said = self.start(node, &["--approve", code, "--detach"]).await?.done()?;
        let word = |before: &str| said.out.split(before).nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(Ordered {
            plan: plan.clone(),
            id: word("restore ").context("no id")?.to_owned(),
            code: word("--code ").with_context(|| said.out.clone())?.to_owned(),
        })
    }

    async fn join(&self, node: &Node, code: &str) -> Result<Said> {
        let args = ["restore", "join", "--location", LOCATION, "--detach", "--code", code];
        self.masters.run_program(node, LIFEBOAT, &args).await
    }

    async fn standing(&self, node: &Node, id: &str) -> Result<Value> {
        let args = ["restore", "status", "-o", "json"];
        let said = self.masters.run_program(node, LIFEBOAT, &args).await?.done()?.json()?;
        let all = said.as_array().context("no list")?;
        all.iter().find(|one| one["restoreId"] == id).cloned().with_context(|| format!("{said:#}"))
    }

    /// Waits until a restore has this outcome on every master.
    async fn wait_for(&self, id: &str, outcome: &str) -> Result<()> {
        for node in self.masters.nodes() {
            let what = format!("{outcome} on {}", node.name);
            let waited = eventually(&what, ENDS, async || {
                let standing = self.standing(node, id).await?;
                match standing["outcome"].as_str() {
                    Some(found) if found == outcome => Ok(Some(())),
                    Some(_) | None => bail!("{standing:#}"),
                }
            });
            waited.await.with_context(|| self.log(node, id))?;
        }
        Ok(())
    }

    fn log(&self, node: &Node, id: &str) -> String {
        let path = node.path("/var/lib/etcd/lifeboat").join(id).join("executor.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

struct Ordered {
    plan: Value,
    id: String,
    code: String,
}

async fn back_up(masters: &Masters) -> Result<Restore<'_>> {
    describe_location(masters)?;
    let first = &masters.nodes()[0];
    let report = masters.run(first, &["etcd", "backup", "--location", LOCATION, "-o", "json"]).await?.done()?.json()?;
    let text = |name: &str| report[name].as_str().map(str::to_owned).with_context(|| format!("{report:#}"));
    Ok(Restore { masters, backup: text("backupId")?, sha256: text("sha256")? })
}

async fn refusals(restore: &Restore<'_>) -> Result<()> {
    let node = &restore.masters.nodes()[1];
    let masters = restore.masters;
    let run = async |args: &[&str]| masters.run_program(node, LIFEBOAT, args).await;
    restore.start(node, &["--approve", "0000-0000"]).await?.refused(&["not the code of this plan"])?;
    let untrusted = ["restore", "start", "--latest", "--location", LOCATION];
    run(&untrusted).await?.refused(&["--trust"])?;
    restore.join(node, "lifeboat-join-nonsense").await?.refused(&["no join code"])?;
    run(&["restore", "cancel"]).await?.refused(&["under way"])?;
    run(&["restore", "release"]).await?.refused(&["under way"])?;
    let status = run(&["restore", "status"]).await?.done()?;
    ensure!(status.out.contains("no restore"), "{}", status.out);
    ensure!(!node.path("/var/lib/etcd/lifeboat").join("restores").exists());
    Ok(())
}

/// All masters go back together; revisions go on above everything ever served.
async fn all_new(restore: &Restore<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.create("after").await?;
    let before = masters.see_equal().await?;
    let highest = masters.told(first).await?.revision;
    let Ordered { plan, id, code } = restore.order(first).await?;
    ensure!(plan["lostRevisions"].as_i64() > Some(0) && plan["blockers"] == json!([]), "{plan:#}");
    let begun = Instant::now();
    for node in others {
        restore.join(node, &code).await?.done()?;
    }
    restore.wait_for(&id, "Committed").await?;
    println!("restored in {:.1} s", begun.elapsed().as_secs_f32());
    let after = masters.see_equal().await?;
    ensure!(after != before, "the old cluster still runs");
    ensure!(masters.told(first).await?.revision >= highest + BUMP);
    masters.bed.api_ready(Duration::from_secs(60)).await?;
    ensure!(masters.created().await? == ["before"], "{:?}", masters.created().await?);
    // The state that was replaced was backed up first.
    let args = ["backup", "list", "--location", LOCATION, "-o", "json"];
    let listed = masters.run_program(first, LIFEBOAT, &args).await?.done()?.json()?;
    ensure!(listed.as_array().is_some_and(|all| all.len() == 2), "{listed:#}");
    // How the store was reached is forgotten, private keys above all.
    for node in masters.nodes() {
        ensure!(!node.path(DIRECTORY).join("restores").join(&id).exists());
    }
    // A restore runs once: who joins it again takes no part.
    restore.join(first, &code).await?.refused(&[])?;
    Ok(())
}

/// Executors are killed again and again, each started anew by the command that people would type: the end is the same.
async fn killed_again_and_again(restore: &Restore<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, others @ ..] = masters.nodes() else { unreachable!("three masters") };
    masters.create("doomed").await?;
    let before = masters.see_equal().await?;
    let Ordered { id, code, .. } = restore.order(first).await?;
    for node in others {
        restore.join(node, &code).await?.done()?;
    }
    let mut kills = 0;
    let begun = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let mut open = 0;
        for node in masters.nodes() {
            let standing = restore.standing(node, &id).await?;
            if !standing["outcome"].is_null() {
                continue;
            }
            open += 1;
            let phase = standing["phase"].as_str().unwrap_or_default().to_owned();
            // Once in each state of each master, so that it gets somewhere in between.
            if standing["isRunning"] == true && seen.insert((node.name.clone(), phase)) {
                let pattern = format!("restore run --restore {id}");
                masters.run_program(node, "pkill", &["-KILL", "-f", &pattern]).await?;
                kills += 1;
                restore.join(node, &code).await?.done()?;
            }
        }
        if open == 0 {
            break;
        }
        ensure!(begun.elapsed() < ENDS, "{}", restore.log(first, &id));
    }
    println!("{kills} kills: {seen:?}");
    ensure!(kills >= 6, "only {seen:?}");
    restore.wait_for(&id, "Committed").await?;
    ensure!(masters.see_equal().await? != before, "the old cluster still runs");
    masters.bed.api_ready(Duration::from_secs(60)).await?;
    ensure!(masters.created().await? == ["before"], "{:?}", masters.created().await?);
    Ok(())
}

/// Called off while a master is missing: the others put everything back, and nobody noticed.
async fn cancelled(restore: &Restore<'_>) -> Result<()> {
    let masters = restore.masters;
    let [first, second, _] = masters.nodes() else { unreachable!("three masters") };
    masters.create("kept").await?;
    let before = masters.see_equal().await?;
    let Ordered { id, code, .. } = restore.order(first).await?;
    restore.join(second, &code).await?.done()?;
    eventually("both to have staged", ENDS, async || {
        for node in [first, second] {
            let standing = restore.standing(node, &id).await?;
            ensure!(standing["phase"].as_str().is_some_and(|phase| phase.starts_with("staged")), "{standing:#}");
        }
        Ok(Some(()))
    })
    .await
    .with_context(|| restore.log(first, &id))?;
    masters.run_program(second, LIFEBOAT, &["restore", "cancel"]).await?.done()?;
    for node in [first, second] {
        eventually(&format!("{} to give up", node.name), ENDS, async || {
            let standing = restore.standing(node, &id).await?;
            ensure!(standing["outcome"] == "RolledBack", "{standing:#}");
            Ok(Some(()))
        })
        .await
        .with_context(|| restore.log(node, &id))?;
    }
    ensure!(masters.see_equal().await? == before, "another cluster");
    ensure!(masters.created().await? == ["before", "kept"]);
    Ok(())
}

#[tokio::test]
async fn three_masters_go_back_together_by_one_command_each() -> Result<()> {
    let line = line_or(EtcdLine::V3_6)?;
    let options = Options { etcd_line: line, api_servers: 3, ..Options::named("coordinated") };
    let masters = Masters::start_on(options, Build::Release).await?;
    masters.create("before").await?;
    let restore = back_up(&masters).await?;
    refusals(&restore).await.context("refusals")?;
    all_new(&restore).await.context("all new")?;
    cancelled(&restore).await.context("cancelled")?;
    killed_again_and_again(&restore).await.context("killed")?;
    Ok(())
}
