use super::*;
use crate::situation::{
    Show, assert_shown, assert_sound, at, condition, good_location, is_true as shows, judged_location, location, merge,
    run_of, schedule,
};
use lifeboat_crds::label;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The schedule runs at 0, 6, 12 and 18 o'clock; second 0 of the tests is at 12.
const PERIOD: i64 = 6 * 3_600;

/// What the caches hold around the schedule.
#[derive(Clone)]
struct Nightly {
    schedule: EtcdBackupSchedule,
    location: LocationView,
    backups: Vec<EtcdBackup>,
    taken_names: BTreeSet<String>,
    last_rewind: Option<Timestamp>,
    last_heard: Option<Timestamp>,
}

fn decide(nightly: &Nightly, now: Timestamp) -> ScheduleDecision {
    let Nightly { schedule, location, backups, taken_names, last_rewind, last_heard } = nightly;
    let observed = ObservedSchedule {
        schedule: schedule.clone(),
        location: location.clone(),
        backups: backups.iter().collect(),
        taken_names: taken_names.clone(),
        last_rewind: *last_rewind,
        last_heard: *last_heard,
    };
    decide_schedule(&observed, now)
}

fn observed(more: Value) -> Nightly {
    Nightly {
        schedule: schedule(more),
        location: seen(good_location()),
        backups: vec![],
        taken_names: BTreeSet::new(),
        last_rewind: None,
        last_heard: Some(Timestamp::MAX),
    }
}

fn seen(location: lifeboat_crds::EtcdBackupLocation) -> LocationView {
    LocationView::Seen(Box::new(location))
}

/// What one look brought.
#[derive(Debug, Default, PartialEq)]
struct Brought {
    created: Vec<String>,
    deleted: Vec<String>,
    events: Vec<&'static str>,
}

fn created(names: &[&str]) -> Brought {
    Brought {
        created: names.iter().map(|name| (*name).to_owned()).collect(),
        events: vec!["BackupScheduled"],
        ..Brought::default()
    }
}

/// Applies the decision as the operator does.
fn step(observed: &mut Nightly, second: i64) -> Brought {
    let ScheduleDecision { create, delete, status, events, requeue_after } = decide(observed, at(second));
    assert!(requeue_after > Duration::ZERO);
    let names: Vec<String> = create.iter().map(|backup| name_of(backup).to_owned()).collect();
    for mut backup in create {
        assert!(!observed.backups.iter().any(|other| name_of(other) == name_of(&backup)), "made twice");
        assert!(name_of(&backup).len() <= 63 && backup.metadata.namespace.is_none());
        backup.metadata.creation_timestamp = Some(Time(at(second)));
        observed.backups.push(backup);
    }
    observed.schedule.status = Some(status.clone());
    observed.backups.retain(|backup| !delete.contains(&name_of(backup).to_owned()));
    assert_sound(&object(observed));
    let mut again = decide(observed, at(second));
    // Records that are now there are shown the next time.
    again.status.active.clone_from(&status.active);
    again.status.last_backup_ref.clone_from(&status.last_backup_ref);
    assert_eq!(again.status, status, "second {second}");
    assert!(again.create.is_empty() && again.events.is_empty(), "{again:?}");
    // A record may stand only until that of a newer slot is there.
    assert!(again.delete.is_empty() || !names.is_empty(), "{:?}", again.delete);
    Brought { created: names, deleted: delete, events: events.iter().map(|event| event.reason.as_str()).collect() }
}

fn object(observed: &Nightly) -> Value {
    serde_json::to_value(&observed.schedule).unwrap()
}

fn ended(type_: &str, second: i64) -> Value {
    let mut status = json!({"observedGeneration": 1, "conditions": [{"type": type_, "status": "True", "reason": "Succeeded",
        "message": "", "lastTransitionTime": at(second).to_string()}]});
    if type_ == "Complete" {
        merge(&mut status, json!({"completionTime": at(second).to_string(), "storedSizeBytes": 10}));
    } else {
        merge(&mut status, json!({"failure": {"reason": "UploadFailed", "message": "the store said 503"}}));
    }
    status
}

/// Ends every run that goes on.
fn end_all(observed: &mut Nightly, type_: &str, second: i64) {
    for backup in &mut observed.backups {
        if records::is_active(backup) {
            backup.status = Some(serde_json::from_value(ended(type_, second)).unwrap());
        }
    }
}

fn change(observed: &mut Nightly, more: Value) {
    let mut changed = object(observed);
    merge(&mut changed, more);
    observed.schedule = serde_json::from_value(changed).unwrap();
}

fn names(observed: &Nightly) -> Vec<&str> {
    observed.backups.iter().map(name_of).collect()
}

