//! What is done with a backup that is over: pinned, deleted, verified again.
//!
//! One errand at a time, each an assignment of its own. A deletion is asked for by a policy or by a human, never by
//! chance: without either there is no errand. What an agent found in the bucket counts more than what stands here.

mod answers;
mod errands;
mod pins;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::BackupResult;
use lifeboat_crds::condition::find;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::{Assignment, ConditionType, EtcdBackup, EtcdBackupStatus, Reason, TaskError, Time};

use super::{BackupDecision, ObservedBackup, Record, Sighting, archive};
use crate::assignment::{choose_agent, next_attempt};
use crate::conditions::{Shown, is_true, merge_conditions};
use crate::event::EventDraft;
use crate::{SILENCE, after, until};
use errands::{Errand, pause_after};
pub use pins::pin_of;
pub(super) use pins::{Source, shown_pin};

/// Until an errand that no agent can take is looked at again.
const NO_AGENT_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// Decides upon a backup that is over.
pub(super) fn decide_aftercare(observed: &ObservedBackup, now: Timestamp) -> BackupDecision {
    let mut care = Aftercare::of(observed, now);
    if let Some(gone) = care.deletion() {
        return gone;
    }
    care.take_answer();
    care.take_sighting();
    care.drop_void_expiry();
    let look_again = match care.errand() {
        Some(errand) => care.see_to(errand),
        None => care.next_verification(),
    };
    care.finish(look_again)
}

/// A backup while it is decided upon.
struct Aftercare<'o> {
    observed: &'o ObservedBackup,
    status: EtcdBackupStatus,
    shown: Vec<Shown>,
    /// What people should read beside what became of the run.
    notes: Vec<Note>,
    events: Vec<EventDraft>,
    /// An errand has no answer yet: what is shown of the last one stays.
    is_under_way: bool,
    now: Timestamp,
}

/// Something to tell, once, and to show for as long as it lasts.
struct Note {
    event: Option<EventReason>,
    words: String,
}

impl<'o> Aftercare<'o> {
    fn of(observed: &'o ObservedBackup, now: Timestamp) -> Self {
        let status = observed.backup.status.clone().unwrap_or_default();
        let shown = status.conditions.iter().filter_map(Shown::of_condition).collect();
        Self { observed, status, shown, notes: Vec::new(), events: Vec::new(), is_under_way: false, now }
    }

