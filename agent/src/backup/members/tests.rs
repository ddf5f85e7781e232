//! Comparison with real members: of every line, under writes and compactions, and where one holds other data.

use lifeboat_snapshot::{Content, Level, MemoryScratch, Options, Verifier};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::etcd::server::{LINES, RealEtcd};
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest, open_snapshot};
use crate::etcd::status::fetch_member;

/// A value that is looked for in a database file.
const MARK: &str = "a-value-that-stands-nowhere-else";

/// Reads a snapshot of a member and compares it with all of them.
async fn compare(etcd: &RealEtcd, change: impl FnOnce(&mut MemberStatus)) -> Verdict {
    let (endpoint, client) = (etcd.endpoint(), etcd.client().await);
    let mut status = fetch_member(&client).await.unwrap();
    change(&mut status);
    let limits = SnapshotLimits { transfer: Duration::from_secs(60), no_progress: Duration::from_secs(20) };
    let request = SnapshotRequest { limits, bytes_per_second: None, require_leader: true };
    let mut stream = open_snapshot(&client, request).await.unwrap();
    let options = Options { level: Level::Content, ..Options::default() };
    let mut verifier = Verifier::with_hash_kv(options, Box::new(MemoryScratch::new(1 << 30)));
    while let Some(chunk) = stream.next_chunk().await.unwrap() {
        verifier.update(&chunk).unwrap();
    }
    let (facts, hash_kv) = verifier.finish_with_hash_kv().unwrap();
    let Content::Verified(database) = facts.content else { panic!("not verified") };
    let cancel = CancellationToken::new();
    let bounds = Bounds { deadline: tokio::time::Instant::now() + Duration::from_secs(120), cancel: &cancel };
    let revision = database.revision;
    let question = Question { endpoint: &endpoint, status: &status, revision, is_thorough: false, bounds };
    compare_members(&question, hash_kv.unwrap()).await
}

async fn writer(etcd: &RealEtcd) -> etcd_client::Client {
    etcd_client::Client::connect([&etcd.url], None).await.unwrap()
}

async fn put(etcd: &RealEtcd, key: &str, value: impl Into<Vec<u8>>) -> i64 {
    let mut client = writer(etcd).await;
    client.put(key, value, None).await.unwrap().header().unwrap().revision()
}

/// The index of a real snapshot, its newest revision, and what every sound member would answer.
fn index() -> (HashKv, HashAnswer) {
    let snapshot = zstd::decode_all(&include_bytes!("../../../snapshot/tests/data/etcd-3.6-used.db.zst")[..]).unwrap();
    let options = Options { level: Level::Content, ..Options::default() };
    let mut verifier = Verifier::with_hash_kv(options, Box::new(MemoryScratch::new(1 << 30)));
    verifier.update(&snapshot).unwrap();
    let (facts, hash_kv) = verifier.finish_with_hash_kv().unwrap();
    let Content::Verified(database) = facts.content else { panic!("not verified") };
    let mut hash_kv = hash_kv.unwrap();
    let pair = HashPair { revision: database.revision, compact_revision: database.compact_revision };
    let hash = hash_kv.compute(pair.revision, pair.compact_revision).unwrap();
    (hash_kv, HashAnswer { pair, hash })
}

/// Five members of which the first is read; `m1` leads.
fn five() -> Vec<Whom> {
    let members = (0..5).map(|index| Member {
        id: MemberId(index),
        name: format!("m{index}"),
        peer_urls: vec![],
        client_urls: vec![format!("http://m{index}")],
        is_learner: false,
    });
    let status = MemberStatus {
        version: String::new(),
        storage_version: None,
        cluster_id: crate::etcd::status::ClusterId(1),
        member_id: MemberId(0),
        leader_id: Some(MemberId(1)),
        is_learner: false,
        revision: 1,
        db_size: 0,
        db_size_in_use: 0,
        quota: None,
        alarms: vec![],
        errors: vec![],
        members: members.collect(),
    };
    plan_asking(&status, &Endpoint { url: "http://127.0.0.1".into(), tls: None })
}

