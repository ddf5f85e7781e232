//! From a described location to a client: what is checked before anything is sent, which trust and credentials apply, and
//! how long each kind of call may take. Reads the SDK's own credential chain (environment, files, instance metadata) when
//! no credentials are given; nothing else of the environment.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode as SdkLockMode, ServerSideEncryption as SdkEncryption, StorageClass};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::errors::Told;
use crate::error::StoreError;
use crate::key::{MAX_KEY_BYTES, ObjectKey};

/// What custom endpoints are signed for when nobody says otherwise; self-hosted stores ignore it.
const DEFAULT_REGION: &str = "us-east-1";
/// The SDK's own quick retries; outages longer than that are for [`crate::retry`].
const SDK_ATTEMPTS: u32 = 3;
/// A data call gets at least this rate's worth of time, so that large parts survive slow lines. 256 KiB/s a part.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// A bucket and how to reach it. What of it cannot work is refused by [`super::S3Store::connect`].
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Everything lies below this; empty for the whole bucket.
    pub prefix: String,
    /// Default: `us-east-1` with an endpoint, else whatever the SDK's chain finds.
    pub region: Option<String>,
    /// `https://host[:port]`; AWS itself if absent.
    pub endpoint: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub force_path_style: bool,
    /// PEM certificates trusted besides the system's.
    pub ca_bundle_pem: Option<Vec<u8>>,
    /// Default: the SDK's chain (instance role, web identity, …).
    pub credentials: Option<Credentials>,
    /// Not supported; refused when set.
    pub insecure_skip_tls_verify: bool,
    /// How the store encrypts at rest.
    pub server_side_encryption: ServerSideEncryption,
    /// Storage class of what is written.
    pub storage_class: Option<String>,
    /// Object lock on some of what is written.
    pub object_lock: Option<ObjectLock>,
    /// Off only for stores that refuse checksum headers.
    pub checksums: Checksums,
    /// Limits of single calls.
    pub timeouts: Timeouts,
}

/// Holds what is written against deletion. The bucket must have been made for it.
#[derive(Debug, Clone, Copy)]
pub struct ObjectLock {
    /// Who can lift it.
    pub mode: ObjectLockMode,
    /// How long, days from when it is written.
    pub days: u32,
    /// What is locked: marks and probes must stay deletable.
    pub locks: fn(&ObjectKey) -> bool,
}

/// Who can lift an object lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectLockMode {
    /// Those with the right to.
    Governance,
    /// Nobody.
    Compliance,
}

impl ObjectLock {
    fn of(&self, key: &ObjectKey, now: Timestamp) -> Option<Lock> {
        let Self { mode, days, locks } = self;
        if !locks(key) {
            return None;
        }
        let mode = match mode {
            ObjectLockMode::Governance => SdkLockMode::Governance,
            ObjectLockMode::Compliance => SdkLockMode::Compliance,
        };
        let until = now.as_second().saturating_add(i64::from(*days).saturating_mul(86_400));
        Some(Lock { mode, until: DateTime::from_secs(until) })
    }
}

/// The lock of one object.
pub(super) struct Lock {
    pub(super) mode: SdkLockMode,
    pub(super) until: DateTime,
}

/// Keys of an account.
#[derive(Clone)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

/// Encryption at rest by the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// Whatever the bucket does by default.
    #[default]
    BucketDefault,
    /// The store's own keys.
    Aes256,
    /// A key management service.
    Kms {
        /// Default: the account's key for S3.
        key_id: Option<String>,
    },
}

impl ServerSideEncryption {
    pub(super) fn sdk_kind(&self) -> Option<SdkEncryption> {
        match self {
            Self::BucketDefault => None,
            Self::Aes256 => Some(SdkEncryption::Aes256),
            Self::Kms { key_id: _ } => Some(SdkEncryption::AwsKms),
        }
    }

    pub(super) fn kms_key_id(&self) -> Option<String> {
        match self {
            Self::BucketDefault | Self::Aes256 => None,
            Self::Kms { key_id } => key_id.clone(),
        }
    }
}

/// Whether CRC32 checksums go along with what is written, for the store to verify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Send them and have them checked on reads.
    #[default]
    WhenSupported,
    /// Only where the protocol demands one.
    WhenRequired,
}

impl Checksums {
    pub(super) fn wanted(self) -> bool {
        match self {
            Self::WhenSupported => true,
            Self::WhenRequired => false,
        }
    }
}

