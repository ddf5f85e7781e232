//! Snapshots of real etcd servers: the facts are what etcd's own tool says, and no damage goes unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "slow/corpus.rs"]
mod corpus;

use std::path::Path;

use corpus::{ALL, LINES, database, sealed, verify};
use lifeboat_snapshot::{Content, Level, Options, SnapshotError, Verifier, verify_reader};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// `etcd-<line>-<name>`.
fn snapshot(name: &str) -> Vec<u8> {
    let (line, name) = name.trim_start_matches("etcd-").split_once('-').unwrap();
    corpus::snapshot(line, name)
}

#[test]
fn facts_are_those_of_etcdutl() {
    for name in LINES.into_iter().flat_map(|line| ALL.map(|name| format!("etcd-{line}-{name}"))) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
        let said: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let bytes = snapshot(&name);
        let facts = verify(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(facts.size, bytes.len() as u64);
        assert_eq!(facts.file_sha256, <[u8; 32]>::from(Sha256::digest(&bytes)), "{name}");
        let database = database(facts);
        assert_eq!(said["totalKey"], database.total_keys, "{name}");
        // etcdutl calls the revision of an empty store 0; a server serves it as 1.
        assert_eq!(said["revision"].as_i64().unwrap().max(1), database.revision, "{name}");
        assert_eq!(database.members.len(), 1, "{name}");
        assert_eq!(database.members[0].peer_urls, ["http://127.0.0.1:32380"], "{name}");
        assert_eq!(database.storage_version.is_some(), !name.contains("3.5"), "{name}");
        if name.ends_with("used") {
            assert_eq!((database.compact_revision, database.leases), (100, 1), "{name}");
        }
    }
}

/// The same history gives the same content whatever version wrote it: contentHash names what is stored, not where.
#[test]
fn content_hash_is_the_same_for_the_same_history() {
    let hash = |name: &str| database(verify(&snapshot(name)).unwrap()).content_hash;
    // Lease ids are random and part of no entry here; the large value and every revision are.
    assert_eq!(hash("etcd-3.6-used"), hash("etcd-3.7-used"));
    assert_ne!(hash("etcd-3.6-used"), hash("etcd-3.6-fresh"));
}

#[test]
fn chunk_sizes_make_no_difference() {
    let bytes = snapshot("etcd-3.6-used");
    let whole = verify(&bytes).unwrap();
    for size in [1, 31, 32, 33, 4095, 4096, 4097, 32 * 1024, 200_000] {
        let mut verifier = Verifier::new(Options::default());
        bytes.chunks(size).for_each(|chunk| verifier.update(chunk).unwrap());
        assert_eq!(verifier.finish().unwrap(), whole, "chunks of {size}");
    }
}

#[test]
fn a_cut_or_trailerless_file_is_refused_with_words() {
    let bytes = snapshot("etcd-3.6-used");
    let refused = |bytes: &[u8]| verify(bytes).unwrap_err();
    assert!(matches!(refused(&bytes[..bytes.len() - 32]), SnapshotError::NoTrailer { .. }));
    assert!(matches!(refused(&bytes[..bytes.len() - 1]), SnapshotError::CutOff { .. }));
    assert!(matches!(refused(&bytes[..8192 + 32]), SnapshotError::ChecksumMismatch { .. }));
    assert!(matches!(refused(&[]), SnapshotError::TooShort { .. }));
    let mut flipped = bytes.clone();
    flipped[50_000] ^= 1;
    assert!(matches!(refused(&flipped), SnapshotError::ChecksumMismatch { .. }));
    // Whole pages missing at the end, sealed again: the meta page knows better.
    let short = sealed(bytes[..bytes.len() - 4096].to_vec());
    assert!(matches!(refused(&short), SnapshotError::PagesMissing { .. }), "{:?}", verify(&short));
}

/// Every byte of every value of bucket `key` counts.
#[test]
fn a_flipped_bit_in_a_value_changes_the_content_hash() {
    let bytes = snapshot("etcd-3.6-used");
    let good = database(verify(&bytes).unwrap());
    // The latest round of a key that is alive, written after the compaction and so present once.
    let needle = b"round 3 of key 42";
    let mut found = 0;
    for position in 0..bytes.len() - needle.len() {
        if &bytes[position..position + needle.len()] != needle {
            continue;
        }
        let mut flipped = bytes.clone();
        flipped[position + 3] ^= 0x10;
        match verify(&sealed(flipped)) {
            Ok(facts) if database(facts.clone()).content_hash == good.content_hash => {} // a stale copy on a free page
            Ok(_) | Err(_) => found += 1,
        }
    }
    assert_eq!(found, 1);
}

#[test]
fn a_node_beyond_the_budget_leaves_the_content_unverified_and_nothing_else() {
    let bytes = snapshot("etcd-3.6-used");
    let options = Options { window_bytes: 16 * 1024, ..Options::default() };
    let facts = verify_reader(bytes.as_slice(), options).unwrap();
    assert!(matches!(facts.content, Content::Unverified { .. }));
    let checksum = verify_reader(bytes.as_slice(), Options { level: Level::Checksum, ..Options::default() }).unwrap();
    assert_eq!((checksum.size, checksum.file_sha256), (facts.size, facts.file_sha256));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let _ = verify(&bytes);
    }

    #[test]
    fn damage_sealed_again_never_panics(edits in proptest::collection::vec((0_usize..94_000, any::<u8>()), 1..40)) {
        let mut bytes = snapshot("etcd-3.6-used");
        let len = bytes.len() - 32;
        for (position, byte) in edits {
            bytes[position % len] = byte;
        }
        let _ = verify(&sealed(bytes));
    }

    #[test]
    fn headers_that_claim_anything_never_panic(page in 0_usize..22, header in any::<[u8; 16]>(), flag in 0_usize..4) {
        let mut bytes = snapshot("etcd-3.6-used");
        let at = page * 4096;
        bytes[at..at + 16].copy_from_slice(&header);
        // Plausible enough to be looked into.
        bytes[at..at + 8].copy_from_slice(&(page as u64).to_le_bytes());
        bytes[at + 8..at + 10].copy_from_slice(&[1_u16, 2, 4, 16][flag].to_le_bytes());
        let _ = verify(&sealed(bytes));
    }
}