#[test]
fn each_slot_is_run_once_under_a_name_that_follows_from_it() {
    let mut nightly =
        observed(json!({"spec": {"template": {"metadata": {"labels": {"team": "db"}, "annotations": {"note": "x"}}}},
        "metadata": {"labels": {"gitops": "owner"}, "annotations": {"gitops": "hash"}}}));
    assert_eq!(step(&mut nightly, 0), Brought::default(), "the slot of its creation is past");
    assert_eq!(step(&mut nightly, PERIOD - 1), Brought::default());
    assert_eq!(step(&mut nightly, PERIOD), created(&["nightly-20261124180000"]));
    assert_eq!(step(&mut nightly, PERIOD + 1), Brought::default());
    let made = serde_json::to_value(&nightly.backups[0]).unwrap();
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "db", label::SCHEDULE: "nightly"}),
        "nothing of the parent's"
    );
    assert_eq!(made["metadata"]["annotations"], json!({"note": "x", label::SLOT: "2026-11-24T18:00:00Z"}));
    assert_eq!(made["spec"]["locationRef"]["name"], "bucket");
    let status = nightly.schedule.status.clone().unwrap();
    assert_eq!(status.last_run_time.unwrap().0, at(PERIOD));
    assert_eq!(status.active, [lifeboat_crds::ObjectName::new("nightly-20261124180000")]);
    end_all(&mut nightly, "Complete", PERIOD + 40);
    assert_eq!(step(&mut nightly, 2 * PERIOD), created(&["nightly-20261125000000"]));
}

#[test]
fn what_people_read_of_the_expression_is_in_the_zone_of_the_schedule() {
    let mut nightly = observed(json!({"spec": {"schedule": "0 6 * * *", "timeZone": "Europe/Berlin"}}));
    step(&mut nightly, 0);
    let status = nightly.schedule.status.clone().unwrap();
    assert_eq!(status.next_run_time.as_deref(), Some("2026-11-25T06:00:00+01:00"));
    assert_eq!(status.upcoming_runs.len(), 3);
    assert_eq!(status.interval_seconds, Some(86_400));
    assert_eq!(status.objective_seconds, Some(108_900));
    assert!(status.description.unwrap().ends_with("Europe/Berlin"));
    assert_shown(&object(&nightly), Show::Current("Accepted"), "bucket");
    assert_eq!(decide(&nightly, at(0)).requeue_after, LONGEST_PAUSE);
}

#[test]
fn only_the_newest_missed_slot_is_caught_up_and_only_within_the_deadline() {
    // The operator was away over three slots and comes back an hour after the last.
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    let back = step(&mut nightly, 3 * PERIOD + 3_600);
    assert_eq!(back.created, ["nightly-20261125060000"]);
    assert_eq!(back.events, ["ScheduleMissed", "BackupScheduled"]);
    // Half an interval late is the end.
    let mut late = observed(json!({}));
    step(&mut late, 0);
    assert_eq!(step(&mut late, PERIOD + PERIOD / 2).created.len(), 1);
    let mut too_late = observed(json!({}));
    step(&mut too_late, 0);
    let missed = step(&mut too_late, PERIOD + PERIOD / 2 + 1);
    assert_eq!(missed, Brought { events: vec!["ScheduleMissed"], ..Brought::default() });
    assert_eq!(step(&mut too_late, PERIOD + PERIOD / 2 + 60), Brought::default(), "it is told once");
    // Or as the schedule says.
    let mut strict = observed(json!({"spec": {"startingDeadlineSeconds": 60}}));
    step(&mut strict, 0);
    assert_eq!(step(&mut strict, PERIOD + 61).events, ["ScheduleMissed"]);
}

#[test]
fn nothing_runs_twice_though_the_status_was_lost() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    step(&mut nightly, PERIOD);
    end_all(&mut nightly, "Complete", PERIOD + 40);
    nightly.schedule.status = None;
    assert_eq!(step(&mut nightly, PERIOD + 60), Brought::default());
    let mut at_creation = observed(json!({"spec": {"runOnCreate": true}}));
    assert_eq!(step(&mut at_creation, 5), created(&["nightly-20261124120000"]));
    end_all(&mut at_creation, "Complete", 40);
    at_creation.schedule.status = None;
    assert_eq!(step(&mut at_creation, 60), Brought::default());
}

/// What was before the schedule does not run; with a jitter longer than the interval it must not be promised either.
#[test]
fn the_next_run_shown_is_one_that_will_come() {
    let mut late = observed(json!({"spec": {"schedule": "*/5 * * * *", "jitterSeconds": 3600}}));
    step(&mut late, 0);
    let shown = late.schedule.status.as_ref().unwrap().next_run_time.clone().unwrap();
    let promised: Timestamp = shown.parse().unwrap();
    let second = promised.duration_since(at(0)).as_secs();
    assert_eq!(step(&mut late, second - 1), Brought::default());
    assert_eq!(step(&mut late, second).created.len(), 1, "promised for {shown}");
}

