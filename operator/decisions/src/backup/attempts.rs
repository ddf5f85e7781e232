//! The tries of a run: how the current one stands, which failures end the run, how long to wait before the next.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::FailedAttempt;
use lifeboat_crds::{Assignment, EtcdBackupStatus, Reason, TaskError, Time};

use crate::{SILENCE, after};

/// Pause after the first failed try; it doubles with each further one.
const FIRST_PAUSE: i64 = 5;
/// Longest pause between tries, seconds.
const LONGEST_PAUSE: i64 = 60;

/// How the current try stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attempt {
    /// There was none.
    None,
    /// The agent has not begun.
    Assigned(Assignment),
    /// The agent is at work.
    Running(Assignment),
    /// It failed, and that is news.
    Failed(TaskError),
    /// It failed, and that is noted.
    FailedBefore,
}

/// How the current try stands, given how long its agent was seen to say nothing new.
pub(super) fn attempt_state(status: &EtcdBackupStatus, unchanged_for: Duration) -> Attempt {
    let Some(assignment) = status.assignment.clone() else { return Attempt::None };
    if status.attempts.last().is_some_and(|last| last.attempt >= assignment.attempt) {
        return Attempt::FailedBefore;
    }
    let execution = status.execution.as_ref().filter(|execution| execution.is_of(&assignment));
    match execution.map(|execution| execution.result.as_ref()) {
        Some(Some(result)) => Attempt::Failed(result.error.clone().unwrap_or_else(|| {
            TaskError::new(Reason::SnapshotFailed, "the agent reported neither an archive nor an error")
        })),
        Some(None) | None if unchanged_for >= SILENCE => {
            let words = format!(
                "the agent on {} said nothing for {} s while it should have read etcd: is the node up, and does its \
                 agent's pod run?",
                assignment.node_name,
                SILENCE.as_secs()
            );
            Attempt::Failed(TaskError::new(Reason::AgentUnavailable, words))
        }
        Some(None) => Attempt::Running(assignment),
        None => Attempt::Assigned(assignment),
    }
}

/// Notes that the current try failed.
pub(super) fn note_failure(status: &mut EtcdBackupStatus, error: TaskError, now: Timestamp) {
    if let Some(Assignment { node_name, attempt, task: _, time: _ }) = status.assignment.clone() {
        status.attempts.push(FailedAttempt { attempt, node_name, error, time: Time(now) });
    }
}

/// When the next try may begin.
///
/// A failure noted under a clock that was ahead is waited for no longer.
pub(super) fn retry_time(status: &EtcdBackupStatus, now: Timestamp) -> Option<Timestamp> {
    let last = status.attempts.last().filter(|last| last.time.0 <= now)?;
    let doublings = u32::try_from(status.attempts.len() - 1).unwrap_or(u32::MAX).min(10);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    Some(after(last.time.0, SignedDuration::from_secs(pause)))
}

/// Whether another try, on another node, could not end otherwise.
pub(crate) const fn is_permanent(reason: Reason) -> bool {
    match reason {
        Reason::NotSupported
        | Reason::AccessDenied
        | Reason::CredentialsMissing
        | Reason::OwnedByAnother
        | Reason::EncryptionKeyMissing
        | Reason::LocationMissing
        | Reason::InvalidSchedule
        | Reason::NeverFires
        | Reason::LimitsTooLow
        | Reason::Interrupted
        | Reason::Cancelled
        | Reason::Superseded
        | Reason::RetentionHeld
        | Reason::ArchiveMissing
        | Reason::ArchiveCorrupt
        | Reason::PlanRefused
        | Reason::ApprovalMismatch
        | Reason::AnotherRestoreActive
        | Reason::AlreadyRestored
        | Reason::RolledBack
        | Reason::InDoubt => true,
        Reason::LocationUnavailable
        | Reason::NoHealthyMember
        | Reason::AgentUnavailable
        | Reason::SnapshotFailed
        | Reason::UploadFailed
        | Reason::VerificationFailed
        | Reason::CompactionMoved
        | Reason::InsufficientSpool
        | Reason::DeadlineExceeded
        | Reason::ArchiveOrphaned
        | Reason::Accepted
        | Reason::Pending
        | Reason::Running
        | Reason::Retrying
        | Reason::Verifying
        | Reason::Succeeded
        | Reason::ImportedFromCatalog
        | Reason::Pinned
        | Reason::Planning
        | Reason::AwaitingApproval
        | Reason::Approved
        | Reason::Restored => false,
    }
}
