//! The store's refusals, and its silences, as outcomes. Everything a location's condition later says about a bad bucket,
//! key, certificate or line is decided here. The store's own words are kept; nothing else of a request ever is. Pure.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::StoreError;
use crate::key::ObjectKey;

/// Longest quotation of a store's words.
const MAX_WORDS: usize = 400;

/// What messages need to know of the store.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) store: String,
    pub(super) bucket: String,
    pub(super) endpoint: String,
}

/// An answer that was a refusal.
#[derive(Debug, Clone, Copy)]
struct Answer<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    is_html: bool,
}

/// Whether the store refused with this code.
pub(super) fn is_code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, code: &str) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some(code)
}

impl Told {
    pub(super) fn unavailable(&self, words: String) -> StoreError {
        StoreError::Unavailable { store: self.store.clone(), words }
    }

    pub(super) fn corrupt(&self, key: &ObjectKey, words: String) -> StoreError {
        StoreError::Corrupt { store: self.store.clone(), key: key.clone(), words }
    }

    /// What a failed call means. `key` is the object it was about.
    pub(super) fn outcome<E>(&self, error: SdkError<E, HttpResponse>, key: Option<&ObjectKey>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let html = |answer: &HttpResponse| {
            answer.headers().get("content-type").is_some_and(|kind| kind.starts_with("text/html"))
        };
        match &error {
            SdkError::ServiceError(refusal) => {
                let (raw, told) = (refusal.raw(), refusal.err());
                let (code, message) = (told.code().unwrap_or_default(), told.message().unwrap_or_default());
                self.refusal(Answer { status: raw.status().as_u16(), code, message, is_html: html(raw) }, key)
            }
            SdkError::ResponseError(unread) => {
                let raw = unread.raw();
                self.refusal(Answer { status: raw.status().as_u16(), code: "", message: "", is_html: html(raw) }, key)
            }
            SdkError::TimeoutError(_) => self.unavailable(format!("{} did not answer in time", self.endpoint)),
            SdkError::ConstructionFailure(_) => {
                self.silence(&error).unwrap_or_else(|| StoreError::InvalidConfiguration {
                    words: format!("{}: {}; check spec.s3", self.store, chain_words(&error)),
                })
            }
            SdkError::DispatchFailure(_) => self
                .silence(&error)
                .unwrap_or_else(|| self.unavailable(format!("{}: {}", self.endpoint, chain_words(&error)))),
            // The SDK's enum is open; whatever it adds is at least no proof of a permanent fault.
            _ => self.unavailable(chain_words(&error)),
        }
    }

    /// A body that broke off while it was read.
    pub(super) fn broken_body(&self, error: &(dyn Error + 'static), key: &ObjectKey) -> StoreError {
        let words = chain_words(error);
        if words.to_ascii_lowercase().contains("checksum mismatch") {
            return self.corrupt(key, words);
        }
        self.unavailable(format!("the answer broke off: {words}"))
    }

    fn refusal(&self, answer: Answer<'_>, key: Option<&ObjectKey>) -> StoreError {
        let Answer { status, code, message, is_html } = answer;
        let store = self.store.clone();
        let words = quote(status, code, message);
        let denied = |check| StoreError::AccessDenied { store: store.clone(), words: words.clone(), check };
        let misfit = |advice: &str| StoreError::InvalidConfiguration { words: format!("{store}: {words}; {advice}") };
        let about = |key: Option<&ObjectKey>| key.map_or_else(|| store.clone(), ToString::to_string);

        if let Some(key) = key
            && is_lock(code, message)
        {
            return StoreError::RetentionHeld { key: key.clone(), words };
        }
        match (code, status, key) {
            ("NoSuchBucket", _, _) => {
                StoreError::NoSuchBucket { bucket: self.bucket.clone(), endpoint: self.endpoint.clone(), words }
            }
            ("NoSuchKey" | "NoSuchUpload" | "NotFound", _, Some(key)) => StoreError::NotFound { store, key: key.clone() },
            ("PreconditionFailed", _, Some(key)) | (_, 412, Some(key)) => {
                StoreError::AlreadyExists { store, key: key.clone() }
            }

            // versitygw answers an unknown key id with 404 and this code of its own.
            ("InvalidAccessKeyId" | "InvalidClientTokenId" | "XAdminUserNotFound", _, _) => denied("AWS_ACCESS_KEY_ID in the Secret or file of keys, and that spec.s3.endpoint is the right store"),
            ("SignatureDoesNotMatch", _, _) => {
                denied("AWS_SECRET_ACCESS_KEY in the Secret or file of keys, spec.s3.region, and that no proxy rewrites requests")
            }
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _, _) => denied("AWS_SESSION_TOKEN in the Secret or file of keys"),
            (
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"
                | "InvalidRegion" | "AuthorizationQueryParametersError",
                _,
                _,
            ) => denied("spec.s3.region and spec.s3.endpoint"),
            (code, _, _) if code.starts_with("KMS.") => denied("spec.s3.serverSideEncryption.kmsKeyId and the key's policy"),
            ("InvalidBucketName", _, _) => misfit("check spec.s3.bucket"),

            // A wrong clock is mended from outside while we wait; the SDK also corrects for it.
            ("RequestTimeTooSkewed" | "RequestExpired", _, _) => {
                self.unavailable(format!("{words}; check the clock of this node"))
            }
            (
                "XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded"
                | "StorageFull",
                _,
                _,
            )
            | (_, 507, _) => StoreError::Full { store, words },
            ("EntityTooLarge" | "MaxMessageLengthExceeded", _, _) | (_, 413, _) => {
                StoreError::TooLarge { what: about(key), limit: format!("the store's ({words})") }
            }
            ("NotImplemented" | "MethodNotAllowed", _, _) | (_, 501, _) => {
                StoreError::NotSupported { what: format!("{store} answered {words}") }
            }
            ("InvalidObjectState", _, _) => StoreError::NotSupported {
                what: format!("{} is in an archive storage class and must be retrieved there first ({words})", about(key)),
            },

            // The bytes changed on the way; sent again they may arrive whole.
            (
                "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch"
                | "IncompleteBody",
                _,
                _,
            )
            // Two conditional writes met; the loser is told to ask again.
            | ("ConditionalRequestConflict" | "OperationAborted", _, _)
            | ("SlowDown" | "RequestTimeout" | "Throttling" | "ThrottlingException" | "TemporaryRedirect", _, _)
            | (_, 408 | 409 | 425 | 429 | 500..=599, _) => self.unavailable(words),

            ("AccessDenied", _, _) | (_, 401 | 403, _) if !is_html => {
                denied("the permissions of these credentials on the bucket and its prefix")
            }
            (_, 301 | 302 | 307 | 308, _) => denied("spec.s3.region and spec.s3.endpoint"),
            (_, _, _) if is_html => misfit(
                "this is a web page, not an S3 answer: check that spec.s3.endpoint is the API's address and not a console's",
            ),
            (_, 200..=299, _) => self.unavailable(format!("the answer could not be read ({words})")),
            (_, 404, _) => misfit("this is no answer of an S3 store: check spec.s3.endpoint and spec.s3.forcePathStyle"),
            (_, _, _) => misfit("check spec.s3"),
        }
    }

