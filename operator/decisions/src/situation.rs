//! What tests see an object by: kstatus' rules, the table "What tools must see", and objects to decide upon. Tests only.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::{EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore, label};
use serde_json::{Value, json};

use crate::SeenMember;

/// What Flux, Helm and `kubectl wait` make of an object (sigs.k8s.io/cli-utils, kstatus).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    InProgress,
    Failed,
    Current,
}

/// How a row of the table looks, with the reason of Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Ready.
    Current(&'static str),
    /// Ready is Unknown, and Reconciling.
    Unknown(&'static str),
    /// Ready is False, and Reconciling.
    Troubled(&'static str),
    /// Ready is False, and Stalled.
    Failed(&'static str),
}

/// Second 0 of the tests.
pub const START: &str = "2026-11-24T12:00:00Z";

/// So many seconds after [`START`].
pub fn at(second: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    Timestamp::from_second(start.as_second() + second).unwrap()
}

pub fn condition<'o>(object: &'o Value, type_: &str) -> Option<&'o Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == type_)
}

pub fn is_true(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|condition| condition["status"] == "True")
}

pub fn kstatus(object: &Value) -> Kstatus {
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] || is_true(object, "Reconciling") {
        return Kstatus::InProgress;
    }
    if is_true(object, "Stalled") {
        return Kstatus::Failed;
    }
    match condition(object, "Ready").map(|ready| ready["status"].as_str().unwrap()) {
        Some("False" | "Unknown") => Kstatus::InProgress,
        Some(_) | None => Kstatus::Current,
    }
}

/// Checks what holds for every object at any time.
pub fn assert_sound(object: &Value) {
    for type_ in ["Reconciling", "Stalled", "Complete", "Failed"] {
        assert!(
            condition(object, type_).is_none_or(|c| c["status"] == "True"),
            "{type_} is shown but not True: {object:#}"
        );
    }
    assert!(!(is_true(object, "Reconciling") && is_true(object, "Stalled")), "both at once: {object:#}");
    assert!(!(is_true(object, "Complete") && is_true(object, "Failed")), "both at once: {object:#}");
    for type_ in ["Ready", "Complete"] {
        let good = ["Accepted", "Succeeded", "ImportedFromCatalog", "Restored"];
        let reason = condition(object, type_).filter(|c| c["status"] == "True").map(|c| c["reason"].as_str().unwrap());
        assert!(reason.is_none_or(|reason| good.contains(&reason)), "True for a bad reason: {object:#}");
    }
    let ready = condition(object, "Ready").unwrap_or_else(|| panic!("Ready is missing: {object:#}"));
    let expected = match (ready["status"].as_str().unwrap(), is_true(object, "Stalled")) {
        ("True", _) => Kstatus::Current,
        (_, true) => Kstatus::Failed,
        (_, false) => Kstatus::InProgress,
    };
    assert_eq!(kstatus(object), expected, "{object:#}");
    for type_ in ["Complete", "Failed"] {
        assert!(!(is_true(object, type_) && is_true(object, "Reconciling")), "ended and reconciling: {object:#}");
    }
}

/// Checks a row: how an object is shown, and that the message contains these words.
pub fn assert_shown(object: &Value, show: Show, words: &str) {
    assert_sound(object);
    let (status, reason, expected) = match show {
        Show::Current(reason) => ("True", reason, Kstatus::Current),
        Show::Unknown(reason) => ("Unknown", reason, Kstatus::InProgress),
        Show::Troubled(reason) => ("False", reason, Kstatus::InProgress),
        Show::Failed(reason) => ("False", reason, Kstatus::Failed),
    };
    let ready = condition(object, "Ready").unwrap();
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some(status), Some(reason)), "{object:#}");
    assert_eq!(kstatus(object), expected, "{object:#}");
    assert!(ready["message"].as_str().unwrap().contains(words), "{words:?} is not in {}", ready["message"]);
}

fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, more: Value) -> K {
    let mut object = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "lifeboat", "uid": format!("uid-of-{name}"), "generation": 1,
            "creationTimestamp": START},
        "status": {"observedGeneration": -1}});
    merge(&mut object, more);
    serde_json::from_value(object).unwrap()
}

/// Puts `more` into `target`, object by object; null removes.
pub fn merge(target: &mut Value, more: Value) {
    match more {
        Value::Object(more) if target.is_object() => {
            for (key, value) in more {
                let into = target.as_object_mut().unwrap();
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        more => *target = more,
    }
}

/// A member with these facts, heard of just now.
pub fn member(node: &str, facts: Value) -> SeenMember {
    let mut member: EtcdMember = object("EtcdMember", node, json!({}));
    let mut status = json!({"observedGeneration": 1});
    merge(&mut status, facts);
    member.status = Some(serde_json::from_value(status).unwrap());
    SeenMember { member, unchanged_for: Duration::ZERO }
}

/// A healthy follower, or as these facts say otherwise.
pub fn healthy(node: &str, more: Value) -> SeenMember {
    let mut facts = json!({"heartbeatTime": START, "hasLeader": true, "isLeader": false, "isLearner": false});
    merge(&mut facts, more);
    member(node, facts)
}

/// A location `bucket` with this in it.
pub fn location(more: Value) -> EtcdBackupLocation {
    let mut base = json!({"spec": {"s3": {"bucket": "abc"}}});
    merge(&mut base, more);
    object("EtcdBackupLocation", "bucket", base)
}

/// A location whose Ready is this; `companion` as well.
pub fn judged_location(ready: &str, reason: &str, message: &str, companion: Option<&str>) -> EtcdBackupLocation {
    let one = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": START});
    let mut conditions = vec![one("Ready", ready)];
    conditions.extend(companion.map(|type_| one(type_, "True")));
    location(json!({"status": {"observedGeneration": 1, "conditions": conditions}}))
}

/// A location that works.
pub fn good_location() -> EtcdBackupLocation {
    judged_location("True", "Accepted", "", None)
}

/// A backup `b` on `bucket` with this in it.
pub fn backup(more: Value) -> EtcdBackup {
    let mut base = json!({"spec": {"locationRef": {"name": "bucket"}}});
    merge(&mut base, more);
    object("EtcdBackup", "b", base)
}

/// A restore `r` from the backup `b`, with this in it.
pub fn restore(more: Value) -> EtcdRestore {
    let mut base = json!({"spec": {"cluster": {"from": {"backupRef": {"name": "b"}}}}});
    merge(&mut base, more);
    object("EtcdRestore", "r", base)
}

/// A backup that a schedule made for a slot, with this status.
pub fn run_of(schedule: &str, name: &str, slot: Timestamp, status: Value) -> EtcdBackup {
    backup(json!({"metadata": {"name": name, "uid": format!("uid-of-{name}"), "creationTimestamp": slot.to_string(),
        "labels": {label::SCHEDULE: schedule}, "annotations": {label::SLOT: slot.to_string()}}, "status": status}))
}

/// A schedule `nightly` on `bucket` with this in it.
pub fn schedule(more: Value) -> EtcdBackupSchedule {
    let mut base =
        json!({"spec": {"schedule": "0 */6 * * *", "template": {"spec": {"locationRef": {"name": "bucket"}}}}});
    merge(&mut base, more);
    object("EtcdBackupSchedule", "nightly", base)
}
