//! Snapshots made by hand: of any page size, as large as needed, and wrong in ways that no etcd writes.
#![allow(dead_code)]

use super::corpus::sealed;

/// An entry of a leaf: flags, key, value.
pub type Entry = (u32, Vec<u8>, Vec<u8>);

/// A database in the making.
pub struct Builder {
    pub page_size: usize,
    pub bytes: Vec<u8>,
    /// Of bucket `meta`.
    pub meta: Vec<Entry>,
}

impl Builder {
    pub fn new(page_size: usize) -> Self {
        let index = (0, b"consistent_index".to_vec(), vec![0, 0, 0, 0, 0, 0, 0, 9]);
        Self { page_size, bytes: vec![0; 2 * page_size], meta: vec![index] }
    }

    fn next(&self) -> u64 {
        (self.bytes.len() / self.page_size) as u64
    }

    /// Adds a node and gives its page.
    fn node(&mut self, flags: u16, count: usize, node: &[u8]) -> u64 {
        let page = self.next();
        let pages = (16 + node.len()).div_ceil(self.page_size).max(1);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&header(page, flags, count, pages - 1));
        self.bytes.extend_from_slice(node);
        self.bytes.resize(start + pages * self.page_size, 0);
        page
    }

    pub fn leaf(&mut self, entries: &[Entry]) -> u64 {
        self.node(2, entries.len(), &leaf_body(entries))
    }

    pub fn branch(&mut self, children: &[(Vec<u8>, u64)]) -> u64 {
        let mut body = Vec::new();
        let mut position = 16 * children.len();
        for (index, (key, page)) in children.iter().enumerate() {
            body.extend_from_slice(&((position - 16 * index) as u32).to_le_bytes());
            body.extend_from_slice(&(key.len() as u32).to_le_bytes());
            body.extend_from_slice(&page.to_le_bytes());
            position += key.len();
        }
        children.iter().for_each(|(key, _)| body.extend_from_slice(key));
        self.node(1, children.len(), &body)
    }

    /// A tree over leaves, `fan` children a branch.
    pub fn tree(&mut self, mut level: Vec<(Vec<u8>, u64)>, fan: usize) -> u64 {
        while level.len() > 1 {
            level = level.chunks(fan).map(|children| (children[0].0.clone(), self.branch(children))).collect();
        }
        level[0].1
    }

    /// The root with the buckets that every etcd has, `key` at a page; metas; trailer.
    pub fn finish(mut self, key: u64, freelist: u64) -> Vec<u8> {
        let at_page = |page: u64| [page.to_le_bytes(), [0; 8]].concat();
        let inline = |entries: &[Entry]| [vec![0; 16], header(0, 2, entries.len(), 0), leaf_body(entries)].concat();
        let meta = inline(&self.meta);
        let root = self.leaf(&[
            (1, b"key".to_vec(), at_page(key)),
            (1, b"members".to_vec(), inline(&[])),
            (1, b"meta".to_vec(), meta),
        ]);
        let high_water = self.next();
        let page_size = self.page_size;
        put_metas(&mut self.bytes, page_size, root, freelist, high_water);
        self.bytes.extend_from_slice(&[0; 32]);
        sealed(self.bytes)
    }
}

/// Writes both metas, sound but for what they say.
pub fn put_metas(bytes: &mut [u8], page_size: usize, root: u64, freelist: u64, high_water: u64) {
    for page in [0, 1] {
        let mut meta = Vec::new();
        for field in [0xED0C_DAED_u32, 2, page_size as u32, 0] {
            meta.extend_from_slice(&field.to_le_bytes());
        }
        for field in [root, 0, freelist, high_water, 77 - page] {
            meta.extend_from_slice(&field.to_le_bytes());
        }
        let sum = meta
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        meta.extend_from_slice(&sum.to_le_bytes());
        let at = page as usize * page_size;
        if let Some(place) = bytes.get_mut(at..at + 80) {
            place[..16].copy_from_slice(&header(page, 4, 0, 0));
            place[16..].copy_from_slice(&meta);
        }
    }
}

pub fn header(page: u64, flags: u16, count: usize, overflow: usize) -> Vec<u8> {
    [&page.to_le_bytes()[..], &flags.to_le_bytes(), &(count as u16).to_le_bytes(), &(overflow as u32).to_le_bytes()]
        .concat()
}

fn leaf_body(entries: &[Entry]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut position = 16 * entries.len();
    for (index, (flags, key, value)) in entries.iter().enumerate() {
        for field in [*flags, (position - 16 * index) as u32, key.len() as u32, value.len() as u32] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        position += key.len() + value.len();
    }
    entries.iter().for_each(|(_, key, value)| body.extend([key.as_slice(), value].concat()));
    body
}

/// A key of bucket `key`.
pub fn revision(main: u64, sub: u64, is_tombstone: bool) -> Vec<u8> {
    let mark = if is_tombstone { &b"t"[..] } else { b"" };
    [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), mark].concat()
}

/// A `mvccpb.KeyValue` of a user key of less than 128 bytes and a filling.
pub fn key_value(key: &[u8], filling: usize) -> Vec<u8> {
    [&[0x0a, key.len() as u8], key, &vec![b'.'; filling]].concat()
}

/// A sound snapshot with `leaves` leaves of `entries` revisions each.
pub fn many_leaves(page_size: usize, leaves: u64, entries: u64, fan: usize) -> Vec<u8> {
    let mut builder = Builder::new(page_size);
    let filling = page_size / (entries as usize + 1) - 80;
    let mut level = Vec::new();
    for leaf in 0..leaves {
        let entries: Vec<Entry> = (0..entries)
            .map(|entry| {
                let main = 2 + leaf * entries + entry;
                (0, revision(main, 0, false), key_value(format!("key-{}", main % 5000).as_bytes(), filling))
            })
            .collect();
        level.push((entries[0].1.clone(), builder.leaf(&entries)));
    }
    let key = builder.tree(level, fan);
    builder.finish(key, u64::MAX)
}
