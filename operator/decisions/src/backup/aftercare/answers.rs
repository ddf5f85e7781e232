//! What an agent's answer to an errand means for the backup. Assigns nothing.

use lifeboat_crds::backup::Verification;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::{ConditionStatus, ConditionType, Reason, Task, TaskError};

use super::{Aftercare, archive};
use crate::backup::aftercare::pins::{Source, shown_pin};
use crate::backup::{Sighting, catalog};
use crate::conditions::{Outcome, Shown, is_true, since};
use crate::event::EventDraft;

impl Aftercare<'_> {
    /// Takes the answer to the current errand in. The same answer again changes nothing.
    pub(super) fn take_answer(&mut self) {
        let Some((assignment, Some(result))) = self.current() else { return };
        let (task, result) = (assignment.task, result.clone());
        if let Some(pin) = &result.pin {
            let source = if task == Task::Pin { Source::Annotation } else { Source::Bucket };
            self.replace(ConditionType::Pinned, shown_pin(pin, source));
        }
        if let Some(verification) = result.verification {
            self.take_verification(verification);
        }
        if let Some(error) = result.error {
            self.take_error(task, &error);
        }
    }

    /// Takes what the last listing of the location said of the archive in.
    pub(super) fn take_sighting(&mut self) {
        if !is_true(&self.status.conditions, ConditionType::Complete) {
            return;
        }
        let Some(news) = catalog::news(self.backup(), &self.status, &self.shown, &self.observed.sighting) else {
            return;
        };
        let catalog::News { outcome, phase, event } = news;
        for type_ in [ConditionType::Ready, ConditionType::Stalled] {
            self.replace(type_, outcome.shown().into_iter().find(|shown| shown.type_ == type_));
        }
        if self.observed.sighting == Sighting::Recovered {
            // Whoever missed it had nothing to say of its content.
            let shown = archive::verified(self.backup().spec.verification, self.status.verification.as_ref());
            self.replace(ConditionType::Verified, Some(shown));
        }
        self.status.phase = Some(phase.to_owned());
        self.events.extend(event);
    }

    fn take_verification(&mut self, verification: Verification) {
        let level = verification.level;
        if self.status.verification.as_ref() != Some(&verification) {
            let words = format!("read back and verified at level {}", level.as_str());
            self.events.push(EventDraft::new(EventReason::BackupVerified, words));
        }
        self.status.verification = Some(verification);
        let asked = self.backup().spec.verification;
        let shown = archive::verified(asked, self.status.verification.as_ref());
        self.replace(ConditionType::Verified, Some(shown));
    }

    fn take_error(&mut self, task: Task, error: &TaskError) {
        let reason = error.reason();
        let is_proof = match task {
            Task::Verify => matches!(reason, Reason::ArchiveMissing | Reason::ArchiveCorrupt),
            Task::Pin => reason == Reason::ArchiveMissing,
            Task::Delete | Task::Backup | Task::Import | Task::Probe | Task::Catalog | Task::Plan | Task::Order => {
                false
            }
        };
        if is_proof && !self.was_recovered() {
            self.lose(reason, &error.message);
        }
    }

    /// Whether a listing has found the archive sound after the current errand was given out: then its answer, which stays
    /// where it is, is of the past. Both times are the operator's own.
    fn was_recovered(&self) -> bool {
        let ready = since(&self.status.conditions, ConditionType::Ready, ConditionStatus::True);
        let asked = self.status.assignment.as_ref().map(|assignment| assignment.time.0);
        ready.zip(asked).is_some_and(|(ready, asked)| ready > asked)
    }

    /// The archive is not what it was, or is no more.
    fn lose(&mut self, reason: Reason, message: &str) {
        let is_known = self.shown.iter().any(|shown| shown.type_ == ConditionType::Ready && shown.reason == reason);
        if !is_known {
            let is_missing = reason == Reason::ArchiveMissing;
            let event = if is_missing { EventReason::ArchiveMissing } else { EventReason::VerificationFailed };
            self.events.push(EventDraft::new(event, message));
        }
        for shown in Outcome::failed(reason, message).shown() {
            self.replace(shown.type_, Some(shown));
        }
        let words = format!("{reason}: {message}");
        self.replace(
            ConditionType::Verified,
            Some(Shown::new(ConditionType::Verified, false, Reason::VerificationFailed, words)),
        );
    }

    fn replace(&mut self, type_: ConditionType, shown: Option<Shown>) {
        self.shown.retain(|old| old.type_ != type_);
        self.shown.extend(shown);
    }
}
