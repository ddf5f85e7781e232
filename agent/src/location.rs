//! From an EtcdBackupLocation to a store: its Secret and CA are read anew each time, so that rotated ones are taken up.
//!
//! Reads Secrets and ConfigMaps by name through the API; writes nothing. What is wrong becomes a reason and words.

pub mod mark;
pub mod ownership;
pub mod probe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use lifeboat_crds::location::{
    DirectoryLocation, EtcdBackupLocationSpec, ObjectLock as WantedLock, ObjectLockMode as WantedLockMode, S3Location,
    ServerSideEncryption as WantedEncryption, ServerSideEncryptionType,
};
use lifeboat_crds::reference::{KeySelector, ObjectName};
use lifeboat_crds::{EtcdBackup, EtcdBackupLocation, EtcdMember, Reason, layout};
use lifeboat_process::api_error::api_words;
use lifeboat_storage::{
    Credentials, DIRECTORY_RESERVE_PERCENT, DirectoryStore, ErrorClass, ObjectLock, ObjectLockMode, ObjectStore,
    S3Config, S3Store, ServerSideEncryption, StoreError,
};

/// Longest wait for the API server.
const API_DEADLINE: Duration = Duration::from_secs(15);

/// Why a location cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// There is no such object.
    #[error("EtcdBackupLocation {0:?} does not exist in this namespace: create it, or correct spec.locationRef.name")]
    Missing(String),
    /// The Secret, the ConfigMap or a key in it is missing.
    #[error("{0}")]
    CredentialsMissing(String),
    /// The chart gives this agent no mount of that name.
    #[error(
        "no directory is mounted under the name {name:?} (known: {known}): add it to agent.directories in the chart's \
         values, or correct spec.directory.mount"
    )]
    NoSuchMount {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The location is described in a way this version does not understand.
    #[error("neither s3 nor directory is set: this agent is older than the location's kind, upgrade it")]
    NotUnderstood,
    /// The API server did not give what was asked.
    #[error("{what} cannot be read from the API server: {words}")]
    Api {
        /// What was asked for.
        what: String,
        /// The server's words.
        words: String,
    },
    /// The store said no, or nothing.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LocationError {
    /// The reason that people read.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) => Reason::LocationMissing,
            Self::CredentialsMissing(_) => Reason::CredentialsMissing,
            Self::NoSuchMount { .. } => Reason::AccessDenied,
            Self::NotUnderstood => Reason::NotSupported,
            Self::Api { .. } => Reason::LocationUnavailable,
            Self::Store(error) => store_reason(error),
        }
    }
}

/// The reason for what a store said about itself, not about one object.
pub fn store_reason(error: &StoreError) -> Reason {
    match error.class() {
        ErrorClass::Refused | ErrorClass::Misconfigured => Reason::AccessDenied,
        ErrorClass::CredentialsMissing => Reason::CredentialsMissing,
        ErrorClass::NotSupported => Reason::NotSupported,
        ErrorClass::Held => Reason::RetentionHeld,
        ErrorClass::Corrupt => Reason::VerificationFailed,
        ErrorClass::Missing
        | ErrorClass::Conflict
        | ErrorClass::Unavailable
        | ErrorClass::Full
        | ErrorClass::TooLarge
        | ErrorClass::Cancelled => Reason::LocationUnavailable,
    }
}

/// Whether the store proved that it creates an object only where none is.
pub fn is_conditional(location: &EtcdBackupLocation) -> bool {
    location.status.as_ref().and_then(|status| status.conditional_writes) == Some(true)
}

/// How the store of a location is reached, wherever that was read: in values that a host can keep.
#[derive(Debug, Default)]
pub struct StoreReach {
    /// Keys of the store.
    pub credentials: Option<Credentials>,
    /// The CA that signed its certificate, PEM.
    pub ca: Option<String>,
    /// Where its directory is on this machine.
    pub directory: Option<PathBuf>,
}

/// Opens locations.
#[derive(Clone, Debug)]
pub struct LocationOpener {
    client: OpaqueClient,
    namespace: String,
    directories: Arc<BTreeMap<String, PathBuf>>,
    directory_reserve_percent: u64,
}

/// A client that prints as its name alone.
#[derive(Clone)]
struct OpaqueClient(Client);

impl std::fmt::Debug for OpaqueClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl LocationOpener {
    /// Opens locations of this namespace; `directories` are the mounts by name.
    pub fn new(client: Client, namespace: &str, directories: BTreeMap<String, PathBuf>) -> Self {
        Self {
            client: OpaqueClient(client),
            namespace: namespace.to_owned(),
            directories: Arc::new(directories),
            directory_reserve_percent: DIRECTORY_RESERVE_PERCENT,
        }
    }

    /// The same, with so many percent of a directory's file system left free.
    pub fn with_directory_reserve_percent(self, directory_reserve_percent: u64) -> Self {
        Self { directory_reserve_percent, ..self }
    }

