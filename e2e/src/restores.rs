//! `lifeboat restore` on three masters, as people type it, and what they look at while it goes on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lifeboat_testbed::Node;
use serde_json::{Value, json};

use crate::masters::{LIFEBOAT, Masters, Said};
use crate::wait::eventually;

/// Lifeboat's directory on every master.
pub const DIRECTORY: &str = "/var/lib/lifeboat";
/// The file that describes the location there.
pub const LOCATION: &str = "/var/lib/lifeboat/offsite.yaml";
/// Names of points at which executors of a build for tests kill themselves.
const CRASH_FILE: &str = "/run/lifeboat/crash-restore";
/// Within which a restore of a small cluster ends, whatever becomes of it.
pub const ENDS: Duration = Duration::from_secs(240);

/// A backup in a location that every master knows.
pub struct Restores<'m> {
    /// The masters.
    pub masters: &'m Masters,
    /// The backup.
    pub backup: String,
    /// Its snapshot.
    pub sha256: String,
}

/// A restore that was ordered.
pub struct Ordered {
    /// What the plan said.
    pub plan: Value,
    /// The restore.
    pub id: String,
    /// The join code.
    pub code: String,
}

impl<'m> Restores<'m> {
    /// Describes the location to every master, and backs the first up.
    pub async fn back_up(masters: &'m Masters) -> Result<Self> {
        let s3 = masters.bed.s3();
        let text = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
            "metadata": {"name": "offsite"},
            "spec": {"s3": {"bucket": "backups", "prefix": "restores", "region": s3.region, "endpoint": s3.endpoint,
                "forcePathStyle": true, "credentialsFile": "keys", "caBundleFile": "store.crt"}}});
        for node in masters.nodes() {
            std::fs::write(node.path(LOCATION), text.to_string())?;
            let keys = format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", s3.access_key, s3.secret_key);
            std::fs::write(node.path(DIRECTORY).join("keys"), keys)?;
            std::fs::write(node.path(DIRECTORY).join("store.crt"), &s3.ca_pem)?;
        }
        let first = &masters.nodes()[0];
        let args = ["etcd", "backup", "--location", LOCATION, "-o", "json"];
        let report = masters.run(first, &args).await?.done()?.json()?;
        let text = |name: &str| report[name].as_str().map(str::to_owned).with_context(|| format!("{report:#}"));
        Ok(Self { masters, backup: text("backupId")?, sha256: text("sha256")? })
    }

    /// Runs `lifeboat` on a master; an executor that it starts kills itself where [`Self::crash_at`] says.
    pub async fn lifeboat(&self, node: &Node, args: &[&str]) -> Result<Said> {
        let crash = format!("LIFEBOAT_CRASH_FILE={CRASH_FILE}");
        self.masters.run_program(node, "env", &[&[crash.as_str(), LIFEBOAT], args].concat()).await
    }

    /// `restore start` of the backup.
    pub async fn start(&self, node: &Node, more: &[&str]) -> Result<Said> {
        let args = ["restore", "start", &self.backup, "--location", LOCATION, "--trust", &self.sha256];
        self.lifeboat(node, &[&args[..], more].concat()).await
    }

    /// Orders it, approved as its plan is shown.
    pub async fn order(&self, node: &Node, more: &[&str]) -> Result<Ordered> {
        let plan = self.start(node, &[more, &["-o", "json"]].concat()).await?.done()?.json()?;
        let code = plan["approvalCode"].as_str().context("no code")?;
        let said = self.start(node, &[more, &["--approve", code, "--detach"]].concat()).await?.done()?;
        let word = |before: &str| said.out.split(before).nth(1).and_then(|rest| rest.split_whitespace().next());
        let id = word("restore ").with_context(|| said.out.clone())?.to_owned();
        let code = word("--code ").with_context(|| said.out.clone())?.to_owned();
        Ok(Ordered { plan, id, code })
    }

    /// `restore join`, which also starts an executor again.
    pub async fn join(&self, node: &Node, code: &str) -> Result<Said> {
        self.lifeboat(node, &["restore", "join", "--location", LOCATION, "--detach", "--code", code]).await
    }

    /// What `restore status` says of a restore on a master.
    pub async fn standing(&self, node: &Node, id: &str) -> Result<Value> {
        let said = self.lifeboat(node, &["restore", "status", "-o", "json"]).await?.done()?.json()?;
        let all = said.as_array().context("no list")?;
        all.iter().find(|one| one["restoreId"] == id).cloned().with_context(|| format!("{said:#}"))
    }

    /// Waits until a restore stands on a master as `good` wants it.
    pub async fn wait_until(
        &self,
        node: &Node,
        id: &str,
        what: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let what = format!("{what} on {}", node.name);
        let waited = eventually(&what, limit, async || {
            let standing = self.standing(node, id).await?;
            if good(&standing) { Ok(Some(standing)) } else { bail!("{standing:#}") }
        });
        waited.await.with_context(|| self.log(node, id))
    }

    /// Waits until a restore has ended on these masters, alike; gives the outcome and the longest time without API, seconds.
    pub async fn wait_ended(&self, nodes: &[&Node], id: &str, limit: Duration) -> Result<(String, u64)> {
        let mut ends: Vec<(String, u64)> = Vec::new();
        for node in nodes {
            let standing =
                self.wait_until(node, id, "an end", limit, |standing| standing["outcome"].is_string()).await?;
            let outcome = standing["outcome"].as_str().unwrap_or_default().to_owned();
            ends.push((outcome, standing["outageSeconds"].as_u64().unwrap_or_default()));
        }
        let outage = ends.iter().map(|(_, outage)| *outage).max().unwrap_or_default();
        match ends.as_slice() {
            [(first, _), rest @ ..] if rest.iter().all(|(outcome, _)| outcome == first) => Ok((first.clone(), outage)),
            _ => bail!("masters ended differently: {ends:?}"),
        }
    }

    /// Has executors of a master kill themselves at these moments, one after the other: `Before(Hold)`, `After(Stage)`.
    pub fn crash_at(&self, node: &Node, moments: &[String]) -> Result<()> {
        let path = node.path(CRASH_FILE);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, moments.join("\n") + "\n")?)
    }

    /// Moments at which executors of a master have yet to kill themselves.
    pub fn crashes_left(&self, node: &Node) -> Vec<String> {
        let text = std::fs::read_to_string(node.path(CRASH_FILE)).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Lets nothing more be killed on a master.
    pub fn calm(&self, node: &Node) {
        let _ = std::fs::remove_file(node.path(CRASH_FILE));
    }

    /// The end of what the executor of a master wrote.
    pub fn log(&self, node: &Node, id: &str) -> String {
        let path = node.path("/var/lib/etcd/lifeboat").join(id).join("executor.log");
        tail_of(&path)
    }
}

fn tail_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
