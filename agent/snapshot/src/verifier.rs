//! The verifier: bytes in order, once, in chunks of any size; facts at the end.

use std::io::Read;

use crate::bucket::{BucketReader, Root};
use crate::candidate::{Budget, Candidates, Record};
use crate::error::SnapshotError;
use crate::facts::{Content, Database, Facts};
use crate::page::{Meta, NO_FREELIST};
use crate::trailer::Trailer;
use crate::walk::{Stop, Walk, inline};

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// The SHA-256 at the end.
    Checksum,
    /// Also every page in use.
    #[default]
    Content,
}

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much is checked.
    pub level: Level,
    /// Memory for nodes that are not complete yet, bytes. A value in use that is larger makes the content Unverified.
    pub window_bytes: usize,
    /// Memory for nodes other than leaves of revisions, bytes.
    pub raw_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { level: Level::Content, window_bytes: 16 << 20, raw_bytes: 64 << 20 }
    }
}

/// Bytes that surely hold both metas of the largest page size.
const HEAD: usize = 2 * 65_536;

/// Checks a snapshot as it passes.
pub struct Verifier {
    options: Options,
    trailer: Trailer,
    pages: Pages,
}

impl Verifier {
    /// A verifier that has seen nothing.
    pub fn new(options: Options) -> Self {
        let budget = Budget { window: options.window_bytes, raw: options.raw_bytes };
        Self { options, trailer: Trailer::default(), pages: Pages { budget, head: Vec::new(), body: None } }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as the beginning shows that this is no database of etcd.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Self { options, trailer, pages } = self;
        let mut outcome = Ok(());
        trailer.update(bytes, |part| {
            if options.level == Level::Content && outcome.is_ok() {
                outcome = pages.update(part);
            }
        });
        outcome
    }

    /// Checks the trailer, then walks the tree.
    ///
    /// # Errors
    /// With what is wrong; the trailer comes first, as everything else follows from damage to the bytes.
    pub fn finish(self) -> Result<Facts, SnapshotError> {
        let Self { options, trailer, pages } = self;
        let (size, file_sha256) = trailer.finish()?;
        let content = match options.level {
            Level::Checksum => Content::Unverified { reason: "only the checksum was asked for" },
            Level::Content => pages.finish()?,
        };
        Ok(Facts { size, file_sha256, content })
    }
}

/// Cuts the stream into pages.
struct Pages {
    budget: Budget,
    /// The beginning, until it tells the page size.
    head: Vec<u8>,
    body: Option<Body>,
}

struct Body {
    meta: Meta,
    next: u64,
    partial: Vec<u8>,
    candidates: Candidates,
}

impl Pages {
    fn update(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        match &mut self.body {
            Some(body) => body.update(bytes),
            None => {
                self.head.extend_from_slice(bytes);
                if self.head.len() >= HEAD {
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    /// Finds the metas in the head and goes on from there.
    fn begin(&mut self) -> Result<(), SnapshotError> {
        let head = std::mem::take(&mut self.head);
        let first = Meta::parse(&head);
        let sizes = (10..=16).map(|bits| 1_usize << bits);
        let second = sizes
            .filter_map(|size| Meta::parse(head.get(size..)?).filter(|meta| meta.page_size as usize == size))
            .next();
        let meta = first.into_iter().chain(second).max_by_key(|meta| meta.txid).ok_or(SnapshotError::NoMeta)?;
        let candidates = Candidates::new(meta.page_size as usize, self.budget);
        let body = self.body.insert(Body { meta, next: 0, partial: Vec::new(), candidates });
        body.update(&head);
        Ok(())
    }

    fn finish(mut self) -> Result<Content, SnapshotError> {
        if self.body.is_none() {
            self.begin()?;
        }
        self.body.map_or(Err(SnapshotError::NoMeta), Body::finish)
    }
}

impl Body {
    fn update(&mut self, bytes: &[u8]) {
        let size = self.meta.page_size as usize;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let missing = (size - self.partial.len()).min(rest.len());
            let (now, later) = rest.split_at(missing);
            self.partial.extend_from_slice(now);
            rest = later;
            if self.partial.len() < size {
                return;
            }
            let page = std::mem::take(&mut self.partial);
            self.page(&page);
            self.partial = page;
            self.partial.clear();
        }
        let whole = rest.chunks_exact(size);
        self.partial.extend_from_slice(whole.remainder());
        whole.for_each(|page| self.page(page));
    }

    fn page(&mut self, bytes: &[u8]) {
        self.candidates.page(self.next, bytes);
        self.next += 1;
    }

    fn finish(self) -> Result<Content, SnapshotError> {
        let Self { meta, next, partial: _, candidates } = self;
        if meta.high_water > next {
            return Err(SnapshotError::PagesMissing { wanted: meta.high_water, found: next });
        }
        let mut records = candidates.records;
        records.sort_unstable_by_key(|record| record.page);
        match walk(&meta, &records) {
            Ok(database) => Ok(Content::Verified(Box::new(database))),
            Err(Stop::TooLarge) => Ok(Content::Unverified { reason: "a node is larger than the memory allowed" }),
            Err(Stop::Damaged(error)) => Err(error),
        }
    }
}

fn walk(meta: &Meta, records: &[Record]) -> Result<Database, Stop> {
    let mut walk = Walk::new(records, meta.high_water);
    walk.claim(0, 2)?;
    if meta.freelist != NO_FREELIST {
        walk.freelist(meta.freelist)?;
    }
    let mut root = Root::default();
    walk.tree(meta.root, &mut root)?;
    let mut facts = Database { page_size: meta.page_size, total_pages: meta.high_water, ..Database::default() };
    for (name, page, inline_page) in &root.buckets {
        let name = String::from_utf8_lossy(name);
        let mut reader = BucketReader { name: &name, facts: &mut facts };
        match page {
            0 => inline(meta.root, inline_page, &mut reader)?,
            page => walk.tree(*page, &mut reader)?,
        }
    }
    for required in ["key", "meta", "members"] {
        if !root.buckets.iter().any(|(name, _, _)| name == required.as_bytes()) {
            return Err(SnapshotError::BucketMissing { name: required }.into());
        }
    }
    facts.revision = facts.revision.max(facts.compact_revision).max(1);
    facts.in_use_pages = walk.in_use;
    Ok(facts)
}

/// Verifies a whole file or stream.
///
/// # Errors
/// With what is wrong, or what reading said.
pub fn verify_reader(mut reader: impl Read, options: Options) -> Result<Facts, SnapshotError> {
    let mut verifier = Verifier::new(options);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return verifier.finish(),
            Ok(count) => verifier.update(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SnapshotError::Read(error.to_string())),
        }
    }
}
