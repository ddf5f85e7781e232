use super::*;
use crate::situation::{
    Show, assert_shown, assert_sound, at, backup, condition, good_location, healthy, is_true as shows, judged_location,
    location, member,
};
use lifeboat_crds::condition::is_true;
use lifeboat_crds::{EtcdBackupLocation, Execution, label};
use proptest::prelude::*;
use serde_json::{Value, json};

fn observed(backup: EtcdBackup) -> ObservedBackup {
    ObservedBackup {
        backup,
        location: seen(good_location()),
        members: vec![healthy("m0", json!({"isLeader": true})), healthy("m1", json!({})), healthy("m2", json!({}))],
        busy: BTreeMap::new(),
        last_used: BTreeMap::new(),
        execution_unchanged_for: Duration::ZERO,
        concurrency: None,
        later_runs: Vec::new(),
        has_schedule: false,
        sighting: Sighting::Unsaid,
        last_rewind: None,
    }
}

fn seen(location: EtcdBackupLocation) -> LocationView {
    LocationView::Seen(Box::new(location))
}

/// A run of a later slot of the same schedule is there.
fn supersede(observed: &mut ObservedBackup, name: &str) {
    observed.concurrency = Some(ConcurrencyPolicy::Replace);
    observed.later_runs = vec![(at(0), name.to_owned())];
}

#[test]
fn only_a_later_run_that_is_due_takes_a_place_and_only_where_the_schedule_says_so() {
    let failed = |run: &ObservedBackup| {
        let status = decide_backup(run, at(10)).status;
        is_true(&status.conditions, ConditionType::Failed).then(|| status.failure.unwrap().message)
    };
    let mut run = observed(backup(json!({})));
    supersede(&mut run, "later");
    run.later_runs.push((at(5), "newest".to_owned()));
    assert!(failed(&run).unwrap().starts_with("newest, a run of a later slot"));
    run.concurrency = Some(ConcurrencyPolicy::Forbid);
    assert_eq!(failed(&run), None);
    run.concurrency = Some(ConcurrencyPolicy::Replace);
    run.later_runs = vec![(at(365 * 86_400), "of-a-wrong-clock".to_owned())];
    assert_eq!(failed(&run), None);
}

/// Applies the decision as the operator does; the agent's part stays. Gives the names of the events.
fn step(observed: &mut ObservedBackup, second: i64) -> Vec<&'static str> {
    let BackupDecision { status, events, requeue_after, record: _ } = decide_backup(observed, at(second));
    assert_eq!(status.execution, None, "the execution is the agent's");
    let before = observed.backup.status.clone().unwrap_or_default();
    if status.assignment != before.assignment {
        observed.execution_unchanged_for = Duration::ZERO;
    }
    observed.backup.status = Some(EtcdBackupStatus { execution: before.execution, ..status.clone() });
    let object = object(observed);
    assert_sound(&object);
    let is_over = shows(&object, "Complete") || shows(&object, "Failed");
    let waits_for_agent_alone = object["status"]["phase"] == "Importing";
    assert_eq!(requeue_after.is_none(), is_over || waits_for_agent_alone, "{object:#}");
    // Deciding again from what was just applied changes nothing.
    let again = decide_backup(observed, at(second));
    assert_eq!(again.status, status, "second {second}");
    assert!(again.events.is_empty(), "{:?}", again.events);
    events.iter().map(|event| event.reason.as_str()).collect()
}

fn object(observed: &ObservedBackup) -> Value {
    serde_json::to_value(&observed.backup).unwrap()
}

fn status(observed: &ObservedBackup) -> &EtcdBackupStatus {
    observed.backup.status.as_ref().unwrap()
}

fn assigned(observed: &ObservedBackup) -> (String, i32) {
    let assignment = status(observed).assignment.clone().unwrap();
    (assignment.node_name.0, assignment.attempt)
}

