//! Reading back, from stores that behave and stores that do not; the snapshot is one of real etcd.

use age::secrecy::ExposeSecret;
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation, PutMode};

use super::*;
use crate::archive::encryption::parse_identities;

const SNAPSHOT: &[u8] = include_bytes!("../../../snapshot/tests/data/etcd-3.6-used.db.zst");

fn key_name() -> ObjectKey {
    ObjectKey::parse("data").unwrap()
}

fn manifest(stored: &[u8]) -> Manifest {
    let raw = zstd::decode_all(SNAPSHOT).unwrap();
    serde_json::from_value(serde_json::json!({
        "backupId": "20261124-020304-00000001", "data": "data", "attempt": 1,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "uid", "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": raw.len(),
            "sha256": hex::encode(Sha256::digest(&raw)), "revision": 203},
        "archive": {"sizeBytes": stored.len(), "sha256": hex::encode(Sha256::digest(stored)), "compression": "zstd"},
        "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap()
}

async fn store(bytes: &[u8]) -> FaultyStore {
    let store = FaultyStore::new(MemoryStore::new());
    store.put(&key_name(), Bytes::copy_from_slice(bytes), PutMode::Overwrite).await.unwrap();
    store
}

async fn read(store: &FaultyStore, manifest: &Manifest, sink: Option<File>) -> Result<Facts, ReadError> {
    let reading = Reading { sink, ..Reading::default() };
    read_archive(store, &key_name(), manifest, reading, &Arc::default(), &CancellationToken::new()).await
}

#[tokio::test]
async fn a_whole_archive_is_proven_and_its_snapshot_written() {
    let store = store(SNAPSHOT).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.db");
    let facts = read(&store, &manifest(SNAPSHOT), Some(File::create(&path).unwrap())).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), zstd::decode_all(SNAPSHOT).unwrap());
    assert!(matches!(facts.content, Content::Verified(database) if database.revision == 203));
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let store = store(SNAPSHOT).await;
    store.plan(Operation::Get, 1, Fault::BreakBodyAfter(700));
    store.plan(Operation::Get, 2, Fault::BreakBodyAfter(900));
    read(&store, &manifest(SNAPSHOT), None).await.unwrap();
    assert_eq!(store.calls(Operation::Get), 3);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_corruption() {
    for offset in (0..SNAPSHOT.len() as u64).step_by(97) {
        let store = store(SNAPSHOT).await;
        store.plan(Operation::Get, 1, Fault::FlipBit(offset));
        let error = read(&store, &manifest(SNAPSHOT), None).await.unwrap_err();
        let words = error.to_string();
        assert!(words.contains("corrupt"), "byte {offset}: {words}");
    }
}

#[tokio::test]
async fn a_truncated_and_a_swapped_archive_are_told() {
    let whole = manifest(SNAPSHOT);
    let error = read(&store(&SNAPSHOT[..SNAPSHOT.len() - 9]).await, &whole, None).await.unwrap_err();
    assert!(error.to_string().contains("corrupt"), "{error}");
    // Another sound snapshot under the same name, and a manifest whose archive part was adapted to it.
    let other = include_bytes!("../../../snapshot/tests/data/etcd-3.7-used.db.zst");
    let adapted = Manifest { archive: manifest(other).archive, ..whole };
    let error = read(&store(other).await, &adapted, None).await.unwrap_err();
    assert!(matches!(error, ReadError::Mismatch(_)), "{error}");
}

#[tokio::test]
async fn an_archive_that_is_gone_is_called_gone_and_not_corrupt() {
    let error = read(&FaultyStore::new(MemoryStore::new()), &manifest(SNAPSHOT), None).await.unwrap_err();
    assert!(matches!(error, ReadError::Store(StoreError::NotFound { .. })), "{error}");
}

#[tokio::test]
async fn what_is_no_archive_is_told() {
    let noise: Vec<u8> = (0..10_000).map(|_| rand::random()).collect();
    let packed = zstd::encode_all(&noise[..], 1).unwrap();
    for bytes in [&noise[..], &packed[..], b""] {
        let error = read(&store(bytes).await, &manifest(bytes), None).await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt(_) | ReadError::Snapshot(_)), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_lost_half_way_is_no_corruption() {
    let store = store(SNAPSHOT).await;
    store.plan(Operation::Get, 1, Fault::BreakBodyAfter(700));
    let denied = StoreError::AccessDenied { store: "s".into(), words: "no".into(), check: "the key" };
    store.plan(Operation::Get, 2, Fault::Fail(denied));
    let error = read(&store, &manifest(SNAPSHOT), None).await.unwrap_err();
    assert!(matches!(error, ReadError::Store(StoreError::AccessDenied { .. })), "{error:?}");
}

#[tokio::test]
async fn an_encrypted_archive_is_read_with_its_key_and_refused_without() {
    let (key_of_it, stranger) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let stored = age::encrypt(&key_of_it.to_public(), SNAPSHOT).unwrap();
    let mut manifest = manifest(&stored);
    manifest.archive.recipients = vec![key_of_it.to_public().to_string()];
    let read = async |key: Option<&age::x25519::Identity>, stored: &[u8]| {
        let identities = key.map(|key| parse_identities(key.to_string().expose_secret()).unwrap());
        let reading = Reading { identities: identities.map(Arc::new), ..Reading::default() };
        read_archive(&store(stored).await, &key_name(), &manifest, reading, &Arc::default(), &CancellationToken::new())
            .await
    };
    let facts = read(Some(&key_of_it), &stored).await.unwrap();
    assert!(matches!(facts.content, Content::Verified(database) if database.revision == 203));
    for (key, words) in [(None, "no key"), (Some(&stranger), "none of the keys")] {
        let error = read(key, &stored).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("--identity"), "{error}");
    }
    for offset in (0..stored.len()).step_by(stored.len() / 23) {
        let mut flipped = stored.clone();
        flipped[offset] ^= 1;
        let error = read(Some(&key_of_it), &flipped).await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt(_) | ReadError::Encrypted { .. }), "byte {offset}: {error}");
    }
}
