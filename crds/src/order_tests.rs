use super::*;
use serde_json::json;

pub(crate) fn order() -> Order {
    serde_json::from_value(value()).unwrap()
}

fn value() -> Value {
    json!({
        "restoreId": RestoreId::new("lifeboat", "friday", 1, "ab"),
        "request": {"namespace": "lifeboat", "name": "friday", "attempt": 1, "nonce": "n", "approvalCode": "c"},
        "cluster": "uid", "oldClusterId": "0000000000000abc",
        "members": [{"nodeName": "m0", "name": "m0", "peerURL": "https://m0:2380", "version": "3.6.16"}],
        "lost": [{"nodeName": "m2", "name": "m2", "peerURL": "https://m2:2380", "version": "3.6.16"}],
        "lostQuorumAcknowledged": false,
        "backup": {"backupId": "20261124-020304-0123abcd", "cluster": "uid", "sha256": "ab", "contentHash": "cd",
            "revision": 7},
        "token": "t", "bumpTo": 1_000_000_007, "author": "m0", "safety": "Required", "holdBeforeRelease": false,
        "restartKubelets": "ControlPlane", "timeouts": {"stageSeconds": 3600, "outageSeconds": 900},
        "notices": ["UnverifiedBackup"], "loopbackApiServers": true, "coordination": "uid/", "sealedKeys": {},
        "time": "2026-11-24T02:03:04Z"
    })
}

fn author() -> (SigningKey, KnownKeys) {
    let key = SigningKey::from_seed([3; 32]);
    let mut known = KnownKeys::default();
    known.insert(key.public());
    (key, known)
}

const KEY: [u8; 32] = [7; 32];

fn received(envelope: &Envelope<Value>, known: &KnownKeys) -> ReceivedOrder {
    ReceivedOrder::read(&envelope.to_bytes().unwrap(), known).unwrap()
}

#[test]
fn restore_id_repeats_for_the_same_request_and_changes_with_attempt_and_snapshot() {
    let id = RestoreId::new("ns", "a", 1, "ab");
    assert_eq!(id, RestoreId::new("ns", "a", 1, "ab"));
    assert_ne!(id, RestoreId::new("ns", "a", 2, "ab"));
    assert_ne!(id, RestoreId::new("ns", "a", 1, "ac"));
    assert_ne!(id, RestoreId::new("n", "s/a", 1, "ab"));
    assert_eq!(id.as_str().parse::<RestoreId>().unwrap(), id);
    assert!("../../etc".parse::<RestoreId>().is_err());
}

#[test]
fn an_order_reads_back_signed_and_with_the_digest_it_was_written_with() {
    let ((author, known), key) = (author(), RestoreKey::new(KEY));
    let read = received(&order().publish(Some(&author), &key).unwrap(), &known);
    assert_eq!(read.order, order());
    assert!(read.is_authored(None));
    assert!(read.check_key(&key).is_ok());
    let other = Order { token: "another".to_owned(), ..order() };
    assert_ne!(received(&other.publish(Some(&author), &key).unwrap(), &known).digest, read.digest);
}

#[test]
fn the_digest_is_that_of_the_bytes_received_whatever_version_reads_them() {
    let known = author().1;
    // Written by hand, its fields in an order of their own, a number in another form.
    let mut text = serde_json::to_string(&json!({"formatVersion": "1.4", "payload": value()})).unwrap();
    let digest = ReceivedOrder::read(text.as_bytes(), &known).unwrap().digest;
    assert_eq!(digest.as_str(), exact_digest(&value()).unwrap());
    text = text.replace("1000000007", "1000000008");
    assert_ne!(ReceivedOrder::read(text.as_bytes(), &known).unwrap().digest, digest);
}

#[test]
fn a_field_that_this_version_does_not_know_or_that_is_missing_refuses_the_whole_order() {
    let known = KnownKeys::default();
    let read = |payload: Value| {
        ReceivedOrder::read(&Envelope::unsigned(payload).to_bytes().unwrap(), &known).map(|read| read.order)
    };
    assert!(read(value()).is_ok());
    for place in ["", "/request", "/members/0", "/backup", "/timeouts"] {
        let mut later = value();
        later.pointer_mut(place).unwrap()["later"] = true.into();
        assert!(read(later).is_err(), "{place}");
    }
    for field in value().as_object().unwrap().keys() {
        let mut less = value();
        less.as_object_mut().unwrap().remove(field);
        assert!(read(less).is_err(), "{field} has no default");
    }
}

#[test]
fn an_order_or_slot_of_a_later_format_is_refused_in_words() {
    let known = KnownKeys::default();
    let later = |payload: Value| Envelope { format_version: "2.0".to_owned(), ..Envelope::unsigned(payload) };
    let order = ReceivedOrder::read(&later(value()).to_bytes().unwrap(), &known).unwrap_err();
    let slot = json!({"number": 4, "restoreId": "0123456789abcdef0123", "orderDigest": "1".repeat(64)});
    assert!(ActiveSlot::read(&Envelope::unsigned(slot.clone()).to_bytes().unwrap(), &known).is_ok());
    let slot = ActiveSlot::read(&later(slot).to_bytes().unwrap(), &known).unwrap_err();
    for error in [order, slot] {
        assert!(error.to_string().contains("use a newer version of lifeboat"), "{error}");
    }
}

