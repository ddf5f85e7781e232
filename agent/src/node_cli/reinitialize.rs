//! `etcd reinitialize`: writes `command`, which etcd's supervisor obeys; with `--wait` shows what became of it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use crate::host::crashsafe;
use crate::rejoin::journal::given_endpoints;
use crate::rejoin::outcome::{CommandResult, Outcome};
use crate::restore_engine::layout::PRIVATE;
use crate::restore_engine::stage::Owner;

/// How often the result is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Flags of `etcd reinitialize`.
#[derive(Debug, clap::Args)]
pub struct ReinitializeArguments {
    /// Wait for the result.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds; the work goes on beyond that.
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
    let begun = Timestamp::now();
    let owner = Owner::of(&place)?;
    if !endpoints.is_empty() {
        crashsafe::make_directory(&place.rejoin_directory(), 0o700)?;
        for directory in [place.own_directory(), place.rejoin_directory()] {
            owner.give(&directory)?;
        }
        crashsafe::replace(&given_endpoints(&place), (endpoints.join("\n") + "\n").as_bytes(), PRIVATE)?;
        owner.give(&given_endpoints(&place))?;
    }
    if !crashsafe::create_new(&path, b"reinitialize\n", PRIVATE)? {
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
    loop {
        let result = CommandResult::read(&place.command_result()).ok().flatten();
        let is_ours = |result: &CommandResult| result.completion_time.is_some_and(|over| over >= begun);
        if let Some(result) = result.filter(is_ours)
            && path.symlink_metadata().is_err()
        {
            print(out, output, &format!("{:?}: {}\n", result.outcome, result.message), &result)?;
            return match result.outcome {
                Outcome::Done | Outcome::Running => Ok(()),
                Outcome::Refused => Err(NodeError::Refused(result.message)),
                Outcome::Failed => Err(NodeError::Failed(result.message)),
            };
        }
        if cancel.is_cancelled() || Instant::now() > deadline {
            return Err(NodeError::TimedOut(format!(
                "not over yet; it goes on, see {}",
                place.command_result().display()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
