use super::*;
use crate::situation::{Show, assert_shown, assert_sound, at, condition, healthy, location, member};
use lifeboat_crds::{Execution, Task};
use proptest::prelude::*;
use serde_json::{Value, json};

fn observed(more: Value) -> ObservedLocation {
    ObservedLocation {
        location: location(more),
        members: vec![healthy("m0", json!({})), healthy("m1", json!({"problem": "etcd is down"}))],
        execution_unchanged_for: Duration::ZERO,
        newest_completion: None,
        newest_failure: None,
    }
}

/// Applies the decision as the operator does; the agent's part stays.
fn step(observed: &mut ObservedLocation, second: i64) -> LocationDecision {
    let decision = decide_location(observed, at(second));
    assert_eq!(decision.status.execution, None, "the execution is the agent's");
    let before = observed.location.status.clone().unwrap_or_default();
    if decision.status.assignment != before.assignment {
        observed.execution_unchanged_for = Duration::ZERO;
    }
    observed.location.status =
        Some(EtcdBackupLocationStatus { execution: before.execution, ..decision.status.clone() });
    assert_sound(&object(observed));
    let again = decide_location(observed, at(second));
    assert_eq!(again.status, decision.status, "second {second}");
    assert!(again.events.is_empty(), "{:?}", again.events);
    decision
}

fn object(observed: &ObservedLocation) -> Value {
    serde_json::to_value(&observed.location).unwrap()
}

fn attempt(observed: &ObservedLocation) -> (String, i32) {
    let assignment = observed.location.status.as_ref().unwrap().assignment.clone().unwrap();
    (assignment.node_name.0, assignment.attempt)
}

/// The agent of the current probe answers.
fn agent_says(observed: &mut ObservedLocation, second: i64, result: Option<Value>) {
    let generation = observed.location.metadata.generation;
    let status = observed.location.status.as_mut().unwrap();
    let assignment = status.assignment.clone().unwrap();
    let result = result.map(|mut result| {
        result["observedGeneration"] = json!(generation);
        result["time"] = json!(at(second).to_string());
        result
    });
    let execution: Execution<LocationResult> = serde_json::from_value(json!({"nodeName": assignment.node_name,
        "attempt": assignment.attempt, "task": assignment.task, "startTime": at(second).to_string(),
        "heartbeatTime": at(second).to_string(), "result": result}))
    .unwrap();
    status.execution = Some(execution);
    observed.execution_unchanged_for = Duration::ZERO;
}

fn good() -> Value {
    json!({"conditionalWrites": true, "clockSkewSeconds": 1})
}

/// What a listing of everything finds.
fn listing(pass: &str, more: Value) -> Value {
    let mut report = json!({"passId": pass, "isFull": true, "imported": 0, "orphans": 0, "unreadable": 0});
    crate::situation::merge(&mut report, more);
    json!({"backups": {"count": 3, "bytes": 7}, "catalog": report})
}

fn task(observed: &ObservedLocation) -> Task {
    observed.location.status.as_ref().unwrap().assignment.as_ref().unwrap().task
}

/// Brings a location to where it was probed at second 0 and listed at second 10.
fn settled(bucket: &mut ObservedLocation) {
    step(bucket, 0);
    agent_says(bucket, 1, Some(good()));
    step(bucket, 10);
    assert_eq!(task(bucket), Task::Catalog);
    agent_says(bucket, 11, Some(listing("p1", json!({}))));
    step(bucket, 12);
}

fn error(reason: &str, message: &str) -> Value {
    json!({"error": {"reason": reason, "message": message}})
}

fn status_of(observed: &ObservedLocation, type_: &str) -> String {
    condition(&object(observed), type_).unwrap()["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_location_is_probed_at_once_and_then_every_five_minutes_by_the_agents_in_turn() {
    let mut bucket = observed(json!({}));
    let decision = step(&mut bucket, 0);
    assert_shown(&object(&bucket), Show::Unknown("Pending"), "tried out");
    assert_eq!(decision.status.provider.as_deref(), Some("S3"));
    assert_eq!(attempt(&bucket), ("m0".into(), 1));
    agent_says(&mut bucket, 2, Some(good()));
    let decision = step(&mut bucket, 3);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "written");
    assert_eq!((attempt(&bucket), task(&bucket)), (("m1".into(), 2), Task::Catalog), "and listed");
    assert_eq!((status_of(&bucket, "Available"), status_of(&bucket, "Writable")), ("True".into(), "True".into()));
    let status = decision.status;
    assert_eq!((status.conditional_writes, status.clock_skew_seconds), (Some(true), Some(1)));
    assert_eq!(status.last_probe_time.unwrap().0, at(0), "on the operator's own clock");
    agent_says(&mut bucket, 4, Some(listing("p1", json!({}))));
    step(&mut bucket, 5);
    assert_eq!(bucket.location.status.as_ref().unwrap().backups.as_ref().unwrap().count, 3);
    bucket.execution_unchanged_for = Duration::from_secs(290);
    step(&mut bucket, 299);
    assert_eq!(attempt(&bucket), ("m1".into(), 2));
    step(&mut bucket, 300);
    assert_eq!((attempt(&bucket), task(&bucket)), (("m0".into(), 3), Task::Probe));
    // While the next is under way, the last answer stands; also once the agent has begun.
    assert_shown(&object(&bucket), Show::Current("Accepted"), "");
    agent_says(&mut bucket, 301, None);
    step(&mut bucket, 302);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "");
    assert_eq!(bucket.location.status.as_ref().unwrap().backups.as_ref().unwrap().count, 3);
}

