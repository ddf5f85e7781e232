//! `etcd restore`: stages a file, says what will happen; or takes it back, or shows how far it is; or does it now.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use super::staging::{Staged, Wanted, prove_stopped, stage};
use crate::host::crashsafe::{self, sync_directory};
use crate::host::discovery::Platform;
use crate::host::stop_flag::StopFlag;
use crate::host::tools::Minor;
use crate::restore_engine::decision::Next;
use crate::restore_engine::exchange;
use crate::restore_engine::layout::Place;
use crate::restore_engine::order::{Order, OrderMember, short_code};
use crate::restore_engine::outcome::{RestoreResult, State};
use crate::restore_engine::perform::{Done, Job, digest_of, look, perform_locked, read_order};
use crate::restore_engine::proof::prove_snapshot;
use crate::restore_engine::stage::Tools;
use crate::restore_engine::standstill::{Lock, lock_node};

/// Flags of `etcd restore`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["file", "perform", "abort", "status"]))]
pub struct RestoreArguments {
    /// The snapshot to restore from; the same on every master.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The order, from the master that minted it.
    #[arg(long, requires = "file")]
    order: Option<PathBuf>,
    /// Restore now, instead of at the next start of etcd; etcd and the API server must be stopped. Without --file: go on with what is
    /// staged, or end what was cut off.
    #[arg(long)]
    perform: bool,
    /// Take back what is staged, or end the hold of a restore that failed.
    #[arg(long, conflicts_with_all = ["file", "perform", "status"])]
    abort: bool,
    /// Show what is staged, what became of the last restore, and what old data is kept.
    #[arg(long, conflicts_with_all = ["file", "perform"])]
    status: bool,
    /// A member of the new cluster, where the list in the file is no longer right; once for each master.
    #[arg(long = "member", value_name = "NAME=PEERURL", requires = "file", conflicts_with = "order", value_parser = parse_member)]
    members: Vec<OrderMember>,
    /// Accept a file of another cluster, named by the UID of its kube-system namespace.
    #[arg(long, value_name = "UID", requires = "file")]
    allow_other_cluster: Option<String>,
    /// Version of etcd on this node, where its image does not tell.
    #[arg(long, value_name = "MINOR")]
    etcd_version: Option<Minor>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// A member as people write it, `NAME=PEERURL`.
///
/// # Errors
/// How to write it.
pub fn parse_member(text: &str) -> Result<OrderMember, String> {
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
    /// The exchange was begun: it is ended before etcd may start.
    Swapping,
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
    /// Old data that restores have put aside and nobody removed yet.
    kept: Vec<PathBuf>,
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
    let stop = StopFlag::of(cancel);
    let node = Node::discover(arguments.node.clone()).await?;
    let output = arguments.output;
    let done = tokio::task::spawn_blocking(move || run_blocking(&arguments, &node, stop.as_ref())).await;
    let Answer { words, report, failed } = done.map_err(|error| NodeError::Failed(error.to_string()))??;
    print(out, output, &words, &report)?;
    failed.map_or(Ok(()), Err)
}

/// What is shown, and why it is not what was asked for, where it is not.
struct Answer {
    words: String,
    report: Report,
    failed: Option<NodeError>,
}

impl Answer {
    const fn done(words: String, report: Report) -> Self {
        Self { words, report, failed: None }
    }
}

fn run_blocking(arguments: &RestoreArguments, node: &Node, stop: &AtomicBool) -> Result<Answer, NodeError> {
    let place = node.place()?;
    if arguments.status {
        return show(node, &place);
    }
    if !place.volume.is_dir() {
        return Err(NodeError::Refused(format!(
            "etcd's data volume {} is not there: is its disk mounted?",
            place.volume.display()
        )));
    }
    let lock = lock_node(&place)?;
    let next = look(&place)?;
    if arguments.abort {
        return abort(node, &place, next);
    }
    match (&arguments.file, is_pending(next)) {
        (Some(file), false) => begin(arguments, node, &place, &lock, file, stop),
        (Some(file), true) if arguments.perform => {
            check_same(file, arguments.order.as_deref(), node, &place, stop)?;
            go_on(arguments, node, &place, &lock, stop)
        }
        (Some(_), true) => {
            Err(NodeError::Refused(format!("nothing is staged anew: {}", pending_words(node, &place, next))))
        }
        (None, true) => go_on(arguments, node, &place, &lock, stop),
        (None, false) => Err(NodeError::Refused(pending_words(node, &place, next))),
    }
}

/// Whether there is something that `--perform` goes on with.
const fn is_pending(next: Next) -> bool {
    match next {
        Next::Start | Next::Hold => false,
        Next::EndSwap | Next::TidyUp | Next::Perform => true,
    }
}

const fn stand_of(next: Next) -> Stand {
    match next {
        Next::Start => Stand::Nothing,
        Next::Hold => Stand::Held,
        Next::EndSwap | Next::TidyUp => Stand::Swapping,
        Next::Perform => Stand::Staged,
    }
}

/// The order that is being followed; nothing where there is none that can be read.
fn pending_order(place: &Place) -> Option<Order> {
    let unfinished = exchange::find_unfinished(place).ok().flatten();
    let path = unfinished.map_or_else(|| place.order(), |(id, _)| place.restore(&id).order());
    read_order(&path).ok()
}

/// How this node stands, and what is to be typed.
fn pending_words(node: &Node, place: &Place, next: Next) -> String {
    let order = pending_order(place).and_then(|order| order.digest().ok());
    let code = order.map(|digest| format!(", order {}", short_code(&digest))).unwrap_or_default();
    let (perform, abort) = (node.restore_command("--perform"), node.restore_command("--abort"));
    let is_supervised = node.discovery().is_supervised;
    match next {
        Next::Start => format!("nothing is staged in {}{}", place.volume.display(), last_words(place)),
        Next::Hold if is_supervised => {
            format!("a restore failed, and no etcd is started here until `{abort}`, or a new --file")
        }
        Next::Hold => format!("a restore failed; start no etcd here before `{abort}`, or a new --file"),
        Next::Perform if node.is_obeyed() => format!(
            "a restore is staged{code}; the next start of etcd does it, at once where its pod is held, or `{perform}`; `{abort}` takes it \
             back"
        ),
        Next::Perform => format!("a restore is staged{code}; `{perform}` does it, `{abort}` takes it back"),
        Next::EndSwap | Next::TidyUp => format!(
            "the new data takes the place of the old{code}, which cannot be taken back any more; {}`{perform}` ends it. The old data is \
             kept",
            if is_supervised { "the next start of etcd, or " } else { "start no etcd here before: " }
        ),
    }
}

/// That the last restore is over, for whoever saw it cut off in its last moment and asks to go on.
fn last_words(place: &Place) -> String {
    let last = RestoreResult::read(&place.result()).ok().flatten().filter(|result| result.state == State::Restored);
    let Some(result) = last else { return String::new() };
    let code = result.code.map(|code| format!(", order {code}")).unwrap_or_default();
    let when = result.completion_time.map(|time| format!(" at {time:.0}")).unwrap_or_default();
    format!("; the last restore was done{when}{code}")
}

/// Stages a file, and restores at once if that is asked for.
fn begin(
    arguments: &RestoreArguments,
    node: &Node,
    place: &Place,
    lock: &Lock,
    file: &Path,
    stop: &AtomicBool,
) -> Result<Answer, NodeError> {
    check_obeyed(node, arguments.perform)?;
    let wanted = Wanted {
        file,
        order: arguments.order.as_deref(),
        members: &arguments.members,
        other_cluster: arguments.allow_other_cluster.as_deref(),
        server: arguments.etcd_version,
    };
    // What holds etcd's pod now looks for the file every second.
    let is_awaited = node.discovery().is_supervised && (place.failed().exists() || !place.database().exists());
    let staged = stage(node, place, lock, &wanted, stop)?;
    let words = words_of(node, place, &staged, arguments.perform, is_awaited);
    if !arguments.perform {
        let mut report = report(Stand::Staged, place, Some(&staged.order));
        report.order_file = staged.minted;
        report.remarks = staged.remarks;
        return Ok(Answer::done(words, report));
    }
    // Minted orders must be seen even where what follows fails.
    let _ = std::io::stderr().write_all(words.as_bytes());
    // What is refused from here on is no refusal any more: the file is staged.
    let gone_on = go_on(arguments, node, place, lock, stop);
    let mut answer = gone_on.map_err(|error| NodeError::Failed(error.to_string()))?;
    answer.report.order_file = staged.minted;
    answer.report.remarks = staged.remarks;
    Ok(answer)
}

/// The same command once more goes on; another file or order does not.
fn check_same(
    file: &Path,
    order: Option<&Path>,
    node: &Node,
    place: &Place,
    stop: &AtomicBool,
) -> Result<(), NodeError> {
    let other = |what: &str| {
        NodeError::Refused(format!(
            "a restore by another {what} was begun here: `{}` goes on with that one, and `{}` shows how far it is",
            node.restore_command("--perform"),
            node.restore_command("--status"),
        ))
    };
    let pending = pending_order(place).ok_or_else(|| other("order, which cannot be read,"))?;
    if let Some(path) = order
        && digest_of(&read_order(path)?, path)? != digest_of(&pending, path)?
    {
        return Err(other("order"));
    }
    let proven = prove_snapshot(file, stop, |_| Ok(()))?;
    if pending.check(&place.own, &proven.sha256).is_err() {
        return Err(other("file"));
    }
    Ok(())
}

/// A file that nobody will look for must not wait in the volume, nor one whose data the pod cannot put in place.
fn check_obeyed(node: &Node, is_performed: bool) -> Result<(), NodeError> {
    if is_performed {
        return Ok(());
    }
    if !node.is_obeyed() {
        return Err(NodeError::Refused(
            "etcd's pod on this master does not look for restore.db: restore now with --perform, or run `lifeboat etcd-pod install` \
             first"
                .to_owned(),
        ));
    }
    if node.discovery().is_wal_volume {
        return Err(NodeError::Refused(
            "the WAL directory is the root of a volume in etcd's pod, where it cannot change places with another directory: restore now \
             with --perform"
                .to_owned(),
        ));
    }
    Ok(())
}

fn words_of(node: &Node, place: &Place, staged: &Staged, is_performed: bool, is_awaited: bool) -> String {
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
        let file = place.restore_db();
        line(if is_awaited {
            format!(
                "etcd is held back here: where its pod runs, it restores from {} within seconds; else at its start.",
                file.display()
            )
        } else {
            format!("At its next start etcd's pod restores from {}.", file.display())
        });
        line(format!("Until then `{}` takes it back.", node.restore_command("--abort")));
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

fn report(state: Stand, place: &Place, order: Option<&Order>) -> Report {
    let digest = order.and_then(|order| order.digest().ok());
    Report {
        state,
        code: digest.as_deref().map(short_code),
        order_digest: digest,
        order_file: None,
        volume: place.volume.clone(),
        members: order.map(|order| order.members.clone()).unwrap_or_default(),
        cluster_id: order.map(|order| order.cluster_id().to_string()),
        revision: order.map(|order| order.bump_to),
        remarks: Vec::new(),
        kept: exchange::find_kept(place).unwrap_or_default(),
        last_result: RestoreResult::read(&place.result()).ok().flatten(),
    }
}

/// Does what is staged, or ends what was cut off.
fn go_on(
    arguments: &RestoreArguments,
    node: &Node,
    place: &Place,
    lock: &Lock,
    stop: &AtomicBool,
) -> Result<Answer, NodeError> {
    // The engine locks the databases itself; what it cannot see is who answers.
    drop(prove_stopped(node, place)?);
    let order = pending_order(place);
    let hint = node.discovery().version_hint.as_deref().and_then(Minor::of_version);
    let tools = Tools { directory: node.tools_dir.clone(), server: arguments.etcd_version.or(hint) };
    let mut say = |words: &str| {
        let _ = writeln!(std::io::stderr(), "{words}");
    };
    let words = match perform_locked(&Job { place, tools: &tools, stop }, lock, &mut say) {
        Ok(Done::Restored { result: _, old: _ }) => {
            let words = "restored; start etcd and the API servers once every master is\n".to_owned();
            return Ok(Answer::done(words, report(Stand::Restored, place, order.as_ref())));
        }
        Ok(Done::Nothing | Done::Held) => "what was staged has gone".to_owned(),
        Err(error) => error.to_string(),
    };
    // Whatever it was, something was changed or begun by now: this is no refusal.
    let next = look(place)?;
    let stands = format!("{}\n", pending_words(node, place, next));
    Ok(Answer {
        words: stands,
        report: report(stand_of(next), place, order.as_ref()),
        failed: Some(NodeError::Failed(words)),
    })
}

/// Takes back what is staged, or ends a hold.
fn abort(node: &Node, place: &Place, next: Next) -> Result<Answer, NodeError> {
    match next {
        Next::Start | Next::EndSwap | Next::TidyUp => {
            return Err(NodeError::Refused(pending_words(node, place, next)));
        }
        Next::Hold | Next::Perform => {}
    }
    let was_failed = place.failed().exists();
    for path in [place.restore_db(), place.failed(), place.order()] {
        crashsafe::remove(&path)?;
    }
    sync_directory(&place.volume)?;
    let message = "taken back before it was done; the old data is untouched".to_owned();
    let now = Timestamp::now();
    let result = RestoreResult { completion_time: Some(now), ..RestoreResult::begun(State::Aborted, message, now) };
    result.write(&place.result())?;
    exchange::forget_unbegun(place)?;
    let warning = if was_failed {
        "\nThe restore had failed here. If other masters were restored, this one does not belong to their cluster any more: restore \
         it too, or have it join them with `lifeboat etcd reinitialize`."
    } else {
        ""
    };
    let words = format!("taken back: etcd starts with its old data{warning}\n");
    Ok(Answer::done(words, report(Stand::Nothing, place, None)))
}

/// Shows what is staged and what became of the last one.
fn show(node: &Node, place: &Place) -> Result<Answer, NodeError> {
    let next = look(place)?;
    let order = if next == Next::Start { None } else { pending_order(place) };
    let report = report(stand_of(next), place, order.as_ref());
    let mut words = pending_words(node, place, next) + "\n";
    if let Some(result) = &report.last_result {
        let code = result.code.as_ref().map(|code| format!(" (order {code})")).unwrap_or_default();
        let _ = writeln!(words, "last: {:?}{code}, {}: {}", result.state, result.start_time, result.message);
        if let Some(after) = &result.after_start {
            let _ = writeln!(words, "      {after}");
        }
    }
    for path in &report.kept {
        let _ = writeln!(words, "kept: {}", path.display());
    }
    Ok(Answer::done(words, report))
}
