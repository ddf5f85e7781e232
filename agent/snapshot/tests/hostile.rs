//! Hostile bytes: whatever a file claims, the verifier ends, with little memory, and says what the slow reader says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "slow/builder.rs"]
mod builder;
#[path = "slow/corpus.rs"]
mod corpus;
#[path = "slow/reader.rs"]
mod slow;

use std::sync::Mutex;

use builder::{Builder, key_value, many_leaves, revision};
use corpus::{sealed, snapshot, verify};
use lifeboat_snapshot::{Content, MemoryScratch, Options, SnapshotError, Verifier};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One test at a time: the allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs something and gives the most memory that it held, bytes.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = run();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

fn alone() -> impl Drop {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Clone, Debug)]
enum Damage {
    Swap(usize, usize),
    /// A copy of one page in the place of another, with its id put right.
    Copy(usize, usize),
    Count(usize, u16),
    Overflow(usize, u32),
    Flags(usize, u16),
    /// Of an element: which of its four fields, and what it becomes.
    Field(usize, usize, usize, u32),
    /// A child of a branch, or the root of a bucket, becomes any page.
    Child(usize, usize, u64),
    Byte(usize, u8),
    /// Root, free list, high-water mark and page size, in sound metas.
    Metas(u64, u64, u64, u32),
}

/// Numbers that lie at the edges of something.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..40,
        1 => prop::sample::select(vec![255, 256, 4095, 4096, 65_535, 65_536, 1 << 24, u32::MAX.into(), 1 << 32, 1 << 63, u64::MAX]),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let page = || 0_usize..40;
    prop_oneof![
        (page(), page()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (page(), page()).prop_map(|(a, b)| Damage::Copy(a, b)),
        (page(), edge()).prop_map(|(page, count)| Damage::Count(page, count as u16)),
        (page(), edge()).prop_map(|(page, overflow)| Damage::Overflow(page, overflow as u32)),
        (page(), 0_u16..32).prop_map(|(page, flags)| Damage::Flags(page, flags)),
        (page(), 0_usize..12, 0_usize..4, edge())
            .prop_map(|(page, element, field, to)| { Damage::Field(page, element, field, to as u32) }),
        (page(), 0_usize..12, edge()).prop_map(|(page, element, to)| Damage::Child(page, element, to)),
        (0_usize..200_000, any::<u8>()).prop_map(|(position, byte)| Damage::Byte(position, byte)),
        (edge(), prop_oneof![3 => Just(u64::MAX), 1 => edge()], edge(), 0_u32..20).prop_map(
            |(root, free, mark, bits)| { Damage::Metas(root, free, mark, if bits < 18 { 1 << bits } else { 5000 }) }
        ),
    ]
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    // The trailer is put right anyway.
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

fn apply(bytes: &mut [u8], page_size: usize, damage: &Damage) {
    let pages = (bytes.len() - 32) / page_size;
    let at = |page: usize| page % pages * page_size;
    match *damage {
        Damage::Swap(a, b) => {
            let (first, second) = (bytes[at(a)..][..page_size].to_vec(), bytes[at(b)..][..page_size].to_vec());
            put(bytes, at(a), &second);
            put(bytes, at(b), &first);
        }
        Damage::Copy(from, to) => {
            let copy = bytes[at(from)..][..page_size].to_vec();
            put(bytes, at(to), &copy);
            put(bytes, at(to), &((to % pages) as u64).to_le_bytes());
        }
        Damage::Count(page, count) => put(bytes, at(page) + 10, &count.to_le_bytes()),
        Damage::Overflow(page, overflow) => put(bytes, at(page) + 12, &overflow.to_le_bytes()),
        Damage::Flags(page, flags) => put(bytes, at(page) + 8, &flags.to_le_bytes()),
        Damage::Field(page, element, field, to) => {
            put(bytes, at(page) + 16 + 16 * element + 4 * field, &to.to_le_bytes())
        }
        Damage::Child(page, element, to) => put(bytes, at(page) + 16 + 16 * element + 8, &to.to_le_bytes()),
        Damage::Byte(position, byte) => put(bytes, position % (bytes.len() - 32), &[byte]),
        Damage::Metas(root, freelist, high_water, size) => {
            let sizes = if size as usize == page_size { [page_size; 2] } else { [size as usize, page_size] };
            let _ = sizes.map(|size| builder::put_metas(bytes, size, root, freelist, high_water));
        }
    }
}

/// Both readers, and the bound on memory: a quarter of a mebibyte for buffers, and twice the file.
fn hold(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (said, memory) = peak(|| {
        let mut verifier = Verifier::with_hash_kv(Options::default(), Box::new(MemoryScratch::new(1 << 20)));
        bytes.chunks(32 * 1024).try_for_each(|chunk| verifier.update(chunk))?;
        let (facts, hash_kv) = verifier.finish_with_hash_kv()?;
        let _ = hash_kv.map(|mut hash_kv| hash_kv.compute(i64::MAX, 0));
        Ok::<_, SnapshotError>(facts)
    });
    prop_assert!(memory < 512 * 1024 + 2 * bytes.len(), "{memory} bytes for a file of {}", bytes.len());
    match (said.map(|facts| facts.content), slow::read(bytes).map(|read| read.facts)) {
        (Ok(Content::Verified(fast)), Ok(slow)) => prop_assert_eq!(*fast, slow),
        (Err(_), Err(_)) | (Ok(Content::Unverified { .. }), _) => {}
        (Err(error), Ok(_)) => return Err(TestCaseError::fail(format!("only the slow reader takes it: {error}"))),
        (Ok(_), Err(why)) => return Err(TestCaseError::fail(format!("only the verifier takes it: {why}"))),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_to_real_snapshots_is_told_as_the_slow_reader_tells_it(
        which in 0_usize..4, damages in prop::collection::vec(damage(), 1..4),
    ) {
        let _alone = alone();
        let (line, name) = [("3.7", "small"), ("3.5", "small"), ("3.6", "fresh"), ("3.6", "interrupted")][which];
        let mut bytes = snapshot(line, name);
        damages.iter().for_each(|damage| apply(&mut bytes, 4096, damage));
        hold(&sealed(bytes))?;
    }

    #[test]
    fn damage_to_a_deep_tree_of_small_pages_is_told_as_the_slow_reader_tells_it(
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let _alone = alone();
        let mut bytes = many_leaves(1024, 24, 3, 3);
        damages.iter().for_each(|damage| apply(&mut bytes, 1024, damage));
        hold(&sealed(bytes))?;
    }

    #[test]
    fn garbage_behind_sound_metas_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..20_000), root in edge(), mark in edge(), free in edge(),
    ) {
        let _alone = alone();
        let size = (8192 + bytes.len()) / 512 * 512 + 32;
        let mut file = vec![0; 8192];
        file.extend_from_slice(&bytes);
        file.resize(size, 0);
        builder::put_metas(&mut file, 4096, root, free, mark);
        hold(&sealed(file))?;
    }
}

