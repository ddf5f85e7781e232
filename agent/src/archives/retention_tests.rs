use serde_json::json;

use super::*;

fn archive(day: u32, schedule: Option<&str>) -> Archive {
    let name = format!("{}-202611{day:02}060000", schedule.unwrap_or("x"));
    let manifest = serde_json::from_value(json!({
        "backupId": format!("202611{day:02}-060000-00000001"), "data": "d", "attempt": 1,
        "object": {"namespace": "n", "name": name, "schedule": schedule, "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "u", "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1, "sha256": "00"},
        "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
        "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
        "startTime": format!("2026-11-{day:02}T06:00:00Z"), "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap();
    Archive { manifest, pin: None, stored: Some(1), hold: None }
}

fn keep_last(number: i32) -> Retention {
    Retention {
        keep_last: number,
        keep_daily: 0,
        keep_weekly: 0,
        keep_monthly: 0,
        minimum_healthy: 1,
        ..Retention::default()
    }
}

fn judged(archives: Vec<Archive>, only: Option<&str>) -> Vec<String> {
    let rows = judge(archives, &keep_last(1), &TimeZone::UTC, only, "2026-11-24T12:00:00Z".parse().unwrap());
    rows.iter().map(|row| format!("{} {:?} {}", row.name, row.decision, row.reasons.join(", "))).collect()
}

#[test]
fn each_schedule_is_judged_apart_and_what_was_made_by_hand_stays() {
    let archives = || vec![archive(1, Some("a")), archive(2, Some("a")), archive(3, Some("b")), archive(1, None)];
    assert_eq!(
        judged(archives(), None),
        [
            "x-20261101060000 Keep not counted: made by hand: no policy lets it go",
            "a-20261101060000 Expire kept by no rule (last 1)",
            "a-20261102060000 Keep last 1 of 1",
            "b-20261103060000 Keep last 1 of 1",
        ]
    );
    assert_eq!(judged(archives(), Some("b")).len(), 2, "those of other schedules are left out");
}

#[test]
fn an_archive_without_its_data_lets_no_other_go() {
    let mut lost = archive(3, Some("a"));
    lost.stored = None;
    let mut short = archive(2, Some("a"));
    short.stored = Some(0);
    assert_eq!(
        judged(vec![lost, short, archive(1, Some("a"))], None),
        [
            "a-20261103060000 Keep not counted: its data is gone",
            "a-20261102060000 Keep not counted: its data has another size than was written",
            "a-20261101060000 Keep last 1 of 1",
        ]
    );
}
