//! The gauges about objects: read from the caches, nothing kept. No I/O.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use lifeboat_crds::condition::{find, is_true};
use lifeboat_crds::{
    Condition, ConditionType, EtcdBackup, EtcdBackupLocationStatus, EtcdBackupSchedule, EtcdBackupScheduleStatus,
    EtcdBackupStatus, label,
};

use crate::kind::Kind;
use crate::metrics::GaugeRows;
use crate::stores::{Stores, readable};

/// Reads one number of a location.
type LocationValue = fn(&EtcdBackupLocationStatus) -> Option<f64>;
/// Reads one number of a schedule.
type ScheduleValue = fn(&EtcdBackupSchedule, &EtcdBackupScheduleStatus) -> Option<f64>;
type Rows = Vec<(Vec<(&'static str, String)>, f64)>;

/// Every gauge about objects.
pub fn object_gauges(stores: &Stores) -> Vec<GaugeRows> {
    let mut gauges = schedule_gauges(stores);
    gauges.extend(backup_gauges(stores));
    gauges.extend(location_gauges(stores));
    gauges.push(GaugeRows {
        name: "member_ready",
        help: "Whether the etcd member of a node can be backed up (1) or not (0)",
        rows: member_rows(stores),
    });
    gauges.push(GaugeRows {
        name: "malformed_objects",
        help: "Objects that the operator cannot read, by kind",
        rows: malformed_rows(stores),
    });
    gauges
}

fn schedule_gauges(stores: &Stores) -> Vec<GaugeRows> {
    let table: [(&'static str, &'static str, ScheduleValue); 10] = [
        (
            "schedule_last_success_timestamp_seconds",
            "Completion of the newest good backup of the schedule",
            |_, status| status.last_success_time.as_ref().map(seconds),
        ),
        ("schedule_next_run_timestamp_seconds", "Next run of the schedule", |_, status| {
            status
                .next_run_time
                .as_ref()
                .and_then(|time| time.parse::<Timestamp>().ok())
                .map(|time| seconds(&Time(time)))
        }),
        ("schedule_interval_seconds", "Longest time between two runs of the schedule", |_, status| {
            status.interval_seconds.map(float)
        }),
        ("schedule_objective_seconds", "Greatest age that the schedule's last success should have", |_, status| {
            status.objective_seconds.map(float)
        }),
        ("schedule_consecutive_failures", "Runs that failed since the last success", |_, status| {
            status.consecutive_failures.map(f64::from)
        }),
        ("schedule_ready", "Whether the schedule can be followed (1) or not (0); absent while unknown", |_, status| {
            truth(&status.conditions, ConditionType::Ready)
        }),
        ("schedule_suspended", "Whether the schedule is suspended", |schedule, _| {
            Some(f64::from(u8::from(schedule.spec.suspend)))
        }),
        ("schedule_retained_backups", "Good backups of the schedule", |_, status| {
            status.retained.as_ref().map(|retained| float(retained.count))
        }),
        ("schedule_retained_bytes", "Bytes that the good backups of the schedule take in the store", |_, status| {
            status.retained.as_ref().map(|retained| float(retained.bytes))
        }),
        (
            "schedule_created_timestamp_seconds",
            "When the schedule was made: its age while it has no success",
            |schedule, _| schedule.metadata.creation_timestamp.as_ref().map(seconds),
        ),
    ];
    let schedules = readable(&stores.schedules);
    let unseen = EtcdBackupScheduleStatus::default();
    table
        .into_iter()
        .map(|(name, help, value)| {
            let rows = schedules.iter().filter_map(|guarded| guarded.0.as_ref().ok()).filter_map(|schedule| {
                let shown = value(schedule, schedule.status.as_ref().unwrap_or(&unseen))?;
                Some((vec![("schedule", schedule.name_any())], shown))
            });
            GaugeRows { name, help, rows: rows.collect() }
        })
        .collect()
}

/// How a run stands, from its conditions; `status.phase` is for people and open-ended.
fn phase(backup: &EtcdBackup) -> &'static str {
    let status = backup.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    if is_true(conditions, ConditionType::Complete) {
        "Complete"
    } else if is_true(conditions, ConditionType::Failed) {
        "Failed"
    } else if status.is_some_and(|status| status.assignment.is_some()) {
        "Running"
    } else {
        "Pending"
    }
}

fn backup_gauges(stores: &Stores) -> Vec<GaugeRows> {
    let backups = readable(&stores.backups);
    let mut counts: BTreeMap<(String, &'static str), u32> = BTreeMap::new();
    let mut unusable: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut pinned: BTreeMap<String, u32> = BTreeMap::new();
    let mut newest: BTreeMap<String, &EtcdBackupStatus> = BTreeMap::new();
    for backup in backups.iter().filter_map(|guarded| guarded.0.as_ref().ok()) {
        // Empty for backups made by hand.
        let schedule = backup.labels().get(label::SCHEDULE).cloned().unwrap_or_default();
        let phase = phase(backup);
        *counts.entry((schedule.clone(), phase)).or_default() += 1;
        if let (Some(status), "Complete") = (backup.status.as_ref(), phase) {
            if let Some(ready) = find(&status.conditions, ConditionType::Ready).filter(|ready| ready.status == "False")
            {
                *unusable.entry((schedule.clone(), ready.reason.clone())).or_default() += 1;
            }
            if is_true(&status.conditions, ConditionType::Pinned) {
                *pinned.entry(schedule.clone()).or_default() += 1;
            }
            let before = newest.entry(schedule).or_insert(status);
            if completion(status) > completion(before) {
                *before = status;
            }
        }
    }
    let last = |value: fn(&EtcdBackupStatus) -> Option<f64>| -> Rows {
        newest
            .iter()
            .filter_map(|(schedule, status)| Some((vec![("schedule", schedule.clone())], value(status)?)))
            .collect()
    };
    vec![
        GaugeRows {
            name: "backups",
            help: "Backups by schedule (empty for those made by hand) and phase",
            rows: counts
                .into_iter()
                .map(|((schedule, phase), count)| {
                    (vec![("schedule", schedule), ("phase", phase.to_owned())], f64::from(count))
                })
                .collect(),
        },
        GaugeRows {
            name: "last_backup_duration_seconds",
            help: "How long the newest good backup took",
            rows: last(|status| status.duration_seconds.map(float)),
        },
        GaugeRows {
            name: "last_backup_size_bytes",
            help: "Size of the snapshot in the newest good backup",
            rows: last(|status| status.size_bytes.map(float)),
        },
        GaugeRows {
            name: "last_backup_stored_size_bytes",
            help: "Size of the newest good backup in the store",
            rows: last(|status| status.stored_size_bytes.map(float)),
        },
        GaugeRows {
            name: "last_backup_verified",
            help: "Whether the newest good backup was verified at the level asked for (1) or not (0)",
            rows: last(|status| Some(f64::from(u8::from(is_true(&status.conditions, ConditionType::Verified))))),
        },
        GaugeRows {
            name: "last_backup_verification_timestamp_seconds",
            help: "When the newest good backup was last verified",
            rows: last(|status| status.verification.as_ref().map(|proven| seconds(&proven.time))),
        },
        GaugeRows {
            name: "unusable_archives",
            help: "Archives that were complete once and are missing or altered now, by schedule and reason",
            rows: unusable
                .into_iter()
                .map(|((schedule, reason), count)| (vec![("schedule", schedule), ("reason", reason)], f64::from(count)))
                .collect(),
        },
        GaugeRows {
            name: "pinned_backups",
            help: "Backups that are kept for ever, by schedule",
            rows: pinned
                .into_iter()
                .map(|(schedule, count)| (vec![("schedule", schedule)], f64::from(count)))
                .collect(),
        },
    ]
}

fn completion(status: &EtcdBackupStatus) -> Option<Timestamp> {
    status.completion_time.as_ref().map(|time| time.0)
}

fn location_gauges(stores: &Stores) -> Vec<GaugeRows> {
    let table: [(&'static str, &'static str, LocationValue); 8] = [
        (
            "location_available",
            "Whether the location answered its last probe (1) or not (0); absent while unknown",
            |status| truth(&status.conditions, ConditionType::Available),
        ),
        (
            "location_writable",
            "Whether the location takes archives of this cluster (1) or not (0); absent while unknown",
            |status| truth(&status.conditions, ConditionType::Writable),
        ),
        (
            "location_last_probe_timestamp_seconds",
            "When the last answered probe of the location was asked for",
            |status| status.last_probe_time.as_ref().map(seconds),
        ),
        ("location_clock_skew_seconds", "The store's clock less that of the agent that asked it", |status| {
            status.clock_skew_seconds.map(float)
        }),
        ("location_backups", "Archives of this cluster in the location", |status| {
            status.backups.as_ref().map(|backups| float(backups.count))
        }),
        ("location_stored_bytes", "Bytes that the archives of this cluster take in the location", |status| {
            status.backups.as_ref().map(|backups| float(backups.bytes))
        }),
        ("location_newest_backup_timestamp_seconds", "Time of the newest archive in the location", |status| {
            status.backups.as_ref().and_then(|backups| backups.newest.as_ref()).map(seconds)
        }),
        (
            "location_full_catalog_timestamp_seconds",
            "When the archives were last compared with the records",
            |status| status.catalog.as_ref().and_then(|catalog| catalog.full_pass_time.as_ref()).map(seconds),
        ),
    ];
    let locations = readable(&stores.locations);
    let shown = table.into_iter().map(|(name, help, value)| {
        let rows = locations
            .iter()
            .filter_map(|guarded| guarded.0.as_ref().ok())
            .filter_map(|location| Some((vec![("location", location.name_any())], value(location.status.as_ref()?)?)));
        GaugeRows { name, help, rows: rows.collect() }
    });
    shown.collect()
}

/// A condition as a number; nothing where it is not known.
fn truth(conditions: &[Condition], type_: ConditionType) -> Option<f64> {
    match find(conditions, type_)?.status.as_str() {
        "True" => Some(1.0),
        "False" => Some(0.0),
        _unknown => None,
    }
}

fn member_rows(stores: &Stores) -> Rows {
    let members = readable(&stores.members);
    let shown = members.iter().filter_map(|guarded| guarded.0.as_ref().ok()).map(|member| {
        let is_ready = member.status.as_ref().is_some_and(|status| is_true(&status.conditions, ConditionType::Ready));
        (vec![("node", member.name_any())], f64::from(u8::from(is_ready)))
    });
    shown.collect()
}

fn malformed_rows(stores: &Stores) -> Rows {
    let row = |kind: Kind, all: usize, good: usize| {
        let bad = u32::try_from(all.saturating_sub(good)).unwrap_or(u32::MAX);
        (vec![("kind", kind.to_string())], f64::from(bad))
    };
    vec![
        row(Kind::Location, stores.locations.len(), readable(&stores.locations).len()),
        row(Kind::Schedule, stores.schedules.len(), readable(&stores.schedules).len()),
        row(Kind::Backup, stores.backups.len(), readable(&stores.backups).len()),
        row(Kind::Restore, stores.restores.len(), readable(&stores.restores).len()),
        row(Kind::Member, stores.members.len(), readable(&stores.members).len()),
    ]
}

fn seconds(time: &Time) -> f64 {
    float(time.0.as_second())
}

/// Seconds and bytes lie far below 2^53, where a float is still exact.
#[allow(clippy::cast_precision_loss)]
fn float(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::Gate;
    use crate::metrics::Metrics;
    use serde_json::{Value, json};

    fn object(kind: &str, name: &str, rest: Value) -> Value {
        let mut object = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "lifeboat", "uid": name}});
        let Value::Object(rest) = rest else { panic!("an object") };
        for (key, value) in rest {
            match (key.as_str(), value) {
                ("labels", labels) => object["metadata"]["labels"] = labels,
                (_, value) => object[key] = value,
            }
        }
        object
    }

    fn condition(type_: &str, status: &str) -> Value {
        json!({"type": type_, "status": status, "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-11-24T00:00:00Z"})
    }

    fn backup(name: &str, schedule: &str, condition_type: &str, done: &str, bytes: i64) -> Value {
        object(
            "EtcdBackup",
            name,
            json!({"labels": {label::SCHEDULE: schedule},
            "spec": {"locationRef": {"name": "bucket"}},
            "status": {"conditions": [condition(condition_type, "True")], "completionTime": done, "sizeBytes": bytes,
                "verification": {"level": "Content", "time": "1970-01-01T00:01:00Z"}}}),
        )
    }

    fn with_conditions(mut backup: Value, more: &[Value]) -> Value {
        backup["status"]["conditions"].as_array_mut().unwrap().extend_from_slice(more);
        backup
    }

    fn example() -> Stores {
        let (stores, mut writers) = Stores::new("lifeboat");
        writers.fill(
            &stores,
            &[
                object(
                    "EtcdBackupSchedule",
                    "nightly",
                    json!({
                "spec": {"schedule": "0 2 * * *", "template": {"spec": {"locationRef": {"name": "bucket"}}}},
                "status": {"conditions": [condition("Ready", "False")], "lastSuccessTime": "1970-01-01T00:16:40Z", "nextRunTime": "1970-01-01T01:20:00+01:00",
                    "intervalSeconds": 86400, "consecutiveFailures": 2, "retained": {"count": 5, "bytes": 10}}}),
                ),
                with_conditions(
                    backup("a", "nightly", "Complete", "2026-11-24T02:00:00Z", 100),
                    &[json!({"type": "Ready", "status": "False", "reason": "ArchiveMissing", "message": "",
                        "lastTransitionTime": "2026-11-24T00:00:00Z"})],
                ),
                with_conditions(
                    backup("b", "nightly", "Complete", "2026-11-25T02:00:00Z", 200),
                    &[condition("Ready", "True"), condition("Verified", "True"), condition("Pinned", "True")],
                ),
                backup("c", "nightly", "Failed", "2026-11-26T02:00:00Z", 300),
                object("EtcdBackup", "by-hand", json!({"spec": {"locationRef": {"name": "bucket"}}})),
                object("EtcdBackup", "broken", json!({"spec": 7})),
                object(
                    "EtcdBackupLocation",
                    "bucket",
                    json!({"spec": {"s3": {"bucket": "abc"}},
                "status": {"conditions": [condition("Available", "False"), condition("Writable", "Unknown")],
                    "clockSkewSeconds": -2, "backups": {"count": 3, "bytes": 42},
                    "catalog": {"passId": "p", "fullPassTime": "1970-01-01T00:02:00Z"}}}),
                ),
                object("EtcdMember", "m1", json!({"status": {"conditions": [condition("Ready", "True")]}})),
            ],
        );
        stores
    }

    #[test]
    fn objects_are_shown_as_they_are_in_the_caches() {
        let shown = Metrics::new(example(), Gate::fixed(true)).encode().unwrap();
        for line in [
            r#"lifeboat_schedule_last_success_timestamp_seconds{schedule="nightly"} 1000.0"#,
            r#"lifeboat_schedule_next_run_timestamp_seconds{schedule="nightly"} 1200.0"#,
            r#"lifeboat_schedule_interval_seconds{schedule="nightly"} 86400.0"#,
            r#"lifeboat_schedule_consecutive_failures{schedule="nightly"} 2.0"#,
            r#"lifeboat_schedule_ready{schedule="nightly"} 0.0"#,
            r#"lifeboat_schedule_suspended{schedule="nightly"} 0.0"#,
            r#"lifeboat_schedule_retained_backups{schedule="nightly"} 5.0"#,
            r#"lifeboat_backups{schedule="nightly",phase="Complete"} 2.0"#,
            r#"lifeboat_backups{schedule="nightly",phase="Failed"} 1.0"#,
            r#"lifeboat_backups{schedule="",phase="Pending"} 1.0"#,
            r#"lifeboat_last_backup_size_bytes{schedule="nightly"} 200.0"#,
            r#"lifeboat_schedule_retained_bytes{schedule="nightly"} 10.0"#,
            r#"lifeboat_last_backup_verified{schedule="nightly"} 1.0"#,
            r#"lifeboat_last_backup_verification_timestamp_seconds{schedule="nightly"} 60.0"#,
            r#"lifeboat_unusable_archives{schedule="nightly",reason="ArchiveMissing"} 1.0"#,
            r#"lifeboat_pinned_backups{schedule="nightly"} 1.0"#,
            r#"lifeboat_location_available{location="bucket"} 0.0"#,
            r#"lifeboat_location_backups{location="bucket"} 3.0"#,
            r#"lifeboat_location_stored_bytes{location="bucket"} 42.0"#,
            r#"lifeboat_location_full_catalog_timestamp_seconds{location="bucket"} 120.0"#,
            r#"lifeboat_location_clock_skew_seconds{location="bucket"} -2.0"#,
            r#"lifeboat_member_ready{node="m1"} 1.0"#,
            r#"lifeboat_malformed_objects{kind="EtcdBackup"} 1.0"#,
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\nnot in\n{shown}");
        }
        assert!(!shown.contains("lifeboat_location_writable{"), "unknown is not shown as a number");
        assert!(!shown.contains("lifeboat_schedule_objective_seconds{"), "what is not known is not shown");
    }

    #[test]
    fn a_follower_shows_no_objects() {
        let shown = Metrics::new(example(), Gate::fixed(false)).encode().unwrap();
        assert!(shown.contains("lifeboat_operator_leader 0"), "{shown}");
        assert!(!shown.contains("nightly"), "{shown}");
    }

    #[test]
    fn failed_reconciles_are_counted_by_controller_and_reason() {
        let metrics = Metrics::new(example(), Gate::fixed(true));
        metrics.count_error("backups", "Unavailable");
        metrics.count_error("backups", "Unavailable");
        let line = r#"lifeboat_reconcile_errors_total{controller="backups",reason="Unavailable"} 2"#;
        assert!(metrics.encode().unwrap().contains(line));
    }

    #[test]
    fn the_reference_names_every_metric_and_no_other() {
        let reference = include_str!("../../docs/reference/metrics.md");
        let operators = reference.split("## Operator").nth(1).unwrap().split("## Agent").next().unwrap();
        let named: Vec<&str> =
            operators.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let metrics = Metrics::new(example(), Gate::fixed(true));
        metrics.count_error("backups", "Unavailable");
        let shown = metrics.encode().unwrap();
        let types: Vec<String> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, type_)| match type_ {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            })
            .collect();
        for name in &types {
            assert!(named.contains(&name.as_str()), "{name} is not in docs/reference/metrics.md");
        }
        for name in named {
            assert!(types.iter().any(|shown| shown == name), "the reference names {name}, which is not shown");
        }
    }
}
