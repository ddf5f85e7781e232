//! Restores of all masters with something going wrong at every step: each ends with the new data on all or the old on all.
//!
//! A part of it in every run of the tests; the whole by `make restore-matrix`, which also writes `target/verification.json`
//! and docs/verification.md. Executors of the build under test kill themselves at moments named here; whoever runs the
//! masters then types `lifeboat restore join`, which needs no code where an order is sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lifeboat_e2e::masters::{Build, Masters, line_or};
use lifeboat_e2e::restores::{ENDS, Ordered, Restores};
use lifeboat_e2e::wait::eventually;
use lifeboat_testbed::{EtcdLine, Node, Options};
use serde::Serialize;

/// Bounds on time in every restore here, seconds: the shortest that there are.
const SHORTEST: [&str; 4] = ["--stage-seconds", "60", "--outage-seconds", "60"];
/// How often is looked whether an executor is to be started again.
const LOOK: Duration = Duration::from_millis(300);

/// Effects on the way to new data, in their order.
const FORWARD: [&str; 12] = [
    "Stage",
    "SaveManifests",
    "Hold",
    "StopControlPlane",
    "StopEtcd",
    "TakeLocks",
    "Exchange { tree: Member, to: New }",
    "StartAlone { clients: Loopback }",
    "Tidy",
    "StartAll",
    "LockOld",
    "RestartKubelet",
];
/// What the journal says on the way to new data.
const RECORDED: [&str; 8] = [
    "Recorded(Staged)",
    "Recorded(IntendQuiesced)",
    "Recorded(IntendServed)",
    "Recorded(IntendVerified)",
    "Recorded(Learned { verdict: Commit, from: Store })",
    "Recorded(IntendObeyed)",
    "Recorded(Released)",
    "Recorded(Settled)",
];
/// Before these a master is dead while another one calls the restore off.
const CALLED_OFF: [&str; 6] = [
    "Stage",
    "SaveManifests",
    "Hold",
    "StopEtcd",
    "Exchange { tree: Member, to: New }",
    "StartAlone { clients: Loopback }",
];
/// Effects on the way back, in their order.
const BACK: [&str; 4] = ["StopEtcd", "Exchange { tree: Member, to: Old }", "StartAll", "DiscardStaging"];

/// One thing that went wrong, and the end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    journey: &'static str,
    fault: String,
    step: String,
    outcome: &'static str,
    as_expected: bool,
    outage_seconds: u64,
}

#[derive(Default, Serialize)]
struct Verification {
    rows: Vec<Row>,
}

struct Matrix<'m> {
    restores: Restores<'m>,
    rows: Vec<Row>,
    /// ConfigMaps made so far.
    made: usize,
}

/// What was there before a restore.
struct Before {
    cluster: u64,
    names: Vec<String>,
}