/// The agent of the current assignment writes.
fn agent_says(observed: &mut ObservedBackup, result: Option<Value>) {
    let assignment = status(observed).assignment.clone().unwrap();
    let execution: Execution<BackupResult> = serde_json::from_value(json!({"nodeName": assignment.node_name,
        "attempt": assignment.attempt, "task": "Backup", "stage": "Reading", "startTime": at(5).to_string(),
        "heartbeatTime": at(5).to_string(), "result": result}))
    .unwrap();
    observed.backup.status.as_mut().unwrap().execution = Some(execution);
    observed.execution_unchanged_for = Duration::ZERO;
}

fn archive(level: &str) -> Value {
    json!({"archive": {"archive": "s3://abc/x/manifest.json", "member": "m1", "etcdVersion": "3.6.5", "clusterId": "aa",
        "revision": 4711, "contentHash": "bb", "compactRevision": 17, "keys": 900, "sizeBytes": 25_000_000,
        "storedSizeBytes": 6_000_000, "sha256": "cc", "startTime": at(5).to_string(),
        "completionTime": at(47).to_string(), "verification": {"level": level, "time": at(46).to_string()}}})
}

fn error(reason: &str, message: &str) -> Value {
    json!({"error": {"reason": reason, "message": message}})
}

#[test]
fn a_good_run_goes_from_assignment_to_archive_in_three_writes() {
    let mut run = observed(backup(json!({})));
    assert_eq!(step(&mut run, 0), Vec::<&str>::new());
    assert_eq!(assigned(&run), ("m1".into(), 1));
    assert_shown(&object(&run), Show::Unknown("Pending"), "m1");
    let id = status(&run).backup_id.clone().unwrap();
    assert!(id.starts_with("20261124-120000-"), "{id}");
    agent_says(&mut run, None);
    assert_eq!(step(&mut run, 6), ["BackupStarted"]);
    assert_shown(&object(&run), Show::Unknown("Running"), "m1");
    let running = status(&run).clone();
    // Heartbeats are no news.
    assert_eq!(step(&mut run, 30), Vec::<&str>::new());
    assert_eq!(*status(&run), running);
    agent_says(&mut run, Some(archive("Content")));
    assert_eq!(step(&mut run, 48), ["BackupSucceeded"]);
    let done = object(&run);
    assert_shown(&done, Show::Current("Succeeded"), "4711");
    assert!(shows(&done, "Complete") && shows(&done, "Verified"), "{done:#}");
    assert_eq!(done["status"]["phase"], "Complete");
    assert_eq!(done["status"]["backupId"], id.as_str());
    assert_eq!(done["status"]["size"], "24Mi");
    assert_eq!(done["status"]["duration"], "42s");
    assert_eq!(done["status"]["durationSeconds"], 42);
    assert_eq!(done["status"]["startTime"], "2026-11-24T12:00:05Z");
    assert_eq!(done["status"]["archive"], "s3://abc/x/manifest.json");
    assert_eq!(done["status"]["verification"]["level"], "Content");
    assert_eq!(done["status"]["nodeName"], "m1", "whatever errands come later");
}

/// One that was found in the bucket was never assigned to anybody.
#[test]
fn the_node_that_was_read_is_what_the_manifest_says() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    let mut result = archive("Content");
    result["archive"]["nodeName"] = json!("m7");
    agent_says(&mut run, Some(result));
    step(&mut run, 10);
    assert_eq!(object(&run)["status"]["nodeName"], "m7");
}

#[test]
fn a_level_below_the_asked_one_is_shown_as_not_verified() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    agent_says(&mut run, Some(archive("Checksum")));
    step(&mut run, 10);
    let verified = condition(&object(&run), "Verified").unwrap().clone();
    assert_eq!((verified["status"].as_str(), verified["reason"].as_str()), (Some("False"), Some("VerificationFailed")));
    // Why it was not reached, in the agent's words.
    let mut run = observed(backup(json!({"spec": {"verification": "Members"}})));
    step(&mut run, 0);
    let mut result = archive("Content");
    result["archive"]["verification"]["shortfall"] = json!({"reason": "CompactionMoved", "message": "m2 compacted"});
    agent_says(&mut run, Some(result));
    step(&mut run, 10);
    let verified = condition(&object(&run), "Verified").unwrap().clone();
    assert_eq!((verified["status"].as_str(), verified["reason"].as_str()), (Some("False"), Some("CompactionMoved")));
    assert!(verified["message"].as_str().unwrap().contains("m2 compacted"), "{verified}");
    let mut run = observed(backup(json!({"spec": {"verification": "Checksum"}})));
    step(&mut run, 0);
    agent_says(&mut run, Some(archive("Checksum")));
    step(&mut run, 10);
    assert!(shows(&object(&run), "Verified"));
}