    fn backup(&self) -> &'o EtcdBackup {
        &self.observed.backup
    }

    fn annotation(&self, key: &str) -> Option<&'o str> {
        self.backup().metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn note(&mut self, event: Option<EventReason>, words: impl Into<String>) {
        self.notes.push(Note { event, words: words.into() });
    }

    /// The assignment, if it is an errand, and its result.
    fn current(&self) -> Option<(&Assignment, Option<&BackupResult>)> {
        let assignment = self.status.assignment.as_ref().filter(|assignment| errands::is_errand(assignment.task))?;
        let own = self.status.execution.as_ref().filter(|execution| execution.is_of(assignment));
        Some((assignment, own.and_then(|execution| execution.result.as_ref())))
    }

    /// The end of the record, once the archive is gone on somebody's word.
    fn deletion(&self) -> Option<BackupDecision> {
        let is_done = self.current().is_some_and(|(_, result)| result.is_some_and(|result| result.deletion.is_some()));
        let cause = match &self.observed.sighting {
            _ if is_done => format!(": {}", errands::cause_of_deletion(self.backup())),
            Sighting::Deleted(words) if is_true(&self.status.conditions, ConditionType::Complete) => {
                format!(" {words}")
            }
            Sighting::Deleted(_)
            | Sighting::Unsaid
            | Sighting::Missing
            | Sighting::Corrupt(_)
            | Sighting::Recovered => return None,
        };
        let name = self.backup().metadata.name.clone().unwrap_or_default();
        let words = format!("{name}: the archive was deleted{cause}");
        let status = EtcdBackupStatus { execution: None, ..self.status.clone() };
        let events = vec![EventDraft::new(EventReason::BackupExpired, words).about(name)];
        Some(BackupDecision { status, events, requeue_after: None, record: Record::Goes })
    }

    /// A decision of a policy that is no more.
    fn drop_void_expiry(&mut self) {
        if !self.observed.has_schedule {
            self.status.expiry = None;
        }
    }

    /// Has an errand done: when to look again.
    fn see_to(&mut self, errand: Errand) -> Timestamp {
        let last = self.current().filter(|(assignment, _)| assignment.task == errand.task());
        if let Some((begun, result)) = last.map(|(assignment, result)| (assignment.time.0, result.cloned())) {
            match result {
                None if self.observed.execution_unchanged_for < SILENCE => {
                    self.is_under_way = true;
                    return self.after_silence(SILENCE.saturating_sub(self.observed.execution_unchanged_for));
                }
                // Silent: another agent takes it.
                None => {}
                Some(result) => {
                    let again = after(begun, pause_after(result.error.as_ref().map(TaskError::reason)));
                    if let Some(error) = result.error {
                        self.note_error(errand, &error);
                    }
                    // An assignment made under a clock that was ahead is waited for no longer.
                    if again > self.now && begun <= self.now {
                        return again;
                    }
                }
            }
        }
        self.assign(errand)
    }

    fn assign(&mut self, errand: Errand) -> Timestamp {
        let previous = self.status.assignment.as_ref().map(|assignment| &assignment.node_name);
        let Some(node_name) = choose_agent(&self.observed.members, previous, self.observed.location.owners()) else {
            return after(self.now, NO_AGENT_PAUSE);
        };
        let attempt = next_attempt(self.status.assignment.as_ref(), self.status.execution.as_ref());
        let task = errand.task();
        self.status.assignment = Some(Assignment { node_name, attempt, task, time: Time(self.now) });
        self.is_under_way = true;
        self.after_silence(SILENCE)
    }

    /// Silence is no event, so it must be looked for.
    fn after_silence(&self, left: Duration) -> Timestamp {
        after(self.now, SignedDuration::try_from(left).unwrap_or(SignedDuration::ZERO))
    }

    fn note_error(&mut self, errand: Errand, error: &TaskError) {
        let TaskError { reason: _, message } = error;
        match errand {
            Errand::Delete => {
                let event = (error.reason() == Reason::RetentionHeld).then_some(EventReason::RetentionHeld);
                self.note(event, format!("the archive could not be deleted: {message}"));
            }
            Errand::Verify => self.note(None, format!("the archive could not be verified again: {message}")),
            Errand::Pin => self.note(None, format!("the pin could not be changed: {message}")),
        }
    }

    /// Writes the notes where people look, and tells those that are new.
    fn finish(mut self, look_again: Timestamp) -> BackupDecision {
        if !self.is_under_way || !self.notes.is_empty() {
            self.write_notes();
        }
        let generation = self.backup().metadata.generation.unwrap_or(0);
        let conditions = merge_conditions(&self.status.conditions, &self.shown, generation, self.now);
        let status =
            EtcdBackupStatus { observed_generation: Some(generation), conditions, execution: None, ..self.status };
        let requeue_after = Some(look_again).filter(|time| *time < Timestamp::MAX).map(|time| until(time, self.now));
        BackupDecision { status, events: self.events, requeue_after, record: Record::Stays }
    }

    fn write_notes(&mut self) {
        use ConditionType::{Complete, Failed, Ready, Stalled};
        let base = match &self.status.failure {
            Some(failure) if is_true(&self.status.conditions, Failed) => failure.message.clone(),
            Some(_) | None => archive::words(&self.status),
        };
        let notes = self.notes.iter().map(|note| note.words.as_str());
        let words = std::iter::once(base.as_str()).chain(notes).collect::<Vec<_>>().join("; ");
        // Which notes are news is seen by what the run's own condition said so far.
        let before = [Complete, Failed].into_iter().find_map(|type_| find(&self.status.conditions, type_));
        let was_told = |note: &Note| before.is_some_and(|condition| condition.message.contains(&note.words));
        for note in self.notes.iter().filter(|note| !was_told(note)) {
            self.events.extend(note.event.map(|event| EventDraft::new(event, note.words.clone())));
        }
        // What became of a lost archive is said by whoever found it lost.
        let is_lost = |shown: &Shown| {
            [Ready, Stalled].contains(&shown.type_)
                && [Reason::ArchiveMissing, Reason::ArchiveCorrupt].contains(&shown.reason)
                && !is_true(&self.status.conditions, Failed)
        };
        let told = [Ready, Stalled, Complete, Failed];
        for shown in self.shown.iter_mut().filter(|shown| told.contains(&shown.type_) && !is_lost(shown)) {
            shown.message.clone_from(&words);
        }
    }
}

#[cfg(test)]
#[path = "aftercare_tests.rs"]
mod tests;