#[test]
fn snapshots_of_every_page_size_read_the_same_in_both_ways() {
    let _alone = alone();
    for bits in 10..=16 {
        let bytes = many_leaves(1 << bits, 40, 3, 4);
        match verify(&bytes).unwrap().content {
            Content::Verified(fast) => assert_eq!(*fast, slow::read(&bytes).unwrap().facts, "2^{bits}"),
            Content::Unverified { reason } => panic!("2^{bits}: {reason}"),
        }
    }
}

/// A branch that names itself, or one above it, or one beside it. Nodes are built from the leaves up.
#[test]
fn a_tree_with_a_cycle_is_refused() {
    let _alone = alone();
    let bytes = many_leaves(1024, 24, 3, 3);
    let branches: Vec<usize> = (2..(bytes.len() - 32) / 1024).filter(|page| bytes[page * 1024 + 8] == 1).collect();
    assert!(branches.len() > 8);
    for from in &branches {
        for to in branches.iter().filter(|to| *to >= from) {
            let mut cycle = bytes.clone();
            put(&mut cycle, from * 1024 + 16 + 8, &(*to as u64).to_le_bytes());
            if cycle == bytes {
                continue;
            }
            assert!(verify(&sealed(cycle)).is_err(), "{from} names {to}");
        }
    }
}

/// In bucket `key` the revisions are held to it once more; this is for all the others.
#[test]
fn keys_out_of_order_are_refused_in_any_bucket() {
    let _alone = alone();
    let with = |keys: [&[u8]; 3]| {
        let mut builder = Builder::new(4096);
        let leaf = builder.leaf(&[(0, revision(2, 0, false), key_value(b"a", 10))]);
        builder.meta = keys.map(|key| (0, key.to_vec(), b"value".to_vec())).to_vec();
        verify(&builder.finish(leaf, u64::MAX)).map(|_| ())
    };
    assert_eq!(with([b"a", b"b", b"c"]), Ok(()));
    for wrong in [[&b"b"[..], b"a", b"c"], [b"a", b"c", b"b"], [b"a", b"a", b"b"]] {
        assert!(matches!(with(wrong), Err(SnapshotError::Page { what: "keys are not in order", .. })), "{wrong:?}");
    }
}

