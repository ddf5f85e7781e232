//! The streaming verifier and the slow reader give the same facts of every snapshot, and a flipped bit shows in both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "slow/corpus.rs"]
mod corpus;
#[path = "slow/reader.rs"]
mod slow;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use corpus::{ALL, LINES, database, sealed, snapshot, verify};
use lifeboat_snapshot::{HashKvError, KeyVersion, MemoryScratch, Options, Verifier, visit_keys};

#[test]
fn the_slow_reader_gives_the_same_facts_of_every_snapshot() {
    for line in LINES {
        for name in ALL {
            let bytes = snapshot(line, name);
            let facts = verify(&bytes).unwrap_or_else(|error| panic!("{line} {name}: {error}"));
            let read = slow::read(&bytes).unwrap_or_else(|error| panic!("{line} {name}: {error}"));
            assert_eq!(database(facts), read.facts, "{line} {name}");
        }
    }
}

/// A corpus that holds none of what it is there for proves nothing.
#[test]
fn every_snapshot_holds_what_it_is_there_for() {
    for line in LINES {
        let read = |name| slow::read(&snapshot(line, name)).unwrap();
        let keys =
            |read: &slow::Read| read.entries.iter().filter(|entry| entry.0 == b"key").cloned().collect::<Vec<_>>();
        let tombstones = |read: &slow::Read| keys(read).iter().filter(|entry| entry.1.len() == 18).count();

        let used = read("used");
        assert!(tombstones(&used) > 0 && used.facts.leases == 1 && used.facts.compact_revision == 100, "{line}");

        let large = read("large");
        assert!(keys(&large).iter().any(|entry| entry.2.len() > 1_000_000), "{line}");
        assert!(large.facts.alarms > 0 && large.facts.leases == 2, "{line}");
        assert!(large.entries.iter().any(|entry| entry.1 == b"username_12345678"), "{line}");
        assert!(longest_stale(&snapshot(line, "large"), &large) > 100, "{line}");

        let deep = read("deep");
        assert!(deep.levels >= 3, "{line}: {} levels", deep.levels);

        let fragmented = read("fragmented");
        let share = fragmented.facts.in_use_pages as f64 / fragmented.facts.total_pages as f64;
        assert!(share < 0.2, "{line}: {share:.2} of the pages in use");

        let interrupted = read("interrupted").facts;
        assert!(interrupted.scheduled_compact_revision > interrupted.compact_revision, "{line}: {interrupted:?}");
    }
}

/// Pages of the longest node that a stale header claims.
fn longest_stale(bytes: &[u8], read: &slow::Read) -> usize {
    let nodes: BTreeSet<usize> = read.meaningful.keys().map(|at| at / 4096).collect();
    let stale = (2..(bytes.len() - 32) / 4096).filter(|page| !nodes.contains(page)).map(|page| {
        let field = |at: usize| bytes[page * 4096 + at..][..4].try_into().map(u32::from_le_bytes).unwrap() as usize;
        if field(0) == page && matches!(field(8) & 0xffff, 1 | 2) { field(12) } else { 0 }
    });
    stale.max().unwrap_or_default()
}

/// etcd's free pages keep their headers. Whatever they claim, what is in use is read the same.
#[test]
fn stale_headers_that_span_pages_in_use_change_nothing() {
    let bytes = snapshot("3.6", "fragmented");
    let read = slow::read(&bytes).unwrap();
    let pages = (bytes.len() - 32) / 4096;
    let free: Vec<usize> = (2..pages).filter(|page| !read.pages.contains(&(*page as u64))).collect();
    for overflow in [1_usize, 7, 60, 400, 3000, 1_000_000] {
        let mut stale = bytes.clone();
        for page in &free {
            let at = page * 4096;
            stale[at..at + 8].copy_from_slice(&(*page as u64).to_le_bytes());
            stale[at + 8..at + 12].copy_from_slice(&[2, 0, 1, 0]);
            stale[at + 12..at + 16].copy_from_slice(&(overflow as u32).to_le_bytes());
        }
        let facts = verify(&sealed(stale)).unwrap_or_else(|error| panic!("overflow {overflow}: {error}"));
        assert_eq!(database(facts), read.facts, "overflow {overflow}");
    }
}

#[test]
fn any_split_of_the_stream_gives_the_same_result() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for (line, name) in [("3.6", "fresh"), ("3.7", "used"), ("3.5", "interrupted"), ("3.6", "large")] {
        let bytes = snapshot(line, name);
        let whole = verify(&bytes).unwrap();
        for longest in [3, 100, 5000, 300_000].into_iter().filter(|longest| bytes.len() / longest < 100_000) {
            let mut verifier = Verifier::new(Options::default());
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(random(longest + 1).min(rest.len()));
                verifier.update(now).unwrap();
                rest = later;
            }
            assert_eq!(verifier.finish().unwrap(), whole, "{line} {name} by up to {longest}");
        }
    }
}

