//! The versions of keys in a snapshot that was proven: a walk from the root through bucket `key`, one node in memory at a time.
//!
//! For whoever wants to know *what* is in a snapshot, not whether it is sound: that the verifier has said before. Damage that
//! it would have found ends the walk with an error all the same; no byte is trusted.

use std::io::{self, Read, Seek, SeekFrom};

use crate::page::{BUCKET_FLAG, HEADER, Header, Kind, Meta, branch_entries, leaf_entries, u64_at};
use crate::revision::Revision;

/// The two meta pages of the largest page size.
const HEAD: u64 = 2 << 16;
/// Deeper than any tree bbolt makes of 2⁶⁴ keys.
const MAX_DEPTH: usize = 24;
/// etcd takes no request above 1.5 MiB by default, and none above 512 MiB at all.
const LARGEST_NODE: u64 = 1 << 30;

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyVersion<'k> {
    /// The key.
    pub key: &'k [u8],
    /// Revision of this version.
    pub mod_revision: i64,
    /// Whether the key was deleted at that revision.
    pub is_tombstone: bool,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not what was proven.
    #[error("the snapshot is not sound at page {0}: verify it first")]
    Damaged(u64),
}

/// Visits every version of every key in the order of revisions; the newest version of a key comes last.
///
/// # Errors
/// The file cannot be read, or is not sound.
pub fn visit_keys(file: &mut (impl Read + Seek), visit: &mut dyn FnMut(KeyVersion<'_>)) -> Result<(), KeysError> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    let meta = Meta::of_snapshot(&head).map_err(|_| KeysError::Damaged(0))?;
    let (page_size, high_water) = (u64::from(meta.page_size), meta.high_water);
    let mut walk = Walk { file, page_size, high_water, left: high_water };
    let mut bucket = None;
    walk.node(meta.root, 0, &mut |entry_key, flags, value| {
        if entry_key == b"key" && flags & BUCKET_FLAG != 0 {
            bucket = Some(value.to_vec());
        }
        Some(())
    })?;
    let Some(bucket) = bucket else { return Ok(()) };
    let mut each = |key: &[u8], _: u32, value: &[u8]| {
        let revision = Revision::parse(key)?;
        let (mod_revision, key) = (revision.served()?, key_of(value)?);
        visit(KeyVersion { key, mod_revision, is_tombstone: revision.is_tombstone });
        Some(())
    };
    match u64_at(&bucket, 0).ok_or(KeysError::Damaged(meta.root))? {
        // A bucket so small that it lies in its parent, behind its own header.
        0 => {
            let node = bucket.get(16..).unwrap_or_default();
            let header = Header::parse(node).filter(|header| header.kind == Kind::Leaf);
            let count = header.ok_or(KeysError::Damaged(meta.root))?.count;
            leaf(node, count, &mut each).ok_or(KeysError::Damaged(meta.root))
        }
        root => walk.node(root, 0, &mut each),
    }
}

type Each<'e> = &'e mut dyn FnMut(&[u8], u32, &[u8]) -> Option<()>;

struct Walk<'f, F> {
    file: &'f mut F,
    page_size: u64,
    high_water: u64,
    /// Nodes that may still be read: a tree has no more of them than pages.
    left: u64,
}

impl<F: Read + Seek> Walk<'_, F> {
    fn node(&mut self, page: u64, depth: usize, each: Each<'_>) -> Result<(), KeysError> {
        let damaged = || KeysError::Damaged(page);
        if depth > MAX_DEPTH || page >= self.high_water || self.left == 0 {
            return Err(damaged());
        }
        self.left -= 1;
        let mut header = [0; HEADER];
        self.file.seek(SeekFrom::Start(page.checked_mul(self.page_size).ok_or_else(damaged)?))?;
        self.file.read_exact(&mut header)?;
        let header = Header::parse(&header).filter(|header| header.id == page).ok_or_else(damaged)?;
        let pages = u64::from(header.overflow) + 1;
        let length = pages.checked_mul(self.page_size).filter(|length| *length <= LARGEST_NODE).ok_or_else(damaged)?;
        let mut node = Vec::new();
        self.file.seek(SeekFrom::Start(page * self.page_size))?;
        self.file.by_ref().take(length).read_to_end(&mut node)?;
        match header.kind {
            Kind::Leaf => leaf(&node, header.count, each).ok_or_else(damaged),
            Kind::Branch => {
                let children: Option<Vec<u64>> =
                    branch_entries(&node, header.count).map(|entry| entry.map(|(_, child)| child)).collect();
                drop(node);
                children.ok_or_else(damaged)?.into_iter().try_for_each(|child| self.node(child, depth + 1, &mut *each))
            }
            Kind::Meta | Kind::Freelist => Err(damaged()),
        }
    }
}

fn leaf(node: &[u8], count: u16, each: Each<'_>) -> Option<()> {
    for entry in leaf_entries(node, count) {
        let entry = entry?;
        each(entry.key, entry.flags, entry.value)?;
    }
    Some(())
}

/// Field 1 of etcd's KeyValue, which comes first (protobuf writes fields in order).
fn key_of(value: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = value.split_first()?;
    (tag == 0x0a).then_some(())?;
    let (mut length, mut shift) = (0_usize, 0);
    for (at, byte) in rest.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return rest.get(at + 1..)?.get(..length);
        }
    }
    None
}