#[test]
fn an_order_that_nobody_of_this_installation_signed_is_not_believed_though_its_mac_fits() {
    let (known, key) = (author().1, RestoreKey::new(KEY));
    // Anybody can draw a key and encrypt it to the masters' public keys.
    let stranger = SigningKey::from_seed([4; 32]);
    for (forged, state) in [
        (order().publish(None, &key).unwrap(), SignatureState::Unsigned),
        (order().publish(Some(&stranger), &key).unwrap(), SignatureState::Unknown(stranger.public().id())),
    ] {
        let read = received(&forged, &known);
        assert!(read.check_key(&key).is_ok(), "the MAC proves no author");
        assert_eq!(read.signature, state);
        assert!(!read.is_authored(None));
        assert!(read.is_authored(Some(&read.digest.clone())), "a human compared the digest");
        assert!(!read.is_authored(Some(&OrderDigest("0".repeat(64)))));
    }
    let mut altered = order().publish(Some(&author().0), &key).unwrap();
    altered.payload["bumpTo"] = 5.into();
    let read = received(&altered, &known);
    assert_eq!(read.signature, SignatureState::Invalid);
    assert!(!read.is_authored(Some(&read.digest.clone())));
    assert!(matches!(read.check_key(&key), Err(MacError::Forged)));
}

#[test]
fn a_signature_of_another_kind_of_document_is_none_of_an_order() {
    let (author, known) = author();
    let as_manifest = Envelope::sign(value(), Domain::MANIFEST, &author).unwrap();
    assert_eq!(received(&as_manifest, &known).signature, SignatureState::Invalid);
    let as_slot = Envelope::sign(value(), Domain::SLOT, &author).unwrap();
    assert_eq!(received(&as_slot, &known).signature, SignatureState::Invalid);
}

#[test]
fn a_slot_that_this_installation_did_not_write_is_told_from_one_that_it_did() {
    let (author, known) = author();
    let slot = ActiveSlot {
        number: 4,
        restore_id: RestoreId::new("lifeboat", "friday", 1, "ab"),
        order_digest: OrderDigest("1".repeat(64)),
    };
    let state = |document: SlotDocument| ActiveSlot::read(&document.to_bytes().unwrap(), &known).unwrap();
    let (read, signature) = state(slot.publish(Some(&author)).unwrap());
    assert_eq!((read, signature), (slot.clone(), SignatureState::Valid(author.public().id())));
    assert_eq!(state(slot.publish(None).unwrap()).1, SignatureState::Unsigned);
    let mut moved = slot.publish(Some(&author)).unwrap();
    moved.payload.number = 5;
    assert_eq!(state(moved).1, SignatureState::Invalid);
}

#[test]
fn the_approval_code_is_that_of_everything_a_restore_does_and_of_no_moving_figure() {
    let code = |order: &Order| order.approval_terms().code().unwrap();
    let approved = |mut order: Order| {
        order.request.approval_code = code(&order);
        order
    };
    let base = approved(order());
    assert!(base.is_as_approved());
    assert!(!order().is_as_approved());
    assert_eq!(base.request.approval_code.len(), 9);
    assert_eq!(base.request.approval_code.find('-'), Some(4));
    let lost = vec![];
    let mut newer = base.members.clone();
    newer[0].version = "3.6.17".to_owned();
    let mut later = base.request.clone();
    later.nonce = "m".to_owned();
    for changed in [
        Order { lost, ..base.clone() },
        Order { members: newer, ..base.clone() },
        Order { request: later, ..base.clone() },
        Order { safety: OrderedSafety::Skipped, ..base.clone() },
        Order { hold_before_release: true, ..base.clone() },
        Order { restart_kubelets: RestartKubelets::None, ..base.clone() },
        Order { timeouts: OrderedTimeouts { stage_seconds: 60, ..base.timeouts }, ..base.clone() },
        Order { notices: vec![], ..base.clone() },
        Order { backup: OrderedBackup { sha256: "ba".to_owned(), ..base.backup.clone() }, ..base.clone() },
    ] {
        assert!(!changed.is_as_approved());
    }
    assert!(Order { bump_to: 9, token: "u".to_owned(), ..base }.is_as_approved());
}

#[test]
fn lost_masters_that_could_go_on_alone_are_a_quorum() {
    let with = |members: usize, lost: usize| {
        let one = order().members[0].clone();
        Order { members: vec![one.clone(); members], lost: vec![one; lost], ..order() }.loses_quorum()
    };
    assert!(!with(2, 1));
    assert!(with(1, 2));
    assert!(!with(2, 2), "two of four are no quorum");
    assert!(with(2, 3));
    assert!(!with(1, 0));
}

#[test]
fn cluster_id_is_hex_on_the_wire() {
    assert_eq!(serde_json::to_value(EtcdClusterId(0xabc)).unwrap(), json!("0000000000000abc"));
    assert!(serde_json::from_value::<EtcdClusterId>(json!("xyz")).is_err());
}
