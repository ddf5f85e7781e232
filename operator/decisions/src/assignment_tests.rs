use super::*;
use crate::situation::{at, healthy, member};
use serde_json::{Value, json};
use std::time::Duration;

fn silent(mut seen: SeenMember) -> SeenMember {
    seen.unchanged_for = SILENCE;
    seen
}

struct Case {
    members: Vec<SeenMember>,
    policy: MemberPolicy,
    pinned: Option<NodeName>,
    failed_last: Option<NodeName>,
    busy: BTreeMap<NodeName, u32>,
    last_used: BTreeMap<NodeName, Timestamp>,
}

fn of(members: Vec<SeenMember>) -> Case {
    Case {
        members,
        policy: MemberPolicy::PreferFollower,
        pinned: None,
        failed_last: None,
        busy: BTreeMap::new(),
        last_used: BTreeMap::new(),
    }
}

fn three(more: [Value; 3]) -> Vec<SeenMember> {
    more.into_iter().enumerate().map(|(index, more)| healthy(&format!("m{index}"), more)).collect()
}

fn chosen(case: &Case) -> Result<String, String> {
    let Case { members, policy, pinned, failed_last, busy, last_used } = case;
    let wanted = Wanted {
        pinned: pinned.as_ref(),
        owners: None,
        policy: *policy,
        failed_last: failed_last.as_ref(),
        spool: Some(8 << 30),
        busy,
        last_used,
    };
    choose_node(members, &wanted).map(|node| node.0)
}

fn leader() -> Value {
    json!({"isLeader": true})
}

#[test]
fn the_least_disturbing_healthy_member_is_chosen() {
    let node = |name: &str| Some(NodeName::from(name));
    let used =
        |names: &[(&str, i64)]| names.iter().map(|(name, second)| (NodeName::from(*name), at(*second))).collect();
    let tight = json!({"freeBytes": {"spool": 1}, "dbSizeBytes": 1_000_000});
    let table: Vec<(&str, Case, &str)> = vec![
        ("by name where all is equal", of(three([json!({}), json!({}), json!({})])), "m0"),
        ("a follower before the leader", of(three([leader(), json!({}), json!({})])), "m1"),
        (
            "the leader where it is asked for",
            Case { policy: MemberPolicy::Leader, ..of(three([json!({}), leader(), json!({})])) },
            "m1",
        ),
        ("any means any", Case { policy: MemberPolicy::Any, ..of(three([leader(), json!({}), json!({})])) }, "m0"),
        (
            "not the one that failed last",
            Case { failed_last: node("m0"), ..of(three([json!({}), json!({}), json!({})])) },
            "m1",
        ),
        (
            "rather the leader than the one that failed last",
            Case { failed_last: node("m1"), ..of(three([leader(), json!({}), json!({})])[..2].to_vec()) },
            "m0",
        ),
        (
            "the one that failed last where it is alone",
            Case { failed_last: node("m0"), ..of(three([json!({}), json!({}), json!({})])[..1].to_vec()) },
            "m0",
        ),
        (
            "no learner where there are voters",
            of(three([json!({"isLearner": true}), leader(), json!({})])[..2].to_vec()),
            "m1",
        ),
        ("a learner where there is nothing else", of(vec![healthy("m0", json!({"isLearner": true}))]), "m0"),
        ("one with room for the spool", of(three([tight.clone(), json!({}), json!({})])), "m1"),
        ("one without room where there is no other", of(vec![healthy("m0", tight)]), "m0"),
        (
            "an idle leader before busy followers",
            Case {
                busy: BTreeMap::from([("m1".into(), 1), ("m2".into(), 1)]),
                ..of(three([leader(), json!({}), json!({})]))
            },
            "m0",
        ),
        (
            "the one used least recently",
            Case {
                last_used: used(&[("m0", 5), ("m1", 3), ("m2", 4)]),
                ..of(three([json!({}), json!({}), json!({})]))
            },
            "m1",
        ),
        (
            "one never used before those",
            Case { last_used: used(&[("m0", 5), ("m1", 3)]), ..of(three([json!({}), json!({}), json!({})])) },
            "m2",
        ),
        (
            "the pinned one, whatever else",
            Case { pinned: node("m0"), failed_last: node("m0"), ..of(three([leader(), json!({}), json!({})])) },
            "m0",
        ),
        (
            "one with room in etcd no less than one without",
            of(three([json!({"alarms": ["NOSPACE"]}), leader(), leader()])),
            "m0",
        ),
    ];
    for (situation, case, expected) in table {
        assert_eq!(chosen(&case).as_deref(), Ok(expected), "{situation}");
    }
}

