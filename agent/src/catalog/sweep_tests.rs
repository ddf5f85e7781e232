use bytes::Bytes;
use lifeboat_storage::{MemoryStore, PutMode};
use serde_json::json;

use super::*;
use crate::catalog::listing::{Data, Listing};

const DAY: i64 = 24;
const ID: &str = "20261124-020304-00000001";

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3_600).unwrap()
}

fn listed(manifest: bool, expired: Option<i64>, is_pinned: bool, data: &[i64]) -> Listed {
    let file = |(number, hour): (usize, &i64)| Data {
        name: format!("snapshot-{number}-aa.db.zst"),
        size: 9,
        modified: Some(at(*hour)),
    };
    Listed {
        id: ID.parse().unwrap(),
        manifest: manifest.then_some(Some(at(0))),
        is_expired: expired.is_some(),
        expired: expired.map(at),
        is_pinned,
        data: data.iter().enumerate().map(file).collect(),
    }
}

#[test]
fn only_what_nobody_can_need_is_a_remnant() {
    let month = 30 * DAY;
    for (case, listed, hour, expected) in [
        ("a good archive", listed(true, None, false, &[0]), 99 * DAY, None),
        ("data of a loser", listed(true, None, false, &[0, 0]), DAY, Some(Remnant::Losers)),
        ("an attempt that may go on", listed(true, None, false, &[1, 1]), DAY, None),
        ("data without a manifest", listed(false, None, false, &[0]), 99 * DAY, None),
        ("a deletion under way", listed(true, Some(1), false, &[0]), DAY, None),
        ("a deletion that was cut off", listed(true, Some(0), false, &[0]), DAY, Some(Remnant::Deletion)),
        ("one whose manifest went", listed(false, Some(0), false, &[0]), DAY, Some(Remnant::Deletion)),
        ("pinned since", listed(true, Some(0), true, &[0]), 99 * DAY, None),
        ("the word alone", listed(false, Some(0), false, &[]), month - 1, None),
        ("the word alone, after a month", listed(false, Some(0), false, &[]), month, Some(Remnant::Mark)),
    ] {
        assert_eq!(remnant_of(&listed, at(hour)), expected, "{case}");
    }
}

async fn put(store: &MemoryStore, key: &str, body: impl Into<Bytes>) {
    store.put(&ObjectKey::parse(key).unwrap(), body.into(), PutMode::Overwrite).await.unwrap();
}

fn manifest(id: &str, data: &str) -> Vec<u8> {
    let payload = json!({"backupId": id, "data": data, "attempt": 1,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "me", "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 40, "sha256": "00"},
        "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
        "verification": {"level": "Checksum", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {}});
    serde_json::to_vec(&json!({"formatVersion": "1.0", "payload": payload})).unwrap()
}

async fn all_keys(store: &MemoryStore) -> Vec<String> {
    store.list_all("", 100).await.unwrap().iter().map(|object| object.key.as_str().to_owned()).collect()
}

/// What a sweep that was asked for at a time does to a store.
async fn sweep(store: &MemoryStore, asked: Timestamp, is_conditional: bool) -> Swept {
    let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let mut listing = Listing::new(Arc::clone(&shared), "me", None);
    let mut remnants = Vec::new();
    loop {
        let page = listing.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        remnants.extend(page.into_iter().filter_map(|listed| Some((remnant_of(&listed, asked)?, listed))));
    }
    let remnants: Vec<_> = remnants.into_iter().map(|(remnant, listed)| (listed, remnant)).collect();
    let (known, cancel) = (KnownKeys::default(), CancellationToken::new());
    let sweeper = Sweeper { store: shared, cluster: "me", known: &known, asked, is_conditional, cancel: &cancel };
    sweeper.sweep(&remnants).await
}

#[tokio::test]
async fn a_sweep_removes_what_is_a_day_old_and_nobodys_and_leaves_the_rest() {
    let store = MemoryStore::new();
    let dir = |id: &str| format!("me/backups/{id}");
    let (good, cut, lone, foreign) =
        (dir(ID), dir("20261124-020304-00000002"), dir("20261124-020304-00000003"), "other/backups/x");
    put(&store, &format!("{good}/manifest.json"), manifest(ID, "snapshot-2-bb.db.zst")).await;
    put(&store, &format!("{good}/snapshot-1-aa.db.zst"), "loser").await;
    put(&store, &format!("{good}/snapshot-2-bb.db.zst"), "winner").await;
    put(&store, &format!("{cut}/manifest.json"), "{}").await;
    put(&store, &format!("{cut}/snapshot-1-aa.db.zst"), "x").await;
    let mark = json!({"formatVersion": "1.0", "payload": {"backupId": "20261124-020304-00000002", "by": "a policy",
        "reasons": [], "time": "2026-11-24T03:00:00Z"}});
    put(&store, &format!("{cut}/expired.json"), serde_json::to_vec(&mark).unwrap()).await;
    put(&store, &format!("{lone}/snapshot-1-aa.db.zst"), "whose?").await;
    put(&store, &format!("{foreign}/snapshot-1-aa.db.zst"), "theirs").await;
    let upload = store.begin_upload(&ObjectKey::parse(format!("{lone}/snapshot-9-ff.db.zst")).unwrap()).await.unwrap();
    let theirs = store.begin_upload(&ObjectKey::parse(format!("{foreign}/y")).unwrap()).await.unwrap();
    let before = all_keys(&store).await;

    assert_eq!(sweep(&store, Timestamp::now(), true).await, Swept::default(), "nothing is a day old");
    assert_eq!(all_keys(&store).await, before);
    let later = Timestamp::now().checked_add(SignedDuration::from_hours(25)).unwrap();
    assert_eq!(sweep(&store, later, false).await, Swept { removed: 1, aborted: 1 }, "nobody has lost for good there");
    assert!(all_keys(&store).await.contains(&format!("{good}/snapshot-1-aa.db.zst")));
    assert_eq!(sweep(&store, later, true).await, Swept { removed: 1, aborted: 0 });
    let mut left = vec![
        format!("{good}/manifest.json"),
        format!("{good}/snapshot-2-bb.db.zst"),
        format!("{cut}/expired.json"),
        format!("{lone}/snapshot-1-aa.db.zst"),
        format!("{foreign}/snapshot-1-aa.db.zst"),
    ];
    left.sort();
    let mut now = all_keys(&store).await;
    now.sort();
    assert_eq!(now, left);
    let uploads = store.list_uploads("").await.unwrap();
    assert_eq!(uploads.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), [format!("{foreign}/y")]);
    drop((upload, theirs));
    let month = Timestamp::now().checked_add(SignedDuration::from_hours(31 * 24)).unwrap();
    assert_eq!(sweep(&store, month, true).await, Swept { removed: 1, aborted: 0 }, "the word itself");
    assert!(!all_keys(&store).await.contains(&format!("{cut}/expired.json")));
}

#[tokio::test]
async fn data_stays_where_the_manifest_names_what_is_not_there() {
    let store = MemoryStore::new();
    put(&store, &format!("me/backups/{ID}/manifest.json"), manifest(ID, "snapshot-3-cc.db.zst")).await;
    put(&store, &format!("me/backups/{ID}/snapshot-1-aa.db.zst"), "one").await;
    put(&store, &format!("me/backups/{ID}/snapshot-2-bb.db.zst"), "two").await;
    let later = Timestamp::now().checked_add(SignedDuration::from_hours(25)).unwrap();
    assert_eq!(sweep(&store, later, true).await, Swept::default());
    assert_eq!(all_keys(&store).await.len(), 3);
}
