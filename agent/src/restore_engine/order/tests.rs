use super::*;

fn member(name: &str, url: &str) -> SnapshotMember {
    SnapshotMember { id: 1, name: name.into(), peer_urls: vec![url.into()], client_urls: vec![], is_learner: false }
}

fn own(name: &str, url: &str) -> Own {
    Own { name: name.into(), peer_urls: vec![url.into()] }
}

fn database() -> Database {
    Database {
        revision: 50,
        cluster_version: Some("3.6.0".into()),
        members: vec![member("m1", "https://b:2380"), member("m0", "https://a:2380")],
        ..Database::default()
    }
}

fn minted(own: &Own, members: &[OrderMember], highest_seen: Option<i64>) -> Result<Order, OrderError> {
    mint(&Minting {
        sha256: [7; 32],
        size: 9,
        database: &database(),
        members,
        highest_seen,
        own,
        token: "t".into(),
        now: Timestamp::UNIX_EPOCH,
    })
}

#[test]
fn only_the_first_member_mints_so_there_is_one_order() {
    let order = minted(&own("m0", "https://a:2380/"), &[], Some(70)).unwrap();
    assert_eq!((order.bump_to, order.bump()), (70 + BUMP, 20 + BUMP));
    assert_eq!(order.initial_cluster(), "m0=https://a:2380,m1=https://b:2380");
    assert_eq!(order.snapshot.etcd, Minor::parse("3.6"));
    let second = minted(&own("m1", "https://b:2380"), &[], None).unwrap_err();
    assert_eq!(second, OrderError::NotTheFirst { first: "m0".into() });
}

#[test]
fn a_node_that_is_no_member_is_refused_unless_the_administrator_names_the_members() {
    for stranger in [own("m0", "https://elsewhere:2380"), own("m9", "https://a:2380")] {
        let words = minted(&stranger, &[], None).unwrap_err().to_string();
        assert!(words.contains("m0=https://a:2380") && words.contains("--member"), "{words}");
    }
    let given = [OrderMember { name: "n0".into(), peer_urls: vec!["https://new:2380".into()] }];
    assert_eq!(minted(&own("n0", "https://new:2380"), &given, None).unwrap().members, given);
}

#[test]
fn an_order_is_for_its_file_and_its_members() {
    let order = minted(&own("m0", "https://a:2380"), &[], None).unwrap();
    assert_eq!(order.check(&own("m1", "https://b:2380"), &[7; 32]), Ok(()));
    assert!(matches!(order.check(&own("m1", "https://b:2380"), &[8; 32]), Err(OrderError::OtherFile { .. })));
    assert!(matches!(order.check(&own("m2", "https://b:2380"), &[7; 32]), Err(OrderError::NotAMember { .. })));
}

#[test]
fn an_order_reads_back_and_one_with_unknown_fields_is_refused() {
    let order = minted(&own("m0", "https://a:2380"), &[], None).unwrap();
    let bytes = OrderDocument::unsigned(order.clone()).to_bytes().unwrap();
    assert_eq!(OrderDocument::from_bytes(&bytes).unwrap().payload, order);
    let text = String::from_utf8(bytes).unwrap().replace("\"token\"", "\"tokem\":1,\"token\"");
    assert!(OrderDocument::from_bytes(text.as_bytes()).is_err());
}

#[test]
fn the_short_code_is_the_beginning_of_the_digest() {
    assert_eq!(short_code("1a2b3c4d5e6f"), "1a2b-3c4d");
    assert_eq!(short_code(""), "-");
}

#[test]
fn a_snapshot_without_members_is_refused() {
    let empty = Database { members: vec![], ..database() };
    let own = own("m0", "https://a:2380");
    let minting = Minting {
        sha256: [7; 32],
        size: 9,
        database: &empty,
        members: &[],
        highest_seen: None,
        own: &own,
        token: "t".into(),
        now: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(mint(&minting).unwrap_err(), OrderError::NoMembers);
    let far = Minting { database: &database(), highest_seen: Some(i64::MAX - 5), ..minting };
    assert!(matches!(mint(&far), Err(OrderError::RevisionTooHigh(_))));
}