#[test]
fn a_failed_try_is_followed_by_another_elsewhere_after_a_pause() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    agent_says(&mut run, Some(error("SnapshotFailed", "the stream from etcd ended early")));
    assert_eq!(step(&mut run, 10), ["BackupRetrying"]);
    assert_shown(&object(&run), Show::Unknown("Retrying"), "ended early");
    assert_eq!(assigned(&run), ("m1".into(), 1));
    assert_eq!(step(&mut run, 14), Vec::<&str>::new());
    step(&mut run, 15);
    assert_eq!(assigned(&run), ("m2".into(), 2));
    assert_shown(&object(&run), Show::Unknown("Retrying"), "m2");
    agent_says(&mut run, None);
    step(&mut run, 16);
    assert_shown(&object(&run), Show::Unknown("Running"), "attempt 2");
    agent_says(&mut run, Some(archive("Content")));
    step(&mut run, 60);
    assert_shown(&object(&run), Show::Current("Succeeded"), "");
    assert_eq!(status(&run).attempts.len(), 1);
    assert_eq!(status(&run).attempts[0].node_name.as_str(), "m1");
}

#[test]
fn waiting_for_a_turn_is_no_part_of_the_duration_and_failed_tries_are() {
    let waited = |failed: bool| {
        let mut run = observed(backup(json!({})));
        step(&mut run, 0);
        agent_says(&mut run, None);
        step(&mut run, 6);
        if failed {
            agent_says(&mut run, Some(error("UploadFailed", "503")));
            step(&mut run, 7);
            step(&mut run, 20);
        }
        let mut facts = archive("Content");
        facts["archive"]["startTime"] = json!(at(30).to_string());
        agent_says(&mut run, Some(facts));
        step(&mut run, 60);
        status(&run).duration.clone().unwrap()
    };
    assert_eq!((waited(false).as_str(), waited(true).as_str()), ("17s", "42s"));
}

#[test]
fn the_words_at_the_deadline_tell_a_slow_store_from_a_slow_etcd() {
    for (stage, words) in [("Reading", "etcd on m1 is being backed up"), ("Uploading", "the store takes the rest")] {
        let mut run = observed(backup(json!({"spec": {"limits": {"timeoutSeconds": 60}}})));
        step(&mut run, 0);
        agent_says(&mut run, None);
        run.backup.status.as_mut().unwrap().execution.as_mut().unwrap().stage = Some(stage.to_owned());
        step(&mut run, 61);
        assert_shown(&object(&run), Show::Failed("DeadlineExceeded"), words);
    }
}

#[test]
fn a_silent_agent_is_replaced_whether_it_began_or_not() {
    for begins in [false, true] {
        let mut run = observed(backup(json!({})));
        step(&mut run, 0);
        if begins {
            agent_says(&mut run, None);
            step(&mut run, 5);
        }
        run.execution_unchanged_for = Duration::from_secs(89);
        let before = status(&run).clone();
        step(&mut run, 94);
        assert_eq!(*status(&run), before);
        run.execution_unchanged_for = Duration::from_secs(90);
        assert_eq!(step(&mut run, 95), ["BackupRetrying"]);
        assert_eq!(status(&run).attempts[0].error.reason, "AgentUnavailable");
        step(&mut run, 100);
        assert_eq!(assigned(&run), ("m2".into(), 2));
    }
}

#[test]
fn an_archive_of_an_agent_given_up_still_wins_while_no_other_was_asked() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    run.execution_unchanged_for = Duration::from_secs(90);
    step(&mut run, 95);
    agent_says(&mut run, Some(archive("Content")));
    supersede(&mut run, "later");
    run.location = LocationView::Missing;
    step(&mut run, 97);
    assert_shown(&object(&run), Show::Current("Succeeded"), "");
}

