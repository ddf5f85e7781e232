//! The keys on this host's disk: what it signs with and whom it believes. A host only ever gains keys.
//!
//! One file a key below `keys/`: `installation-<id>.key` as the API server gave it, `host-<id>.key` as `lifeboat keygen`
//! made it, each with its public part in `….pub`; a `.pub` that a human put there is believed too. Nothing is ever replaced
//! or removed, because an older backup may be signed by an older key. Blocking; a private key is never printed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lifeboat_crds::signing::{KeyError, KeyId, KnownKeys, PublicKey, SigningKey};
use rand::TryRngCore;

use super::crashsafe::{self, WriteError};

const INSTALLATION: &str = "installation";
const HOST: &str = "host";
/// A key in PEM has about 120 bytes.
const LARGEST_KEY: u64 = 16 << 10;

/// Keys as they are now.
#[derive(Clone, Debug, Default)]
pub struct HostKeys {
    /// What manifests are signed with; without it they are written unsigned.
    pub signer: Option<SigningKey>,
    /// Keys whose signatures are believed.
    pub known: KnownKeys,
}

/// What a directory of keys holds.
#[derive(Debug, Default)]
pub struct FoundKeys {
    /// The newest key of an installation, and everybody's public part.
    pub keys: HostKeys,
    /// Files that could not be used, in words.
    pub remarks: Vec<String>,
}

/// Why a key was not kept, or none was made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or directory cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is no key.
    #[error("{path}: {source}", path = .path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        source: KeyError,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The host has a key of its own.
    #[error("this host has a key already, and it is not replaced: {path}", path = .0.display())]
    Exists(PathBuf),
    /// There is no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// The directory with this host's keys.
#[derive(Clone, Debug)]
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// The one below a host's state. Touches nothing.
    pub fn below(state_dir: &Path) -> Self {
        Self(state_dir.join("keys"))
    }

    /// A directory of that kind elsewhere. Touches nothing.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Everything that is there. A file that is no key is remarked and does not hide the others.
    ///
    /// # Errors
    /// The directory is there and cannot be listed.
    pub fn read(&self) -> Result<FoundKeys, KeysError> {
        let mut found = FoundKeys::default();
        let mut newest: Option<(SystemTime, PathBuf, SigningKey)> = None;
        for path in files(&self.0)? {
            match read_key(&path) {
                Ok(None) => {}
                Ok(Some(Key::Public(public))) => found.keys.known.insert(public),
                Ok(Some(Key::Private(key))) => {
                    found.keys.known.insert(key.public());
                    let time = std::fs::metadata(&path).and_then(|meta| meta.modified());
                    let candidate = (time.unwrap_or(SystemTime::UNIX_EPOCH), path, key);
                    let is_newer =
                        newest.as_ref().is_none_or(|(time, path, _)| (candidate.0, &candidate.1) > (*time, path));
                    if is_of(&candidate.1, INSTALLATION) && is_newer {
                        newest = Some(candidate);
                    }
                }
                Err(error) => found.remarks.push(error.to_string()),
            }
        }
        found.keys.signer = newest.map(|(_, _, key)| key);
        Ok(found)
    }

    /// Keeps the key of an installation; one that is there stays as it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, key: &SigningKey) -> Result<(), KeysError> {
        self.write(INSTALLATION, key).map(drop)
    }

    /// Makes a key of this host's own, for use without an API server; gives its name and the file with its public part.
    ///
    /// # Errors
    /// The host has one, or it cannot be written.
    pub fn generate(&self) -> Result<(KeyId, PathBuf), KeysError> {
        if let Some(path) = files(&self.0)?.into_iter().find(|path| is_of(path, HOST)) {
            return Err(KeysError::Exists(path));
        }
        let key = SigningKey::from_seed(random_seed()?);
        Ok((key.public().id(), self.write(HOST, &key)?))
    }

    /// The public part first: a power cut in between leaves a key that is believed and not one that nobody can check.
    fn write(&self, of: &str, key: &SigningKey) -> Result<PathBuf, KeysError> {
        crashsafe::make_private_directory(&self.0)?;
        let id = key.public().id();
        let public = self.0.join(format!("{of}-{id}.pub"));
        let private = self.0.join(format!("{of}-{id}.key"));
        let not_a_key = |source| KeysError::NotAKey { path: private.clone(), source };
        crashsafe::create_new(&public, key.public().to_pem().map_err(not_a_key)?.as_bytes(), 0o600)?;
        crashsafe::create_new(&private, key.to_pem().map_err(not_a_key)?.as_bytes(), 0o600)?;
        Ok(public)
    }
}

/// Public keys that a human names: a file, or a directory with `.pub` files.
///
/// # Errors
/// Something there is no key, or there is none: whoever names keys wants them believed.
pub fn read_public_keys(path: &Path) -> Result<Vec<PublicKey>, KeysError> {
    let unreadable = |source| KeysError::Unreadable { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![read_public(path)?]);
    }
    let public = files(path)?.into_iter().filter(|path| has_extension(path, "pub"));
    let keys: Vec<PublicKey> = public.map(|path| read_public(&path)).collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(unreadable(io::Error::new(io::ErrorKind::NotFound, "there is no file *.pub in it")));
    }
    Ok(keys)
}

/// 32 bytes for a key, from the operating system.
fn random_seed() -> Result<[u8; 32], KeysError> {
    let mut seed = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(|error| KeysError::Randomness(error.to_string()))?;
    Ok(seed)
}

enum Key {
    Public(PublicKey),
    Private(SigningKey),
}

fn read_key(path: &Path) -> Result<Option<Key>, KeysError> {
    if has_extension(path, "pub") {
        return read_public(path).map(Key::Public).map(Some);
    }
    if !has_extension(path, "key") {
        return Ok(None);
    }
    let key = SigningKey::from_pem(&read_small(path)?);
    key.map(Key::Private).map(Some).map_err(|source| KeysError::NotAKey { path: path.to_owned(), source })
}

fn read_public(path: &Path) -> Result<PublicKey, KeysError> {
    PublicKey::from_pem(&read_small(path)?).map_err(|source| KeysError::NotAKey { path: path.to_owned(), source })
}

fn read_small(path: &Path) -> Result<String, KeysError> {
    let unreadable = |source| KeysError::Unreadable { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST_KEY {
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a key")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Files of a directory in the order of their names, without those that are being written; none where there is none.
fn files(directory: &Path) -> Result<Vec<PathBuf>, KeysError> {
    let unreadable = |source| KeysError::Unreadable { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn is_of(path: &Path, origin: &str) -> bool {
    has_extension(path, "key") && name(path).starts_with(&format!("{origin}-"))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