    /// Reads a location.
    ///
    /// # Errors
    /// It does not exist, or the API server does not answer.
    pub async fn fetch(&self, name: &str) -> Result<EtcdBackupLocation, LocationError> {
        bounded(format!("EtcdBackupLocation {name:?}"), self.api::<EtcdBackupLocation>().get_opt(name))
            .await?
            .ok_or_else(|| LocationError::Missing(name.to_owned()))
    }

    /// Reads every location.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn fetch_locations(&self) -> Result<Vec<EtcdBackupLocation>, LocationError> {
        let (api, params) = (self.api::<EtcdBackupLocation>(), ListParams::default());
        Ok(bounded("the list of EtcdBackupLocations".to_owned(), api.list(&params)).await?.items)
    }

    /// Reads every EtcdMember.
    ///
    /// # Errors
    /// The API server does not answer, or this agent may not list them.
    pub async fn fetch_members(&self) -> Result<Vec<EtcdMember>, LocationError> {
        let params = ListParams::default();
        let listed = bounded("the list of EtcdMembers".to_owned(), self.api::<EtcdMember>().list(&params)).await?;
        Ok(listed.items)
    }

    /// Reads an EtcdBackup as it is now; nothing where it is gone.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn fetch_backup(&self, name: &str) -> Result<Option<EtcdBackup>, LocationError> {
        bounded(format!("EtcdBackup {name:?}"), self.api::<EtcdBackup>().get_opt(name)).await
    }

    /// A client for what a location describes. Asks nothing of the store yet.
    ///
    /// # Errors
    /// What is missing or cannot work.
    pub async fn open(&self, spec: &EtcdBackupLocationSpec) -> Result<Arc<dyn ObjectStore>, LocationError> {
        match (&spec.s3, &spec.directory) {
            (Some(s3), None) => {
                let StoreReach { credentials, ca, directory: _ } = self.reach(spec).await?;
                Ok(Arc::new(S3Store::connect(s3_config(s3, credentials, ca.map(String::into_bytes))).await?))
            }
            (None, Some(directory)) => self.open_directory(directory),
            (Some(_), Some(_)) | (None, None) => Err(LocationError::NotUnderstood),
        }
    }

    /// How the store of a location is reached, in values that a host can keep.
    ///
    /// # Errors
    /// What is missing.
    pub async fn reach(&self, spec: &EtcdBackupLocationSpec) -> Result<StoreReach, LocationError> {
        match (&spec.s3, &spec.directory) {
            (Some(s3), None) => {
                let credentials = match &s3.credentials_secret_ref {
                    Some(secret) => Some(self.fetch_credentials(secret).await?),
                    None => None,
                };
                let ca = match &s3.ca_bundle_ref {
                    Some(selector) => Some(self.fetch_ca(selector).await?),
                    None => None,
                };
                let ca = ca.map(|pem| String::from_utf8_lossy(&pem).into_owned());
                Ok(StoreReach { credentials, ca, directory: None })
            }
            (None, Some(directory)) => {
                let root = self.directory_of(directory)?;
                Ok(StoreReach { directory: Some(root.clone()), ..StoreReach::default() })
            }
            (Some(_), Some(_)) | (None, None) => Err(LocationError::NotUnderstood),
        }
    }

    fn open_directory(&self, directory: &DirectoryLocation) -> Result<Arc<dyn ObjectStore>, LocationError> {
        let DirectoryLocation { mount, sub_path } = directory;
        let root = self.directory_of(directory)?;
        let sub_path = Some(sub_path.as_str()).filter(|path| !path.is_empty());
        let store = DirectoryStore::new(mount, root.clone(), sub_path)?;
        Ok(Arc::new(store.with_reserve_percent(self.directory_reserve_percent)))
    }

    fn directory_of(
        &self,
        DirectoryLocation { mount, sub_path: _ }: &DirectoryLocation,
    ) -> Result<&PathBuf, LocationError> {
        self.directories.get(mount).ok_or_else(|| {
            let known: Vec<&str> = self.directories.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            LocationError::NoSuchMount { name: mount.clone(), known }
        })
    }

    /// Reads a Secret; nothing where it does not exist.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn fetch_secret(&self, name: &str) -> Result<Option<Secret>, LocationError> {
        bounded(format!("Secret {name:?}"), self.api::<Secret>().get_opt(name)).await
    }

    async fn fetch_credentials(&self, ObjectName { name }: &ObjectName) -> Result<Credentials, LocationError> {
        let found = self.fetch_secret(name).await?;
        let secret = found.ok_or_else(|| {
            LocationError::CredentialsMissing(format!(
                "Secret {name:?} (spec.s3.credentialsSecretRef) does not exist in this namespace: create it with the \
                 keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ))
        })?;
        credentials_of(name, &secret)
    }

    async fn fetch_ca(&self, KeySelector { name, key }: &KeySelector) -> Result<Vec<u8>, LocationError> {
        let map = bounded(format!("ConfigMap {name:?}"), self.api::<ConfigMap>().get_opt(name)).await?;
        let pem = map.as_ref().and_then(|map| map.data.as_ref()).and_then(|data| data.get(key));
        pem.map(|pem| pem.clone().into_bytes()).ok_or_else(|| {
            let what = if map.is_some() { format!("has no key {key:?}") } else { "does not exist".to_owned() };
            LocationError::CredentialsMissing(format!(
                "ConfigMap {name:?} (spec.s3.caBundleRef) {what}: put the PEM certificates of the store's CA there"
            ))
        })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.0.clone(), &self.namespace)
    }
}

