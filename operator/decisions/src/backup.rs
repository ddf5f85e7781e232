//! One backup from its creation to its end: which agent takes it, what became of each try, when it is over.
//!
//! A run is over once; what is done with its archive afterwards is [`aftercare`]'s business. Its deadline and its number of tries are bounded, so that every
//! run ends. Progress stays in `status.execution`, which only the agent writes: everything said here goes through the
//! etcd that is being read.

pub mod aftercare;
mod archive;
mod attempts;
mod catalog;
mod obstacles;

pub use aftercare::pin_of;
pub use catalog::{Sighting, concerns};

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::{ArchiveFacts, BackupResult, PinFacts};
use lifeboat_crds::event::EventReason;
use lifeboat_crds::schedule::ConcurrencyPolicy;
use lifeboat_crds::{
    Assignment, BackupId, ConditionStatus, ConditionType, EtcdBackup, EtcdBackupStatus, NodeName, Reason, Task,
    TaskError, Time,
};

use crate::assignment::{Wanted, choose_node, next_attempt};
use crate::conditions::{Outcome, Shown, human_duration, merge_conditions, since};
use crate::event::EventDraft;
use crate::{LocationView, SeenMember, after, horizon, until};
pub(crate) use attempts::is_permanent;
use attempts::{Attempt, attempt_state, note_failure, retry_time};
use obstacles::{Obstacle, obstacle_of};

/// Until a run that no member can take is looked at again; a member that changes wakes it before.
const RECHECK: Duration = Duration::from_secs(15);

/// What is known around a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedBackup {
    /// The backup.
    pub backup: EtcdBackup,
    /// Its location.
    pub location: LocationView,
    /// Every member.
    pub members: Vec<SeenMember>,
    /// Running backups by node, without this one.
    pub busy: BTreeMap<NodeName, u32>,
    /// Newest assignment by node.
    pub last_used: BTreeMap<NodeName, Timestamp>,
    /// How long assignment and execution were seen unchanged.
    pub execution_unchanged_for: Duration,
    /// What its schedule says of runs that meet; nothing without a schedule.
    pub concurrency: Option<ConcurrencyPolicy>,
    /// Runs of the same schedule that serve later slots and have not failed, by slot.
    pub later_runs: Vec<(Timestamp, String)>,
    /// Whether the schedule that made it is still there.
    pub has_schedule: bool,
    /// What the last listing of its location said of it.
    pub sighting: Sighting,
    /// When older data last took the place of the cluster's own.
    pub last_rewind: Option<Timestamp>,
}

/// What is to become of a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupDecision {
    /// The operator's part of the status.
    pub status: EtcdBackupStatus,
    /// What to tell.
    pub events: Vec<EventDraft>,
    /// When to look again if nothing happens; `None` where only a change can bring anything new.
    pub requeue_after: Option<Duration>,
    /// Whether the object stays.
    pub record: Record,
}

/// What becomes of the object of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It stays.
    Stays,
    /// It goes: its archive is gone. The events are then about the schedule, where there is one.
    Goes,
}

/// Decides upon a backup.
pub fn decide_backup(observed: &ObservedBackup, now: Timestamp) -> BackupDecision {
    if observed.backup.has_ended() {
        return aftercare::decide_aftercare(observed, now);
    }
    let mut run = Run::of(observed, now);
    let next = run.decide();
    run.finish(next)
}

/// What the next look at a backup is for.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    /// It goes on.
    Waits { outcome: Outcome, phase: &'static str, look_again: Timestamp },
    /// It just ended well.
    Completes { pin: Option<PinFacts> },
    /// It just ended without success.
    Fails(TaskError),
}

/// A backup while it is decided upon.
struct Run<'o> {
    observed: &'o ObservedBackup,
    status: EtcdBackupStatus,
    events: Vec<EventDraft>,
    now: Timestamp,
}

impl<'o> Run<'o> {
    fn of(observed: &'o ObservedBackup, now: Timestamp) -> Self {
        let status = observed.backup.status.clone().unwrap_or_default();
        Self { observed, status, events: Vec::new(), now }
    }

