//! The transfer against real etcd servers, into stores that behave and stores that do not.

use futures::TryStreamExt;
use lifeboat_snapshot::{Content, verify_reader};
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation};
use rustix::process::Signal;
use tokio::sync::Semaphore;

use super::*;
use crate::etcd::server::{LINES, RealEtcd};
use crate::etcd::snapshot::SnapshotLimits;

fn key() -> ObjectKey {
    ObjectKey::parse("uid/backups/b/snapshot-1-aa.db.zst").unwrap()
}

struct Bench {
    etcd: RealEtcd,
    store: FaultyStore,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    spool: tempfile::TempDir,
    turn: Arc<Semaphore>,
}

impl Bench {
    async fn new(line: &str, values: usize) -> Self {
        let etcd = RealEtcd::start(line, &[]).await;
        assert!(etcd.fill(values, 100_000).await);
        Self {
            etcd,
            store: FaultyStore::new(MemoryStore::new()),
            progress: Arc::default(),
            cancel: CancellationToken::new(),
            spool: tempfile::tempdir().unwrap(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    async fn transfer(&self) -> Transfer {
        let limits = SnapshotLimits { transfer: Duration::from_secs(60), no_progress: Duration::from_secs(5) };
        Transfer {
            client: self.etcd.client().await,
            snapshot: SnapshotRequest { limits, bytes_per_second: None, require_leader: true },
            level: Level::Content,
            wants_hash_kv: false,
            packing: Packing { zstd_level: 1, recipients: None },
            turn: Arc::clone(&self.turn).try_acquire_owned().unwrap(),
            spool_directory: self.spool.path().join("run"),
            spool_bytes: 1 << 30,
            spool_reserve_percent: 0,
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }

    async fn run(&self, transfer: Transfer) -> Result<Transferred, TransferError> {
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.clone());
        let upload = begin_upload(&store, &key(), transfer.deadline, &self.cancel).await?;
        upload.or_nothing(run_transfer(transfer, &upload, &self.progress, &self.cancel)).await
    }

    async fn stored(&self) -> Vec<u8> {
        let chunks: Vec<Bytes> = self.store.get(&key()).await.unwrap().body.try_collect().await.unwrap();
        chunks.concat()
    }

    /// Whether the store holds neither an object nor an upload.
    async fn is_clean(&self) -> bool {
        let left = self.store.list_all("", 10).await.unwrap();
        left.is_empty()
            && self.store.list_uploads("").await.unwrap().is_empty()
            && !self.spool.path().join("run").exists()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Progress) -> bool) {
        let begun = Instant::now();
        while !holds(&self.progress) {
            assert!(begun.elapsed() < Duration::from_secs(20), "never came: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_the_snapshot_that_was_proven() {
    for line in LINES {
        let bench = Bench::new(line, 250).await;
        let Transferred { facts, encoded, hash_kv: _ } = bench.run(bench.transfer().await).await.unwrap();
        let stored = bench.stored().await;
        assert_eq!(encoded.size, stored.len() as u64);
        let snapshot = zstd::decode_all(&stored[..]).unwrap();
        assert_eq!(verify_reader(&snapshot[..], Options::default()).unwrap(), facts);
        let Content::Verified(database) = &facts.content else { panic!("not verified: {facts:?}") };
        assert_eq!(database.revision, bench.etcd.status().await.revision);
        assert_eq!(bench.progress.bytes(), Some((facts.size, facts.size)));
        // 25 MB of noise are four parts.
        assert!(bench.store.calls(Operation::PutPart) >= 3, "{}", bench.store.calls(Operation::PutPart));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stumbles_is_asked_again() {
    let bench = Bench::new("3.6", 250).await;
    let away = || StoreError::Unavailable { store: "s".into(), words: "connection reset".into() };
    bench.store.plan(Operation::BeginUpload, 1, Fault::Fail(away()));
    bench.store.plan(Operation::PutPart, 2, Fault::Fail(away()));
    bench.store.plan(Operation::PutPart, 3, Fault::LandThenFail(away()));
    bench.store.plan(Operation::Complete, 1, Fault::LandThenFail(away()));
    let facts = bench.run(bench.transfer().await).await.unwrap().facts;
    let snapshot = zstd::decode_all(&bench.stored().await[..]).unwrap();
    assert_eq!(verify_reader(&snapshot[..], Options::default()).unwrap(), facts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_fills_the_spool_and_not_etcds_patience() {
    let bench = Bench::new("3.6", 600).await;
    for call in 1..=2 {
        bench.store.plan(Operation::PutPart, call, Fault::Delay(Duration::from_secs(3)));
    }
    let running = bench.run(bench.transfer().await);
    let read = async {
        bench.until("etcd read to its end", |progress| progress.stage() == Stage::Uploading).await;
        // Both uploads still wait: everything else lies in memory or in files.
        std::fs::read_dir(bench.spool.path().join("run")).unwrap().count()
    };
    let (done, files) = tokio::join!(running, read);
    assert!(files >= 3, "{files} files");
    let facts = done.unwrap().facts;
    let snapshot = zstd::decode_all(&bench.stored().await[..]).unwrap();
    assert_eq!(verify_reader(&snapshot[..], Options::default()).unwrap(), facts);
    assert!(!bench.spool.path().join("run").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_is_given_back_once_every_part_is_with_the_store() {
    let bench = Bench::new("3.6", 250).await;
    bench.store.plan(Operation::Complete, 1, Fault::Delay(Duration::from_secs(2)));
    let transfer = bench.transfer().await;
    let looked = async {
        let is_completing = |_: &Progress| bench.store.calls(Operation::Complete) > 0;
        assert_eq!(bench.turn.available_permits(), 0);
        bench.until("the completion", is_completing).await;
        bench.turn.available_permits()
    };
    let (done, free) = tokio::join!(bench.run(transfer), looked);
    done.unwrap();
    assert_eq!(free, 1, "a store that is slow to complete keeps others from reading etcd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_ends_it_before_etcd_is_asked() {
    let bench = Bench::new("3.6", 1).await;
    let refusal = StoreError::AccessDenied { store: "s".into(), words: "no".into(), check: "the key" };
    bench.store.plan(Operation::BeginUpload, 1, Fault::Fail(refusal.clone()));
    let error = bench.run(bench.transfer().await).await.unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::AccessDenied { .. })), "{error:?}");
    assert_eq!(bench.progress.bytes(), None);
    // And one that changes its mind half way.
    bench.store.plan_next(Operation::PutPart, Fault::Fail(refusal));
    let error = bench.run(bench.transfer().await).await.unwrap_err();
    assert!(matches!(error, TransferError::Store(StoreError::AccessDenied { .. })), "{error:?}");
    assert!(bench.is_clean().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_hangs_or_dies_leaves_nothing() {
    let bench = Bench::new("3.6", 250).await;
    let slowly = |mut transfer: Transfer| {
        transfer.snapshot.bytes_per_second = Some(2 << 20);
        transfer
    };
    let is_read = |progress: &Progress| progress.bytes().is_some_and(|(done, _)| done > 1 << 20);
    let (hung, ()) = tokio::join!(bench.run(slowly(bench.transfer().await)), async {
        bench.until("some bytes", is_read).await;
        bench.etcd.signal(Signal::STOP);
    });
    let error = hung.unwrap_err();
    assert!(matches!(error, TransferError::Etcd(EtcdError::NoProgress { .. } | EtcdError::Broken { .. })), "{error:?}");
    assert_eq!(bench.progress.stage(), Stage::Reading, "a store is not what was waited for");
    assert!(bench.is_clean().await);
    bench.etcd.signal(Signal::CONT);
    bench.etcd.wait_for("answer", |_| true).await;
    bench.progress.expect(0);
    let (dead, ()) = tokio::join!(bench.run(slowly(bench.transfer().await)), async {
        bench.until("some bytes", is_read).await;
        bench.etcd.signal(Signal::KILL);
    });
    let error = dead.unwrap_err();
    assert!(matches!(error, TransferError::Etcd(EtcdError::Broken { .. })), "{error:?}");
    assert!(bench.is_clean().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_running_out_of_time_leave_nothing() {
    let bench = Bench::new("3.6", 250).await;
    let mut slow = bench.transfer().await;
    slow.snapshot.bytes_per_second = Some(2 << 20);
    slow.deadline = Instant::now() + Duration::from_secs(2);
    let error = bench.run(slow).await.unwrap_err();
    assert!(matches!(error, TransferError::Deadline(_)), "{error:?}");
    assert!(bench.is_clean().await);

    let mut slow = bench.transfer().await;
    slow.snapshot.bytes_per_second = Some(2 << 20);
    bench.progress.expect(0);
    let (ended, ()) = tokio::join!(bench.run(slow), async {
        bench.until("some bytes", |progress| progress.bytes().is_some_and(|(done, _)| done > 0)).await;
        bench.cancel.cancel();
    });
    assert!(matches!(ended, Err(TransferError::Cancelled)), "{ended:?}");
    assert!(bench.is_clean().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_told_as_such() {
    let bench = Bench::new("3.6", 600).await;
    for call in 1..=2 {
        bench.store.plan(Operation::PutPart, call, Fault::Hang);
    }
    let mut transfer = bench.transfer().await;
    transfer.spool_bytes = 8 << 20;
    transfer.snapshot.limits.transfer = Duration::from_secs(4);
    let error = bench.run(transfer).await.unwrap_err();
    assert!(matches!(error, TransferError::Spool(SpoolError::Full { .. })), "{error:?}");
    assert!(bench.is_clean().await);
}