    /// No answer, for a reason that is known: credentials or TLS somewhere in the chain of causes.
    fn silence(&self, error: &(dyn Error + 'static)) -> Option<StoreError> {
        if let Some(missing) = find::<CredentialsError>(error) {
            return Some(self.no_credentials(missing));
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Some(self.tls_refusal(tls));
        }
        // TLS of another version of rustls than ours would still say so in words.
        let words = chain_words(error);
        words
            .contains("invalid peer certificate")
            .then(|| StoreError::UntrustedCertificate { endpoint: self.endpoint.clone(), words })
    }

    fn no_credentials(&self, error: &CredentialsError) -> StoreError {
        let words = chain_words(error);
        match error {
            CredentialsError::CredentialsNotLoaded(_) => StoreError::CredentialsMissing {
                words: format!("set spec.s3.credentialsSecretRef, or give the agent's pod a role ({words})"),
            },
            CredentialsError::InvalidConfiguration(_) => StoreError::InvalidConfiguration { words },
            // The instance's or the token service did not answer: it may, next time.
            CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
                self.unavailable(format!("no credentials could be obtained: {words}"))
            }
            _ => StoreError::CredentialsMissing { words },
        }
    }

    fn tls_refusal(&self, error: &rustls::Error) -> StoreError {
        let endpoint = self.endpoint.clone();
        match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                StoreError::UntrustedCertificate { endpoint, words: error.to_string() }
            }
            rustls::Error::InvalidMessage(_) => StoreError::InvalidConfiguration {
                words: format!(
                    "{endpoint} does not speak TLS ({error}): check whether spec.s3.endpoint should be http://"
                ),
            },
            rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => StoreError::InvalidConfiguration {
                words: format!(
                    "{endpoint} and Lifeboat agree on no way to speak TLS ({error}): check its TLS settings"
                ),
            },
            _ => self.unavailable(format!("{endpoint}: {error}")),
        }
    }
}

fn is_lock(code: &str, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    matches!(code, "ObjectLocked" | "ObjectLockConfigurationActive")
        || ["object lock", "worm protected", "object is locked", "legal hold", "retention period"]
            .iter()
            .any(|sign| message.contains(sign))
}

fn quote(status: u16, code: &str, message: &str) -> String {
    let text = match (code, message) {
        ("", "") => format!("HTTP {status}"),
        (code, "") => code.to_owned(),
        ("", message) => format!("HTTP {status}: {message}"),
        (code, message) => format!("{code}: {message}"),
    };
    shorten(&text)
}

fn shorten(text: &str) -> String {
    let clean = text.trim().trim_end_matches('.').chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_WORDS).collect()
}

