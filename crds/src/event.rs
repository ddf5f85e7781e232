//! Events: the closed list of their reasons.

use std::fmt;

use crate::condition::names;

names! {
    /// Reasons of events. Those from [`EventReason::BackupFailed`] on are warnings.
    EventReason {
        /// A schedule made a backup.
        BackupScheduled,
        /// An agent began.
        BackupStarted,
        /// A backup is complete.
        BackupSucceeded,
        /// A backup was verified again.
        BackupVerified,
        /// A policy let a backup go.
        BackupExpired,
        /// A backup was found in the bucket.
        BackupImported,
        /// A restore's plan is there.
        PlanReady,
        /// A restore was approved.
        RestoreApproved,
        /// A restore went one step on.
        RestoreStep,
        /// A restore is done.
        RestoreSucceeded,
        /// A backup failed for good.
        BackupFailed,
        /// A try failed; another follows.
        BackupRetrying,
        /// A slot was missed.
        ScheduleMissed,
        /// A slot was left out on purpose.
        RunSkipped,
        /// The schedule cannot be understood.
        InvalidSchedule,
        /// A location does not answer.
        LocationUnavailable,
        /// A verification failed.
        VerificationFailed,
        /// An archive is gone.
        ArchiveMissing,
        /// A listing found objects that belong to no backup, more than the one before; they are never deleted.
        ArchiveOrphaned,
        /// An archive was not deleted though that was asked for: the store holds it, it is pinned, or the question was wrong.
        RetentionHeld,
        /// A restore's plan has blockers.
        PlanRefused,
        /// A restore failed.
        RestoreFailed,
        /// A restore put the old data back.
        RestoreRolledBack,
    }
}

impl EventReason {
    /// Whether events with this reason are of type Warning.
    pub fn is_warning(self) -> bool {
        self >= Self::BackupFailed
    }
}
