//! Whether a schedule can be followed: its own words first, then what its location says. Looks at no runs.
//!
//! A failed run is no reason here: it must not block the tools that applied the schedule.

use jiff::Timestamp;
use lifeboat_crds::condition::find;
use lifeboat_crds::schedule::Retention;
use lifeboat_crds::{ConditionType, EtcdBackupLocation, EtcdBackupSchedule, Reason};

use crate::LocationView;
use crate::conditions::{GoodReason, Outcome, is_true};
use crate::cron::CronRefusal;
use crate::location::{refuses_archives, unsupported};
use crate::retention::policy_words;

/// How the schedule stands.
pub(super) fn judge(
    schedule: &EtcdBackupSchedule,
    refusal: Option<&CronRefusal>,
    location: &LocationView,
    unready_since: Timestamp,
    now: Timestamp,
) -> Outcome {
    let template = &schedule.spec.template.spec;
    if let Some(refusal) = refusal {
        return Outcome::failed(refusal.reason(), refusal.to_string());
    }
    let name = &template.location_ref.name;
    match location {
        LocationView::Missing => {
            let words = format!("location {name} does not exist: create the EtcdBackupLocation");
            Outcome::missing(Reason::LocationMissing, words, unready_since, now)
        }
        LocationView::Seen(location) => judge_location(location, name, &schedule.spec.retention),
    }
}

fn judge_location(location: &EtcdBackupLocation, name: &str, policy: &Retention) -> Outcome {
    if let Some(words) = unsupported(&location.spec) {
        return Outcome::failed(Reason::NotSupported, format!("location {name}: {words}"));
    }
    if let Some(words) = refuses_archives(&location.spec, name) {
        return Outcome::failed(Reason::AccessDenied, words);
    }
    let conditions = location.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let Some(ready) = find(conditions, ConditionType::Ready) else {
        return Outcome::waiting(Reason::Pending, format!("location {name} has not been tried out yet"));
    };
    let reason = Reason::parse(&ready.reason).unwrap_or(Reason::LocationUnavailable);
    let words = format!("location {name}: {}", ready.message);
    match ready.status.as_str() {
        "True" => Outcome::current(
            GoodReason::Accepted,
            format!("backups go to location {name}; kept are: {}", policy_words(policy)),
        ),
        "False" if is_true(conditions, ConditionType::Stalled) => Outcome::failed(reason, words),
        "False" => Outcome::troubled(reason, words),
        _unknown => Outcome::waiting(reason, words),
    }
}

/// Whether runs may be started: not where none could ever do what is asked for, nor where the location is another's until
/// somebody says otherwise. One that fails for now, or for good, does not keep them: each run says so, and one may get
/// through.
pub(super) fn may_run(schedule: &EtcdBackupSchedule, location: &LocationView) -> bool {
    let name = &schedule.spec.template.spec.location_ref.name;
    match location {
        LocationView::Missing => false,
        LocationView::Seen(location) => {
            unsupported(&location.spec).is_none()
                && refuses_archives(&location.spec, name).is_none()
                && !is_of_others(location)
        }
    }
}

fn is_of_others(location: &EtcdBackupLocation) -> bool {
    let conditions = location.status.as_ref().map_or(&[][..], |status| &status.conditions);
    find(conditions, ConditionType::Ready).is_some_and(|ready| ready.reason == Reason::OwnedByAnother.as_str())
}