#[test]
fn the_execution_of_another_attempt_or_node_counts_for_nothing() {
    for (key, value) in [("attempt", json!(2)), ("nodeName", json!("m2")), ("task", json!("Verify"))] {
        let mut run = observed(backup(json!({})));
        step(&mut run, 0);
        agent_says(&mut run, Some(archive("Content")));
        let mut execution = serde_json::to_value(&status(&run).execution).unwrap();
        execution[key] = value;
        run.backup.status.as_mut().unwrap().execution = serde_json::from_value(execution).unwrap();
        step(&mut run, 10);
        assert_shown(&object(&run), Show::Unknown("Pending"), "");
    }
}

#[test]
fn tries_end_at_the_backoff_limit_with_the_words_of_the_last() {
    let mut run = observed(backup(json!({"spec": {"backoffLimit": 1}})));
    step(&mut run, 0);
    agent_says(&mut run, Some(error("UploadFailed", "the store said 503")));
    step(&mut run, 10);
    step(&mut run, 20);
    agent_says(&mut run, Some(error("VerificationFailed", "page 7 is not what it should be")));
    assert_eq!(step(&mut run, 30), ["VerificationFailed", "BackupFailed"]);
    assert_shown(&object(&run), Show::Failed("VerificationFailed"), "page 7");
    assert!(shows(&object(&run), "Failed"));
    assert_eq!(status(&run).attempts.len(), 2);
    assert_eq!(status(&run).failure.as_ref().unwrap().reason, "VerificationFailed");
    let mut once = observed(backup(json!({"spec": {"backoffLimit": 0}})));
    step(&mut once, 0);
    agent_says(&mut once, Some(error("UploadFailed", "the store said 503")));
    step(&mut once, 10);
    assert_shown(&object(&once), Show::Failed("UploadFailed"), "503");
}

#[test]
fn an_error_that_another_try_cannot_mend_ends_the_run_at_once() {
    for reason in ["AccessDenied", "CredentialsMissing", "OwnedByAnother", "NotSupported", "Interrupted"] {
        let mut run = observed(backup(json!({})));
        step(&mut run, 0);
        agent_says(&mut run, Some(error(reason, "words of the agent")));
        assert_eq!(step(&mut run, 10), ["BackupFailed"], "{reason}");
        assert!(shows(&object(&run), "Failed") && shows(&object(&run), "Stalled"));
        assert_eq!(condition(&object(&run), "Ready").unwrap()["reason"], reason);
    }
    // One that this version does not know is tried again.
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    agent_says(&mut run, Some(error("FromTheFuture", "words")));
    assert_eq!(step(&mut run, 10), ["BackupRetrying"]);
}