/// A clock that was ahead for a moment noted a slot years away.
#[test]
fn a_clock_that_was_wrong_does_not_silence_a_schedule() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    nightly.schedule.status.as_mut().unwrap().last_run_time = Some(Time(at(400 * 86_400)));
    let brought = step(&mut nightly, PERIOD);
    assert_eq!(brought.created.len(), 1, "{brought:?}");
    assert_eq!(nightly.schedule.status.unwrap().last_run_time.unwrap().0, at(PERIOD));
}

#[test]
fn copies_are_made_together_and_what_is_missing_of_them_is_completed() {
    let mut nightly = observed(json!({"spec": {"copies": 3}}));
    step(&mut nightly, 0);
    let before = nightly.clone();
    let all = ["nightly-20261124180000", "nightly-20261124180000-1", "nightly-20261124180000-2"];
    assert_eq!(step(&mut nightly, PERIOD), created(&all));
    // The operator died after the first of them, before it could note the slot.
    let mut half = before;
    half.backups = vec![nightly.backups[0].clone()];
    assert_eq!(step(&mut half, PERIOD + 5), created(&all[1..]));
}

#[test]
fn a_slot_is_left_out_while_an_earlier_run_goes_on() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    step(&mut nightly, PERIOD);
    assert_eq!(step(&mut nightly, 2 * PERIOD).events, ["RunSkipped"]);
    end_all(&mut nightly, "Complete", 2 * PERIOD + 10);
    assert_eq!(step(&mut nightly, 2 * PERIOD + 20), Brought::default(), "and never made up for");
    assert_eq!(step(&mut nightly, 3 * PERIOD).created.len(), 1);
    let mut replacing = observed(json!({"spec": {"concurrencyPolicy": "Replace"}}));
    step(&mut replacing, 0);
    step(&mut replacing, PERIOD);
    assert_eq!(step(&mut replacing, 2 * PERIOD).created.len(), 1);
}

#[test]
fn a_foreign_object_of_the_name_costs_the_slot() {
    let mut nightly = observed(json!({"spec": {"copies": 2}}));
    nightly.taken_names = BTreeSet::from(["nightly-20261124180000-1".to_owned()]);
    step(&mut nightly, 0);
    assert_eq!(step(&mut nightly, PERIOD), Brought { events: vec!["RunSkipped"], ..Brought::default() });
    assert_eq!(step(&mut nightly, PERIOD + 60), Brought::default());
    assert_eq!(step(&mut nightly, 2 * PERIOD).created.len(), 2);
}

#[test]
fn a_suspended_schedule_starts_nothing_and_resumes_with_the_next_slot() {
    let mut nightly = observed(json!({"spec": {"suspend": true, "runOnCreate": true}}));
    assert_eq!(step(&mut nightly, 0), Brought::default());
    assert_shown(&object(&nightly), Show::Current("Accepted"), "");
    assert!(shows(&object(&nightly), "Suspended"));
    assert_eq!(nightly.schedule.status.as_ref().unwrap().next_run_time, None);
    assert_eq!(step(&mut nightly, PERIOD), Brought::default());
    change(&mut nightly, json!({"spec": {"suspend": false}}));
    assert_eq!(step(&mut nightly, PERIOD + 5), Brought::default(), "the slot passed while it was suspended");
    assert_eq!(step(&mut nightly, PERIOD + 500), Brought::default());
    assert!(!shows(&object(&nightly), "Suspended"));
    assert_eq!(step(&mut nightly, 2 * PERIOD).created.len(), 1);
}

#[test]
fn the_first_backup_is_taken_at_once_where_asked() {
    let mut nightly = observed(json!({"spec": {"runOnCreate": true}}));
    assert_eq!(step(&mut nightly, 3), created(&["nightly-20261124120000"]));
    end_all(&mut nightly, "Failed", 40);
    assert_eq!(step(&mut nightly, 60), Brought::default());
    // Its location may come later.
    let mut early = observed(json!({"spec": {"runOnCreate": true}}));
    early.location = LocationView::Missing;
    assert_eq!(step(&mut early, 3), Brought::default());
    early.location = seen(good_location());
    assert_eq!(step(&mut early, 300).created, ["nightly-20261124120000"]);
    // Records of an earlier schedule of that name are not its own.
    let mut again = observed(json!({"spec": {"runOnCreate": true}}));
    again.backups = vec![run_of("nightly", "nightly-20261124060000", at(-PERIOD), ended("Complete", -PERIOD + 30))];
    assert_eq!(step(&mut again, 3).created.len(), 1);
}