/// etcd-io/etcd#17780: a server that starts from an interrupted compaction counts from where that was to end.
#[test]
fn the_revision_is_at_least_that_of_a_compaction_that_was_begun() {
    let _alone = alone();
    let mut builder = Builder::new(4096);
    let leaf = builder.leaf(&[(0, revision(2, 0, false), key_value(b"a", 10))]);
    builder.meta.push((0, b"finishedCompactRev".to_vec(), revision(20, 0, false)));
    builder.meta.push((0, b"scheduledCompactRev".to_vec(), revision(50, 0, false)));
    match verify(&builder.finish(leaf, u64::MAX)).unwrap().content {
        Content::Verified(database) => {
            assert_eq!((database.revision, database.compact_revision), (50, 20));
            assert_eq!(database.scheduled_compact_revision, 50);
        }
        Content::Unverified { reason } => panic!("{reason}"),
    }
}

/// etcd keeps no free list in the file, but would believe one: it must give away nothing that is in use.
#[test]
fn a_free_list_that_names_a_page_in_use_is_refused() {
    let _alone = alone();
    let with = |ids: &[u64]| {
        let mut builder = Builder::new(4096);
        let leaf = builder.leaf(&[(0, revision(2, 0, false), key_value(b"a", 10))]);
        builder.leaf(&[]);
        let list = builder.leaf(&[]);
        let at = list as usize * 4096;
        builder.bytes[at..at + 16].copy_from_slice(&builder::header(list, 16, ids.len(), 0));
        for (index, id) in ids.iter().enumerate() {
            builder.bytes[at + 16 + 8 * index..][..8].copy_from_slice(&id.to_le_bytes());
        }
        verify(&builder.finish(leaf, list)).map(|_| ())
    };
    assert_eq!((with(&[]), with(&[3])), (Ok(()), Ok(())));
    assert_eq!(with(&[2]), Err(SnapshotError::UsedTwice { page: 2 }));
    for wrong in [&[3, 3][..], &[0], &[1], &[6], &[u64::MAX]] {
        assert!(with(wrong).is_err(), "{wrong:?}");
    }
}

/// backup.md: at most 64 bytes of memory a used page. The slope between two sizes leaves out what does not grow.
#[test]
fn memory_grows_by_at_most_64_bytes_a_used_page() {
    let _alone = alone();
    let measure = |leaves| {
        let bytes = many_leaves(1024, leaves, 2, 25);
        let (facts, memory) = peak(|| verify(&bytes).unwrap());
        match facts.content {
            Content::Verified(database) => (database.in_use_pages as usize, memory),
            Content::Unverified { reason } => panic!("{reason}"),
        }
    };
    let (few, small) = measure(6_000);
    let (many, large) = measure(24_000);
    let slope = (large - small) as f64 / (many - few) as f64;
    assert!(slope <= 64.0 + 0.5, "{slope:.1} bytes a page: {small} for {few}, {large} for {many}");
    assert!(large <= 64 * many + 768 * 1024, "{large} bytes for {many} pages");
}

/// Pages that all claim to be nodes of the longest kind that is looked at: neither memory nor work runs away.
#[test]
fn nested_claims_are_bounded_in_memory_and_work() {
    let _alone = alone();
    let mut bytes = many_leaves(1024, 30, 2, 25);
    let used = bytes.len() / 1024;
    bytes.truncate(bytes.len() - 32);
    // Free pages below a raised high-water mark.
    let root = used as u64 - 1;
    for page in used as u64..used as u64 + 6_000 {
        let start = bytes.len();
        bytes.extend_from_slice(&builder::header(page, 2, 1, 900));
        // An element over nearly all of it.
        for field in [0_u32, 16, 17, 900 * 1024 - 100] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&revision(2, 0, false));
        bytes.resize(start + 1024, 0);
    }
    builder::put_metas(&mut bytes, 1024, root, u64::MAX, used as u64 + 6_000);
    bytes.extend_from_slice(&[0; 32]);
    let bytes = sealed(bytes);
    let options = Options { window_bytes: 1 << 20, ..Options::default() };
    let (facts, memory) = peak(|| lifeboat_snapshot::verify_reader(bytes.as_slice(), options).unwrap());
    assert!(matches!(facts.content, Content::Verified(_)), "{:?}", facts.content);
    assert!(memory < (4 << 20) + 64 * 6_100, "{memory} bytes");
}
