//! The walk from the root, once everything has passed: which nodes are in use, in order, once each.

use crate::bucket::Reader;
use crate::candidate::{Node, Record};
use crate::error::SnapshotError;
use crate::page::{HEADER, Header, Kind, LeafEntry, branch_entries, leaf_entries};

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

/// What a bucket's tree is walked for.
pub(crate) struct Walk<'r> {
    records: &'r [Record],
    used: Vec<u64>,
    high_water: u64,
    pub in_use: u64,
}

/// Keys a node may hold: from the first, inclusive, to the second, exclusive.
#[derive(Clone, Copy)]
struct Bounds<'k> {
    lower: Option<&'k [u8]>,
    upper: Option<&'k [u8]>,
}

impl Bounds<'_> {
    fn hold(&self, first: &[u8], last: &[u8]) -> bool {
        // Keys of revisions are compared by their 17 bytes; the mark of a tombstone does not order them.
        let cut = |bound: &[u8]| bound.len().min(first.len().max(17));
        self.lower.is_none_or(|lower| first >= &lower[..cut(lower)])
            && self.upper.is_none_or(|upper| last < &upper[..cut(upper)])
    }
}

impl<'r> Walk<'r> {
    /// `records` sorted by page.
    pub fn new(records: &'r [Record], high_water: u64) -> Self {
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

    /// The record of a page that something in use points to.
    fn record(&self, page: u64) -> Result<&'r Record, SnapshotError> {
        let found = u32::try_from(page).ok().and_then(|page| self.records.binary_search_by_key(&page, |r| r.page).ok());
        found
            .map(|index| &self.records[index])
            .ok_or(SnapshotError::Page { page, what: "it is in use and is no page of a tree" })
    }

    /// Claims the free list.
    pub fn freelist(&mut self, page: u64) -> Result<(), Stop> {
        let record = self.record(page)?;
        match &record.node {
            Node::Raw { kind: Kind::Freelist, .. } => Ok(self.claim(page, u64::from(record.pages))?),
            Node::TooLarge => Err(Stop::TooLarge),
            Node::Raw { .. } | Node::Revisions { .. } | Node::Broken { .. } => {
                Err(SnapshotError::Page { page, what: "it should be the free list" }.into())
            }
        }
    }

    /// Walks the bucket whose root is `page`.
    pub fn tree(&mut self, page: u64, reader: &mut dyn Reader) -> Result<(), Stop> {
        self.node(page, Bounds { lower: None, upper: None }, 0, reader)
    }

    fn node(&mut self, page: u64, bounds: Bounds<'_>, depth: usize, reader: &mut dyn Reader) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(SnapshotError::TooDeep { page, limit: MAX_DEPTH }.into());
        }
        let record = self.record(page)?;
        self.claim(page, u64::from(record.pages))?;
        let damaged = |what| Err(Stop::Damaged(SnapshotError::Page { page, what }));
        match &record.node {
            Node::TooLarge => Err(Stop::TooLarge),
            Node::Broken { what } => damaged(what),
            Node::Revisions { first, last, entries, sum } => {
                if !bounds.hold(first, last) {
                    return damaged("its keys lie outside of what its parent says");
                }
                Ok(reader.revisions(last, *entries, *sum)?)
            }
            Node::Raw { kind: Kind::Leaf, count, bytes } => leaf(page, bytes, *count, bounds, reader),
            Node::Raw { kind: Kind::Branch, count, bytes } => {
                if *count == 0 {
                    return damaged("a branch without children");
                }
                let children: Option<Vec<_>> = branch_entries(bytes, *count).collect();
                let Some(children) = children else { return damaged("an element points outside of the node") };
                if children.windows(2).any(|pair| pair[0].0 >= pair[1].0)
                    || !bounds.hold(children[0].0, children[children.len() - 1].0)
                {
                    return damaged("the keys of a branch are not in order");
                }
                for (index, (key, child)) in children.iter().enumerate() {
                    let upper = children.get(index + 1).map(|(key, _)| *key).or(bounds.upper);
                    // The leftmost child of the leftmost branch may begin below its parent's key: bbolt updates that
                    // key only when the child is written again.
                    let lower = if index == 0 { bounds.lower } else { Some(*key) };
                    self.node(*child, Bounds { lower, upper }, depth + 1, reader)?;
                }
                Ok(())
            }
            Node::Raw { kind: Kind::Meta | Kind::Freelist, .. } => damaged("it is in use and is no page of a tree"),
        }
    }
}

fn leaf(page: u64, bytes: &[u8], count: u16, bounds: Bounds<'_>, reader: &mut dyn Reader) -> Result<(), Stop> {
    let damaged = |what| Stop::Damaged(SnapshotError::Page { page, what });
    let mut previous: Option<&[u8]> = None;
    for entry in leaf_entries(bytes, count) {
        let entry = entry.ok_or_else(|| damaged("an element points outside of the node"))?;
        if previous.is_some_and(|previous| previous >= entry.key) {
            return Err(damaged("keys are not in order"));
        }
        if !bounds.hold(entry.key, entry.key) {
            return Err(damaged("its keys lie outside of what its parent says"));
        }
        previous = Some(entry.key);
        reader.entry(entry)?;
    }
    Ok(())
}

/// The entries of an inline bucket: a leaf within the value of its parent.
pub(crate) fn inline(page: u64, bytes: &[u8], reader: &mut dyn Reader) -> Result<(), Stop> {
    let header =
        bytes.get(..HEADER).and_then(Header::parse).filter(|header| header.kind == Kind::Leaf && header.overflow == 0);
    let Some(header) = header else {
        return Err(SnapshotError::Page { page, what: "an inline bucket is no leaf" }.into());
    };
    leaf(page, bytes, header.count, Bounds { lower: None, upper: None }, reader)
}

/// Root and inline page of a bucket from its value.
pub(crate) fn bucket_value<'p>(entry: &LeafEntry<'p>) -> Option<(u64, &'p [u8])> {
    Some((crate::page::u64_at(entry.value, 0)?, entry.value.get(16..)?))
}
