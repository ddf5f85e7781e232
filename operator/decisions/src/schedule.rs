//! One schedule: which runs are due, what its records say, whether it can be followed.
//!
//! Names of runs follow from the schedule and the slot, so that a decision repeated after a crash makes nothing twice.
//! At most one missed run is caught up, and a slot that was left out on purpose never comes back.

mod due;
mod records;
mod standing;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::event::EventReason;
use lifeboat_crds::{
    ConditionStatus, ConditionType, EtcdBackup, EtcdBackupSchedule, EtcdBackupScheduleStatus, Reason, Time,
};

use crate::conditions::{Shown, end_of_grace, human_duration, is_true, merge_conditions, since, unready_since};
use crate::cron::{self, CronRefusal, CronSchedule, upcoming};
use crate::event::EventDraft;
use crate::retention::NewestRun;
use crate::{LocationView, after, horizon, until};
use due::{Due, runs_due};
use records::{History, failed_beyond, newest_finished, summarize};

/// Longest pause between looks at a schedule.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Until a slot that is held back is looked at again.
const HELD_PAUSE: SignedDuration = SignedDuration::from_secs(15);

/// What is known around a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedSchedule<'o> {
    /// The schedule.
    pub schedule: EtcdBackupSchedule,
    /// The location of its template.
    pub location: LocationView,
    /// Its backups; borrowed, for there may be thousands.
    pub backups: Vec<&'o EtcdBackup>,
    /// Names of all other backups that its runs could want: those that begin with its own name.
    pub taken_names: BTreeSet<String>,
    /// When older data last took the place of the cluster's own.
    pub last_rewind: Option<Timestamp>,
    /// When an agent of a master last wrote, by its own clock.
    pub last_heard: Option<Timestamp>,
}

/// What is to become of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleDecision {
    /// Runs to start.
    pub create: Vec<EtcdBackup>,
    /// Names of records to delete.
    pub delete: Vec<String>,
    /// The status.
    pub status: EtcdBackupScheduleStatus,
    /// What to tell.
    pub events: Vec<EventDraft>,
    /// When to look again if nothing happens.
    pub requeue_after: Duration,
}

/// Decides upon a schedule.
pub fn decide_schedule(observed: &ObservedSchedule<'_>, now: Timestamp) -> ScheduleDecision {
    let ObservedSchedule { schedule, location, backups, taken_names: _, last_rewind: _, last_heard: _ } = observed;
    let before = schedule.status.clone().unwrap_or_default();
    let parsed = CronSchedule::parse(&schedule.spec.schedule, &schedule.spec.time_zone);
    let unready_since = unready_since(&before.conditions, now);
    let outcome = standing::judge(schedule, parsed.as_ref().err(), location, unready_since, now);
    let mut events = tell_refusal(&before, parsed.as_ref().err());
    let history = summarize(backups, now);
    let due = match &parsed {
        Ok(cron) if standing::may_run(schedule, location) => runs_due(observed, cron, now),
        Ok(_) | Err(_) => Due::nothing(observed, now),
    };
    let Due { create, served, run_now, events: told, is_held } = due;
    events.extend(told);
    let mut status = status_of(&before, &history, now);
    status.last_run_time = served.map(Time).or(status.last_run_time);
    status.last_run_now = run_now.or(status.last_run_now);
    // The grace of something missing ends without anything happening.
    let mut look_again = vec![if outcome.is_troubled() { end_of_grace(unready_since, now) } else { None }];
    look_again.push(is_held.then(|| after(now, HELD_PAUSE)));
    match &parsed {
        Ok(cron) => look_again.push(describe(schedule, &mut status, cron, now)),
        Err(_) => {
            status.description = None;
            status.next_run_time = None;
            status.upcoming_runs = Vec::new();
            status.interval_seconds = None;
            // The objective of before stays: backups stop, and somebody must be told once the last is too old.
        }
    }
    let within = status.objective_seconds.map(|seconds| WithinObjective::of(schedule, &status, seconds, now));
    look_again.extend(within.as_ref().map(|within| within.ends));
    let mut shown = outcome.shown();
    shown.push(last_backup_succeeded(&history));
    shown.extend(within.map(|within| within.shown));
    shown.push(suspended(schedule.spec.suspend));
    let generation = schedule.metadata.generation.unwrap_or(0);
    status.observed_generation = Some(generation);
    status.conditions = merge_conditions(&before.conditions, &shown, generation, now);
    let requeue_after =
        look_again.into_iter().flatten().map(|time| until(time, now)).fold(LONGEST_PAUSE, Duration::min);
    let delete = failed_beyond(backups, schedule.spec.history.failed);
    ScheduleDecision { create, delete, status, events, requeue_after }
}

/// The part of the status that tells of records.
fn status_of(before: &EtcdBackupScheduleStatus, history: &History, now: Timestamp) -> EtcdBackupScheduleStatus {
    let History { active, last_backup, last_success, failures, finished: _, retained } = history;
    // Records of the failed are deleted beyond history.failed, those of the good with their archives; neither must make
    // a schedule forget. A success that lies ahead is of a clock that was wrong.
    let known = before.last_success_time.as_ref().map(|time| time.0).filter(|time| *time <= horizon(now));
    let newest_success = known.max(*last_success);
    let is_same_streak = known == newest_success;
    let counted = if is_same_streak { before.consecutive_failures.unwrap_or(0).max(*failures) } else { *failures };
    let failures = if *failures == 0 { 0 } else { counted };
    EtcdBackupScheduleStatus {
        last_success_time: newest_success.map(Time),
        last_backup_ref: last_backup.clone(),
        consecutive_failures: Some(failures),
        retained: Some(retained.clone()),
        active: active.clone(),
        ..before.clone()
    }
}

