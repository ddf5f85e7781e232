//! A location described in a file: the YAML of an EtcdBackupLocation, with files in place of Secrets and ConfigMaps.
//!
//! Reads the file and those it names; opens the store, asks it nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_crds::{EtcdBackupLocation, EtcdBackupLocationSpec};
use lifeboat_storage::{Credentials, DirectoryStore, ObjectStore, S3Store};
use serde::Deserialize;
use serde_norway::Value;
use zeroize::Zeroizing;

use crate::location::{LocationError, StoreReach, s3_config};

/// Keys of the store from the environment.
#[derive(clap::Args)]
pub struct StoreKeys {
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide = true, hide_env_values = true)]
    aws_access_key_id: Option<String>,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide = true, hide_env_values = true)]
    aws_secret_access_key: Option<String>,
    #[arg(long, env = "AWS_SESSION_TOKEN", hide = true, hide_env_values = true)]
    aws_session_token: Option<String>,
}

impl StoreKeys {
    /// None: those of the location's file are all there is.
    pub const fn none() -> Self {
        Self { aws_access_key_id: None, aws_secret_access_key: None, aws_session_token: None }
    }
}

impl std::fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKeys(redacted)")
    }
}

/// Why a location's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is not the YAML of an EtcdBackupLocation: {words}", path = .path.display())]
    NotALocation {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// There is no such directory here.
    #[error(
        "{root}, which {path} names in spec.directory.path, is no directory on this machine: is it mounted?",
        root = .root.display(),
        path = .path.display()
    )]
    NoDirectory {
        /// The location's file.
        path: PathBuf,
        /// What it names.
        root: PathBuf,
    },
    /// No keys for the store.
    #[error(
        "no keys for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with both in \
         spec.s3.credentialsFile of {path} (a Secret cannot be read without an API server)",
        path = .path.display()
    )]
    NoKeys {
        /// The location's file.
        path: PathBuf,
    },
    /// No certificate of the store.
    #[error(
        "the CA of the store lies in a ConfigMap (spec.s3.caBundleRef of {path}), which cannot be read without an API \
         server: name a file with it in spec.s3.caBundleFile, or remove caBundleRef if this machine trusts the store anyhow",
        path = .path.display()
    )]
    NoCa {
        /// The location's file.
        path: PathBuf,
    },
    /// The file with the keys lacks one.
    #[error("{path} has no line {key}=…", path = .path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
    },
}

/// A location as its file describes it.
#[derive(Debug)]
pub struct LocationFile {
    path: PathBuf,
    name: Option<String>,
    spec: EtcdBackupLocationSpec,
    credentials_file: Option<PathBuf>,
    ca_bundle_file: Option<PathBuf>,
    directory: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Document {
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    spec: Value,
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
}

impl LocationFile {
    /// Reads a file. Blocking, a few small files.
    ///
    /// # Errors
    /// It is missing or not the YAML of a location.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = read(path)?;
        let wrong = |words: String| FileError::NotALocation { path: path.to_owned(), words };
        let whole: Value = serde_norway::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let Document { kind, metadata: Metadata { name }, mut spec } =
            serde_norway::from_value(only_location(whole)).map_err(|error| wrong(error.to_string()))?;
        if kind.as_deref().is_some_and(|kind| kind != "EtcdBackupLocation") {
            return Err(wrong(format!("its kind is {}", kind.unwrap_or_default())));
        }
        let beside = |file: String| path.parent().unwrap_or(Path::new("")).join(file);
        let credentials_file = take(&mut spec, "s3", "credentialsFile").map(beside);
        let ca_bundle_file = take(&mut spec, "s3", "caBundleFile").map(beside);
        let directory = take(&mut spec, "directory", "path").map(beside);
        let mut unknown = Vec::new();
        let spec: EtcdBackupLocationSpec =
            serde_ignored::deserialize(spec, |field| unknown.push(format!("spec.{field}").replace(".?", "")))
                .map_err(|error: serde_norway::Error| wrong(error.to_string()))?;
        // A typo would be another place, or another way into it, without a word.
        if !unknown.is_empty() {
            return Err(wrong(format!("no location has {}: is it a typo?", unknown.join(", "))));
        }
        if spec.s3.is_some() == spec.directory.is_some() {
            return Err(wrong("set exactly one of s3, directory".to_owned()));
        }
        if spec.directory.is_some() && directory.is_none() {
            return Err(wrong("say in spec.directory.path where the mount is on this machine".to_owned()));
        }
        Ok(Self { path: path.to_owned(), name, spec, credentials_file, ca_bundle_file, directory })
    }