#[test]
fn every_situation_looks_as_the_table_says() {
    let slow = |seconds: i64| backup(json!({"spec": {"limits": {"timeoutSeconds": seconds}}}));
    // No location: waited for a minute, then failed for good.
    let mut nowhere = observed(backup(json!({})));
    nowhere.location = LocationView::Missing;
    step(&mut nowhere, 0);
    assert_shown(&object(&nowhere), Show::Troubled("LocationMissing"), "bucket");
    step(&mut nowhere, 59);
    assert_shown(&object(&nowhere), Show::Troubled("LocationMissing"), "bucket");
    step(&mut nowhere, 60);
    assert_shown(&object(&nowhere), Show::Failed("LocationMissing"), "bucket");
    assert!(shows(&object(&nowhere), "Failed"));

    // It comes within the minute.
    let mut late = observed(backup(json!({})));
    late.location = LocationView::Missing;
    step(&mut late, 0);
    late.location = seen(good_location());
    step(&mut late, 30);
    assert_shown(&object(&late), Show::Unknown("Pending"), "m1");

    // A location that is stalled: its words.
    let mut denied = observed(backup(json!({})));
    denied.location = seen(judged_location("False", "AccessDenied", "bucket \"nope\" does not exist", Some("Stalled")));
    // It may just have been mended: the next probe is waited for, not for ever.
    assert_eq!(step(&mut denied, 0), Vec::<&str>::new());
    assert_shown(&object(&denied), Show::Troubled("AccessDenied"), "once more");
    let mut mended = denied.clone();
    mended.location = seen(good_location());
    step(&mut mended, 20);
    assert_shown(&object(&mended), Show::Unknown("Pending"), "m1");
    assert_eq!(step(&mut denied, 76), ["BackupFailed"]);
    assert_shown(&object(&denied), Show::Failed("AccessDenied"), "nope");
    assert!(condition(&object(&denied), "Ready").unwrap()["message"].as_str().unwrap().contains("location bucket"));
    let mut probed = observed(backup(json!({})));
    let mut refused = judged_location("False", "AccessDenied", "bucket \"nope\" does not exist", Some("Stalled"));
    refused.status.as_mut().unwrap().last_probe_time = Some(Time(at(0)));
    probed.location = seen(refused);
    assert_eq!(step(&mut probed, 0), ["BackupFailed"], "it was tried since");

    // A Secret that may come a moment later.
    let mut early = observed(backup(json!({})));
    early.location = seen(judged_location("False", "CredentialsMissing", "Secret x is missing", Some("Reconciling")));
    step(&mut early, 0);
    assert_shown(&object(&early), Show::Troubled("CredentialsMissing"), "Secret x");

    // A store that does not answer: tried all the same.
    let mut away = observed(backup(json!({})));
    away.location = seen(judged_location("False", "LocationUnavailable", "no route", Some("Reconciling")));
    step(&mut away, 0);
    assert_shown(&object(&away), Show::Unknown("Pending"), "m1");

    // A location just made: its first probe comes first, but is not waited for without end.
    let mut unprobed = observed(backup(json!({})));
    unprobed.location = seen(location(json!({})));
    step(&mut unprobed, 0);
    assert_shown(&object(&unprobed), Show::Unknown("Pending"), "tried out");
    step(&mut unprobed, 60);
    assert_shown(&object(&unprobed), Show::Unknown("Pending"), "m1");

    // No healthy member, until the deadline; pinned to a node that is not there.
    let mut elsewhere =
        observed(backup(json!({"spec": {"source": {"nodeName": "no-such-node"}, "limits": {"timeoutSeconds": 40}}})));
    step(&mut elsewhere, 0);
    assert_shown(&object(&elsewhere), Show::Unknown("NoHealthyMember"), "no-such-node");
    step(&mut elsewhere, 39);
    assert_shown(&object(&elsewhere), Show::Unknown("NoHealthyMember"), "no-such-node");
    step(&mut elsewhere, 40);
    assert_shown(&object(&elsewhere), Show::Failed("NoHealthyMember"), "no-such-node");
    assert!(shows(&object(&elsewhere), "Failed"));

    // Every agent cut off from its etcd.
    let mut cut_off = observed(slow(60));
    step(&mut cut_off, 0);
    agent_says(&mut cut_off, Some(error("NoHealthyMember", "etcd does not answer")));
    for node in &mut cut_off.members {
        *node = healthy(node.member.metadata.name.as_deref().unwrap(), json!({"problem": "etcd does not answer"}));
    }
    step(&mut cut_off, 20);
    assert_shown(&object(&cut_off), Show::Unknown("Retrying"), "etcd");
    step(&mut cut_off, 30);
    assert_shown(&object(&cut_off), Show::Unknown("NoHealthyMember"), "etcd");
    step(&mut cut_off, 61);
    assert_shown(&object(&cut_off), Show::Failed("DeadlineExceeded"), "etcd does not answer");

    // The deadline comes while the agent is at work, or has not begun.
    let mut running = observed(slow(60));
    step(&mut running, 0);
    agent_says(&mut running, None);
    step(&mut running, 5);
    step(&mut running, 60);
    assert_shown(&object(&running), Show::Failed("DeadlineExceeded"), "is being backed up");
    let mut waiting = observed(slow(60));
    step(&mut waiting, 0);
    step(&mut waiting, 60);
    assert_shown(&object(&waiting), Show::Failed("DeadlineExceeded"), "did not begin");

    // What this version cannot do.
    let mut unverified = observed(backup(json!({})));
    unverified.location = seen(location(json!({"spec": {"s3": {"insecureSkipTLSVerify": true}}})));
    step(&mut unverified, 0);
    assert_shown(&object(&unverified), Show::Failed("NotSupported"), "spec.s3.insecureSkipTLSVerify");
    assert!(status(&unverified).assignment.is_none());
    let mut read_only = observed(backup(json!({})));
    read_only.location = seen(location(json!({"spec": {"accessMode": "ReadOnly"}})));
    step(&mut read_only, 0);
    assert_shown(&object(&read_only), Show::Failed("AccessDenied"), "ReadOnly");

    // Another run took its place.
    let mut superseded = observed(backup(json!({})));
    step(&mut superseded, 0);
    supersede(&mut superseded, "nightly-20261124180000");
    step(&mut superseded, 10);
    assert_shown(&object(&superseded), Show::Failed("Superseded"), "nightly-20261124180000");
}

