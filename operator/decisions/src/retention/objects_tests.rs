use lifeboat_crds::EtcdBackupLocation;
use lifeboat_crds::identifier::pass_id;
use serde_json::{Value, json};

use super::*;
use crate::situation::{at, location, merge, run_of, schedule};

const DAY: i64 = 86_400;

fn listed_location(more: Value) -> EtcdBackupLocation {
    let mut base = json!({"status": {"observedGeneration": 1, "lastProbeTime": at(0).to_string(),
        "catalog": {"passId": "p1", "fullPassTime": at(0).to_string()},
        "execution": {"nodeName": "m1", "attempt": 1, "task": "Probe", "startTime": at(0).to_string(),
            "heartbeatTime": at(0).to_string()},
        "conditions": [condition("Available", "True"), condition("Writable", "True")]}});
    merge(&mut base, more);
    location(base)
}

fn condition(type_: &str, status: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "Accepted", "message": "", "lastTransitionTime": at(0).to_string()})
}

/// A good run so many days before the start.
fn good(days: i64, more: Value) -> EtcdBackup {
    let slot = at(-days * DAY);
    let one = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": "Succeeded", "message": "",
        "lastTransitionTime": slot.to_string()})
    };
    let mut status = json!({"observedGeneration": 1, "backupId": format!("2026-{days}"),
        "conditions": [one("Ready"), one("Complete"), one("Verified")],
        "verification": {"level": "Content", "time": slot.to_string()}});
    merge(&mut status, more);
    run_of("nightly", &format!("b{days:02}"), slot, status)
}

fn keep_last(number: i32) -> EtcdBackupSchedule {
    schedule(json!({"spec": {"retention": {"keepLast": number, "keepDaily": 0, "keepWeekly": 0, "keepMonthly": 0,
        "minimumHealthy": 1}}}))
}

fn decide_at(
    schedule: &EtcdBackupSchedule,
    backups: &[EtcdBackup],
    place: EtcdBackupLocation,
    last_restore: Option<Timestamp>,
) -> Vec<Mark> {
    let locations = BTreeMap::from([("bucket".to_owned(), LocationView::Seen(Box::new(place)))]);
    let backups: Vec<&EtcdBackup> = backups.iter().collect();
    let newest_run = NewestRun::NotFailed;
    let planned = BTreeMap::new();
    let observed = ObservedRetention { schedule, backups: &backups, locations, last_restore, newest_run, planned };
    decide_retention(&observed, at(10))
}

fn said(marks: &[Mark]) -> Vec<String> {
    let words = |mark: &Mark| {
        let expiry = mark.status.expiry.clone().unwrap();
        format!("{} {:?} {}", mark.name, expiry.decision, expiry.reasons.join(", "))
    };
    marks.iter().map(words).collect()
}

fn apply(backups: &mut [EtcdBackup], marks: &[Mark]) {
    for mark in marks {
        let backup = backups.iter_mut().find(|backup| name_of(backup) == mark.name).unwrap();
        let execution = backup.status.clone().unwrap().execution;
        backup.status = Some(EtcdBackupStatus { execution, ..mark.status.clone() });
    }
}

#[test]
fn each_archive_gets_its_decision_and_a_further_run_alters_few() {
    let schedule = keep_last(2);
    let mut backups = vec![good(1, json!({})), good(2, json!({})), good(3, json!({}))];
    let marks = decide_at(&schedule, &backups, listed_location(json!({})), None);
    assert_eq!(said(&marks), ["b03 Expire kept by no rule (last 2)", "b02 Keep last 2", "b01 Keep last 2"]);
    let expiry = marks[0].status.expiry.clone().unwrap();
    assert_eq!((expiry.policy_generation, expiry.pass_id.as_str()), (1, "p1"));
    apply(&mut backups, &marks);
    let later = listed_location(json!({"status": {"catalog": {"passId": "p2"}}}));
    assert_eq!(decide_at(&schedule, &backups, later.clone(), None), [], "another listing changes nothing");
    backups.push(good(0, json!({})));
    let marks = decide_at(&schedule, &backups, later, None);
    assert_eq!(said(&marks), ["b02 Expire kept by no rule (last 2)", "b00 Keep last 2"]);
}