/// One question to the API server, within bounds.
async fn bounded<T>(what: String, question: impl Future<Output = kube::Result<T>>) -> Result<T, LocationError> {
    let words = match tokio::time::timeout(API_DEADLINE, question).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => api_words(&error),
        Err(_elapsed) => format!("no answer within {} s", API_DEADLINE.as_secs()),
    };
    Err(LocationError::Api { what, words })
}

/// The keys of a Secret. What a human pasted with a line break at its end is refused later, with words.
fn credentials_of(name: &str, secret: &Secret) -> Result<Credentials, LocationError> {
    let value = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
    };
    let required = |key: &str| {
        value(key).ok_or_else(|| {
            LocationError::CredentialsMissing(format!(
                "Secret {name:?} (spec.s3.credentialsSecretRef) has no key {key}: add it"
            ))
        })
    };
    Ok(Credentials {
        access_key_id: required("AWS_ACCESS_KEY_ID")?,
        secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
        session_token: value("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()),
    })
}

/// The configuration of a client for a bucket.
pub fn s3_config(location: &S3Location, credentials: Option<Credentials>, ca_bundle_pem: Option<Vec<u8>>) -> S3Config {
    let S3Location {
        bucket,
        prefix,
        region,
        endpoint,
        force_path_style,
        ca_bundle_ref: _,
        credentials_secret_ref: _,
        insecure_skip_tls_verify,
        server_side_encryption,
        storage_class,
        object_lock,
    } = location;
    S3Config {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        region: region.clone(),
        endpoint: endpoint.clone(),
        force_path_style: *force_path_style,
        ca_bundle_pem,
        credentials,
        insecure_skip_tls_verify: *insecure_skip_tls_verify,
        server_side_encryption: server_side_encryption.as_ref().map(encryption_of).unwrap_or_default(),
        storage_class: storage_class.clone(),
        object_lock: object_lock.as_ref().map(lock_of),
        ..S3Config::default()
    }
}

/// Archives alone are locked: a pin must be removable, and a probe takes away what it wrote.
fn lock_of(wanted: &WantedLock) -> ObjectLock {
    let WantedLock { mode, days } = wanted;
    let mode = match mode {
        WantedLockMode::Governance => ObjectLockMode::Governance,
        WantedLockMode::Compliance => ObjectLockMode::Compliance,
    };
    ObjectLock { mode, days: u32::try_from(*days).unwrap_or(0), locks: |key| layout::is_archive(key.as_str()) }
}

fn encryption_of(wanted: &WantedEncryption) -> ServerSideEncryption {
    let WantedEncryption { type_, kms_key_id } = wanted;
    match type_ {
        ServerSideEncryptionType::AES256 => ServerSideEncryption::Aes256,
        ServerSideEncryptionType::KMS => ServerSideEncryption::Kms { key_id: kms_key_id.clone() },
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    /// A Secret with these keys.
    pub fn secret(keys: &[(&str, &str)]) -> Secret {
        let data = keys.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_missing_key_is_named_and_no_value_is_shown() {
        let error = credentials_of("offsite", &secret(&[("AWS_ACCESS_KEY_ID", "hush")])).unwrap_err();
        assert_eq!(error.reason(), Reason::CredentialsMissing);
        let words = error.to_string();
        assert!(words.contains("offsite") && words.contains("AWS_SECRET_ACCESS_KEY") && !words.contains("hush"));
    }

    #[test]
    fn an_empty_session_token_is_none() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_SESSION_TOKEN", "")];
        assert!(credentials_of("s", &secret(&keys)).unwrap().session_token.is_none());
    }

    #[test]
    fn what_the_store_says_has_the_reason_of_the_table() {
        let refused = StoreError::UntrustedCertificate { endpoint: "e".into(), words: "w".into() };
        assert_eq!(store_reason(&refused), Reason::AccessDenied);
        let away = StoreError::Unavailable { store: "s".into(), words: "w".into() };
        assert_eq!(store_reason(&away), Reason::LocationUnavailable);
        let missing = LocationError::Missing("l".into());
        assert_eq!(missing.reason(), Reason::LocationMissing);
    }
}
