//! What is told of a restore: how far this master is, while there is an API server, and how it ended, afterwards.

use std::cmp::Reverse;
use std::path::Path;

use jiff::Timestamp;
use lifeboat_crds::mark::{Outcome, Verdict};
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::order::Order;
use lifeboat_crds::restore::NodeProgress;
use lifeboat_crds::{NodeName, Time, whole_seconds};
use lifeboat_executor::{RestoreDirectory, find_restores};
use lifeboat_protocol::Phase;

use super::request::read_request;
use crate::restore_cli::plan::NAMESPACE as HOST;
use crate::restoring::standing::{Standing, standing_of};

/// How far a master is, for `status.nodes`. Times are those of what the executor said, so that nothing new is nothing to write.
pub fn progress_of(node: &NodeName, standing: &Standing) -> NodeProgress {
    let told = standing.progress.as_ref();
    let trouble = told.and_then(|told| told.trouble.as_deref());
    let message = match (standing.why.as_deref(), told, trouble) {
        (Some(why), ..) => Some(why.to_owned()),
        (None, Some(told), Some(trouble)) => Some(format!("{}; trouble: {trouble}", told.doing)),
        (None, Some(told), None) => Some(told.doing.clone()),
        (None, None, _) => None,
    };
    NodeProgress {
        node_name: node.clone(),
        step: standing.step.map(|phase| step_of(phase).to_owned()),
        message: message.map(|words| words.chars().take(4_096).collect()),
        time: told.map(|told| Time(whole_seconds(told.time))),
    }
}

/// The step that people count by (docs/restore-protocol.md).
const fn step_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Staging => "1/10 Stage",
        Phase::Gathering => "2/10 Safety",
        Phase::Stopping => "3/10 Quiesce",
        Phase::Exchanging => "4/10 Prepare",
        Phase::Serving => "5/10 Serve",
        Phase::InDoubt => "6/10 Verify",
        Phase::Obeying(Verdict::Commit) => "8/10 Release",
        Phase::Over(Outcome::Committed) => "10/10 Complete",
        Phase::Leaving | Phase::Obeying(Verdict::Rollback) => "Rollback",
        Phase::Over(Outcome::RolledBack) => "RolledBack",
    }
}

/// How the last restore that an executor carried out below `<dataDir>/lifeboat` ended; one that cannot be read is left out. Blocking.
pub fn last_ended(lifeboat: &Path) -> Option<LastRestore> {
    let here = find_restores(lifeboat).ok()?;
    let mut here: Vec<_> = here.into_iter().filter_map(|entry| Some((written_at(&entry.1)?, entry))).collect();
    // The newest first: asked with every look at the host, and what is older need not be read.
    here.sort_by_key(|(time, _)| Reverse(*time));
    here.into_iter().find_map(|(time, (id, directory))| {
        let standing = standing_of(&directory, &id).ok()?;
        Some(told(standing.outcome?, &standing, &directory.read_order_alone().ok()?, &directory, time))
    })
}

/// When the journal was written last: of one that has ended, its end.
fn written_at(directory: &RestoreDirectory) -> Option<Timestamp> {
    let modified = std::fs::metadata(directory.journal()).and_then(|meta| meta.modified()).ok()?;
    Timestamp::try_from(modified).ok().map(whole_seconds)
}

fn told(
    outcome: Outcome,
    standing: &Standing,
    order: &Order,
    directory: &RestoreDirectory,
    time: Timestamp,
) -> LastRestore {
    let request = &order.request;
    let id = &standing.restore_id;
    let message = match outcome {
        Outcome::Committed => format!(
            "The cluster was put back to backup {}, revision {}; revisions go on from {}. Persistent volumes were not \
             restored. Restart the kubelets of the workers",
            order.backup.backup_id, order.backup.revision, order.bump_to
        ),
        Outcome::RolledBack => {
            format!("The masters put the old data back because: {}", standing.why.as_deref().unwrap_or("called off"))
        }
    };
    let is_of_host = request.namespace == HOST;
    LastRestore {
        restore_id: id.as_str().to_owned(),
        ref_: if is_of_host { format!("api-less-{id}") } else { request.name.clone() },
        attempt: if is_of_host { 1 } else { request.attempt },
        outcome: match outcome {
            Outcome::Committed => LastRestore::RESTORED,
            Outcome::RolledBack => LastRestore::ROLLED_BACK,
        }
        .to_owned(),
        message: message.chars().take(4_096).collect(),
        revision: standing.revision,
        outage_seconds: standing.outage_seconds.and_then(|seconds| i64::try_from(seconds).ok()),
        time: Some(Time(time)),
        spec: read_request(directory).ok().flatten(),
    }
}
