//! Retention over objects: which backups a policy is about, what they are worth, and whose `status.expiry` is to change.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::{Expiry, ExpiryDecision, VerificationLevel};
use lifeboat_crds::condition::find;
use lifeboat_crds::identifier::pass_time;
use lifeboat_crds::location::AccessMode;
use lifeboat_crds::manifest::ManifestObject;
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::{
    ConditionType, EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdBackupStatus, Reason, Task, label,
};

use super::{Holding, Judged, NewestRun, Verdict, Worth, judge_archives};
use crate::backup::pin_of;
use crate::conditions::is_true;
use crate::{LARGEST_SKEW, LocationView, horizon};

/// A location that works is probed every five minutes. One whose last probe is further from now than this has not been
/// looked at, or the operator's clock is wrong; by a clock that is months ahead everything is too old. So that a wrong clock
/// is not compared with itself, the agent's own sign of life is, too.
const LATEST_PROBE: SignedDuration = SignedDuration::from_hours(1);
/// Reason beside the others where the store refuses to delete.
const HELD: &str = "held by the store against deletion; tried again once a day";
/// Archives that are let go at once; the next follow as these are gone.
const MOST_GOING: usize = 16;
/// Backups written at once; the next look follows soon.
const MOST_MARKS: usize = 100;
/// Most reasons in an object.
const MOST_REASONS: usize = 16;

/// What is known around a schedule whose archives are judged.
#[derive(Clone, Debug)]
pub struct ObservedRetention<'a> {
    /// The schedule.
    pub schedule: &'a EtcdBackupSchedule,
    /// Its backups.
    pub backups: &'a [&'a EtcdBackup],
    /// Every location they lie in, by name.
    pub locations: BTreeMap<String, LocationView>,
    /// When this cluster was last restored.
    pub last_restore: Option<Timestamp>,
    /// How the newest run that is over ended.
    pub newest_run: NewestRun,
    /// Archives that a restore plans with, by location and backupId, and the name of that restore.
    pub planned: BTreeMap<(String, String), String>,
}

/// When the cluster was last restored, by what its masters tell. A restore of unknown time is after everything.
pub fn last_restore<'m>(restores: impl IntoIterator<Item = &'m LastRestore>) -> Option<Timestamp> {
    restores.into_iter().map(|restore| restore.time.as_ref().map_or(Timestamp::MAX, |time| time.0)).max()
}

/// Whether a decision rests on a listing of before the cluster was last restored, or of unknown time: what it let go may be
/// what is needed now. With an equal time, in doubt, it is void.
pub fn is_void(expiry: &Expiry, last_restore: Option<Timestamp>) -> bool {
    last_restore.is_some_and(|restored| pass_time(&expiry.pass_id).is_none_or(|listed| listed <= restored))
}

/// A backup whose expiry is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// The operator's part of its status.
    pub status: EtcdBackupStatus,
}