#[test]
fn backup_now_starts_one_run_for_each_new_value_also_while_suspended() {
    let mut nightly = observed(json!({"spec": {"suspend": true, "copies": 2}}));
    let ask = |nightly: &mut Nightly, value: &str| {
        change(nightly, json!({"metadata": {"annotations": {label::RUN_NOW: value}}}))
    };
    step(&mut nightly, 0);
    ask(&mut nightly, "one");
    let before = nightly.clone();
    assert_eq!(step(&mut nightly, 100), created(&["nightly-20261124120140", "nightly-20261124120140-1"]));
    assert_eq!(step(&mut nightly, 101), Brought::default());
    assert_eq!(nightly.schedule.status.as_ref().unwrap().last_run_now.as_deref(), Some("one"));
    // Asked again while that goes on: it waits for its turn.
    ask(&mut nightly, "two");
    assert_eq!(step(&mut nightly, 110), Brought::default());
    end_all(&mut nightly, "Complete", 120);
    assert_eq!(step(&mut nightly, 121).created.len(), 2);
    end_all(&mut nightly, "Complete", 130);
    // An old value after a new one is a new value.
    ask(&mut nightly, "one");
    assert_eq!(step(&mut nightly, 200).created.len(), 2);
    // The operator died before it could note the value.
    let mut half = before;
    half.backups = nightly.backups.iter().filter(|backup| name_of(backup).contains("120140")).cloned().collect();
    assert_eq!(step(&mut half, 105), Brought::default());
    // There from the start.
    let mut first = observed(json!({"metadata": {"annotations": {label::RUN_NOW: "please"}}}));
    assert_eq!(step(&mut first, 1).created, ["nightly-20261124120001"]);
    // A run by hand does not cost the slot after it.
    end_all(&mut first, "Complete", 50);
    assert_eq!(step(&mut first, PERIOD).created, ["nightly-20261124180000"]);
}

#[test]
fn a_run_asked_for_when_a_slot_is_due_is_that_of_the_slot() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    change(&mut nightly, json!({"metadata": {"annotations": {label::RUN_NOW: "x"}}}));
    assert_eq!(step(&mut nightly, PERIOD).created, ["nightly-20261124180000"]);
}

#[test]
fn jitter_makes_runs_late_by_a_fixed_time_and_names_them_by_their_slot() {
    let mut nightly = observed(json!({"spec": {"jitterSeconds": 600}}));
    let jitter = due::jitter_of(&nightly.schedule).as_secs();
    assert!(jitter > 0 && jitter < 600);
    step(&mut nightly, 0);
    assert_eq!(step(&mut nightly, PERIOD + jitter - 1), Brought::default());
    assert_eq!(step(&mut nightly, PERIOD + jitter), created(&["nightly-20261124180000"]));
    let next = nightly.schedule.status.unwrap().next_run_time.unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(next, at(2 * PERIOD + jitter));
}

#[test]
fn every_situation_looks_as_the_table_says() {
    for (expression, zone, reason, words) in [
        ("0 0 * * * *", "Etc/UTC", "InvalidSchedule", "five fields"),
        ("@every 1h", "Etc/UTC", "InvalidSchedule", "@every"),
        ("TZ=Europe/Berlin 0 6 * * *", "Etc/UTC", "InvalidSchedule", "timeZone"),
        ("61 * * * *", "Etc/UTC", "InvalidSchedule", "61"),
        ("0 6 * * *", "Europe/Atlantis", "InvalidSchedule", "Europe/Atlantis"),
        ("30 2 30 2 *", "Etc/UTC", "NeverFires", "30 2 30 2 *"),
    ] {
        let mut bad = observed(json!({"spec": {"schedule": expression, "timeZone": zone, "runOnCreate": true}}));
        assert_eq!(step(&mut bad, 0), Brought { events: vec!["InvalidSchedule"], ..Brought::default() });
        assert_shown(&object(&bad), Show::Failed(reason), words);
        assert_eq!(step(&mut bad, 100_000), Brought::default());
    }
    let mut missing = observed(json!({}));
    missing.location = LocationView::Missing;
    step(&mut missing, 0);
    assert_shown(&object(&missing), Show::Troubled("LocationMissing"), "bucket");
    assert_eq!(decide(&missing, at(0)).requeue_after, Duration::from_secs(60));
    step(&mut missing, 60);
    assert_shown(&object(&missing), Show::Failed("LocationMissing"), "bucket");
    assert_eq!(step(&mut missing, PERIOD), Brought::default(), "runs could not go anywhere");
    missing.location = seen(good_location());
    assert_eq!(step(&mut missing, PERIOD + 60).created.len(), 1, "and are caught up");

    for (location, show, words) in [
        (
            judged_location("False", "LocationUnavailable", "no route", Some("Reconciling")),
            Show::Troubled("LocationUnavailable"),
            "bucket: no route",
        ),
        (
            judged_location("False", "AccessDenied", "no such bucket", Some("Stalled")),
            Show::Failed("AccessDenied"),
            "bucket: no such bucket",
        ),
        (
            judged_location("False", "CredentialsMissing", "Secret x", Some("Reconciling")),
            Show::Troubled("CredentialsMissing"),
            "Secret x",
        ),
        (
            judged_location("False", "CredentialsMissing", "Secret x", Some("Stalled")),
            Show::Failed("CredentialsMissing"),
            "Secret x",
        ),
        (
            judged_location("Unknown", "AgentUnavailable", "no agent", Some("Reconciling")),
            Show::Unknown("AgentUnavailable"),
            "no agent",
        ),
        (location(json!({})), Show::Unknown("Pending"), "bucket"),
        (
            location(json!({"spec": {"s3": {"insecureSkipTLSVerify": true}}})),
            Show::Failed("NotSupported"),
            "spec.s3.insecureSkipTLSVerify",
        ),
        (location(json!({"spec": {"accessMode": "ReadOnly"}})), Show::Failed("AccessDenied"), "ReadOnly"),
    ] {
        let mut nightly = observed(json!({}));
        nightly.location = seen(location);
        step(&mut nightly, 0);
        assert_shown(&object(&nightly), show, words);
    }
}