/// An error and its causes, also those that `io::Error` hides from `source()`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut all = vec![error];
    let mut current = error;
    while let Some(cause) = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => current.source(),
    } {
        all.push(cause);
        current = cause;
    }
    all
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).into_iter().find_map(|cause| cause.downcast_ref::<E>())
}

/// The causes as one line, without layers that only repeat or announce the next.
fn chain_words(error: &(dyn Error + 'static)) -> String {
    const ANNOUNCEMENTS: [&str; 5] =
        ["dispatch failure", "io error", "client error (Connect)", "other", "streaming error"];
    let mut words: Vec<String> = Vec::new();
    for text in causes(error).into_iter().map(ToString::to_string) {
        if ANNOUNCEMENTS.contains(&text.as_str()) || words.last().is_some_and(|last| last.contains(&text)) {
            continue;
        }
        words.push(text);
    }
    if words.is_empty() {
        return shorten(&error.to_string());
    }
    shorten(&words.join(": "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorClass;

    fn told() -> Told {
        Told { store: "s3://b/p".into(), bucket: "b".into(), endpoint: "https://s3.example".into() }
    }

    fn refuse(status: u16, code: &str, message: &str) -> StoreError {
        let key = ObjectKey::parse("k").unwrap();
        told().refusal(Answer { status, code, message, is_html: false }, Some(&key))
    }

    #[test]
    fn every_refusal_has_the_class_that_its_reader_must_act_on() {
        use ErrorClass as C;
        for (status, code, message, class) in [
            (404, "NoSuchBucket", "The specified bucket does not exist", C::Refused),
            (404, "NoSuchKey", "", C::Missing),
            (404, "", "", C::Misconfigured),
            (403, "AccessDenied", "Access Denied.", C::Refused),
            (403, "InvalidAccessKeyId", "The key id does not exist", C::Refused),
            (404, "XAdminUserNotFound", "No user exists with the provided access key ID", C::Refused),
            (403, "SignatureDoesNotMatch", "", C::Refused),
            (400, "ExpiredToken", "The provided token has expired.", C::Refused),
            (403, "", "", C::Refused),
            (301, "PermanentRedirect", "", C::Refused),
            (400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", C::Refused),
            (403, "RequestTimeTooSkewed", "", C::Unavailable),
            (412, "PreconditionFailed", "", C::Conflict),
            (409, "ConditionalRequestConflict", "", C::Unavailable),
            (503, "SlowDown", "Please reduce your request rate.", C::Unavailable),
            (500, "InternalError", "", C::Unavailable),
            (502, "", "", C::Unavailable),
            (429, "", "", C::Unavailable),
            (501, "NotImplemented", "", C::NotSupported),
            (507, "XMinioStorageFull", "", C::Full),
            (400, "BadDigest", "", C::Unavailable),
            (413, "EntityTooLarge", "", C::TooLarge),
            (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten", C::Held),
            (403, "AccessDenied", "Access Denied because object protected by object lock.", C::Held),
            (400, "InvalidArgument", "whatever", C::Misconfigured),
            (200, "", "", C::Unavailable),
        ] {
            let error = refuse(status, code, message);
            assert_eq!(error.class(), class, "{status} {code}: {error}");
            assert!(error.to_string().contains(code) || matches!(class, C::Missing | C::Conflict), "{error}");
        }
    }

    #[test]
    fn a_console_in_place_of_the_api_is_called_one() {
        for status in [200, 403, 404] {
            let answer = Answer { status, code: "", message: "", is_html: true };
            let error = told().refusal(answer, None);
            assert_eq!(error.class(), ErrorClass::Misconfigured);
            assert!(error.to_string().contains("console"), "{error}");
        }
        let sick_proxy = Answer { status: 502, code: "", message: "", is_html: true };
        assert_eq!(told().refusal(sick_proxy, None).class(), ErrorClass::Unavailable);
    }

    #[test]
    fn causes_hidden_in_io_errors_are_found() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let hidden = io::Error::new(io::ErrorKind::InvalidData, tls);
        assert!(find::<rustls::Error>(&hidden).is_some());
        let error = told().silence(&hidden).unwrap();
        assert!(matches!(error, StoreError::UntrustedCertificate { .. }), "{error}");
        assert!(error.to_string().contains("UnknownIssuer") && error.to_string().contains("caBundleRef"), "{error}");
    }

    #[test]
    fn credentials_that_are_absent_differ_from_a_service_that_is_down() {
        let absent = told().silence(&CredentialsError::not_loaded("no providers in chain")).unwrap();
        assert!(matches!(absent, StoreError::CredentialsMissing { .. }), "{absent}");
        let down = told().silence(&CredentialsError::provider_error("connection refused")).unwrap();
        assert!(down.is_worth_retrying(), "{down}");
    }

    #[test]
    fn long_and_unprintable_words_are_tamed() {
        let error = refuse(403, "AccessDenied", &format!("a\nb\u{1b}[31m{}", "x".repeat(1000))).to_string();
        assert!(error.len() < 600 && !error.chars().any(char::is_control), "{error}");
    }
}