#[test]
fn an_archive_that_a_restore_plans_with_stays() {
    let schedule = keep_last(1);
    let backups = [good(1, json!({})), good(2, json!({}))];
    let backups: Vec<&EtcdBackup> = backups.iter().collect();
    let locations = BTreeMap::from([("bucket".to_owned(), LocationView::Seen(Box::new(listed_location(json!({})))))]);
    let decide = |place: &str| {
        let planned = BTreeMap::from([((place.to_owned(), "2026-2".to_owned()), "r".to_owned())]);
        let (newest_run, locations) = (NewestRun::NotFailed, locations.clone());
        let observed = ObservedRetention {
            schedule: &schedule,
            backups: &backups,
            locations,
            last_restore: None,
            newest_run,
            planned,
        };
        said(&decide_retention(&observed, at(10)))
    };
    assert_eq!(decide("bucket"), ["b02 Keep pinned: restore r plans with it", "b01 Keep last 1"]);
    assert_eq!(decide("other"), ["b02 Expire kept by no rule (last 1)", "b01 Keep last 1"]);
}

#[test]
fn nothing_goes_while_something_about_the_location_is_in_doubt() {
    let backups = [good(1, json!({})), good(2, json!({}))];
    let verdict = |place, restored| said(&decide_at(&keep_last(1), &backups, place, restored))[0].clone();
    for (place, restored, words) in [
        (listed_location(json!({"status": {"catalog": null}})), None, "has not been listed as a whole"),
        (listed_location(json!({})), Some(at(1)), "since the cluster was restored"),
        (listed_location(json!({"spec": {"accessMode": "ReadOnly"}})), None, "is ReadOnly"),
        (
            listed_location(json!({"status": {"conditions": [condition("Available", "True")]}})),
            None,
            "cannot be written",
        ),
        (listed_location(json!({"status": {"lastProbeTime": at(-3_591).to_string()}})), None, "is not of this hour"),
        (listed_location(json!({"status": {"lastProbeTime": at(30 * DAY).to_string()}})), None, "is not of this hour"),
        // The operator's clock runs ahead, and its own notes with it; the agents' does not.
        (
            listed_location(json!({"status": {"execution": {"heartbeatTime": at(-365 * DAY).to_string()}}})),
            None,
            "is not of this hour",
        ),
        (listed_location(json!({"status": {"clockSkewSeconds": -301}})), None, "differ by more than 5 minutes"),
    ] {
        let said = verdict(place, restored);
        assert!(
            said.starts_with("b02 Keep would expire, but nothing is deleted while") && said.contains(words),
            "{said}"
        );
    }
    assert!(verdict(listed_location(json!({"status": {"clockSkewSeconds": 300}})), Some(at(-1))).contains("Expire"));
}

/// Agents refuse what was let go before a restore: where the operator heard of the restore only after the next listing, the
/// decision is made anew, upon that.
#[test]
fn what_was_let_go_before_a_restore_is_decided_anew_upon_a_later_listing() {
    let (before, after) = (pass_id(at(0), 1), pass_id(at(9), 2));
    let place = |pass: &str, full| {
        listed_location(json!({"status": {"catalog": {"passId": pass, "fullPassTime": at(full).to_string()}}}))
    };
    let mut backups = vec![good(1, json!({})), good(2, json!({}))];
    let marks = decide_at(&keep_last(1), &backups, place(&before, 0), None);
    apply(&mut backups, &marks);
    let expiry = |backup: &EtcdBackup| backup.status.clone().unwrap().expiry.unwrap();
    assert!(!is_void(&expiry(&backups[1]), None) && !is_void(&expiry(&backups[1]), Some(at(-1))));
    assert!(is_void(&expiry(&backups[1]), Some(at(0))) && is_void(&expiry(&backups[1]), Some(at(5))));
    let marks = decide_at(&keep_last(1), &backups, place(&after, 9), Some(at(5)));
    assert_eq!(said(&marks), ["b02 Expire kept by no rule (last 1)"]);
    apply(&mut backups, &marks);
    assert!(!is_void(&expiry(&backups[1]), Some(at(5))));
    assert_eq!(decide_at(&keep_last(1), &backups, place(&after, 9), Some(at(5))), [], "once");
    let unknown = json!({"restoreId": "r", "ref": "r", "attempt": 1, "outcome": "Unknown"});
    let dated = json!({"restoreId": "r", "ref": "r", "attempt": 1, "outcome": "Failed", "time": at(5).to_string()});
    let restores: Vec<LastRestore> = [dated, unknown].map(|one| serde_json::from_value(one).unwrap()).into();
    assert_eq!(last_restore(&restores[..1]), Some(at(5)));
    assert_eq!(last_restore(&restores), Some(Timestamp::MAX));
}

