//! Who wins, who adopts, what is deleted and what never.

use lifeboat_crds::document::Envelope;
use lifeboat_crds::signing::{KnownKeys, SigningKey};
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation};

use super::*;
use crate::manifest::ManifestError;

const CLUSTER: &str = "uid";

fn id() -> BackupId {
    "20261124-020304-00000001".parse().unwrap()
}

/// The manifest of an archive of one byte.
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

fn known(seeds: &[u8]) -> KnownKeys {
    let mut known = KnownKeys::default();
    known.extend(seeds.iter().map(|seed| SigningKey::from_seed([*seed; 32]).public()));
    known
}

struct Library {
    store: FaultyStore,
    is_conditional: bool,
    backup: BackupId,
    keys: HostKeys,
    cancel: CancellationToken,
}

impl Library {
    fn new(is_conditional: bool) -> Self {
        let store = FaultyStore::new(MemoryStore::new());
        let keys = HostKeys { signer: Some(SigningKey::from_seed([1; 32])), known: known(&[1]) };
        Self { store, is_conditional, backup: id(), keys, cancel: CancellationToken::new() }
    }

    fn shelf(&self) -> Shelf<'_> {
        let location = OpenLocation { store: Arc::new(self.store.clone()), is_conditional: self.is_conditional };
        Shelf::new(&location, CLUSTER, &self.backup, &self.keys, &self.cancel)
    }

    async fn put_data(&self, name: &str, bytes: &'static [u8]) {
        let key = ObjectKey::parse(layout::data(CLUSTER, &self.backup, name)).unwrap();
        self.store.put(&key, Bytes::from_static(bytes), PutMode::Overwrite).await.unwrap();
    }

    async fn names(&self) -> Vec<String> {
        let prefix = layout::backup_prefix(CLUSTER, &self.backup);
        let listed = self.store.list_all(&prefix, 100).await.unwrap();
        listed.iter().map(|object| object.key.as_str().trim_start_matches(&prefix).to_owned()).collect()
    }
}

#[tokio::test]
async fn the_first_manifest_counts_and_what_the_losers_left_goes() {
    let library = Library::new(true);
    library.put_data("snapshot-1-aa.db.zst", b"x").await;
    library.put_data("snapshot-2-bb.db.zst", b"x").await;
    let unfinished = ObjectKey::parse(layout::data(CLUSTER, &id(), "snapshot-3-cc.db.zst")).unwrap();
    drop(library.store.begin_upload(&unfinished).await.unwrap());
    let shelf = library.shelf();
    assert_eq!(shelf.adopt().await.unwrap(), None);
    let first = shelf.publish(manifest(2, "snapshot-2-bb.db.zst")).await.unwrap();
    let late = shelf.publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    assert_eq!((first.attempt, late.attempt), (2, 2));
    assert_eq!(library.names().await, ["manifest.json", "snapshot-2-bb.db.zst"]);
    assert!(library.store.list_uploads("").await.unwrap().is_empty());
    assert_eq!(shelf.adopt().await.unwrap(), Some(first));
}