#[tokio::test(start_paused = true)]
async fn members_are_asked_in_turn_the_leader_last_and_no_more_than_are_wanted() {
    let (asked, at_once) = (std::sync::Mutex::new(Vec::new()), std::sync::atomic::AtomicUsize::new(0));
    let asking = async |is_thorough: bool, differs: &'static str| {
        let (hash_kv, answer) = index();
        asked.lock().unwrap().clear();
        let ask = async |whom: Whom| {
            use std::sync::atomic::Ordering::SeqCst;
            asked.lock().unwrap().push(whom.name.clone());
            assert_eq!(at_once.fetch_add(1, SeqCst), 0, "two members would stand still at once");
            tokio::time::sleep(Duration::from_secs(1)).await;
            at_once.fetch_sub(1, SeqCst);
            let hash = if whom.name == differs { !answer.hash } else { answer.hash };
            Said { member: whom.name, answer: Ok(HashAnswer { hash, ..answer }) }
        };
        let verdict = super::compare(&five(), is_thorough, hash_kv, ask).await;
        (verdict, asked.lock().unwrap().join(" "))
    };
    let agreed = |others: &[&str]| Verdict::Agreed { others: others.iter().map(ToString::to_string).collect() };
    assert_eq!(asking(false, "").await, (agreed(&["m2", "m3"]), "m0 m2 m3".to_owned()));
    assert_eq!(asking(true, "").await, (agreed(&["m2", "m3", "m4", "m1"]), "m0 m2 m3 m4 m1".to_owned()));
    // Whoever differs is seen twice, beside all others.
    let (verdict, order) = asking(false, "m2").await;
    assert!(matches!(&verdict, Verdict::Diverged { members, .. } if members.len() == 5), "{verdict:?}");
    assert_eq!(order, "m0 m2 m3 m4 m1 m0 m2 m3 m4 m1");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_every_line_agree_before_and_after_a_compaction() {
    for line in LINES {
        let members = RealEtcd::start_cluster::<3>(line).await;
        for index in 0..40 {
            put(&members[0], &format!("/k/{}", index % 7), format!("value {index}")).await;
        }
        let mut client = writer(&members[0]).await;
        client.delete("/k/3", None).await.unwrap();
        assert!(matches!(compare(&members[1], |_| {}).await, Verdict::Agreed { .. }), "{line}");
        let revision = put(&members[0], "/k/last", "value").await;
        client.compact(revision - 2, None).await.unwrap();
        put(&members[0], "/k/last", "again").await;
        for member in &members {
            assert!(matches!(compare(member, |_| {}).await, Verdict::Agreed { .. }), "{line}");
        }
    }
}

/// How often is told by LIFEBOAT_COMPARISONS; the number for a release is 200.
#[tokio::test(flavor = "multi_thread")]
async fn writes_and_compactions_are_never_taken_for_divergence() {
    let runs = std::env::var("LIFEBOAT_COMPARISONS").map_or(6, |runs| runs.parse().unwrap());
    for line in LINES {
        let members = RealEtcd::start_cluster::<3>(line).await;
        let mut writer = writer(&members[0]).await;
        let writing = tokio::spawn(async move {
            for index in 0_u64.. {
                let key = format!("/busy/{}", index % 97);
                let put = writer.put(key.clone(), format!("value {index}").repeat(20), None).await;
                if index % 11 == 0 {
                    writer.delete(key, None).await.unwrap();
                }
                // Every second or so, behind the newest revision as the API server does.
                if index % 400 == 399 {
                    let revision = put.unwrap().header().unwrap().revision();
                    writer.compact(revision - 150, None).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let (mut agreed, mut other) = (0, Vec::new());
        for run in 0..runs {
            match compare(&members[run % 3], |_| {}).await {
                Verdict::Agreed { .. } => agreed += 1,
                Verdict::NotCompared(why) => other.push(why.message),
                verdict @ (Verdict::Diverged { .. } | Verdict::StreamDiffers { .. }) => {
                    panic!("{line}, run {run}: {verdict:?}")
                }
            }
        }
        writing.abort();
        assert!(agreed * 2 > runs, "{line}: only {agreed} of {runs} could be compared: {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_one_other_byte_is_found_whoever_is_read() {
    for line in LINES {
        let mut members = RealEtcd::start_cluster::<3>(line).await;
        for index in 0..20 {
            put(&members[0], &format!("/k/{index}"), format!("value {index}")).await;
        }
        put(&members[0], "/k/mark", MARK).await;
        assert!(matches!(compare(&members[2], |_| {}).await, Verdict::Agreed { .. }), "{line}");
        members[2]
            .alter_database(|bytes| {
                let places: Vec<usize> = bytes
                    .windows(MARK.len())
                    .enumerate()
                    .filter_map(|(at, window)| (window == MARK.as_bytes()).then_some(at))
                    .collect();
                assert!(!places.is_empty());
                // Also where a page that is free now still holds it.
                places.into_iter().for_each(|at| bytes[at] = b'A');
            })
            .await;
        for read in [0, 2] {
            let verdict = compare(&members[read], |_| {}).await;
            let Verdict::Diverged { revision: _, members } = verdict else { panic!("{line}: {verdict:?}") };
            assert_eq!(members.len(), 3, "{members:?}");
            assert_eq!(members["m0"], members["m1"], "{members:?}");
            assert_ne!(members["m0"], members["m2"], "{members:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_members_are_a_shortfall_and_a_lonely_one_too() {
    let members = RealEtcd::start_cluster::<3>("3.6").await;
    put(&members[0], "/k", "v").await;
    // One of two others does not listen where the list says.
    let away = |status: &mut MemberStatus| {
        let id = status.member_id;
        let other = status.members.iter_mut().find(|member| member.id != id).unwrap();
        other.client_urls = vec!["http://127.0.0.1:9".into()];
    };
    let verdict = compare(&members[0], away).await;
    let Verdict::NotCompared(why) = verdict else { panic!("{verdict:?}") };
    assert_eq!(why.reason, "NoHealthyMember", "{}", why.message);
    assert!(why.message.contains("1 of 2"), "{}", why.message);
    let alone = RealEtcd::start("3.6", &[]).await;
    put(&alone, "/k", "v").await;
    let verdict = compare(&alone, |_| {}).await;
    let Verdict::NotCompared(why) = verdict else { panic!("{verdict:?}") };
    assert!(why.message.contains("no other voting member"), "{}", why.message);
}
