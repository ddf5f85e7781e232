use bytes::Bytes;
use lifeboat_crds::document::Envelope;
use lifeboat_crds::signing::{Domain, SigningKey};
use lifeboat_storage::{MemoryStore, PutMode};
use serde_json::json;

use super::*;
use crate::catalog::listing::{Data, Listing};
use crate::catalog::records::Archive;

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

fn record(state: State) -> Record {
    Record { id: ID.parse().unwrap(), name: "b".into(), uid: "u".into(), state, told: None }
}

fn complete() -> State {
    State::Complete(Archive { stored: 9, sha256: 1, completion: at(0) })
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
        ("a deletion that was cut off before the manifest went", listed(true, Some(0), false, &[0]), 99 * DAY, None),
        ("the same, and data of a loser", listed(true, Some(0), false, &[0, 0]), 99 * DAY, None),
        ("one whose manifest went", listed(false, Some(0), false, &[0]), DAY, Some(Remnant::Rest)),
        ("one whose manifest went less than a day ago", listed(false, Some(1), false, &[0]), DAY, None),
        ("pinned since", listed(false, Some(0), true, &[0]), 99 * DAY, None),
        ("the word alone", listed(false, Some(0), false, &[]), month - 1, None),
        ("the word alone, after a month", listed(false, Some(0), false, &[]), month, Some(Remnant::Mark)),
    ] {
        assert_eq!(remnant_of(&listed, &[], at(hour)), expected, "{case}");
    }
}

#[test]
fn the_word_that_an_archive_was_given_up_is_taken_back_where_its_record_keeps_it() {
    let given_up = listed(true, Some(0), false, &[0]);
    for (case, records, hour, expected) in [
        ("kept", vec![complete()], DAY, Some(Remnant::TakenBack)),
        ("kept, and given up in this moment", vec![complete()], DAY - 1, None),
        ("let go", vec![State::Leaving], 99 * DAY, None),
        ("let go by one of two", vec![complete(), State::Leaving], 99 * DAY, None),
        ("a run that failed, and its import", vec![State::Failed, complete()], DAY, Some(Remnant::TakenBack)),
        ("a run that failed", vec![State::Failed], 99 * DAY, None),
        ("no record", vec![], 99 * DAY, None),
    ] {
        let records: Vec<Record> = records.into_iter().map(record).collect();
        assert_eq!(remnant_of(&given_up, &records, at(hour)), expected, "{case}");
    }
}

async fn put(store: &MemoryStore, key: &str, body: impl Into<Bytes>) {
    store.put(&ObjectKey::parse(key).unwrap(), body.into(), PutMode::Overwrite).await.unwrap();
}

fn manifest(id: &str, data: &str) -> Vec<u8> {
    manifest_of("me", id, data)
}

fn manifest_of(cluster: &str, id: &str, data: &str) -> Vec<u8> {
    serde_json::to_vec(&json!({"formatVersion": "1.0", "payload": payload_of(cluster, id, data)})).unwrap()
}

fn payload_of(cluster: &str, id: &str, data: &str) -> serde_json::Value {
    json!({"backupId": id, "data": data, "attempt": 1,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": cluster, "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 40, "sha256": "00"},
        "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
        "verification": {"level": "Checksum", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {}})
}

async fn all_keys(store: &MemoryStore) -> Vec<String> {
    store.list_all("", 100).await.unwrap().iter().map(|object| object.key.as_str().to_owned()).collect()
}

/// A sweep that is asked for at a time.
struct Sweep<'s> {
    asked: Timestamp,
    is_conditional: bool,
    known: KnownKeys,
    /// Of every archive.
    records: &'s [Record],
    running: &'s [&'s str],
}

impl Sweep<'_> {
    fn at(asked: Timestamp) -> Self {
        Self { asked, is_conditional: true, known: KnownKeys::default(), records: &[], running: &[] }
    }

    /// What it does to a store.
    async fn of(self, store: &MemoryStore) -> Swept {
        let Self { asked, is_conditional, known, records, running } = self;
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let cancel = CancellationToken::new();
        let mut listing = Listing::new(Arc::clone(&shared), "me", None, &cancel);
        let mut remnants = Vec::new();
        loop {
            let page = listing.next().await.unwrap();
            if page.is_empty() {
                break;
            }
            let found = page.into_iter().filter_map(|listed| Some((remnant_of(&listed, records, asked)?, listed)));
            remnants.extend(found.map(|(remnant, listed)| (listed, remnant)));
        }
        let running = running.iter().map(|id| id.parse().unwrap()).collect();
        let sweeper = Sweeper {
            store: shared,
            cluster: "me",
            known: &known,
            asked,
            is_conditional,
            running: &running,
            cancel: &cancel,
        };
        sweeper.sweep(&remnants).await
    }
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap()
}

