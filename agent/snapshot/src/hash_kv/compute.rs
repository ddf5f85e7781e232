//! From the index to the hash of a pair of revisions.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::HashKvError;
use super::combine::Combined;
use super::index::{Item, Runs};
use super::scratch::Scratch;

/// Memory for the set of user keys seen, bytes; one bit an entry comes on top.
pub const SEEN_BYTES: usize = 8 << 20;
/// Bytes of a fingerprint in a set that has just doubled.
const SEEN_ITEM: usize = 24;

/// The keys of a snapshot as its servers hash them.
pub struct HashKv {
    scratch: Box<dyn Scratch>,
    runs: Runs,
    floor: i64,
    newest: i64,
    seen_bytes: usize,
}

impl std::fmt::Debug for HashKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashKv").field("floor", &self.floor).field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl HashKv {
    pub(crate) fn new(scratch: Box<dyn Scratch>, runs: Runs, floor: i64, newest: i64) -> Self {
        Self { scratch, runs, floor, newest, seen_bytes: SEEN_BYTES }
    }

    /// Keeps the set of user keys seen within other than [`SEEN_BYTES`]; less memory means more passes over the index.
    #[must_use]
    pub fn with_seen_bytes(self, seen_bytes: usize) -> Self {
        Self { seen_bytes, ..self }
    }

    /// What a server answers as `hash` along with this `hash_revision` and `compact_revision` (-1, or 0 over JSON, where
    /// it never compacted), if it holds what the snapshot holds.
    ///
    /// # Errors
    /// Where the snapshot does not determine the answer; see [`HashKvError`].
    pub fn compute(&mut self, revision: i64, compact_revision: i64) -> Result<u32, HashKvError> {
        // Servers that never compacted say -1; revisions begin at 1, so that 0 means the same.
        let compact_revision = compact_revision.max(0);
        if compact_revision < self.floor {
            return Err(HashKvError::Compacted { floor: self.floor, compact_revision });
        }
        if revision < compact_revision {
            return Err(HashKvError::BelowCompaction { revision, compact_revision });
        }
        if revision > self.newest {
            return Err(HashKvError::Future { revision, newest: self.newest });
        }
        let pair = Pair { revision: revision.unsigned_abs(), compact_revision: compact_revision.unsigned_abs() };
        let broken = |error: std::io::Error| HashKvError::Scratch(error.to_string());
        let kept = self.kept(pair).map_err(broken)?;
        let mut hash = Combined::new(crc_fast::crc32_iscsi(b"key"));
        let mut number = 0;
        let mut is_undetermined = false;
        let Self { scratch, runs, .. } = self;
        runs.forward(scratch.as_mut(), |item| {
            let is_taken = match pair.place(item) {
                Place::Later | Place::CompactedTombstone => false,
                Place::Recent => true,
                Place::Compacted => {
                    is_undetermined |= !kept.any;
                    kept.bits.has(number)
                }
            };
            if is_taken {
                hash.push(item.crc, item.length);
            }
            number += 1;
        })
        .map_err(broken)?;
        if is_undetermined { Err(HashKvError::NothingAlive { revision }) } else { Ok(hash.crc()) }
    }

    /// `Keep(R)`: of every user key the newest entry at R, if it is no tombstone.
    fn kept(&mut self, pair: Pair) -> std::io::Result<Kept> {
        let items = usize::try_from(self.runs.items).unwrap_or(usize::MAX);
        let passes = items.saturating_mul(SEEN_ITEM).div_ceil(self.seen_bytes.max(SEEN_ITEM)).max(1);
        // Keyed at random: nobody who writes keys can choose them to fall into one pass.
        let split = RandomState::new();
        let mut kept = Kept { bits: Bits(vec![0; items.div_ceil(64)]), any: false };
        let Self { scratch, runs, .. } = self;
        for pass in 0..passes {
            let mut seen = HashSet::new();
            let mut number = items;
            runs.backward(scratch.as_mut(), |item| {
                number = number.saturating_sub(1);
                let is_mine = || passes == 1 || share(split.hash_one(item.fingerprint), passes) == pass;
                if item.main > pair.revision || !is_mine() || !seen.insert(item.fingerprint) || item.is_tombstone {
                    return;
                }
                kept.any = true;
                kept.bits.set(number);
            })?;
        }
        Ok(kept)
    }
}

/// Which of `shares` equal parts a hash falls into.
fn share(hash: u64, shares: usize) -> usize {
    usize::try_from((u128::from(hash) * shares as u128) >> 64).unwrap_or_default()
}

#[derive(Clone, Copy)]
struct Pair {
    revision: u64,
    compact_revision: u64,
}

/// Where an entry lies to a pair.
enum Place {
    Later,
    Recent,
    /// A tombstone at the compact revision itself: etcd up to 3.5.15 drops it at compaction, later ones keep it, so that
    /// none hashes it.
    CompactedTombstone,
    Compacted,
}

impl Pair {
    fn place(self, item: Item) -> Place {
        if item.main > self.revision {
            Place::Later
        } else if item.main > self.compact_revision {
            Place::Recent
        } else if item.main == self.compact_revision && item.is_tombstone {
            Place::CompactedTombstone
        } else {
            Place::Compacted
        }
    }
}

struct Kept {
    bits: Bits,
    any: bool,
}

struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}