impl<'m> Matrix<'m> {
    fn masters(&self) -> &'m Masters {
        self.restores.masters
    }

    /// Something to lose.
    async fn before(&mut self) -> Result<Before> {
        self.made += 1;
        self.masters().create(&format!("later-{}", self.made)).await?;
        Ok(Before { cluster: self.masters().see_equal().await?, names: self.masters().created().await? })
    }

    /// Looks which data all masters have, whatever they say of it themselves.
    async fn outcome(&self, before: &Before) -> Result<&'static str> {
        let cluster = self.masters().see_equal().await?;
        self.masters().bed.api_ready(Duration::from_secs(90)).await?;
        let names = self.masters().created().await?;
        match (cluster == before.cluster, names == before.names, names == ["before"]) {
            (true, true, _) => Ok("AllOld"),
            (false, false, true) => Ok("AllNew"),
            _ => anyhow::bail!("neither old nor new: cluster {cluster:x}, {names:?}"),
        }
    }

    fn row(&mut self, fault: &str, step: &str, outcome: (&'static str, &'static str), outage_seconds: u64) {
        let (outcome, expected) = outcome;
        let as_expected = outcome == expected;
        println!(
            "{fault} | {step} | {outcome} | {outage_seconds} s{}",
            if as_expected { "" } else { " | NOT AS EXPECTED" }
        );
        self.rows.push(Row {
            journey: "host",
            fault: fault.to_owned(),
            step: step.to_owned(),
            outcome,
            as_expected,
            outage_seconds,
        });
    }

    /// Starts executors again until the restore has ended on all, as a unit would.
    async fn tend(&self, nodes: &[&Node], ordered: &Ordered, limit: Duration) -> Result<(String, u64)> {
        let begun = Instant::now();
        loop {
            let mut is_over = true;
            for node in nodes {
                let standing = self.restores.standing(node, &ordered.id).await?;
                let is_open = standing["outcome"].is_null() || standing["owes"] == true;
                is_over &= !is_open && standing["isRunning"] == false;
                if is_open && standing["isRunning"] == false {
                    // Refused where it has just ended: the next look tells, and the limit whatever else it may be.
                    self.restores.join(node, &ordered.code).await?;
                }
            }
            if is_over {
                return self.restores.wait_ended(nodes, &ordered.id, Duration::from_secs(5)).await;
            }
            ensure!(begun.elapsed() < limit, "no end: {}", self.restores.log(nodes[0], &ordered.id));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until an executor has killed itself where it was told to.
    async fn wait_killed(&self, node: &Node, ordered: &Ordered) -> Result<()> {
        eventually(&format!("an executor that died on {}", node.name), ENDS, async || {
            let left = self.restores.crashes_left(node);
            ensure!(left.is_empty(), "{left:?}");
            let standing = self.restores.standing(node, &ordered.id).await?;
            ensure!(standing["isRunning"] == false, "{standing:#}");
            Ok(Some(()))
        })
        .await
        .with_context(|| self.restores.log(node, &ordered.id))
    }

    /// A restore whose executors are killed at moments of every master's list.
    async fn killed(&mut self, lists: [Vec<String>; 3]) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        for (node, list) in all.iter().zip(&lists) {
            self.restores.crash_at(node, list)?;
        }
        let ordered = self.restores.order(all[0], &SHORTEST).await?;
        for node in &all[1..] {
            self.restores.join(node, &ordered.code).await?.done()?;
        }
        let nodes = all.clone();
        let (_, outage) = self.tend(&nodes, &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        for (node, list) in all.iter().zip(lists) {
            let left = self.restores.crashes_left(node);
            self.restores.calm(node);
            for moment in list.iter().filter(|moment| !left.contains(moment)) {
                self.row(
                    "executor killed (SIGKILL)",
                    &format!("{moment} on {}", node.name),
                    (outcome, "AllNew"),
                    outage,
                );
            }
            // What this master never does it cannot be killed at; that is no row.
            for moment in left {
                println!("never met on {}: {moment}", node.name);
            }
        }
        Ok(())
    }

    /// One master's executor is dead before `effect`, the restore is called off on another, then the dead one goes on. On the
    /// way back the first master is killed too.
    async fn called_off(&mut self, effect: &str, also_back: bool) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let [first, second, third] = all.as_slice() else { unreachable!("three masters") };
        self.restores.crash_at(third, &[format!("Before({effect})")])?;
        let ordered = self.restores.order(first, &SHORTEST).await?;
        for node in [second, third] {
            self.restores.join(node, &ordered.code).await?.done()?;
        }
        self.wait_killed(third, &ordered).await?;
        let back: Vec<String> = BACK.iter().map(|effect| format!("Before({effect})")).collect();
        if also_back {
            self.restores.crash_at(first, &back)?;
        }
        self.restores.lifeboat(second, &["restore", "cancel"]).await?.done()?;
        let nodes = all.clone();
        let (_, outage) = self.tend(&nodes, &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        self.row(
            "cancelled while another master's executor is dead",
            &format!("Before({effect})"),
            (outcome, "AllOld"),
            outage,
        );
        if also_back {
            let left = self.restores.crashes_left(first);
            self.restores.calm(first);
            for moment in back.iter().filter(|moment| !left.contains(moment)) {
                self.row("executor killed on the way back", moment, (outcome, "AllOld"), outage);
            }
        }
        Ok(())
    }

    /// Before `effect` of the last master, something breaks; once all have ended, or the shortest deadline is long over, it is
    /// mended.
    async fn broken(
        &mut self,
        fault: &str,
        effect: &str,
        expected: &'static str,
        change: impl Fn(&Masters, bool) -> Result<()>,
    ) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let third = all[2];
        self.restores.crash_at(third, &[format!("Before({effect})")])?;
        let ordered = self.restores.order(all[0], &SHORTEST).await?;
        for node in &all[1..] {
            self.restores.join(node, &ordered.code).await?.done()?;
        }
        self.wait_killed(third, &ordered).await?;
        change(self.masters(), true)?;
        let broken = async {
            self.restores.join(third, &ordered.code).await?.done()?;
            // Until every master is past what it may decide by itself.
            let nodes = all.clone();
            let patience = Duration::from_secs(100);
            let ended = self.tend(&nodes, &ordered, patience).await;
            Ok::<_, anyhow::Error>(ended.ok())
        }
        .await;
        change(self.masters(), false)?;
        broken?;
        let nodes = all.clone();
        let (_, outage) = self.tend(&nodes, &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        self.row(fault, &format!("Before({effect})"), (outcome, expected), outage);
        Ok(())
    }

    /// All masters have verified or are about to, the store goes, and people decide from the journals.
    async fn decided_by_hand(&mut self) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let third = all[2];
        self.restores.crash_at(third, &["Recorded(IntendVerified)".to_owned()])?;
        let ordered = self.restores.order(all[0], &SHORTEST).await?;
        for node in &all[1..] {
            self.restores.join(node, &ordered.code).await?.done()?;
        }
        self.wait_killed(third, &ordered).await?;
        for node in &all[..2] {
            let is_in_doubt = |standing: &serde_json::Value| {
                standing["phase"].as_str().is_some_and(|phase| phase.starts_with("verified"))
            };
            self.restores.wait_until(node, &ordered.id, "a master in doubt", ENDS, is_in_doubt).await?;
        }
        self.masters().bed.disconnect_s3()?;
        let decided = self.decide(&all, &ordered).await;
        let ended = match decided {
            Ok(()) => self.tend_without_store(&all, &ordered).await,
            Err(error) => Err(error),
        };
        self.masters().bed.reconnect_s3()?;
        ended?;
        let (_, outage) = self.tend(&all, &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        self.row(
            "the store is away for good, decided by hand",
            "Recorded(IntendVerified)",
            (outcome, "AllOld"),
            outage,
        );
        Ok(())
    }

    async fn decide(&self, all: &[&Node], ordered: &Ordered) -> Result<()> {
        let journal = format!("/var/lib/etcd/lifeboat/{}/journal", ordered.id);
        let copy = |of: &Node| format!("/var/lib/lifeboat/{}.journal", of.name);
        // Two are not enough, and neither is a journal that still moves.
        let lonely = self.restores.lifeboat(all[0], &["restore", "decide", "--journal", "nobody=/dev/null"]).await?;
        lonely.refused(&["no member"])?;
        for node in all {
            self.restores.lifeboat(node, &["restore", "decide", "--surrender"]).await?.done()?;
        }
        for node in all {
            for other in all.iter().filter(|other| other.name != node.name) {
                std::fs::copy(other.path(&journal), node.path(copy(other)))?;
            }
        }
        for node in all {
            let journals: Vec<String> = all
                .iter()
                .filter(|other| other.name != node.name)
                .flat_map(|other| ["--journal".to_owned(), format!("{}={}", other.name, copy(other))])
                .collect();
            let args: Vec<&str> =
                ["restore", "decide"].into_iter().chain(journals.iter().map(String::as_str)).collect();
            self.restores.lifeboat(node, &args).await?.ended(0, &["Rollback"])?;
        }
        Ok(())
    }

    /// Starts executors again until every master has the old data back; what they owe the store they cannot pay yet.
    async fn tend_without_store(&self, nodes: &[&Node], ordered: &Ordered) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut is_back = true;
            for node in nodes {
                let standing = self.restores.standing(node, &ordered.id).await?;
                if standing["isRunning"] == false && standing["outcome"].is_null() {
                    self.restores.join(node, &ordered.code).await?;
                }
                is_back &= node.pod_pid("etcd").is_some() && node.pod_pid("kube-apiserver").is_some();
            }
            if is_back {
                return self.masters().bed.api_ready(Duration::from_secs(60)).await;
            }
            ensure!(begun.elapsed() < ENDS, "no end: {}", self.restores.log(nodes[0], &ordered.id));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A master that never joins.
    async fn one_missing(&mut self) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let ordered = self.restores.order(all[0], &SHORTEST).await?;
        self.restores.join(all[1], &ordered.code).await?.done()?;
        let (_, outage) = self.tend(&all[..2], &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        self.row("a master never joins", "Stage", (outcome, "AllOld"), outage);
        ensure!(outage == 0, "something was stopped for a restore that could not be");
        Ok(())
    }

    /// A byte of the archive is another than it was.
    async fn altered(&mut self) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let bucket = self.masters().bed.s3().bucket_dir("backups");
        let archive = find(&bucket, &self.restores.backup, ".db.zst").context("no archive")?;
        let whole = std::fs::read(&archive)?;
        let mut altered = whole.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        std::fs::write(&archive, altered)?;
        let ended = async {
            let ordered = self.restores.order(all[0], &SHORTEST).await?;
            for node in &all[1..] {
                self.restores.join(node, &ordered.code).await?.done()?;
            }
            let nodes = all.clone();
            self.tend(&nodes, &ordered, ENDS).await
        }
        .await;
        std::fs::write(&archive, whole)?;
        let (_, outage) = ended?;
        let outcome = self.outcome(&before).await?;
        self.row("a byte of the archive was altered", "Stage", (outcome, "AllOld"), outage);
        Ok(())
    }

    /// Another restore while one is under way.
    async fn two_at_once(&mut self) -> Result<()> {
        let before = self.before().await?;
        let all: Vec<&'m Node> = self.restores.masters.nodes().iter().collect();
        let ordered = self.restores.order(all[0], &SHORTEST).await?;
        self.restores.join(all[1], &ordered.code).await?.done()?;
        let second = self.restores.order(all[1], &SHORTEST).await;
        let words = second.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(words.contains("not ended") || words.contains("another restore"), "{words}");
        self.restores.lifeboat(all[0], &["restore", "cancel"]).await?.done()?;
        let (_, outage) = self.tend(&all[..2], &ordered, ENDS).await?;
        let outcome = self.outcome(&before).await?;
        ensure!(outcome == "AllOld", "{outcome}");
        self.row("another restore is started meanwhile", "Stage", ("Refused", "Refused"), outage);
        Ok(())
    }
}

