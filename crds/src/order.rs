//! The order of a restore: everything that every member must agree on, frozen once, and the slot that makes it the one.
//!
//! Types and pure functions over them. An order is written once, read back, and sealed by what was read; nothing in it
//! is ever computed again from the API. What an order says must be understood to the last field by everybody who seals it,
//! so nothing in it has a default and an unknown field is refused: an addition is a new major format. Its digest is taken
//! over the payload *as it was received*.
//!
//! Two things prove an order. The author's Ed25519 signature says that this installation ordered it; the MAC says that the
//! author knew the per-restore key, with which marks and decision are bound to it. The MAC alone would prove no author: the
//! key travels encrypted to public keys, and anybody can encrypt a key of their own to those.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::document::{DocumentError, Envelope, digest, exact_digest};
use crate::identifier::{BackupId, NodeName};
use crate::mac::{MacError, RestoreKey, Subject, open, stamp};
use crate::restore::RestartKubelets;
use crate::signing::{Domain, KnownKeys, SignatureState, SigningKey};

/// `order.json` as stored.
pub type OrderDocument = Envelope<Order>;
/// `restores/active/<n>.json` as stored.
pub type SlotDocument = Envelope<ActiveSlot>;

/// Declares a newtype over a fixed number of lower-case hex digits.
macro_rules! hex_text {
    ($(#[doc = $doc:literal])* $name:ident, $digits:literal, $error:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        #[doc = concat!("A text that is no ", stringify!($name), ".")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("{0:?} is not made of {digits} hex digits", digits = $digits)]
        pub struct $error(pub String);

        impl $name {
            /// The digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let good = text.len() == $digits && text.bytes().all(digit);
                good.then(|| Self(text.to_owned())).ok_or_else(|| $error(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

hex_text! {
    /// Identity of a restore: the same for an object that GitOps creates again, another for another attempt.
    RestoreId, 20, InvalidRestoreId
}
hex_text! {
    /// SHA-256 over the canonical JSON of an order: what a node has sealed.
    OrderDigest, 64, InvalidOrderDigest
}

impl RestoreId {
    /// hash(namespace/name, attempt, snapshot SHA-256); never the UID, which a rewound API gives out anew.
    pub fn new(namespace: &str, name: &str, attempt: i32, sha256: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("{namespace}/{name}\n{attempt}\n{sha256}\n"));
        let mut text = hex::encode(hash.finalize());
        text.truncate(20);
        Self(text)
    }
}

/// Declares one of etcd's ids; on the wire 16 hex digits, because JSON numbers end at 2⁵³.
macro_rules! etcd_id {
    ($(#[doc = $doc:literal])* $name:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = std::num::ParseIntError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                u64::from_str_radix(&text, 16).map(Self)
            }
        }
    };
}

etcd_id! {
    /// etcd's id of a cluster.
    EtcdClusterId
}
etcd_id! {
    /// etcd's id of a member.
    EtcdMemberId
}

/// What every member agreed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// Identity of the restore.
    pub restore_id: RestoreId,
    /// The request it came from.
    pub request: OrderedRequest,
    /// UID of the kube-system namespace.
    pub cluster: String,
    /// etcd's cluster id before the restore: the sign by which a sleeper is known.
    pub old_cluster_id: EtcdClusterId,
    /// The members that take part, in the order of their seats. Lost ones are not among them.
    pub members: Vec<OrderedMember>,
    /// Masters destroyed, or to be wiped before they are powered on; whether one answers is asked at its peer URL.
    pub lost: Vec<OrderedMember>,
    /// The lost ones are a quorum of the old cluster, and a human acknowledged what that means: if they come back unwiped
    /// while nobody can reach them or the store, two clusters will run.
    pub lost_quorum_acknowledged: bool,
    /// The backup.
    pub backup: OrderedBackup,
    /// Initial-cluster token of the restored cluster: fresh, so that no old member can join it.
    pub token: String,
    /// Absolute revision that the restored cluster goes on from.
    pub bump_to: i64,
    /// The node that wrote this, and that takes the safety backup.
    pub author: NodeName,
    /// Whether a backup of the state about to be replaced is taken.
    pub safety: OrderedSafety,
    /// Waits after the decision for `lifeboat restore release`.
    pub hold_before_release: bool,
    /// Which kubelets are restarted afterwards.
    pub restart_kubelets: RestartKubelets,
    /// Bounds on time.
    pub timeouts: OrderedTimeouts,
    /// Kinds of the warnings, and of the blockers that were overridden, that the plan showed to who approved it.
    pub notices: Vec<String>,
    /// Every API server of the cluster uses the etcd of its own node only. If not, the restored etcd listens on loopback
    /// until it is released.
    pub loopback_api_servers: bool,
    /// Where order, marks and decision lie; never computed again.
    pub coordination: String,
    /// The per-restore key, encrypted to each host's key, by node.
    pub sealed_keys: BTreeMap<NodeName, String>,
    /// When it was written; for people only, nothing is decided by it.
    pub time: Timestamp,
}

impl Order {
    /// Whether the lost masters could go on as the old cluster without any member.
    pub fn loses_quorum(&self) -> bool {
        let voters = self.members.len() + self.lost.len();
        self.lost.len() > voters / 2
    }

    /// Whether the approved code is that of what is ordered.
    pub fn is_as_approved(&self) -> bool {
        let code = self.approval_terms().code();
        code.is_ok_and(|code| code == self.request.approval_code)
    }

    /// What the approval of this order was for.
    pub fn approval_terms(&self) -> ApprovalTerms<'_> {
        ApprovalTerms {
            namespace: &self.request.namespace,
            name: &self.request.name,
            attempt: self.request.attempt,
            nonce: &self.request.nonce,
            backup_id: &self.backup.backup_id,
            sha256: &self.backup.sha256,
            members: &self.members,
            lost: &self.lost,
            safety: self.safety,
            hold_before_release: self.hold_before_release,
            restart_kubelets: self.restart_kubelets,
            timeouts: self.timeouts,
            notices: &self.notices,
        }
    }

    /// The document to create: with the author's signature, where this installation has a key to sign with, and the MAC.
    ///
    /// # Errors
    /// It cannot be written as canonical JSON, exactly.
    pub fn publish(&self, author: Option<&SigningKey>, key: &RestoreKey) -> Result<Envelope<Value>, MacError> {
        let payload = serde_json::to_value(self).map_err(DocumentError::Malformed)?;
        let digest = OrderDigest(exact_digest(&payload)?);
        let envelope = match author {
            Some(author) => Envelope::sign(payload, Domain::ORDER, author)?,
            None => Envelope::unsigned(payload),
        };
        stamp(key, &self.subject(&digest), envelope)
    }

    fn subject<'a>(&'a self, digest: &'a OrderDigest) -> Subject<'a> {
        Subject::order(&self.cluster, &self.restore_id, digest, &self.author)
    }
}

/// What is approved: everything that an order makes a restore do, none of the figures that move.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalTerms<'a> {
    /// Namespace of the request.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its attempt.
    pub attempt: i32,
    /// Nonce of the plan.
    pub nonce: &'a str,
    /// The backup.
    pub backup_id: &'a BackupId,
    /// SHA-256 of the snapshot.
    pub sha256: &'a str,
    /// The members, with their versions.
    pub members: &'a [OrderedMember],
    /// Masters called lost.
    pub lost: &'a [OrderedMember],
    /// The safety backup.
    pub safety: OrderedSafety,
    /// Waits before release.
    pub hold_before_release: bool,
    /// Kubelets to restart.
    pub restart_kubelets: RestartKubelets,
    /// Bounds on time.
    pub timeouts: OrderedTimeouts,
    /// Kinds of warnings and overridden blockers.
    pub notices: &'a [String],
}

impl ApprovalTerms<'_> {
    /// The approval code, such as `3f9a-0c71`.
    ///
    /// # Errors
    /// It cannot be written as canonical JSON.
    pub fn code(&self) -> Result<String, DocumentError> {
        let mut code = digest(self)?;
        code.truncate(8);
        code.insert(4, '-');
        Ok(code)
    }
}

