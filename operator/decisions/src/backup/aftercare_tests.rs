use std::collections::BTreeMap;

use lifeboat_crds::{Execution, Task, label};
use serde_json::{Value, json};

use super::*;
use crate::LocationView;
use crate::backup::decide_backup;
use crate::situation::{Show, assert_shown, assert_sound, at, backup, condition, good_location, healthy, merge};

const ID: &str = "20261124-060000-0123abcd";

/// A good backup of schedule `nightly`, its status as the operator writes it.
fn finished(more: Value) -> ObservedBackup {
    let verification = json!({"level": "Content", "time": at(0).to_string()});
    let mut object = json!({"metadata": {"name": "nightly-1", "labels": {label::SCHEDULE: "nightly"}},
        "status": {"observedGeneration": 1, "phase": "Complete", "backupId": ID, "revision": 7, "member": "m1",
            "duration": "1s", "verification": verification,
            "assignment": {"nodeName": "m1", "attempt": 1, "task": "Backup", "time": at(0).to_string()}}});
    merge(&mut object, more);
    let mut backup = backup(object);
    let mut status = backup.status.clone().unwrap();
    status.conditions = merge_conditions(&[], &archive::shown(&backup, &status), 1, at(0));
    backup.status = Some(status);
    ObservedBackup {
        backup,
        location: LocationView::Seen(Box::new(good_location())),
        members: vec![healthy("m0", json!({})), healthy("m1", json!({})), healthy("m2", json!({}))],
        busy: BTreeMap::new(),
        last_used: BTreeMap::new(),
        execution_unchanged_for: Duration::ZERO,
        concurrency: None,
        later_runs: Vec::new(),
        has_schedule: true,
        sighting: crate::backup::Sighting::Unsaid,
        last_rewind: None,
    }
}

fn annotate(observed: &mut ObservedBackup, key: &str, value: Option<&str>) {
    let annotations = observed.backup.metadata.annotations.get_or_insert_default();
    match value {
        Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
        None => annotations.remove(key),
    };
}

fn expire(observed: &mut ObservedBackup) {
    observed.backup.status.as_mut().unwrap().expiry = serde_json::from_value(
        json!({"decision": "Expire", "reasons": ["kept by no rule"], "policyGeneration": 1, "passId": "p"}),
    )
    .unwrap();
}

/// Applies the decision as the operator does: names of the events, and the errand assigned, with its attempt.
fn step(observed: &mut ObservedBackup, second: i64) -> (Vec<&'static str>, Option<(Task, i32)>) {
    let BackupDecision { status, events, requeue_after: _, record } = decide_backup(observed, at(second));
    assert_eq!(record, Record::Stays);
    let before = observed.backup.status.clone().unwrap();
    let is_new = status.assignment != before.assignment;
    if is_new {
        observed.execution_unchanged_for = Duration::ZERO;
    }
    observed.backup.status = Some(EtcdBackupStatus { execution: before.execution, ..status.clone() });
    assert_sound(&object(observed));
    let again = decide_backup(observed, at(second));
    assert_eq!(again.status, status, "second {second}");
    assert!(again.events.is_empty(), "{:?}", again.events);
    let assigned = status.assignment.filter(|_| is_new).map(|assignment| (assignment.task, assignment.attempt));
    (events.iter().map(|event| event.reason.as_str()).collect(), assigned)
}

fn object(observed: &ObservedBackup) -> Value {
    serde_json::to_value(&observed.backup).unwrap()
}

fn answer(observed: &mut ObservedBackup, result: Value) {
    let assignment = observed.backup.status.as_ref().unwrap().assignment.clone().unwrap();
    let execution: Execution<BackupResult> = serde_json::from_value(json!({"nodeName": assignment.node_name,
        "attempt": assignment.attempt, "task": assignment.task, "startTime": at(1).to_string(),
        "heartbeatTime": at(1).to_string(), "result": result}))
    .unwrap();
    observed.backup.status.as_mut().unwrap().execution = Some(execution);
    observed.execution_unchanged_for = Duration::ZERO;
}

fn error(reason: &str, message: &str) -> Value {
    json!({"error": {"reason": reason, "message": message}})
}

fn pin(words: Option<&str>) -> Value {
    json!({"pin": {"reason": words, "time": at(1).to_string()}})
}

fn message(observed: &ObservedBackup, type_: &str) -> Option<String> {
    Some(condition(&object(observed), type_)?["message"].as_str()?.to_owned())
}

