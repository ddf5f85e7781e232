//! Fingerprints of what must be unchanged for a restore to be of use: encryption-at-rest configuration, service-account
//! keys. Reads files and hashes them; a key never leaves this function. Blocking.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::discovery::ApiServerFiles;
use super::files::HostRoot;

/// Fingerprints for the manifest of a backup, 64 hex digits each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints {
    /// Of the encryption-at-rest configuration.
    pub encryption_config: Option<String>,
    /// Of the service-account public key; of several, of their contents in the order they are given.
    pub service_account_key: Option<String>,
    /// What could not be read, in words.
    pub unreadable: Vec<String>,
}

/// Hashes the files that the API server was told of.
pub fn read_fingerprints(root: &HostRoot, files: &ApiServerFiles) -> Fingerprints {
    let ApiServerFiles { encryption_config, service_account_keys } = files;
    let mut unreadable = Vec::new();
    Fingerprints {
        encryption_config: hash_files(root, encryption_config.as_slice(), &mut unreadable),
        service_account_key: hash_files(root, service_account_keys, &mut unreadable),
        unreadable,
    }
}

/// One hash over all files; none where there is no file or one cannot be read, because half a hash would mislead.
fn hash_files(root: &HostRoot, paths: &[PathBuf], unreadable: &mut Vec<String>) -> Option<String> {
    let mut hash = Sha256::new();
    for path in paths {
        match std::fs::read(root.resolve(path)) {
            Ok(content) => hash.update(content),
            Err(error) => {
                unreadable.push(format!("{} cannot be read for its fingerprint: {error}", path.display()));
                return None;
            }
        }
    }
    (!paths.is_empty()).then(|| hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_that_of_the_file_and_of_several_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        std::fs::write(dir.path().join("one"), "ab").unwrap();
        std::fs::write(dir.path().join("two"), "c").unwrap();
        let files = ApiServerFiles {
            encryption_config: Some("/missing".into()),
            service_account_keys: vec!["/one".into(), "/two".into()],
        };
        let read = read_fingerprints(&root, &files);
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(read.service_account_key.as_deref(), Some(abc));
        assert_eq!(read.encryption_config, None);
        assert!(read.unreadable[0].contains("/missing"), "{:?}", read.unreadable);
        assert_eq!(read_fingerprints(&root, &ApiServerFiles::default()), Fingerprints::default());
    }
}
