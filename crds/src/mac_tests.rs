use super::*;
use crate::mark::{Claim, Outcome, Reason, Verdict};

const KEY: [u8; 32] = [7; 32];

fn id() -> RestoreId {
    RestoreId::new("lifeboat", "friday", 1, "ab")
}

fn order_digest() -> OrderDigest {
    "1".repeat(64).parse().unwrap()
}

fn mark(node: &NodeName) -> Mark {
    Mark { restore_id: id(), order_digest: order_digest(), node_name: node.clone(), claim: Claim::Verified, counter: 3 }
}

fn decision(node: &str) -> Decision {
    Decision {
        restore_id: id(),
        order_digest: order_digest(),
        node_name: node.into(),
        verdict: Verdict::Commit,
        reason: Reason::AllVerified,
        message: Reason::AllVerified.to_string(),
    }
}

#[test]
fn a_mark_counts_only_in_its_own_place_under_its_own_order() {
    let (key, id, order) = (RestoreKey::new(KEY), id(), order_digest());
    let (m0, m1) = (NodeName::from("m0"), NodeName::from("m1"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let sealed = seal(&key, &place, &mark(&m0)).unwrap();
    assert_eq!(open::<Mark>(&key, &place, sealed.clone()).unwrap(), mark(&m0));

    let other_id = RestoreId::new("n", "a", 2, "s");
    let other_order = "0".repeat(64).parse().unwrap();
    for elsewhere in [
        Subject::mark("uid", &id, &order, &m1, MarkStep::Verified),
        Subject::mark("uid", &id, &order, &m0, MarkStep::Prepared),
        Subject::mark("uid", &id, &other_order, &m0, MarkStep::Verified),
        Subject::mark("uid", &other_id, &order, &m0, MarkStep::Verified),
        Subject::mark("other", &id, &order, &m0, MarkStep::Verified),
        Subject { kind: DocumentKind::Decision, ..place },
    ] {
        assert!(matches!(open::<Mark>(&key, &elsewhere, sealed.clone()), Err(MacError::Forged)), "{elsewhere:?}");
    }
}

#[test]
fn content_that_says_to_belong_elsewhere_is_refused_though_its_mac_fits() {
    let (key, id, order, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let other_order: OrderDigest = "0".repeat(64).parse().unwrap();
    for misplaced in [
        Mark { node_name: "m1".into(), ..mark(&m0) },
        Mark { claim: Claim::Prepared, ..mark(&m0) },
        Mark { restore_id: RestoreId::new("n", "a", 2, "s"), ..mark(&m0) },
        Mark { order_digest: other_order, ..mark(&m0) },
    ] {
        let sealed = seal(&key, &place, &misplaced).unwrap();
        assert!(matches!(open::<Mark>(&key, &place, sealed), Err(MacError::Misplaced)), "{misplaced:?}");
    }
}

#[test]
fn changed_content_another_key_and_no_mac_are_refused() {
    let (key, id, order, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let sealed = seal(&key, &place, &mark(&m0)).unwrap();
    let mut changed = sealed.clone();
    changed.payload["counter"] = 4.into();
    assert!(matches!(open::<Mark>(&key, &place, changed), Err(MacError::Forged)));
    assert!(matches!(open::<Mark>(&RestoreKey::new([8; 32]), &place, sealed), Err(MacError::Forged)));
    let bare = Envelope::unsigned(serde_json::to_value(mark(&m0)).unwrap());
    assert!(matches!(open::<Mark>(&key, &place, bare), Err(MacError::Missing)));
    assert!(!format!("{key:?}").contains('7'));
}

#[test]
fn fields_of_a_newer_minor_version_are_covered_and_passed_over() {
    let (key, id, order, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let mut later = serde_json::to_value(mark(&m0)).unwrap();
    later["later"] = true.into();
    let sealed = seal(&key, &place, &later).unwrap();
    assert_eq!(open::<Mark>(&key, &place, sealed).unwrap(), mark(&m0));
}

#[test]
fn a_decision_counts_from_any_member_of_the_order_and_from_nobody_else() {
    let (key, order) = (RestoreKey::new(KEY), crate::order::tests::order());
    let (digest, id) = (order_digest(), id());
    let by = |node: &str, says: &str| {
        let node = NodeName::from(node);
        seal(&key, &Subject::decision("uid", &id, &digest, &node), &decision(says)).unwrap()
    };
    assert_eq!(open_decision(&key, &order, &digest, by("m0", "m0")).unwrap(), decision("m0"));
    assert!(matches!(open_decision(&key, &order, &digest, by("m2", "m2")), Err(MacError::Forged)), "lost, no member");
    assert!(matches!(open_decision(&key, &order, &digest, by("m2", "m0")), Err(MacError::Forged)));
    let mut turned = by("m0", "m0");
    turned.payload["verdict"] = "Rollback".into();
    assert!(matches!(open_decision(&key, &order, &digest, turned), Err(MacError::Forged)));
    let other = "0".repeat(64).parse().unwrap();
    assert!(matches!(open_decision(&key, &order, &other, by("m0", "m0")), Err(MacError::Forged)));
}

#[test]
fn an_outcome_is_that_of_its_node() {
    let (key, id, digest, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let outcome = NodeOutcome {
        restore_id: id.clone(),
        order_digest: digest.clone(),
        node_name: m0.clone(),
        request: crate::order::tests::order().request,
        outcome: Outcome::RolledBack,
        reason: Reason::Cancelled,
        message: "cancelled".to_owned(),
        revision: None,
        outage_seconds: Some(12),
        time: "2026-11-24T02:03:04Z".parse().unwrap(),
    };
    let place = Subject::outcome("uid", &id, &digest, &m0);
    let sealed = seal(&key, &place, &outcome).unwrap();
    assert_eq!(open::<NodeOutcome>(&key, &place, sealed.clone()).unwrap(), outcome);
    let m1 = NodeName::from("m1");
    let elsewhere = Subject::outcome("uid", &id, &digest, &m1);
    assert!(matches!(open::<NodeOutcome>(&key, &elsewhere, sealed), Err(MacError::Forged)));
}

/// As format 1.0 writes them, to the byte: two versions in one restore must read each other's marks and decision. The MAC was
/// computed apart, over what its comment in `mac.rs` says. Who changes one of these raises the format.
#[test]
fn marks_and_decision_are_written_as_their_format_says() {
    let (key, id, order, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let text = |sealed: Envelope<Value>| String::from_utf8(sealed.to_bytes().unwrap()).unwrap();
    let ones = "1".repeat(64);
    assert_eq!(
        text(seal(&key, &place, &mark(&m0)).unwrap()),
        format!(
            r#"{{"formatVersion":"1.0","mac":"vDYlMzEeQnhXGYLDTubTkvEA4u2uzSD/w4929vCjdSo=","payload":{{"claim":{{"step":"Verified"}},"counter":3,"nodeName":"m0","orderDigest":"{ones}","restoreId":"{id}"}}}}"#
        ) + "\n"
    );
    let place = Subject::decision("uid", &id, &order, &m0);
    assert_eq!(
        text(seal(&key, &place, &decision("m0")).unwrap()),
        format!(
            r#"{{"formatVersion":"1.0","mac":"2TUEtBx5WLmmPhY3MvtquS9Ya3s2D82Q0fXQA8648ls=","payload":{{"message":"all members verified the restored data","nodeName":"m0","orderDigest":"{ones}","reason":"AllVerified","restoreId":"{id}","verdict":"Commit"}}}}"#
        ) + "\n"
    );
}

#[test]
fn a_mark_or_decision_of_another_version_is_not_read_as_one_of_this() {
    let (key, id, order, m0) = (RestoreKey::new(KEY), id(), order_digest(), NodeName::from("m0"));
    let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
    let later = Envelope { format_version: "2.0".to_owned(), ..seal(&key, &place, &mark(&m0)).unwrap() };
    assert!(matches!(Envelope::<Value>::from_bytes(&later.to_bytes().unwrap()), Err(DocumentError::Newer { .. })));
    // A word that this version does not know says nothing to it: a later version that adds one raises the format.
    let mut unknown = serde_json::to_value(mark(&m0)).unwrap();
    unknown["claim"]["step"] = "Levitated".into();
    let sealed = seal(&key, &place, &unknown).unwrap();
    assert!(matches!(open::<Mark>(&key, &place, sealed), Err(MacError::Document(_))));
    let mut unknown = serde_json::to_value(decision("m0")).unwrap();
    unknown["verdict"] = "Perhaps".into();
    let place = Subject::decision("uid", &id, &order, &m0);
    let sealed = seal(&key, &place, &unknown).unwrap();
    assert!(matches!(open::<Decision>(&key, &place, sealed), Err(MacError::Document(_))));
}

#[test]
fn a_key_of_the_installation_is_found_by_who_has_its_key_and_by_nobody_else() {
    let key = |seed, token: &str| {
        let installation = SigningKey::from_seed([seed; 32]);
        *RestoreKey::of_installation(&installation, &RestoreId::new("ns", "r", 1, "ab"), token).as_bytes()
    };
    assert_eq!(key(1, "t"), key(1, "t"));
    assert_ne!(key(1, "t"), key(2, "t"));
    assert_ne!(key(1, "t"), key(1, "u"), "another order of the same restore has another key");
    // Frozen: hosts of different versions find the same key. Computed by another program.
    assert_eq!(hex::encode(key(1, "t")), "6855d61bcf05693a1b4d3d136a98d7c26bf340cb680eec6e2d873ef9b9e1d776");
}
