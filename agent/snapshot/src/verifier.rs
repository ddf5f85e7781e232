//! The verifier: bytes in order, once, in chunks of any size; facts at the end.

use std::io::Read;

use crate::bucket::{BucketReader, Root};
use crate::candidate::{Budget, Candidates};
use crate::error::SnapshotError;
use crate::facts::{Content, Database, Facts};
use crate::hash_kv::{HashKv, HashKvError, Index, Runs, Scratch};
use crate::page::{Meta, NO_FREELIST};
use crate::record::{Chunked, Record};
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
    /// The longest node of several pages, bytes: one in use that is longer makes the content Unverified. Memory for
    /// nodes that are not complete yet is at most twice of it, and on a sound snapshot little more than its longest node.
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
        Self::of(options, None)
    }

    /// A verifier that also keeps what [`HashKv`] is computed from, 24 bytes an entry, in `scratch`.
    pub fn with_hash_kv(options: Options, scratch: Box<dyn Scratch>) -> Self {
        Self::of(options, Some(Index::new(scratch)))
    }

    fn of(options: Options, index: Option<Index>) -> Self {
        let budget = Budget { window: options.window_bytes, raw: options.raw_bytes };
        Self { options, trailer: Trailer::default(), pages: Pages { budget, index, head: Vec::new(), body: None } }
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
        self.finish_with_hash_kv().map(|(facts, _)| facts)
    }

    /// Like [`Verifier::finish`], with what [`Verifier::with_hash_kv`] kept. That something is wrong with it never makes
    /// a snapshot bad.
    ///
    /// # Errors
    /// As [`Verifier::finish`].
    pub fn finish_with_hash_kv(self) -> Result<(Facts, Result<HashKv, HashKvError>), SnapshotError> {
        let Self { options, trailer, pages } = self;
        let (size, file_sha256) = trailer.finish()?;
        let unverified = |reason| (Content::Unverified { reason }, Err(HashKvError::Unverified { reason }));
        let (content, hash_kv) = match options.level {
            Level::Checksum => unverified("only the checksum was asked for"),
            Level::Content => match pages.finish() {
                Ok((database, hash_kv)) => (Content::Verified(Box::new(database)), hash_kv),
                Err(Stop::TooLarge) => unverified("a node is larger than the memory allowed"),
                Err(Stop::Damaged(error)) => return Err(error),
            },
        };
        Ok((Facts { size, file_sha256, content }, hash_kv))
    }
}

/// Cuts the stream into pages.
struct Pages {
    budget: Budget,
    index: Option<Index>,
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
        let (head, rest) = match &self.body {
            Some(_) => (&[][..], bytes),
            None => bytes.split_at(bytes.len().min(HEAD - self.head.len())),
        };
        self.head.extend_from_slice(head);
        if self.body.is_none() && self.head.len() == HEAD {
            self.begin()?;
        }
        if let Some(body) = &mut self.body {
            body.update(rest);
        }
        Ok(())
    }

    /// Finds the metas in the head and goes on from there.
    fn begin(&mut self) -> Result<(), SnapshotError> {
        let head = std::mem::take(&mut self.head);
        let meta = Meta::of_snapshot(&head)?;
        let candidates = Candidates::new(&meta, self.budget, self.index.take());
        let body = self.body.insert(Body { meta, next: 0, partial: Vec::new(), candidates });
        body.update(&head);
        Ok(())
    }

    fn finish(mut self) -> Result<(Database, Result<HashKv, HashKvError>), Stop> {
        if self.body.is_none() {
            self.begin()?;
        }
        self.body.map_or(Err(SnapshotError::NoMeta.into()), Body::finish)
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

    fn finish(self) -> Result<(Database, Result<HashKv, HashKvError>), Stop> {
        let Self { meta, next, partial: _, candidates } = self;
        if meta.high_water > next {
            return Err(SnapshotError::PagesMissing { wanted: meta.high_water, found: next }.into());
        }
        let Candidates { records, mut index, .. } = candidates;
        let mut runs = Runs::default();
        let database = walk(&meta, &records, index.as_mut().map(|index| (index, &mut runs)))?;
        // What can be gone is what the compaction began to take.
        let floor = database.compact_revision.max(database.scheduled_compact_revision);
        let newest = database.revision;
        let hash_kv = match index.map(Index::finish) {
            Some(Ok(scratch)) => Ok(HashKv::new(scratch, runs, floor, newest)),
            Some(Err(error)) => Err(HashKvError::Scratch(error)),
            None => Err(HashKvError::Unverified { reason: "HashKV was not asked for" }),
        };
        Ok((database, hash_kv))
    }
}

fn walk(meta: &Meta, records: &Chunked<Record>, mut index: Option<(&mut Index, &mut Runs)>) -> Result<Database, Stop> {
    let mut walk = Walk::new(records, meta.high_water);
    walk.claim(0, 2)?;
    let mut root = Root::default();
    walk.tree(meta.root, &mut root)?;
    let mut facts = Database { page_size: meta.page_size, total_pages: meta.high_water, ..Database::default() };
    for bucket in &root.buckets {
        let name = String::from_utf8_lossy(&bucket.name);
        let index = index.as_mut().map(|(index, runs)| (&mut **index, &mut **runs));
        let mut reader = BucketReader::new(&name, &mut facts, index);
        match bucket.root {
            0 => inline(meta.root, bucket, &mut reader)?,
            page => walk.tree(page, &mut reader)?,
        }
        reader.finish(bucket);
    }
    if meta.freelist != NO_FREELIST {
        walk.freelist(meta.freelist)?;
    }
    for required in ["key", "meta", "members"] {
        if !root.buckets.iter().any(|bucket| bucket.name == required.as_bytes()) {
            return Err(SnapshotError::BucketMissing { name: required }.into());
        }
    }
    // As a server counts that starts from it (mvcc/kvstore.go, restore): compaction may have dropped the newest
    // revisions, and may have been interrupted after that (etcd-io/etcd#17780).
    facts.revision = facts.revision.max(facts.compact_revision).max(facts.scheduled_compact_revision).max(1);
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
