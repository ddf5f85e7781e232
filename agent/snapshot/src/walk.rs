//! The walk from the root, once everything has passed: which nodes are in use, in order, once each.

use crate::bucket::{Bucket, Reader};
use crate::error::SnapshotError;
use crate::page::{HEADER, Header, Kind, freelist_ids, leaf_entries, table_end};
use crate::record::{Chunked, KeysHash, Node, Record};

/// Deeper than any tree bbolt makes of 2⁶⁴ keys.
const MAX_DEPTH: usize = 24;

/// Why a walk ended early.
pub(crate) enum Stop {
    /// The database is not sound.
    Damaged(SnapshotError),
    /// A node in use was larger than memory allowed.
    TooLarge,
}

impl From<SnapshotError> for Stop {
    fn from(error: SnapshotError) -> Self {
        Self::Damaged(error)
    }
}

fn damaged(page: u64, what: &'static str) -> Stop {
    SnapshotError::Page { page, what }.into()
}

/// What a bucket's tree is walked for.
pub(crate) struct Walk<'r> {
    records: &'r Chunked<Record>,
    used: Vec<u64>,
    high_water: u64,
    pub in_use: u64,
}

/// What is carried from node to node through a tree.
struct Progress<'w> {
    reader: &'w mut dyn Reader,
    /// The last key seen; of a revision without the mark of a tombstone.
    last: Vec<u8>,
}

impl Progress<'_> {
    fn order(&mut self, page: u64, first: &[u8], last: &[u8]) -> Result<(), Stop> {
        // No key is empty, so that the first of all comes behind nothing.
        if first <= self.last.as_slice() {
            return Err(damaged(page, "keys are not in order"));
        }
        self.last.clear();
        self.last.extend_from_slice(last);
        Ok(())
    }
}

impl<'r> Walk<'r> {
    pub fn new(records: &'r Chunked<Record>, high_water: u64) -> Self {
        let words = usize::try_from(high_water / 64 + 1).unwrap_or(usize::MAX);
        Self { records, used: vec![0; words], high_water, in_use: 0 }
    }

    /// Claims the pages of a node for the tree.
    pub fn claim(&mut self, page: u64, pages: u64) -> Result<(), SnapshotError> {
        let end = page.checked_add(pages).filter(|end| *end <= self.high_water);
        let Some(end) = end else {
            return Err(SnapshotError::Page { page, what: "it reaches beyond the end of the database" });
        };
        for page in page..end {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            let Some(word) = self.used.get_mut(word) else {
                return Err(SnapshotError::Page { page, what: "it lies beyond the end of the database" });
            };
            if *word & bit != 0 {
                return Err(SnapshotError::UsedTwice { page });
            }
            *word |= bit;
        }
        self.in_use += pages;
        Ok(())
    }