fn find(dir: &Path, part: &str, ending: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let text = path.to_string_lossy();
        if path.is_dir() {
            if let Some(found) = find(&path, part, ending) {
                return Some(found);
            }
        } else if text.contains(part) && text.ends_with(ending) {
            return Some(path);
        }
    }
    None
}

fn moments(when: &str, effects: &[&str]) -> Vec<String> {
    effects.iter().map(|effect| format!("{when}({effect})")).collect()
}

/// The rows for people.
fn page(rows: &[Row]) -> String {
    let mut text = "# Verification of restores\n\nWhat went wrong in restores of three masters with real etcd, a real API server on each and a real S3 server, and how each \
                    ended. Written by `make restore-matrix`; every row is one that was seen. `AllNew`: every master has the restored data. `AllOld`: every \
                    master has the data it had, and nothing was lost. Seconds run from the first stop to the end on \
                    the slowest master, with deadlines of 60 s. A master that owes the store a word ends when the store is back, which may be long after its \
                    API: where the store was away it came back after about 100 s.\n\n\
                    | what went wrong | when | end | seconds |\n|---|---|---|---|\n"
        .to_owned();
    for Row { fault, step, outcome, as_expected, outage_seconds, .. } in rows {
        let mark = if *as_expected { "" } else { " (**not as expected**)" };
        let _ = writeln!(text, "| {fault} | {step} | {outcome}{mark} | {outage_seconds} |");
    }
    text
}

