//! What is remembered of every page that could begin a node, until the walk tells which of them are in use.
//!
//! This is the memory that grows with a database: [`Record`] is 56 bytes, and the list grows by chunks, so that no
//! doubling ever holds two copies. A test in this file holds it to that.

use xxhash_rust::xxh3::Xxh3;

use crate::content_hash::ContentHash;
use crate::page::Kind;
use crate::revision::Revision;

/// What a candidate turned out to be.
#[derive(Debug)]
pub(crate) enum Node {
    /// A leaf whose keys are all revisions: of bucket `key`, if the tree says so.
    Revisions(Leaf),
    /// A branch: its children, and a hash of the keys by which it names them, which are their first ones. The keys
    /// themselves would cost half as much again as the leaves below.
    Branch { children: Box<[u32]>, keys: u64 },
    /// Any other leaf, or the free list: kept as it is, without slack; there are few, and only the tree tells what they
    /// mean.
    Raw { kind: Kind, count: u16, bytes: Box<[u8]> },
    /// Its elements make no sense.
    Broken { what: &'static str },
    /// More than the window, the store of raw nodes or the work allowed could hold.
    TooLarge,
}

/// A leaf of revisions, summed up as it passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    /// `ContentHash` in halves: a u128 would align the record to 16 bytes.
    sum: [u64; 2],
    first: Packed,
    last: Packed,
    /// Number of its first entry in the index of HashKV, where one is kept.
    pub index: u32,
    pub entries: u16,
    first_is_tombstone: bool,
}

/// A revision of two numbers without padding.
#[derive(Clone, Copy, Debug)]
struct Packed {
    main: [u32; 2],
    sub: u32,
}

impl Packed {
    /// `None` where sub does not fit; no transaction of etcd has 2³² operations.
    fn new(revision: Revision) -> Option<Self> {
        let high = u32::try_from(revision.main >> 32).ok()?;
        let low = u32::try_from(revision.main & u64::from(u32::MAX)).ok()?;
        Some(Self { main: [high, low], sub: u32::try_from(revision.sub).ok()? })
    }

    fn revision(self, is_tombstone: bool) -> Revision {
        let main = u64::from(self.main[0]) << 32 | u64::from(self.main[1]);
        Revision { main, sub: u64::from(self.sub), is_tombstone }
    }
}

impl Leaf {
    /// `None` where a number does not fit: such a leaf is kept raw.
    pub fn new(first: Revision, last: Revision, entries: u16, sum: ContentHash, index: u32) -> Option<Self> {
        let low = u64::try_from(sum.0 & u128::from(u64::MAX)).ok()?;
        let high = u64::try_from(sum.0 >> 64).ok()?;
        Some(Self {
            sum: [high, low],
            first: Packed::new(first)?,
            last: Packed::new(last)?,
            index,
            entries,
            first_is_tombstone: first.is_tombstone,
        })
    }

    pub fn sum(&self) -> ContentHash {
        ContentHash(u128::from(self.sum[0]) << 64 | u128::from(self.sum[1]))
    }

    pub fn first(&self) -> Revision {
        self.first.revision(self.first_is_tombstone)
    }

    /// The last revision; whether it is a tombstone is not kept.
    pub fn last(&self) -> Revision {
        self.last.revision(false)
    }
}

/// A candidate.
#[derive(Debug)]
pub(crate) struct Record {
    pub page: u32,
    /// Pages of the node, overflow included.
    pub pages: u32,
    pub node: Node,
}

/// A hash of the keys of a branch, in order.
#[derive(Default)]
pub(crate) struct KeysHash(Xxh3);

impl KeysHash {
    pub fn push(&mut self, key: &[u8]) {
        self.0.update(&(key.len() as u64).to_le_bytes());
        self.0.update(key);
    }

    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Items of a chunk.
const CHUNK: usize = 1024;

/// A list that only grows, in chunks.
pub(crate) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// Adds an item and gives its number.
    pub fn push(&mut self, item: T) -> usize {
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(item),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
        self.chunks.len() * CHUNK - CHUNK + self.chunks.last().map_or(0, Vec::len) - 1
    }

    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl Chunked<Record> {
    /// The record of a page; records are pushed in the order of their pages.
    pub fn of_page(&self, page: u64) -> Option<&Record> {
        let page = u32::try_from(page).ok()?;
        let begun = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|record| record.page <= page));
        let chunk = self.chunks.get(begun.checked_sub(1)?)?;
        chunk.binary_search_by_key(&page, |record| record.page).ok().and_then(|found| chunk.get(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert!(size_of::<Record>() <= 56, "{}", size_of::<Record>());
    }

    #[test]
    fn records_are_found_by_page_across_chunks() {
        let mut records = Chunked::default();
        for number in 0..3000_u32 {
            let pushed = records.push(Record { page: number * 3, pages: 1, node: Node::TooLarge });
            assert_eq!(pushed, number as usize);
        }
        for page in 0..9100_u64 {
            let found = records.of_page(page).map(|record| u64::from(record.page));
            assert_eq!(found, (page % 3 == 0 && page < 9000).then_some(page));
        }
        assert!(records.of_page(u64::MAX).is_none());
    }

    #[test]
    fn a_leaf_gives_back_what_it_was_made_of() {
        let first = Revision { main: u64::MAX - 7, sub: 3, is_tombstone: true };
        let last = Revision { main: u64::MAX - 1, sub: 9, is_tombstone: false };
        let sum = ContentHash(0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978);
        let leaf = Leaf::new(first, last, 7, sum, 11).unwrap();
        assert_eq!((leaf.first(), leaf.last(), leaf.sum(), leaf.entries, leaf.index), (first, last, sum, 7, 11));
        assert!(Leaf::new(first, Revision { sub: 1 << 32, ..last }, 7, sum, 11).is_none());
    }
}
