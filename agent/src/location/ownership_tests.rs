use lifeboat_storage::{Fault, FaultyStore, MemoryStore, Operation};
use serde_json::json;

use super::*;

const UID: &str = "uid-of-kube-system";

fn host(digit: char) -> HostId {
    HostId::fixed(digit)
}

fn id(digit: char) -> String {
    host(digit).to_string()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn record(hosts: &str) -> OwnerRecord {
    OwnerRecord { owner: Owner { uid: UID.into(), hosts: hosts.chars().map(id).collect() }, taken_over: None }
}

fn claim(masters: &str, take_over: Option<&str>) -> Claim {
    Claim { masters: masters.chars().map(id).collect(), take_over: take_over.map(str::to_owned) }
}

fn plan(found: Option<&OwnerRecord>, claim: &Claim) -> Plan {
    plan_ownership(found, claim, UID, &host('a'), at(0))
}

#[test]
fn who_may_write_follows_from_the_record_the_masters_and_the_annotation() {
    let taken = |hosts: &str| OwnerRecord { taken_over: Some(TakenOver { by: id('a'), time: at(0) }), ..record(hosts) };
    let other_uid = OwnerRecord { owner: Owner { uid: "other".into(), hosts: vec![id('a')] }, taken_over: None };
    let cases = [
        ("nobody's, other masters known", None, claim("ab", None), Plan::Create(record("a"))),
        ("nobody's, take-over asked", None, claim("ab", Some(UID)), Plan::Create(record("a"))),
        ("ours", Some(record("ab")), claim("ab", None), Plan::Keep(record("ab"))),
        ("ours, a master is down", Some(record("abc")), claim("a", None), Plan::Keep(record("abc"))),
        ("ours, take-over still asked", Some(record("ab")), claim("ab", Some(UID)), Plan::Keep(record("ab"))),
        ("ours, a new master", Some(record("a")), claim("abc", None), Plan::Replace(record("abc"))),
        ("others'", Some(record("bc")), claim("a", None), Plan::Refuse(record("bc").owner)),
        ("others', a wrong UID asked", Some(record("bc")), claim("a", Some("no")), Plan::Refuse(record("bc").owner)),
        ("others', nothing asked", Some(record("bc")), claim("a", Some("")), Plan::Refuse(record("bc").owner)),
        ("others', take-over", Some(record("bc")), claim("ad", Some(UID)), Plan::Replace(taken("ad"))),
        ("another cluster's record", Some(other_uid.clone()), claim("a", None), Plan::Refuse(other_uid.owner)),
    ];
    for (case, found, claim, expected) in cases {
        assert_eq!(plan(found.as_ref(), &claim), expected, "{case}");
    }
}

#[test]
fn a_take_over_stays_on_record_when_masters_are_added() {
    let mut taken = record("a");
    taken.taken_over = Some(TakenOver { by: id('a'), time: at(-9) });
    let Plan::Replace(next) = plan(Some(&taken), &claim("ab", None)) else { panic!() };
    assert_eq!((next.owner, next.taken_over), (record("ab").owner, taken.taken_over));
}

#[test]
fn beyond_the_limit_the_oldest_that_are_gone_make_room() {
    let old: Vec<String> = (0..MOST_OWNERS).map(|index| format!("{index:032}")).collect();
    let hosts = with_masters(old, &host('a'), &[id('a'), id('b')]);
    assert_eq!(hosts.len(), MOST_OWNERS);
    assert!(hosts.contains(&id('a')) && hosts.contains(&id('b')) && !hosts.contains(&format!("{:032}", 1)));
    assert!(hosts.contains(&format!("{:032}", 2)));
}

#[test]
fn only_a_young_heartbeat_makes_a_master_count() {
    let member = |digit: char, second: Option<i64>| -> EtcdMember {
        let heartbeat = second.map(|second| at(second).to_string());
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdMember",
            "metadata": {"name": digit.to_string()}, "spec": {},
            "status": {"hostId": id(digit), "heartbeatTime": heartbeat}}))
        .unwrap()
    };
    let members = [
        member('c', Some(-89)),
        member('a', Some(10)),
        member('b', Some(-91)),
        member('d', None),
        member('e', Some(91)),
    ];
    assert_eq!(live_hosts(&members, at(0)), [id('a'), id('c')]);
}

struct Place {
    store: FaultyStore,
    cancel: CancellationToken,
}

impl Place {
    fn new() -> Self {
        Self { store: FaultyStore::new(MemoryStore::new()), cancel: CancellationToken::new() }
    }