#[test]
fn runs_are_made_on_a_location_that_fails_so_that_they_say_so_but_not_on_another_ones() {
    for (ready, reason, companion, runs) in [
        ("False", "LocationUnavailable", "Reconciling", 1),
        ("False", "AccessDenied", "Stalled", 1),
        ("Unknown", "AgentUnavailable", "Reconciling", 1),
        ("False", "OwnedByAnother", "Stalled", 0),
    ] {
        let mut nightly = observed(json!({}));
        nightly.location = seen(judged_location(ready, reason, "", Some(companion)));
        step(&mut nightly, 0);
        assert_eq!(step(&mut nightly, PERIOD).created.len(), runs, "{reason}");
    }
}

#[test]
fn a_failed_run_is_told_apart_from_a_schedule_that_cannot_be_followed() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    assert_eq!(condition(&object(&nightly), "LastBackupSucceeded").unwrap()["status"], "Unknown");
    step(&mut nightly, PERIOD);
    end_all(&mut nightly, "Failed", PERIOD + 10);
    step(&mut nightly, PERIOD + 11);
    assert_shown(&object(&nightly), Show::Current("Accepted"), "");
    let last = condition(&object(&nightly), "LastBackupSucceeded").unwrap().clone();
    assert_eq!((last["status"].as_str(), last["reason"].as_str()), (Some("False"), Some("UploadFailed")));
    assert_eq!(nightly.schedule.status.as_ref().unwrap().consecutive_failures, Some(1));
    step(&mut nightly, 2 * PERIOD);
    end_all(&mut nightly, "Complete", 2 * PERIOD + 30);
    step(&mut nightly, 2 * PERIOD + 31);
    let status = nightly.schedule.status.clone().unwrap();
    assert!(shows(&object(&nightly), "LastBackupSucceeded") && shows(&object(&nightly), "WithinObjective"));
    assert_eq!(status.consecutive_failures, Some(0));
    assert_eq!(status.last_success_time.unwrap().0, at(2 * PERIOD + 30));
    let retained = status.retained.unwrap();
    assert_eq!((retained.count, retained.bytes), (1, 10));
}

#[test]
fn one_good_copy_makes_the_run_good() {
    let mut nightly = observed(json!({"spec": {"copies": 2}}));
    step(&mut nightly, 0);
    step(&mut nightly, PERIOD);
    nightly.backups[0].status = Some(serde_json::from_value(ended("Failed", PERIOD + 5)).unwrap());
    step(&mut nightly, PERIOD + 6);
    assert_eq!(condition(&object(&nightly), "LastBackupSucceeded").unwrap()["status"], "Unknown", "the other goes on");
    end_all(&mut nightly, "Complete", PERIOD + 30);
    step(&mut nightly, PERIOD + 31);
    assert!(shows(&object(&nightly), "LastBackupSucceeded"));
    assert_eq!(nightly.schedule.status.unwrap().consecutive_failures, Some(0));
}

#[test]
fn the_objective_is_missed_when_the_last_success_is_too_old() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    let objective = 27_900;
    let within = |nightly: &Nightly| condition(&object(nightly), "WithinObjective").unwrap()["status"].clone();
    assert_eq!(within(&nightly), "Unknown");
    step(&mut nightly, PERIOD);
    end_all(&mut nightly, "Complete", PERIOD + 40);
    step(&mut nightly, PERIOD + 41);
    assert_eq!(within(&nightly), "True");
    change(&mut nightly, json!({"spec": {"suspend": true}}));
    step(&mut nightly, PERIOD + 40 + objective);
    assert_eq!(within(&nightly), "True");
    step(&mut nightly, PERIOD + 41 + objective);
    assert_eq!(within(&nightly), "False");
    let mut never = observed(json!({"spec": {"suspend": true}}));
    step(&mut never, objective + 1);
    assert_eq!(within(&never), "False");
}