/// Every bit that means something, with the trailer recomputed, so that it is not SHA-256 that sees the damage.
///
/// What means something the slow reader tells: both metas with their headers, and of every node that the root reaches
/// the header, the table of elements, keys and values, those of inline buckets included. Left out is only what bbolt
/// never reads: the slack behind the last value of a node, the rest of the meta pages, and free pages. No field is
/// excepted.
fn every_flipped_bit_is_seen_in(line: &str, name: &str) {
    let bytes = snapshot(line, name);
    let good = database(verify(&bytes).unwrap());
    let meaningful = slow::read(&bytes).unwrap().meaningful;
    let positions: BTreeSet<usize> = meaningful.iter().flat_map(|(from, to)| *from..*to).collect();
    let positions: Vec<usize> = positions.into_iter().collect();
    assert!(positions.len() > 900, "{}", positions.len());
    let (next, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut copy = bytes.clone();
                while let Some(position) = positions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for bit in 0..8 {
                        copy[*position] ^= 1 << bit;
                        let seen = match verify(&sealed(copy.clone())) {
                            Err(_) => true,
                            Ok(facts) => database(facts) != good,
                        };
                        assert!(seen, "{line} {name}: bit {bit} of byte {position}, page {}", position / 4096);
                        copy[*position] ^= 1 << bit;
                        checked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(checked.into_inner(), positions.len() * 8);
}

#[test]
fn every_flipped_bit_of_a_fresh_snapshot_is_seen() {
    LINES.into_iter().for_each(|line| every_flipped_bit_is_seen_in(line, "fresh"));
}

/// With branches, tombstones, a compaction, leases and users, and small enough to flip all of its bits.
#[test]
fn every_flipped_bit_of_a_used_snapshot_is_seen() {
    every_flipped_bit_is_seen_in("3.6", "small");
}

/// HashKV by the letter of mvcc/hash.go, over pairs of revisions that the snapshots determine.
#[test]
fn hash_kv_is_what_the_letter_of_the_server_says_at_many_pairs_of_revisions() {
    for (line, name) in [("3.5", "used"), ("3.6", "small"), ("3.7", "interrupted")] {
        let bytes = snapshot(line, name);
        let read = slow::read(&bytes).unwrap();
        let hash_kv = |seen_bytes| {
            let scratch = Box::new(MemoryScratch::new(1 << 20));
            let mut verifier = Verifier::with_hash_kv(Options::default(), scratch);
            verifier.update(&bytes).unwrap();
            verifier.finish_with_hash_kv().unwrap().1.unwrap().with_seen_bytes(seen_bytes)
        };
        let (mut one_pass, mut many_passes) = (hash_kv(1 << 20), hash_kv(256));
        let floor = read.facts.compact_revision.max(read.facts.scheduled_compact_revision);
        let mut told = 0;
        let step = usize::try_from((read.facts.revision - floor) / 9 + 1).unwrap();
        for compact in (floor..=read.facts.revision).step_by(step) {
            for revision in (compact..=read.facts.revision).step_by(step) {
                let wanted = slow::hash_kv(&read, revision, compact);
                let found = one_pass.compute(revision, compact);
                assert_eq!(found.clone().ok(), wanted, "{line} {name}: {revision} at {compact}");
                assert_eq!(many_passes.compute(revision, compact), found);
                told += u32::from(found.is_ok());
            }
        }
        assert!(told > 5, "{line} {name}: {told}");
        let newest = read.facts.revision;
        assert_eq!(one_pass.compute(newest + 1, newest), Err(HashKvError::Future { revision: newest + 1, newest }));
        assert!(matches!(one_pass.compute(newest, floor - 1), Err(HashKvError::Compacted { .. })));
        assert!(matches!(one_pass.compute(newest - 1, newest), Err(HashKvError::BelowCompaction { .. })));
    }
}

#[test]
fn an_index_that_finds_no_room_costs_hash_kv_and_nothing_else() {
    let bytes = snapshot("3.6", "deep");
    let mut verifier = Verifier::with_hash_kv(Options::default(), Box::new(MemoryScratch::new(50_000)));
    verifier.update(&bytes).unwrap();
    let (facts, hash_kv) = verifier.finish_with_hash_kv().unwrap();
    assert_eq!(facts, verify(&bytes).unwrap());
    assert!(matches!(hash_kv, Err(HashKvError::Scratch(_))));
}

#[test]
fn the_walk_through_the_keys_meets_what_the_slow_reader_reads_in_the_same_order() {
    for line in LINES {
        for name in ALL {
            let bytes = snapshot(line, name);
            let read = slow::read(&bytes).unwrap();
            let revision = |key: &[u8]| i64::from_be_bytes(key[..8].try_into().unwrap());
            let expected: Vec<(i64, bool, usize)> = read
                .entries
                .iter()
                .filter(|(bucket, _, _)| bucket == b"key")
                .map(|(_, key, _)| (revision(key), key.len() == 18))
                .enumerate()
                .map(|(index, (revision, is_tombstone))| (revision, is_tombstone, index))
                .collect();
            let (mut met, mut values) = (Vec::new(), read.entries.iter().filter(|entry| entry.0 == b"key"));
            let mut file = std::io::Cursor::new(&bytes);
            visit_keys(&mut file, &mut |KeyVersion { key, mod_revision, is_tombstone }| {
                // The key stands in the value behind its tag and length.
                let value = &values.next().unwrap().2;
                let at = value.windows(key.len()).position(|window| window == key).unwrap();
                assert!(at == 2 || at == 3, "{line} {name}: key at {at}");
                met.push((mod_revision, is_tombstone, met.len()));
            })
            .unwrap_or_else(|error| panic!("{line} {name}: {error}"));
            assert_eq!(met, expected, "{line} {name}");
        }
    }
}

/// Nobody walks what was not proven; if somebody does, it ends, with or without an error.
#[test]
fn the_walk_survives_any_damage() {
    let whole = snapshot("3.6", "used");
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let mut count = 0_u64;
        let _ = visit_keys(&mut std::io::Cursor::new(&bytes), &mut |_| count += 1);
        assert!(count < 1_000_000);
    }
}
