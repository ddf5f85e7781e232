use super::*;
use crate::etcd::status::{ClusterId, Member, MemberId};
use serde_json::json;

const SHA: &str = "abababab";

fn found(alter: impl FnOnce(&mut Manifest), signature: SignatureState) -> FoundManifest {
    let mut manifest: Manifest = crate::restore_cli::plan::tests::manifest();
    manifest.cluster.uid = "uid".into();
    manifest.snapshot.sha256 = SHA.into();
    alter(&mut manifest);
    FoundManifest { manifest, signature }
}

fn live(names: &[&str]) -> MemberStatus {
    let member = |name: &&str| Member {
        id: MemberId(1),
        name: (*name).to_owned(),
        peer_urls: vec!["https://10.0.0.1:2380".into()],
        client_urls: Vec::new(),
        is_learner: false,
    };
    MemberStatus {
        version: "3.6.1".into(),
        storage_version: None,
        cluster_id: ClusterId(1),
        member_id: MemberId(1),
        leader_id: Some(MemberId(1)),
        is_learner: false,
        revision: 99,
        db_size: 0,
        db_size_in_use: 0,
        quota: None,
        alarms: Vec::new(),
        errors: Vec::new(),
        members: names.iter().map(member).collect(),
    }
}

fn kinds(found: &FoundManifest, alter: impl FnOnce(&mut Seen<'_>)) -> Vec<String> {
    let names: Vec<&str> = found.manifest.cluster.members.iter().map(|member| member.name.as_str()).collect();
    let planned = PlannedBackup { sha256: SHA.into(), ..PlannedBackup::default() };
    let (live, fingerprints) =
        (live(&names), Fingerprints { service_account_key: Some("now".into()), ..Fingerprints::default() });
    let mut seen = Seen {
        cluster: "uid",
        own_cluster: "uid",
        found,
        planned: &planned,
        trusted: None,
        live: &live,
        fingerprints: &fingerprints,
        identity: None,
        has_identity: false,
        busy: None,
        needs_api: None,
    };
    alter(&mut seen);
    findings(&seen).into_iter().map(|finding| finding.kind).collect()
}

fn valid() -> SignatureState {
    SignatureState::Valid("0123456789abcdef".parse().unwrap())
}

#[test]
fn what_is_wrong_with_the_backup_is_found_and_what_is_right_is_not() {
    let good = found(|_| {}, valid());
    assert_eq!(kinds(&good, |_| {}), Vec::<String>::new());
    let none: fn(&mut Seen<'_>) = |_| {};
    for (case, found, alter, expected) in [
        ("unsigned", found(|_| {}, SignatureState::Unsigned), none, "Untrusted"),
        (
            "trusted",
            found(|_| {}, SignatureState::Unsigned),
            |seen: &mut Seen<'_>| seen.trusted = Some(SHA),
            "TrustedByHand",
        ),
        (
            "altered, trusted or not",
            found(|_| {}, SignatureState::Invalid),
            |seen| seen.trusted = Some(SHA),
            "Untrusted",
        ),
        ("another snapshot", found(|manifest| manifest.snapshot.sha256 = "cd".into(), valid()), none, "Untrusted"),
        ("another cluster", found(|manifest| manifest.cluster.uid = "other".into(), valid()), none, "Untrusted"),
        (
            "another cluster, allowed",
            found(|manifest| manifest.cluster.uid = "other".into(), valid()),
            |seen| seen.cluster = "other",
            "AllowedOtherCluster",
        ),
        ("not verified", found(|manifest| manifest.snapshot.content_hash = None, valid()), none, "NeverVerified"),
        ("encrypted", found(|manifest| manifest.archive.recipients = vec!["age1".into()], valid()), none, "NoIdentity"),
        ("a bad identity", found(|_| {}, valid()), |seen| seen.identity = Some("w".into()), "NoIdentity"),
        ("busy", found(|_| {}, valid()), |seen| seen.busy = Some("w".into()), "MasterBusy"),
        (
            "a member more",
            found(|manifest| drop(manifest.cluster.members.pop()), valid()),
            |seen| seen.live = &*Box::leak(Box::new(live(&["x"]))),
            "MembersDiffer",
        ),
        (
            "other keys",
            found(|manifest| manifest.cluster.service_account_key_sha256 = Some("then".into()), valid()),
            none,
            "KeysDiffer",
        ),
    ] {
        assert_eq!(kinds(&found, alter), [expected], "{case}");
    }
    let opened = found(|manifest| manifest.archive.recipients = vec!["age1".into()], valid());
    assert!(kinds(&opened, |seen| seen.has_identity = true).is_empty());
}

#[test]
fn a_store_that_needs_the_api_is_found() {
    let location = |s3: serde_json::Value| -> EtcdBackupLocation {
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
            "metadata": {"name": "l"}, "spec": {"s3": s3}}))
        .unwrap()
    };
    let with = |endpoint: &str| {
        location(json!({"bucket": "etcd-backups", "endpoint": endpoint, "credentialsSecretRef": {"name": "s"}}))
    };
    for endpoint in ["http://minio.minio.svc:9000", "https://minio.minio.svc.cluster.local", "http://Minio.minio.SVC"] {
        assert!(needs_api(&with(endpoint), false).is_some(), "{endpoint}");
    }
    for endpoint in ["https://s3.example.org", "https://svc.example.org:9000/x"] {
        assert!(needs_api(&with(endpoint), true).is_none(), "{endpoint}");
    }
    let of_role = location(json!({"bucket": "etcd-backups"}));
    assert!(needs_api(&of_role, true).is_some() && needs_api(&of_role, false).is_none());
}