#[test]
fn a_schedule_that_becomes_invalid_still_misses_its_objective() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, PERIOD);
    end_all(&mut nightly, "Complete", PERIOD + 40);
    step(&mut nightly, PERIOD + 41);
    change(&mut nightly, json!({"spec": {"schedule": "61 * * * *"}, "metadata": {"generation": 2}}));
    step(&mut nightly, PERIOD + 50);
    let shown = object(&nightly);
    assert_shown(&shown, Show::Failed("InvalidSchedule"), "61");
    assert!(shows(&shown, "WithinObjective"), "{shown:#}");
    let status = nightly.schedule.status.clone().unwrap();
    assert_eq!((status.objective_seconds, status.interval_seconds, status.next_run_time), (Some(27_900), None, None));
    assert_eq!(condition(&shown, "Suspended").unwrap()["message"], "not suspended");
    step(&mut nightly, PERIOD + 41 + 27_900);
    assert_eq!(condition(&object(&nightly), "WithinObjective").unwrap()["status"], "False");
    // One that never could be followed has none.
    let mut never = observed(json!({"spec": {"schedule": "61 * * * *"}}));
    step(&mut never, 0);
    assert!(condition(&object(&never), "WithinObjective").is_none());
}

#[test]
fn only_records_of_failed_runs_beyond_the_limit_go_the_oldest_first() {
    let mut nightly = observed(json!({"spec": {"history": {"failed": 2}, "suspend": true}}));
    nightly.backups = (0..6)
        .map(|run| {
            run_of(
                "nightly",
                &format!("r{run}"),
                at(run * PERIOD),
                ended(if run == 1 { "Complete" } else { "Failed" }, run),
            )
        })
        .collect();
    let brought = step(&mut nightly, 10 * PERIOD);
    assert_eq!(brought.deleted, ["r3", "r2", "r0"]);
    assert_eq!(names(&nightly), ["r1", "r4", "r5"]);
    assert_eq!(nightly.schedule.status.as_ref().unwrap().consecutive_failures, Some(4), "though the records are gone");
    assert_eq!(step(&mut nightly, 10 * PERIOD + 60), Brought::default());
    assert_eq!(nightly.schedule.status.as_ref().unwrap().consecutive_failures, Some(4));
    // The newest record stays, or nothing would say how the schedule stands.
    change(&mut nightly, json!({"spec": {"history": {"failed": 0}}}));
    step(&mut nightly, 11 * PERIOD);
    assert_eq!(names(&nightly), ["r1", "r5"]);
}

/// What happens around a schedule.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    End(bool),
    Suspend(bool),
    Ask(u8),
    Location(u8),
    LoseStatus,
    Spec(u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (1..40_000_i64).prop_map(Happening::Pass),
        4 => any::<bool>().prop_map(Happening::End),
        1 => any::<bool>().prop_map(Happening::Suspend),
        1 => any::<u8>().prop_map(Happening::Ask),
        1 => (0..4_u8).prop_map(Happening::Location),
        1 => Just(Happening::LoseStatus),
        1 => (0..4_u8).prop_map(Happening::Spec),
    ];
    prop::collection::vec(one, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_no_slot_runs_twice_and_at_most_one_is_caught_up(
        happenings in happenings(),
        copies in 1..4_i32,
        on_create in any::<bool>(),
        policy in prop::sample::select(vec!["Forbid", "Replace"]),
    ) {
        let mut nightly = observed(json!({"spec": {"schedule": "0 */2 * * *", "timeZone": "Europe/Berlin", "copies": copies,
            "runOnCreate": on_create, "concurrencyPolicy": policy, "history": {"failed": 2}}}));
        let (mut second, mut all, mut slots) = (0, BTreeSet::new(), BTreeSet::new());
        for happening in happenings {
            match happening {
                Happening::Pass(seconds) => second += seconds,
                Happening::End(good) => end_all(&mut nightly, if good { "Complete" } else { "Failed" }, second),
                Happening::Suspend(suspend) => change(&mut nightly, json!({"spec": {"suspend": suspend}})),
                Happening::Ask(value) => { second += 61; change(&mut nightly, json!({"metadata": {"annotations": {label::RUN_NOW: value.to_string()}}})); }
                Happening::Location(which) => nightly.location = match which {
                    0 => LocationView::Missing,
                    1 => seen(judged_location("False", "AccessDenied", "no", Some("Stalled"))),
                    2 => seen(location(json!({}))),
                    _ => seen(good_location()),
                },
                Happening::LoseStatus => nightly.schedule.status = None,
                Happening::Spec(which) => {
                    let expression = ["0 */2 * * *", "61 * * * *", "*/10 * * * *", "30 2 * * *"][usize::from(which)];
                    change(&mut nightly, json!({"spec": {"schedule": expression}}));
                }
            }
            let before: BTreeSet<String> = names(&nightly).into_iter().map(str::to_owned).collect();
            let brought = step(&mut nightly, second);
            let of_new: BTreeSet<Timestamp> =
                nightly.backups.iter().filter(|backup| !before.contains(name_of(backup))).filter_map(|backup| backup.slot()).collect();
            prop_assert!(of_new.len() <= 2, "a slot and a run by hand at most: {of_new:?}");
            for name in brought.created {
                prop_assert!(all.insert(name.clone()), "{name} was made twice");
            }
            slots.extend(of_new);
        }
        for slot in slots {
            let of_slot = nightly.backups.iter().filter(|backup| backup.slot() == Some(slot)).count();
            prop_assert!(of_slot <= usize::try_from(copies).unwrap());
        }
    }
}

