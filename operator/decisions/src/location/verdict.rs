//! What an answer to a probe means for a location. No probe is planned here.

use jiff::Timestamp;
use lifeboat_crds::condition::find;
use lifeboat_crds::location::{AccessMode, CatalogPass, LocationResult, take_over};
use lifeboat_crds::{
    Assignment, ConditionStatus, ConditionType, EtcdBackupLocation, EtcdBackupLocationStatus, Execution, Reason,
    TaskError,
};

use super::listing;
use crate::conditions::{GoodReason, Outcome, Shown};

/// Said for as long as the annotation is there: it is in etcd, and so in every backup.
const REMOVE_TAKE_OVER: &str = "; remove the annotation etcd.lifeboat.dev/take-over now: a cluster restored from a backup \
    that holds it would take the prefix over too";

/// How a location stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known (of the spec as it is now).
    Unknown { reason: Reason, message: String },
    /// It can be read; `writable` says whether it takes archives by its access mode.
    /// `take_over` says that the annotation by which it was claimed is still there.
    Good { is_read_only: bool, take_over: bool },
    /// It can be read but does not take archives, though it should.
    Unwritable { reason: Reason, message: String },
    /// It cannot be used.
    Unavailable { reason: Reason, message: String },
}

impl Verdict {
    pub(super) fn of(
        location: &EtcdBackupLocation,
        before: &EtcdBackupLocationStatus,
        answer: Option<&LocationResult>,
        generation: i64,
    ) -> Self {
        let take_over = take_over(location).is_some();
        let is_read_only = match location.spec.access_mode {
            AccessMode::ReadOnly => true,
            AccessMode::ReadWrite => false,
        };
        match answer {
            Some(answer) if answer.observed_generation == generation => {
                Self::of_answer(answer, is_read_only, take_over)
            }
            Some(_) => Self::pending(),
            // The agent has begun the next probe, and with that its last answer went.
            None if before.observed_generation == Some(generation) => Self::as_before(before, is_read_only, take_over),
            None => Self::pending(),
        }
    }

    /// No agent says anything.
    pub(super) fn unheard(message: String) -> Self {
        Self::Unknown { reason: Reason::AgentUnavailable, message }
    }

    fn pending() -> Self {
        Self::Unknown { reason: Reason::Pending, message: "the location is being tried out".to_owned() }
    }

    fn of_answer(answer: &LocationResult, is_read_only: bool, take_over: bool) -> Self {
        let words = |error: &TaskError| (error.reason(), error.message.clone());
        match (&answer.error, &answer.write_error) {
            (Some(error), _) => {
                let (reason, message) = words(error);
                Self::Unavailable { reason, message }
            }
            (None, Some(error)) if !is_read_only => {
                let (reason, message) = words(error);
                Self::Unwritable { reason, message }
            }
            (None, _) => Self::Good { is_read_only, take_over },
        }
    }

    fn as_before(before: &EtcdBackupLocationStatus, is_read_only: bool, take_over: bool) -> Self {
        let is = |type_, status: ConditionStatus| {
            find(&before.conditions, type_).is_some_and(|condition| condition.status == status.as_str())
        };
        let Some(ready) = find(&before.conditions, ConditionType::Ready) else { return Self::pending() };
        let (reason, message) = (Reason::parse(&ready.reason), ready.message.clone());
        let reason = reason.unwrap_or(Reason::LocationUnavailable);
        if is(ConditionType::Ready, ConditionStatus::True) {
            Self::Good { is_read_only, take_over }
        } else if is(ConditionType::Ready, ConditionStatus::Unknown) || reason == Reason::NotSupported {
            Self::pending()
        } else if is(ConditionType::Available, ConditionStatus::True) {
            Self::Unwritable { reason, message }
        } else {
            Self::Unavailable { reason, message }
        }
    }

