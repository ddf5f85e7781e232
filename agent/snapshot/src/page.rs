//! bbolt pages (little endian): headers, metas, elements. Every reader is bounded by the slice it is given.

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
    pub root: u64,
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
            root: u64_at(body, 16)?,
            freelist: u64_at(body, 32)?,
            high_water: u64_at(body, 40)?,
            txid: u64_at(body, 48)?,
        })
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
}

/// The entries of a leaf node in order; an item is `None` where one points outside the node.
pub(crate) fn leaf_entries(node: &[u8], count: u16) -> impl Iterator<Item = Option<LeafEntry<'_>>> {
    (0..usize::from(count)).map(move |index| {
        let at = HEADER + index * ELEMENT;
        let start = at.checked_add(u32_at(node, at + 4)? as usize)?;
        let middle = start.checked_add(u32_at(node, at + 8)? as usize)?;
        let end = middle.checked_add(u32_at(node, at + 12)? as usize)?;
        // Data lies behind the table, or the node is not one that bbolt wrote.
        (start >= HEADER + usize::from(count) * ELEMENT).then_some(())?;
        Some(LeafEntry { flags: u32_at(node, at)?, key: node.get(start..middle)?, value: node.get(middle..end)? })
    })
}

/// The children of a branch node in order: smallest key and page. An item is `None` where one points outside the node.
pub(crate) fn branch_entries(node: &[u8], count: u16) -> impl Iterator<Item = Option<(&[u8], u64)>> {
    (0..usize::from(count)).map(move |index| {
        let at = HEADER + index * ELEMENT;
        let start = at.checked_add(u32_at(node, at)? as usize)?;
        let end = start.checked_add(u32_at(node, at + 4)? as usize)?;
        (start >= HEADER + usize::from(count) * ELEMENT).then_some(())?;
        Some((node.get(start..end)?, u64_at(node, at + 8)?))
    })
}
