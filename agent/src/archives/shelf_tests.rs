use bytes::Bytes;
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation, PutMode};
use serde_json::json;

use super::*;

fn id(number: u32) -> String {
    format!("20261124-{:02}{:02}{:02}-{number:08x}", number / 3_600, number / 60 % 60, number % 60)
}

struct Bed {
    store: FaultyStore,
    shelf: Shelf,
}

impl Bed {
    fn new() -> Self {
        let store = FaultyStore::new(MemoryStore::new());
        Self { shelf: Shelf::of(Arc::new(store.clone()), KnownKeys::default()), store }
    }

    async fn write(&self, number: u32, body: impl Into<Bytes>) {
        let key = ObjectKey::parse(format!("me/backups/{}/manifest.json", id(number))).unwrap();
        self.store.put(&key, body.into(), PutMode::Overwrite).await.unwrap();
    }

    /// An archive whose snapshot was begun at a second of the day.
    async fn archive(&self, number: u32, begun: i64) {
        let start = Timestamp::from_second(1_795_478_400 + begun).unwrap();
        let payload = json!({"backupId": id(number), "data": "d", "attempt": 1,
            "object": {"namespace": "n", "name": format!("b{number}"), "spec": {"locationRef": {"name": "l"}}},
            "cluster": {"uid": "me", "etcdClusterId": "1", "members": []},
            "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 40, "sha256": "00"},
            "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
            "verification": {"level": "Checksum", "time": "2026-11-24T02:03:04Z"},
            "startTime": start.to_string(), "completionTime": start.to_string(), "tools": {}});
        self.write(number, serde_json::to_vec(&json!({"formatVersion": "1.0", "payload": payload})).unwrap()).await;
    }

    async fn find(&self, wanted: &str) -> Option<String> {
        let found = self.shelf.find(wanted).await.unwrap();
        found.map(|found| found.manifest.object.name)
    }
}

#[tokio::test]
async fn one_manifest_that_cannot_be_used_hides_no_other() {
    let bed = Bed::new();
    for number in 1..=3 {
        bed.archive(number, i64::from(number)).await;
    }
    bed.write(4, r#"{"formatVersion":"9.0"}"#).await;
    bed.write(5, "{").await;
    assert_eq!(bed.find("latest").await.as_deref(), Some("b3"));
    assert_eq!(bed.find("b2").await.as_deref(), Some("b2"));
    assert_eq!(bed.find("b9").await, None);
    let listed = bed.shelf.manifests().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|found| found.manifest.object.name.as_str()).collect();
    assert_eq!(names, ["b3", "b2", "b1"]);
    // Named by its id, what is the matter with it is the answer.
    assert!(bed.shelf.find(&id(4)).await.unwrap_err().to_string().contains("newer version"));
}

#[tokio::test]
async fn an_archive_that_is_deleted_in_this_moment_is_not_there() {
    let bed = Bed::new();
    bed.archive(1, 1).await;
    bed.archive(2, 2).await;
    let key = ObjectKey::parse("x").unwrap();
    bed.store.plan(Operation::Get, 2, Fault::Fail(StoreError::NotFound { store: "s".into(), key }));
    assert_eq!(bed.shelf.manifests().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_falters_is_asked_again_and_one_that_is_away_is_no_empty_one() {
    let bed = Bed::new();
    bed.archive(1, 1).await;
    let away = || StoreError::Unavailable { store: "s".into(), words: "reset".into() };
    bed.store.plan(Operation::List, 1, Fault::Fail(away()));
    bed.store.plan(Operation::Get, 1, Fault::Fail(away()));
    assert_eq!(bed.find("latest").await.as_deref(), Some("b1"));
    for call in 0..1_000 {
        bed.store.plan(Operation::Get, 3 + call, Fault::Fail(away()));
    }
    assert!(matches!(bed.shelf.find("latest").await, Err(ArchiveError::Store(StoreError::Unavailable { .. }))));
}

#[tokio::test]
async fn the_latest_of_many_is_found_by_reading_few() {
    let bed = Bed::new();
    let now = Timestamp::now().as_second() - 1_795_478_400;
    for number in 1..=100 {
        bed.archive(number, now - 9_000 - i64::from(number)).await;
    }
    assert_eq!(bed.find("latest").await.as_deref(), Some("b1"), "begun last, although asked for first");
    // Written last, and begun long after the others were written.
    bed.archive(50, now + 7_200).await;
    let before = bed.store.calls(Operation::Get);
    assert_eq!(bed.find("latest").await.as_deref(), Some("b50"));
    assert_eq!(bed.store.calls(Operation::Get) - before, 16);
    assert_eq!((bed.store.calls(Operation::Head), bed.store.calls(Operation::List)), (0, 2));
}
