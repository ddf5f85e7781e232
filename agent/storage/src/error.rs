//! What can go wrong with a store, as outcomes: each variant asks something different of whoever reads it. Messages hold
//! the store's own words and what to check; they never hold a credential or a signed URL. Pure; no I/O.

use crate::key::{KeyError, ObjectKey};

/// The outcome of a call to a store that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No object of this name.
    #[error("{key} does not exist in {store}")]
    NotFound {
        /// The store, as it describes itself.
        store: String,
        /// The object asked for.
        key: ObjectKey,
    },
    /// A conditional create found an object of this name.
    #[error("{key} already exists in {store}")]
    AlreadyExists {
        /// The store, as it describes itself.
        store: String,
        /// The object to be created.
        key: ObjectKey,
    },
    /// The store answered and refused.
    #[error("{store} refused access: {words}; check {check}")]
    AccessDenied {
        /// The store, as it describes itself.
        store: String,
        /// The store's own words.
        words: String,
        /// What a person should look at.
        check: &'static str,
    },
    /// The endpoint answered that there is no such bucket.
    #[error(
        "bucket {bucket:?} does not exist at {endpoint} ({words}): check spec.s3.bucket, spec.s3.endpoint and spec.s3.region"
    )]
    NoSuchBucket {
        /// The bucket asked for.
        bucket: String,
        /// The endpoint that answered.
        endpoint: String,
        /// The store's own words.
        words: String,
    },
    /// There are no credentials to sign with.
    #[error("no credentials: {words}")]
    CredentialsMissing {
        /// Where they were looked for.
        words: String,
    },
    /// The TLS certificate of the endpoint is not one we trust.
    #[error(
        "the certificate of {endpoint} is not trusted: {words}; check spec.s3.caBundleRef (spec.s3.caBundleFile of a location in a file) and that the certificate names this host and is within its dates"
    )]
    UntrustedCertificate {
        /// The endpoint that was connected to.
        endpoint: String,
        /// The verifier's words.
        words: String,
    },
    /// Something in the configuration cannot work, whatever the store does.
    #[error("{words}")]
    InvalidConfiguration {
        /// What is wrong and what to change.
        words: String,
    },
    /// The store could not be reached, did not answer in time, or answered that it cannot serve now.
    #[error("{store} is unavailable: {words}")]
    Unavailable {
        /// The store, as it describes itself.
        store: String,
        /// What was seen.
        words: String,
    },
    /// The store, or this version of Lifeboat, cannot do what was asked.
    #[error("not supported: {what}")]
    NotSupported {
        /// What is missing.
        what: String,
    },
    /// What is stored is not what was sent.
    #[error("{key} in {store} is corrupt: {words}")]
    Corrupt {
        /// The store, as it describes itself.
        store: String,
        /// The object.
        key: ObjectKey,
        /// What does not match.
        words: String,
    },
    /// More than the reader allows or the store accepts.
    #[error("{what} is too large: the limit is {limit}")]
    TooLarge {
        /// The object or listing.
        what: String,
        /// The limit it passed, with its unit.
        limit: String,
    },
    /// The store has no room left.
    #[error("{store} is full: {words}")]
    Full {
        /// The store, as it describes itself.
        store: String,
        /// The store's own words.
        words: String,
    },
    /// Object lock, a retention period or a legal hold forbids deleting or replacing the object.
    #[error("{key} is held by the store: {words}")]
    RetentionHeld {
        /// The object.
        key: ObjectKey,
        /// The store's own words.
        words: String,
    },
    /// The caller gave the call up.
    #[error("{what} was cancelled")]
    Cancelled {
        /// What was being done.
        what: String,
    },
}

/// What an outcome asks for. Wider than [`StoreError`]: this is what controllers decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The object is not there.
    Missing,
    /// Somebody else was first.
    Conflict,
    /// The store answered, or TLS refused: condition reason `AccessDenied`.
    Refused,
    /// Condition reason `CredentialsMissing`.
    CredentialsMissing,
    /// The location is described wrongly; a person must change it.
    Misconfigured,
    /// Condition reason `NotSupported`.
    NotSupported,
    /// Recovers by itself: condition reason `LocationUnavailable`.
    Unavailable,
    /// No room: recovers when something is deleted, not by asking again at once.
    Full,
    /// The bytes are wrong.
    Corrupt,
    /// A limit was passed.
    TooLarge,
    /// Condition reason `RetentionHeld`.
    Held,
    /// The caller stopped it.
    Cancelled,
}

impl StoreError {
    /// The class of this outcome.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } => ErrorClass::Missing,
            Self::AlreadyExists { .. } => ErrorClass::Conflict,
            Self::AccessDenied { .. } | Self::NoSuchBucket { .. } | Self::UntrustedCertificate { .. } => {
                ErrorClass::Refused
            }
            Self::CredentialsMissing { .. } => ErrorClass::CredentialsMissing,
            Self::InvalidConfiguration { .. } => ErrorClass::Misconfigured,
            Self::Unavailable { .. } => ErrorClass::Unavailable,
            Self::NotSupported { .. } => ErrorClass::NotSupported,
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::Full { .. } => ErrorClass::Full,
            Self::RetentionHeld { .. } => ErrorClass::Held,
            Self::Cancelled { .. } => ErrorClass::Cancelled,
        }
    }

    /// Whether asking again within seconds makes sense. A full store is neither permanent nor worth hammering.
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self.class() {
            ErrorClass::Unavailable => true,
            ErrorClass::Missing
            | ErrorClass::Conflict
            | ErrorClass::Refused
            | ErrorClass::CredentialsMissing
            | ErrorClass::Misconfigured
            | ErrorClass::NotSupported
            | ErrorClass::Corrupt
            | ErrorClass::TooLarge
            | ErrorClass::Full
            | ErrorClass::Held
            | ErrorClass::Cancelled => false,
        }
    }
}

impl From<KeyError> for StoreError {
    fn from(error: KeyError) -> Self {
        Self::InvalidConfiguration { words: error.to_string() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_unavailability_is_retried() {
        let gone = StoreError::Unavailable { store: "s3://b".into(), words: "connection refused".into() };
        assert!(gone.is_worth_retrying());
        let full = StoreError::Full { store: "d".into(), words: "no space left".into() };
        assert!(!full.is_worth_retrying());
        let denied = StoreError::AccessDenied { store: "s3://b".into(), words: "no".into(), check: "the policy" };
        assert!(!denied.is_worth_retrying());
    }

    #[test]
    fn a_missing_bucket_is_told_with_what_to_check() {
        let error = StoreError::NoSuchBucket {
            bucket: "x".into(),
            endpoint: "https://s3.example".into(),
            words: "NoSuchBucket".into(),
        };
        let text = error.to_string();
        assert!(text.starts_with("bucket \"x\" does not exist at https://s3.example (NoSuchBucket)"), "{text}");
        assert!(text.contains("spec.s3.bucket") && text.contains("spec.s3.region"));
    }
}
