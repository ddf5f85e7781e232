//! One control plane with a large database and Lifeboat at work, and the three ways to read that database. One master: the member
//! that is read serves everything else, too, and nothing else runs on the cores.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client, Config};
use lifeboat_crds::condition::is_true;
use lifeboat_crds::manifest::SealedManifest;
use lifeboat_crds::{ConditionType, EtcdBackup, EtcdBackupStatus};
use lifeboat_e2e::cluster::{BUCKET, Cluster, NAMESPACE, Setup};
use lifeboat_e2e::manifests::backup;
use lifeboat_testbed::{Node, Options};
use serde::Serialize;

use crate::database::{QUOTA_BYTES, unpack};
use crate::machine::{forget_peak, peak_mib};

/// The location that backups go to.
pub const LOCATION: &str = "offsite";
/// Longest for one backup.
const BACKUP_LIMIT: Duration = Duration::from_secs(600);

/// One backup, as a user sees it and as the agent saw it.
#[derive(Clone, Debug, Serialize)]
pub struct BackupRun {
    /// From the request that creates the object to `Complete` seen by a watch.
    pub seconds_seen: f64,
    /// From the agent's start, by its own account, to the manifest in the store.
    pub seconds_agent: f64,
    /// The agent's peak resident memory during it, MiB.
    pub agent_peak_rss_mib: f64,
    /// Processor time the agent used.
    pub agent_cpu_seconds: f64,
    /// Writes to the API in our group and of events, but for the one that asked for it.
    pub api_writes: u64,
    /// Size of the snapshot.
    pub size_bytes: i64,
    /// Size of the archive.
    pub stored_bytes: i64,
    /// When the agent had it at work.
    #[serde(skip)]
    pub window: (SystemTime, SystemTime),
}

/// A control plane with a database.
pub struct Ground {
    pub cluster: Cluster,
    /// A client of the API server, as administrator.
    pub client: Client,
}

impl Ground {
    /// Brings it up.
    ///
    /// # Errors
    /// Something does not become ready.
    pub async fn start(kept: &Path) -> Result<Self> {
        let plain = kept.with_extension("seed");
        let (from, to) = (kept.to_owned(), plain.clone());
        tokio::task::spawn_blocking(move || unpack(&from, &to)).await??;
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let bed = Options {
            masters: 1,
            // As on a master: what the measured programs write to the disk is in the way of etcd's own.
            fsync: true,
            etcd_args: vec![flag("quota-backend-bytes", &QUOTA_BYTES.to_string())],
            // The API server would change the database between two runs.
            api_server_args: vec![flag("etcd-compaction-interval", "0")],
            database: Some(plain.clone()),
            start_timeout: Duration::from_secs(180),
            ..Options::default()
        };
        let started = Cluster::start(Setup { bed, ..Setup::named("bench") }).await;
        fs::remove_file(&plain)?;
        let cluster = started?;
        cluster.create_location(LOCATION).await?;
        let kubeconfig = Kubeconfig::read_from(cluster.bed.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { cluster, client: Client::try_from(config)? })
    }

    /// The master.
    pub fn node(&self) -> Result<&Node> {
        self.cluster.bed.nodes().first().context("no node")
    }

    /// Backups in the API.
    pub fn backups(&self) -> Api<EtcdBackup> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Process of the agent.
    pub fn agent_pid(&self) -> Result<u32> {
        self.cluster.agents.values().find_map(|agent| agent.pid()).context("the agent ended")
    }

    /// Process of the operator.
    pub fn operator_pid(&self) -> Result<u32> {
        self.cluster.operators.first().and_then(|operator| operator.pid()).context("the operator ended")
    }

    /// Seconds of a stock `etcdctl snapshot save` to disk.
    pub async fn save(&self) -> Result<f64> {
        let file = self.cluster.bed.dir().join("saved.db");
        let begun = Instant::now();
        self.cluster.bed.etcdctl(self.node()?, &["snapshot", "save", &file.to_string_lossy()]).await?;
        let seconds = begun.elapsed().as_secs_f64();
        fs::remove_file(&file)?;
        Ok(seconds)
    }

    /// Seconds of a bare read of the stream to nothing, by a process on the node as etcdctl is one.
    pub async fn read_stream(&self) -> Result<f64> {
        const PKI: &str = "/etc/kubernetes/pki/etcd";
        let mut command = self.node()?.command(std::env::current_exe()?);
        command.args(["read-stream", "--address", "127.0.0.1:2379", "--ca", &format!("{PKI}/ca.crt")]);
        command.args(["--cert", &format!("{PKI}/healthcheck-client.crt")]);
        command.args(["--key", &format!("{PKI}/healthcheck-client.key")]);
        let begun = Instant::now();
        let output = command.kill_on_drop(true).output().await?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(seconds)
    }