    fn is_used(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.used.get(word));
        word.is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    /// The record of a page that something in use points to.
    fn record(&self, page: u64) -> Result<&'r Record, SnapshotError> {
        self.records.of_page(page).ok_or(SnapshotError::Page { page, what: "it is in use and is no page of a tree" })
    }

    /// Claims the free list, when all else is claimed: whatever it gives away bbolt overwrites.
    pub fn freelist(&mut self, page: u64) -> Result<(), Stop> {
        let record = self.record(page)?;
        let (count, bytes) = match &record.node {
            Node::Raw { kind: Kind::Freelist, count, bytes } => (*count, bytes),
            Node::TooLarge => return Err(Stop::TooLarge),
            Node::Raw { .. } | Node::Branch { .. } | Node::Revisions(_) | Node::Broken { .. } => {
                return Err(damaged(page, "it should be the free list"));
            }
        };
        self.claim(page, u64::from(record.pages))?;
        let mut last = 1;
        for id in freelist_ids(bytes, count).ok_or_else(|| damaged(page, "the free list is cut off"))? {
            if id <= last || id >= self.high_water {
                return Err(damaged(page, "the free list is not in order"));
            }
            if self.is_used(id) {
                return Err(SnapshotError::UsedTwice { page: id }.into());
            }
            last = id;
        }
        Ok(())
    }

    /// Walks the bucket whose root is `page`.
    pub fn tree(&mut self, page: u64, reader: &mut dyn Reader) -> Result<(), Stop> {
        self.node(page, 0, &mut Progress { reader, last: Vec::new() }).map(|_| ())
    }

    /// Walks a node and gives its first key; nothing, where it is a root without entries.
    ///
    /// A branch names every child by its first key, always: bbolt finds a node in its parent by it when the node was
    /// changed (`node.read` and `node.spill`), and a tree where they differ would lose pages with the next write. Keys
    /// that grow over the whole tree do the rest: what a branch says of its children then follows.
    fn node(&mut self, page: u64, depth: usize, progress: &mut Progress<'_>) -> Result<Vec<u8>, Stop> {
        if depth > MAX_DEPTH {
            return Err(SnapshotError::TooDeep { page, limit: MAX_DEPTH }.into());
        }
        let record = self.record(page)?;
        self.claim(page, u64::from(record.pages))?;
        match &record.node {
            Node::TooLarge => Err(Stop::TooLarge),
            Node::Broken { what } => Err(damaged(page, what)),
            Node::Revisions(leaf) => {
                let (mut first, mut last) = ([0; 18], [0; 18]);
                let (first, last) = (leaf.first().write(&mut first), leaf.last().write(&mut last));
                progress.order(page, first, last)?;
                progress.reader.revisions(leaf)?;
                Ok(first.to_vec())
            }
            Node::Raw { kind: Kind::Leaf, count: 0, .. } if depth > 0 => Err(damaged(page, "a leaf without entries")),
            Node::Raw { kind: Kind::Leaf, count, bytes } => leaf(page, bytes, *count, progress),
            Node::Branch { children, keys } => {
                let mut first = None;
                let mut found = KeysHash::default();
                for child in children {
                    let key = self.node(u64::from(*child), depth + 1, progress)?;
                    found.push(&key);
                    first.get_or_insert(key);
                }
                match first {
                    Some(first) if found.finish() == *keys => Ok(first),
                    Some(_) => Err(damaged(page, "the first key of a child is not the one that it names")),
                    None => Err(damaged(page, "a branch without children")),
                }
            }
            Node::Raw { kind: Kind::Branch | Kind::Meta | Kind::Freelist, .. } => {
                Err(damaged(page, "it is in use and is no page of a tree"))
            }
        }
    }
}

fn leaf(page: u64, bytes: &[u8], count: u16, progress: &mut Progress<'_>) -> Result<Vec<u8>, Stop> {
    let mut first = None;
    for entry in leaf_entries(bytes, count) {
        let entry = entry.ok_or_else(|| damaged(page, "an element is not where bbolt puts it"))?;
        progress.order(page, entry.key, entry.key)?;
        first.get_or_insert_with(|| entry.key.to_vec());
        progress.reader.entry(entry)?;
    }
    Ok(first.unwrap_or_default())
}

/// The entries of an inline bucket: a leaf within the value of its parent, whose header bbolt writes into zeroed memory
/// of exactly its size.
pub(crate) fn inline(page: u64, bucket: &Bucket, reader: &mut dyn Reader) -> Result<(), Stop> {
    let bytes = bucket.inline.as_slice();
    match bytes.get(..HEADER).and_then(Header::parse) {
        Some(Header { id: 0, kind: Kind::Leaf, count, overflow: 0 }) => {
            leaf(page, bytes, count, &mut Progress { reader, last: Vec::new() })?;
            let data: usize = leaf_entries(bytes, count).flatten().map(|entry| entry.both.len()).sum();
            if table_end(count) + data != bytes.len() {
                return Err(damaged(page, "an inline bucket is longer than its entries"));
            }
            Ok(())
        }
        _ => Err(damaged(page, "an inline bucket is no leaf")),
    }
}