#[test]
fn without_anybody_asking_there_is_no_errand() {
    let mut observed = finished(json!({}));
    let before = observed.backup.clone();
    assert_eq!(step(&mut observed, 10), (vec![], None));
    assert_eq!(observed.backup, before, "nothing is written");
    assert_eq!(decide_backup(&observed, at(10)).requeue_after, None);
}

#[test]
fn what_the_policy_lets_go_is_deleted_and_then_its_record() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    assert_eq!(step(&mut observed, 10), (vec![], Some((Task::Delete, 2))));
    assert_eq!(step(&mut observed, 20), (vec![], None), "the agent has it");
    answer(&mut observed, json!({"deletion": {"time": at(30).to_string()}}));
    let decision = decide_backup(&observed, at(31));
    assert_eq!(decision.record, Record::Goes);
    assert_eq!(decision.events[0].reason, EventReason::BackupExpired);
    assert!(decision.events[0].note.contains("kept by no rule"), "{:?}", decision.events);
}

/// The command line deletes without the API server, and leaves its word in the bucket.
#[test]
fn a_record_whose_archive_was_deleted_on_purpose_goes() {
    let mut observed = finished(json!({}));
    observed.sighting = Sighting::Deleted("by `lifeboat backup delete` on 2026-11-24".into());
    let BackupDecision { status: _, events, requeue_after: _, record } = decide_backup(&observed, at(10));
    assert_eq!(record, Record::Goes);
    assert_eq!(events.iter().map(|event| event.reason).collect::<Vec<_>>(), [EventReason::BackupExpired]);
    assert!(events[0].note.contains("nightly-1: the archive was deleted by `lifeboat backup delete`"), "{events:?}");
}

#[test]
fn a_silent_agent_is_replaced_and_another_finishes() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    step(&mut observed, 10);
    let first = observed.backup.status.clone().unwrap().assignment.unwrap().node_name;
    observed.execution_unchanged_for = SILENCE;
    assert_eq!(step(&mut observed, 110), (vec![], Some((Task::Delete, 3))));
    assert_ne!(observed.backup.status.unwrap().assignment.unwrap().node_name, first);
}

#[test]
fn an_expiry_of_a_deleted_schedule_is_void() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    observed.has_schedule = false;
    assert_eq!(step(&mut observed, 10), (vec![], None));
    assert_eq!(observed.backup.status.unwrap().expiry, None);
}

#[test]
fn a_pin_holds_from_the_annotation_on_and_is_shown_once_it_is_in_the_bucket() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    annotate(&mut observed, label::PIN, Some("audit"));
    assert_eq!(step(&mut observed, 10), (vec![], Some((Task::Pin, 2))));
    assert_eq!(message(&observed, "Pinned"), None);
    answer(&mut observed, pin(Some("audit")));
    assert_eq!(step(&mut observed, 20), (vec![], None));
    assert_eq!(condition(&object(&observed), "Pinned").unwrap()["reason"], "Pinned");
    assert_eq!(message(&observed, "Pinned").as_deref(), Some("audit"));
    annotate(&mut observed, label::PIN, Some("court"));
    assert_eq!(step(&mut observed, 60), (vec![], Some((Task::Pin, 3))), "other words");
    answer(&mut observed, pin(Some("court")));
    step(&mut observed, 70);
    annotate(&mut observed, label::PIN, None);
    assert_eq!(step(&mut observed, 80), (vec![], Some((Task::Pin, 4))), "the annotation was removed");
    answer(&mut observed, pin(None));
    assert_eq!(step(&mut observed, 90), (vec![], Some((Task::Delete, 5))), "now the policy has its way");
    assert_eq!(message(&observed, "Pinned"), None);
}

#[test]
fn a_pin_found_in_the_bucket_goes_only_by_the_empty_annotation() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    step(&mut observed, 10);
    // The API server forgot the pin with an older copy of its data; the bucket did not.
    answer(&mut observed, pin(Some("audit")));
    assert_eq!(step(&mut observed, 20), (vec![], None));
    assert_eq!(message(&observed, "Pinned").as_deref(), Some("audit"));
    assert_eq!(step(&mut observed, 100_000), (vec![], None), "for ever");
    annotate(&mut observed, label::PIN, Some(""));
    assert_eq!(step(&mut observed, 100_010), (vec![], Some((Task::Pin, 3))));
    answer(&mut observed, pin(None));
    assert_eq!(step(&mut observed, 100_020), (vec![], Some((Task::Delete, 4))));
}