    /// The conditions that say so. `since` is when Ready became False.
    ///
    /// `pass` is the last listing.
    pub(super) fn shown(&self, since: Timestamp, now: Timestamp, pass: Option<&CatalogPass>) -> Vec<Shown> {
        use ConditionType::{Available, Writable};
        match self {
            Self::Unknown { reason, message } => {
                Self::unknown_with(Outcome::waiting(*reason, message).shown(), *reason, message)
            }
            Self::Good { is_read_only, take_over } => {
                let words =
                    if *is_read_only { "the location can be read" } else { "the location can be read and written" };
                let words = listing::words(pass).map_or_else(|| words.to_owned(), |note| format!("{words}; {note}"));
                let more = if *take_over { REMOVE_TAKE_OVER } else { "" };
                let mut shown = Outcome::current(GoodReason::Accepted, format!("{words}{more}")).shown();
                shown.push(available("the last probe succeeded", pass));
                shown.push(if *is_read_only {
                    Shown::new(Writable, false, Reason::Accepted, "accessMode is ReadOnly: writing was not tried")
                } else {
                    let words = format!("the last probe wrote and read back{more}");
                    Shown::new(Writable, true, Reason::Accepted, words)
                });
                shown
            }
            Self::Unwritable { reason, message } => {
                let mut shown = outcome(*reason, message, since, now).shown();
                shown.push(available("the location can be read", pass));
                shown.push(Shown::new(Writable, false, *reason, message));
                shown
            }
            Self::Unavailable { reason, message } => {
                let mut shown = outcome(*reason, message, since, now).shown();
                shown.push(Shown::new(Available, false, *reason, message));
                shown.push(Shown::new(Writable, ConditionStatus::Unknown, *reason, message));
                shown
            }
        }
    }

    /// Conditions of a location of which nothing is known.
    pub(super) fn unknown_with(mut ready: Vec<Shown>, reason: Reason, message: &str) -> Vec<Shown> {
        for type_ in [ConditionType::Available, ConditionType::Writable] {
            ready.push(Shown::new(type_, ConditionStatus::Unknown, reason, message));
        }
        ready
    }

    /// Whether it can be read.
    pub(super) const fn is_available(&self) -> bool {
        match self {
            Self::Good { .. } | Self::Unwritable { .. } => true,
            Self::Unknown { .. } | Self::Unavailable { .. } => false,
        }
    }

    /// What is wrong, where something is.
    pub(super) fn trouble(&self) -> Option<(Reason, &str)> {
        match self {
            Self::Unknown { .. } | Self::Good { .. } => None,
            Self::Unwritable { reason, message } | Self::Unavailable { reason, message } => Some((*reason, message)),
        }
    }
}

/// It can be used all the same: what belongs to no backup shows in the reason alone.
fn available(words: &str, pass: Option<&CatalogPass>) -> Shown {
    let orphans = pass.map_or(0, |pass| pass.orphans);
    let (reason, words) = match orphans {
        ..=0 => (Reason::Accepted, words.to_owned()),
        _ => (Reason::ArchiveOrphaned, format!("{words}; {orphans} objects in it belong to no backup (see Ready)")),
    };
    Shown::new(ConditionType::Available, true, reason, words)
}

/// Tasks assigned since the one that was answered last, without the newest: it may still be answered.
pub(super) fn unanswered_tasks(assignment: Option<&Assignment>, execution: Option<&Execution<LocationResult>>) -> i32 {
    let assigned = assignment.map_or(0, |assignment| assignment.attempt);
    let answered = execution.map_or(0, |execution| match execution.result {
        Some(_) => execution.attempt,
        None => execution.attempt.saturating_sub(1),
    });
    assigned.saturating_sub(answered).saturating_sub(1)
}

/// Whether trouble passes by itself, after somebody's hand, or is waited for a minute.
fn outcome(reason: Reason, message: &str, since: Timestamp, now: Timestamp) -> Outcome {
    match reason {
        Reason::LocationMissing | Reason::CredentialsMissing | Reason::EncryptionKeyMissing => {
            Outcome::missing(reason, message, since, now)
        }
        Reason::AccessDenied
        | Reason::OwnedByAnother
        | Reason::NotSupported
        | Reason::InvalidSchedule
        | Reason::NeverFires
        | Reason::VerificationFailed
        | Reason::ArchiveMissing
        | Reason::ArchiveCorrupt
        | Reason::ArchiveOrphaned
        | Reason::RetentionHeld
        | Reason::InDoubt => Outcome::failed(reason, message),
        Reason::LocationUnavailable
        | Reason::AgentUnavailable
        | Reason::NoHealthyMember
        | Reason::SnapshotFailed
        | Reason::UploadFailed
        | Reason::CompactionMoved
        | Reason::InsufficientSpool
        | Reason::LimitsTooLow
        | Reason::DeadlineExceeded
        | Reason::Interrupted
        | Reason::Pending
        | Reason::Running
        | Reason::Retrying
        | Reason::Verifying
        | Reason::Accepted
        | Reason::Succeeded
        | Reason::ImportedFromCatalog
        | Reason::Pinned
        | Reason::Planning
        | Reason::PlanRefused
        | Reason::AwaitingApproval
        | Reason::ApprovalMismatch
        | Reason::Approved
        | Reason::AnotherRestoreActive
        | Reason::AlreadyRestored
        | Reason::Restored
        | Reason::RolledBack
        | Reason::Cancelled
        | Reason::Superseded => Outcome::troubled(reason, message),
    }
}
