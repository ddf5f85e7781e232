//! The snapshots of tests/data.
#![allow(dead_code)]

use std::path::Path;

use lifeboat_snapshot::{Content, Database, Facts, Options, SnapshotError, verify_reader};
use sha2::{Digest, Sha256};

/// Lines of etcd.
pub const LINES: [&str; 3] = ["3.5", "3.6", "3.7"];
/// Names of snapshots; see tests/data/README.md.
pub const ALL: [&str; 7] = ["fresh", "used", "small", "large", "deep", "fragmented", "interrupted"];

/// A snapshot, trailer included.
pub fn snapshot(line: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/etcd-{line}-{name}.db.zst"));
    zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
}

/// What the verifier says.
pub fn verify(bytes: &[u8]) -> Result<Facts, SnapshotError> {
    verify_reader(bytes, Options::default())
}

/// The facts, where there are any.
pub fn database(facts: Facts) -> Database {
    match facts.content {
        Content::Verified(database) => *database,
        Content::Unverified { reason } => panic!("unverified: {reason}"),
    }
}

/// The same bytes with a trailer that is right for them.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&hash);
    bytes
}
