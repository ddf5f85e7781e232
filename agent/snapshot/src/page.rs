//! bbolt pages (little endian): headers, metas, elements. Every reader is bounded by the slice it is given.

use crate::error::SnapshotError;

/// Bytes of a page header.
pub(crate) const HEADER: usize = 16;
/// Bytes of a leaf or branch element.
const ELEMENT: usize = 16;
/// Element flag of a leaf: the value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const FORMAT: u32 = 2;
/// `freelist` of a meta whose free list is not kept on disk.
pub(crate) const NO_FREELIST: u64 = u64::MAX;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
    Meta,
    Freelist,
}

/// The first 16 bytes of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub id: u64,
    pub kind: Kind,
    pub count: u16,
    /// Further pages of the same node.
    pub overflow: u32,
}

impl Header {
    /// Reads a header; `None` where it carries none or several of the known flags.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = match u16_at(bytes, 8)? {
            0x01 => Kind::Branch,
            0x02 => Kind::Leaf,
            0x04 => Kind::Meta,
            0x10 => Kind::Freelist,
            _ => return None,
        };
        Some(Self { id: u64_at(bytes, 0)?, kind, count: u16_at(bytes, 10)?, overflow: u32_at(bytes, 12)? })
    }
}

/// A valid meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_size: u32,
    pub flags: u32,
    pub root: u64,
    pub sequence: u64,
    pub freelist: u64,
    pub high_water: u64,
    pub txid: u64,
}

impl Meta {
    /// Reads the meta in a page; `None` where its magic, version, page size or checksum is wrong.
    pub fn parse(page: &[u8]) -> Option<Self> {
        let body = page.get(HEADER..HEADER + 64)?;
        let checksum = fnv1a(body.get(..56)?);
        let page_size = u32_at(body, 8)?;
        let sound = u32_at(body, 0)? == MAGIC
            && u32_at(body, 4)? == FORMAT
            && u64_at(body, 56)? == checksum
            && page_size.is_power_of_two()
            && (1024..=65_536).contains(&page_size);
        sound.then_some(Self {
            page_size,
            flags: u32_at(body, 12)?,
            root: u64_at(body, 16)?,
            sequence: u64_at(body, 24)?,
            freelist: u64_at(body, 32)?,
            high_water: u64_at(body, 40)?,
            txid: u64_at(body, 48)?,
        })
    }

    /// Reads the metas at the beginning of a snapshot.
    ///
    /// In a database file only the newer of the two counts, and bbolt never looks at the header of their pages. A
    /// snapshot is stricter, in every bbolt from 1.3 to 1.5: `Tx.WriteTo` writes both from one and the same meta, with
    /// a header, and the second one transaction older. Whatever is not so was damaged later.
    pub fn of_snapshot(head: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |page, what| Err(SnapshotError::Page { page, what });
        let Some(first) = Self::parse(head) else {
            let second = |bits: u32| head.get(1 << bits..).and_then(Self::parse);
            return match (10..=16).find_map(second) {
                Some(_) => damaged(0, "it is no valid meta page, though the other one is"),
                None => Err(SnapshotError::NoMeta),
            };
        };
        let behind = head.get(first.page_size as usize..).unwrap_or_default();
        let Some(second) = Self::parse(behind) else {
            return damaged(1, "it is no valid meta page, though the other one is");
        };
        if second != (Self { txid: first.txid.wrapping_sub(1), ..first }) {
            return damaged(1, "it is not the meta of page 0, one transaction older, as in every snapshot");
        }
        for (page, bytes) in [(0, head), (1, behind)] {
            let header = Header::parse(bytes);
            let is_plain = |header: Header| {
                header.id == page && header.kind == Kind::Meta && header.count == 0 && header.overflow == 0
            };
            if !header.is_some_and(is_plain) {
                return damaged(page, "its header is not that of a meta page");
            }
        }
        Ok(first)
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// An entry of a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafEntry<'p> {
    pub flags: u32,
    pub key: &'p [u8],
    pub value: &'p [u8],
    /// Key and value, which lie next to each other.
    pub both: &'p [u8],
}

/// The entries of a node in order; an item is `None` where an element is not as bbolt lays it out.
///
/// bbolt writes keys and values one after the other, without a gap, behind the table of elements, and asserts that
/// keys are not empty. Holding it to that catches every flipped bit of a position, and bounds the work on hostile
/// bytes: elements that overlap could make one page of 250 of them cost as much as 250 of the largest values.
struct Cursor<'p> {
    node: &'p [u8],
    /// Where the next element's key must begin.
    end: usize,
}

impl<'p> Cursor<'p> {
    fn new(node: &'p [u8], count: u16) -> Self {
        Self { node, end: table_end(count) }
    }

    /// Key and value of an element at `at`, from fields read of it.
    fn take(&mut self, at: usize, pos: u32, key: u32, value: u32) -> Option<(&'p [u8], &'p [u8], &'p [u8])> {
        let start = at.checked_add(pos as usize)?;
        let middle = start.checked_add(key as usize)?;
        let end = middle.checked_add(value as usize)?;
        (start == self.end && middle > start).then_some(())?;
        let both = self.node.get(start..end)?;
        self.end = end;
        let (key, value) = both.split_at_checked(middle - start)?;
        Some((key, value, both))
    }
}

/// Offset of the first byte behind the table of elements.
pub(crate) fn table_end(count: u16) -> usize {
    HEADER + usize::from(count) * ELEMENT
}

/// The entries of a leaf node in order; an item is `None` where an element is damaged.
pub(crate) fn leaf_entries(node: &[u8], count: u16) -> impl Iterator<Item = Option<LeafEntry<'_>>> {
    let mut cursor = Cursor::new(node, count);
    (0..usize::from(count)).map(move |index| {
        let at = HEADER + index * ELEMENT;
        let (pos, key, value) = (u32_at(node, at + 4)?, u32_at(node, at + 8)?, u32_at(node, at + 12)?);
        let (key, value, both) = cursor.take(at, pos, key, value)?;
        Some(LeafEntry { flags: u32_at(node, at)?, key, value, both })
    })
}

/// The children of a branch node in order: smallest key and page. An item is `None` where an element is damaged.
pub(crate) fn branch_entries(node: &[u8], count: u16) -> impl Iterator<Item = Option<(&[u8], u64)>> {
    let mut cursor = Cursor::new(node, count);
    (0..usize::from(count)).map(move |index| {
        let at = HEADER + index * ELEMENT;
        let (key, _, _) = cursor.take(at, u32_at(node, at)?, u32_at(node, at + 4)?, 0)?;
        Some((key, u64_at(node, at + 8)?))
    })
}

/// The page ids in a free list; `None` where its count exceeds its pages.
pub(crate) fn freelist_ids(node: &[u8], count: u16) -> Option<impl Iterator<Item = u64>> {
    // A count of 0xffff means that the count is the first number.
    let (from, count) = match count {
        u16::MAX => (HEADER + 8, usize::try_from(u64_at(node, HEADER)?).ok()?),
        count => (HEADER, usize::from(count)),
    };
    let bytes = node.get(from..from.checked_add(count.checked_mul(8)?)?)?;
    Some(bytes.chunks_exact(8).filter_map(|id| u64_at(id, 0)))
}