    /// Makes a backup, and removes object and archive again.
    pub async fn back_up(&self, name: &str) -> Result<BackupRun> {
        let (agent, writes) = (self.agent_pid()?, self.api_writes().await?);
        forget_peak(agent)?;
        let cpu = crate::machine::processor_seconds(agent)?;
        let object: EtcdBackup = serde_json::from_value(backup(name, LOCATION))?;
        let begun = Instant::now();
        self.backups().create(&PostParams::default(), &object).await?;
        let status = self.wait_complete(name).await?;
        let seconds_seen = begun.elapsed().as_secs_f64();
        let backup_id = status.backup_id.as_deref().unwrap_or_default();
        let window = self.window(backup_id)?;
        let run = BackupRun {
            seconds_seen,
            seconds_agent: window.1.duration_since(window.0)?.as_secs_f64(),
            agent_peak_rss_mib: peak_mib(agent)?,
            agent_cpu_seconds: crate::machine::processor_seconds(agent)? - cpu,
            api_writes: (self.api_writes().await? - writes).saturating_sub(1),
            size_bytes: status.size_bytes.unwrap_or_default(),
            stored_bytes: status.stored_size_bytes.unwrap_or_default(),
            window,
        };
        self.backups().delete(name, &DeleteParams::default()).await?;
        fs::remove_dir_all(self.archive(backup_id)?)?;
        Ok(run)
    }

    /// Status of a backup made for it; object and archive stay.
    pub async fn finished_backup(&self, name: &str) -> Result<EtcdBackupStatus> {
        let object: EtcdBackup = serde_json::from_value(backup(name, LOCATION))?;
        self.backups().create(&PostParams::default(), &object).await?;
        self.wait_complete(name).await
    }

    async fn wait_complete(&self, name: &str) -> Result<EtcdBackupStatus> {
        let status = self.wait_over(name).await?.status.unwrap_or_default();
        let is_complete = is_true(&status.conditions, ConditionType::Complete);
        ensure!(is_complete, "{status:#?}\n{}", self.cluster.log_tails());
        Ok(status)
    }

    async fn wait_over(&self, name: &str) -> Result<EtcdBackup> {
        let over = async {
            let mut seen = std::pin::pin!(watch_object(self.backups(), name));
            while let Some(object) = seen.try_next().await.or_else(first_of_all)? {
                let Some(backup) = object else { continue };
                let conditions =
                    backup.status.iter().flat_map(|status| &status.conditions).cloned().collect::<Vec<_>>();
                if is_true(&conditions, ConditionType::Complete) || is_true(&conditions, ConditionType::Failed) {
                    return Ok(backup);
                }
            }
            bail!("the watch ended")
        };
        tokio::time::timeout(BACKUP_LIMIT, over).await.context("the backup does not end")?
    }

    /// Directory of a backup in the store.
    fn archive(&self, backup_id: &str) -> Result<std::path::PathBuf> {
        let clusters = self.cluster.bed.s3().bucket_dir(BUCKET).join(LOCATION);
        for cluster in fs::read_dir(&clusters)? {
            let archive = cluster?.path().join("backups").join(backup_id);
            if !backup_id.is_empty() && archive.exists() {
                return Ok(archive);
            }
        }
        bail!("no backup {backup_id} in {}", clusters.display())
    }

    /// When the agent began, by its manifest, and when the manifest was there, by the store's disk.
    fn window(&self, backup_id: &str) -> Result<(SystemTime, SystemTime)> {
        let file = self.archive(backup_id)?.join("manifest.json");
        let manifest = SealedManifest::from_bytes(&fs::read(&file)?)?.payload;
        Ok((manifest.start_time.into(), fs::metadata(&file)?.modified()?))
    }

    /// First lines of what the programs say of themselves.
    pub async fn versions(&self) -> Result<Vec<String>> {
        let programs = self.cluster.bed.binaries();
        let of = [
            (programs.program("etcd"), "--version"),
            (programs.program("etcdctl"), "version"),
            (self.cluster.binary("lifeboat"), "--version"),
        ];
        let mut versions = Vec::new();
        for (program, argument) in of {
            let output = tokio::process::Command::new(&program).arg(argument).output().await?;
            let text = String::from_utf8_lossy(&output.stdout);
            versions.push(
                text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or("?").trim().to_owned(),
            );
        }
        // It does not know its own.
        versions.extend(include_str!("../../testbed/tools/versitygw/go.mod").lines().filter_map(s3_server));
        Ok(versions)
    }

    /// Writes to the API in our group and of events, as the API server counts them; EtcdMembers' heartbeats among them.
    pub async fn api_writes(&self) -> Result<u64> {
        let metrics = self.client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let ours = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && [r#"group="etcd.lifeboat.dev""#, r#"group="events.k8s.io""#].iter().any(|group| line.contains(group))
                && ["APPLY", "PATCH", "POST", "PUT", "DELETE"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        };
        let counts = metrics.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as u64)
    }
}

fn s3_server(line: &str) -> Option<String> {
    let version = line.trim().strip_prefix("github.com/versity/versitygw ")?.split_whitespace().next()?;
    Some(format!("versitygw {version}"))
}

fn first_of_all(error: watcher::Error) -> Result<Option<Option<EtcdBackup>>> {
    Err(error).context("watching the backup")
}