/// Judges the archives of a schedule: those whose expiry differs from what they show.
///
/// Generation and listing are not compared: they say upon what a decision rested when it was first made, and comparing
/// them would write every backup anew with each listing. Only what was let go before a restore is decided anew.
pub fn decide_retention(observed: &ObservedRetention<'_>, now: Timestamp) -> Vec<Mark> {
    let ObservedRetention { schedule, backups, locations, last_restore, newest_run, planned } = observed;
    let Ok(zone) = TimeZone::get(&schedule.spec.time_zone) else { return Vec::new() };
    let name = schedule.metadata.name.as_deref().unwrap_or_default();
    let judged: Vec<&EtcdBackup> = backups.iter().copied().filter(|backup| is_subject(backup, name)).collect();
    let standings: BTreeMap<&str, Standing> = locations
        .iter()
        .map(|(name, location)| (name.as_str(), Standing::of(name, location, *last_restore, now)))
        .collect();
    let unseen = Standing::of("of its name", &LocationView::Missing, None, now);
    let standing_of = |backup: &EtcdBackup| standings.get(backup.spec.location_ref.name.as_str()).unwrap_or(&unseen);
    let holdings: Vec<Holding> =
        judged.iter().map(|backup| holding_of(backup, standing_of(backup), planned, now)).collect();
    let view = Judged { holdings: &holdings, policy: &schedule.spec.retention, zone: &zone, newest_run: *newest_run };
    let verdicts = judge_archives(&view, now);
    let generation = schedule.metadata.generation.unwrap_or(0);
    let going = judged.iter().filter(|backup| shows_expire(backup) && !is_held_by_store(backup)).count();
    let mut room = MOST_GOING.saturating_sub(going);
    let mut pairs: Vec<(&EtcdBackup, Verdict)> = judged.into_iter().zip(verdicts).collect();
    // The oldest go first.
    pairs.sort_by_cached_key(|(backup, _)| (slot_of(backup), name_of(backup)));
    let marks = pairs.into_iter().filter_map(|(backup, verdict)| {
        // Where nothing can be reached nothing goes, and to say so of each archive would be as many writes with each outage.
        let Standing { away, hold: _, pass_id } = standing_of(backup);
        if away.is_some() && !shows_expire(backup) {
            return None;
        }
        if !verdict.is_keep() && !shows_expire(backup) {
            room = room.checked_sub(1)?;
        }
        let expiry = expiry_of(backup, &verdict, (generation, pass_id), *last_restore)?;
        let before = backup.status.clone().unwrap_or_default();
        let status = EtcdBackupStatus { execution: None, expiry: Some(expiry), ..before };
        Some(Mark { name: name_of(backup), status })
    });
    marks.take(MOST_MARKS).collect()
}

fn shows_expire(backup: &EtcdBackup) -> bool {
    let expiry = backup.status.as_ref().and_then(|status| status.expiry.as_ref());
    expiry.is_some_and(|expiry| match expiry.decision {
        ExpiryDecision::Keep => false,
        ExpiryDecision::Expire => true,
    })
}

/// Whether a policy is about a backup: made by that schedule, with an archive, and not about to go on somebody's word. A
/// label alone does not make it so: a backup made by hand stays.
fn is_subject(backup: &EtcdBackup, schedule: &str) -> bool {
    let annotations = backup.metadata.annotations.as_ref();
    let has = |key| annotations.is_some_and(|annotations| annotations.contains_key(key));
    let labels = backup.metadata.labels.as_ref();
    let is_labelled = labels.and_then(|labels| labels.get(label::SCHEDULE)).is_some_and(|name| name == schedule);
    let is_run = has(label::SLOT) || backup.is_imported();
    is_labelled && is_run && backup.is(ConditionType::Complete) && !is_asked_to_go(backup)
}

/// Whether somebody asked, rightly, for the deletion of the archive, and nothing pins it. What was refused because of a pin
/// does not come true when the pin goes.
pub fn is_asked_to_go(backup: &EtcdBackup) -> bool {
    let asked = backup.metadata.annotations.as_ref().and_then(|annotations| annotations.get(label::DELETE_ARCHIVE));
    let status = backup.status.as_ref();
    let id = status.and_then(|status| status.backup_id.as_ref());
    let refused = status.and_then(|status| status.deletion_refused.as_ref());
    asked.is_some() && asked == id && asked != refused && pin_of(backup).is_none()
}

/// What a location means for all archives in it.
struct Standing {
    /// Why nobody may count on what lies there: its records say what was true when it was last seen.
    away: Option<String>,
    /// Why nothing may be deleted there.
    hold: Option<String>,
    /// Its last listing; empty where there was none.
    pass_id: String,
}

impl Standing {
    fn of(name: &str, location: &LocationView, last_restore: Option<Timestamp>, now: Timestamp) -> Self {
        let status = match location {
            LocationView::Missing => None,
            LocationView::Seen(location) => location.status.as_ref(),
        };
        let pass = status.and_then(|status| status.catalog.as_ref());
        Self {
            away: unreachable(name, location),
            hold: hold_of(name, location, last_restore, now),
            pass_id: pass.map(|pass| pass.pass_id.clone()).unwrap_or_default(),
        }
    }
}

