//! `etcd reinitialize`: writes `command`, which etcd's supervisor obeys; with `--wait` shows what became of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use crate::etcd::status::fetch_member;
use crate::host::crashsafe;
use crate::rejoin::journal::given_endpoints;
use crate::rejoin::outcome::{CommandResult, Outcome};
use crate::restore_engine::layout::PRIVATE;

/// Mode of `command`: nothing in it is secret, and etcd may run as a user of its own.
const READABLE: u32 = 0o644;
/// How often the result is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// More of another pod's answer is not shown.
const LONGEST_ANSWER: usize = 4_096;

/// Flags of `etcd reinitialize`.
#[derive(Debug, clap::Args)]
pub struct ReinitializeArguments {
    /// Wait for the result.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds; the work goes on beyond that (exit 3).
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    timeout: u64,
    /// Client URL of another member, where this master has lost all it knew of them; may be given several times.
    #[arg(long = "endpoint", value_name = "URL")]
    endpoints: Vec<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// What is printed for programs without `--wait`; with it, `command-result` is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Written {
    /// `Written`.
    outcome: &'static str,
    /// The file.
    command: PathBuf,
}

/// Writes the command.
///
/// # Errors
/// Why it is not written, or what became of it.
pub async fn run(
    arguments: ReinitializeArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), NodeError> {
    let ReinitializeArguments { wait, timeout, endpoints, output, node } = arguments;
    let node = Node::discover(node).await?;
    let place = node.place()?;
    if !node.is_obeyed() {
        return Err(NodeError::Refused(
            "etcd's pod on this master does not look for commands: run `lifeboat etcd-pod install` first".to_owned(),
        ));
    }
    let path = place.command();
    let before = look(&place.command_result());
    let begun = Timestamp::now();
    if !endpoints.is_empty() {
        crashsafe::make_directory(&place.rejoin_directory(), 0o700)?;
        crashsafe::replace(&given_endpoints(&place), (endpoints.join("\n") + "\n").as_bytes(), PRIVATE)?;
    }
    if !crashsafe::create_new(&path, b"reinitialize\n", READABLE)? {
        return Err(NodeError::Refused(format!("{} is there already: a command is being done", path.display())));
    }
    if !wait {
        let words = format!(
            "{} is written; etcd's supervisor obeys within seconds, or at its next start. The result comes into {}\n",
            path.display(),
            place.command_result().display()
        );
        return Ok(print(out, output, &words, &Written { outcome: "Written", command: path.clone() })?);
    }
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let result = loop {
        match hear(before.as_ref(), look(&place.command_result()).as_ref(), begun) {
            Some(result) if path.symlink_metadata().is_err() => break result,
            Some(_) | None => {}
        }
        rest(deadline, cancel, || {
            if path.exists() {
                return format!(
                    "{} was not taken yet, or is not over: see whether etcd's pod runs, and its log",
                    path.display()
                );
            }
            format!("not over yet; it goes on, see {}", place.command_result().display())
        })
        .await?;
    };
    print(out, output, &format!("{:?}: {}\n", result.outcome, result.message), &result)?;
    match result.outcome {
        Outcome::Done | Outcome::Running => Ok(()),
        Outcome::Refused => Err(NodeError::Refused(result.message)),
        Outcome::Failed => Err(NodeError::Failed(result.message)),
        Outcome::Answered => see_voting(&node, deadline, cancel).await,
    }
}

/// The file of results, as far as it tells one answer from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    bytes: Vec<u8>,
}

fn look(path: &Path) -> Option<Seen> {
    let bytes = std::fs::read(path).ok()?;
    Some(Seen { modified: path.metadata().and_then(|metadata| metadata.modified()).ok(), bytes })
}

/// What became of a command that was given at `begun`, once it is over. Lifeboat's supervisor says so itself; what another pod
/// writes (Kublr's own) is text that nothing is known of but that it is new.
fn hear(before: Option<&Seen>, now: Option<&Seen>, begun: Timestamp) -> Option<CommandResult> {
    let seen = now?;
    match serde_json::from_slice::<CommandResult>(&seen.bytes) {
        Ok(result) => result.completion_time.is_some_and(|over| over >= begun).then_some(result),
        Err(_) if before == now => None,
        Err(_) => {
            let words: String = String::from_utf8_lossy(&seen.bytes).trim().chars().take(LONGEST_ANSWER).collect();
            Some(CommandResult::new("reinitialize", Outcome::Answered, words, begun, Timestamp::now()))
        }
    }
}

/// Waits until the member votes in a cluster with a leader, because nothing else tells what another pod's answer means.
async fn see_voting(node: &Node, deadline: Instant, cancel: &CancellationToken) -> Result<(), NodeError> {
    loop {
        let client = match node.client().await {
            Err(NodeError::Refused(words)) => {
                return Err(NodeError::Failed(format!("whether the member votes again cannot be asked: {words}")));
            }
            connected => connected,
        };
        if let Ok(client) = client
            && let Ok(status) = fetch_member(&client).await
            && status.has_leader()
            && !status.is_learner
        {
            return Ok(());
        }
        rest(deadline, cancel, || "etcd's pod has answered, and its member does not vote yet".to_owned()).await?;
    }
}

/// A moment, unless it has been waited for long enough.
async fn rest(deadline: Instant, cancel: &CancellationToken, words: impl Fn() -> String) -> Result<(), NodeError> {
    if cancel.is_cancelled() || Instant::now() > deadline {
        return Err(NodeError::TimedOut(words()));
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, second: u64) -> Seen {
        Seen { modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn an_answer_counts_once_it_is_over_and_new_whoever_wrote_it() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begun = at("2026-11-25T08:00:00Z");
        let of = |outcome, over: &str| {
            let result = CommandResult::new("reinitialize", outcome, "w".into(), begun, at(over));
            seen(&serde_json::to_string(&result).unwrap(), 1)
        };
        let heard = |before: Option<&Seen>, now: &Seen| hear(before, Some(now), begun).map(|result| result.outcome);
        assert_eq!(hear(None, None, begun), None);
        assert_eq!(heard(None, &of(Outcome::Done, "2026-11-25T07:59:59Z")), None);
        assert_eq!(heard(None, &of(Outcome::Running, "2026-11-25T08:00:01Z")), None);
        assert_eq!(heard(None, &of(Outcome::Refused, "2026-11-25T08:00:01Z")), Some(Outcome::Refused));
        let (old, same_words, other) = (seen("done\n", 1), seen("done\n", 2), seen("failed: no quorum\n", 2));
        assert_eq!(heard(Some(&old), &old), None);
        assert_eq!(heard(Some(&old), &same_words), Some(Outcome::Answered));
        assert_eq!(hear(Some(&old), Some(&other), begun).unwrap().message, "failed: no quorum");
    }
}