/// Limits of single calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Duration,
    /// One attempt of a call without a large body, to its answer's head.
    pub small: Duration,
    /// One attempt of a call with a large body; grows with bodies over 15 MiB.
    pub data: Duration,
    /// A body that does not move for this long is given up.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            small: Duration::from_secs(15),
            data: Duration::from_secs(60),
            stall: Duration::from_secs(20),
        }
    }
}

/// A checked configuration with its connections.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    pub(super) encryption: ServerSideEncryption,
    pub(super) storage_class: Option<StorageClass>,
    object_lock: Option<ObjectLock>,
    pub(super) checksums: Checksums,
    /// Under TLS the body's own signature (a SHA-256 of every part) buys nothing that TLS and CRC32 do not give.
    pub(super) is_encrypted_transport: bool,
    pub(super) told: Told,
    timeouts: Timeouts,
}

impl Client {
    pub(super) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn full_key(&self, key: &ObjectKey) -> String {
        self.full_name(key.as_str())
    }

    /// The lock that an object written now gets.
    pub(super) fn lock_of(&self, key: &ObjectKey) -> Option<Lock> {
        self.object_lock.as_ref()?.of(key, Timestamp::now())
    }

    /// Whether anything is locked.
    pub(super) fn has_lock(&self) -> bool {
        self.object_lock.is_some()
    }

    pub(super) fn own_name<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix)
    }

    pub(super) fn own_key(&self, full: &str) -> Option<ObjectKey> {
        ObjectKey::parse(self.own_name(full)?).ok()
    }

    /// Settings of a call without a large body.
    pub(super) fn small_call(&self) -> Builder {
        self.call(self.timeouts.small, SDK_ATTEMPTS)
    }

    /// Settings of a call that sends `bytes`.
    pub(super) fn data_call(&self, bytes: u64) -> Builder {
        self.call(self.data_limit(bytes), SDK_ATTEMPTS)
    }

    /// Settings of the call that makes an object of its parts: some stores copy them all before they answer.
    pub(super) fn completing_call(&self) -> Builder {
        self.call(self.timeouts.data * 3, SDK_ATTEMPTS)
    }

    /// Settings of a call that sends `bytes` and must not be repeated behind the caller's back.
    pub(super) fn single_call(&self, bytes: u64) -> Builder {
        self.call(self.data_limit(bytes), 1)
    }

    fn data_limit(&self, bytes: u64) -> Duration {
        self.timeouts.data.max(Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND))
    }

    fn call(&self, attempt: Duration, attempts: u32) -> Builder {
        let limits =
            TimeoutConfig::builder().connect_timeout(self.timeouts.connect).operation_attempt_timeout(attempt).build();
        Builder::new().timeout_config(limits).retry_config(RetryConfig::standard().with_max_attempts(attempts))
    }
}

/// Checks a configuration and makes its client.
pub(super) async fn connect(config: S3Config) -> Result<Client, StoreError> {
    let S3Config {
        bucket,
        prefix,
        region,
        endpoint,
        force_path_style,
        ca_bundle_pem,
        credentials,
        insecure_skip_tls_verify,
        server_side_encryption,
        storage_class,
        object_lock,
        checksums,
        timeouts,
    } = config;
    if insecure_skip_tls_verify {
        let what = "spec.s3.insecureSkipTLSVerify; give the endpoint's CA in spec.s3.caBundleRef instead".to_owned();
        return Err(StoreError::NotSupported { what });
    }
    check_bucket(&bucket)?;
    let prefix = check_prefix(&prefix)?;
    let is_encrypted_transport = endpoint.as_deref().map_or(Ok(true), check_endpoint)?;
    let http = make_http(ca_bundle_pem.as_deref())?;

    let provider = match credentials {
        Some(credentials) => Some(check_credentials(credentials)?),
        None => None,
    };
    let (provider, region) = match (provider, region, &endpoint) {
        (Some(provider), Some(region), _) => (provider, region),
        (Some(provider), None, Some(_)) => (provider, DEFAULT_REGION.to_owned()),
        (provider, region, _) => search_chain(provider, region, endpoint.is_some(), http.clone()).await?,
    };

    let told = Told {
        store: format!("s3://{bucket}/{}", prefix.trim_end_matches('/')).trim_end_matches('/').to_owned(),
        bucket: bucket.clone(),
        endpoint: endpoint.clone().unwrap_or_else(|| format!("AWS S3 in {region}")),
    };
    let (calculate, validate) = match checksums {
        Checksums::WhenSupported => {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        }
        Checksums::WhenRequired => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
    };
    let mut builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(provider)
        .region(Region::new(region))
        .force_path_style(force_path_style)
        .request_checksum_calculation(calculate)
        .response_checksum_validation(validate)
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(timeouts.stall).build());
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client {
        s3: aws_sdk_s3::Client::from_conf(builder.build()),
        bucket,
        prefix,
        encryption: server_side_encryption,
        storage_class: storage_class.as_deref().map(StorageClass::from),
        object_lock,
        checksums,
        is_encrypted_transport,
        told,
        timeouts,
    })
}

