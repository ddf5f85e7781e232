use super::*;
use proptest::prelude::*;
use serde_json::json;

const OTHER: Domain = Domain("etcd.lifeboat.dev/other\n");

fn key(first: u8) -> SigningKey {
    SigningKey::from_seed([first; 32])
}

fn knows(keys: &[&SigningKey]) -> KnownKeys {
    let mut known = KnownKeys::default();
    known.extend(keys.iter().map(|key| key.public()));
    known
}

fn signed(payload: Value) -> Envelope<Value> {
    Envelope::sign(payload, Domain::MANIFEST, &key(1)).unwrap()
}

#[test]
fn each_state_of_a_signature_is_told_apart() {
    let (mine, other) = (key(1), key(2));
    let good = signed(json!({"a": 1}));
    let id = mine.public().id();
    let with = |change: fn(&mut Envelope<Value>)| {
        let mut document = good.clone();
        change(&mut document);
        document
    };
    let cases = [
        ("as it was signed", good.clone(), SignatureState::Valid(id)),
        ("never signed", Envelope::unsigned(json!({"a": 1})), SignatureState::Unsigned),
        ("another payload", with(|d| d.payload = json!({"a": 2})), SignatureState::Invalid),
        ("one field more", with(|d| d.payload = json!({"a": 1, "b": null})), SignatureState::Invalid),
        ("no key named", with(|d| d.key_id = None), SignatureState::Invalid),
        ("signature cut off", with(|d| d.signature = None), SignatureState::Invalid),
        ("signature is no base64", with(|d| d.signature = Some("%".into())), SignatureState::Invalid),
        ("signature is short", with(|d| d.signature = Some("AAAA".into())), SignatureState::Invalid),
        ("key id is none", with(|d| d.key_id = Some("../../etc".into())), SignatureState::Invalid),
        ("another known key named", with(|d| d.key_id = Some(key(2).public().id().into())), SignatureState::Invalid),
        (
            "an unknown key named",
            with(|d| d.key_id = Some("00000000000000ff".into())),
            SignatureState::Unknown("00000000000000ff".parse().unwrap()),
        ),
        ("minor format raised", with(|d| d.format_version = "1.9".into()), SignatureState::Valid(mine.public().id())),
    ];
    for (case, document, expected) in cases {
        assert_eq!(document.verify(Domain::MANIFEST, &knows(&[&mine, &other])), expected, "{case}");
    }
    assert_eq!(good.verify(OTHER, &knows(&[&mine])), SignatureState::Invalid, "a signature of another kind");
    assert_eq!(good.verify(Domain::MANIFEST, &knows(&[&other])), SignatureState::Unknown(mine.public().id()));
}

#[test]
fn a_reader_that_does_not_know_a_newer_field_verifies_it_all_the_same() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        a: i64,
    }
    let bytes = signed(json!({"a": 1, "later": {"b": [1, 2]}})).to_bytes().unwrap();
    let received = Envelope::<Value>::from_bytes(&bytes).unwrap();
    assert!(matches!(received.verify(Domain::MANIFEST, &knows(&[&key(1)])), SignatureState::Valid(_)));
    assert_eq!(received.understand::<Old>().unwrap().payload, Old { a: 1 });
}

#[test]
fn order_and_white_space_do_not_matter() {
    let document = signed(json!({"a": 1, "b": "ü"}));
    let text = format!(
        "{{ \"signature\": \"{}\",\n\"keyId\": \"{}\", \"payload\": {{\"b\": \"\\u00fc\", \"a\": 1.0}}, \"formatVersion\": \"1.0\" }}",
        document.signature.unwrap(),
        document.key_id.unwrap()
    );
    let received = Envelope::<Value>::from_bytes(text.as_bytes()).unwrap();
    assert!(matches!(received.verify(Domain::MANIFEST, &knows(&[&key(1)])), SignatureState::Valid(_)));
}

#[test]
fn a_number_that_canonical_json_would_round_is_neither_signed_nor_believed() {
    let exact = signed(json!({"n": 9_007_199_254_740_991_i64}));
    let mut rounded = exact.clone();
    rounded.payload = json!({"n": 9_007_199_254_740_993_i64});
    assert_eq!(rounded.verify(Domain::MANIFEST, &knows(&[&key(1)])), SignatureState::Invalid);
    let error = Envelope::sign(rounded.payload, Domain::MANIFEST, &key(1)).unwrap_err();
    assert!(matches!(error, DocumentError::NotExact(_)), "{error}");
}

#[test]
fn keys_read_back_from_pem_and_print_without_their_secret() {
    let key = key(7);
    let pem = key.to_pem().unwrap();
    let read = SigningKey::from_pem(&format!("\n{pem}\n\n")).unwrap();
    assert_eq!(read.public(), key.public());
    assert_eq!(PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().id()));
    for text in ["", "nonsense", &key.public().to_pem().unwrap()] {
        let words = SigningKey::from_pem(text).unwrap_err().to_string();
        assert!(words.contains("PKCS#8") && (text.is_empty() || !words.contains(text)), "{words}");
    }
    assert_eq!(PublicKey::from_pem(&pem), Err(KeyError::NotAPublicKey), "a private key is no public one");
}

/// RFC 8032, section 7.1, test 1: the name of a key does not change between versions.
#[test]
fn the_name_of_a_key_is_the_hash_of_its_public_part() {
    let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let public = SigningKey::from_seed(seed.try_into().unwrap()).public();
    let bytes = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    assert_eq!(public.id().as_str(), &hex::encode(Sha256::digest(bytes))[..16]);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Every place in a document, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #[test]
    fn what_was_signed_is_valid_after_any_journey(payload in json_value()) {
        let bytes = signed(payload).to_bytes().unwrap();
        let received = Envelope::<Value>::from_bytes(&bytes).unwrap();
        prop_assert_eq!(
            received.verify(Domain::MANIFEST, &knows(&[&key(1)])),
            SignatureState::Valid(key(1).public().id())
        );
    }

    #[test]
    fn any_change_of_any_place_is_caught(payload in json_value(), other in json_value(), pick in any::<prop::sample::Index>()) {
        let mut document = signed(payload.clone());
        let mut all = Vec::new();
        places(&payload, "", &mut all);
        let place = &all[pick.index(all.len())];
        let target = document.payload.pointer_mut(place).unwrap();
        prop_assume!(*target != other);
        *target = other;
        prop_assert_eq!(document.verify(Domain::MANIFEST, &knows(&[&key(1)])), SignatureState::Invalid);
    }
}