/// Fills in what people read of the expression; gives when that changes next.
fn describe(
    schedule: &EtcdBackupSchedule,
    status: &mut EtcdBackupScheduleStatus,
    cron: &CronSchedule,
    now: Timestamp,
) -> Option<Timestamp> {
    let interval = cron.interval();
    let jitter = due::jitter_of(schedule);
    // What passed before the schedule was there, or while it was suspended, does not run: nor may it be promised.
    let created = schedule.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let begins = [created, resumed_at(schedule, now)].into_iter().flatten().fold(after(now, -jitter), Timestamp::max);
    let slots = upcoming(cron, begins, 3);
    let runs: Vec<Timestamp> = slots.into_iter().map(|slot| after(slot, jitter)).collect();
    status.description = Some(cron.description().chars().take(512).collect());
    status.interval_seconds = Some(interval.as_secs());
    status.objective_seconds = Some(cron::objective(interval).as_secs());
    // While suspended there is no next run to promise.
    let shown: Vec<String> =
        if schedule.spec.suspend { Vec::new() } else { runs.iter().map(|run| cron.local(*run)).collect() };
    status.next_run_time = shown.first().cloned();
    status.upcoming_runs = shown;
    runs.first().copied()
}

fn tell_refusal(before: &EtcdBackupScheduleStatus, refusal: Option<&CronRefusal>) -> Vec<EventDraft> {
    let shown = lifeboat_crds::condition::find(&before.conditions, ConditionType::Ready);
    let is_news = |words: &str| shown.is_none_or(|ready| ready.message != words);
    let words = refusal.map(ToString::to_string).filter(|words| is_news(words));
    words.map(|words| EventDraft::new(EventReason::InvalidSchedule, words)).into_iter().collect()
}

fn last_backup_succeeded(history: &History) -> Shown {
    let type_ = ConditionType::LastBackupSucceeded;
    match &history.finished {
        None => Shown::new(type_, ConditionStatus::Unknown, Reason::Pending, "no run has finished yet"),
        Some(run) => match &run.failure {
            None => Shown::new(type_, true, Reason::Succeeded, format!("{} succeeded", run.name)),
            Some((reason, message)) => Shown::new(type_, false, *reason, format!("{}: {message}", run.name)),
        },
    }
}

/// Whether the last success is young enough, and when that ends.
struct WithinObjective {
    shown: Shown,
    ends: Option<Timestamp>,
}

impl WithinObjective {
    fn of(
        schedule: &EtcdBackupSchedule,
        status: &EtcdBackupScheduleStatus,
        objective_seconds: i64,
        now: Timestamp,
    ) -> Self {
        let objective = SignedDuration::from_secs(objective_seconds);
        let type_ = ConditionType::WithinObjective;
        let success = status.last_success_time.as_ref().map(|time| time.0);
        let created = schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let ends = after(success.unwrap_or(created), objective);
        let limit = human_duration(objective);
        let shown = match (success, now <= ends) {
            (Some(_), true) => {
                Shown::new(type_, true, Reason::Succeeded, format!("the last success is younger than {limit}"))
            }
            (None, true) => Shown::new(type_, ConditionStatus::Unknown, Reason::Pending, "no success yet"),
            (Some(_), false) => {
                Shown::new(type_, false, Reason::DeadlineExceeded, format!("the last success is older than {limit}"))
            }
            (None, false) => {
                let words = format!("no success since the schedule was created, which is longer ago than {limit}");
                Shown::new(type_, false, Reason::DeadlineExceeded, words)
            }
        };
        // One second later it no longer holds.
        let ends = after(ends, SignedDuration::from_secs(1));
        Self { shown, ends: Some(ends).filter(|ends| *ends > now) }
    }
}

fn suspended(is_suspended: bool) -> Shown {
    // Whether runs are started is for Ready to say.
    let words =
        if is_suspended { "no runs are started; the annotation run-now still starts one" } else { "not suspended" };
    Shown::new(ConditionType::Suspended, is_suspended, Reason::Accepted, words)
}

/// How the newest run that is over ended.
pub fn newest_run<'b>(backups: impl Iterator<Item = &'b EtcdBackup>, now: Timestamp) -> NewestRun {
    match newest_finished(backups, now) {
        Some(run) if run.failure.is_some() => NewestRun::Failed,
        Some(_) | None => NewestRun::NotFailed,
    }
}

fn name_of(backup: &EtcdBackup) -> &str {
    backup.metadata.name.as_deref().unwrap_or_default()
}

/// Since when the schedule runs again, if it was suspended before.
fn resumed_at(schedule: &EtcdBackupSchedule, now: Timestamp) -> Option<Timestamp> {
    let conditions = schedule.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if is_true(conditions, ConditionType::Suspended) {
        return Some(now);
    }
    // Of a schedule that never was, this is when the operator first saw it; what came before was decided then.
    since(conditions, ConditionType::Suspended, ConditionStatus::False).filter(|time| *time <= now)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
