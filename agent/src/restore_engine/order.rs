//! The order of a restore: what every master must use alike. Pure.
//!
//! Members that were restored with another token, another list of members or another bump start, look healthy and
//! silently diverge. So one master mints the order, and every other one takes it from a file.

use jiff::Timestamp;
use lifeboat_crds::document::{DocumentError, Envelope, digest};
use lifeboat_snapshot::{Database, SnapshotMember};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::etcd::status::{ClusterId, MemberId};
use crate::host::tools::Minor;

/// Revisions by which a restore goes beyond the highest that was ever seen, so that no watcher meets a number again.
pub const BUMP: i64 = 1_000_000_000;

/// The order as a file.
pub type OrderDocument = Envelope<Order>;

/// What every master must use alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// The file.
    pub snapshot: OrderSnapshot,
    /// Token of the new cluster: never one that was used before, or members that were not restored could join.
    pub token: String,
    /// First revision of the new cluster; the same on all, whatever the snapshot's revision is.
    pub bump_to: i64,
    /// Members of the new cluster, by name.
    pub members: Vec<OrderMember>,
    /// When it was minted.
    #[cfg_attr(test, schemars(with = "String"))]
    pub minted: Timestamp,
}

/// The file that is restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderSnapshot {
    /// SHA-256 of the whole file, hex.
    pub sha256: String,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Its newest revision.
    pub revision: i64,
    /// Identity of its content.
    pub content_hash: String,
    /// Version of etcd that wrote it, `3.6`; absent where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub etcd: Option<Minor>,
    /// Alarms in it; they come back to life with the restore.
    pub alarms: u64,
}

/// A member of the new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderMember {
    /// etcd's `--name`.
    pub name: String,
    /// etcd's `--initial-advertise-peer-urls`.
    pub peer_urls: Vec<String>,
}

/// This node's own member, as its arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// etcd's `--name`.
    pub name: String,
    /// etcd's `--initial-advertise-peer-urls`.
    pub peer_urls: Vec<String>,
}

/// Why there is no order, or none for this node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The node is not among the members.
    #[error(
        "this node's etcd is {own}, which is not among the members of the restore ({members}): a file of another cluster, or \
         a master that joined, left or moved since; where the list is right except for that, mint the order with --member \
         NAME=PEERURL for each master"
    )]
    NotAMember {
        /// This node's member.
        own: String,
        /// The members.
        members: String,
    },
    /// Another master mints.
    #[error(
        "{first} mints the order, so that there is one only: run this on {first} first, then bring the file that it writes \
         here and give it with --order; if {first} is lost for good, name every master that is left with --member NAME=PEERURL: the \
         first of those mints, and {first} must not come back before its disk is emptied"
    )]
    NotTheFirst {
        /// Name of the first member.
        first: String,
    },
    /// The order is for another file.
    #[error("the file has SHA-256 {found}, the order is for {expected}: every master needs the same file")]
    OtherFile {
        /// Of the file.
        found: String,
        /// Of the order.
        expected: String,
    },
    /// No member at all.
    #[error("the file lists no members: give --member NAME=PEERURL for each master")]
    NoMembers,
    /// The revision leaves no room.
    #[error("the highest revision seen, {0}, leaves no room for a bump")]
    RevisionTooHigh(i64),
}

/// What an order is minted from.
#[derive(Clone, Debug)]
pub struct Minting<'m> {
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Its size, bytes.
    pub size: u64,
    /// What is in it.
    pub database: &'m Database,
    /// Members as the administrator gives them; those of the file where there are none.
    pub members: &'m [OrderMember],
    /// Highest revision that this host knows of.
    pub highest_seen: Option<i64>,
    /// This node.
    pub own: &'m Own,
    /// Random hex digits.
    pub token: String,
    /// Now.
    pub now: Timestamp,
}