fn mark(id: &str) -> Vec<u8> {
    serde_json::to_vec(&json!({"formatVersion": "1.0", "payload": {"backupId": id, "by": "a policy", "reasons": [],
        "time": "2026-11-24T03:00:00Z"}}))
    .unwrap()
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
    put(&store, &format!("{cut}/snapshot-1-aa.db.zst"), "x").await;
    put(&store, &format!("{cut}/expired.json"), mark("20261124-020304-00000002")).await;
    put(&store, &format!("{lone}/snapshot-1-aa.db.zst"), "whose?").await;
    put(&store, &format!("{foreign}/snapshot-1-aa.db.zst"), "theirs").await;
    let upload = store.begin_upload(&ObjectKey::parse(format!("{lone}/snapshot-9-ff.db.zst")).unwrap()).await.unwrap();
    let theirs = store.begin_upload(&ObjectKey::parse(format!("{foreign}/y")).unwrap()).await.unwrap();
    let before = all_keys(&store).await;

    assert_eq!(Sweep::at(Timestamp::now()).of(&store).await, Swept::default(), "nothing is a day old");
    assert_eq!(all_keys(&store).await, before);
    let later = in_hours(25);
    let unconditional = Sweep { is_conditional: false, ..Sweep::at(later) };
    assert_eq!(unconditional.of(&store).await, Swept { removed: 1, aborted: 1 }, "nobody has lost for good there");
    assert!(all_keys(&store).await.contains(&format!("{good}/snapshot-1-aa.db.zst")));
    assert_eq!(Sweep::at(later).of(&store).await, Swept { removed: 1, aborted: 0 });
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
    let month = in_hours(31 * DAY);
    assert_eq!(Sweep::at(month).of(&store).await, Swept { removed: 1, aborted: 0 }, "the word itself");
    assert!(!all_keys(&store).await.contains(&format!("{cut}/expired.json")));
}

#[tokio::test]
async fn data_stays_where_the_manifest_names_what_is_not_there() {
    let store = MemoryStore::new();
    put(&store, &format!("me/backups/{ID}/manifest.json"), manifest(ID, "snapshot-3-cc.db.zst")).await;
    put(&store, &format!("me/backups/{ID}/snapshot-1-aa.db.zst"), "one").await;
    put(&store, &format!("me/backups/{ID}/snapshot-2-bb.db.zst"), "two").await;
    assert_eq!(Sweep::at(in_hours(25)).of(&store).await, Swept::default());
    assert_eq!(all_keys(&store).await.len(), 3);
}

/// Deletions that failed, for want of a right or by a lock, must not be made up for a year later by those who find the word.
#[tokio::test]
async fn an_archive_is_never_deleted_by_the_word_alone() {
    let store = MemoryStore::new();
    put(&store, &format!("me/backups/{ID}/manifest.json"), manifest(ID, "snapshot-1-aa.db.zst")).await;
    put(&store, &format!("me/backups/{ID}/snapshot-1-aa.db.zst"), "one").await;
    put(&store, &format!("me/backups/{ID}/expired.json"), mark(ID)).await;
    let before = all_keys(&store).await;
    for records in [vec![], vec![record(State::Leaving)], vec![record(State::Failed)]] {
        let sweep = Sweep { records: &records, ..Sweep::at(in_hours(400 * DAY)) };
        assert_eq!(sweep.of(&store).await, Swept::default(), "{records:?}");
        assert_eq!(all_keys(&store).await, before);
    }
    // And where the record keeps it, it is given up no more: its data does not go with a manifest that is lost one day.
    let kept = Sweep { records: &[record(complete())], ..Sweep::at(in_hours(25)) };
    assert_eq!(kept.of(&store).await, Swept { removed: 1, aborted: 0 });
    assert!(!all_keys(&store).await.contains(&format!("me/backups/{ID}/expired.json")));
    store.delete(&ObjectKey::parse(format!("me/backups/{ID}/manifest.json")).unwrap()).await.unwrap();
    assert_eq!(Sweep::at(in_hours(400 * DAY)).of(&store).await, Swept::default());
    assert_eq!(all_keys(&store).await, [format!("me/backups/{ID}/snapshot-1-aa.db.zst")]);
}

#[tokio::test]
async fn no_data_goes_by_a_manifest_that_is_not_to_be_believed() {
    let key = SigningKey::from_seed([1; 32]);
    let mut known = KnownKeys::default();
    known.insert(key.public());
    let sealed = Envelope::sign(payload_of("me", ID, "snapshot-1-aa.db.zst"), Domain::MANIFEST, &key).unwrap();
    let sealed = String::from_utf8(sealed.to_bytes().unwrap()).unwrap();
    let altered = sealed.replace("snapshot-1-aa", "snapshot-2-bb");
    for (case, manifest, removed) in [
        ("altered", altered.into_bytes(), 0),
        ("another cluster's", manifest_of("other", ID, "snapshot-2-bb.db.zst"), 0),
        ("as it was signed", sealed.into_bytes(), 1),
    ] {
        let store = MemoryStore::new();
        put(&store, &format!("me/backups/{ID}/manifest.json"), manifest).await;
        put(&store, &format!("me/backups/{ID}/snapshot-1-aa.db.zst"), "one").await;
        put(&store, &format!("me/backups/{ID}/snapshot-2-bb.db.zst"), "two").await;
        let sweep = Sweep { known: known.clone(), ..Sweep::at(in_hours(25)) };
        assert_eq!(sweep.of(&store).await, Swept { removed, aborted: 0 }, "{case}");
        assert!(all_keys(&store).await.contains(&format!("me/backups/{ID}/snapshot-1-aa.db.zst")), "{case}");
    }
}

/// A run may take a week (spec.limits.timeoutSeconds).
#[tokio::test]
async fn an_upload_of_a_run_that_goes_on_is_left_to_it() {
    let store = MemoryStore::new();
    let key = ObjectKey::parse(format!("me/backups/{ID}/snapshot-1-aa.db.zst")).unwrap();
    drop(store.begin_upload(&key).await.unwrap());
    let running = Sweep { running: &[ID], ..Sweep::at(in_hours(3 * DAY)) };
    assert_eq!(running.of(&store).await, Swept::default());
    let other = Sweep { running: &["20261124-020304-00000002"], ..Sweep::at(in_hours(25)) };
    assert_eq!(other.of(&store).await, Swept { removed: 0, aborted: 1 });
}