    /// The object, as an API server would hold it; one without a name has that of its file.
    pub fn location(&self) -> EtcdBackupLocation {
        let stem = || self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        EtcdBackupLocation::new(&self.name.clone().unwrap_or_else(stem), self.spec.clone())
    }

    /// The name of the location.
    pub fn name(&self) -> String {
        self.location().metadata.name.unwrap_or_default()
    }

    /// Opens the store.
    ///
    /// # Errors
    /// Keys are missing, or something in the description cannot work.
    pub async fn open(&self, keys: &StoreKeys) -> Result<Arc<dyn ObjectStore>, super::ArchiveError> {
        let Self { path: _, name: _, spec, credentials_file: _, ca_bundle_file: _, directory } = self;
        match (&spec.s3, &spec.directory, directory) {
            (Some(s3), None, _) => {
                let credentials = self.credentials(keys, s3.credentials_secret_ref.is_some())?;
                let ca = self.ca()?.map(String::into_bytes);
                let store = S3Store::connect(s3_config(s3, credentials, ca)).await?;
                Ok(Arc::new(store))
            }
            (None, Some(described), Some(root)) => {
                let sub_path = Some(described.sub_path.as_str()).filter(|path| !path.is_empty());
                let root =
                    std::path::absolute(root).map_err(|source| FileError::Unreadable { path: root.clone(), source })?;
                if !root.is_dir() {
                    return Err(FileError::NoDirectory { path: self.path.clone(), root }.into());
                }
                Ok(Arc::new(DirectoryStore::new(&described.mount, root, sub_path)?))
            }
            (Some(_) | None, _, _) => Err(LocationError::NotUnderstood.into()),
        }
    }

    /// The same location in files that need nothing else. The first is the location's own.
    ///
    /// # Errors
    /// A file that it names cannot be read, or keys are missing.
    pub fn portable(&self, keys: &StoreKeys) -> Result<Vec<PortableFile>, FileError> {
        let Self { path, name: _, spec, credentials_file: _, ca_bundle_file: _, directory } = self;
        let needs_keys = spec.s3.as_ref().is_some_and(|s3| s3.credentials_secret_ref.is_some());
        let credentials = if spec.s3.is_some() { self.credentials(keys, needs_keys)? } else { None };
        let ca = self.ca()?;
        let absolute = |root: &PathBuf| {
            std::path::absolute(root).map_err(|source| FileError::Unreadable { path: root.clone(), source })
        };
        let directory = directory.as_ref().map(absolute).transpose()?;
        let reach = StoreReach { credentials, ca, directory };
        portable_files(&self.location(), &reach)
            .map_err(|error| FileError::NotALocation { path: path.clone(), words: error.to_string() })
    }

    /// The certificates that the store is known by, where the location names any.
    fn ca(&self) -> Result<Option<String>, FileError> {
        let is_needed = self.spec.s3.as_ref().is_some_and(|s3| s3.ca_bundle_ref.is_some());
        match &self.ca_bundle_file {
            Some(path) => read(path).map(Some),
            None if is_needed => Err(FileError::NoCa { path: self.path.clone() }),
            None => Ok(None),
        }
    }

    /// Keys from the file, else from the environment, else whatever the SDK finds (an instance role), unless the location
    /// is one with a Secret: a role would then be somebody else.
    fn credentials(&self, keys: &StoreKeys, needs_keys: bool) -> Result<Option<Credentials>, FileError> {
        if let Some(path) = &self.credentials_file {
            return parse_credentials(path, &read(path)?).map(Some);
        }
        let StoreKeys { aws_access_key_id, aws_secret_access_key, aws_session_token } = keys;
        match (aws_access_key_id, aws_secret_access_key) {
            (Some(id), Some(secret)) => Ok(Some(Credentials {
                access_key_id: id.clone(),
                secret_access_key: secret.clone(),
                session_token: aws_session_token.clone().filter(|token| !token.is_empty()),
            })),
            (Some(_), None) | (None, _) if needs_keys => Err(FileError::NoKeys { path: self.path.clone() }),
            (Some(_), None) | (None, _) => Ok(None),
        }
    }
}

