//! Nodes as they pass: every page that could begin a node is read as one, whether the tree will vouch for it or not.
//!
//! Free pages keep stale headers whose overflow may span live pages, so nothing is skipped on a header's word: several
//! candidates are open at once and share one window of bytes. Where the window would grow past its budget the oldest
//! candidate is given up, and remembered as such.

use std::collections::VecDeque;

use crate::content_hash::ContentHash;
use crate::page::{HEADER, Header, Kind, branch_entries, leaf_entries};

/// Bytes of a revision key without the mark of a tombstone.
const REVISION_KEY: usize = 17;

/// What a candidate turned out to be.
#[derive(Debug)]
pub(crate) enum Node {
    /// A leaf whose keys are all revisions: of bucket `key`, if the tree says so.
    Revisions { first: [u8; REVISION_KEY], last: [u8; REVISION_KEY], entries: u32, sum: ContentHash },
    /// Any other leaf, or a branch, or the free list: kept as it is; there are few, and only the tree tells what they mean.
    Raw { kind: Kind, count: u16, bytes: Box<[u8]> },
    /// Its elements make no sense.
    Broken { what: &'static str },
    /// More than the window or the store of raw nodes could hold.
    TooLarge,
}

/// A candidate that is complete.
#[derive(Debug)]
pub(crate) struct Record {
    pub page: u32,
    /// Pages of the node, overflow included.
    pub pages: u32,
    pub node: Node,
}

struct Open {
    page: u64,
    /// Offset in the window, counted from the beginning of the file.
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
    budget: Budget,
    window: Vec<u8>,
    /// Offset in the file of the first byte of the window.
    base: u64,
    open: VecDeque<Open>,
    raw: usize,
    pub records: Vec<Record>,
}

impl Candidates {
    pub fn new(page_size: usize, budget: Budget) -> Self {
        Self { page_size, budget, window: Vec::new(), base: 0, open: VecDeque::new(), raw: 0, records: Vec::new() }
    }

    /// Takes one page; pages come in order, from 0.
    pub fn page(&mut self, page: u64, bytes: &[u8]) {
        let start = page * self.page_size as u64;
        if let Some(header) = Header::parse(bytes).filter(|header| header.id == page && header.kind != Kind::Meta) {
            let end = start + (u64::from(header.overflow) + 1) * self.page_size as u64;
            self.open.push_back(Open { page, start, end, header });
        }
        if self.open.is_empty() {
            return;
        }
        if self.window.is_empty() {
            self.base = start;
        }
        self.window.extend_from_slice(bytes);
        let now = start + self.page_size as u64;
        self.complete(now);
        while self.window.len() > self.budget.window {
            let Some(oldest) = self.open.pop_front() else { break };
            self.record(&oldest, Node::TooLarge);
            self.trim();
        }
    }

    /// Reads every candidate that ends here, and forgets what no open one needs.
    fn complete(&mut self, now: u64) {
        let mut index = 0;
        while index < self.open.len() {
            if self.open[index].end != now {
                index += 1;
                continue;
            }
            let Some(done) = self.open.remove(index) else { break };
            let offset = usize::try_from(done.start - self.base).unwrap_or(usize::MAX);
            let node = match self.window.get(offset..) {
                Some(bytes) => read_node(done.header, bytes),
                None => Node::TooLarge,
            };
            self.record(&done, node);
        }
        self.trim();
    }

    fn trim(&mut self) {
        match self.open.front() {
            None => self.window.clear(),
            Some(oldest) => {
                let unused = usize::try_from(oldest.start - self.base).unwrap_or(0);
                // Moving bytes costs; do it when half of the window is unused.
                if unused > 0 && unused * 2 >= self.window.len() {
                    self.window.drain(..unused);
                    self.base = oldest.start;
                }
            }
        }
    }

    fn record(&mut self, open: &Open, mut node: Node) {
        if let Node::Raw { bytes, .. } = &node {
            if self.raw + bytes.len() > self.budget.raw {
                node = Node::TooLarge;
            } else {
                self.raw += bytes.len();
            }
        }
        // A page number beyond u32 is a database of more than 16 TiB; etcd's limit is far below.
        if let (Ok(page), Ok(pages)) =
            (u32::try_from(open.page), u32::try_from((open.end - open.start) / self.page_size as u64))
        {
            self.records.push(Record { page, pages, node });
        }
    }
}

fn read_node(header: Header, bytes: &[u8]) -> Node {
    let raw = |upto: usize| Node::Raw { kind: header.kind, count: header.count, bytes: bytes[..upto].into() };
    match header.kind {
        Kind::Meta => Node::Broken { what: "a meta page within the tree" },
        // Its body is of no use to us; only that it is there.
        Kind::Freelist => raw(HEADER),
        Kind::Branch if branch_entries(bytes, header.count).all(|entry| entry.is_some()) => raw(bytes.len()),
        Kind::Branch => Node::Broken { what: "an element points outside of the node" },
        Kind::Leaf => read_leaf(header, bytes, raw),
    }
}

fn read_leaf(header: Header, bytes: &[u8], raw: impl Fn(usize) -> Node) -> Node {
    let mut sum = ContentHash::default();
    let mut first = None;
    let mut last: Option<[u8; REVISION_KEY]> = None;
    let mut entries = 0;
    for entry in leaf_entries(bytes, header.count) {
        let Some(entry) = entry else { return Node::Broken { what: "an element points outside of the node" } };
        let Some(revision) = revision_key(entry.key).filter(|_| entry.flags == 0) else { return raw(bytes.len()) };
        // A revision and its tombstone share 17 bytes and cannot both be there: order is strict on them.
        if last.is_some_and(|last| last >= revision) {
            return Node::Broken { what: "keys are not in order" };
        }
        sum = sum.plus(ContentHash::of_entry(entry.key, entry.value));
        first.get_or_insert(revision);
        last = Some(revision);
        entries += 1;
    }
    match (first, last) {
        (Some(first), Some(last)) => Node::Revisions { first, last, entries, sum },
        _ => raw(bytes.len().min(HEADER)),
    }
}

/// The first 17 bytes of a key of bucket `key`: main, '_', sub; `None` for any other key.
pub(crate) fn revision_key(key: &[u8]) -> Option<[u8; REVISION_KEY]> {
    let shape = match key.len() {
        17 => true,
        18 => key[17] == b't',
        _ => false,
    };
    (shape && key[8] == b'_').then(|| key[..REVISION_KEY].try_into().ok()).flatten()
}

/// The main revision of a key of bucket `key`.
pub(crate) fn main_revision(key: &[u8]) -> Option<i64> {
    key.get(..8)?.try_into().ok().map(i64::from_be_bytes)
}