#[test]
fn every_situation_looks_as_the_table_says() {
    let after = |spec: Value, result: Value| {
        let mut bucket = observed(json!({"spec": spec}));
        step(&mut bucket, 0);
        agent_says(&mut bucket, 2, Some(result));
        let decision = step(&mut bucket, 3);
        (bucket, decision)
    };
    let (denied, decision) = after(json!({}), error("AccessDenied", "SignatureDoesNotMatch: check the key"));
    assert_shown(&object(&denied), Show::Failed("AccessDenied"), "SignatureDoesNotMatch");
    assert_eq!((status_of(&denied, "Available"), status_of(&denied, "Writable")), ("False".into(), "Unknown".into()));
    assert_eq!(decision.events[0].reason, EventReason::LocationUnavailable);

    let (away, _) = after(json!({}), error("LocationUnavailable", "127.0.0.1:9: connection refused"));
    assert_shown(&object(&away), Show::Troubled("LocationUnavailable"), "127.0.0.1:9");

    let (mut missing, decision) = after(json!({}), error("CredentialsMissing", "Secret no-secret does not exist"));
    assert_shown(&object(&missing), Show::Troubled("CredentialsMissing"), "no-secret");
    assert!(decision.requeue_after <= Duration::from_secs(60));
    step(&mut missing, 62);
    assert_shown(&object(&missing), Show::Troubled("CredentialsMissing"), "no-secret");
    step(&mut missing, 63);
    assert_shown(&object(&missing), Show::Failed("CredentialsMissing"), "no-secret");

    let owned = json!({"writeError": {"reason": "OwnedByAnother", "message": "cluster x owns the prefix"}});
    let (owned, _) = after(json!({}), owned);
    assert_shown(&object(&owned), Show::Failed("OwnedByAnother"), "owns the prefix");
    assert_eq!((status_of(&owned, "Available"), status_of(&owned, "Writable")), ("True".into(), "False".into()));

    let (read_only, _) = after(json!({"accessMode": "ReadOnly"}), good());
    assert_shown(&object(&read_only), Show::Current("Accepted"), "read");
    assert_eq!(
        (status_of(&read_only, "Available"), status_of(&read_only, "Writable")),
        ("True".into(), "False".into())
    );

    let mut refused = observed(json!({"spec": {"s3": {"insecureSkipTLSVerify": true}}}));
    let decision = step(&mut refused, 0);
    assert_shown(&object(&refused), Show::Failed("NotSupported"), "spec.s3.insecureSkipTLSVerify");
    assert_eq!(decision.status.assignment, None, "and nothing is probed");

    let mut alone = observed(json!({"spec": {"s3": null, "directory": {"mount": "nfs"}}}));
    alone.members = vec![member("m0", json!({}))];
    let decision = step(&mut alone, 0);
    assert_shown(&object(&alone), Show::Unknown("AgentUnavailable"), "agent");
    assert_eq!(decision.status.provider.as_deref(), Some("Directory"));
}

/// When the next probe follows one assigned at second 0 and answered like this.
fn next_probe(bucket: &mut ObservedLocation, result: Value) -> i64 {
    step(bucket, 0);
    let first = attempt(bucket).1;
    agent_says(bucket, 1, Some(result));
    (2..1_000)
        .find(|second| {
            step(bucket, *second);
            if task(bucket) == Task::Catalog {
                // Listed, where that can be; it does not count.
                agent_says(bucket, *second, Some(listing("p", json!({}))));
                bucket.execution_unchanged_for = Duration::from_secs(10);
                return false;
            }
            attempt(bucket).1 > first
        })
        .unwrap()
}

