//! Which runs are to be started now. Every slot is served once: by a run, or by being left out for a reason that is told.
//!
//! `status.lastRunTime` is the newest slot served. A run's name follows from its slot, so that one started twice is one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::event::EventReason;
use lifeboat_crds::schedule::ConcurrencyPolicy;
use lifeboat_crds::{EtcdBackup, EtcdBackupSchedule, EtcdBackupScheduleStatus, label, whole_seconds};

use super::records::is_active;
use super::{ObservedSchedule, name_of, resumed_at};
use crate::cron::{CronSchedule, count_between, jitter, starting_deadline};
use crate::event::EventDraft;
use crate::{GRACE, LocationView, after};

/// What is to be started.
pub(super) struct Due {
    pub(super) create: Vec<EtcdBackup>,
    /// The newest slot served.
    pub(super) served: Option<Timestamp>,
    /// The value of the annotation run-now that was obeyed.
    pub(super) run_now: Option<String>,
    pub(super) events: Vec<EventDraft>,
    /// A slot of before is neither served nor left out yet.
    pub(super) is_held: bool,
}

impl Due {
    /// Nothing is due, and no further slot is served.
    pub(super) fn nothing(observed: &ObservedSchedule<'_>, now: Timestamp) -> Self {
        let before = observed.schedule.status.clone().unwrap_or_default();
        Self {
            create: Vec::new(),
            served: newest_served(observed, &before, now),
            run_now: before.last_run_now,
            events: Vec::new(),
            is_held: false,
        }
    }

    fn tell(&mut self, reason: EventReason, note: String) {
        self.events.push(EventDraft::new(reason, note));
    }
}

/// Why a run is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause<'a> {
    /// Its time has come.
    Slot,
    /// The schedule was just created.
    Creation,
    /// Somebody asked, by this value of the annotation.
    Asked(&'a str),
}

/// The fixed part of `jitterSeconds` by which this schedule's runs are late.
pub(super) fn jitter_of(schedule: &EtcdBackupSchedule) -> SignedDuration {
    let namespace = schedule.metadata.namespace.as_deref().unwrap_or_default();
    let name = schedule.metadata.name.as_deref().unwrap_or_default();
    jitter(&format!("{namespace}/{name}"), SignedDuration::from_secs(schedule.spec.jitter_seconds))
}

/// What is to be started now.
pub(super) fn runs_due(observed: &ObservedSchedule<'_>, cron: &CronSchedule, now: Timestamp) -> Due {
    let schedule = &observed.schedule;
    let mut due = Due::nothing(observed, now);
    let served = due.served;
    let created = created_at(schedule, now);
    let is_first = schedule.spec.run_on_create && served.is_none();
    let unknown = unknown_until(observed, now);
    match (schedule.spec.suspend, is_first) {
        // It may have run already, and only its record may have been put back.
        (false, true) if unknown.is_some_and(|until| created <= until) || is_unheard(observed, created, now) => {
            due.is_held = true;
        }
        (false, true) => {
            serve(&mut due, observed, created, Cause::Creation);
            // If it comes late, it serves the slots that have passed meanwhile as well.
            due.served = cron.last_between(created, after(now, -jitter_of(schedule))).or(due.served);
        }
        (false, false) => {
            let bounds = [served, resumed_at(schedule, now), unknown];
            let base = bounds.into_iter().flatten().fold(created, Timestamp::max);
            serve_slot(&mut due, observed, cron, base, now);
        }
        // Once it is resumed, it waits for its next slot as any other.
        (true, true) => due.served = Some(created),
        (true, false) => {}
    }
    if let Some(value) = asked_for(observed, due.run_now.as_deref()) {
        obey(&mut due, observed, value, now);
    }
    due
}

/// Until when it is not known which slots were served: the data of an older time was put back, records and status with it,
/// and the location has not been listed as a whole since. What is found missing then is caught up as ever. A time that lies
/// ahead is of a clock that is wrong.
fn unknown_until(observed: &ObservedSchedule<'_>, now: Timestamp) -> Option<Timestamp> {
    let rewound = observed.last_rewind.filter(|rewound| *rewound <= now)?;
    let status = match &observed.location {
        LocationView::Missing => None,
        LocationView::Seen(location) => location.status.as_ref(),
    };
    let listed = status.and_then(|status| status.catalog.as_ref()?.full_pass_time.as_ref()).map(|time| time.0);
    listed.is_none_or(|listed| listed <= rewound).then_some(rewound)
}