/// An order as it was received, and what its signature is worth.
#[derive(Clone, Debug)]
pub struct ReceivedOrder {
    /// The order.
    pub order: Order,
    /// Digest of the payload as it was received: what a node seals, and what every MAC of the restore is bound to.
    pub digest: OrderDigest,
    /// Whether this installation ordered it.
    pub signature: SignatureState,
    envelope: Envelope<Value>,
}

impl ReceivedOrder {
    /// Reads `order.json`, or the copy that was sealed.
    ///
    /// # Errors
    /// It is no order, or one of a version that this one does not fully understand.
    pub fn read(bytes: &[u8], known: &KnownKeys) -> Result<Self, DocumentError> {
        let envelope = Envelope::<Value>::from_bytes(bytes)?;
        let digest = OrderDigest(exact_digest(&envelope.payload)?);
        let signature = envelope.verify(Domain::ORDER, known);
        let order = envelope.clone().understand::<Order>()?.payload;
        Ok(Self { order, digest, signature, envelope })
    }

    /// Whether this order may be believed: signed by a key of this installation, or, on machines that know none, the very
    /// one whose digest a human entered with the join code.
    pub fn is_authored(&self, entered: Option<&OrderDigest>) -> bool {
        match &self.signature {
            SignatureState::Valid(_) => true,
            SignatureState::Unsigned | SignatureState::Unknown(_) => entered == Some(&self.digest),
            SignatureState::Invalid => false,
        }
    }

