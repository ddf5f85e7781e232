use super::*;
use serde_json::json;

pub fn manifest() -> Manifest {
    serde_json::from_value(json!({
        "backupId": "20261124-020304-00000001", "data": "data", "attempt": 1,
        "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
        "cluster": {"uid": "uid", "etcdClusterId": "1", "members": [
            {"id": "1", "name": "m1", "peerURLs": ["https://10.0.0.2:2380"]},
            {"id": "2", "name": "m0", "peerURLs": ["https://10.0.0.1:2380/"]},
            {"id": "3", "name": "m2", "peerURLs": ["https://10.0.0.3:2380"]}]},
        "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1, "sha256": "ab", "revision": 40,
            "contentHash": "00", "highestRevisionSeen": 70},
        "archive": {"sizeBytes": 1, "sha256": "", "compression": "zstd"},
        "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
        "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
    }))
    .unwrap()
}

fn member(name: &str, urls: &[&str]) -> OrderMember {
    OrderMember { name: name.to_owned(), peer_urls: urls.iter().map(|&url| url.to_owned()).collect() }
}

fn choices() -> Choices {
    Choices {
        members: vec![],
        lost: vec![],
        lost_quorum_acknowledged: false,
        safety: None,
        hold_before_release: false,
        timeouts: OrderedTimeouts { stage_seconds: 3600, outage_seconds: 900 },
        loopback_api_servers: false,
        is_trusted: false,
    }
}

pub fn planned(change: impl FnOnce(&mut Choices, &mut Manifest, &mut bool)) -> Plan {
    let (mut choices, mut manifest, mut is_signed) = (choices(), manifest(), true);
    change(&mut choices, &mut manifest, &mut is_signed);
    let facts = Facts {
        own: &NodeName::from("m0"),
        live: None,
        live_revision: None,
        highest_seen: Some(60),
        placed_cluster: EtcdClusterId(9),
        cluster_uids: &["uid".to_owned()],
        manifest: &manifest,
        is_signed,
        highest_in_location: Some(80),
        now: "2026-11-24T03:03:05Z".parse().unwrap(),
    };
    plan(&choices, &facts, 1, "t")
}

#[test]
fn without_etcd_the_members_are_the_backups_and_revisions_go_on_above_all_that_is_known() {
    let plan = planned(|_, _, _| {});
    assert_eq!(plan.blockers, Vec::<String>::new());
    let names: Vec<&str> = plan.order.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["m0", "m1", "m2"]);
    assert_eq!(plan.order.members[0].peer_url, "https://10.0.0.1:2380");
    assert_eq!((plan.order.bump_to, plan.order.safety), (80 + BUMP, OrderedSafety::Skipped));
    assert!(plan.order.is_as_approved());
    let words = plan.words();
    assert!(words.contains("1h 1s old") && words.contains("volumes") && words.contains("safety backup"), "{words}");
}

#[test]
fn the_code_is_of_what_would_be_done() {
    let code = |plan: Plan| plan.order.request.approval_code;
    let plain = code(planned(|_, _, _| {}));
    assert_eq!(code(planned(|_, _, _| {})), plain);
    assert_ne!(code(planned(|choices, _, _| choices.hold_before_release = true)), plain);
    assert_ne!(code(planned(|_, manifest, _| manifest.snapshot.sha256 = "cd".to_owned())), plain);
    assert_ne!(code(planned(|choices, _, _| choices.lost = vec!["m2".to_owned()])), plain);
}

#[test]
fn what_must_not_be_is_blocked_with_the_way_out() {
    type Change = fn(&mut Choices, &mut Manifest, &mut bool);
    let rows: [(Change, &str); 7] = [
        (|_, manifest, _| manifest.cluster.uid = "other".to_owned(), "of cluster other"),
        (|_, _, is_signed| *is_signed = false, "--trust ab"),
        (|_, manifest, _| manifest.snapshot.content_hash = None, "never verified"),
        (|choices, _, _| choices.lost = vec!["m1".to_owned(), "m2".to_owned()], "--acknowledge-lost-quorum"),
        (|choices, _, _| choices.lost = vec!["m9".to_owned()], "m9"),
        (|choices, _, _| choices.members = vec![member("m1", &["https://x:1"])], "this master, m0"),
        (|choices, _, _| choices.safety = Some(OrderedSafety::Required), "--safety skipped"),
    ];
    for (change, words) in rows {
        let plan = planned(change);
        assert!(plan.blockers.iter().any(|blocker| blocker.contains(words)), "{words}: {:?}", plan.blockers);
        assert!(plan.words().contains("BLOCKED"));
    }
    let learner = planned(|_, manifest, _| manifest.cluster.members[1].is_learner = true);
    assert!(learner.blockers.iter().any(|words| words.contains("not joined")), "{:?}", learner.blockers);
    let two_urls = planned(|choices, _, _| choices.members = vec![member("m0", &["https://x:1", "https://y:1"])]);
    assert!(two_urls.blockers.iter().any(|words| words.contains("2 peer URLs")), "{:?}", two_urls.blockers);
}

#[test]
fn what_was_acknowledged_or_trusted_is_not_blocked() {
    let plan = planned(|choices, _, is_signed| {
        *is_signed = false;
        choices.is_trusted = true;
        choices.lost = vec!["m1".to_owned(), "m2".to_owned()];
        choices.lost_quorum_acknowledged = true;
    });
    assert_eq!(plan.blockers, Vec::<String>::new());
    assert_eq!(plan.order.lost.len(), 2);
    assert!(plan.warnings.iter().any(|words| words.contains("given by hand")));
}
