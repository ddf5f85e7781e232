//! What is written down of an archive, and what of it is reported. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_crds::Time;
use lifeboat_crds::backup::{ArchiveFacts, Verification};
use lifeboat_crds::location::Encryption;
use lifeboat_crds::manifest::{
    Manifest, ManifestArchive, ManifestCluster, ManifestMember, ManifestSnapshot, ManifestVerification,
};
use lifeboat_snapshot::{Content, Database, Facts};

use super::proof::Proof;
use super::{BackupOrder, BackupRunner, Source};
use crate::archive::encode::Encoded;
use crate::archive::encryption::Recipients;
use crate::etcd::status::{Member, MemberStatus};

/// Everything a manifest is made of.
pub struct Made<'m> {
    /// Who ran it.
    pub runner: &'m BackupRunner,
    /// What was ordered.
    pub order: &'m BackupOrder,
    /// Which member was read.
    pub source: &'m Source,
    /// The snapshot.
    pub facts: &'m Facts,
    /// The archive.
    pub encoded: Encoded,
    /// What was proven of it.
    pub proof: &'m Proof,
    /// To whom it is encrypted.
    pub recipients: Option<&'m Recipients>,
    /// File name of the data.
    pub data: String,
    /// When it began.
    pub begun: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// The manifest of an archive that is complete.
pub fn build_manifest(made: &Made<'_>) -> Manifest {
    let Made { runner, order, source, facts: _, encoded, proof, recipients, data, begun, now } = made;
    let Proof { level, content, shortfall, agreeing: _ } = proof;
    let database = database(content);
    Manifest {
        backup_id: order.backup_id.clone(),
        data: data.clone(),
        attempt: order.attempt,
        object: order.object.clone(),
        cluster: ManifestCluster {
            uid: runner.cluster_uid.clone(),
            etcd_cluster_id: source.status.cluster_id.to_string(),
            members: source.status.members.iter().map(manifest_member).collect(),
            encryption_config_sha256: source.fingerprints.encryption_config.clone(),
            service_account_key_sha256: source.fingerprints.service_account_key.clone(),
        },
        snapshot: manifest_snapshot(made, database),
        archive: ManifestArchive {
            size_bytes: signed(encoded.size),
            sha256: hex::encode(encoded.sha256),
            compression: "zstd".to_owned(),
            recipients: recipients.map(Recipients::to_strings).unwrap_or_default(),
        },
        verification: ManifestVerification { level: *level, time: *now, shortfall: shortfall.clone() },
        start_time: *begun,
        completion_time: *now,
        tools: BTreeMap::from([("lifeboat".to_owned(), runner.version.to_owned())]),
    }
}

fn manifest_snapshot(made: &Made<'_>, database: Option<&Database>) -> ManifestSnapshot {
    let Made { runner, order, source, facts, encoded: _, proof: _, recipients: _, data: _, begun: _, now: _ } = made;
    let Facts { size, file_sha256, content: _ } = facts;
    let revision = database.map(|database| database.revision);
    ManifestSnapshot {
        node_name: runner.node.clone(),
        member: member_name(&source.status, source.name.as_deref()),
        etcd_version: source.status.version.clone(),
        storage_version: database
            .and_then(|database| database.storage_version.clone())
            .or_else(|| source.status.storage_version.clone()),
        revision,
        compact_revision: database.map(|database| database.compact_revision),
        highest_revision_seen: [order.highest_revision_seen, revision, Some(source.status.revision)]
            .into_iter()
            .flatten()
            .max(),
        content_hash: database.map(|database| database.content_hash.to_string()),
        keys: database.map(|database| signed(database.total_keys)),
        size_bytes: signed(*size),
        sha256: hex::encode(file_sha256),
    }
}

fn database(content: &Content) -> Option<&Database> {
    match content {
        Content::Verified(database) => Some(database),
        Content::Unverified { reason: _ } => None,
    }
}

/// Name of the member that was read.
pub fn member_name(status: &MemberStatus, discovered: Option<&str>) -> String {
    let own = status.own().map(|own| own.name.clone()).filter(|name| !name.is_empty());
    own.or_else(|| discovered.map(str::to_owned)).unwrap_or_else(|| status.member_id.to_string())
}

fn manifest_member(member: &Member) -> ManifestMember {
    let Member { id, name, peer_urls, client_urls: _, is_learner } = member;
    ManifestMember { id: id.to_string(), name: name.clone(), peer_urls: peer_urls.clone(), is_learner: *is_learner }
}

/// What is reported of an archive: the same whether this attempt made it or found it.
pub fn archive_facts(manifest: &Manifest, uri: &str) -> ArchiveFacts {
    let Manifest { snapshot, archive, verification, cluster, start_time, completion_time, .. } = manifest;
    ArchiveFacts {
        archive: uri.to_owned(),
        node_name: Some(snapshot.node_name.clone()),
        member: snapshot.member.clone(),
        etcd_version: snapshot.etcd_version.clone(),
        storage_version: snapshot.storage_version.clone(),
        cluster_id: cluster.etcd_cluster_id.clone(),
        revision: snapshot.revision,
        content_hash: snapshot.content_hash.clone(),
        compact_revision: snapshot.compact_revision,
        keys: snapshot.keys,
        size_bytes: snapshot.size_bytes,
        stored_size_bytes: archive.size_bytes,
        sha256: snapshot.sha256.clone(),
        start_time: Time(*start_time),
        completion_time: Time(*completion_time),
        verification: Verification {
            level: verification.level,
            time: Time(verification.time),
            shortfall: verification.shortfall.clone(),
        },
        encryption: (!archive.recipients.is_empty()).then(|| Encryption { recipients: archive.recipients.clone() }),
        pin: None,
    }
}

/// Sizes are far below 2⁶³.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