#[test]
fn the_deadline_counts_from_when_the_operator_first_saw_the_backup() {
    let mut run = observed(backup(json!({"spec": {"limits": {"timeoutSeconds": 60}}})));
    step(&mut run, 5_000);
    assert_shown(&object(&run), Show::Unknown("Pending"), "m1");
    step(&mut run, 5_060);
    assert_shown(&object(&run), Show::Failed("DeadlineExceeded"), "1m");
}

const FOUND: &str = "20260101-000000-0123abcd";

fn record_of(annotation: &str) -> ObservedBackup {
    observed(backup(json!({"metadata": {"annotations": {label::IMPORTED: annotation}}})))
}

#[test]
fn no_run_is_started_for_an_archive_found_in_the_bucket() {
    let mut found = record_of(FOUND);
    assert_eq!(step(&mut found, 0), Vec::<&str>::new());
    assert_shown(&object(&found), Show::Unknown("Pending"), FOUND);
    // It is no run, and has no deadline.
    step(&mut found, 1_000_000);
    assert_shown(&object(&found), Show::Unknown("Pending"), FOUND);
    assert!(status(&found).assignment.is_none());
    let import = json!({"nodeName": "m0", "attempt": 0, "task": "Import", "startTime": at(0).to_string(),
        "heartbeatTime": at(0).to_string(), "result": archive("Content")});
    found.backup.status.as_mut().unwrap().execution = serde_json::from_value(import).unwrap();
    assert_eq!(step(&mut found, 1_000_010), Vec::<&str>::new(), "the location tells, once for all");
    assert_shown(&object(&found), Show::Current("ImportedFromCatalog"), "4711");
    assert_eq!(status(&found).backup_id.as_deref(), Some(FOUND));
    assert_eq!(status(&found).start_time.as_ref().unwrap().0, at(5), "that of the run, not of the record");
}

#[test]
fn a_record_that_only_calls_itself_imported_fails() {
    let mut nonsense = record_of("yes");
    assert_eq!(step(&mut nonsense, 0), ["BackupFailed"]);
    assert_shown(&object(&nonsense), Show::Failed("ArchiveMissing"), "no backupId");
    let mut nothing = record_of(FOUND);
    step(&mut nothing, 0);
    nothing.sighting = Sighting::Missing;
    assert_eq!(step(&mut nothing, 1), ["BackupFailed"]);
    assert_shown(&object(&nothing), Show::Failed("ArchiveMissing"), "holds no archive");
    assert!(shows(&object(&nothing), "Failed"));
}

/// A location whose last listing said this.
fn listed(report: Value) -> EtcdBackupLocation {
    let mut all = json!({"passId": "p", "isFull": true, "imported": 0, "orphans": 0, "unreadable": 0});
    crate::situation::merge(&mut all, report);
    location(json!({"status": {"execution": {"nodeName": "m0", "attempt": 2, "task": "Catalog",
        "startTime": at(0).to_string(), "heartbeatTime": at(0).to_string(),
        "result": {"observedGeneration": 1, "catalog": all}}}}))
}

