//! Content that does not fit into the stream's memory, on a real etcd that holds a value larger than its window.

use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation};

use super::*;
use crate::archive::encode::Packing;
use crate::archive::transfer::{Transfer, Transferred, begin_upload, run_transfer};
use crate::etcd::server::RealEtcd;
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest};

/// Larger than the window of a stream, 16 MiB.
const VALUE: usize = 20 << 20;

fn manifest(transferred: &Transferred, recipients: &[&str]) -> Manifest {
    let Transferred { facts, encoded, hash_kv: _ } = transferred;
    serde_json::from_value(serde_json::json!({
        "backupId": "20261124-020304-00000001", "data": "data", "attempt": 1,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "uid", "etcdClusterId": "1", "members": []},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": facts.size,
            "sha256": hex::encode(facts.file_sha256)},
        "archive": {"sizeBytes": encoded.size, "sha256": hex::encode(encoded.sha256), "compression": "zstd",
            "recipients": recipients},
        "verification": {"level": "Checksum", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_larger_than_the_window_is_proven_from_a_read_back() {
    let etcd = RealEtcd::start("3.6", &["--max-request-bytes=67108864"]).await;
    assert!(etcd.fill(1, VALUE).await);
    let (store, key) = (FaultyStore::new(MemoryStore::new()), ObjectKey::parse("uid/data").unwrap());
    let (progress, cancel) = (Arc::default(), CancellationToken::new());
    let spool = tempfile::tempdir().unwrap();
    let bounds = Bounds { deadline: Instant::now() + Duration::from_secs(90), cancel: &cancel };
    let limits = SnapshotLimits { transfer: Duration::from_secs(60), no_progress: Duration::from_secs(20) };
    let transfer = Transfer {
        client: etcd.client().await,
        snapshot: SnapshotRequest { limits, bytes_per_second: None, require_leader: true },
        level: lifeboat_snapshot::Level::Content,
        wants_hash_kv: true,
        packing: Packing { zstd_level: 1, recipients: None },
        turn: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        spool_directory: spool.path().join("run"),
        spool_bytes: 1 << 30,
        spool_reserve_percent: 0,
        deadline: bounds.deadline,
    };
    let place: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let upload = begin_upload(&place, &key, bounds.deadline, &cancel).await.unwrap();
    let transferred = run_transfer(transfer, &upload, &progress, &cancel).await.unwrap();
    let streamed = Proof::of_stream(&transferred.facts);
    assert_eq!(streamed.level, VerificationLevel::Checksum, "{:?}", transferred.facts);
    assert!(matches!(transferred.hash_kv, Some(Err(HashKvError::Unverified { .. }))));

    let reading = Semaphore::new(1);
    let plain = manifest(&transferred, &[]);
    let archive = Unpublished { store: &store, key: &key, manifest: &plain, progress: &progress, reading: &reading };
    let proven = prove_content(streamed.clone(), &archive, bounds).await.unwrap();
    assert_eq!((proven.level, &proven.shortfall), (VerificationLevel::Content, &None));
    let Content::Verified(database) = proven.content else { panic!("not verified") };
    assert_eq!(database.revision, etcd.status().await.revision);

    // Nobody here could decrypt it.
    let sealed = manifest(&transferred, &["age1x"]);
    let archive = Unpublished { manifest: &sealed, ..archive };
    let short = prove_content(streamed.clone(), &archive, bounds).await.unwrap();
    assert_eq!((short.level, &short.content), (VerificationLevel::Checksum, &streamed.content));
    assert_eq!(short.shortfall.unwrap().reason, "VerificationFailed");

    // A store that is away says nothing against the archive; one that gives other bytes does.
    let archive = Unpublished { manifest: &plain, ..archive };
    let denied = lifeboat_storage::StoreError::AccessDenied { store: "s".into(), words: "no".into(), check: "the key" };
    store.plan_next(Operation::Get, Fault::Fail(denied));
    let short = prove_content(streamed.clone(), &archive, bounds).await.unwrap();
    assert!(short.shortfall.unwrap().message.contains("could not be read back"));
    store.plan_next(Operation::Get, Fault::FlipBit(1_000_000));
    let error = prove_content(streamed, &archive, bounds).await.unwrap_err();
    assert!(matches!(error, BackupError::ReadBack(_)), "{error}");
    assert_eq!(error.reason(), Reason::VerificationFailed);
}