/// Whether a slot lies a while back and no agent has written since. In data of an older time that was put back none has; what
/// the first one writes tells of the restore. A slot of this minute is not held up.
fn is_unheard(observed: &ObservedSchedule<'_>, slot: Timestamp, now: Timestamp) -> bool {
    let is_of_before = after(slot, jitter_of(&observed.schedule) + GRACE) < now;
    is_of_before && observed.last_heard.is_none_or(|heard| heard <= slot)
}

/// The newest slot that was served. The records know it too, should the status have been lost; but while it is there it
/// alone counts, so that a run of which some copies could not be made is completed.
///
/// Records older than the schedule are of another one of the same name.
fn newest_served(
    observed: &ObservedSchedule<'_>,
    before: &EtcdBackupScheduleStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    // A slot that lies ahead was served under a clock that was wrong; believed, it would silence the schedule until then.
    let noted = before.last_run_time.as_ref().map(|time| time.0).filter(|time| *time <= now);
    let was_seen = before.observed_generation.is_some_and(|generation| generation >= 0);
    let created = created_at(&observed.schedule, now);
    // An archive found in the bucket is of a run that this API server has forgotten, or never knew.
    let counts = |backup: &EtcdBackup| backup.is_imported() || (!was_seen && !is_asked(backup));
    let slots = observed.backups.iter().filter(|backup| counts(backup)).filter_map(|backup| backup.slot());
    noted.max(slots.filter(|slot| (created..=now).contains(slot)).max())
}

fn created_at(schedule: &EtcdBackupSchedule, now: Timestamp) -> Timestamp {
    whole_seconds(schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0))
}

/// Serves the newest slot that has passed since `base`, if there is one.
fn serve_slot(due: &mut Due, observed: &ObservedSchedule<'_>, cron: &CronSchedule, base: Timestamp, now: Timestamp) {
    let schedule = &observed.schedule;
    let jitter = jitter_of(schedule);
    let Some(slot) = cron.last_between(base, after(now, -jitter)) else { return };
    if is_unheard(observed, slot, now) {
        due.is_held = true;
        return;
    }
    let late = now.duration_since(after(slot, jitter));
    let deadline = starting_deadline(schedule.spec.starting_deadline_seconds, cron.interval());
    let is_missed = late > deadline;
    let earlier = count_between(cron, base, slot);
    let missed = earlier + usize::from(is_missed);
    if missed > 0 {
        let count = if missed > 99 { "99 or more".to_owned() } else { missed.to_string() };
        let newest = if is_missed {
            format!(", the newest of {}", cron.local(slot))
        } else {
            "; the newest is caught up".to_owned()
        };
        due.tell(EventReason::ScheduleMissed, format!("{count} runs were missed{newest}"));
    }
    if is_missed {
        due.served = Some(slot);
    } else {
        serve(due, observed, slot, Cause::Slot);
    }
}

/// Serves a slot: starts what is missing of its run, or leaves it out and says why.
fn serve(due: &mut Due, observed: &ObservedSchedule<'_>, slot: Timestamp, cause: Cause<'_>) {
    due.served = Some(slot);
    if let Some(running) = running_instead(observed, slot) {
        let note = format!("the run of {slot} is left out: {running} still goes on");
        let name = run_names(&observed.schedule, slot).swap_remove(0);
        due.events.push(EventDraft::new(EventReason::RunSkipped, note).about(name));
        return;
    }
    start(due, observed, slot, cause);
}

/// The run of another slot that goes on and, by the schedule's policy, keeps a further one from starting.
fn running_instead<'o>(observed: &ObservedSchedule<'o>, slot: Timestamp) -> Option<&'o str> {
    match observed.schedule.spec.concurrency_policy {
        ConcurrencyPolicy::Replace => None,
        ConcurrencyPolicy::Forbid => {
            let others = observed.backups.iter().filter(|backup| is_active(backup) && backup.slot() != Some(slot));
            others.map(|backup| name_of(backup)).min()
        }
    }
}

/// Starts the copies of a run that do not exist yet.
fn start(due: &mut Due, observed: &ObservedSchedule<'_>, slot: Timestamp, cause: Cause<'_>) {
    let names = run_names(&observed.schedule, slot);
    if let Some(foreign) = names.iter().find(|name| observed.taken_names.contains(*name)) {
        let words = format!("the run of {slot} is left out: {foreign} exists and is not of this schedule");
        due.tell(EventReason::RunSkipped, words);
        return;
    }
    let missing: Vec<&String> =
        names.iter().filter(|name| !observed.backups.iter().any(|backup| name_of(backup) == *name)).collect();
    if missing.is_empty() {
        return;
    }
    for name in &missing {
        due.create.push(run(&observed.schedule, name, slot, cause));
    }
    let why = match cause {
        Cause::Slot => "its time has come",
        Cause::Creation => "spec.runOnCreate asks for it",
        Cause::Asked(_) => "the annotation run-now asks for it",
    };
    let list = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let event = EventDraft::new(EventReason::BackupScheduled, format!("started {list}: {why}"));
    due.events.push(event.about(missing[0].clone()));
}

