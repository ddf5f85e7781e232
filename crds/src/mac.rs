//! Authenticity of order, marks, decision and outcomes: HMAC-SHA-256 with the per-restore key.
//!
//! The MAC covers what the document is, whose it is, under which order, and its content. So a mark copied to another
//! node's place, to another step, or from another order is as forged as one made up; and a document whose content says
//! otherwise than its place is refused though its MAC fits. Pure; never prints the key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroize;

use crate::document::{DocumentError, Envelope, FORMAT_MAJOR, canonical_json, exact_digest};
use crate::identifier::NodeName;
use crate::mark::{Decision, Mark, MarkStep, NodeOutcome};
use crate::order::{Order, OrderDigest, RestoreId};
use crate::signing::SigningKey;

/// The per-restore key, 32 random bytes drawn by the order's author. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RestoreKey([u8; 32]);

impl RestoreKey {
    /// A key of these bytes; the caller drew them.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of a restore that this installation orders: every host with the installation's key finds it by itself, so that
    /// agents join without being told. It gives nobody anything: who has that key could as well order another restore.
    pub fn of_installation(installation: &SigningKey, restore: &RestoreId, token: &str) -> Self {
        Self(installation.derive(format!("etcd.lifeboat.dev/restore-key\n{restore}\n{token}\n").as_bytes()))
    }

    /// The bytes, for carrying them to a host.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for RestoreKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RestoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestoreKey(…)")
    }
}

/// What a document is, beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject<'a> {
    /// What kind of document.
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// UID of the kube-system namespace.
    pub cluster: &'a str,
    /// The restore.
    pub restore_id: &'a RestoreId,
    /// The node that wrote it.
    pub node: &'a NodeName,
    /// The step of a mark.
    pub step: Option<&'a str>,
    /// The order.
    pub order_digest: &'a OrderDigest,
}

/// Kinds of documents with a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DocumentKind {
    /// `order.json`.
    Order,
    /// A mark.
    Mark,
    /// `decision.json`.
    Decision,
    /// A node's outcome.
    Outcome,
}

impl<'a> Subject<'a> {
    const fn of(
        kind: DocumentKind,
        (cluster, restore_id, order_digest): (&'a str, &'a RestoreId, &'a OrderDigest),
        node: &'a NodeName,
    ) -> Self {
        Self { kind, cluster, restore_id, node, step: None, order_digest }
    }

    /// Of an order.
    pub const fn order(cluster: &'a str, id: &'a RestoreId, digest: &'a OrderDigest, author: &'a NodeName) -> Self {
        Self::of(DocumentKind::Order, (cluster, id, digest), author)
    }

    /// Of a mark.
    pub const fn mark(
        cluster: &'a str,
        restore_id: &'a RestoreId,
        order_digest: &'a OrderDigest,
        node: &'a NodeName,
        step: MarkStep,
    ) -> Self {
        let subject = Self::of(DocumentKind::Mark, (cluster, restore_id, order_digest), node);
        Self { step: Some(step.as_str()), ..subject }
    }

    /// Of a decision that `node` wrote.
    pub const fn decision(cluster: &'a str, id: &'a RestoreId, digest: &'a OrderDigest, node: &'a NodeName) -> Self {
        Self::of(DocumentKind::Decision, (cluster, id, digest), node)
    }

    /// Of the outcome of `node`.
    pub const fn outcome(cluster: &'a str, id: &'a RestoreId, digest: &'a OrderDigest, node: &'a NodeName) -> Self {
        Self::of(DocumentKind::Outcome, (cluster, id, digest), node)
    }
}

/// A document with a MAC, which says itself what it is.
pub trait Placed {
    /// Whether the content is what the place says.
    fn fits(&self, subject: &Subject<'_>) -> bool;
}

impl Placed for Order {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let Subject { kind: _, cluster, restore_id, node, step, order_digest: _ } = *subject;
        self.cluster == cluster && self.restore_id == *restore_id && self.author == *node && step.is_none()
    }
}

impl Placed for Mark {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let Subject { kind: _, cluster: _, restore_id, node, step, order_digest } = *subject;
        let is_own = self.restore_id == *restore_id && self.node_name == *node && self.order_digest == *order_digest;
        is_own && step == Some(self.claim.step().as_str())
    }
}

