//! Ed25519 signatures of documents in the bucket, and the form in which keys are kept.
//!
//! Pure: a key is made of bytes that the caller drew. What is signed is said in [`crate::document`]. Nothing here decides
//! what an unsigned or unknown document is good for, and nothing prints a private key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::document::{DocumentError, Envelope, canonical_json, refuse_inexact};

/// Name of the Secret with this installation's key, made by the operator in its own namespace.
pub const INSTALLATION_SECRET: &str = "lifeboat-installation";
/// Key in that Secret: the private key, PKCS#8 in PEM (`openssl pkey` reads it).
pub const SIGNING_KEY: &str = "signing.key";
/// Key in that Secret: the public key, SubjectPublicKeyInfo in PEM.
pub const SIGNING_PUB: &str = "signing.pub";

/// What kind of document a signature is for: the line that the signed bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// `manifest.json`.
    pub const MANIFEST: Self = Self("etcd.lifeboat.dev/manifest\n");
    /// `order.json` of a restore.
    pub const ORDER: Self = Self("etcd.lifeboat.dev/order\n");
    /// `active/<n>.json`, which says which order counts.
    pub const SLOT: Self = Self("etcd.lifeboat.dev/slot\n");
}

/// Short name of a key: the first 16 hex digits of the SHA-256 of the 32 bytes of its public part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = text.len() == 16 && text.bytes().all(is_digit);
        is_id.then(|| Self(text.to_owned())).ok_or(KeyError::NotAnId)
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key id.
    #[error("not a key id: expected 16 hex digits")]
    NotAnId,
    /// No private key. The text is not shown.
    #[error("not an Ed25519 private key in PEM (PKCS#8, -----BEGIN PRIVATE KEY-----)")]
    NotAPrivateKey,
    /// No public key.
    #[error("not an Ed25519 public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NotAPublicKey,
    /// A key cannot be written; has not been seen.
    #[error("the key cannot be encoded")]
    NotEncoded,
}

/// The public part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// It is none, or not of Ed25519.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(pem.trim()).map(Self).map_err(|_| KeyError::NotAPublicKey)
    }

    /// The key in PEM.
    ///
    /// # Errors
    /// None that has been seen.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::NotEncoded)
    }

    /// Its short name.
    pub fn id(&self) -> KeyId {
        let digest = hex::encode(Sha256::digest(self.0.as_bytes()));
        KeyId(digest.chars().take(16).collect())
    }
}

/// A key that signs. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// The key of 32 bytes from a source of randomness fit for keys.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// It is none, or not of Ed25519. The error does not repeat the text.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem.trim()).map(Self).map_err(|_| KeyError::NotAPrivateKey)
    }

    /// The private key in PEM, without its public part, which older versions of OpenSSL do not accept there.
    ///
    /// # Errors
    /// None that has been seen.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        bytes.to_pkcs8_pem(LineEnding::LF).map(|pem| (*pem).clone()).map_err(|_| KeyError::NotEncoded)
    }

    /// Its public part.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// HMAC-SHA-256 of a text with the private key: another secret that everybody who has this one finds.
    pub(crate) fn derive(&self, text: &[u8]) -> [u8; 32] {
        // HMAC itself pads a key with zeros to the length of a block.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(self.0.as_bytes());
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        mac.update(text);
        mac.finalize().into_bytes().into()
    }
}

/// Public keys that are believed, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys(BTreeMap<KeyId, PublicKey>);

impl KnownKeys {
    /// Believes one more.
    pub fn insert(&mut self, key: PublicKey) {
        self.0.insert(key.id(), key);
    }

    /// Whether a key of that name is believed.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.0.contains_key(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<PublicKey> for KnownKeys {
    fn extend<I: IntoIterator<Item = PublicKey>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| self.insert(key));
    }
}

/// What the signature of a document is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "keyId")]
pub enum SignatureState {
    /// It has none.
    Unsigned,
    /// It names a key that is not known here, so nothing can be said of it.
    Unknown(KeyId),
    /// The holder of this known key wrote exactly this payload.
    Valid(KeyId),
    /// It does not fit: the payload or the signature was altered, or the signature is no signature.
    Invalid,
}

impl<T: Serialize + for<'de> Deserialize<'de>> Envelope<T> {
    /// A signed document of the current format.
    ///
    /// # Errors
    /// The payload cannot be written as canonical JSON, exactly.
    pub fn sign(payload: T, domain: Domain, key: &SigningKey) -> Result<Self, DocumentError> {
        let signed = signed_bytes(domain, &serde_json::to_value(&payload)?)?;
        let signature = STANDARD.encode(key.0.sign(&signed).to_bytes());
        let key_id = Some(key.public().id().to_string());
        Ok(Self { key_id, signature: Some(signature), ..Self::unsigned(payload) })
    }
}

/// On the payload as it was received, before anything is left out that this version does not understand.
impl Envelope<Value> {
    /// What the signature of this document is worth.
    pub fn verify(&self, domain: Domain, known: &KnownKeys) -> SignatureState {
        let Self { format_version: _, payload, key_id, signature, mac: _ } = self;
        let (id, signature) = match (key_id, signature) {
            (None, None) => return SignatureState::Unsigned,
            (Some(id), Some(signature)) => (id.parse::<KeyId>(), signature),
            (Some(_), None) | (None, Some(_)) => return SignatureState::Invalid,
        };
        let Ok(id) = id else { return SignatureState::Invalid };
        let Some(PublicKey(key)) = known.0.get(&id) else { return SignatureState::Unknown(id) };
        let signature = STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let fits = match (signature, signed_bytes(domain, payload)) {
            (Some(signature), Ok(signed)) => key.verify_strict(&signed, &signature).is_ok(),
            (None, _) | (_, Err(_)) => false,
        };
        if fits { SignatureState::Valid(id) } else { SignatureState::Invalid }
    }
}

fn signed_bytes(domain: Domain, payload: &Value) -> Result<Vec<u8>, DocumentError> {
    refuse_inexact(payload)?;
    let mut bytes = domain.0.as_bytes().to_vec();
    bytes.extend(canonical_json(payload)?);
    Ok(bytes)
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
