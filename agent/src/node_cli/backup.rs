//! `etcd backup`: a snapshot of this master's etcd in a file, as `etcdctl snapshot save` makes it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::Quantity;
use lifeboat_snapshot::{Content, Facts};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use crate::archive::progress::Progress;
use crate::snapshot_file::{Save, save_snapshot};

/// How often progress is shown on a terminal.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Flags of `etcd backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// The file; never overwritten. `{time}` in its name becomes the time, such as 20261124-020304 (UTC).
    #[arg(long)]
    file: PathBuf,
    /// Take the snapshot also where the member sees no leader, so that its data may be behind: for the last one before the
    /// end.
    #[arg(long)]
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
    let BackupArguments { file, without_leader, transfer_seconds, output, node } = arguments;
    let time = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let file = PathBuf::from(file.to_string_lossy().replace("{time}", &time));
    let node = Node::discover(node).await?;
    let client = node.client().await?;
    let save = Save { transfer: Duration::from_secs(transfer_seconds), require_leader: !without_leader };
    let progress = Arc::new(Progress::default());
    let shown = show(Arc::clone(&progress));
    let saved = save_snapshot(&client, save, &file, &progress, cancel).await;
    if let Some(shown) = shown {
        shown.abort();
        let _ = write!(std::io::stderr(), "\r{:30}\r", "");
    }
    let facts = saved?;
    let Facts { size, file_sha256, content } = &facts;
    let database = match content {
        Content::Verified(database) => Some(database),
        Content::Unverified { reason: _ } => None,
    };
    let proof = json!({
        "file": file,
        "sizeBytes": size,
        "sha256": hex::encode(file_sha256),
        "verified": if database.is_some() { "Content" } else { "Checksum" },
        "revision": database.map(|database| database.revision),
        "contentHash": database.map(|database| database.content_hash.to_string()),
        "keys": database.map(|database| database.total_keys),
        "members": database.map(|database| database.members.iter().map(|member| member.name.clone()).collect::<Vec<_>>()),
    });
    let revision = database.map_or_else(|| "unknown".to_owned(), |database| database.revision.to_string());
    let words = format!(
        "{}: {}, revision {revision}, every page in use proven\nsha256 {}\nKeep a copy off this machine.\n",
        file.display(),
        Quantity::human(*size),
        hex::encode(file_sha256),
    );
    Ok(print(out, output, &words, &proof)?)
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