#[test]
fn a_backup_follows_what_listings_say_of_its_archive() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    agent_says(&mut run, Some(archive("Content")));
    step(&mut run, 50);
    let whole = object(&run);
    let id = status(&run).backup_id.clone().unwrap();
    let hear = |run: &mut ObservedBackup, second: i64, report: Value| {
        run.sighting = Sighting::of(&run.backup, &listed(report));
        step(run, second)
    };
    assert_eq!(hear(&mut run, 60, json!({"missing": [FOUND]})), Vec::<&str>::new());
    assert_eq!(object(&run), whole, "of others");
    assert_eq!(hear(&mut run, 70, json!({"missing": [FOUND, id]})), ["ArchiveMissing"]);
    assert_shown(
        &object(&run),
        Show::Failed("ArchiveMissing"),
        "s3://abc/x/manifest.json, or the data that it names, is gone",
    );
    assert!(shows(&object(&run), "Complete") && shows(&object(&run), "Verified"));
    assert_eq!(status(&run).phase.as_deref(), Some("ArchiveMissing"));
    assert_eq!(hear(&mut run, 80, json!({})), Vec::<&str>::new());
    assert_shown(&object(&run), Show::Failed("ArchiveMissing"), "gone");
    let altered = json!({"corrupt": [{"backupId": id, "message": "it has 7 bytes"}]});
    assert_eq!(hear(&mut run, 90, altered), ["VerificationFailed"]);
    assert_shown(&object(&run), Show::Failed("ArchiveCorrupt"), "it has 7 bytes");
    assert_eq!(hear(&mut run, 100, json!({"recovered": [id]})), Vec::<&str>::new());
    assert_shown(&object(&run), Show::Current("Succeeded"), "4711");
    let mut again = object(&run);
    again["status"]["conditions"][0]["lastTransitionTime"] =
        whole["status"]["conditions"][0]["lastTransitionTime"].clone();
    assert_eq!(again, whole, "as if nothing had been");
}

#[test]
fn terminal_phase_ignores_new_work() {
    let mut run = observed(backup(json!({})));
    run.location = seen(location(json!({"spec": {"accessMode": "ReadOnly"}})));
    step(&mut run, 0);
    let failed = status(&run).clone();
    supersede(&mut run, "later");
    run.location = LocationView::Missing;
    run.execution_unchanged_for = Duration::from_secs(1_000);
    let decision = decide_backup(&run, at(100_000));
    assert_eq!(decision, BackupDecision { status: failed, events: vec![], requeue_after: None, record: Record::Stays });
}

#[test]
fn the_next_look_is_never_later_than_the_deadline_or_the_end_of_patience() {
    let mut run = observed(backup(json!({"spec": {"limits": {"timeoutSeconds": 60}}})));
    assert_eq!(decide_backup(&run, at(0)).requeue_after, Some(Duration::from_secs(60)));
    run.backup = backup(json!({}));
    assert_eq!(decide_backup(&run, at(0)).requeue_after, Some(Duration::from_secs(90)));
    step(&mut run, 0);
    run.execution_unchanged_for = Duration::from_secs(70);
    assert_eq!(decide_backup(&run, at(70)).requeue_after, Some(Duration::from_secs(20)));
}

/// What happens around a run, one after the other.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    Begin,
    Archive,
    Error(Reason),
    Silent,
    Location(u8),
    Members(u8),
    Supersede,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (1..120_i64).prop_map(Happening::Pass),
        2 => Just(Happening::Begin),
        1 => Just(Happening::Archive),
        3 => prop::sample::select(Reason::ALL.to_vec()).prop_map(Happening::Error),
        2 => Just(Happening::Silent),
        2 => (0..6_u8).prop_map(Happening::Location),
        2 => (0..4_u8).prop_map(Happening::Members),
        1 => Just(Happening::Supersede),
    ];
    prop::collection::vec(one, 1..40)
}