#[test]
fn a_wrong_value_deletes_nothing_and_says_which_is_right() {
    let mut observed = finished(json!({}));
    annotate(&mut observed, label::DELETE_ARCHIVE, Some("yes"));
    assert_eq!(step(&mut observed, 10), (vec!["RetentionHeld"], None));
    assert!(message(&observed, "Ready").unwrap().contains(&format!("must say {ID}")));
    assert_shown(&object(&observed), Show::Current("Succeeded"), "nothing was deleted");
    annotate(&mut observed, label::DELETE_ARCHIVE, None);
    step(&mut observed, 20);
    assert!(!message(&observed, "Ready").unwrap().contains("nothing was deleted"), "the words go with the annotation");
}

#[test]
fn delete_archive_works_whatever_the_policy_says_but_not_against_a_pin() {
    let mut observed = finished(json!({}));
    annotate(&mut observed, label::DELETE_ARCHIVE, Some(ID));
    annotate(&mut observed, label::PIN, Some("audit"));
    assert_eq!(step(&mut observed, 10), (vec!["RetentionHeld"], Some((Task::Pin, 2))));
    assert!(message(&observed, "Complete").unwrap().contains("pinned (audit); remove the pin first"));
    answer(&mut observed, pin(Some("audit")));
    step(&mut observed, 20);
    // Somebody unpins it much later, and thinks of nothing else.
    annotate(&mut observed, label::PIN, Some(""));
    assert_eq!(step(&mut observed, 30), (vec![], Some((Task::Pin, 3))));
    answer(&mut observed, pin(None));
    assert_eq!(step(&mut observed, 40), (vec![], None), "what was refused does not come true");
    assert!(message(&observed, "Ready").unwrap().contains("set it anew once these words are gone"));
    assert!(!crate::retention::is_asked_to_go(&observed.backup), "nor for the agent");
    annotate(&mut observed, label::DELETE_ARCHIVE, None);
    step(&mut observed, 50);
    assert!(!message(&observed, "Ready").unwrap().contains("nothing was deleted"));
    annotate(&mut observed, label::DELETE_ARCHIVE, Some(ID));
    assert_eq!(step(&mut observed, 60), (vec![], Some((Task::Delete, 4))));
    let mut observed = finished(json!({}));
    annotate(&mut observed, label::DELETE_ARCHIVE, Some(ID));
    observed.has_schedule = false;
    assert_eq!(step(&mut observed, 10), (vec![], Some((Task::Delete, 2))));
}

#[test]
fn delete_archive_works_for_a_failed_run_too() {
    let failure = json!({"reason": "DeadlineExceeded", "message": "too late"});
    let mut observed = finished(json!({"status": {"failure": failure}}));
    let one = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": "DeadlineExceeded", "message": "too late",
        "lastTransitionTime": at(0).to_string()})
    };
    let mut ready = one("Ready");
    ready["status"] = json!("False");
    observed.backup.status.as_mut().unwrap().conditions =
        serde_json::from_value(json!([ready, one("Stalled"), one("Failed")])).unwrap();
    annotate(&mut observed, label::PIN, Some("no archive, no pin"));
    assert_eq!(step(&mut observed, 5), (vec![], None));
    annotate(&mut observed, label::PIN, None);
    annotate(&mut observed, label::DELETE_ARCHIVE, Some(ID));
    assert_eq!(step(&mut observed, 10), (vec![], Some((Task::Delete, 2))));
    assert_shown(&object(&observed), Show::Failed("DeadlineExceeded"), "too late");
}

#[test]
fn a_store_that_holds_the_archive_is_asked_again_once_a_day_and_told_once() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    step(&mut observed, 0);
    answer(&mut observed, error("RetentionHeld", "locked until May"));
    assert_eq!(step(&mut observed, 10), (vec!["RetentionHeld"], None));
    assert_shown(&object(&observed), Show::Current("Succeeded"), "locked until May");
    assert_eq!(step(&mut observed, 86_000), (vec![], None));
    assert_eq!(step(&mut observed, 86_400), (vec![], Some((Task::Delete, 3))));
    assert!(message(&observed, "Ready").unwrap().contains("locked until May"), "still shown while tried again");
    answer(&mut observed, error("RetentionHeld", "locked until May"));
    assert_eq!(step(&mut observed, 86_410), (vec![], None), "no second event");
    // The policy keeps it now: nothing is to be told any more.
    observed.backup.status.as_mut().unwrap().expiry = None;
    step(&mut observed, 86_420);
    assert!(!message(&observed, "Ready").unwrap().contains("locked"));
}

