//! `etcd restore`: stages a file, says what will happen; or takes it back, or shows how far it is; or does it now.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use super::staging::{Staged, Wanted, stage};
use crate::host::discovery::Platform;
use crate::host::tools::Minor;
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::exchange;
use crate::restore_engine::layout::Place;
use crate::restore_engine::order::{OrderMember, short_code};
use crate::restore_engine::outcome::{RestoreResult, State};
use crate::restore_engine::perform::{Done, Job, perform, read_order};
use crate::restore_engine::stage::Tools;
use crate::restore_engine::standstill::lock_node;

/// Flags of `etcd restore`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["file", "abort", "status"]))]
pub struct RestoreArguments {
    /// The snapshot to restore from; the same on every master.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The order, from the master that minted it.
    #[arg(long, requires = "file")]
    order: Option<PathBuf>,
    /// Restore now, instead of at the next start of etcd; etcd and the API server must be stopped.
    #[arg(long, requires = "file")]
    perform: bool,
    /// Take back what is staged, or end the hold of a restore that failed.
    #[arg(long)]
    abort: bool,
    /// Show what is staged, and what became of the last restore.
    #[arg(long)]
    status: bool,
    /// A member of the new cluster, where the list in the file is no longer right; once for each master.
    #[arg(long = "member", value_name = "NAME=PEERURL", requires = "file", conflicts_with = "order", value_parser = parse_member)]
    members: Vec<OrderMember>,
    /// Accept a file of another cluster, named by the UID of its kube-system namespace.
    #[arg(long, value_name = "UID", requires = "file")]
    allow_other_cluster: Option<String>,
    /// Version of etcd on this node, where its image does not tell.
    #[arg(long, value_name = "MINOR", requires = "file")]
    etcd_version: Option<Minor>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

fn parse_member(text: &str) -> Result<OrderMember, String> {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && url.contains("://") => {
            let peer_urls = url.split(',').map(str::to_owned).collect();
            Ok(OrderMember { name: name.to_owned(), peer_urls })
        }
        Some(_) | None => Err("write it as NAME=https://HOST:2380".to_owned()),
    }
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum Stand {
    /// Nothing is staged.
    Nothing,
    /// The next start of etcd restores.
    Staged,
    /// A restore failed, and no etcd is started.
    Held,
    /// It was restored now.
    Restored,
}

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    state: Stand,
    code: Option<String>,
    order_digest: Option<String>,
    /// The order's file, where it was minted now.
    order_file: Option<PathBuf>,
    volume: PathBuf,
    members: Vec<OrderMember>,
    cluster_id: Option<String>,
    revision: Option<i64>,
    remarks: Vec<String>,
    last_result: Option<RestoreResult>,
}

/// Does what is asked.
///
/// # Errors
/// Why not.
pub async fn run(
    arguments: RestoreArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, signalled) = (Arc::clone(&stop), cancel.clone());
    tokio::spawn(async move {
        signalled.cancelled().await;
        seen.store(true, Ordering::Relaxed);
    });
    let node = Node::discover(arguments.node.clone()).await?;
    let output = arguments.output;
    let done = tokio::task::spawn_blocking(move || run_blocking(&arguments, &node, &stop)).await;
    let (words, report) = done.map_err(|error| NodeError::Failed(error.to_string()))??;
    Ok(print(out, output, &words, &report)?)
}

fn run_blocking(arguments: &RestoreArguments, node: &Node, stop: &AtomicBool) -> Result<(String, Report), NodeError> {
    let place = node.place()?;
    match (&arguments.file, arguments.abort) {
        (Some(file), _) => {
            check_obeyed(node, arguments.perform)?;
            let wanted = Wanted {
                file,
                order: arguments.order.as_deref(),
                members: &arguments.members,
                other_cluster: arguments.allow_other_cluster.as_deref(),
                server: arguments.etcd_version,
            };
            let staged = stage(node, &place, &wanted, stop)?;
            let words = words_of(node, &place, &staged, arguments.perform);
            if arguments.perform {
                // Minted orders must be seen even where what follows fails.
                let _ = std::io::stderr().write_all(words.as_bytes());
                return perform_now(arguments, node, &place, &staged, stop);
            }
            Ok((words, report(Stand::Staged, &place, Some(&staged))))
        }
        (None, true) => abort(&place),
        (None, false) => show(&place),
    }
}

/// A file that nobody will look for must not wait in the volume.
fn check_obeyed(node: &Node, is_performed: bool) -> Result<(), NodeError> {
    match (node.is_obeyed(), is_performed, node.discovery().platform) {
        (false, false, _) => Err(NodeError::Refused(
            "etcd's pod on this master does not look for restore.db: restore now with --perform, or run `lifeboat etcd-pod install` \
             first"
                .to_owned(),
        )),
        (false, true, _) | (true, _, _) => Ok(()),
    }
}