/// What was not given, from the SDK's default chain.
async fn search_chain(
    provider: Option<SharedCredentialsProvider>,
    region: Option<String>,
    has_endpoint: bool,
    http: SharedHttpClient,
) -> Result<(SharedCredentialsProvider, String), StoreError> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(provider) = provider {
        loader = loader.credentials_provider(provider);
    }
    let asked = region.or_else(|| has_endpoint.then(|| DEFAULT_REGION.to_owned()));
    if let Some(region) = asked {
        loader = loader.region(Region::new(region));
    }
    let found = loader.load().await;
    let region = found.region().map(ToString::to_string).ok_or_else(|| StoreError::InvalidConfiguration {
        words: "no region: set spec.s3.region (none is configured on this node)".to_owned(),
    })?;
    let provider = found.credentials_provider().ok_or_else(|| StoreError::CredentialsMissing {
        words: "set spec.s3.credentialsSecretRef, or give the agent's pod a role".to_owned(),
    })?;
    Ok((provider, region))
}

fn check_credentials(credentials: Credentials) -> Result<SharedCredentialsProvider, StoreError> {
    let Credentials { access_key_id, secret_access_key, session_token } = credentials;
    for (name, value) in [("AWS_ACCESS_KEY_ID", &access_key_id), ("AWS_SECRET_ACCESS_KEY", &secret_access_key)] {
        if value.is_empty() {
            return Err(StoreError::CredentialsMissing {
                words: format!("{name} is empty in the Secret or file of keys"),
            });
        }
        // The usual slip: `echo key | base64`. The id goes into a header, where it would fail with worse words.
        if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let words =
                format!("{name} in the Secret or file of keys contains white space or a line break; store it without");
            return Err(StoreError::InvalidConfiguration { words });
        }
    }
    let keys = aws_sdk_s3::config::Credentials::new(access_key_id, secret_access_key, session_token, None, "lifeboat");
    Ok(SharedCredentialsProvider::new(keys))
}

fn check_bucket(bucket: &str) -> Result<(), StoreError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (3..=63).contains(&bucket.len()) && bucket.chars().all(is_plain) {
        return Ok(());
    }
    let words =
        format!("spec.s3.bucket: {bucket:?} is no bucket name (3 to 63 letters, digits, dots and hyphens, no slash)");
    Err(StoreError::InvalidConfiguration { words })
}

/// The prefix as it stands before every key: empty, or ending in one slash.
fn check_prefix(prefix: &str) -> Result<String, StoreError> {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Ok(String::new());
    }
    // Half of S3's limit stays for our own keys, the longest of which is far below that.
    if prefix.len() > MAX_KEY_BYTES / 2 {
        let words = format!("spec.s3.prefix is {} bytes long, at most {} are allowed", prefix.len(), MAX_KEY_BYTES / 2);
        return Err(StoreError::InvalidConfiguration { words });
    }
    match ObjectKey::parse(prefix) {
        Ok(prefix) => Ok(format!("{prefix}/")),
        Err(error) => Err(StoreError::InvalidConfiguration { words: format!("spec.s3.prefix: {error}") }),
    }
}

/// Whether the endpoint is reached by TLS.
fn check_endpoint(endpoint: &str) -> Result<bool, StoreError> {
    let refuse = |why: &str| {
        // The endpoint itself is not repeated where it may hold a password.
        let shown = if endpoint.contains('@') { "(hidden)" } else { endpoint };
        StoreError::InvalidConfiguration { words: format!("spec.s3.endpoint {shown:?} {why}") }
    };
    if endpoint.contains('@') {
        return Err(refuse("must not contain a user or password"));
    }
    let uri: http::Uri = endpoint.parse().map_err(|_| refuse("is no URL; write https://host or https://host:port"))?;
    if uri.query().is_some() {
        return Err(refuse("must not have a query"));
    }
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(true),
        (Some("http"), Some(_)) => Ok(false),
        (_, _) => Err(refuse("must start with https:// or http://")),
    }
}

