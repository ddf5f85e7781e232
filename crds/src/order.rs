//! The order of a restore: everything that every member must agree on, frozen once, and the slot that makes it the one.
//!
//! Types and pure functions over them. An order is written once, read back, and sealed by what was read; nothing in it
//! is ever computed again from the API.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::document::{DocumentError, Envelope, digest};
use crate::identifier::{BackupId, NodeName};
use crate::restore::{RestartKubelets, RestoreTimeouts};

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
#[serde(rename_all = "camelCase")]
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
    /// Masters destroyed, or to be wiped before they are powered on.
    #[serde(default)]
    pub lost: Vec<NodeName>,
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
    pub timeouts: RestoreTimeouts,
    /// Every API server of the cluster uses the etcd of its own node only. If not, the restored etcd listens on loopback
    /// until it is released.
    pub loopback_api_servers: bool,
    /// Where order, marks and decision lie; never computed again.
    pub coordination: String,
    /// The per-restore key, encrypted to each host's key, by node.
    #[serde(default)]
    pub sealed_keys: BTreeMap<NodeName, String>,
    /// When it was written; for people only, nothing is decided by it.
    pub time: Timestamp,
}

impl Order {
    /// What a node seals, and every MAC of the restore is bound to.
    pub fn digest(&self) -> Result<OrderDigest, DocumentError> {
        Ok(OrderDigest(digest(self)?))
    }
}

/// The request that an order came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// A member that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderedMember {
    /// The node.
    pub node_name: NodeName,
    /// Name of its member.
    pub name: String,
    /// Its peer URL.
    #[serde(rename = "peerURL")]
    pub peer_url: String,
}

/// The backup that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// `restores/active/<n>.json`: the order that counts. The highest n is the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveSlot {
    /// n.
    pub number: u64,
    /// The restore.
    pub restore_id: RestoreId,
    /// Digest of the order that won the slot.
    pub order_digest: OrderDigest,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn order() -> Order {
        serde_json::from_value(json!({
            "restoreId": RestoreId::new("lifeboat", "friday", 1, "ab"),
            "request": {"namespace": "lifeboat", "name": "friday", "attempt": 1, "nonce": "n", "approvalCode": "c"},
            "cluster": "uid", "oldClusterId": "0000000000000abc",
            "members": [{"nodeName": "m0", "name": "m0", "peerURL": "https://m0:2380"}], "lost": ["m2"],
            "backup": {"backupId": "20261124-020304-0123abcd", "cluster": "uid", "sha256": "ab", "contentHash": "cd",
                "revision": 7},
            "token": "t", "bumpTo": 1_000_000_007, "author": "m0", "safety": "Required", "holdBeforeRelease": false,
            "restartKubelets": "ControlPlane", "timeouts": {}, "loopbackApiServers": true, "coordination": "uid/",
            "time": "2026-11-24T02:03:04Z"
        }))
        .unwrap()
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
    fn an_order_reads_back_with_the_digest_it_was_written_with() {
        let bytes = OrderDocument::unsigned(order()).to_bytes().unwrap();
        let read = OrderDocument::from_bytes(&bytes).unwrap().payload;
        assert_eq!(read, order());
        assert_eq!(read.digest().unwrap(), order().digest().unwrap());
        let other = Order { token: "another".to_owned(), ..order() };
        assert_ne!(other.digest().unwrap(), order().digest().unwrap());
    }

    #[test]
    fn cluster_id_is_hex_on_the_wire() {
        assert_eq!(serde_json::to_value(EtcdClusterId(0xabc)).unwrap(), json!("0000000000000abc"));
        assert!(serde_json::from_value::<EtcdClusterId>(json!("xyz")).is_err());
    }
}