fn happen(run: &mut ObservedBackup, happening: &Happening, second: &mut i64) {
    let has_assignment = run.backup.status.as_ref().is_some_and(|status| status.assignment.is_some());
    match happening {
        Happening::Pass(seconds) => {
            *second += seconds;
            run.execution_unchanged_for += Duration::from_secs(seconds.unsigned_abs());
        }
        Happening::Begin if has_assignment => agent_says(run, None),
        Happening::Archive if has_assignment => agent_says(run, Some(archive("Content"))),
        Happening::Error(reason) if has_assignment => agent_says(run, Some(error(reason.as_str(), "words"))),
        Happening::Begin | Happening::Archive | Happening::Error(_) => {}
        Happening::Silent => run.execution_unchanged_for = Duration::from_secs(90),
        Happening::Location(which) => {
            run.location = match which {
                0 => LocationView::Missing,
                1 => seen(good_location()),
                2 => seen(judged_location("False", "AccessDenied", "no", Some("Stalled"))),
                3 => seen(judged_location("False", "LocationUnavailable", "no", Some("Reconciling"))),
                4 => seen(judged_location("False", "CredentialsMissing", "no", Some("Reconciling"))),
                _ => seen(location(json!({}))),
            }
        }
        Happening::Members(which) => {
            run.members = match which {
                0 => vec![],
                1 => vec![member("m0", json!({})), healthy("m1", json!({"problem": "etcd is down"}))],
                2 => vec![healthy("m2", json!({}))],
                _ => vec![healthy("m0", json!({})), healthy("m1", json!({}))],
            }
        }
        Happening::Supersede => supersede(run, "later"),
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_run_is_sound_at_any_time_and_over_in_the_end(
        happenings in happenings(),
        limit in 0..4_i32,
        timeout in 10..400_i64,
    ) {
        let mut run = observed(backup(json!({"spec": {"backoffLimit": limit, "limits": {"timeoutSeconds": timeout}}})));
        let (mut second, mut over, mut attempt) = (0, None, 0);
        step(&mut run, second);
        for happening in &happenings {
            happen(&mut run, happening, &mut second);
            step(&mut run, second);
            let now = status(&run).clone();
            let is = |type_| is_true(&now.conditions, type_);
            let next = now.assignment.as_ref().map_or(0, |assignment| assignment.attempt);
            prop_assert!(next == attempt || next == attempt + 1, "attempts count one by one");
            attempt = next;
            prop_assert!(attempt <= limit + 1 && now.attempts.len() <= usize::try_from(limit + 1).unwrap());
            if is(ConditionType::Complete) || is(ConditionType::Failed) {
                let outcome = EtcdBackupStatus { execution: None, ..now };
                prop_assert_eq!(over.get_or_insert(outcome.clone()), &outcome, "terminal is stable");
            }
        }
        // Left alone, it ends by its deadline.
        step(&mut run, second + timeout);
        let conditions = &status(&run).conditions;
        prop_assert!(is_true(conditions, ConditionType::Complete) || is_true(conditions, ConditionType::Failed));
    }
}

/// A run that was under way in the data that a restore put back has no agent that knows of it any more.
#[test]
fn a_run_from_before_a_restore_ends_as_interrupted_and_later_ones_go_on() {
    let mut run = observed(backup(json!({})));
    step(&mut run, 0);
    agent_says(&mut run, None);
    step(&mut run, 10);
    let mut whole = run.clone();
    // A clock that is ahead interrupts nothing.
    run.last_rewind = Some(at(500));
    step(&mut run, 20);
    assert!(shows(&object(&run), "Reconciling"));
    run.last_rewind = Some(at(15));
    assert_eq!(step(&mut run, 30), ["BackupFailed"]);
    assert_shown(&object(&run), Show::Failed("Interrupted"), "restored");
    // What its agent had finished by then is no less an archive.
    whole.last_rewind = Some(at(15));
    agent_says(&mut whole, Some(archive("Content")));
    step(&mut whole, 30);
    assert!(shows(&object(&whole), "Complete"));
    let mut later = observed(backup(json!({})));
    later.last_rewind = Some(at(15));
    step(&mut later, 30);
    assert!(shows(&object(&later), "Reconciling"));
    assert_eq!(assigned(&later).1, 1);
    // Records of archives wait for a listing, as ever.
    let mut record = record_of("20261124-000000-0123abcd");
    step(&mut record, 0);
    record.last_rewind = Some(at(15));
    step(&mut record, 30);
    assert!(!shows(&object(&record), "Failed"));
}
