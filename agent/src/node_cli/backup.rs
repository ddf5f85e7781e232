//! `etcd backup`: a snapshot of this master's etcd in a file, as `etcdctl snapshot save` makes it, or in a location.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::Quantity;
use lifeboat_crds::backup::{EtcdBackupSpec, VerificationLevel};
use lifeboat_snapshot::{Content, Facts};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use super::upload::{LocationArguments, upload};
use crate::archive::progress::Progress;
use crate::snapshot_file::{Save, save_snapshot};

/// How often progress is shown on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Flags of `etcd backup`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true).multiple(false).args(["file", "location"]))]
pub struct BackupArguments {
    /// The file; never overwritten. `{time}` in its name becomes the time, such as 20261124-020304 (UTC).
    #[arg(long)]
    file: Option<PathBuf>,
    /// A location instead.
    #[command(flatten)]
    location: LocationArguments,
    /// Take the snapshot also where the member sees no leader, so that its data may be behind: for the last one before the
    /// end. Into a file only.
    #[arg(long, conflicts_with = "location")]
    without_leader: bool,
    /// The whole transfer, in seconds; a slow reader makes etcd's database grow.
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    transfer_seconds: u64,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// Takes the snapshot.
///
/// # Errors
/// Why there is no file.
pub async fn run(
    arguments: BackupArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    let BackupArguments { file, location, without_leader, transfer_seconds, output, node } = arguments;
    let node = Node::discover(node).await?;
    let progress = Arc::new(Progress::default());
    let shown = show(Arc::clone(&progress));
    let taken = match (&file, &location.location) {
        (Some(file), _) => {
            let save = Save { transfer: Duration::from_secs(transfer_seconds), require_leader: !without_leader };
            save_file(&node, file, save, &progress, cancel).await
        }
        (None, Some(path)) => {
            let seconds = i64::try_from(transfer_seconds).unwrap_or(i64::MAX);
            let limits = |spec: &mut EtcdBackupSpec| spec.limits.transfer_seconds = seconds;
            upload(&node, path, &location, limits, &progress, cancel).await
        }
        (None, None) => Err(NodeError::Refused("say --file or --location".to_owned())),
    };
    if let Some(shown) = shown {
        shown.abort();
        let _ = write!(std::io::stderr(), "\r{:30}\r", "");
    }
    let taken = taken?;
    Ok(print(out, output, &taken.words(), &taken)?)
}

/// What was taken, for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// URL of the archive's manifest in the location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// Identity of the backup in the location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Bytes in the location, compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_size_bytes: Option<u64>,
    /// Bytes of the snapshot.
    pub size_bytes: u64,
    /// SHA-256 of the snapshot, hex.
    pub sha256: String,
    /// What was proven.
    pub verified: VerificationLevel,
    /// Newest revision; nothing where the pages could not be read.
    pub revision: Option<i64>,
    /// Identity of the content.
    pub content_hash: Option<String>,
    /// Entries of the database.
    pub keys: Option<u64>,
    /// Names of the members in a file's snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
}

impl Taken {
    fn words(&self) -> String {
        let revision = self.revision.map_or_else(|| "unknown".to_owned(), |revision| revision.to_string());
        let proven = match self.verified {
            VerificationLevel::Checksum => "proven by its checksum alone",
            VerificationLevel::Content | VerificationLevel::Members => "every page in use proven",
        };
        let (place, more) = match (&self.file, &self.archive) {
            (Some(file), _) => (file.display().to_string(), "Keep a copy off this machine.".to_owned()),
            (None, archive) => {
                let id = self.backup_id.clone().unwrap_or_default();
                (archive.clone().unwrap_or_default(), format!("See `lifeboat backup describe {id}`."))
            }
        };
        let (size, sha256) = (Quantity::human(self.size_bytes), &self.sha256);
        format!("{place}: {size}, revision {revision}, {proven}\nsha256 {sha256}\n{more}\n")
    }
}

async fn save_file(
    node: &Node,
    file: &Path,
    save: Save,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Taken, NodeError> {
    let time = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let file = PathBuf::from(file.to_string_lossy().replace("{time}", &time));
    let client = node.client().await?;
    let Facts { size, file_sha256, content } = save_snapshot(&client, save, &file, progress, cancel).await?;
    let database = match &content {
        Content::Verified(database) => Some(database),
        Content::Unverified { reason: _ } => None,
    };
    Ok(Taken {
        file: Some(file),
        archive: None,
        backup_id: None,
        stored_size_bytes: None,
        size_bytes: size,
        sha256: hex::encode(file_sha256),
        verified: if database.is_some() { VerificationLevel::Content } else { VerificationLevel::Checksum },
        revision: database.map(|database| database.revision),
        content_hash: database.map(|database| database.content_hash.to_string()),
        keys: database.map(|database| database.total_keys),
        members: database.map(|database| database.members.iter().map(|member| member.name.clone()).collect()),
    })
}

fn show(progress: Arc<Progress>) -> Option<tokio::task::JoinHandle<()>> {
    std::io::stderr().is_terminal().then(|| {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SHOW_EVERY).await;
                if let Some((done, total)) = progress.bytes() {
                    let percent = done.saturating_mul(100) / total.max(1);
                    let _ = write!(std::io::stderr(), "\r{percent:3} % of {} MiB", total >> 20);
                }
            }
        })
    })
}