/// The value of the annotation run-now, if it was not obeyed yet.
fn asked_for<'o>(observed: &'o ObservedSchedule, obeyed: Option<&str>) -> Option<&'o str> {
    let annotations = observed.schedule.metadata.annotations.as_ref()?;
    let value = annotations.get(label::RUN_NOW).filter(|value| !value.is_empty())?;
    (obeyed != Some(noted(value).as_str())).then_some(value)
}

/// The value as the status has room for it.
fn noted(value: &str) -> String {
    value.chars().take(1_024).collect()
}

/// Starts the run that was asked for. While another goes on and the schedule forbids two, it waits: whoever asks wants a
/// backup of what is there now, not of what was there when the other began.
fn obey(due: &mut Due, observed: &ObservedSchedule<'_>, value: &str, now: Timestamp) {
    let served_by_slot = !due.create.is_empty();
    let newest_asked = observed.backups.iter().filter(|backup| is_asked(backup)).max_by_key(|backup| backup.slot());
    let was_started = newest_asked.is_some_and(|backup| asked_value(backup) == Some(value));
    if served_by_slot || was_started {
        due.run_now = Some(noted(value));
        return;
    }
    let slot = free_second(observed, whole_seconds(now));
    if running_instead(observed, slot).is_some() {
        return;
    }
    due.run_now = Some(noted(value));
    start(due, observed, slot, Cause::Asked(value));
}

/// The first second from `time` on whose names are free.
fn free_second(observed: &ObservedSchedule<'_>, time: Timestamp) -> Timestamp {
    let is_taken = |slot: &Timestamp| {
        run_names(&observed.schedule, *slot).iter().any(|name| {
            observed.taken_names.contains(name) || observed.backups.iter().any(|backup| name_of(backup) == name)
        })
    };
    let seconds = (0..60).map(|second| after(time, SignedDuration::from_secs(second)));
    seconds.into_iter().find(|slot| !is_taken(slot)).unwrap_or(time)
}

fn asked_value(backup: &EtcdBackup) -> Option<&str> {
    backup.metadata.annotations.as_ref()?.get(label::RUN_NOW).map(String::as_str)
}

/// Whether a run was asked for by hand; it serves no slot.
pub(super) fn is_asked(backup: &EtcdBackup) -> bool {
    asked_value(backup).is_some()
}

/// Names of a run's backups: `<schedule>-<UTC yyyymmddhhmmss>`, further copies with `-1`, `-2` and so on.
fn run_names(schedule: &EtcdBackupSchedule, slot: Timestamp) -> Vec<String> {
    let name = schedule.metadata.name.as_deref().unwrap_or_default();
    let base = format!("{name}-{}", slot.strftime("%Y%m%d%H%M%S"));
    let further = (1..schedule.spec.copies).map(|copy| format!("{base}-{copy}"));
    std::iter::once(base.clone()).chain(further).collect()
}

/// A backup of a run. Of the schedule's own labels and annotations none is copied.
fn run(schedule: &EtcdBackupSchedule, name: &str, slot: Timestamp, cause: Cause<'_>) -> EtcdBackup {
    let template = &schedule.spec.template;
    let mut labels: BTreeMap<String, String> = template.metadata.labels.clone();
    labels.insert(label::SCHEDULE.to_owned(), schedule.metadata.name.clone().unwrap_or_default());
    let mut annotations: BTreeMap<String, String> = template.metadata.annotations.clone();
    annotations.insert(label::SLOT.to_owned(), slot.to_string());
    match cause {
        // By this a run is recognised that was started before the status could say so.
        Cause::Asked(value) => {
            annotations.insert(label::RUN_NOW.to_owned(), value.to_owned());
        }
        Cause::Slot | Cause::Creation => {
            annotations.remove(label::RUN_NOW);
        }
    }
    // An imported record starts no run; a template must not make one.
    annotations.remove(label::IMPORTED);
    let mut backup = EtcdBackup::new(name, template.spec.clone());
    backup.metadata.labels = Some(labels);
    backup.metadata.annotations = Some(annotations);
    backup
}
