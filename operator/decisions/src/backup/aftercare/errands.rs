//! Which errand a finished backup needs, and how long to wait after one that failed.

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::{ExpiryDecision, VerificationLevel};
use lifeboat_crds::event::EventReason;
use lifeboat_crds::{ConditionType, EtcdBackup, Reason, Task, label};

use super::Aftercare;
use super::pins::PinWish;
use crate::after;
use crate::conditions::is_true;
use crate::retention::is_asked_to_go;

/// Between tries to verify an archive again, and after a store that holds an archive against deletion.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// After a failure that somebody must mend.
const PERMANENT_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// After one that passes.
const TRANSIENT_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// After an answer that no longer fits: what was asked for has changed meanwhile.
const CHANGED_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// Something to be done with a finished backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Delete archive and record.
    Delete,
    /// Write or remove `pin.json`.
    Pin,
    /// Read the archive back and prove it.
    Verify,
}

impl Errand {
    pub(super) const fn task(self) -> Task {
        match self {
            Self::Delete => Task::Delete,
            Self::Pin => Task::Pin,
            Self::Verify => Task::Verify,
        }
    }
}

/// Whether a task is one of a backup that is over.
pub(super) const fn is_errand(task: Task) -> bool {
    match task {
        Task::Verify | Task::Pin | Task::Delete => true,
        Task::Backup | Task::Import | Task::Probe | Task::Catalog | Task::Plan | Task::Order => false,
    }
}

/// Who let an archive go, in words.
pub(super) fn cause_of_deletion(backup: &EtcdBackup) -> String {
    let expiry = backup.status.as_ref().and_then(|status| status.expiry.as_ref());
    match expiry {
        Some(expiry) if !is_asked_to_go(backup) => expiry.reasons.join(", "),
        Some(_) | None => format!("the annotation {} asked for it", label::DELETE_ARCHIVE),
    }
}

/// How long to wait before the same errand is tried again.
pub(super) const fn pause_after(error: Option<Reason>) -> SignedDuration {
    match error {
        None => CHANGED_PAUSE,
        Some(Reason::RetentionHeld) => DAY,
        Some(reason) if super::super::attempts::is_permanent(reason) => PERMANENT_PAUSE,
        Some(_) => TRANSIENT_PAUSE,
    }
}

impl Aftercare<'_> {
    /// The errand that comes first.
    pub(super) fn errand(&mut self) -> Option<Errand> {
        if self.is_deletion_asked() {
            return Some(Errand::Delete);
        }
        let has_archive = is_true(&self.status.conditions, ConditionType::Complete);
        let is_missing = self.shown.iter().any(|shown| shown.reason == Reason::ArchiveMissing);
        if has_archive && !is_missing && self.pin_wish() == PinWish::Change {
            return Some(Errand::Pin);
        }
        let is_pinned = self.pin().is_some();
        let has_expired = self.status.expiry.as_ref().is_some_and(|expiry| match expiry.decision {
            ExpiryDecision::Keep => false,
            ExpiryDecision::Expire => true,
        });
        if has_archive && has_expired && !is_pinned {
            return Some(Errand::Delete);
        }
        (self.verification_due()? <= self.now).then_some(Errand::Verify)
    }

    /// Whether the annotation asks for the deletion and nothing speaks against it; what does is noted.
    fn is_deletion_asked(&mut self) -> bool {
        let asked = self.annotation(label::DELETE_ARCHIVE);
        // Whoever wants it after all asks anew: a pin may be removed long after the deletion was forgotten.
        self.status.deletion_refused =
            self.status.deletion_refused.take().filter(|refused| asked == Some(refused.as_str()));
        let Some(asked) = asked else { return false };
        let Some(id) = self.status.backup_id.clone() else {
            self.note(Some(EventReason::RetentionHeld), "nothing was deleted: this backup never had a backupId");
            return false;
        };
        if asked != id {
            let words = format!(
                "nothing was deleted: the annotation {} says {asked:?}; to delete archive and record it must say {id}",
                label::DELETE_ARCHIVE
            );
            self.note(Some(EventReason::RetentionHeld), words);
            return false;
        }
        if let Some(why) = self.pin() {
            self.status.deletion_refused = Some(id);
            let words = format!(
                "nothing was deleted: the backup is pinned ({why}); remove the pin first, by the empty value of the \
                 annotation {}, and the annotation {}; then set that anew",
                label::PIN,
                label::DELETE_ARCHIVE
            );
            self.note(Some(EventReason::RetentionHeld), words);
            return false;
        }
        if self.status.deletion_refused.is_some() {
            let words = format!(
                "nothing was deleted: the backup was pinned when the annotation {} was set; to delete it now, remove that \
                 annotation, and set it anew once these words are gone",
                label::DELETE_ARCHIVE
            );
            self.note(None, words);
            return false;
        }
        true
    }

    /// When an archive that was not proven as asked is read again; `None` where that brings nothing new.
    fn verification_due(&self) -> Option<Timestamp> {
        let is_good = self
            .shown
            .iter()
            .any(|shown| shown.type_ == ConditionType::Ready && shown.status == lifeboat_crds::ConditionStatus::True);
        // An archive that only its reader can decrypt proves nothing here.
        let is_readable = is_good && self.status.encryption.is_none();
        let proven = self.status.verification.as_ref().filter(|_| is_readable)?;
        // Reading it back shows content; the members' own hashes are of the moment of the snapshot.
        let reachable = self.backup().spec.verification.min(VerificationLevel::Content);
        if proven.level >= reachable {
            return None;
        }
        let is_final = proven.shortfall.as_ref().is_some_and(|error| error.reason() == Reason::NotSupported);
        if is_final {
            return None;
        }
        match self.current().filter(|(assignment, _)| assignment.task == Task::Verify) {
            Some((_, None)) => Some(self.now),
            // One that did not come about is tried again as any errand is.
            Some((_, Some(result))) if result.error.is_some() => Some(self.now),
            Some((assignment, Some(_))) => Some(after(assignment.time.0.max(proven.time.0), DAY)),
            None => Some(after(proven.time.0, DAY)),
        }
    }

    /// When to look again where there is nothing to do.
    pub(super) fn next_verification(&self) -> Timestamp {
        self.verification_due().unwrap_or(Timestamp::MAX)
    }
}