/// Mints the order; only the first member by name does, so that two masters cannot mint two.
///
/// # Errors
/// This node must not, or the file will not do.
pub fn mint(minting: &Minting<'_>) -> Result<Order, OrderError> {
    let Minting { sha256, size, database, members, highest_seen, own, token, now } = minting;
    let mut members = if members.is_empty() { members_of(&database.members) } else { members.to_vec() };
    members.sort_by(|one, other| one.name.cmp(&other.name));
    check_own(&members, own)?;
    let first = members.first().ok_or(OrderError::NoMembers)?;
    if first.name != own.name {
        return Err(OrderError::NotTheFirst { first: first.name.clone() });
    }
    let highest = highest_seen.unwrap_or(0).max(database.revision);
    let bump_to = highest.checked_add(BUMP).ok_or(OrderError::RevisionTooHigh(highest))?;
    Ok(Order {
        snapshot: OrderSnapshot {
            sha256: hex::encode(sha256),
            size_bytes: *size,
            revision: database.revision,
            content_hash: database.content_hash.to_string(),
            etcd: minor_of(database),
            alarms: database.alarms,
        },
        token: format!("lifeboat-{token}"),
        bump_to,
        members,
        minted: *now,
    })
}

/// The voters that a database lists.
pub fn members_of(listed: &[SnapshotMember]) -> Vec<OrderMember> {
    let voters = listed.iter().filter(|member| !member.is_learner && !member.name.is_empty());
    voters.map(|member| OrderMember { name: member.name.clone(), peer_urls: member.peer_urls.clone() }).collect()
}

/// The version of etcd that a database was written by.
pub fn minor_of(database: &Database) -> Option<Minor> {
    let storage = database.storage_version.as_deref().and_then(Minor::of_version);
    database.cluster_version.as_deref().and_then(Minor::of_version).max(storage)
}

/// Whether this node is one of the members, with the same peer URLs.
fn check_own(members: &[OrderMember], own: &Own) -> Result<(), OrderError> {
    if members.is_empty() {
        return Err(OrderError::NoMembers);
    }
    let is_own = |member: &OrderMember| member.name == own.name && sorted(&member.peer_urls) == sorted(&own.peer_urls);
    if members.iter().any(is_own) {
        return Ok(());
    }
    let words = |name: &str, urls: &[String]| format!("{name}={}", urls.join(","));
    Err(OrderError::NotAMember {
        own: words(&own.name, &own.peer_urls),
        members: members.iter().map(|member| words(&member.name, &member.peer_urls)).collect::<Vec<_>>().join(" "),
    })
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls: Vec<String> = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
    urls.sort();
    urls
}

impl Order {
    /// Whether the order is for this node and this file.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, own: &Own, sha256: &[u8; 32]) -> Result<(), OrderError> {
        check_own(&self.members, own)?;
        let found = hex::encode(sha256);
        if found != self.snapshot.sha256 {
            return Err(OrderError::OtherFile { found, expected: self.snapshot.sha256.clone() });
        }
        Ok(())
    }

    /// SHA-256 over its canonical JSON, 64 hex digits.
    ///
    /// # Errors
    /// Never for an order that was read or minted.
    pub fn digest(&self) -> Result<String, DocumentError> {
        digest(self)
    }

    /// The value of `--initial-cluster`.
    pub fn initial_cluster(&self) -> String {
        let entries = self.members.iter().flat_map(|member| {
            member.peer_urls.iter().map(move |url| format!("{}={}", member.name, url.trim_end_matches('/')))
        });
        entries.collect::<Vec<_>>().join(",")
    }

    /// What the tool adds to the snapshot's revision.
    pub fn bump(&self) -> i64 {
        self.bump_to.saturating_sub(self.snapshot.revision)
    }

    /// The id that a member of the new cluster will have (etcd membership/member.go, computeMemberID).
    pub fn member_id(&self, name: &str) -> Option<MemberId> {
        let member = self.members.iter().find(|member| member.name == name)?;
        let hashed = sorted(&member.peer_urls).concat() + &self.token;
        Some(MemberId(first_eight(&Sha1::digest(hashed.as_bytes()))))
    }

    /// The id that the new cluster will have (etcd membership/cluster.go, genID).
    pub fn cluster_id(&self) -> ClusterId {
        let mut ids: Vec<u64> =
            self.members.iter().filter_map(|member| self.member_id(&member.name)).map(|MemberId(id)| id).collect();
        ids.sort_unstable();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
        ClusterId(first_eight(&Sha1::digest(&bytes)))
    }
}

/// What people compare between masters: the first digits of a digest, `1a2b-3c4d`.
pub fn short_code(digest: &str) -> String {
    let digits: String = digest.chars().take(8).collect();
    let (front, back) = digits.split_at(digits.len() / 2);
    format!("{front}-{back}")
}

fn first_eight(hash: &[u8]) -> u64 {
    hash.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests;