#[tokio::test]
async fn every_restore_ends_with_the_new_data_on_all_or_the_old_on_all() -> Result<()> {
    let is_whole = std::env::var_os("LIFEBOAT_MATRIX").is_some();
    let line = line_or(EtcdLine::V3_6)?;
    let options = Options { etcd_line: line, api_servers: 3, ..Options::named("matrix") };
    let masters = Masters::start_on(options, Build::WithCrashPoints).await?;
    masters.create("before").await?;
    let restores = Restores::back_up(&masters).await?;
    let mut matrix = Matrix { restores, rows: Vec::new(), made: 0 };
    matrix
        .killed([moments("Before", &FORWARD), moments("After", &FORWARD), RECORDED.map(str::to_owned).to_vec()])
        .await
        .context("killed")?;
    matrix.altered().await.context("altered")?;
    matrix
        .called_off("StartAlone { clients: Loopback }", true)
        .await
        .context("called off, and killed on the way back")?;
    if is_whole {
        for effect in CALLED_OFF {
            matrix.called_off(effect, false).await.with_context(|| format!("called off before {effect}"))?;
        }
        matrix.two_at_once().await.context("two at once")?;
        matrix.one_missing().await.context("one missing")?;
        let no_store = |masters: &Masters, is_broken: bool| {
            if is_broken { masters.bed.disconnect_s3() } else { masters.bed.reconnect_s3() }
        };
        for effect in ["SaveManifests", "Exchange { tree: Member, to: New }", "StartAlone { clients: Loopback }"] {
            let ran = matrix.broken("the store is away for all", effect, "AllOld", no_store).await;
            ran.with_context(|| format!("no store before {effect}"))?;
        }
        matrix
            .broken("the store is away for all", "StartAll", "AllNew", no_store)
            .await
            .context("no store at the end")?;
        let cut_off = |masters: &Masters, is_broken: bool| {
            let third = &masters.nodes()[2];
            if is_broken { masters.bed.disconnect(third) } else { masters.bed.reconnect(third) }
        };
        matrix.decided_by_hand().await.context("decided by hand")?;
        for effect in ["Hold", "Exchange { tree: Member, to: New }", "StartAlone { clients: Loopback }"] {
            let ran = matrix.broken("one master is cut off from all", effect, "AllOld", cut_off).await;
            ran.with_context(|| format!("cut off before {effect}"))?;
        }
    }
    let rows = matrix.rows;
    if is_whole {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
        let json = serde_json::to_string_pretty(&Verification { rows: rows.clone() })?;
        std::fs::write(workspace.join("target/verification.json"), json)?;
        std::fs::write(workspace.join("docs/verification.md"), page(&rows))?;
    }
    let wrong: Vec<&Row> = rows.iter().filter(|row| !row.as_expected).collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(rows.len() >= 20, "only {} rows", rows.len());
    Ok(())
}