#[test]
fn only_what_the_schedule_made_and_completed_is_its_business() {
    let strip = |mut backup: EtcdBackup, key: &str| {
        backup.metadata.annotations.as_mut().unwrap().remove(key);
        backup
    };
    let by_hand = strip(good(3, json!({})), label::SLOT);
    let mut imported = strip(good(4, json!({})), label::SLOT);
    imported.metadata.annotations.as_mut().unwrap().insert(label::IMPORTED.into(), "2026-4".into());
    let failed = good(5, json!({"conditions": []}));
    let mut asked = good(6, json!({}));
    asked.metadata.annotations.as_mut().unwrap().insert(label::DELETE_ARCHIVE.into(), "2026-6".into());
    let mut other = good(7, json!({}));
    other.metadata.labels.as_mut().unwrap().insert(label::SCHEDULE.into(), "hourly".into());
    let backups = [good(1, json!({})), by_hand, imported, failed, asked, other];
    let marks = decide_at(&keep_last(1), &backups, listed_location(json!({})), None);
    assert_eq!(said(&marks), ["b04 Expire kept by no rule (last 1)", "b01 Keep last 1"]);
}

#[test]
fn what_is_lost_or_unproven_is_not_counted() {
    let not_ready = json!([{"type": "Complete", "status": "True", "reason": "Succeeded", "message": "",
        "lastTransitionTime": at(0).to_string()}, {"type": "Ready", "status": "False", "reason": "ArchiveMissing",
        "message": "", "lastTransitionTime": at(0).to_string()}]);
    let backups = [
        good(1, json!({"conditions": not_ready})),
        good(2, json!({"verification": {"level": "Checksum"}})),
        good(3, json!({})),
        good(4, json!({})),
    ];
    let marks = decide_at(&keep_last(1), &backups, listed_location(json!({})), None);
    assert_eq!(
        said(&marks),
        [
            "b04 Expire kept by no rule (last 1)",
            "b03 Keep last 1",
            "b02 Keep not counted: verified at level Checksum only",
            "b01 Keep not counted: ArchiveMissing",
        ]
    );
}

#[test]
fn a_level_above_content_that_was_not_reached_takes_nothing_from_an_archive() {
    let mut members = good(1, json!({}));
    members.spec.verification = VerificationLevel::Members;
    let marks = decide_at(&keep_last(1), &[members], listed_location(json!({})), None);
    assert_eq!(said(&marks), ["b01 Keep last 1"]);
}

#[test]
fn only_so_many_go_at_once_the_oldest_first_and_held_ones_are_not_in_the_way() {
    let mut backups: Vec<EtcdBackup> = (1..=40).map(|days| good(days, json!({}))).collect();
    let schedule = keep_last(1);
    let marks = decide_at(&schedule, &backups, listed_location(json!({})), None);
    let going: Vec<String> = said(&marks).into_iter().filter(|words| words.contains("Expire")).collect();
    assert_eq!(going.len(), MOST_GOING);
    assert!(going[0].starts_with("b40"), "{going:?}");
    apply(&mut backups, &marks);
    assert_eq!(decide_at(&schedule, &backups, listed_location(json!({})), None), []);
    // The store holds one of them: it says so, and another may go.
    let held = json!({"assignment": {"nodeName": "m1", "attempt": 2, "task": "Delete", "time": at(5).to_string()},
        "execution": {"nodeName": "m1", "attempt": 2, "task": "Delete", "startTime": at(5).to_string(),
            "heartbeatTime": at(5).to_string(), "result": {"error": {"reason": "RetentionHeld", "message": "no"}}}});
    let oldest = backups.iter_mut().find(|backup| name_of(backup) == "b40").unwrap();
    let mut status = serde_json::to_value(oldest.status.clone().unwrap()).unwrap();
    merge(&mut status, held);
    oldest.status = serde_json::from_value(status).unwrap();
    let marks = decide_at(&schedule, &backups, listed_location(json!({})), None);
    assert_eq!(said(&marks).len(), 2, "{:?}", said(&marks));
    assert!(said(&marks)[0].contains(HELD), "{:?}", said(&marks));
}