/// The record of an archive that a listing found in the bucket.
fn found_in_bucket(slot: i64) -> EtcdBackup {
    let name = format!("nightly-{}", at(slot).strftime("%Y%m%d%H%M%S"));
    let mut record = run_of("nightly", &name, at(slot), ended("Complete", slot + 30));
    record
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(label::IMPORTED.into(), "20260101-000000-0123abcd".into());
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// As after a restore: schedule and status are of an older time, and the bucket holds what ran since.
    #[test]
    fn a_slot_that_an_archive_in_the_bucket_serves_is_not_run_again(found in prop::collection::btree_set(1..8_i64, 0..8), lost in any::<bool>()) {
        let mut nightly = observed(json!({"spec": {"concurrencyPolicy": "Forbid"}}));
        step(&mut nightly, 0);
        if lost {
            nightly.schedule.status = None;
        }
        nightly.backups = found.iter().map(|slot| found_in_bucket(slot * PERIOD)).collect();
        let brought = step(&mut nightly, 7 * PERIOD + 100);
        let expected: Vec<String> =
            if found.contains(&7) { vec![] } else { vec![format!("nightly-{}", at(7 * PERIOD).strftime("%Y%m%d%H%M%S"))] };
        prop_assert_eq!(&brought.created, &expected);
        // What the bucket serves was not missed either.
        let newest = found.last().copied().unwrap_or(0);
        prop_assert_eq!(brought.events.contains(&"ScheduleMissed"), newest < 6, "{:?}", brought.events);
        let status = nightly.schedule.status.clone().unwrap();
        let success = found.last().map(|slot| at(slot * PERIOD + 30));
        prop_assert_eq!(status.last_success_time.map(|time| time.0), success);
        prop_assert_eq!(status.last_run_time.map(|time| time.0), Some(at(7 * PERIOD)));
        prop_assert_eq!(status.retained.unwrap().count, i64::try_from(found.len()).unwrap());
        prop_assert!(step(&mut nightly, 7 * PERIOD + 200).created.is_empty());
    }
}

/// A location that works, listed as a whole at this second.
fn listed_at(second: i64) -> LocationView {
    let mut place = good_location();
    let catalog = json!({"passId": "p", "fullPassTime": at(second).to_string()});
    place.status.as_mut().unwrap().catalog = Some(serde_json::from_value(catalog).unwrap());
    seen(place)
}

#[test]
fn after_a_restore_no_slot_of_before_it_runs_until_the_location_was_listed_as_a_whole() {
    let rewound = 2 * PERIOD + 3_600;
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    nightly.last_rewind = Some(at(rewound));
    nightly.location = listed_at(rewound - 60);
    assert_eq!(step(&mut nightly, rewound + 60), Brought::default(), "it may have been served");
    let mut served = nightly.clone();
    let mut unserved = nightly.clone();
    // What the listing finds was served; what it does not find is caught up.
    served.location = listed_at(rewound + 90);
    served.backups = vec![found_in_bucket(PERIOD), found_in_bucket(2 * PERIOD)];
    assert_eq!(step(&mut served, rewound + 120), Brought::default());
    unserved.location = listed_at(rewound + 90);
    unserved.backups = vec![found_in_bucket(PERIOD)];
    assert_eq!(step(&mut unserved, rewound + 120), created(&["nightly-20261125000000"]));
    // Slots of after the restore are nobody else's; nothing was missed by waiting.
    assert_eq!(step(&mut nightly, 3 * PERIOD), created(&["nightly-20261125060000"]));
    // A clock that is wrong holds nothing up.
    let mut ahead = observed(json!({}));
    step(&mut ahead, 0);
    ahead.last_rewind = Some(at(9 * PERIOD));
    assert_eq!(step(&mut ahead, PERIOD).created.len(), 1);
}