    fn decide(&mut self) -> Next {
        let backup = &self.observed.backup;
        // An archive that is there is never given up, whatever else is the matter.
        if let Some(facts) = self.own_result().and_then(|result| result.archive.clone()) {
            return self.complete(facts);
        }
        if let Some(words) = catalog::not_an_import(backup) {
            return self.fail(Reason::ArchiveMissing, words);
        }
        self.fix_id();
        if let Some(id) = catalog::imported_id(backup) {
            return self.import(id);
        }
        if let Some(restored) = self.rewound() {
            let words = format!(
                "the cluster was restored at {restored}, when this run was not over; whatever it stored is shown by a \
                 record of its own"
            );
            return self.fail(Reason::Interrupted, words);
        }
        if let Some(other) = self.superseded_by() {
            return self.fail(Reason::Superseded, format!("{other}, a run of a later slot, took its place"));
        }
        self.run()
    }

    /// The newest run that takes its place. One of a slot that lies ahead was started under a clock that was wrong; believed,
    /// it would end every run until then.
    fn superseded_by(&self) -> Option<&'o str> {
        match self.observed.concurrency {
            Some(ConcurrencyPolicy::Replace) => {
                let due = self.observed.later_runs.iter().filter(|(slot, _)| *slot <= horizon(self.now));
                due.max().map(|(_, name)| name.as_str())
            }
            Some(ConcurrencyPolicy::Forbid) | None => None,
        }
    }

    /// The restore that this run did not live through: it was under way in the data that was put back. A time that lies
    /// ahead is of a clock that is wrong.
    fn rewound(&self) -> Option<Timestamp> {
        self.observed.last_rewind.filter(|restored| *restored <= self.now && self.first_seen() <= *restored)
    }

    /// The result of the current assignment.
    fn own_result(&self) -> Option<&BackupResult> {
        let (assignment, execution) = (self.status.assignment.as_ref(), self.status.execution.as_ref());
        execution.filter(|execution| assignment.is_some_and(|assignment| execution.is_of(assignment)))?.result.as_ref()
    }

    /// The identity in the bucket is chosen once, from what cannot change; an archive found there has one.
    fn fix_id(&mut self) {
        let metadata = &self.observed.backup.metadata;
        let found = catalog::imported_id(&self.observed.backup).and_then(|id| id.parse::<BackupId>().ok());
        if let (None, Some(id)) = (&self.status.backup_id, found) {
            self.status.backup_id = Some(id.to_string());
        }
        if let (None, Some(created), Some(uid)) = (&self.status.backup_id, &metadata.creation_timestamp, &metadata.uid)
        {
            self.status.backup_id = Some(BackupId::new(created.0, uid).to_string());
        }
    }

    fn run(&mut self) -> Next {
        let limits = &self.observed.backup.spec.limits;
        let deadline = after(self.first_seen(), SignedDuration::from_secs(limits.timeout_seconds));
        let attempt = attempt_state(&self.status, self.observed.execution_unchanged_for);
        if let Attempt::Failed(error) = &attempt {
            note_failure(&mut self.status, error.clone(), self.now);
            if let Some(end) = self.end_after(error) {
                return end;
            }
            self.tell_retry(error);
        }
        if self.now >= deadline {
            return self.time_out(deadline);
        }
        let next = match attempt {
            Attempt::Running(assignment) => self.running(&assignment),
            Attempt::Assigned(assignment) => self.assigned(&assignment),
            Attempt::None | Attempt::Failed(_) | Attempt::FailedBefore => self.assign(),
        };
        match next {
            Next::Waits { outcome, phase, look_again } => {
                Next::Waits { outcome, phase, look_again: look_again.min(deadline) }
            }
            Next::Completes { .. } | Next::Fails(_) => next,
        }
    }

    /// When the operator first saw this backup: it is Reconciling from then until its end.
    ///
    /// Not its creation, so that a run does not fail untried because the operator was away.
    fn first_seen(&self) -> Timestamp {
        since(&self.status.conditions, ConditionType::Reconciling, ConditionStatus::True).unwrap_or(self.now)
    }

    /// The end, where a failed try is the last.
    fn end_after(&mut self, error: &TaskError) -> Option<Next> {
        let tries = self.observed.backup.spec.backoff_limit.max(0).saturating_add(1);
        let failed = i32::try_from(self.status.attempts.len()).unwrap_or(i32::MAX);
        if attempts::is_permanent(error.reason()) {
            return Some(self.fail(error.reason(), error.message.clone()));
        }
        (failed >= tries).then(|| {
            let message = if failed == 1 {
                error.message.clone()
            } else {
                format!("{failed} tries failed; the last: {}", error.message)
            };
            self.fail(error.reason(), message)
        })
    }

    fn tell_retry(&mut self, error: &TaskError) {
        let Some(last) = self.status.attempts.last() else { return };
        let words = format!("attempt {} on {}: {}: {}", last.attempt, last.node_name, error.reason, error.message);
        if error.reason() == Reason::VerificationFailed {
            self.events.push(EventDraft::new(EventReason::VerificationFailed, words.clone()));
        }
        self.events.push(EventDraft::new(EventReason::BackupRetrying, words));
    }

    /// The end at the deadline, with the words of what stood in the way last.
    fn time_out(&mut self, deadline: Timestamp) -> Next {
        let limit = human_duration(deadline.duration_since(self.first_seen()));
        let words = format!("etcd was not backed up within {limit} (spec.limits.timeoutSeconds)");
        let attempt = attempt_state(&self.status, self.observed.execution_unchanged_for);
        let last = self
            .status
            .attempts
            .last()
            .map(|last| format!("; attempt {} on {} failed: {}", last.attempt, last.node_name, last.error.message));
        match attempt {
            Attempt::Running(assignment) => {
                let doing = self.doing(&assignment.node_name);
                self.fail(Reason::DeadlineExceeded, format!("{words}; last seen: {doing}{}", last.unwrap_or_default()))
            }
            Attempt::Assigned(assignment) => {
                let more = last.unwrap_or_default();
                let message =
                    format!("{words}: the agent on {} did not begin to read etcd{more}", assignment.node_name);
                self.fail(Reason::DeadlineExceeded, message)
            }
            Attempt::None | Attempt::Failed(_) | Attempt::FailedBefore => {
                let (reason, obstacle) = self.last_obstacle();
                let obstacle = obstacle.map(|obstacle| format!("; {obstacle}")).unwrap_or_default();
                match last {
                    Some(last) => self.fail(Reason::DeadlineExceeded, format!("{words}{last}{obstacle}")),
                    None => self.fail(reason, format!("{words}{obstacle}")),
                }
            }
        }
    }

    /// What kept a run from being assigned.
    fn last_obstacle(&self) -> (Reason, Option<String>) {
        match obstacle_of(self.observed, &self.status, self.first_seen(), self.now) {
            Obstacle::Passing { outcome: Outcome::InProgress { ready: _, reason, message }, look_again: _ } => {
                (reason, Some(message))
            }
            Obstacle::Final(TaskError { reason, message }) => {
                (Reason::parse(&reason).unwrap_or(Reason::DeadlineExceeded), Some(message))
            }
            Obstacle::Passing { outcome: Outcome::Current { .. } | Outcome::Failed { .. }, look_again: _ }
            | Obstacle::None => match self.choose() {
                Ok(_) => (Reason::DeadlineExceeded, None),
                Err(words) => (Reason::NoHealthyMember, Some(words)),
            },
        }
    }

    fn running(&mut self, assignment: &Assignment) -> Next {
        let Assignment { node_name, attempt, task: _, time: _ } = assignment;
        if self.status.start_time.is_none() {
            self.status.start_time = self.status.execution.as_ref().map(|execution| execution.start_time.clone());
            let words = format!("the agent on {node_name} began");
            self.events.push(EventDraft::new(EventReason::BackupStarted, words));
        }
        let again = if self.status.attempts.is_empty() { String::new() } else { format!(", attempt {attempt}") };
        let words = format!("{}{again}", self.doing(node_name));
        Next::Waits {
            outcome: Outcome::waiting(Reason::Running, words),
            phase: "Running",
            look_again: self.when_silent(),
        }
    }

    /// What the agent on a node is at, by the stage it tells; ones that this version does not know are about etcd.
    fn doing(&self, node_name: &NodeName) -> String {
        match self.status.execution.as_ref().and_then(|execution| execution.stage.as_deref()) {
            Some("Waiting") => format!("waits for another backup on {node_name} to end"),
            Some("Preparing") => format!("the agent on {node_name} looks at location and etcd"),
            Some("Uploading") => format!("etcd on {node_name} was read; the store takes the rest of the archive"),
            Some("Publishing") => format!("etcd on {node_name} was read; the manifest is being written"),
            Some(_) | None => format!("etcd on {node_name} is being backed up"),
        }
    }

    fn assigned(&self, assignment: &Assignment) -> Next {
        let Assignment { node_name, attempt: _, task: _, time: _ } = assignment;
        let (reason, phase, more) = match self.status.attempts.last() {
            None => (Reason::Pending, "Pending", String::new()),
            Some(last) => {
                let words = format!("; attempt {} on {} failed: {}", last.attempt, last.node_name, last.error.message);
                (Reason::Retrying, "Retrying", words)
            }
        };
        Next::Waits {
            outcome: Outcome::waiting(reason, format!("assigned to the agent on {node_name}{more}")),
            phase,
            look_again: self.when_silent(),
        }
    }

    /// When the agent counts as silent; silence is no event, so it must be looked for.
    fn when_silent(&self) -> Timestamp {
        let left = crate::SILENCE.saturating_sub(self.observed.execution_unchanged_for);
        after(self.now, SignedDuration::try_from(left).unwrap_or(SignedDuration::ZERO))
    }

    /// Assigns the next try, as soon as nothing stands in the way.
    fn assign(&mut self) -> Next {
        match obstacle_of(self.observed, &self.status, self.first_seen(), self.now) {
            Obstacle::None => {}
            Obstacle::Passing { outcome, look_again } => return Next::Waits { outcome, phase: "Waiting", look_again },
            Obstacle::Final(TaskError { reason, message }) => {
                return self.fail(Reason::parse(&reason).unwrap_or(Reason::NotSupported), message);
            }
        }
        if let Some((last, time)) =
            self.status.attempts.last().zip(retry_time(&self.status, self.now)).filter(|(_, time)| *time > self.now)
        {
            let words = format!(
                "attempt {} on {} failed: {}; the next follows",
                last.attempt, last.node_name, last.error.message
            );
            return Next::Waits {
                outcome: Outcome::waiting(Reason::Retrying, words),
                phase: "Retrying",
                look_again: time,
            };
        }
        match self.choose() {
            Ok(node_name) => {
                let attempt = next_attempt(self.status.assignment.as_ref(), self.status.execution.as_ref());
                self.status.node_name = Some(node_name.clone());
                let assignment = Assignment { node_name, attempt, task: Task::Backup, time: Time(self.now) };
                self.status.assignment = Some(assignment.clone());
                let next = self.assigned(&assignment);
                match next {
                    // The count of silence begins with the assignment.
                    Next::Waits { outcome, phase, look_again: _ } => {
                        let silence = SignedDuration::try_from(crate::SILENCE).unwrap_or(SignedDuration::ZERO);
                        Next::Waits { outcome, phase, look_again: after(self.now, silence) }
                    }
                    Next::Completes { .. } | Next::Fails(_) => next,
                }
            }
            Err(words) => Next::Waits {
                outcome: Outcome::waiting(Reason::NoHealthyMember, words),
                phase: "Waiting",
                look_again: after(self.now, SignedDuration::try_from(RECHECK).unwrap_or(SignedDuration::ZERO)),
            },
        }
    }

    fn choose(&self) -> Result<NodeName, String> {
        let ObservedBackup {
            backup,
            location,
            members,
            busy,
            last_used,
            execution_unchanged_for: _,
            concurrency: _,
            later_runs: _,
            has_schedule: _,
            sighting: _,
            last_rewind: _,
        } = self.observed;
        choose_node(
            members,
            &Wanted {
                owners: location.owners(),
                pinned: backup.spec.source.node_name.as_ref(),
                policy: backup.spec.source.member_policy,
                failed_last: self.status.attempts.last().map(|last| &last.node_name),
                spool: backup.spec.limits.spool.bytes(),
                busy,
                last_used,
            },
        )
    }

    /// A record of an archive in the bucket: no run is started for it. A listing of the location fills it in, or finds
    /// nothing.
    fn import(&mut self, id: &str) -> Next {
        let place = &self.observed.backup.spec.location_ref.name;
        let imported = self.status.execution.as_ref().filter(|execution| execution.task == Task::Import);
        let result = imported.and_then(|execution| execution.result.clone()).unwrap_or_default();
        match (result.archive, result.error) {
            (Some(facts), _) => self.complete(facts),
            (None, Some(TaskError { reason, message })) => {
                self.fail(Reason::parse(&reason).unwrap_or(Reason::ArchiveCorrupt), message)
            }
            (None, None) if matches!(self.observed.sighting, Sighting::Missing | Sighting::Deleted(_)) => {
                self.fail(Reason::ArchiveMissing, format!("location {place} holds no archive {id}"))
            }
            (None, None) => Next::Waits {
                outcome: Outcome::waiting(
                    Reason::Pending,
                    format!("waits for a listing of location {place}, every ten minutes, to find the archive {id}"),
                ),
                phase: "Importing",
                look_again: Timestamp::MAX,
            },
        }
    }

    fn complete(&mut self, facts: ArchiveFacts) -> Next {
        self.fix_id();
        let pin = facts.pin.clone();
        archive::copy_facts(&mut self.status, facts);
        // Of imports the location tells, once for all that a listing found.
        if catalog::imported_id(&self.observed.backup).is_none() {
            self.events.push(EventDraft::new(EventReason::BackupSucceeded, archive::words(&self.status)));
        }
        Next::Completes { pin }
    }

    fn fail(&mut self, reason: Reason, message: String) -> Next {
        if reason == Reason::VerificationFailed {
            self.events.push(EventDraft::new(EventReason::VerificationFailed, message.clone()));
        }
        self.events.push(EventDraft::new(EventReason::BackupFailed, format!("{reason}: {message}")));
        Next::Fails(TaskError::new(reason, message))
    }

    fn finish(self, next: Next) -> BackupDecision {
        let Self { observed, mut status, events, now } = self;
        status.execution = None;
        let (shown, phase, look_again) = match next {
            Next::Waits { outcome, phase, look_again } => (outcome.shown(), phase, Some(look_again)),
            Next::Completes { pin } => {
                let mut shown = archive::shown(&observed.backup, &status);
                shown.extend(pin.and_then(|pin| aftercare::shown_pin(&pin, aftercare::Source::Bucket)));
                (shown, "Complete", None)
            }
            Next::Fails(error) => {
                let (reason, message) = (error.reason(), error.message.clone());
                status.failure = Some(error);
                let mut shown = Outcome::failed(reason, &message).shown();
                shown.push(Shown::new(ConditionType::Failed, true, reason, message));
                (shown, "Failed", None)
            }
        };
        let generation = observed.backup.metadata.generation.unwrap_or(0);
        status.observed_generation = Some(generation);
        status.phase = Some(phase.to_owned());
        status.conditions = merge_conditions(&status.conditions, &shown, generation, now);
        let requeue_after = look_again.filter(|time| *time < Timestamp::MAX).map(|time| until(time, now));
        BackupDecision { status, events, requeue_after, record: Record::Stays }
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