#[test]
fn what_nobody_can_reach_is_not_counted_and_not_written_anew() {
    let there = |days| {
        let mut backup = good(days, json!({}));
        backup.spec.location_ref = lifeboat_crds::ObjectName::new("old");
        backup
    };
    // The newest lie where nothing can be reached any more.
    let backups: Vec<EtcdBackup> = (1..=5).map(|days| good(days, json!({}))).chain((6..=9).map(there)).collect();
    let borrowed: Vec<&EtcdBackup> = backups.iter().collect();
    let schedule = keep_last(2);
    let seen = |location| LocationView::Seen(Box::new(location));
    let away = listed_location(json!({"status": {"conditions": [condition("Available", "False")]}}));
    for gone in [LocationView::Missing, seen(away)] {
        let locations =
            BTreeMap::from([("bucket".to_owned(), gone), ("old".to_owned(), seen(listed_location(json!({}))))]);
        let newest_run = NewestRun::NotFailed;
        let observed = ObservedRetention {
            schedule: &schedule,
            backups: &borrowed,
            locations,
            last_restore: None,
            newest_run,
            planned: BTreeMap::new(),
        };
        assert_eq!(
            said(&decide_retention(&observed, at(10))),
            [
                "b09 Expire kept by no rule (last 2)",
                "b08 Expire kept by no rule (last 2)",
                "b07 Keep last 2",
                "b06 Keep last 2"
            ]
        );
    }
}

#[test]
fn what_was_let_go_in_a_location_that_is_away_stays() {
    let expire = json!({"expiry": {"decision": "Expire", "reasons": ["kept by no rule (last 1)"], "policyGeneration": 1,
        "passId": "p1"}});
    let backups = [good(1, json!({})), good(2, expire)];
    let away = listed_location(json!({"status": {"conditions": [condition("Available", "False")]}}));
    let words = said(&decide_at(&keep_last(1), &backups, away, None));
    assert_eq!(words, ["b02 Keep not counted: location bucket cannot be reached"]);
}

#[test]
fn an_archive_of_a_slot_that_lies_ahead_pushes_nothing_out() {
    let backups = [good(-365, json!({})), good(1, json!({})), good(2, json!({}))];
    assert_eq!(
        said(&decide_at(&keep_last(1), &backups, listed_location(json!({})), None)),
        [
            "b02 Expire kept by no rule (last 1)",
            "b01 Keep last 1",
            "b-365 Keep not counted: its run lies ahead by the operator's clock"
        ]
    );
}

#[test]
fn a_run_is_known_by_its_name() {
    let slot = |name| slot_of_name("nightly", name).map(|slot| slot.to_string());
    assert_eq!(slot("nightly-20261124020304").as_deref(), Some("2026-11-24T02:03:04Z"));
    assert_eq!(slot("nightly-20261124020304-2").as_deref(), Some("2026-11-24T02:03:04Z"));
    for other in [
        "nightly",
        "nightly-2",
        "nightly-20261124020304-x",
        "nightly-20261124020304-",
        "hourly-20261124020304",
        "nightly-20261324020304",
    ] {
        assert_eq!(slot(other), None, "{other}");
    }
}

/// A label alone does not make a run: it is copied along with the rest of an object.
#[test]
fn an_archive_is_of_a_schedule_if_name_and_manifest_say_so() {
    let made = |name: &str, schedule: Option<&str>| {
        let object =
            json!({"namespace": "n", "name": name, "schedule": schedule, "spec": {"locationRef": {"name": "l"}}});
        scheduled_run(&serde_json::from_value(object).unwrap()).map(|run| format!("{} {}", run.schedule, run.slot))
    };
    let name = "nightly-20261124020304-2";
    assert_eq!(made(name, Some("nightly")).as_deref(), Some("nightly 2026-11-24T02:03:04Z"));
    assert_eq!(made(name, None), None);
    assert_eq!(made(name, Some("hourly")), None);
    assert_eq!(made("before-the-upgrade", Some("nightly")), None);
}