fn make_http(ca_bundle_pem: Option<&[u8]>) -> Result<SharedHttpClient, StoreError> {
    let mut trust = TrustStore::default();
    if let Some(pem) = ca_bundle_pem {
        check_ca_bundle(pem)?;
        trust = trust.with_pem_certificate(pem);
    }
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StoreError::InvalidConfiguration { words: format!("spec.s3.caBundleRef: {error}") })?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// The HTTP client takes a bundle unseen and panics at the first connection if it is not one; so it is tried here.
fn check_ca_bundle(pem: &[u8]) -> Result<(), StoreError> {
    let refuse = |why: String| StoreError::InvalidConfiguration { words: format!("spec.s3.caBundleRef: {why}") };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refuse(format!("not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| refuse(format!("not a CA certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is no certificate in it (expected \"-----BEGIN CERTIFICATE-----\")".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> S3Config {
        S3Config {
            bucket: "backups".into(),
            endpoint: Some("https://s3.example:9000".into()),
            credentials: Some(Credentials {
                access_key_id: "id".into(),
                secret_access_key: "hush".into(),
                session_token: Some("also hush".into()),
            }),
            ..S3Config::default()
        }
    }

    async fn refused(config: S3Config) -> StoreError {
        let error = connect(config).await.unwrap_err();
        assert!(!error.is_worth_retrying(), "{error}");
        error
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_with_the_field_to_change() {
        for (broken, field) in [
            (S3Config { bucket: "a/b".into(), ..config() }, "spec.s3.bucket"),
            (S3Config { prefix: "a/../b".into(), ..config() }, "spec.s3.prefix"),
            (S3Config { endpoint: Some("s3.example:9000".into()), ..config() }, "spec.s3.endpoint"),
            (S3Config { endpoint: Some("ftp://s3.example".into()), ..config() }, "spec.s3.endpoint"),
            (S3Config { endpoint: Some("https://".into()), ..config() }, "spec.s3.endpoint"),
            (S3Config { ca_bundle_pem: Some(b"nonsense".to_vec()), ..config() }, "spec.s3.caBundleRef"),
            (
                S3Config {
                    ca_bundle_pem: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
                    ..config()
                },
                "spec.s3.caBundleRef",
            ),
            (S3Config { insecure_skip_tls_verify: true, ..config() }, "spec.s3.insecureSkipTLSVerify"),
        ] {
            let error = refused(broken).await;
            assert!(error.to_string().contains(field), "{error} does not name {field}");
        }
    }

    #[tokio::test]
    async fn no_secret_is_ever_shown() {
        let shown = format!("{:?} {:?}", config(), connect(config()).await.unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        let with_password = S3Config { endpoint: Some("https://me:hush@s3.example".into()), ..config() };
        assert!(!refused(with_password).await.to_string().contains("hush"));
        let mut with_newline = config();
        with_newline.credentials.as_mut().unwrap().secret_access_key = "hush\n".into();
        let error = refused(with_newline).await.to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY") && !error.contains("hush"), "{error}");
    }

    #[tokio::test]
    async fn names_are_put_below_the_prefix_and_back() {
        let client = connect(S3Config { prefix: "/clusters/eu/".into(), ..config() }).await.unwrap();
        let key = ObjectKey::parse("uid/owner.json").unwrap();
        assert_eq!(client.full_key(&key), "clusters/eu/uid/owner.json");
        assert_eq!(client.own_key("clusters/eu/uid/owner.json"), Some(key));
        assert_eq!(client.own_key("clusters/us/uid/owner.json"), None);
        assert_eq!(client.told.store, "s3://backups/clusters/eu");
        assert_eq!(connect(config()).await.unwrap().told.store, "s3://backups");
    }

    #[tokio::test]
    async fn large_parts_get_time_for_slow_lines() {
        let client = connect(config()).await.unwrap();
        assert_eq!(client.data_limit(8 << 20), Duration::from_secs(60));
        assert_eq!(client.data_limit(64 << 20), Duration::from_secs(256));
    }
}
