//! Nodes as they pass: every page that could begin a node is read as one, whether the tree will vouch for it or not.
//!
//! Free pages keep stale headers whose overflow may span live pages, so nothing is skipped on a header's word. A node of
//! one page is read where it lies. For longer ones a window of bytes is kept, which several open candidates share; one
//! that is longer than the window is never opened, and remembered as such.

use std::collections::VecDeque;

use crate::content_hash::ContentHash;
use crate::hash_kv::Index;
use crate::page::{HEADER, Header, Kind, LeafEntry, Meta, branch_entries, leaf_entries, table_end};
use crate::record::{Chunked, KeysHash, Leaf, Node, Record};
use crate::revision::Revision;

/// How many times over the bytes seen so far may be read again as part of open candidates. Stale headers nest a few deep
/// in a fragmented database; on hostile bytes every page could claim to be a node of the window's length.
const WORK: u64 = 32;

struct Open {
    /// Number of its record.
    record: usize,
    /// Offsets, counted from the beginning of the file.
    start: u64,
    end: u64,
    header: Header,
}

/// Budgets of memory, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub window: usize,
    pub raw: usize,
}

/// The window and what was found in it.
pub(crate) struct Candidates {
    page_size: usize,
    high_water: u64,
    freelist: u64,
    budget: Budget,
    window: Vec<u8>,
    /// Offset in the file of the first byte of the window.
    base: u64,
    open: VecDeque<Open>,
    raw: usize,
    /// Bytes of nodes of several pages, read or to be read.
    work: u64,
    pub records: Chunked<Record>,
    pub index: Option<Index>,
}

impl Candidates {
    pub fn new(meta: &Meta, budget: Budget, index: Option<Index>) -> Self {
        Self {
            page_size: meta.page_size as usize,
            high_water: meta.high_water,
            freelist: meta.freelist,
            budget,
            window: Vec::new(),
            base: 0,
            open: VecDeque::new(),
            raw: 0,
            work: 0,
            records: Chunked::default(),
            index,
        }
    }

    /// Takes one page; pages come in order, from 0.
    pub fn page(&mut self, page: u64, bytes: &[u8]) {
        // Nothing behind the high-water mark belongs to the database.
        if page < self.high_water
            && let Some(header) = Header::parse(bytes).filter(|header| header.id == page)
        {
            self.begin(page, header, bytes);
        }
        if self.open.is_empty() {
            return;
        }
        let start = page * self.page_size as u64;
        if self.window.is_empty() {
            self.base = start;
        }
        self.append(bytes);
        self.complete(start + self.page_size as u64);
        self.trim();
    }

    fn begin(&mut self, page: u64, header: Header, bytes: &[u8]) {
        let is_candidate = match header.kind {
            Kind::Branch | Kind::Leaf => true,
            Kind::Freelist => page == self.freelist,
            Kind::Meta => false,
        };
        // A page number beyond u32 is a database of more than 16 TiB; etcd's limit is far below.
        let (true, Ok(number)) = (is_candidate, u32::try_from(page)) else { return };
        let pages = u64::from(header.overflow) + 1;
        let length = pages * self.page_size as u64;
        let beyond = page + pages > self.high_water;
        // A count of the free list may be the sign that the count is elsewhere.
        let table = if header.kind == Kind::Freelist { HEADER } else { table_end(header.count) };
        let node = if beyond {
            Node::Broken { what: "it reaches beyond the end of the database" }
        } else if table as u64 > length {
            Node::Broken { what: "its elements do not fit" }
        } else if pages == 1 {
            self.read(header, bytes)
        } else {
            // Filled in when its last page has passed.
            Node::TooLarge
        };
        let is_open = pages > 1 && matches!(node, Node::TooLarge) && self.may_open(page, length);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let record = self.records.push(Record { page: number, pages, node });
        if is_open {
            let start = page * self.page_size as u64;
            self.work += length;
            self.open.push_back(Open { record, start, end: start + length, header });
        }
    }

    fn may_open(&self, page: u64, length: u64) -> bool {
        let allowed = (page + 1).saturating_mul(self.page_size as u64).saturating_add(self.budget.window as u64);
        length <= self.budget.window as u64 && self.work + length <= allowed.saturating_mul(WORK)
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.window.capacity() - self.window.len() < bytes.len() {
            // Not by doubling: the window is the largest single piece of memory.
            self.window.reserve_exact((self.window.len() / 4).max(64 * 1024).max(bytes.len()));
        }
        self.window.extend_from_slice(bytes);
    }

