//! On snapshots of real etcd servers, with etcd's own tools (`make tools`).

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::*;
use crate::etcd::server::{LINES, RealEtcd, program};
use crate::restore_engine::order::{Minting, OrderError, OrderMember, Own, mint};

const PEER: &str = "https://10.0.0.1:2380";

fn own(name: &str) -> Own {
    Own { name: name.into(), peer_urls: vec![PEER.into()] }
}

struct Bench {
    dir: tempfile::TempDir,
    place: Place,
    tools: Tools,
    stop: AtomicBool,
}

impl Bench {
    fn new(line: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let place = Place { volume: data.clone(), data_dir: data, wal_dir: None, own: own("m0") };
        let directory = program(line).parent().unwrap().to_owned();
        Self { dir, place, tools: Tools { directory, server: None }, stop: AtomicBool::new(false) }
    }

    fn perform(&self) -> Result<Done, RestoreError> {
        perform(&Job { place: &self.place, tools: &self.tools, stop: &self.stop }, &mut |_| {})
    }

    /// A snapshot of a server of a line, whose last transaction has several operations, the last one a deletion.
    async fn snapshot(&self, line: &str) -> PathBuf {
        let file = self.dir.path().join("file.db");
        let server = RealEtcd::start(line, &[]).await;
        assert!(server.fill(20, 100).await);
        let mut client = etcd_client::Client::connect([&server.url], None).await.unwrap();
        let operations = vec![
            etcd_client::TxnOp::put("/registry/test/a", "b", None),
            etcd_client::TxnOp::delete("/registry/test/3", None),
        ];
        client.txn(etcd_client::Txn::new().and_then(operations)).await.unwrap();
        let saved = std::process::Command::new(program(&format!("{line}/etcdctl")))
            .args(["--endpoints", &server.url, "snapshot", "save"])
            .arg(&file)
            .output();
        assert!(saved.unwrap().status.success());
        file
    }

    fn mint(&self, file: &Path) -> Order {
        let proven = prove_snapshot(file, &self.stop, |_| Ok(())).unwrap();
        mint(&Minting {
            sha256: proven.sha256,
            size: proven.size,
            database: &proven.database,
            members: &[OrderMember { name: "m0".into(), peer_urls: vec![PEER.into()] }],
            highest_seen: Some(5000),
            own: &self.place.own,
            token: "test".into(),
            now: Timestamp::UNIX_EPOCH,
        })
        .unwrap()
    }

    fn put(&self, file: &Path, order: &Order) {
        std::fs::copy(file, self.place.restore_db()).unwrap();
        write_order(&self.place.order(), order).unwrap();
    }
}

#[tokio::test]
async fn a_file_of_every_line_is_restored_once_and_never_again() {
    for line in LINES {
        let bench = Bench::new(line);
        let file = bench.snapshot(line).await;
        let order = bench.mint(&file);
        bench.put(&file, &order);
        let Done::Restored { result, old } = bench.perform().unwrap() else { panic!("not restored: {line}") };
        assert_eq!(
            (result.state, result.revision, result.old_data.clone()),
            (State::Restored, Some(order.bump_to), None)
        );
        assert!(old.is_none() && !bench.place.restore_db().exists() && !bench.place.order().exists());
        assert_eq!(live_cluster(&bench.place).unwrap(), Some(order.cluster_id()), "{line}");
        assert!(matches!(bench.perform(), Ok(Done::Nothing)));
        // The same order again, say from a backup tool that put the files back: only tidied up.
        let before = exchange::inode(&bench.place.member()).unwrap();
        bench.put(&file, &order);
        let again = bench.perform();
        assert!(matches!(again, Ok(Done::Restored { .. })), "{line}: {again:?}");
        assert_eq!(exchange::inode(&bench.place.member()).unwrap(), before);
        // Another order: the data of the first is kept.
        let second = Order { token: "other".into(), ..order.clone() };
        bench.put(&file, &second);
        let Ok(Done::Restored { result, .. }) = bench.perform() else { panic!("not restored again: {line}") };
        let old = bench.place.data_dir.join(result.old_data.unwrap());
        assert_eq!(exchange::inode(&old.join("member")).unwrap(), before);
        assert_ne!(second.cluster_id(), order.cluster_id());
        // The first once more, over data that is another's by now: its token was used.
        bench.put(&file, &order);
        assert!(matches!(bench.perform(), Err(RestoreError::DoneBefore)), "{line}");
        assert_eq!(live_cluster(&bench.place).unwrap(), Some(second.cluster_id()));
    }
}