    /// Whether its author knew the per-restore key: if not, marks and decision could not be bound to it.
    ///
    /// # Errors
    /// The MAC is missing, or not of this order with this key.
    pub fn check_key(&self, key: &RestoreKey) -> Result<(), MacError> {
        open::<Order>(key, &self.order.subject(&self.digest), self.envelope.clone()).map(|_| ())
    }
}

/// Bounds on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderedTimeouts {
    /// Longest staging, seconds.
    pub stage_seconds: i64,
    /// Longest time without API before everything is put back, seconds.
    pub outage_seconds: i64,
}

/// The request that an order came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderedRequest {
    /// Namespace of the EtcdRestore; of a restore begun on a host, `host`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its attempt.
    pub attempt: i32,
    /// Nonce of the approved plan.
    pub nonce: String,
    /// The code that was approved; agents compute it again and refuse another.
    pub approval_code: String,
}

/// A master, taking part or lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderedMember {
    /// The node.
    pub node_name: NodeName,
    /// Name of its member.
    pub name: String,
    /// Its peer URL.
    #[serde(rename = "peerURL")]
    pub peer_url: String,
    /// Version of its etcd, as the plan saw it.
    pub version: String,
}

/// The backup that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderedBackup {
    /// Its identity in the bucket.
    pub backup_id: BackupId,
    /// UID of the cluster it came from.
    pub cluster: String,
    /// SHA-256 of the snapshot file.
    pub sha256: String,
    /// contentHash of the snapshot.
    pub content_hash: String,
    /// Newest revision in it.
    pub revision: i64,
}

/// Whether a backup of the state about to be replaced is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderedSafety {
    /// No restore without it.
    Required,
    /// Tried once.
    BestEffort,
    /// Not taken; the kept old data is the safety.
    Skipped,
}

/// `restores/active/<n>.json`: the order that counts. The highest n that is authentic is the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActiveSlot {
    /// n.
    pub number: u64,
    /// The restore.
    pub restore_id: RestoreId,
    /// Digest of the order that won the slot.
    pub order_digest: OrderDigest,
}

impl ActiveSlot {
    /// The document to create.
    ///
    /// # Errors
    /// It cannot be written as canonical JSON, exactly.
    pub fn publish(&self, author: Option<&SigningKey>) -> Result<SlotDocument, DocumentError> {
        match author {
            Some(author) => Envelope::sign(self.clone(), Domain::SLOT, author),
            None => Ok(Envelope::unsigned(self.clone())),
        }
    }

    /// Reads a slot, and what its signature is worth.
    ///
    /// # Errors
    /// It is no slot, or one of a later version.
    pub fn read(bytes: &[u8], known: &KnownKeys) -> Result<(Self, SignatureState), DocumentError> {
        let envelope = Envelope::<Value>::from_bytes(bytes)?;
        let signature = envelope.verify(Domain::SLOT, known);
        Ok((envelope.understand::<Self>()?.payload, signature))
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
pub(crate) mod tests;
