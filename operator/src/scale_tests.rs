//! What ten thousand records cost the operator. Run with `--nocapture` to read the numbers. Tests only.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::label;
use lifeboat_decisions::backup::decide_backup;
use lifeboat_decisions::location::decide_location;
use lifeboat_decisions::schedule::decide_schedule;
use serde_json::{Value, json};

use crate::assignments::RecentAssignments;
use crate::backups::Backups;
use crate::controller::Controller;
use crate::kind::{Kind, TouchedObject};
use crate::liveness::LivenessTracker;
use crate::observe::{around_schedule, observe_backup, observe_location, observe_schedule};
use crate::schedules::Schedules;
use crate::stores::Stores;

const RECORDS: i64 = 10_000;
/// No decision may take longer, on a debug build and a machine that does much else: the lease lives 15 s.
const LONGEST: Duration = Duration::from_secs(10);

fn at(hour: i64) -> Timestamp {
    let start: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(hour)
}

fn record(hour: i64) -> Value {
    let (time, done) = (at(hour).to_string(), (at(hour) + SignedDuration::from_secs(9)).to_string());
    let id = format!("{}-{hour:08x}", at(hour).strftime("%Y%m%d-%H%M%S"));
    let condition = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": "ImportedFromCatalog", "observedGeneration": 1,
        "message": "backed up m1, revision 123456, 25M, verified at level Content in 9s", "lastTransitionTime": done})
    };
    let facts = json!({"archive": format!("s3://etcd-backups/prod/8c5b1d0e-0000-4000-8000-000000000000/backups/{id}/manifest.json"),
        "member": "m1", "etcdVersion": "3.6.16", "storageVersion": "3.6.0", "clusterId": "cdf818194e3a8c32", "revision": 123_456,
        "contentHash": "0123456789abcdef0123456789abcdef", "compactRevision": 120_000, "keys": 9_000, "sizeBytes": 25_000_000,
        "storedSizeBytes": 6_000_000, "sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "startTime": time, "completionTime": done, "verification": {"level": "Content", "time": done}});
    let mut status = facts.clone();
    let more = json!({"observedGeneration": 1, "phase": "Complete", "backupId": id, "size": "24M", "storedSize": "5.8M",
        "durationSeconds": 9, "duration": "9s", "conditions": [condition("Ready"), condition("Complete"), condition("Verified")],
        "execution": {"nodeName": "m1", "attempt": 0, "task": "Import", "startTime": time, "heartbeatTime": time,
            "result": {"archive": facts}}});
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let name = format!("hourly-{}", at(hour).strftime("%Y%m%d%H%M%S"));
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"name": name, "namespace": "lifeboat", "uid": format!("{hour:08x}-0000-4000-8000-000000000000"), "resourceVersion": "1234567",
            "generation": 1, "creationTimestamp": done, "labels": {label::SCHEDULE: "hourly"},
            "annotations": {label::IMPORTED: id, label::SLOT: time}},
        "spec": {"locationRef": {"name": "bucket"}}, "status": status})
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = work();
    let took = begun.elapsed();
    println!("{what}: {took:?}");
    assert!(took < LONGEST, "{what} took {took:?}");
    value
}

#[test]
fn ten_thousand_records_hold_nobody_up() {
    let (stores, mut writers) = Stores::new("lifeboat");
    let schedule = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupSchedule",
        "metadata": {"name": "hourly", "namespace": "lifeboat", "uid": "s", "generation": 1, "creationTimestamp": at(0).to_string()},
        "spec": {"schedule": "0 * * * *", "template": {"spec": {"locationRef": {"name": "bucket"}}}}});
    let location = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
        "metadata": {"name": "bucket", "namespace": "lifeboat", "uid": "l", "generation": 1}, "spec": {"s3": {"bucket": "abc"}}});
    writers.fill(&stores, &[schedule, location]);
    let before = resident();
    for hour in 0..RECORDS {
        writers.fill(&stores, &[record(hour)]);
    }
    let each = resident().saturating_sub(before) / u64::try_from(RECORDS).unwrap();
    println!("{RECORDS} records: {each} bytes each in the cache");
    assert!(each < 16 << 10, "{each} bytes each");

    let (liveness, assignments, now) = (LivenessTracker::default(), RecentAssignments::default(), Instant::now());
    let hourly = stores.schedule("hourly").unwrap();
    let decided = timed("deciding upon the schedule", || {
        let around = around_schedule(&hourly, &stores);
        decide_schedule(&observe_schedule(&hourly, &around, &stores), at(RECORDS))
    });
    assert_eq!(decided.status.retained.unwrap().count, RECORDS);
    assert_eq!(decided.status.last_success_time.unwrap().0, at(RECORDS - 1) + SignedDuration::from_secs(9));
    let bucket = stores.location("bucket").unwrap();
    timed("deciding upon the location", || {
        decide_location(&observe_location(&bucket, &stores, &liveness, now), at(RECORDS))
    });
    let names: Vec<String> =
        (0..RECORDS).map(|hour| record(hour)["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    timed("deciding upon every record", || {
        for name in &names {
            let backup = crate::stores::get(&stores.backups, "lifeboat", name).unwrap();
            let decision = decide_backup(&observe_backup(&backup, &stores, &liveness, &assignments, now), at(RECORDS));
            assert_eq!(decision.requeue_after, None);
        }
    });
    let touched = |is_heartbeat| TouchedObject {
        kind: Kind::Backup,
        name: names[0].clone(),
        schedule: Some("hourly".into()),
        location: Some("bucket".into()),
        is_heartbeat,
    };
    timed("100 heartbeats", || {
        for _ in 0..100 {
            assert_eq!(Schedules::wakes(&touched(true), &stores), Vec::<String>::new());
            assert_eq!(Backups::wakes(&touched(true), &stores).len(), 1);
        }
    });
    timed("100 other changes", || {
        for _ in 0..100 {
            assert_eq!(Backups::wakes(&touched(false), &stores).len(), 1);
        }
    });
}