fn unreachable(name: &str, location: &LocationView) -> Option<String> {
    let location = match location {
        LocationView::Seen(location) => location,
        LocationView::Missing => return Some(format!("location {name} does not exist")),
    };
    let conditions = location.status.as_ref().map_or(&[][..], |status| &status.conditions);
    (!is_true(conditions, ConditionType::Available)).then(|| format!("location {name} cannot be reached"))
}

fn holding_of(
    backup: &EtcdBackup,
    location: &Standing,
    planned: &BTreeMap<(String, String), String>,
    now: Timestamp,
) -> Holding {
    let Standing { away, hold, pass_id: _ } = location;
    let slot = slot_of(backup);
    let worth = match away {
        Some(words) => Worth::NotCounted(words.clone()),
        // Ranked first until then, it would push real ones out.
        None if slot > horizon(now) => Worth::NotCounted("its run lies ahead by the operator's clock".to_owned()),
        None => worth_of(backup),
    };
    let id = backup.status.as_ref().and_then(|status| status.backup_id.clone()).unwrap_or_default();
    let planned = planned.get(&(backup.spec.location_ref.name.clone(), id));
    let pin = pin_of(backup).or_else(|| planned.map(|restore| format!("restore {restore} plans with it")));
    Holding { name: name_of(backup), slot, worth, pin, hold: hold.clone() }
}

/// The run that a backup is of: by its annotation, else by its name, as with one found in the bucket; else it is a run of
/// its own.
fn slot_of(backup: &EtcdBackup) -> Timestamp {
    let schedule = backup.metadata.labels.as_ref().and_then(|labels| labels.get(label::SCHEDULE));
    let named = schedule.and_then(|schedule| slot_of_name(schedule, &name_of(backup)));
    let status = backup.status.as_ref();
    let begun = status.and_then(|status| status.start_time.as_ref().or(status.completion_time.as_ref()));
    let created = backup.metadata.creation_timestamp.as_ref();
    backup.slot().or(named).or(begun.or(created).map(|time| time.0)).unwrap_or(Timestamp::MAX)
}

/// The run of a schedule that an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledRun<'o> {
    /// The schedule.
    pub schedule: &'o str,
    /// The slot it served.
    pub slot: Timestamp,
}

/// The run that an archive is of, by what its manifest says of its object; nothing for one that was made by hand. The name
/// must say so too: a schedule names its runs by their slots, and a label may have been copied along with the rest.
pub fn scheduled_run(object: &ManifestObject) -> Option<ScheduledRun<'_>> {
    let schedule = object.schedule.as_deref()?;
    Some(ScheduledRun { schedule, slot: slot_of_name(schedule, &object.name)? })
}