#[test]
fn where_no_member_is_healthy_each_ones_problem_is_named() {
    let cases = [
        (of(vec![]), vec!["no agent has reported"]),
        (
            of(vec![healthy("m0", json!({"problem": "etcd refuses the connection"}))]),
            vec!["m0", "etcd refuses the connection"],
        ),
        (
            of(vec![silent(healthy("m0", json!({}))), healthy("m1", json!({"hasLeader": false}))]),
            vec!["m0: its agent", "m1: its etcd member sees no leader"],
        ),
        (of(vec![member("m0", json!({}))]), vec!["m0: its agent has not reported"]),
        (of(vec![healthy("m0", json!({"hasLeader": null}))]), vec!["m0: its etcd member has not been asked"]),
        (
            Case { pinned: Some("gone".into()), ..of(three([json!({}), json!({}), json!({})])) },
            vec!["gone", "spec.source.nodeName"],
        ),
        (
            Case { pinned: Some("m0".into()), ..of(vec![silent(healthy("m0", json!({}))), healthy("m1", json!({}))]) },
            vec!["m0: its agent has been silent"],
        ),
    ];
    for (case, words) in cases {
        let said = chosen(&case).unwrap_err();
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not all in {said}");
    }
}

#[test]
fn agents_take_turns_and_silent_ones_are_passed_over() {
    let members = vec![
        healthy("m0", json!({})),
        silent(healthy("m1", json!({}))),
        healthy("m2", json!({"problem": "etcd is down"})),
    ];
    let after =
        |previous: Option<&str>| choose_agent(&members, previous.map(NodeName::from).as_ref(), None).map(|node| node.0);
    assert_eq!(after(None).as_deref(), Some("m0"));
    assert_eq!(after(Some("m0")).as_deref(), Some("m2"), "a probe needs no healthy etcd");
    assert_eq!(after(Some("m2")).as_deref(), Some("m0"));
    assert_eq!(choose_agent(&[member("m0", json!({}))], None, None), None);
}

#[test]
fn owners_of_a_location_come_before_all_others_and_alone_write_in_it() {
    let members = three([json!({"hostId": "h0"}), json!({"hostId": "h1"}), json!({})]);
    let owners = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
    let agent = |previous: Option<&str>, hosts: &[&str]| {
        let previous = previous.map(NodeName::from);
        choose_agent(&members, previous.as_ref(), Some(&owners(hosts))).map(|node| node.0)
    };
    assert_eq!(agent(None, &["h1"]).as_deref(), Some("m1"));
    assert_eq!(agent(Some("m1"), &["h1"]).as_deref(), Some("m1"), "no other is an owner");
    assert_eq!(agent(Some("m1"), &["h0", "h1", "gone"]).as_deref(), Some("m0"));
    assert_eq!(agent(Some("m0"), &["gone"]).as_deref(), Some("m1"), "somebody must find out that it is another's");
    let node = |hosts: &[&str], pinned: Option<&str>| {
        let pinned = pinned.map(NodeName::from);
        let owners = owners(hosts);
        let wanted = Wanted {
            pinned: pinned.as_ref(),
            owners: Some(&owners),
            policy: MemberPolicy::Any,
            failed_last: None,
            spool: None,
            busy: &BTreeMap::new(),
            last_used: &BTreeMap::new(),
        };
        choose_node(&members, &wanted).map(|node| node.0)
    };
    assert_eq!(node(&["h1"], None).as_deref(), Ok("m1"));
    for (hosts, pinned) in [(&["gone"][..], None), (&["h1"], Some("m0")), (&["h1"], Some("m2"))] {
        let words = node(hosts, pinned).unwrap_err();
        assert!(words.contains("may write in the location"), "{words}");
    }
}

#[test]
fn attempts_go_on_from_the_highest_that_was_seen() {
    let assignment = Assignment {
        node_name: "m0".into(),
        attempt: 3,
        task: lifeboat_crds::Task::Probe,
        time: lifeboat_crds::Time(at(0)),
    };
    let execution: Execution<()> = serde_json::from_value(json!({"nodeName": "m0", "attempt": 7, "task": "Probe",
        "startTime": "2026-11-24T00:00:00Z", "heartbeatTime": "2026-11-24T00:00:00Z"}))
    .unwrap();
    assert_eq!(next_attempt::<()>(None, None), 1);
    assert_eq!(next_attempt::<()>(Some(&assignment), None), 4);
    assert_eq!(next_attempt(Some(&assignment), Some(&execution)), 8);
    assert!(Duration::from_secs(89) < SILENCE);
}