/// A file's name, and what is to be in it.
pub type PortableFile = (&'static str, Zeroizing<String>);

/// A location in files that [`LocationFile::read`] needs nothing else beside. The first is the location's own.
///
/// # Errors
/// It cannot be written as YAML; has not been seen.
pub fn portable_files(
    location: &EtcdBackupLocation,
    reach: &StoreReach,
) -> Result<Vec<PortableFile>, serde_norway::Error> {
    let StoreReach { credentials, ca, directory } = reach;
    let mut bare =
        EtcdBackupLocation::new(location.metadata.name.as_deref().unwrap_or_default(), location.spec.clone());
    bare.metadata.annotations = None;
    let mut document = serde_norway::to_value(&bare)?;
    let mut files = Vec::new();
    let mut part = |name: &str, field: &str, value: String| {
        let spec = document.get_mut("spec").and_then(|spec| spec.get_mut(name)).and_then(Value::as_mapping_mut);
        if let Some(mapping) = spec {
            mapping.insert(field.into(), value.into());
        }
    };
    if let Some(credentials) = credentials {
        files.push(("keys", Zeroizing::new(lines_of(credentials))));
        part("s3", "credentialsFile", "keys".to_owned());
    }
    if let Some(ca) = ca {
        files.push(("ca.pem", Zeroizing::new(ca.clone())));
        part("s3", "caBundleFile", "ca.pem".to_owned());
    }
    if let Some(root) = directory {
        part("directory", "path", root.to_string_lossy().into_owned());
    }
    let text = serde_norway::to_string(&document)?;
    files.insert(0, ("location.yaml", Zeroizing::new(text)));
    Ok(files)
}

/// The location of a list that holds it with its Secret and CA; anything else as it is.
fn only_location(whole: Value) -> Value {
    let is_location = |item: &&Value| item.get("kind").and_then(Value::as_str) == Some("EtcdBackupLocation");
    let items = whole.get("items").and_then(Value::as_sequence);
    items.and_then(|items| items.iter().find(is_location)).cloned().unwrap_or(whole)
}

fn read(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

/// Takes a text out of a part of the spec: fields that only a file has.
fn take(spec: &mut Value, part: &str, field: &str) -> Option<String> {
    let mapping = spec.get_mut(part)?.as_mapping_mut()?;
    mapping.remove(field)?.as_str().map(str::to_owned)
}

/// Credentials as [`parse_credentials`] reads them.
fn lines_of(credentials: &Credentials) -> String {
    let Credentials { access_key_id, secret_access_key, session_token } = credentials;
    let token = session_token.as_ref().map(|token| format!("AWS_SESSION_TOKEN={token}\n")).unwrap_or_default();
    format!("AWS_ACCESS_KEY_ID={access_key_id}\nAWS_SECRET_ACCESS_KEY={secret_access_key}\n{token}")
}

/// Lines KEY=VALUE, as in the Secret; `export`, quotes and comments as people write them.
fn parse_credentials(path: &Path, text: &str) -> Result<Credentials, FileError> {
    let pairs: BTreeMap<&str, &str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("export "))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
        .collect();
    let required = |key: &'static str| {
        let value = pairs.get(key).filter(|value| !value.is_empty());
        value.map(|value| (*value).to_owned()).ok_or_else(|| FileError::NoKey { path: path.to_owned(), key })
    };
    Ok(Credentials {
        access_key_id: required("AWS_ACCESS_KEY_ID")?,
        secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
        session_token: pairs
            .get("AWS_SESSION_TOKEN")
            .filter(|token| !token.is_empty())
            .map(|token| (*token).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("location.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    const NO_KEYS: StoreKeys = StoreKeys::none();

    #[tokio::test]
    async fn a_portable_copy_opens_the_same_store_with_nothing_beside_it() {
        let text = "metadata: {name: offsite}\nspec: {s3: {bucket: etcd-backups, prefix: prod, endpoint: 'https://s3.example', \
                    credentialsSecretRef: {name: s}}}";
        let (_dir, path) = written(text);
        let from_environment = StoreKeys {
            aws_access_key_id: Some("a".into()),
            aws_secret_access_key: Some("b".into()),
            aws_session_token: Some("c".into()),
        };
        let copy = tempfile::tempdir().unwrap();
        for (name, text) in LocationFile::read(&path).unwrap().portable(&from_environment).unwrap() {
            std::fs::write(copy.path().join(name), text.as_bytes()).unwrap();
        }
        let read = LocationFile::read(&copy.path().join("location.yaml")).unwrap();
        assert_eq!(read.location().metadata.name.as_deref(), Some("offsite"));
        assert_eq!(read.open(&NO_KEYS).await.unwrap().describe(), "s3://etcd-backups/prod");
        let keys = std::fs::read_to_string(copy.path().join("keys")).unwrap();
        assert_eq!(keys, "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\nAWS_SESSION_TOKEN=c\n");
    }

    #[tokio::test]
    async fn the_object_from_git_becomes_a_store_with_files_in_place_of_secrets() {
        let text = "apiVersion: etcd.lifeboat.dev/v1alpha1\nkind: EtcdBackupLocation\nmetadata: {name: offsite}\nspec:\n  s3: \
                    {bucket: etcd-backups, prefix: prod, endpoint: 'https://s3.example', credentialsSecretRef: {name: s}, \
                    credentialsFile: keys}\n";
        let (dir, path) = written(text);
        std::fs::write(dir.path().join("keys"), "# mine\nexport AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=\"b\"\n")
            .unwrap();
        let store = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap();
        assert_eq!(store.describe(), "s3://etcd-backups/prod");
        std::fs::write(dir.path().join("keys"), "AWS_ACCESS_KEY_ID=a\n").unwrap();
        let error = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap_err();
        assert!(error.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    }

    #[tokio::test]
    async fn a_secret_cannot_be_read_and_the_way_out_is_told() {
        let (_dir, path) = written(
            "spec: {s3: {bucket: etcd-backups, endpoint: 'https://s3.example', credentialsSecretRef: {name: s}}}",
        );
        let error = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap_err();
        assert!(error.to_string().contains("credentialsFile") && error.exit_code() == 4, "{error}");
    }

    /// As `kubectl get etcdbl -o yaml` writes it.
    #[tokio::test]
    async fn a_ca_in_a_configmap_cannot_be_read_and_the_way_out_is_told() {
        let s3 = "bucket: etcd-backups, endpoint: 'https://s3.example', caBundleRef: {name: ca, key: ca.crt}";
        let (dir, path) = written(&format!("spec: {{s3: {{{s3}}}}}"));
        let error = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap_err();
        assert!(error.to_string().contains("spec.s3.caBundleFile") && error.exit_code() == 4, "{error}");
        assert!(LocationFile::read(&path).unwrap().portable(&NO_KEYS).is_err());
        std::fs::write(dir.path().join("ca.pem"), "none").unwrap();
        std::fs::write(&path, format!("spec: {{s3: {{{s3}, caBundleFile: ca.pem}}}}")).unwrap();
        let error = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap_err().to_string();
        assert!(!error.contains("ConfigMap"), "the file is looked at: {error}");
    }

    #[test]
    fn a_field_that_no_location_has_is_refused() {
        for (text, field) in [
            ("spec: {s3: {bucket: etcd-backups, prefx: demo}}", "spec.s3.prefx"),
            ("spec: {s3: {bucket: etcd-backups}, acessMode: ReadOnly}", "spec.acessMode"),
            ("spec: {directory: {mount: nfs, path: /x, subpath: y}}", "spec.directory.subpath"),
        ] {
            let (_dir, path) = written(text);
            let error = LocationFile::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("no location has {field}")), "{error}");
        }
        // What the API server adds is no typo.
        let (_dir, path) = written(
            "apiVersion: etcd.lifeboat.dev/v1alpha1\nkind: EtcdBackupLocation\nmetadata: {name: offsite, uid: u}\n\
             spec: {accessMode: ReadWrite, s3: {bucket: etcd-backups, forcePathStyle: true}}\nstatus: {provider: S3}",
        );
        assert!(LocationFile::read(&path).is_ok());
    }

    #[tokio::test]
    async fn a_directory_needs_its_place_on_this_machine() {
        let (dir, path) = written("spec: {directory: {mount: nfs, subPath: etcd}}");
        let error = LocationFile::read(&path).unwrap_err();
        assert!(error.to_string().contains("spec.directory.path"), "{error}");
        std::fs::write(&path, "spec: {directory: {mount: nfs, subPath: etcd, path: shelf}}").unwrap();
        std::fs::create_dir(dir.path().join("shelf")).unwrap();
        assert!(LocationFile::read(&path).unwrap().open(&NO_KEYS).await.is_ok());
        std::fs::remove_dir(dir.path().join("shelf")).unwrap();
        let error = LocationFile::read(&path).unwrap().open(&NO_KEYS).await.unwrap_err();
        assert!(error.to_string().contains("is it mounted?") && error.exit_code() == 4, "{error}");
    }

    #[test]
    fn a_list_as_kubectl_writes_it_is_read() {
        let (_dir, path) = written(
            "kind: List\nitems: [{kind: Secret}, {kind: EtcdBackupLocation, spec: {s3: {bucket: etcd-backups}}}]",
        );
        assert!(LocationFile::read(&path).is_ok());
    }

    #[test]
    fn other_files_are_refused_with_words() {
        for text in ["hello", "kind: Secret\nspec: {}", "spec: {}", "spec: {s3: {prefix: x}}"] {
            let (_dir, path) = written(text);
            let error = LocationFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("EtcdBackupLocation"), "{error}");
        }
    }
}