fn words_of(node: &Node, place: &Place, staged: &Staged, is_performed: bool) -> String {
    let Staged { order, digest, minted, remarks } = staged;
    let mut words = format!("order {}\n", short_code(digest));
    let mut line = |text: String| {
        let _ = writeln!(words, "{text}");
    };
    if let Some(path) = minted {
        line(format!(
            "It was minted here: copy {} to every other master, with the file, and give it with --order.",
            path.display()
        ));
    }
    let members: Vec<&str> = order.members.iter().map(|member| member.name.as_str()).collect();
    line(format!(
        "Every master ({}) needs the same file and the same order: compare the code above. Start none before all are ready.",
        members.join(", ")
    ));
    if is_performed {
        line("The restore is done now; etcd stays stopped.".to_owned());
    } else {
        line(format!("At its next start etcd's pod restores from {}.", place.restore_db().display()));
        line("Until then `lifeboat etcd restore --abort` takes it back.".to_owned());
        line(format!("What happens is at the top of its container's log; the result in {}.", place.result().display()));
    }
    line(format!("What was changed after revision {} is gone then; the old data is kept.", order.snapshot.revision));
    if node.discovery().platform == Platform::Kublr && !node.discovery().is_supervised {
        line(
            "Kublr's own etcd pod does the restore: it takes the file and ignores the order, so neither a new token nor the bump \
             of revisions; restart all kubelets and controllers afterwards, or run `lifeboat etcd-pod install` first."
                .to_owned(),
        );
    }
    if order.snapshot.alarms > 0 {
        line("The snapshot holds alarms; they come back with it. After the start: `etcdctl alarm disarm`.".to_owned());
    }
    for remark in remarks {
        line(remark.clone());
    }
    words
}

fn report(state: Stand, place: &Place, staged: Option<&Staged>) -> Report {
    let order = staged.map(|staged| &staged.order);
    Report {
        state,
        code: staged.map(|staged| short_code(&staged.digest)),
        order_digest: staged.map(|staged| staged.digest.clone()),
        order_file: staged.and_then(|staged| staged.minted.clone()),
        volume: place.volume.clone(),
        members: order.map(|order| order.members.clone()).unwrap_or_default(),
        cluster_id: order.map(|order| order.cluster_id().to_string()),
        revision: order.map(|order| order.bump_to),
        remarks: staged.map(|staged| staged.remarks.clone()).unwrap_or_default(),
        last_result: RestoreResult::read(&place.result()).ok().flatten(),
    }
}

fn perform_now(
    arguments: &RestoreArguments,
    node: &Node,
    place: &Place,
    staged: &Staged,
    stop: &AtomicBool,
) -> Result<(String, Report), NodeError> {
    let hint = node.discovery().version_hint.as_deref().and_then(Minor::of_version);
    let tools = Tools { directory: node.tools_dir.clone(), server: arguments.etcd_version.or(hint) };
    let mut say = |words: &str| {
        let _ = writeln!(std::io::stderr(), "{words}");
    };
    let job = Job { place, tools: &tools, stop };
    match perform(&job, &mut say) {
        Ok(Done::Restored { result: _, old: _ }) => {
            let words = "restored; start etcd and the API servers once every master is\n".to_owned();
            Ok((words, report(Stand::Restored, place, Some(staged))))
        }
        Ok(Done::Nothing | Done::Held) => Err(NodeError::Failed("what was staged has gone".to_owned())),
        Err(RestoreError::Interrupted) => Err(NodeError::Failed(
            "interrupted; nothing was changed, the file is staged: --abort takes it back, a start of a supervised etcd restores it"
                .to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Takes back what is staged, or ends a hold.
fn abort(place: &Place) -> Result<(String, Report), NodeError> {
    let _node = lock_node(place)?;
    if exchange::find_unfinished(place)?.is_some() {
        return Err(NodeError::Refused(
            "the new data has begun to take the place of the old; the next start of etcd ends it. The old data is kept"
                .to_owned(),
        ));
    }
    let (file, failed, order) = (place.restore_db(), place.failed(), place.order());
    let was_failed = failed.exists();
    if !file.exists() && !was_failed {
        return Err(NodeError::Refused(format!("nothing is staged in {}", place.volume.display())));
    }
    for path in [&file, &failed, &order] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RestoreError::disk("removed", path)(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    exchange::sync_directory(&place.volume)?;
    let message = "taken back before it was done; the old data is untouched".to_owned();
    let now = Timestamp::now();
    let result = RestoreResult { completion_time: Some(now), ..RestoreResult::begun(State::Aborted, message, now) };
    result.write(&place.result())?;
    let warning = if was_failed {
        "\nThe restore had failed here. If other masters were restored, this one does not belong to their cluster any more: restore \
         it too, or have it join them with `lifeboat etcd reinitialize`."
    } else {
        ""
    };
    let words = format!("taken back: etcd starts with its old data{warning}\n");
    Ok((words, report(Stand::Nothing, place, None)))
}

/// Shows what is staged and what became of the last one.
fn show(place: &Place) -> Result<(String, Report), NodeError> {
    let state = match (place.restore_db().exists(), place.failed().exists()) {
        (true, _) => Stand::Staged,
        (false, true) => Stand::Held,
        (false, false) => Stand::Nothing,
    };
    let mut report = report(state, place, None);
    if let Ok(order) = read_order(&place.order()) {
        let digest = order.digest().ok();
        report.code = digest.as_deref().map(short_code);
        report.order_digest = digest;
        report.cluster_id = Some(order.cluster_id().to_string());
        report.revision = Some(order.bump_to);
        report.members = order.members;
    }
    let code = report.code.as_ref().map(|code| format!(", order {code}")).unwrap_or_default();
    let mut words = match state {
        Stand::Staged => format!("a restore is staged{code}; the next start of etcd does it\n"),
        Stand::Held => "a restore failed and holds etcd: --abort ends that, so does a new --file\n".to_owned(),
        Stand::Nothing | Stand::Restored => "nothing is staged\n".to_owned(),
    };
    if let Some(result) = &report.last_result {
        let code = result.code.as_ref().map(|code| format!(" (order {code})")).unwrap_or_default();
        let _ = writeln!(words, "last: {:?}{code}, {}: {}", result.state, result.start_time, result.message);
        if let Some(after) = &result.after_start {
            let _ = writeln!(words, "      {after}");
        }
    }
    Ok((words, report))
}
