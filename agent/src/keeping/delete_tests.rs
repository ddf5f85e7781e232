use std::sync::Arc;

use bytes::Bytes;
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, ObjectKey, ObjectStore, Operation, PutMode, StoreError};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::keeping::{remove_pin, write_pin};

const NOW: &str = "2026-11-24T12:00:00Z";
const PREFIX: &str = "uid/backups/20261124-020304-00000001/";

fn deletion() -> Deletion {
    Deletion { by: "schedule nightly".into(), reasons: vec!["older than 3 days".into()], now: NOW.parse().unwrap() }
}

/// A place with an archive of two attempts, and an upload that nobody completed.
async fn place() -> (FaultyStore, Place) {
    let (store, _, place) = place_over().await;
    (store, place)
}

/// The same with the store below, which no fault strikes.
async fn place_over() -> (FaultyStore, MemoryStore, Place) {
    let below = MemoryStore::new();
    let store = FaultyStore::new(below.clone());
    for name in ["manifest.json", "snapshot-1-aa.db.zst", "snapshot-2-bb.db.zst"] {
        put(&store, name, "{}").await;
    }
    // Neither the neighbour nor a longer name of the same beginning is touched.
    put(&store, "../20261124-020304-00000002/manifest.json", "{}").await;
    drop(store.begin_upload(&key("snapshot-3-cc.db.zst")).await.unwrap());
    let place = Place {
        store: Arc::new(store.clone()),
        cluster: "uid".into(),
        backup: "20261124-020304-00000001".parse().unwrap(),
        known: lifeboat_crds::signing::KnownKeys::default(),
        cancel: CancellationToken::new(),
    };
    (store, below, place)
}

fn key(name: &str) -> ObjectKey {
    let text = match name.strip_prefix("../") {
        Some(other) => format!("uid/backups/{other}"),
        None => format!("{PREFIX}{name}"),
    };
    ObjectKey::parse(text).unwrap()
}

async fn put(store: &FaultyStore, name: &str, text: &'static str) {
    store.put(&key(name), Bytes::from_static(text.as_bytes()), PutMode::Overwrite).await.unwrap();
}

async fn names(store: &dyn ObjectStore) -> Vec<String> {
    let listed = store.list_all("uid/backups/", 100).await.unwrap();
    listed
        .iter()
        .map(|object| object.key.as_str().trim_start_matches("uid/backups/20261124-020304-").to_owned())
        .collect()
}

const LEFT: [&str; 2] = ["00000001/expired.json", "00000002/manifest.json"];

#[tokio::test]
async fn everything_of_the_archive_goes_and_who_and_why_stays() {
    let (store, place) = place().await;
    delete_archive(&place, &deletion()).await.unwrap();
    assert_eq!(names(&store).await, LEFT);
    assert!(store.list_uploads("").await.unwrap().is_empty());
    let expired = place.expired().await.unwrap().unwrap();
    assert_eq!((expired.by.as_str(), expired.reasons[0].as_str()), ("schedule nightly", "older than 3 days"));
    let again = Deletion { by: "another".into(), ..deletion() };
    delete_archive(&place, &again).await.unwrap();
    assert_eq!(place.expired().await.unwrap().unwrap().by, "schedule nightly", "the first word stays");
}