    fn of<'p>(&'p self, me: &'p HostId) -> Ownership<'p> {
        Ownership { store: &self.store, cluster: UID, me, patience: Duration::from_millis(1), cancel: &self.cancel }
    }
}

#[tokio::test]
async fn an_owner_json_that_cannot_be_read_refuses_and_names_the_way_out() {
    let me = host('a');
    let damaged = Place::new();
    let key = damaged.of(&me).key().unwrap();
    let (store, words) = (damaged.store.describe(), "body checksum mismatch".to_owned());
    damaged.store.plan(Operation::Get, 1, Fault::Fail(StoreError::Corrupt { store, key: key.clone(), words }));
    let torn = Place::new();
    torn.store.put(&key, Bytes::from_static(b"{\"formatVersion\""), PutMode::Overwrite).await.unwrap();
    for place in [damaged, torn] {
        let error = place.of(&me).settle(&claim("a", Some(UID)), true, at(1)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::VerificationFailed, "{error}");
        assert!(error.to_string().contains("remove it, and the next probe"), "{error}");
    }
}

#[tokio::test]
async fn a_prefix_is_claimed_shared_with_new_masters_and_taken_over_once() {
    for is_conditional in [true, false] {
        let place = Place::new();
        let (a, b, x) = (host('a'), host('b'), host('e'));
        assert!(matches!(place.of(&a).check().await, Err(OwnershipError::Unclaimed { .. })));
        let settle = async |me: &HostId, claim: Claim| place.of(me).settle(&claim, is_conditional, at(5)).await;
        let made = settle(&a, claim("ab", None)).await.unwrap();
        assert_eq!(made, record("ab"), "the first probe adds the masters that are alive");
        place.of(&b).check().await.unwrap();
        // The same snapshot restored elsewhere: refused, and nothing changes.
        let refused = settle(&x, claim("e", None)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::OwnedByAnother);
        let words = refused.to_string();
        for needed in [UID, label::TAKE_OVER, "aaaaaaaa", "bbbbbbbb", "eeeeeeee", "prefix of its own"] {
            assert!(words.contains(needed), "{needed} is not in {words}");
        }
        let wrong = settle(&x, claim("e", Some("typo"))).await.unwrap_err().to_string();
        assert!(wrong.contains("\"typo\""), "{wrong}");
        assert!(matches!(place.of(&x).check().await, Err(OwnershipError::OwnedByAnother(_))));
        place.of(&a).check().await.unwrap();
        // Declared.
        let taken = settle(&x, claim("ef", Some(UID))).await.unwrap();
        assert_eq!(taken.owner, record("ef").owner);
        assert_eq!(taken.taken_over, Some(TakenOver { by: id('e'), time: at(5) }));
        assert!(matches!(place.of(&a).check().await, Err(OwnershipError::OwnedByAnother(_))));
        assert!(settle(&a, claim("ab", None)).await.is_err(), "the former owners are refused");
        assert_eq!(settle(&x, claim("ef", Some(UID))).await.unwrap(), taken, "asked again, nothing is written");
    }
}

#[tokio::test]
async fn of_two_that_claim_at_once_the_slower_is_refused() {
    let place = Place::new();
    let (a, x) = (host('a'), host('e'));
    let claim = Claim::default();
    let (mine, theirs) = (place.of(&a), place.of(&x));
    let (first, second) = tokio::join!(mine.settle(&claim, true, at(0)), theirs.settle(&claim, true, at(0)));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|won| **won).count(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_still_ours() {
    let place = Place::new();
    let lost = StoreError::Unavailable { store: "s".into(), words: "reset".into() };
    place.store.plan(Operation::Put, 1, Fault::LandThenFail(lost));
    let me = host('a');
    assert!(place.of(&me).settle(&Claim::default(), true, at(0)).await.is_err());
    assert_eq!(place.of(&me).settle(&Claim::default(), true, at(1)).await.unwrap(), record("a"));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_lets_nobody_write() {
    let place = Place::new();
    let me = host('a');
    let key = place.of(&me).key().unwrap();
    for (text, reason) in [
        ("", Reason::VerificationFailed),
        ("{}", Reason::VerificationFailed),
        (r#"{"formatVersion":"2.0","payload":{}}"#, Reason::NotSupported),
    ] {
        place.store.put(&key, Bytes::from(text), PutMode::Overwrite).await.unwrap();
        let error = place.of(&me).settle(&claim("a", Some(UID)), true, at(0)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(place.of(&me).check().await.is_err());
        assert_eq!(place.store.get_small(&key, 1_000).await.unwrap(), text, "nothing was written over it");
    }
}