impl Placed for Decision {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let Subject { kind: _, cluster: _, restore_id, node, step, order_digest } = *subject;
        let is_own = self.restore_id == *restore_id && self.node_name == *node && self.order_digest == *order_digest;
        is_own && step.is_none()
    }
}

impl Placed for NodeOutcome {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let Subject { kind: _, cluster: _, restore_id, node, step, order_digest } = *subject;
        let is_own = self.restore_id == *restore_id && self.node_name == *node && self.order_digest == *order_digest;
        is_own && step.is_none()
    }
}

/// A document that does not prove where it comes from: it is ignored, and reported.
#[derive(Debug, thiserror::Error)]
pub enum MacError {
    /// No MAC.
    #[error("the document carries no MAC: somebody else wrote it; it is ignored")]
    Missing,
    /// Not base64, or not the MAC of this content for this place.
    #[error("the document's MAC does not fit: it is forged, or lies where another belongs; it is ignored")]
    Forged,
    /// The MAC fits, and the content is of another place.
    #[error("the document says itself that it belongs elsewhere; it is ignored")]
    Misplaced,
    /// The content cannot be read, or written as canonical JSON.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What the MACs of this format are for, and for nothing else that the key might ever be used for.
const DOMAIN: &str = "etcd.lifeboat.dev/restore";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Covered<'a> {
    domain: &'a str,
    format: u32,
    subject: &'a Subject<'a>,
    payload_digest: String,
}

fn mac(key: &RestoreKey, subject: &Subject<'_>, payload: &Value) -> Result<Hmac<Sha256>, MacError> {
    let payload_digest = exact_digest(payload)?;
    let covered = canonical_json(&Covered { domain: DOMAIN, format: FORMAT_MAJOR, subject, payload_digest })?;
    // HMAC takes keys of any length; the error of this constructor cannot happen, and nothing is trusted if it did.
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).map_err(|_| MacError::Forged)?;
    mac.update(&covered);
    Ok(mac)
}

/// The same document with its MAC.
///
/// # Errors
/// Its content cannot be written as canonical JSON, exactly.
pub fn stamp(key: &RestoreKey, subject: &Subject<'_>, envelope: Envelope<Value>) -> Result<Envelope<Value>, MacError> {
    let code = mac(key, subject, &envelope.payload)?.finalize().into_bytes();
    Ok(Envelope { mac: Some(STANDARD.encode(code)), ..envelope })
}

/// A document of this content with its MAC.
///
/// # Errors
/// The content cannot be written as canonical JSON, exactly.
pub fn seal<T: Serialize>(key: &RestoreKey, subject: &Subject<'_>, payload: &T) -> Result<Envelope<Value>, MacError> {
    let payload = serde_json::to_value(payload).map_err(DocumentError::Malformed)?;
    stamp(key, subject, Envelope::unsigned(payload))
}

/// The content of a document whose MAC fits, compared in constant time, and that says itself to be what it is taken for.
///
/// The MAC is taken over the content *as it was received*: a newer version's additional fields are covered too.
///
/// # Errors
/// It has no MAC, the MAC does not fit, or the content is of another place or cannot be read.
pub fn open<T: DeserializeOwned + Placed>(
    key: &RestoreKey,
    subject: &Subject<'_>,
    envelope: Envelope<Value>,
) -> Result<T, MacError> {
    let Envelope { format_version: _, payload, key_id: _, signature: _, mac: found } = envelope;
    let found = STANDARD.decode(found.ok_or(MacError::Missing)?).map_err(|_| MacError::Forged)?;
    mac(key, subject, &payload)?.verify_slice(&found).map_err(|_| MacError::Forged)?;
    let content: T = serde_json::from_value(payload).map_err(DocumentError::Malformed)?;
    if content.fits(subject) { Ok(content) } else { Err(MacError::Misplaced) }
}

/// `decision.json`, whoever of the order's members wrote it.
///
/// # Errors
/// No member of the order did.
pub fn open_decision(
    key: &RestoreKey,
    order: &Order,
    digest: &OrderDigest,
    envelope: Envelope<Value>,
) -> Result<Decision, MacError> {
    let writer = envelope.payload.get("nodeName").and_then(Value::as_str);
    let member = order.members.iter().find(|member| Some(member.node_name.as_str()) == writer);
    let node = &member.ok_or(MacError::Forged)?.node_name;
    open(key, &Subject::decision(&order.cluster, &order.restore_id, digest, node), envelope)
}

#[cfg(test)]
#[path = "mac_tests.rs"]
mod tests;