#[test]
fn an_archive_proven_less_than_asked_is_read_again_once_a_day_until_that_is_known_to_be_of_no_use() {
    let mut observed = finished(json!({"status": {"verification": {"level": "Checksum"}}}));
    assert_eq!(step(&mut observed, 100), (vec![], None));
    assert_eq!(step(&mut observed, 86_400), (vec![], Some((Task::Verify, 2))));
    answer(&mut observed, error("LocationUnavailable", "away"));
    assert_eq!(step(&mut observed, 86_500), (vec![], None));
    assert_eq!(step(&mut observed, 2 * 86_400), (vec![], Some((Task::Verify, 3))));
    let checksum = json!({"verification": {"level": "Checksum", "time": at(2 * 86_400 + 5).to_string(),
        "shortfall": {"reason": "NotSupported", "message": "a value is too large"}}});
    answer(&mut observed, checksum);
    assert_eq!(step(&mut observed, 2 * 86_400 + 10), (vec!["BackupVerified"], None));
    assert_eq!(step(&mut observed, 9 * 86_400), (vec![], None));

    let mut observed = finished(json!({"status": {"verification": {"level": "Checksum"}}}));
    step(&mut observed, 86_400);
    answer(&mut observed, json!({"verification": {"level": "Content", "time": at(86_405).to_string()}}));
    assert_eq!(step(&mut observed, 86_410), (vec!["BackupVerified"], None));
    assert!(is_true(&observed.backup.status.unwrap().conditions, ConditionType::Verified));
}

#[test]
fn an_archive_that_reads_otherwise_than_it_was_written_is_corrupt() {
    let mut observed = finished(json!({"status": {"verification": {"level": "Checksum"}}}));
    step(&mut observed, 86_400);
    answer(&mut observed, error("ArchiveCorrupt", "its content hash is another"));
    assert_eq!(step(&mut observed, 86_410), (vec!["VerificationFailed"], None));
    assert_shown(&object(&observed), Show::Failed("ArchiveCorrupt"), "content hash");
    assert!(!is_true(&observed.backup.status.as_ref().unwrap().conditions, ConditionType::Verified));
    assert_eq!(step(&mut observed, 9 * 86_400), (vec![], None));
}

#[test]
fn without_an_agent_an_errand_waits() {
    let mut observed = finished(json!({}));
    expire(&mut observed);
    observed.members.clear();
    assert_eq!(step(&mut observed, 10), (vec![], None));
    assert_eq!(decide_backup(&observed, at(10)).requeue_after, Some(Duration::from_secs(30)));
}

#[test]
fn an_import_shows_the_pin_that_was_found_with_it() {
    let facts = serde_json::from_value(json!({"reason": "audit", "time": at(1).to_string()})).unwrap();
    let shown = shown_pin(&facts, Source::Bucket).unwrap();
    assert_eq!((shown.reason, shown.message.as_str()), (Reason::ImportedFromCatalog, "audit"));
}

#[test]
fn an_archive_that_was_found_again_stays_found() {
    let mut observed = finished(json!({"status": {"verification": {"level": "Checksum"}}}));
    const DAY: i64 = 86_400;
    assert_eq!(step(&mut observed, DAY).1, Some((Task::Verify, 2)));
    answer(&mut observed, error("ArchiveMissing", "the store has no such object"));
    assert_eq!(step(&mut observed, DAY + 5).0, ["ArchiveMissing"]);
    observed.sighting = crate::backup::Sighting::Recovered;
    step(&mut observed, DAY + 600);
    assert_shown(&object(&observed), Show::Current("Succeeded"), "");
    observed.sighting = crate::backup::Sighting::Unsaid;
    assert_eq!(step(&mut observed, DAY + 610).0, Vec::<&str>::new());
    assert_shown(&object(&observed), Show::Current("Succeeded"), "");
}

#[test]
fn a_verification_that_did_not_come_about_is_said_and_tried_again_soon() {
    let mut observed = finished(json!({"status": {"verification": {"level": "Checksum"}}}));
    const DAY: i64 = 86_400;
    assert_eq!(step(&mut observed, DAY).1, Some((Task::Verify, 2)));
    answer(&mut observed, error("LocationUnavailable", "the store does not answer"));
    assert_eq!(step(&mut observed, DAY + 5).1, None);
    assert!(message(&observed, "Complete").unwrap().contains("the store does not answer"));
    assert_eq!(step(&mut observed, DAY + 301).1, Some((Task::Verify, 3)));
}