#[test]
fn what_may_pass_soon_is_asked_sooner() {
    for (result, seconds) in [
        (good(), 300),
        (error("LocationUnavailable", "no"), 15),
        (error("CredentialsMissing", "no"), 15),
        (error("AccessDenied", "no"), 60),
        (json!({"writeError": {"reason": "OwnedByAnother", "message": "no"}}), 60),
    ] {
        assert_eq!(next_probe(&mut observed(json!({})), result.clone()), seconds, "{result}");
    }
}

#[test]
fn a_lasting_outage_is_asked_about_more_slowly_and_recovery_is_seen() {
    let mut bucket = observed(json!({}));
    let (mut probes, mut last) = (Vec::new(), 0);
    for second in 0..600 {
        step(&mut bucket, second);
        if attempt(&bucket).1 > last {
            last = attempt(&bucket).1;
            probes.push(second);
            agent_says(&mut bucket, second, Some(error("LocationUnavailable", "no route")));
        }
    }
    let pauses: Vec<i64> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((pauses.first(), pauses.last()), (Some(&15), Some(&60)), "{pauses:?}");
    assert!(pauses.is_sorted(), "{pauses:?}");
    agent_says(&mut bucket, 600, Some(good()));
    step(&mut bucket, 601);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "");
}

/// Seconds at which tasks of a kind were assigned, each answered at once.
fn assigned(bucket: &mut ObservedLocation, wanted: Task, seconds: std::ops::Range<i64>) -> Vec<i64> {
    let mut found = Vec::new();
    for second in seconds {
        bucket.execution_unchanged_for += Duration::from_secs(1);
        let before = attempt(bucket).1;
        step(bucket, second);
        if attempt(bucket).1 > before {
            if task(bucket) == wanted {
                found.push(second);
            }
            let answer = if task(bucket) == Task::Catalog { listing("p", json!({})) } else { good() };
            agent_says(bucket, second, Some(answer));
        }
    }
    found
}

#[test]
fn a_location_is_listed_every_ten_minutes_and_within_a_minute_after_a_run() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    assert_eq!(assigned(&mut bucket, Task::Catalog, 13..1_300), [610, 1_210]);
    bucket.newest_completion = Some(at(1_299));
    assert_eq!(assigned(&mut bucket, Task::Catalog, 1_300..1_800), [1_300]);
    // One run after the other: at most one listing a minute, and the probes go on.
    let mut probes = 0;
    for second in 1_800..2_400 {
        bucket.newest_completion = Some(at(second - 1));
        probes += assigned(&mut bucket, Task::Probe, second..second + 1).len();
    }
    assert_eq!(probes, 2);
}

/// The listing may have been too early for an archive that was complete in the same second.
#[test]
fn a_listing_asked_for_in_the_second_of_a_completion_is_repeated_once() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.newest_completion = Some(at(10));
    assert_eq!(assigned(&mut bucket, Task::Catalog, 13..600), [70]);
}

#[test]
fn a_location_is_tried_out_soon_after_a_run_on_it_failed() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.newest_failure = Some(at(100));
    bucket.execution_unchanged_for = Duration::from_secs(88);
    assert_eq!(assigned(&mut bucket, Task::Probe, 100..390), [100], "once, for it is well");
    // Not more often than a location that is known not to work.
    bucket.newest_failure = Some(at(392));
    let mut probes = Vec::new();
    for second in 390..420 {
        bucket.newest_failure = Some(at(second));
        probes.extend(assigned(&mut bucket, Task::Probe, second..second + 1));
    }
    assert_eq!(probes, [390, 405]);
    // A time that lies far ahead would have it tried out for ever.
    bucket.newest_failure = Some(at(9_000));
    assert_eq!(assigned(&mut bucket, Task::Probe, 420..760), [705]);
}

#[test]
fn a_changed_location_is_listed_as_soon_as_it_is_probed() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.location.metadata.generation = Some(2);
    step(&mut bucket, 20);
    assert_eq!(task(&bucket), Task::Probe);
    agent_says(&mut bucket, 21, Some(good()));
    step(&mut bucket, 22);
    assert_eq!(task(&bucket), Task::Catalog);
    assert_eq!(bucket.location.status.as_ref().unwrap().catalog, None, "what was listed was another place");
}