/// Right after a restore no master has told of it yet; what the caches hold is of before the slot.
#[test]
fn a_missed_slot_waits_for_an_agent_that_was_heard_of_since() {
    let mut nightly = observed(json!({}));
    step(&mut nightly, 0);
    nightly.last_heard = Some(at(PERIOD - 30));
    let mut punctual = nightly.clone();
    assert_eq!(step(&mut punctual, PERIOD + 60), created(&["nightly-20261124180000"]));
    assert_eq!(step(&mut nightly, PERIOD + 61), Brought::default());
    assert!(decide(&nightly, at(PERIOD + 61)).requeue_after <= Duration::from_secs(15));
    assert_eq!(step(&mut nightly, 2 * PERIOD - 1), Brought::default(), "not given up either");
    nightly.last_heard = None;
    assert_eq!(step(&mut nightly, PERIOD + 70), Brought::default());
    nightly.last_heard = Some(at(PERIOD + 70));
    assert_eq!(step(&mut nightly, PERIOD + 75), created(&["nightly-20261124180000"]));
}

#[test]
fn after_a_restore_a_first_run_is_not_made_twice() {
    let mut nightly = observed(json!({"spec": {"runOnCreate": true}}));
    nightly.last_rewind = Some(at(100));
    assert_eq!(step(&mut nightly, 110), Brought::default());
    nightly.location = listed_at(120);
    assert_eq!(step(&mut nightly, 130), created(&["nightly-20261124120000"]));
}

#[test]
fn archives_older_than_the_schedule_count_as_its_successes_and_start_nothing() {
    let mut nightly = observed(json!({}));
    nightly.backups = (1..5).map(|slot| found_in_bucket(-slot * PERIOD)).collect();
    assert_eq!(step(&mut nightly, 10), Brought::default(), "a cluster made anew: nothing was missed");
    let status = nightly.schedule.status.clone().unwrap();
    assert_eq!(status.last_success_time.unwrap().0, at(-PERIOD + 30));
    assert_eq!(status.last_backup_ref.unwrap().name, "nightly-20261124060000");
    assert!(status.active.is_empty());
    assert_eq!(step(&mut nightly, PERIOD), created(&["nightly-20261124180000"]));
}

/// A run of `nightly` at a second, and how it ended.
fn run(name: &str, second: i64, more: Value) -> EtcdBackup {
    run_of("nightly", name, at(second), more)
}

#[test]
fn a_record_that_waits_to_be_filled_in_is_no_failed_run() {
    let mut nightly = observed(json!({}));
    let mut found = run("found", -10, json!({}));
    found.metadata.annotations.as_mut().unwrap().insert(label::IMPORTED.into(), "20260101-000000-0123abcd".into());
    nightly.backups = vec![run("good", -PERIOD, ended("Complete", -PERIOD)), found];
    let status = decide(&nightly, at(0)).status;
    assert_eq!(status.consecutive_failures, Some(0));
    let last = condition(&serde_json::to_value(&nightly.schedule).unwrap(), "LastBackupSucceeded").cloned();
    assert_eq!(last, None, "nothing was decided before");
    let shown = status.conditions.iter().find(|shown| shown.type_ == "LastBackupSucceeded").unwrap();
    assert_eq!((shown.status.as_str(), shown.message.as_str()), ("True", "good succeeded"));
}

#[test]
fn a_run_of_a_clock_that_was_ahead_says_nothing_of_how_things_stand() {
    const YEAR: i64 = 365 * 86_400;
    let mut nightly = observed(json!({}));
    nightly.backups = vec![
        run("ahead", YEAR, ended("Complete", YEAR)),
        run(
            "real",
            -PERIOD,
            json!({"conditions": [{"type": "Failed", "status": "True", "reason": "SnapshotFailed",
            "message": "", "lastTransitionTime": at(-PERIOD).to_string()}]}),
        ),
    ];
    nightly.schedule.status = Some(
        serde_json::from_value(json!({"lastSuccessTime": at(YEAR).to_string(), "observedGeneration": 1})).unwrap(),
    );
    let status = decide(&nightly, at(0)).status;
    assert_eq!(status.last_success_time, None);
    assert_eq!(status.consecutive_failures, Some(1));
    assert_eq!(newest_run(nightly.backups.iter(), at(0)), NewestRun::Failed);
    // A master whose clock is seconds ahead is none of that.
    nightly.backups.push(run("now", 0, ended("Complete", 20)));
    assert_eq!(decide(&nightly, at(10)).status.last_success_time.unwrap().0, at(20));
}