#[tokio::test]
async fn a_reinitialisation_that_waited_is_void_after_a_restore_and_its_data_is_kept() {
    use crate::rejoin::journal::old_data;
    let bench = Bench::new("3.6");
    let file = bench.snapshot("3.6").await;
    let order = bench.mint(&file);
    let place = &bench.place;
    let nonce = crate::rejoin::quorum::Nonce::new("m0", 1);
    RejoinJournal::new(ClusterId(1), None, nonce, Timestamp::UNIX_EPOCH).write(place).unwrap();
    std::fs::create_dir_all(old_data(place).join("member")).unwrap();
    std::fs::write(place.command(), "reinitialize\n").unwrap();
    bench.put(&file, &order);
    // Something is in the way: the new data is in place, so this is no failed restore.
    let directory = place.restore(&RestoreId::of_digest(&order.digest().unwrap()));
    std::fs::create_dir_all(directory.old_rejoin().join("x")).unwrap();
    bench.perform().unwrap_err();
    assert_eq!(look(place).unwrap(), Next::TidyUp);
    assert_eq!(RestoreResult::read(&place.result()).unwrap().unwrap().state, State::Restored);
    assert!(!place.failed().exists() && place.restore_db().exists());
    std::fs::remove_dir_all(directory.old_rejoin()).unwrap();
    assert!(matches!(bench.perform(), Ok(Done::Restored { .. })));
    assert_eq!(RejoinJournal::read(place).unwrap(), None);
    assert!(!place.command().exists() && directory.old_rejoin().join("old/member").exists());
    let answer = CommandResult::read(&place.command_result()).unwrap().unwrap();
    assert!(answer.outcome == Outcome::Failed && answer.message.contains("restored"), "{answer:?}");
    assert_eq!(exchange::find_kept(place).unwrap(), [directory.old_rejoin()]);
}

#[tokio::test]
async fn a_wal_of_its_own_is_exchanged_with_the_data_and_kept_beside_it() {
    let mut bench = Bench::new("3.6");
    let file = bench.snapshot("3.6").await;
    let wal = bench.dir.path().join("wal-disk/wal");
    std::fs::create_dir_all(&wal).unwrap();
    std::fs::write(wal.join("0.wal"), "old").unwrap();
    bench.place.wal_dir = Some(wal.clone());
    let order = bench.mint(&file);
    bench.put(&file, &order);
    let Done::Restored { result, .. } = bench.perform().unwrap() else { panic!("not restored") };
    assert_eq!(live_cluster(&bench.place).unwrap(), Some(order.cluster_id()));
    let old = wal.with_file_name(result.old_wal.unwrap());
    assert_eq!(std::fs::read(old.join("0.wal")).unwrap(), b"old");
}