#[test]
fn a_location_that_does_not_work_is_not_listed() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.execution_unchanged_for = Duration::from_secs(288);
    step(&mut bucket, 300);
    agent_says(&mut bucket, 301, Some(error("LocationUnavailable", "no route")));
    for second in 302..400 {
        step(&mut bucket, second);
        assert_eq!(task(&bucket), Task::Probe);
    }
    // One that cannot be written can be read.
    let mut owned = observed(json!({}));
    step(&mut owned, 0);
    agent_says(&mut owned, 1, Some(json!({"writeError": {"reason": "OwnedByAnother", "message": "x"}})));
    step(&mut owned, 2);
    assert_eq!(task(&owned), Task::Catalog);
    agent_says(&mut owned, 3, Some(listing("p", json!({}))));
    step(&mut owned, 4);
    assert_shown(&object(&owned), Show::Failed("OwnedByAnother"), "x");
}

#[test]
fn a_listing_that_fails_is_told_and_says_nothing_of_the_location() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.newest_completion = Some(at(50));
    bucket.execution_unchanged_for = Duration::from_secs(58);
    step(&mut bucket, 70);
    assert_eq!(task(&bucket), Task::Catalog);
    agent_says(&mut bucket, 71, Some(error("LocationUnavailable", "the API server went away")));
    bucket.execution_unchanged_for = Duration::from_secs(5);
    step(&mut bucket, 76);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "could not be listed: the API server went away");
    assert_eq!(task(&bucket), Task::Probe, "whether the location is to blame is for a probe to say");
    agent_says(&mut bucket, 77, Some(good()));
    step(&mut bucket, 129);
    assert_eq!(task(&bucket), Task::Probe);
    step(&mut bucket, 130);
    assert_eq!(task(&bucket), Task::Catalog);
    let pass = bucket.location.status.as_ref().unwrap().catalog.clone().unwrap();
    assert_eq!((pass.pass_id.as_str(), pass.full_pass_time.map(|time| time.0)), ("p1", Some(at(10))));
    agent_says(&mut bucket, 131, Some(listing("p2", json!({}))));
    step(&mut bucket, 132);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "read and written");
}

/// A store that refuses connections is asked for a minute by each listing.
#[test]
fn a_listing_that_took_long_to_fail_is_followed_by_a_probe_too() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.newest_completion = Some(at(50));
    bucket.execution_unchanged_for = Duration::from_secs(58);
    step(&mut bucket, 70);
    agent_says(&mut bucket, 140, Some(error("LocationUnavailable", "connection refused")));
    bucket.execution_unchanged_for = Duration::from_secs(5);
    step(&mut bucket, 145);
    assert_eq!(task(&bucket), Task::Probe);
    agent_says(&mut bucket, 150, Some(error("LocationUnavailable", "connection refused")));
    step(&mut bucket, 151);
    assert_shown(&object(&bucket), Show::Troubled("LocationUnavailable"), "connection refused");
}

/// The records that it was compared with are others now.
#[test]
fn a_listing_of_everything_from_before_a_restore_counts_no_more() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    let full = |bucket: &ObservedLocation| bucket.location.status.clone().unwrap().catalog.unwrap().full_pass_time;
    let restored = |second| {
        json!({"lastRestore": {"restoreId": "r", "ref": "r", "attempt": 1, "outcome": "Restored",
        "time": at(second).to_string()}})
    };
    for second in [5, 9_000] {
        bucket.members[0] = healthy("m0", restored(second));
        step(&mut bucket, 60);
        assert_eq!(full(&bucket).unwrap().0, at(10), "older than the listing, or of a clock that is ahead");
    }
    bucket.members[0] = healthy("m0", restored(10));
    step(&mut bucket, 61);
    assert_eq!(full(&bucket), None);
    bucket.execution_unchanged_for = Duration::from_secs(60);
    step(&mut bucket, 62);
    assert_eq!(task(&bucket), Task::Catalog, "whoever looks for a backup now finds those of the bucket soon");
    agent_says(&mut bucket, 63, Some(listing("p2", json!({}))));
    step(&mut bucket, 64);
    assert_eq!(full(&bucket).unwrap().0, at(62));
    bucket.execution_unchanged_for = Duration::from_secs(5);
    let asked = attempt(&bucket);
    step(&mut bucket, 70);
    assert_eq!(attempt(&bucket), asked, "once is enough");
}

