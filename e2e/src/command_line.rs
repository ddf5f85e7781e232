//! `lifeboat backup …` as an administrator runs it: a file that describes the location, another with the keys, and no API
//! server asked.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::manifests::S3Objects;
use crate::stock_tools::run;
use crate::wait::eventually;

const MINUTE: Duration = Duration::from_secs(60);

/// What a command ended with: its exit code, and all that it printed.
pub type Said = (Option<i32>, String);

/// The command, set up for one location.
pub struct CommandLine {
    /// Where its files are, and where it runs.
    pub dir: PathBuf,
    program: PathBuf,
    /// Arguments that follow all others.
    more: Vec<String>,
}

impl CommandLine {
    /// Writes `location.yaml` and `keys` into a directory of the testbed that is the location's own.
    pub fn set_up(cluster: &Cluster, objects: &S3Objects<'_>) -> Result<Self> {
        let dir = cluster.bed.dir().join("cli").join(objects.bucket);
        std::fs::create_dir_all(&dir)?;
        let mut location = objects.location();
        location["spec"]["s3"]["credentialsFile"] = json!("keys");
        location["spec"]["s3"]["caBundleFile"] = json!(cluster.bed.s3().ca_file);
        std::fs::write(dir.join("location.yaml"), serde_norway::to_string(&location)?)?;
        let S3Objects { access_key, secret_key, .. } = objects;
        std::fs::write(
            dir.join("keys"),
            format!("AWS_ACCESS_KEY_ID={access_key}\nAWS_SECRET_ACCESS_KEY={secret_key}\n"),
        )?;
        Ok(Self { dir, program: cluster.binary("lifeboat"), more: Vec::new() })
    }

    /// The same, of one cluster of those that lie in the location.
    pub fn of_cluster(self, uid: &str) -> Self {
        Self { more: vec!["--cluster".to_owned(), uid.to_owned()], ..self }
    }

    /// Runs `lifeboat backup` with these arguments.
    pub async fn backup(&self, args: &[&str]) -> Result<Said> {
        let mut command = self.command();
        command.arg("backup").args(args).arg("--location").arg(self.dir.join("location.yaml")).args(&self.more);
        said(command).await
    }

    /// Begins `lifeboat backup` with these arguments, and sends SIGINT, as Ctrl-C does, once `is_time`.
    pub async fn interrupted(&self, args: &[&str], is_time: impl Fn() -> bool) -> Result<Said> {
        let mut command = self.command();
        command.arg("backup").args(args).arg("--location").arg(self.dir.join("location.yaml")).args(&self.more);
        let begun = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let pid = begun.id().context("it ended at once")?.to_string();
        eventually("the moment to interrupt", MINUTE, || async { anyhow::Ok(is_time().then_some(())) }).await?;
        run("kill", &["-INT", &pid]).await?;
        let output = tokio::time::timeout(MINUTE, begun.wait_with_output()).await.context("it goes on all the same")?;
        Ok(words_of(output?))
    }

    /// Runs `lifeboat` with these arguments; the location is in the environment.
    pub async fn run(&self, args: &[&str]) -> Result<Said> {
        let mut command = self.command();
        command.args(args).env("LIFEBOAT_LOCATION", self.dir.join("location.yaml"));
        said(command).await
    }

    /// A path in its directory, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir(&self.dir).stdin(Stdio::null());
        command
    }
}

async fn said(mut command: Command) -> Result<Said> {
    Ok(words_of(command.output().await?))
}

fn words_of(Output { status, stdout, stderr }: Output) -> Said {
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}
