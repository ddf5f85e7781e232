//! Facts from what was read, and what makes a member no source of backups.

use super::*;
use crate::etcd::status::{Alarm, ClusterId, Member, MemberId};
use crate::host::discovery::Platform;

const NOW: &str = "2026-11-24T03:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn discovery() -> Discovery {
    Discovery {
        platform: Platform::StaticPods,
        name: Some("m1".into()),
        endpoint: Some("https://127.0.0.1:2379".into()),
        data_dir: Some("/var/lib/etcd".into()),
        quota: Some(2 << 30),
        ..Discovery::default()
    }
}

fn status() -> MemberStatus {
    MemberStatus {
        version: "3.6.16".into(),
        storage_version: Some("3.6.0".into()),
        cluster_id: ClusterId(0xabc),
        member_id: MemberId(1),
        leader_id: Some(MemberId(1)),
        is_learner: false,
        revision: 42,
        db_size: 25_000_000,
        db_size_in_use: 20_000_000,
        quota: Some(8 << 30),
        alarms: vec![],
        errors: vec![],
        members: vec![Member {
            id: MemberId(1),
            name: "m1".into(),
            peer_urls: vec![],
            client_urls: vec![],
            is_learner: false,
        }],
    }
}

fn facts(
    discovery: &Discovery,
    status: Option<Result<MemberStatus, EtcdError>>,
    not_after: Option<Timestamp>,
) -> MemberFacts {
    collect_facts(&FactsInput {
        discovery,
        status: status.as_ref(),
        not_after,
        free: FreeBytes { data_dir: Some(7), spool: None },
        tool_versions: &BTreeMap::new(),
        highest_revision_seen: Some(99),
        comparison: None,
        last_restore: None,
        restore_disabled: None,
        host_id: None,
        agent_version: "0.1.0",
        now: at(NOW),
    })
}

#[test]
fn a_healthy_member_has_every_fact_and_no_problem() {
    let facts = facts(&discovery(), Some(Ok(status())), Some(at("2027-01-01T00:00:00Z")));
    assert_eq!((&facts.problem, &facts.restore_obstacle), (&None, &None));
    assert_eq!((facts.is_leader, facts.has_leader, facts.is_learner), (Some(true), Some(true), Some(false)));
    assert_eq!(
        (facts.cluster_id.as_deref(), facts.member_id.as_deref()),
        (Some("0000000000000abc"), Some("0000000000000001"))
    );
    assert_eq!((facts.db_size_bytes, facts.db_size), (Some(25_000_000), Some(Quantity::human(25_000_000))));
    // The server's own word on its quota, not the manifest's.
    assert_eq!(facts.quota, Some(Quantity::human(8 << 30)));
    assert_eq!((facts.revision, facts.highest_revision_seen), (Some(42), Some(99)));
    assert_eq!(facts.free_bytes.unwrap().data_dir, Some(7));
    assert_eq!(facts.certificates.unwrap().not_after, Some(Time(at("2027-01-01T00:00:00Z"))));
}

#[test]
fn what_the_member_says_of_itself_is_passed_on_and_bounded() {
    let errors = vec!["ä".repeat(2_000); 20];
    let facts = facts(&discovery(), Some(Ok(MemberStatus { errors, ..status() })), None);
    assert_eq!((facts.problem, facts.errors.len(), facts.errors[0].chars().count()), (None, 16, 1_024));
}

#[test]
fn a_silent_member_keeps_what_the_host_knows_and_says_why() {
    let silent = EtcdError::NoAnswer { url: "u".into(), within: std::time::Duration::from_secs(5) };
    let facts = facts(&discovery(), Some(Err(silent)), None);
    assert!(facts.problem.unwrap().contains("crictl"));
    assert_eq!((facts.name.as_deref(), facts.data_dir.as_deref()), (Some("m1"), Some("/var/lib/etcd")));
    assert_eq!((facts.version, facts.has_leader, facts.revision), (None, None, None));
    assert_eq!(facts.quota, Some(Quantity::human(2 << 30)));
}

#[test]
fn what_makes_a_member_no_source_of_backups_is_a_problem() {
    type Change = fn(&mut MemberStatus);
    let cases: [(Change, Option<&str>); 6] = [
        (|status| status.leader_id = None, Some("no leader")),
        (|status| status.alarms.push(Alarm { member_id: MemberId(1), kind: "CORRUPT".into() }), Some("CORRUPT")),
        (|status| status.alarms.push(Alarm { member_id: MemberId(2), kind: "CORRUPT".into() }), None),
        (|status| status.alarms.push(Alarm { member_id: MemberId(1), kind: "NOSPACE".into() }), None),
        (|status| status.members[0].name = "m2".into(), Some("answers as member \"m2\"")),
        (|status| status.members[0].name = String::new(), None),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut status = status();
        change(&mut status);
        let problem = facts(&discovery(), Some(Ok(status)), None).problem;
        match expected {
            Some(words) => {
                assert!(problem.as_deref().is_some_and(|problem| problem.contains(words)), "{index}: {problem:?}")
            }
            None => assert_eq!(problem, None, "{index}"),
        }
    }
}

#[test]
fn problems_of_the_host_are_reported_without_asking_the_member() {
    let discovery = Discovery { problems: vec!["one".into(), "two".into()], ..Discovery::default() };
    assert_eq!(facts(&discovery, None, None).problem.as_deref(), Some("one; two"));
}

#[test]
fn an_expired_certificate_is_named_before_the_words_of_tls() {
    let refused = EtcdError::Untrusted { url: "u".into(), words: "alert".into() };
    let problem = facts(&discovery(), Some(Err(refused)), Some(at("2026-11-23T00:00:00Z"))).problem.unwrap();
    assert!(problem.starts_with("the client certificate for etcd ended at 2026-11-23T00:00:00Z"), "{problem}");
}

#[test]
fn a_certificate_is_warned_of_in_its_last_week_only() {
    let warning = |end: &str| certificate_warning(Some(at(end)), at(NOW));
    assert_eq!(warning("2027-01-01T00:00:00Z"), None);
    assert!(warning("2026-11-28T00:00:00Z").unwrap().contains("ends at"));
    assert!(warning("2026-11-24T02:59:59Z").unwrap().contains("ended at"));
    assert_eq!(certificate_warning(None, at(NOW)), None);
}