/// Cut off after each call to the store in turn, whether the call landed or not: no data ever goes before the manifest, and
/// the next call finishes.
#[tokio::test(start_paused = true)]
async fn power_may_go_at_any_point() {
    for operation in [Operation::Put, Operation::Get, Operation::Head, Operation::Delete, Operation::List] {
        for call in 1..=8 {
            for has_landed in [false, true] {
                let (store, below, place) = place_over().await;
                // Calls that made the place count too.
                let made = if operation == Operation::Put { 4 } else { 0 };
                let denied = StoreError::AccessDenied { store: "s".into(), words: "cut off".into(), check: "" };
                let fault = if has_landed { Fault::LandThenFail(denied) } else { Fault::Fail(denied) };
                store.plan(operation, made + call, fault);
                let first = delete_archive(&place, &deletion()).await;
                let left = names(&below).await;
                let has = |name: &str| left.iter().any(|found| found == &format!("00000001/{name}"));
                let is_touched = !has("manifest.json") || !has("snapshot-1-aa.db.zst") || !has("snapshot-2-bb.db.zst");
                assert!(!is_touched || has("expired.json"), "{operation:?} {call}: deleted without a word: {left:?}");
                let has_all_data = has("snapshot-1-aa.db.zst") && has("snapshot-2-bb.db.zst");
                assert!(
                    !has("manifest.json") || has_all_data,
                    "{operation:?} {call}: a manifest without data: {left:?}"
                );
                if first.is_err() {
                    delete_archive(&place, &deletion()).await.unwrap();
                }
                assert_eq!(names(&below).await, LEFT, "{operation:?} {call}");
            }
        }
    }
}

#[tokio::test]
async fn a_pin_is_believed_also_where_it_cannot_be_read() {
    let (store, place) = place().await;
    write_pin(&place, "audit", NOW.parse().unwrap()).await.unwrap();
    let error = delete_archive(&place, &deletion()).await.unwrap_err();
    assert!(matches!(&error, KeepError::Pinned(words) if words == "audit"), "{error}");
    assert!(names(&store).await.iter().any(|name| name.ends_with("1/manifest.json")));
    assert!(place.expired().await.unwrap().is_none(), "nothing was given up");
    put(&store, "pin.json", "no JSON").await;
    let error = delete_archive(&place, &deletion()).await.unwrap_err();
    assert!(matches!(error, KeepError::Document { .. }), "{error}");
    remove_pin(&place).await.unwrap();
    delete_archive(&place, &deletion()).await.unwrap();
    assert_eq!(names(&store).await, LEFT);
}

#[tokio::test]
async fn a_store_that_is_sick_is_not_taken_for_one_without_a_pin() {
    let (store, place) = place().await;
    let denied = StoreError::AccessDenied { store: "s".into(), words: "no".into(), check: "" };
    store.plan(Operation::Get, 1, Fault::Fail(denied));
    assert!(matches!(delete_archive(&place, &deletion()).await.unwrap_err(), KeepError::Store(_)));
    assert!(names(&store).await.iter().any(|name| name.ends_with("1/manifest.json")));
}

#[tokio::test]
async fn a_pin_that_comes_while_the_deletion_has_begun_stops_it() {
    let (_, place) = place().await;
    place.write(&place.expired_key().unwrap(), mark(&place)).await.unwrap();
    // The deleter died after its first word. Now somebody pins.
    let pin = write_pin(&place, "audit", NOW.parse().unwrap()).await.unwrap();
    assert_eq!(pin.reason, "audit");
    assert!(place.expired().await.unwrap().is_none(), "it is not given up any more");
    assert!(matches!(delete_archive(&place, &deletion()).await, Err(KeepError::Pinned(_))));
}

fn mark(place: &Place) -> Expired {
    let Deletion { by, reasons, now } = deletion();
    Expired { backup_id: place.backup.clone(), by, reasons, time: now }
}

#[tokio::test]
async fn what_is_gone_cannot_be_pinned() {
    let (_, place) = place().await;
    delete_archive(&place, &deletion()).await.unwrap();
    let error = write_pin(&place, "too late", NOW.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, KeepError::Gone { .. }), "{error}");
    assert!(place.pin().await.unwrap().is_none(), "no pin stays beside nothing");
}

#[tokio::test]
async fn an_archive_that_the_store_holds_stays_whole_and_is_called_held() {
    let (store, place) = place().await;
    let held = StoreError::RetentionHeld { key: key("manifest.json"), words: "locked".into() };
    store.plan(Operation::Delete, 1, Fault::Fail(held));
    let error = delete_archive(&place, &deletion()).await.unwrap_err();
    assert_eq!(error.reason(), lifeboat_crds::Reason::RetentionHeld);
    assert_eq!(names(&store).await.len(), 5, "three objects, the mark, the neighbour");
}