#[test]
fn what_a_listing_leaves_over_is_done_by_the_next_at_once() {
    let mut bucket = observed(json!({}));
    step(&mut bucket, 0);
    agent_says(&mut bucket, 1, Some(good()));
    step(&mut bucket, 2);
    agent_says(&mut bucket, 20, Some(listing("p1", json!({"imported": 1_000, "hasMore": true}))));
    let decision = step(&mut bucket, 21);
    assert_eq!(decision.events[0].reason, EventReason::BackupImported);
    assert_eq!(attempt(&bucket).1, 2, "what it found is left to read for some seconds");
    assert_eq!(decision.status.catalog.unwrap().full_pass_time, None);
    bucket.execution_unchanged_for = Duration::from_secs(5);
    step(&mut bucket, 26);
    assert_eq!((attempt(&bucket).1, task(&bucket)), (3, Task::Catalog));
    agent_says(&mut bucket, 30, Some(listing("p2", json!({"orphans": 2, "orphanExamples": ["a", "b"]}))));
    let decision = step(&mut bucket, 31);
    assert_eq!(decision.status.catalog.unwrap().full_pass_time.unwrap().0, at(26));
    assert_eq!(decision.events[0].reason, EventReason::ArchiveOrphaned);
    assert!(decision.events[0].note.contains("left alone: a, b"), "{:?}", decision.events);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "2 objects belong to no backup and are left alone: a, b");
    // A listing of what is new says nothing of the rest.
    bucket.newest_completion = Some(at(40));
    bucket.execution_unchanged_for = Duration::from_secs(60);
    step(&mut bucket, 86);
    agent_says(&mut bucket, 87, Some(listing("p3", json!({"isFull": false}))));
    step(&mut bucket, 88);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "2 objects");
    let available = |bucket: &ObservedLocation| {
        let object = object(bucket);
        let available = condition(&object, "Available").unwrap();
        (available["status"].clone(), available["reason"].clone())
    };
    assert_eq!(available(&bucket), (json!("True"), json!("ArchiveOrphaned")), "{:#}", object(&bucket));
    // What is known is not told again; what is gone is forgotten. All of it before the next probe.
    let mut relist = |second: i64, pass: &str, orphans: i64| {
        bucket.newest_completion = Some(at(second));
        bucket.execution_unchanged_for = Duration::from_secs(60);
        step(&mut bucket, second + 60);
        assert_eq!(task(&bucket), Task::Catalog);
        agent_says(&mut bucket, second + 61, Some(listing(pass, json!({"orphans": orphans}))));
        let told = step(&mut bucket, second + 62).events;
        (told.iter().any(|event| event.reason == EventReason::ArchiveOrphaned), available(&bucket).1)
    };
    assert_eq!(relist(100, "p4", 2), (false, json!("ArchiveOrphaned")));
    assert_eq!(relist(165, "p5", 0), (false, json!("Accepted")));
    assert_eq!(relist(230, "p6", 1), (true, json!("ArchiveOrphaned")));
}

/// Of a bucket that was lost each listing reads every record and tells of some.
#[test]
fn losses_that_are_left_over_wait_a_minute_and_are_spoken_of() {
    let mut bucket = observed(json!({}));
    step(&mut bucket, 0);
    agent_says(&mut bucket, 1, Some(good()));
    step(&mut bucket, 2);
    assert_eq!(task(&bucket), Task::Catalog);
    agent_says(&mut bucket, 20, Some(listing("p1", json!({"missing": ["20261124-000000-00000001"], "hasMore": true}))));
    bucket.execution_unchanged_for = Duration::from_secs(10);
    step(&mut bucket, 30);
    assert_eq!(attempt(&bucket).1, 2, "not at once");
    assert_shown(&object(&bucket), Show::Current("Accepted"), "was the bucket emptied");
    bucket.execution_unchanged_for = Duration::from_secs(42);
    step(&mut bucket, 62);
    assert_eq!((attempt(&bucket).1, task(&bucket)), (3, Task::Catalog));
}

#[test]
fn an_agent_that_falls_silent_while_it_lists_is_given_up_and_the_location_probed() {
    let mut bucket = observed(json!({}));
    step(&mut bucket, 0);
    agent_says(&mut bucket, 1, Some(good()));
    step(&mut bucket, 2);
    agent_says(&mut bucket, 3, None);
    bucket.execution_unchanged_for = Duration::from_secs(89);
    step(&mut bucket, 92);
    assert_eq!(task(&bucket), Task::Catalog);
    bucket.execution_unchanged_for = Duration::from_secs(90);
    step(&mut bucket, 93);
    assert_eq!(task(&bucket), Task::Probe);
}

