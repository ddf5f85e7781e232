//! Which cluster a data directory or a snapshot belongs to: the head of the WAL, and the UID of kube-system. Reads files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lifeboat_snapshot::{WAL_HEAD_BYTES, WalHead, parse_wal_head};
use memchr::memmem;

/// Bytes of a UID.
const UID: usize = 36;
/// Bytes behind the key in which the UID of a namespace lies: kind, name and the empty fields of its metadata come first.
const NEAR: usize = 512;
const CHUNK: usize = 1 << 20;

/// Who a WAL directory belongs to; nothing where it has no file with a head.
///
/// # Errors
/// The directory exists and cannot be read.
pub fn read_wal_head(directory: &Path) -> io::Result<Option<WalHead>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    for path in files.iter().rev() {
        let mut bytes = Vec::with_capacity(WAL_HEAD_BYTES);
        File::open(path)?.take(WAL_HEAD_BYTES as u64).read_to_end(&mut bytes)?;
        if let Some(head) = parse_wal_head(&bytes) {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// UIDs of namespace kube-system in a database or snapshot, found by their bytes.
///
/// The UID stays what it is as long as a cluster lives and survives every restore, so it tells clusters apart whose masters
/// have the same names and peer URLs. Nothing is found where namespaces are encrypted at rest.
///
/// # Errors
/// The file cannot be read.
pub fn read_cluster_uids(file: &Path) -> io::Result<BTreeSet<String>> {
    let mut file = File::open(file)?;
    let finder = memmem::Finder::new(b"/namespaces/kube-system");
    let mut found = BTreeSet::new();
    let mut window = Vec::with_capacity(CHUNK + NEAR);
    loop {
        let kept = window.len();
        file.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        if window.len() == kept {
            return Ok(found);
        }
        for at in finder.find_iter(&window) {
            let behind = window.get(at + finder.needle().len()..).unwrap_or_default();
            found.extend(uid_in(behind.get(..NEAR).unwrap_or(behind)));
        }
        window.drain(..window.len().saturating_sub(NEAR + finder.needle().len()));
    }
}

/// The UID of a namespace, from the value that an API server keeps in etcd; nothing where it is encrypted.
pub fn uid_of_namespace(value: &[u8]) -> Option<String> {
    value.starts_with(b"k8s\0").then(|| uid_in(value)).flatten()
}

/// The first UID as Kubernetes' protobuf writes it: field 5 of the metadata, 36 bytes.
fn uid_in(bytes: &[u8]) -> Option<String> {
    let is_uid = |text: &[u8]| {
        text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
    };
    let uids = bytes.windows(UID + 2).filter(|window| window.starts_with(&[0x2a, 36]) && is_uid(&window[2..]));
    uids.filter_map(|window| String::from_utf8(window[2..].to_vec()).ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn object(uid: &str) -> Vec<u8> {
        let mut bytes = b"\x0a\x21/registry/namespaces/kube-system\x10\x05\x2a\x99k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x50\x0a\x0bkube-system\x12\x00\x1a\x00\x22\x00".to_vec();
        bytes.extend([0x2a, 36]);
        bytes.extend(uid.as_bytes());
        bytes
    }

    #[test]
    fn the_uid_is_found_also_across_the_edge_of_what_is_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        for before in [0, 5000, CHUNK - 30, CHUNK - 60, CHUNK - 100, 3 * CHUNK + 17] {
            let content = [vec![0_u8; before], object(ONE), vec![0; 2000]].concat();
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_cluster_uids(&path).unwrap(), BTreeSet::from([ONE.to_owned()]), "{before}");
        }
    }

    #[test]
    fn the_uid_of_a_value_is_read_unless_it_is_encrypted() {
        let object = object(ONE);
        let at = memmem::find(&object, b"k8s\0").unwrap();
        assert_eq!(uid_of_namespace(&object[at..]).as_deref(), Some(ONE));
        assert_eq!(uid_of_namespace(b"k8s:enc:aescbc:v1:key1:xxxx"), None);
    }

    #[test]
    fn other_bytes_hold_no_uid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, b"/registry/namespaces/kube-system k8s:enc:aescbc:v1:key1:xxxx").unwrap();
        assert!(read_cluster_uids(&path).unwrap().is_empty());
    }

    #[test]
    fn a_directory_without_a_wal_belongs_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_wal_head(&dir.path().join("missing")).unwrap(), None);
        std::fs::write(dir.path().join("0.tmp"), "x").unwrap();
        std::fs::write(dir.path().join("0-0.wal"), "x").unwrap();
        assert_eq!(read_wal_head(dir.path()).unwrap(), None);
    }
}