    /// Reads every candidate that ends here.
    fn complete(&mut self, now: u64) {
        let mut index = 0;
        while index < self.open.len() {
            if self.open[index].end != now {
                index += 1;
                continue;
            }
            let Some(done) = self.open.remove(index) else { break };
            let window = std::mem::take(&mut self.window);
            let offset = usize::try_from(done.start - self.base).unwrap_or(usize::MAX);
            let node = window.get(offset..).map_or(Node::TooLarge, |bytes| self.read(done.header, bytes));
            self.window = window;
            if let Some(record) = self.records.get_mut(done.record) {
                record.node = node;
            }
        }
    }

    /// Forgets what no open candidate needs.
    fn trim(&mut self) {
        let Some(oldest) = self.open.front() else {
            self.window.clear();
            if self.window.capacity() > self.budget.window / 4 {
                self.window = Vec::new();
            }
            return;
        };
        let unused = usize::try_from(oldest.start - self.base).unwrap_or(0);
        // Moving bytes costs: do it when half of the window is unused, or half of the budget.
        if unused > 0 && (unused * 2 >= self.window.len() || unused * 2 >= self.budget.window) {
            self.window.drain(..unused);
            self.base = oldest.start;
        }
    }

    fn read(&mut self, header: Header, bytes: &[u8]) -> Node {
        let read = match header.kind {
            Kind::Meta => Node::Broken { what: "a meta page within the tree" },
            Kind::Freelist => keep(header, bytes),
            Kind::Branch => read_branch(header, bytes),
            Kind::Leaf => read_leaf(header, bytes, self.index.as_mut()),
        };
        let kept = match &read {
            Node::Raw { bytes, .. } => bytes.len(),
            Node::Branch { children, .. } => size_of_val::<[u32]>(children),
            Node::Revisions(_) | Node::Broken { .. } | Node::TooLarge => 0,
        };
        if self.raw + kept > self.budget.raw {
            return Node::TooLarge;
        }
        self.raw += kept;
        read
    }
}

fn keep(header: Header, bytes: &[u8]) -> Node {
    Node::Raw { kind: header.kind, count: header.count, bytes: bytes.into() }
}

const DAMAGED_ELEMENT: Node = Node::Broken { what: "an element is not where bbolt puts it" };

fn read_branch(header: Header, bytes: &[u8]) -> Node {
    let mut children = Vec::with_capacity(usize::from(header.count));
    let mut keys = KeysHash::default();
    for entry in branch_entries(bytes, header.count) {
        let Some((key, page)) = entry else { return DAMAGED_ELEMENT };
        let Ok(page) = u32::try_from(page) else { return Node::Broken { what: "it names a page that cannot be" } };
        keys.push(key);
        children.push(page);
    }
    Node::Branch { children: children.into(), keys: keys.finish() }
}

/// A leaf in a single pass, as long as its keys are revisions.
fn read_leaf(header: Header, bytes: &[u8], mut index: Option<&mut Index>) -> Node {
    let number = index.as_ref().map_or(0, |index| index.next());
    let mut sum = ContentHash::default();
    let mut ends: Option<(Revision, Revision)> = None;
    for entry in leaf_entries(bytes, header.count) {
        let Some(entry) = entry else { return DAMAGED_ELEMENT };
        let Some(revision) = Revision::parse(entry.key).filter(|_| entry.flags == 0).filter(|r| r.served().is_some())
        else {
            return read_raw_leaf(header, bytes);
        };
        let first = match ends {
            Some((_, last)) if !revision.is_behind(last) => return Node::Broken { what: "keys are not in order" },
            Some((first, _)) => first,
            None => revision,
        };
        ends = Some((first, revision));
        sum = sum.plus(ContentHash::of_entry(entry.key, entry.value));
        if let Some(index) = &mut index {
            index.push(revision, entry.value, entry.both);
        }
    }
    let leaf = ends.and_then(|(first, last)| Leaf::new(first, last, header.count, sum, number));
    leaf.map_or_else(|| read_raw_leaf(header, bytes), Node::Revisions)
}

fn read_raw_leaf(header: Header, bytes: &[u8]) -> Node {
    let mut end = table_end(header.count);
    for entry in leaf_entries(bytes, header.count) {
        let Some(LeafEntry { both, .. }) = entry else { return DAMAGED_ELEMENT };
        end += both.len();
    }
    keep(header, bytes.get(..end).unwrap_or(bytes))
}