#[test]
fn a_silent_agent_is_passed_over_and_unanswered_probes_make_the_location_unknown() {
    let mut bucket = observed(json!({}));
    settled(&mut bucket);
    bucket.execution_unchanged_for = Duration::from_secs(288);
    step(&mut bucket, 300);
    assert_eq!(attempt(&bucket), ("m0".into(), 3));
    let mut second = 300;
    for expected in ["m1", "m0", "m1"] {
        bucket.execution_unchanged_for = Duration::from_secs(44);
        step(&mut bucket, second + 44);
        assert_ne!(attempt(&bucket).0, expected);
        bucket.execution_unchanged_for = Duration::from_secs(45);
        second += 45;
        step(&mut bucket, second);
        assert_eq!(attempt(&bucket).0, expected);
    }
    step(&mut bucket, second + 1);
    assert_shown(&object(&bucket), Show::Unknown("AgentUnavailable"), "not answered");
    agent_says(&mut bucket, second + 2, Some(good()));
    step(&mut bucket, second + 3);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "");
    assert_eq!(task(&bucket), Task::Probe, "it was listed less than ten minutes ago");
}

#[test]
fn a_changed_spec_is_probed_at_once_and_old_answers_count_no_more() {
    let mut bucket = observed(json!({}));
    step(&mut bucket, 0);
    agent_says(&mut bucket, 1, Some(error("AccessDenied", "wrong bucket")));
    step(&mut bucket, 2);
    bucket.location.metadata.generation = Some(2);
    step(&mut bucket, 3);
    assert_eq!(attempt(&bucket).1, 2);
    assert_shown(&object(&bucket), Show::Unknown("Pending"), "tried out");
    // Changed again while that probe is under way: the agent may have read either spec.
    bucket.location.metadata.generation = Some(3);
    step(&mut bucket, 4);
    assert_eq!(attempt(&bucket).1, 3);
    agent_says(&mut bucket, 5, Some(good()));
    step(&mut bucket, 6);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "");
    // A field that cannot be served comes and goes; attempts go on counting.
    let mended = bucket.location.spec.clone();
    if let Some(s3) = &mut bucket.location.spec.s3 {
        s3.insecure_skip_tls_verify = true;
    }
    bucket.location.metadata.generation = Some(4);
    step(&mut bucket, 7);
    assert_shown(&object(&bucket), Show::Failed("NotSupported"), "insecureSkipTLSVerify");
    bucket.location.spec = mended;
    bucket.location.metadata.generation = Some(5);
    step(&mut bucket, 8);
    assert_eq!((attempt(&bucket).1, task(&bucket)), (5, Task::Probe));
    assert_shown(&object(&bucket), Show::Unknown("Pending"), "");
}

/// What happens around a location.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    Begin,
    Answer(bool, Option<Reason>),
    Change,
    Members(bool),
    Complete,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (1..200_i64).prop_map(Happening::Pass),
        1 => Just(Happening::Begin),
        4 => (any::<bool>(), prop::option::of(prop::sample::select(Reason::ALL.to_vec()))).prop_map(|(write, reason)| Happening::Answer(write, reason)),
        1 => Just(Happening::Change),
        1 => any::<bool>().prop_map(Happening::Members),
        1 => Just(Happening::Complete),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn whatever_happens_a_location_is_sound_and_recovers_by_itself(happenings in happenings()) {
        let mut bucket = observed(json!({}));
        let mut second = 0;
        step(&mut bucket, second);
        for happening in happenings {
            let has_assignment = bucket.location.status.as_ref().unwrap().assignment.is_some();
            match happening {
                Happening::Pass(seconds) => {
                    second += seconds;
                    bucket.execution_unchanged_for += Duration::from_secs(seconds.unsigned_abs());
                }
                Happening::Begin if has_assignment => agent_says(&mut bucket, second, None),
                Happening::Answer(is_write, reason) if has_assignment => {
                    let key = if is_write { "writeError" } else { "error" };
                    let well = if is_write { listing(&second.to_string(), json!({"hasMore": second % 2 == 0})) } else { good() };
                    let result = reason.map_or(well, |reason| json!({key: {"reason": reason.as_str(), "message": "words"}}));
                    agent_says(&mut bucket, second, Some(result));
                }
                Happening::Begin | Happening::Answer(..) => {}
                Happening::Change => bucket.location.metadata.generation = bucket.location.metadata.generation.map(|g| g + 1),
                Happening::Members(some) => bucket.members = if some { vec![healthy("m0", json!({}))] } else { vec![] },
                Happening::Complete => bucket.newest_completion = Some(at(second)),
            }
            step(&mut bucket, second);
        }
        // The store is well again and agents are there: so is the location, within two rounds of probes.
        bucket.members = vec![healthy("m0", json!({}))];
        for _ in 0..8 {
            second += 300;
            bucket.execution_unchanged_for += Duration::from_secs(300);
            step(&mut bucket, second);
            agent_says(&mut bucket, second, Some(good()));
            step(&mut bucket, second + 1);
        }
        assert_shown(&object(&bucket), Show::Current("Accepted"), "");
    }
}

