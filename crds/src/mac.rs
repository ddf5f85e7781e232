//! Authenticity of order, marks and decision: HMAC-SHA-256 with the per-restore key.
//!
//! The MAC covers what the document is, whose it is, under which order, and its content. So a mark copied to another
//! node's place, to another step, or from another order is as forged as one made up. Pure; never prints the key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Sha256;

use crate::document::{DocumentError, Envelope, canonical_json, digest};
use crate::identifier::NodeName;
use crate::mark::MarkStep;
use crate::order::{OrderDigest, RestoreId};

/// The per-restore key, 32 random bytes drawn by the order's author.
#[derive(Clone, PartialEq, Eq)]
pub struct RestoreKey([u8; 32]);

impl RestoreKey {
    /// A key of these bytes; the caller drew them.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing them to a host.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
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
}

impl<'a> Subject<'a> {
    /// Of a mark.
    pub const fn mark(
        cluster: &'a str,
        restore_id: &'a RestoreId,
        order_digest: &'a OrderDigest,
        node: &'a NodeName,
        step: MarkStep,
    ) -> Self {
        Self { kind: DocumentKind::Mark, cluster, restore_id, node, step: Some(step.as_str()), order_digest }
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
    /// The content cannot be written as canonical JSON.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Covered<'a> {
    subject: &'a Subject<'a>,
    payload_digest: String,
}

fn mac(key: &RestoreKey, subject: &Subject<'_>, payload: &Value) -> Result<Hmac<Sha256>, MacError> {
    let covered = canonical_json(&Covered { subject, payload_digest: digest(payload)? })?;
    // HMAC takes keys of any length; the error of this constructor cannot happen, and nothing is trusted if it did.
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).map_err(|_| MacError::Forged)?;
    mac.update(&covered);
    Ok(mac)
}

/// A document with its MAC.
pub fn seal<T: Serialize>(key: &RestoreKey, subject: &Subject<'_>, payload: &T) -> Result<Envelope<Value>, MacError> {
    let payload = serde_json::to_value(payload).map_err(DocumentError::Malformed)?;
    let code = mac(key, subject, &payload)?.finalize().into_bytes();
    Ok(Envelope { mac: Some(STANDARD.encode(code)), ..Envelope::unsigned(payload) })
}

/// The content of a document whose MAC fits, compared in constant time.
///
/// The MAC is taken over the content *as it was received*: a newer version's additional fields are covered too.
pub fn open<T: DeserializeOwned>(
    key: &RestoreKey,
    subject: &Subject<'_>,
    envelope: Envelope<Value>,
) -> Result<T, MacError> {
    let Envelope { format_version: _, payload, key_id: _, signature: _, mac: found } = envelope;
    let found = STANDARD.decode(found.ok_or(MacError::Missing)?).map_err(|_| MacError::Forged)?;
    mac(key, subject, &payload)?.verify_slice(&found).map_err(|_| MacError::Forged)?;
    Ok(serde_json::from_value(payload).map_err(DocumentError::Malformed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::{Claim, Mark};

    fn mark(node: &NodeName, id: &RestoreId, order: &OrderDigest) -> Mark {
        Mark {
            restore_id: id.clone(),
            order_digest: order.clone(),
            node_name: node.clone(),
            claim: Claim::Verified,
            counter: 3,
        }
    }

    #[test]
    fn a_mark_counts_only_in_its_own_place_under_its_own_order() {
        let key = RestoreKey::new([7; 32]);
        let (id, order) = (RestoreId::new("n", "a", 1, "s"), crate::order::tests::order().digest().unwrap());
        let (m0, m1) = (NodeName::from("m0"), NodeName::from("m1"));
        let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
        let sealed = seal(&key, &place, &mark(&m0, &id, &order)).unwrap();
        assert_eq!(open::<Mark>(&key, &place, sealed.clone()).unwrap(), mark(&m0, &id, &order));

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
    fn changed_content_another_key_and_no_mac_are_refused() {
        let key = RestoreKey::new([7; 32]);
        let (id, order) = (RestoreId::new("n", "a", 1, "s"), crate::order::tests::order().digest().unwrap());
        let m0 = NodeName::from("m0");
        let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
        let sealed = seal(&key, &place, &mark(&m0, &id, &order)).unwrap();
        let mut changed = sealed.clone();
        changed.payload["counter"] = 4.into();
        assert!(matches!(open::<Mark>(&key, &place, changed), Err(MacError::Forged)));
        assert!(matches!(open::<Mark>(&RestoreKey::new([8; 32]), &place, sealed), Err(MacError::Forged)));
        let bare = Envelope::unsigned(serde_json::to_value(mark(&m0, &id, &order)).unwrap());
        assert!(matches!(open::<Mark>(&key, &place, bare), Err(MacError::Missing)));
        assert!(!format!("{key:?}").contains('7'));
    }

    #[test]
    fn fields_of_a_newer_minor_version_are_covered_and_passed_over() {
        let key = RestoreKey::new([7; 32]);
        let (id, order) = (RestoreId::new("n", "a", 1, "s"), crate::order::tests::order().digest().unwrap());
        let m0 = NodeName::from("m0");
        let place = Subject::mark("uid", &id, &order, &m0, MarkStep::Verified);
        let mut later = serde_json::to_value(mark(&m0, &id, &order)).unwrap();
        later["later"] = true.into();
        let sealed = seal(&key, &place, &later).unwrap();
        assert_eq!(open::<Mark>(&key, &place, sealed).unwrap(), mark(&m0, &id, &order));
    }
}
