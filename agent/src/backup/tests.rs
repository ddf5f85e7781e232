//! The shelf of a backup: who wins, who adopts, what is deleted and what never.

use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation, PutMode};

use super::*;

const CLUSTER: &str = "uid";

fn id() -> BackupId {
    "20261124-020304-00000001".parse().unwrap()
}

fn manifest(attempt: i32, data: &str) -> Manifest {
    serde_json::from_value(serde_json::json!({
        "backupId": id().as_str(), "data": data, "attempt": attempt,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": CLUSTER, "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1, "sha256": "00"},
        "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
        "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap()
}

struct Library {
    store: FaultyStore,
    backup: BackupId,
    cancel: CancellationToken,
}

impl Library {
    fn new() -> Self {
        Self { store: FaultyStore::new(MemoryStore::new()), backup: id(), cancel: CancellationToken::new() }
    }

    fn shelf(&self) -> Shelf<'_> {
        Shelf { store: Arc::new(self.store.clone()), cluster: CLUSTER, backup: &self.backup, cancel: &self.cancel }
    }

    async fn put_data(&self, name: &str) {
        let key = ObjectKey::parse(layout::data(CLUSTER, &self.backup, name)).unwrap();
        self.store.put(&key, Bytes::from_static(b"x"), PutMode::Overwrite).await.unwrap();
    }

    async fn names(&self) -> Vec<String> {
        let prefix = layout::backup_prefix(CLUSTER, &self.backup);
        let listed = self.store.list_all(&prefix, 100).await.unwrap();
        listed.iter().map(|object| object.key.as_str().trim_start_matches(&prefix).to_owned()).collect()
    }
}

#[tokio::test]
async fn the_first_manifest_counts_and_the_losers_data_goes() {
    let library = Library::new();
    library.put_data("snapshot-1-aa.db.zst").await;
    library.put_data("snapshot-2-bb.db.zst").await;
    let shelf = library.shelf();
    assert_eq!(shelf.fetch_manifest().await.unwrap(), None);
    let first = shelf.publish(manifest(2, "snapshot-2-bb.db.zst")).await.unwrap();
    let late = shelf.publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    assert_eq!((first.attempt, late.attempt), (2, 2));
    assert_eq!(library.names().await, ["manifest.json", "snapshot-2-bb.db.zst"]);
    assert_eq!(shelf.fetch_manifest().await.unwrap(), Some(first));
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_still_ours() {
    let library = Library::new();
    let lost = StoreError::Unavailable { store: "s".into(), words: "reset".into() };
    library.store.plan(Operation::Put, 1, Fault::LandThenFail(lost));
    let published = library.shelf().publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    assert_eq!(published.attempt, 1);
}

#[tokio::test]
async fn only_leftovers_of_the_same_attempt_are_deleted_before_a_manifest_exists() {
    let library = Library::new();
    for name in ["snapshot-1-aa.db.zst", "snapshot-2-bb.db.zst", "snapshot-21-cc.db.zst"] {
        library.put_data(name).await;
    }
    let key = ObjectKey::parse(layout::data(CLUSTER, &id(), "snapshot-2-dd.db.zst")).unwrap();
    drop(library.store.begin_upload(&key).await.unwrap());
    library.shelf().delete_leftovers(2).await.unwrap();
    assert_eq!(library.names().await, ["snapshot-1-aa.db.zst", "snapshot-21-cc.db.zst"]);
    assert!(library.store.list_uploads("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_manifest_of_another_backup_in_our_place_is_reported() {
    let library = Library::new();
    let mut foreign = manifest(1, "d");
    foreign.backup_id = "20261124-020304-0000000f".parse().unwrap();
    let bytes = SealedManifest::unsigned(foreign).to_bytes().unwrap();
    let shelf = library.shelf();
    library.store.put(&shelf.manifest_key().unwrap(), bytes.into(), PutMode::Overwrite).await.unwrap();
    let error = shelf.fetch_manifest().await.unwrap_err();
    assert!(matches!(error, BackupError::ForeignManifest { .. }), "{error}");
}