fn owned_by(hosts: &[&str]) -> Value {
    let mut result = good();
    result["owner"] = json!({"uid": "kube-system", "hosts": hosts});
    result
}

fn annotate(observed: &mut ObservedLocation, value: Option<&str>) {
    let annotations = observed.location.metadata.annotations.get_or_insert_default();
    match value {
        Some(value) => annotations.insert(lifeboat_crds::label::TAKE_OVER.to_owned(), value.to_owned()),
        None => annotations.remove(lifeboat_crds::label::TAKE_OVER),
    };
}

#[test]
fn a_changed_take_over_annotation_is_tried_at_once_and_asked_to_be_removed() {
    let mut bucket = observed(json!({}));
    step(&mut bucket, 0);
    let mut refused = owned_by(&["other"]);
    refused["writeError"] = json!({"reason": "OwnedByAnother", "message": "annotate it"});
    agent_says(&mut bucket, 2, Some(refused.clone()));
    step(&mut bucket, 3);
    assert_shown(&object(&bucket), Show::Failed("OwnedByAnother"), "annotate it");
    assert_eq!(status_of(&bucket, "Writable"), "False");
    assert_eq!(task(&bucket), Task::Catalog, "it can be read all the same");
    agent_says(&mut bucket, 4, Some(listing("p1", json!({}))));
    bucket.execution_unchanged_for = Duration::from_secs(10);
    step(&mut bucket, 20);
    assert_eq!(attempt(&bucket).1, 2, "asked again after a minute, not before");
    step(&mut bucket, 63);
    assert_eq!((attempt(&bucket).1, task(&bucket)), (3, Task::Probe));
    agent_says(&mut bucket, 64, Some(refused));
    step(&mut bucket, 80);
    annotate(&mut bucket, Some("kube-system"));
    step(&mut bucket, 81);
    assert_eq!((attempt(&bucket).1, task(&bucket)), (4, Task::Probe), "at once");
    let mut taken = owned_by(&["h0"]);
    taken["takeOver"] = json!("kube-system");
    agent_says(&mut bucket, 82, Some(taken));
    step(&mut bucket, 83);
    assert_shown(&object(&bucket), Show::Current("Accepted"), "remove the annotation");
    let writable = condition(&object(&bucket), "Writable").unwrap().clone();
    assert!(writable["message"].as_str().unwrap().contains("remove the annotation"), "{writable}");
    annotate(&mut bucket, None);
    step(&mut bucket, 84);
    let message = condition(&object(&bucket), "Ready").unwrap()["message"].clone();
    assert!(!message.as_str().unwrap().contains("annotation"), "{message}");
}

/// An agent of an older version does not tell what it saw.
#[test]
fn an_agent_that_never_sees_the_annotation_is_not_asked_without_a_pause() {
    let mut bucket = observed(json!({}));
    annotate(&mut bucket, Some("kube-system"));
    step(&mut bucket, 0);
    for second in 1..30 {
        if bucket.location.status.as_ref().unwrap().execution.as_ref().is_none_or(|of| of.attempt != attempt(&bucket).1)
        {
            agent_says(&mut bucket, second, Some(good()));
        }
        step(&mut bucket, second);
    }
    assert_eq!(attempt(&bucket).1, 2);
}

#[test]
fn a_master_that_owner_json_lacks_is_added_by_an_owner_within_a_minute() {
    let mut bucket = observed(json!({}));
    bucket.members = vec![healthy("m0", json!({"hostId": "h0"})), healthy("m1", json!({"hostId": "h1"}))];
    step(&mut bucket, 0);
    agent_says(&mut bucket, 1, Some(owned_by(&["h0"])));
    step(&mut bucket, 2);
    assert_eq!((attempt(&bucket), task(&bucket)), (("m0".into(), 2), Task::Catalog));
    agent_says(&mut bucket, 3, Some(listing("p1", json!({}))));
    bucket.execution_unchanged_for = Duration::from_secs(10);
    step(&mut bucket, 20);
    step(&mut bucket, 59);
    assert_eq!(attempt(&bucket), ("m0".into(), 2));
    step(&mut bucket, 60);
    assert_eq!((attempt(&bucket), task(&bucket)), (("m0".into(), 3), Task::Probe), "not m1, which would be refused");
    agent_says(&mut bucket, 61, Some(owned_by(&["h0", "h1"])));
    step(&mut bucket, 62);
    step(&mut bucket, 130);
    assert_eq!(attempt(&bucket).1, 3, "all are listed");
    step(&mut bucket, 361);
    assert_eq!((attempt(&bucket), task(&bucket)), (("m1".into(), 4), Task::Probe));
}

