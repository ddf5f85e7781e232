use std::sync::Arc;

use lifeboat_crds::manifest::SealedManifest;
use lifeboat_crds::signing::{Domain, KnownKeys, SigningKey};
use lifeboat_storage::{MemoryStore, ObjectKey, ObjectStore, PutMode};
use serde_json::json;

use super::*;

fn archive(day: u32, schedule: Option<&str>) -> Archive {
    let name = format!("{}-202611{day:02}060000", schedule.unwrap_or("x"));
    let manifest = serde_json::from_value(json!({
        "backupId": format!("202611{day:02}-060000-00000001"), "data": "snapshot-1-aa.db.zst", "attempt": 1,
        "object": {"namespace": "n", "name": name, "schedule": schedule, "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "me", "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1, "sha256": "00"},
        "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
        "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
        "startTime": format!("2026-11-{day:02}T06:00:00Z"), "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap();
    Archive { manifest, pin: None, stored: Some(1), doubt: None, hold: None }
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
    assert_eq!(judged(archives(), Some("b")), ["b-20261103060000 Keep last 1 of 1"], "all others are left out");
    assert!(refuse_unknown("b", &archives()).is_ok());
    let error = refuse_unknown("nosuch", &archives()).unwrap_err();
    assert!(error.to_string().ends_with("schedules with archives: a, b") && error.exit_code() == 4, "{error}");
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

#[test]
fn an_archive_made_by_hand_from_a_copy_of_a_run_is_not_the_schedules() {
    let mut copied = archive(1, Some("a"));
    copied.manifest.object.name = "before-the-upgrade".into();
    let [row, ..] = &judged(vec![copied, archive(2, Some("a"))], None)[..] else { panic!() };
    assert_eq!(row, "before-the-upgrade Keep not counted: made by hand: no policy lets it go");
}

/// Altered manifests and archives whose deletion has begun let no other go: nobody may count on them.
#[tokio::test]
async fn what_was_altered_or_given_up_is_not_counted() {
    let key = SigningKey::from_seed([1; 32]);
    let mut known = KnownKeys::default();
    known.insert(key.public());
    let store = MemoryStore::new();
    let put = async |key: String, body: Vec<u8>| {
        store.put(&ObjectKey::parse(key).unwrap(), body.into(), PutMode::Overwrite).await.unwrap();
    };
    for day in 1..=5 {
        let mut manifest = archive(day, Some("a")).manifest;
        if day == 5 {
            manifest.cluster.uid = "other".into();
        }
        let dir = format!("me/backups/{}", manifest.backup_id);
        let sealed = SealedManifest::sign(manifest, Domain::MANIFEST, &key).unwrap().to_bytes().unwrap();
        let altered = String::from_utf8(sealed.clone()).unwrap().replace("\"3.6.0\"", "\"3.6.1\"").into_bytes();
        put(format!("{dir}/manifest.json"), if day == 4 { altered } else { sealed }).await;
        put(format!("{dir}/snapshot-1-aa.db.zst"), b"x".to_vec()).await;
        if day == 3 {
            put(format!("{dir}/expired.json"), b"{}".to_vec()).await;
        }
    }
    let archives = survey(&Shelf::of(Arc::new(store.clone()), known)).await.unwrap();
    assert_eq!(
        judged(archives, None),
        [
            "a-20261101060000 Expire kept by no rule (last 1)",
            "a-20261102060000 Keep last 1 of 1",
            "a-20261103060000 Keep not counted: it was given up, and its deletion is not finished",
            "a-20261104060000 Keep not counted: its manifest was altered",
            "a-20261105060000 Keep not counted: its manifest is of another cluster",
        ]
    );
}

#[tokio::test]
async fn told_to_end_it_begins_no_further_deletion_and_says_how_many_are_left() {
    let shelf = Shelf::of(Arc::new(MemoryStore::new()), KnownKeys::default());
    shelf.cancel.cancel();
    let archives = vec![archive(1, Some("a")), archive(2, Some("a")), archive(3, Some("a"))];
    let rows = judge(archives, &keep_last(1), &TimeZone::UTC, None, "2026-11-24T12:00:00Z".parse().unwrap());
    let going = rows.into_iter().filter(|row| row.decision == ExpiryDecision::Expire).collect();
    let error = carry_out(&shelf, going, &mut std::io::sink(), Format::Table).await.unwrap_err();
    assert!(error.to_string().ends_with("told to end: 2 of 2 were not begun"), "{error}");
}