#[tokio::test]
async fn a_restore_that_cannot_be_done_leaves_the_data_and_holds_until_a_human_acts() {
    let bench = Bench::new("3.6");
    let file = bench.snapshot("3.6").await;
    let order = bench.mint(&file);
    std::fs::create_dir_all(bench.place.member().join("snap")).unwrap();
    std::fs::write(bench.place.database(), "the old data").unwrap();
    let before = exchange::inode(&bench.place.member()).unwrap();
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[9000] ^= 1;
    let cases: [(&dyn Fn(), &str); 5] = [
        (&|| std::fs::write(bench.place.restore_db(), &damaged).unwrap(), "not a sound snapshot"),
        (&|| std::fs::remove_file(bench.place.order()).unwrap(), "no order"),
        (&|| std::fs::write(bench.place.order(), "{}").unwrap(), "not an order"),
        (
            &|| {
                let snapshot = super::super::order::OrderSnapshot { sha256: "00".into(), ..order.snapshot.clone() };
                write_order(&bench.place.order(), &Order { snapshot, ..order.clone() }).unwrap();
            },
            "every master needs the same file",
        ),
        (
            &|| {
                let snapshot = super::super::order::OrderSnapshot {
                    etcd: crate::host::tools::Minor::parse("3.9"),
                    ..order.snapshot.clone()
                };
                write_order(&bench.place.order(), &Order { snapshot, ..order.clone() }).unwrap();
            },
            "no etcdutl of etcd 3.9",
        ),
    ];
    for (spoil, words) in cases {
        bench.put(&file, &order);
        spoil();
        let error = bench.perform().unwrap_err();
        assert!(error.to_string().contains(words) && error.is_refusal(), "{error}");
        assert!(bench.place.failed().exists() && !bench.place.restore_db().exists(), "{words}");
        assert!(matches!(bench.perform(), Ok(Done::Held)));
        assert_eq!(RestoreResult::read(&bench.place.result()).unwrap().unwrap().state, State::Failed);
        assert_eq!(exchange::inode(&bench.place.member()).unwrap(), before);
        assert_eq!(std::fs::read(bench.place.database()).unwrap(), b"the old data");
        let left = bench.place.restore(&RestoreId::of_digest(&order.digest().unwrap()));
        assert!(!left.root.exists(), "{words}: what was staged is still there");
    }
    // A new file ends the hold.
    bench.put(&file, &order);
    assert!(matches!(bench.perform(), Ok(Done::Restored { .. })));
    assert!(!bench.place.failed().exists());
}

#[tokio::test]
async fn a_restore_that_is_asked_to_stop_begins_anew_later() {
    let bench = Bench::new("3.6");
    let file = bench.snapshot("3.6").await;
    bench.put(&file, &bench.mint(&file));
    bench.stop.store(true, Ordering::Relaxed);
    assert!(matches!(bench.perform(), Err(RestoreError::Interrupted)));
    assert!(bench.place.restore_db().exists() && !bench.place.failed().exists());
    bench.stop.store(false, Ordering::Relaxed);
    assert!(matches!(bench.perform(), Ok(Done::Restored { .. })));
}

#[tokio::test]
async fn a_running_etcd_keeps_its_data() {
    let bench = Bench::new("3.6");
    let file = bench.snapshot("3.6").await;
    std::fs::create_dir_all(bench.place.member().join("snap")).unwrap();
    std::fs::write(bench.place.database(), "x").unwrap();
    let _etcd = lock_database(&bench.place.database()).unwrap().unwrap();
    bench.put(&file, &bench.mint(&file));
    let words = bench.perform().unwrap_err().to_string();
    assert!(words.contains("etcd runs on this data"), "{words}");
    assert_eq!(std::fs::read(bench.place.database()).unwrap(), b"x");
}

#[test]
fn another_nodes_order_is_not_this_ones() {
    let order = Order {
        snapshot: super::super::order::OrderSnapshot {
            sha256: hex::encode([0; 32]),
            size_bytes: 1,
            revision: 1,
            content_hash: String::new(),
            etcd: None,
            alarms: 0,
        },
        token: "t".into(),
        bump_to: 2,
        members: vec![OrderMember { name: "m0".into(), peer_urls: vec![PEER.into()] }],
        minted: Timestamp::UNIX_EPOCH,
    };
    assert!(matches!(order.check(&own("m1"), &[0; 32]), Err(OrderError::NotAMember { .. })));
}