#[test]
fn what_was_found_in_the_old_bucket_is_no_fact_of_the_new_one() {
    let mut observed = observed(json!({}));
    step(&mut observed, 0);
    let mut found = good();
    found
        .as_object_mut()
        .unwrap()
        .extend([("conditionalWrites".to_owned(), json!(true)), ("clockSkewSeconds".to_owned(), json!(7))]);
    agent_says(&mut observed, 1, Some(found));
    let status = step(&mut observed, 2).status;
    assert_eq!((status.conditional_writes, status.clock_skew_seconds), (Some(true), Some(7)));
    observed.location.metadata.generation = Some(2);
    let status = step(&mut observed, 3).status;
    assert_eq!((status.conditional_writes, status.clock_skew_seconds), (None, None));
    assert_eq!((status.owner, status.backups), (None, None));
}

fn with_directory(mut answer: Value, id: &str) -> Value {
    answer["directoryId"] = json!(id);
    answer
}

/// A mount that is missing on one master looks right to that master alone.
#[test]
fn masters_that_see_different_directories_make_it_unavailable_until_they_agree() {
    let mut shelf = observed(json!({"spec": {"s3": null, "directory": {"mount": "shared"}}}));
    shelf.members = vec![healthy("m0", json!({})), healthy("m1", json!({}))];
    let sees = |id: &str| with_directory(good(), id);
    step(&mut shelf, 0);
    agent_says(&mut shelf, 1, Some(sees("aa")));
    step(&mut shelf, 2);
    assert_shown(&object(&shelf), Show::Current("Accepted"), "");
    assert_eq!((attempt(&shelf).0.as_str(), task(&shelf)), ("m1", Task::Catalog));
    agent_says(&mut shelf, 3, Some(error("VerificationFailed", "m1 sees another directory than m0")));
    shelf.location.status.as_mut().unwrap().execution.as_mut().unwrap().result.as_mut().unwrap().directory_id =
        Some("bb".into());
    let told = step(&mut shelf, 4);
    assert_shown(&object(&shelf), Show::Failed("VerificationFailed"), "m1 and m0 see different directories");
    assert_eq!(status_of(&shelf, "Available"), "False", "so that nothing is let go for it");
    assert_eq!(told.events[0].reason, EventReason::LocationUnavailable);
    // Each of them is asked again, and one that sees what the other sees mends it.
    shelf.execution_unchanged_for = Duration::from_secs(60);
    step(&mut shelf, 64);
    assert_eq!((attempt(&shelf).0.as_str(), task(&shelf)), ("m0", Task::Probe));
    agent_says(&mut shelf, 65, Some(sees("aa")));
    step(&mut shelf, 66);
    assert_shown(&object(&shelf), Show::Failed("VerificationFailed"), "m1");
    shelf.execution_unchanged_for = Duration::from_secs(60);
    step(&mut shelf, 130);
    assert_eq!((attempt(&shelf).0.as_str(), task(&shelf)), ("m1", Task::Probe));
    agent_says(&mut shelf, 131, Some(sees("aa")));
    step(&mut shelf, 132);
    assert_shown(&object(&shelf), Show::Current("Accepted"), "");
}

#[test]
fn a_directory_is_probed_again_soon_until_every_master_has_told_what_it_sees() {
    let mut shelf = observed(json!({"spec": {"s3": null, "directory": {"mount": "shared"}}}));
    shelf.members = vec![healthy("m0", json!({})), healthy("m1", json!({})), healthy("m2", json!({}))];
    let sees = |answer: Value| with_directory(answer, "aa");
    step(&mut shelf, 0);
    agent_says(&mut shelf, 1, Some(sees(good())));
    step(&mut shelf, 2);
    agent_says(&mut shelf, 3, Some(sees(listing("p1", json!({})))));
    step(&mut shelf, 4);
    shelf.execution_unchanged_for = Duration::from_secs(60);
    step(&mut shelf, 60);
    assert_eq!((attempt(&shelf).0.as_str(), task(&shelf)), ("m2", Task::Probe));
    agent_says(&mut shelf, 61, Some(sees(good())));
    step(&mut shelf, 62);
    shelf.execution_unchanged_for = Duration::from_secs(290);
    step(&mut shelf, 359);
    assert_eq!(attempt(&shelf).0, "m2");
    step(&mut shelf, 360);
    assert_eq!((attempt(&shelf).0.as_str(), task(&shelf)), ("m0", Task::Probe));
}