/// The slot in the name of a schedule's backup: `<schedule>-<UTC yyyymmddhhmmss>[-n]`.
fn slot_of_name(schedule: &str, name: &str) -> Option<Timestamp> {
    let rest = name.strip_prefix(schedule)?.strip_prefix('-')?;
    let (stamp, copy) = rest.split_once('-').unwrap_or((rest, "0"));
    let is_ours = stamp.len() == 14
        && stamp.bytes().all(|byte| byte.is_ascii_digit())
        && !copy.is_empty()
        && copy.bytes().all(|byte| byte.is_ascii_digit());
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", stamp).ok().filter(|_| is_ours)?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Good is what is Ready and proven: by content, or by what was asked for where that was less. A level above Content that
/// could not be reached (compaction moved while members were compared) takes nothing from the archive.
fn worth_of(backup: &EtcdBackup) -> Worth {
    let Some(status) = &backup.status else { return Worth::NotCounted("nothing is known of it".to_owned()) };
    if !is_true(&status.conditions, ConditionType::Ready) {
        let reason = find(&status.conditions, ConditionType::Ready).map_or("Unknown", |ready| ready.reason.as_str());
        return Worth::NotCounted(reason.to_owned());
    }
    let needed = backup.spec.verification.min(VerificationLevel::Content);
    match status.verification.as_ref().map(|proven| proven.level) {
        Some(level) if level >= needed => Worth::Good,
        Some(level) => Worth::NotCounted(format!("verified at level {} only", level.as_str())),
        None => Worth::NotCounted("not verified".to_owned()),
    }
}

/// Why nothing may be deleted in a location. The words do not change while the reason does not.
fn hold_of(name: &str, location: &LocationView, last_restore: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let location = match location {
        LocationView::Missing => return Some(format!("location {name} does not exist")),
        LocationView::Seen(location) => location,
    };
    let EtcdBackupLocation { metadata: _, spec, status } = location.as_ref();
    match spec.access_mode {
        AccessMode::ReadOnly => return Some(format!("location {name} is ReadOnly")),
        AccessMode::ReadWrite => {}
    }
    let status = status.as_ref();
    let is_writable = status.is_some_and(|status| is_true(&status.conditions, ConditionType::Writable));
    if !is_writable {
        return Some(format!("location {name} cannot be written"));
    }
    let probed = status.and_then(|status| status.last_probe_time.as_ref()).map(|time| time.0);
    let beat = status.and_then(|status| status.execution.as_ref()).map(|execution| execution.heartbeat_time.0);
    let is_of_this_hour = |time: Timestamp| now.duration_since(time).abs() <= LATEST_PROBE;
    if ![probed, beat].into_iter().all(|time| time.is_some_and(is_of_this_hour)) {
        return Some(format!("the last probe of location {name} is not of this hour by the operator's clock"));
    }
    let listed = status.and_then(|status| status.catalog.as_ref()?.full_pass_time.as_ref()).map(|time| time.0);
    match (listed, last_restore) {
        (None, _) => return Some(format!("location {name} has not been listed as a whole")),
        (Some(listed), Some(restored)) if listed <= restored => {
            return Some(format!("location {name} has not been listed as a whole since the cluster was restored"));
        }
        (Some(_), Some(_) | None) => {}
    }
    let skew = SignedDuration::from_secs(status.and_then(|status| status.clock_skew_seconds).unwrap_or(0));
    (skew.abs() > LARGEST_SKEW)
        .then(|| format!("the clocks of location {name} and of the masters differ by more than 5 minutes"))
}

/// The expiry to write, where it differs from what the backup shows.
fn expiry_of(
    backup: &EtcdBackup,
    verdict: &Verdict,
    (policy_generation, pass_id): (i64, &str),
    last_restore: Option<Timestamp>,
) -> Option<Expiry> {
    let Verdict { decision, reasons } = verdict;
    let mut reasons: Vec<String> = reasons.iter().take(MOST_REASONS - 1).map(super::Why::stable).collect();
    let is_held = match decision {
        ExpiryDecision::Expire => is_held_by_store(backup),
        ExpiryDecision::Keep => false,
    };
    if is_held {
        reasons.push(HELD.to_owned());
    }
    let shown = backup.status.as_ref().and_then(|status| status.expiry.as_ref());
    // An agent refuses what was let go before a restore; only another listing can make it good.
    let is_outdated = |shown: &Expiry| match decision {
        ExpiryDecision::Expire => shown.pass_id != pass_id && is_void(shown, last_restore),
        ExpiryDecision::Keep => false,
    };
    let is_same =
        shown.is_some_and(|shown| shown.decision == *decision && shown.reasons == reasons && !is_outdated(shown));
    (!is_same).then_some(Expiry { decision: *decision, reasons, policy_generation, pass_id: pass_id.to_owned() })
}

/// Whether the store refused the last deletion; while the next one is under way, what is shown stays.
fn is_held_by_store(backup: &EtcdBackup) -> bool {
    let Some(status) = &backup.status else { return false };
    let Some(assignment) = status.assignment.as_ref().filter(|assignment| assignment.task == Task::Delete) else {
        return false;
    };
    let own = status.execution.as_ref().filter(|execution| execution.is_of(assignment));
    match own.and_then(|execution| execution.result.as_ref()) {
        Some(result) => result.error.as_ref().is_some_and(|error| error.reason() == Reason::RetentionHeld),
        None => status.expiry.as_ref().is_some_and(|expiry| expiry.reasons.iter().any(|reason| reason == HELD)),
    }
}

fn name_of(backup: &EtcdBackup) -> String {
    backup.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
