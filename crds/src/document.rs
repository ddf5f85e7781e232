//! The envelope of every document in the bucket, and canonical JSON.
//!
//! **Signed bytes** are a domain line, such as `etcd.lifeboat.dev/manifest` and a line feed, followed by the canonical JSON
//! (RFC 8785) of `payload` *as it was received*: a signature of one kind of document is never good for another, and a
//! reader that does not know a newer minor format's fields verifies them all the same. `formatVersion` is not signed; a
//! newer major format, which readers refuse, gets domain lines of its own. Signing itself lies in [`crate::signing`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Major number of [`FORMAT_VERSION`], which MACs cover.
pub(crate) const FORMAT_MAJOR: u32 = 1;
/// Format version that this build writes. Readers accept the same major version and refuse a newer one.
pub const FORMAT_VERSION: &str = "1.0";

/// A document with what is needed to trust it: `signature` or `mac` over the canonical JSON of `payload`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// `major.minor`.
    pub format_version: String,
    /// The document.
    pub payload: T,
    /// Key the signature or MAC was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Ed25519 signature, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// HMAC-SHA-256, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of the expected shape.
    #[error("not a readable document: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a later version.
    #[error(
        "format {found} is newer than this program understands ({FORMAT_VERSION}): use a newer version of lifeboat"
    )]
    Newer {
        /// What the document says.
        found: String,
    },
    /// A number that canonical JSON would round: it stands for others too, and a signature over it proves nothing.
    #[error("the number {0} in the document is beyond ±(2^53 - 1) and cannot be signed")]
    NotExact(String),
}

impl<T: Serialize + for<'de> Deserialize<'de>> Envelope<T> {
    /// An unsigned document of the current format.
    pub fn unsigned(payload: T) -> Self {
        Self { format_version: FORMAT_VERSION.to_owned(), payload, key_id: None, signature: None, mac: None }
    }

    /// The bytes to store: canonical JSON (RFC 8785) and a newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        let mut bytes = canonical_json(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a document; refuses a newer major format before it looks at the payload.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: String,
        }
        let Version { format_version } = serde_json::from_slice(bytes)?;
        let major = |version: &str| version.split('.').next().and_then(|part| part.parse::<u32>().ok());
        if major(&format_version).is_none_or(|found| Some(found) > major(FORMAT_VERSION)) {
            return Err(DocumentError::Newer { found: format_version });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Envelope<Value> {
    /// The same document with its payload understood.
    ///
    /// # Errors
    /// The payload is not of the expected shape.
    pub fn understand<T: for<'de> Deserialize<'de>>(self) -> Result<Envelope<T>, DocumentError> {
        let Self { format_version, payload, key_id, signature, mac } = self;
        Ok(Envelope { format_version, payload: serde_json::from_value(payload)?, key_id, signature, mac })
    }
}

/// Canonical JSON of a value (RFC 8785): what every hash and signature is made over.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, DocumentError> {
    Ok(serde_jcs::to_vec(value)?)
}

/// SHA-256 over the canonical JSON of a value, 64 hex digits.
pub fn digest<T: Serialize>(value: &T) -> Result<String, DocumentError> {
    Ok(hex::encode(Sha256::digest(canonical_json(value)?)))
}

/// The same of a document as it was received, which may hold anything: only where no other document has it.
///
/// # Errors
/// A number in it is one that canonical JSON would round.
pub fn exact_digest(value: &Value) -> Result<String, DocumentError> {
    refuse_inexact(value)?;
    digest(value)
}

/// Largest integer that canonical JSON writes exactly, 2⁵³ − 1.
const LARGEST_EXACT: u64 = (1 << 53) - 1;

/// Canonical JSON writes every number as a double: beyond 2⁵³ several integers are written alike.
pub(crate) fn refuse_inexact(value: &Value) -> Result<(), DocumentError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match magnitude {
                Some(magnitude) if magnitude > LARGEST_EXACT => Err(DocumentError::NotExact(number.to_string())),
                Some(_) | None => Ok(()),
            }
        }
        Value::Array(values) => values.iter().try_for_each(refuse_inexact),
        Value::Object(fields) => fields.values().try_for_each(refuse_inexact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_reads_back() {
        let envelope = Envelope::unsigned(json!({"b": 1, "a": "x"}));
        let bytes = envelope.to_bytes().unwrap();
        assert_eq!(Envelope::<Value>::from_bytes(&bytes).unwrap(), envelope);
        assert!(String::from_utf8(bytes).unwrap().contains(r#"{"a":"x","b":1}"#));
    }

    #[test]
    fn a_newer_major_format_is_refused_with_words() {
        let text = br#"{"formatVersion":"2.0","payload":{"unknown":true}}"#;
        let error = Envelope::<Value>::from_bytes(text).unwrap_err();
        assert!(error.to_string().contains("newer version of lifeboat"), "{error}");
    }

    #[test]
    fn a_newer_minor_format_is_read() {
        assert!(Envelope::<Value>::from_bytes(br#"{"formatVersion":"1.7","payload":1,"later":2}"#).is_ok());
    }

    #[test]
    fn the_major_number_is_that_of_the_version() {
        assert!(FORMAT_VERSION.starts_with(&format!("{FORMAT_MAJOR}.")));
    }

    #[test]
    fn a_number_that_stands_for_others_too_has_no_exact_digest() {
        assert!(exact_digest(&json!({"a": [9_007_199_254_740_991_u64]})).is_ok());
        assert!(matches!(exact_digest(&json!({"a": [9_007_199_254_740_993_u64]})), Err(DocumentError::NotExact(_))));
    }

    #[test]
    fn digest_does_not_depend_on_the_order_of_fields() {
        let a: Value = serde_json::from_str(r#"{"x":1,"y":2}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"y":2,"x":1}"#).unwrap();
        assert_eq!(digest(&a).unwrap(), digest(&b).unwrap());
    }
}