/// An agent that was cut off from the API server for a day.
#[tokio::test]
async fn what_was_deleted_meanwhile_is_not_brought_back() {
    for is_conditional in [true, false] {
        let library = Library::new(is_conditional);
        library.put_data("snapshot-1-aa.db.zst", b"x").await;
        library.put_data("snapshot-2-bb.db.zst", b"x").await;
        library.put_data("expired.json", b"{}").await;
        let error = library.shelf().publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap_err();
        assert!(matches!(error, BackupError::GivenUp { .. }), "{error}");
        assert_eq!(library.names().await, ["expired.json"]);
        // One whose deletion came to nothing is there.
        let library = Library::new(is_conditional);
        library.put_data("snapshot-2-bb.db.zst", b"x").await;
        library.shelf().publish(manifest(2, "snapshot-2-bb.db.zst")).await.unwrap();
        library.put_data("expired.json", b"{}").await;
        let published = library.shelf().publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
        assert_eq!(published.attempt, 2);
        assert_eq!(library.names().await, ["expired.json", "manifest.json", "snapshot-2-bb.db.zst"]);
    }
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_still_ours() {
    let library = Library::new(true);
    library.put_data("snapshot-1-aa.db.zst", b"x").await;
    let lost = StoreError::Unavailable { store: "s".into(), words: "reset".into() };
    library.store.plan(Operation::Put, 2, Fault::LandThenFail(lost));
    let published = library.shelf().publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    assert_eq!(published.attempt, 1);
}

/// A request of a process that was killed may land later: the data it names must still be there then.
#[tokio::test]
async fn a_manifest_that_lands_late_finds_its_data() {
    let library = Library::new(true);
    library.put_data("snapshot-1-old.db.zst", b"x").await;
    let shelf = library.shelf();
    // The successor repeats the attempt; meanwhile the old manifest lands.
    assert_eq!(shelf.adopt().await.unwrap(), None);
    library.put_data("snapshot-1-new.db.zst", b"x").await;
    let late = SealedManifest::unsigned(manifest(1, "snapshot-1-old.db.zst")).to_bytes().unwrap();
    library.store.put(&shelf.manifest_key().unwrap(), late.into(), PutMode::CreateNew).await.unwrap();
    let published = shelf.publish(manifest(1, "snapshot-1-new.db.zst")).await.unwrap();
    assert_eq!(published.data, "snapshot-1-old.db.zst");
    assert_eq!(library.names().await, ["manifest.json", "snapshot-1-old.db.zst"]);
}

#[tokio::test]
async fn no_manifest_is_believed_whose_data_is_not_there() {
    let library = Library::new(true);
    let sealed = SealedManifest::unsigned(manifest(1, "snapshot-1-gone.db.zst")).to_bytes().unwrap();
    let shelf = library.shelf();
    library.store.put(&shelf.manifest_key().unwrap(), sealed.into(), PutMode::Overwrite).await.unwrap();
    assert!(matches!(shelf.adopt().await, Err(BackupError::DataMissing { .. })));
    library.put_data("snapshot-2-mine.db.zst", b"x").await;
    assert!(matches!(shelf.publish(manifest(2, "snapshot-2-mine.db.zst")).await, Err(BackupError::DataMissing { .. })));
    assert_eq!(library.names().await, ["manifest.json", "snapshot-2-mine.db.zst"], "nothing was deleted");
    library.put_data("snapshot-1-gone.db.zst", b"longer").await;
    assert!(matches!(shelf.adopt().await, Err(BackupError::DataDiffers { found: 6, expected: 1, .. })));
}

/// Two attempts that both believe to be first, on a store that ignores conditions.
#[tokio::test]
async fn without_conditional_create_nobody_deletes() {
    let library = Library::new(false);
    library.put_data("snapshot-1-aa.db.zst", b"x").await;
    library.put_data("snapshot-2-bb.db.zst", b"x").await;
    let shelf = library.shelf();
    let first = shelf.publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    // The second looked before the first wrote.
    let second = SealedManifest::unsigned(manifest(2, "snapshot-2-bb.db.zst")).to_bytes().unwrap();
    library.store.put(&shelf.manifest_key().unwrap(), second.into(), PutMode::Overwrite).await.unwrap();
    assert_eq!(first.attempt, 1);
    let names = library.names().await;
    assert_eq!(names, ["manifest.json", "snapshot-1-aa.db.zst", "snapshot-2-bb.db.zst"], "whichever counts is whole");
    assert_eq!(shelf.adopt().await.unwrap().unwrap().attempt, 2);
    assert_eq!(shelf.publish(manifest(3, "snapshot-3-cc.db.zst")).await.unwrap().attempt, 2, "a later one adopts");
}

#[tokio::test]
async fn a_manifest_of_another_backup_in_our_place_is_reported() {
    let library = Library::new(true);
    let mut foreign = manifest(1, "d");
    foreign.backup_id = "20261124-020304-0000000f".parse().unwrap();
    let bytes = SealedManifest::unsigned(foreign).to_bytes().unwrap();
    let shelf = library.shelf();
    library.store.put(&shelf.manifest_key().unwrap(), bytes.into(), PutMode::Overwrite).await.unwrap();
    let error = shelf.adopt().await.unwrap_err();
    assert!(matches!(error, BackupError::Manifest(ManifestError::Foreign { .. })), "{error}");
}

#[tokio::test]
async fn a_manifest_is_signed_where_there_is_a_key_and_written_all_the_same_where_there_is_none() {
    for signer in [Some(SigningKey::from_seed([1; 32])), None] {
        let mut library = Library::new(true);
        let expected = signer.as_ref().map_or(SignatureState::Unsigned, |key| SignatureState::Valid(key.public().id()));
        library.keys.signer = signer;
        library.put_data("snapshot-1-aa.db.zst", b"x").await;
        let shelf = library.shelf();
        shelf.publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
        let bytes = library.store.get_small(&shelf.manifest_key().unwrap(), 1 << 20).await.unwrap();
        let (store, known, cancel) = (shelf.store.as_ref(), &known(&[1]), &library.cancel);
        let manifests = Manifests { store, cluster: CLUSTER, known, patience: SMALL_PATIENCE, cancel };
        assert_eq!(manifests.fetch(&id()).await.unwrap().signature, expected);
        let envelope = Envelope::<serde_json::Value>::from_bytes(&bytes).unwrap();
        assert_eq!(envelope.key_id.is_some(), envelope.signature.is_some());
    }
}

/// What another installation signed is a backup all the same; what somebody altered is none.
#[tokio::test]
async fn an_altered_manifest_is_not_adopted_and_one_of_an_unknown_key_is() {
    let mut library = Library::new(true);
    library.put_data("snapshot-1-aa.db.zst", b"x").await;
    let published = library.shelf().publish(manifest(1, "snapshot-1-aa.db.zst")).await.unwrap();
    library.keys.known = known(&[2]);
    assert_eq!(library.shelf().adopt().await.unwrap(), Some(published));
    library.keys.known = known(&[1, 2]);
    let key = library.shelf().manifest_key().unwrap();
    let bytes = library.store.get_small(&key, 1 << 20).await.unwrap();
    let altered =
        String::from_utf8(bytes.to_vec()).unwrap().replace("\"etcdVersion\":\"3.6.0\"", "\"etcdVersion\":\"3.5.0\"");
    library.store.put(&key, Bytes::from(altered), PutMode::Overwrite).await.unwrap();
    let error = library.shelf().adopt().await.unwrap_err();
    assert!(matches!(error, BackupError::Manifest(ManifestError::Altered { .. })), "{error}");
    assert_eq!(error.reason(), lifeboat_crds::Reason::ArchiveCorrupt);
}
