//! An attempt as a whole, from a real etcd into a store that can be made ill: who waits for whom, and what is left behind.

use std::collections::BTreeMap;

use http::{Request, Response};
use kube::client::Body;
use lifeboat_crds::signing::SigningKey;
use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation};

use super::*;
use crate::etcd::server::RealEtcd;
use crate::host::discovery::Overrides;
use crate::host::files::HostRoot;
use crate::host::keys::HostKeys;
use crate::location::LocationOpener;

/// Larger than the window of a stream, so that it is read back.
const VALUE: usize = 20 << 20;

struct Bench {
    etcd: RealEtcd,
    store: FaultyStore,
    runner: BackupRunner,
    order: BackupOrder,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let etcd = RealEtcd::start("3.6", &["--max-request-bytes=67108864"]).await;
        let dir = tempfile::tempdir().unwrap();
        // An API server that nobody asks here.
        let (service, _handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = kube::Client::new(service, "lifeboat");
        let overrides = Overrides { endpoint: Some(etcd.url.clone()), ..Overrides::default() };
        let runner = BackupRunner {
            opener: Opener::Api(LocationOpener::new(client.clone(), "lifeboat", BTreeMap::new())),
            keyring: Arc::new(Keyring::open(client, "lifeboat", dir.path())),
            host: HostOptions { root: HostRoot::new(dir.path()), manifest_dir: None, overrides },
            node: "m0".into(),
            cluster_uid: "uid".to_owned(),
            host_id: crate::host::identity::read_or_mint_host_id(dir.path()).unwrap(),
            spool_dir: dir.path().join("spool"),
            version: "test",
            comparison: Arc::new(LastComparison::load(dir.path())),
            turn: Arc::new(Semaphore::new(1)),
            reading: Arc::new(Semaphore::new(1)),
        };
        let order = BackupOrder {
            backup_id: "20261124-020304-00000001".parse().unwrap(),
            attempt: 1,
            object: serde_json::from_value(serde_json::json!({
                "namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}
            }))
            .unwrap(),
            highest_revision_seen: None,
        };
        let store = FaultyStore::new(MemoryStore::new());
        let (progress, cancel) = (Arc::default(), CancellationToken::new());
        Self { etcd, store, runner, order, progress, cancel, _dir: dir }
    }

    async fn run(&self) -> Result<ArchiveFacts, BackupError> {
        let location = OpenLocation { store: Arc::new(self.store.clone()), is_conditional: true };
        let keys = HostKeys { signer: Some(SigningKey::from_seed([1; 32])), ..HostKeys::default() };
        let shelf = Shelf::new(&location, &self.runner.cluster_uid, &self.order.backup_id, &keys, &self.cancel);
        let bounds = Bounds { deadline: Instant::now() + Duration::from_secs(60), cancel: &self.cancel };
        self.runner.fill(&self.order, &shelf, None, &self.progress, bounds).await
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(30), "never came: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn names(&self) -> Vec<String> {
        let objects = self.store.list_all("", 10).await.unwrap();
        let uploads = self.store.list_uploads("").await.unwrap();
        let names = objects.iter().map(|object| object.key.file_name().to_owned());
        names.chain(uploads.iter().map(|upload| format!("upload of {}", upload.key))).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_it_is_proven_it_leaves_nothing() {
    let bench = Bench::new().await;
    assert!(bench.etcd.fill(1, VALUE).await);
    // Another archive is being read back.
    let reading = Arc::clone(&bench.runner.reading).try_acquire_owned().unwrap();
    let cancelling = async {
        bench.until("a whole archive", || bench.progress.stage() == Stage::Verifying).await;
        assert_eq!(bench.names().await.len(), 1);
        bench.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(bench.run(), cancelling);
    let error = ended.unwrap_err();
    assert!(matches!(error, BackupError::Interrupted), "{error:?}");
    assert_eq!(bench.names().await, Vec::<String>::new());
    drop(reading);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_store_that_is_away_or_for_what_is_proven() {
    let bench = Bench::new().await;
    assert!(bench.etcd.fill(1, VALUE).await);
    bench.store.plan(Operation::BeginUpload, 1, Fault::Delay(Duration::from_secs(1)));
    let reading = Arc::clone(&bench.runner.reading).try_acquire_owned().unwrap();
    let looking = async {
        bench.until("the store asked", || bench.store.calls(Operation::BeginUpload) == 1).await;
        let turn = Arc::clone(&bench.runner.turn).try_acquire_owned().expect("a store that is away holds the turn");
        bench.until("its turn", || bench.progress.stage() == Stage::Waiting).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.progress.stage(), Stage::Waiting);
        drop(turn);
        bench.until("a whole archive", || bench.progress.stage() == Stage::Verifying).await;
        assert_eq!(bench.runner.turn.available_permits(), 1, "an archive that is read back holds the turn");
        drop(reading);
    };
    let (done, ()) = tokio::join!(bench.run(), looking);
    let facts = done.unwrap();
    let waited = |bench: &Bench| {
        let stages = bench.progress.durations(std::time::Instant::now());
        stages.iter().any(|(stage, _)| *stage == Stage::Waiting)
    };
    assert!(waited(&bench));
    let alone = Bench::new().await;
    assert!(alone.etcd.fill(1, VALUE).await);
    alone.run().await.unwrap();
    assert!(!waited(&alone), "nobody was before it");
    assert_eq!((facts.verification.level, &facts.verification.shortfall), (VerificationLevel::Content, &None));
    assert_eq!(bench.names().await.len(), 2, "data and manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_there_leaves_no_upload() {
    let bench = Bench::new().await;
    bench.etcd.signal(rustix::process::Signal::KILL);
    let error = bench.run().await.unwrap_err();
    assert_eq!(error.reason(), lifeboat_crds::Reason::NoHealthyMember, "{error}");
    assert_eq!(bench.names().await, Vec::<String>::new());
    assert_eq!(bench.runner.turn.available_permits(), 1);
}
