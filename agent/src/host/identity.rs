//! The random identity of a host: minted once, kept on its disk and not in etcd, so that no restore copies it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::crashsafe::{self, WriteError};

const FILE: &str = "host-id";

/// Identity of a host, 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(String);

impl HostId {
    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn mint() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()))
    }

    /// An identity for tests, 32 times this digit.
    #[cfg(test)]
    pub fn fixed(digit: char) -> Self {
        Self(digit.to_string().repeat(32))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why this host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there and cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file holds something else. A new identity would make this host a stranger to its own archives.
    #[error("{path} does not hold 32 hex digits; put this host's id back, or remove the file to get a new one")]
    NotAnId {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The identity of this host, minted at the first call. Blocking.
pub fn read_or_mint_host_id(state_dir: &Path) -> Result<HostId, IdentityError> {
    let path = state_dir.join(FILE);
    if let Some(id) = read_file(&path)? {
        return Ok(id);
    }
    crashsafe::make_directory(state_dir, 0o700)?;
    let minted = HostId::mint();
    if crashsafe::create_new(&path, format!("{minted}\n").as_bytes(), 0o600)? {
        return Ok(minted);
    }
    // Another process was first; its identity is the host's.
    read_file(&path)?.ok_or(IdentityError::NotAnId { path })
}

/// The identity of this host, if it has one. Blocking.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read_host_id(state_dir: &Path) -> Result<Option<HostId>, IdentityError> {
    read_file(&state_dir.join(FILE))
}

fn read_file(path: &Path) -> Result<Option<HostId>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let id = std::str::from_utf8(&bytes).ok().and_then(HostId::parse);
            id.map(Some).ok_or_else(|| IdentityError::NotAnId { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Unreadable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_host_keeps_the_identity_it_minted() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("lifeboat");
        let first = read_or_mint_host_id(&state).unwrap();
        assert_eq!(read_or_mint_host_id(&state).unwrap(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_mint_host_id(other.path()).unwrap(), first);
    }

    #[test]
    fn a_damaged_identity_is_reported_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "short", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcdef0"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(read_or_mint_host_id(dir.path()).is_err(), "{text:?}");
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn racing_processes_agree_on_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<HostId> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_mint_host_id(dir.path()).unwrap())).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}
