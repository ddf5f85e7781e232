//! The index: what every entry of a leaf of revisions leaves behind as it passes, in use or not.

use xxhash_rust::xxh3::xxh3_64;

use super::scratch::Scratch;
use crate::record::Chunked;
use crate::revision::Revision;

/// Bytes of an item.
const ITEM: usize = 24;
/// Items written and read at once.
const BATCH: usize = 2048;
/// Bit of the main revision, which is never negative, that marks a tombstone.
const TOMBSTONE: u64 = 1 << 63;

/// What is known of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub main: u64,
    pub is_tombstone: bool,
    /// Of the user key. Two keys of one fingerprint would give a wrong hash: at 10⁷ keys once in 370,000 databases.
    pub fingerprint: u64,
    /// Of key and value.
    pub crc: u32,
    /// Of key and value, bytes.
    pub length: u32,
}

impl Item {
    fn write(self, buffer: &mut Vec<u8>) {
        let Self { main, is_tombstone, fingerprint, crc, length } = self;
        let mark = if is_tombstone { TOMBSTONE } else { 0 };
        buffer.extend_from_slice(&(main & !TOMBSTONE | mark).to_le_bytes());
        buffer.extend_from_slice(&fingerprint.to_le_bytes());
        buffer.extend_from_slice(&crc.to_le_bytes());
        buffer.extend_from_slice(&length.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let u64_at = |at| crate::page::u64_at(bytes, at).unwrap_or_default();
        let u32_at = |at| crate::page::u32_at(bytes, at).unwrap_or_default();
        Self {
            main: u64_at(0) & !TOMBSTONE,
            is_tombstone: u64_at(0) & TOMBSTONE != 0,
            fingerprint: u64_at(8),
            crc: u32_at(16),
            length: u32_at(20),
        }
    }
}

/// The items in the order of their pages. Once it has failed it takes nothing more.
pub(crate) struct Index {
    scratch: Box<dyn Scratch>,
    buffer: Vec<u8>,
    next: u32,
    failed: Option<String>,
}

impl Index {
    pub fn new(scratch: Box<dyn Scratch>) -> Self {
        Self { scratch, buffer: Vec::new(), next: 0, failed: None }
    }

    /// Number of the next item.
    pub fn next(&self) -> u32 {
        self.next
    }

    pub fn push(&mut self, revision: Revision, value: &[u8], both: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let Some(next) = self.next.checked_add(1) else {
            self.failed = Some("more than 2³² entries".to_owned());
            return;
        };
        self.next = next;
        let item = Item {
            main: revision.main,
            is_tombstone: revision.is_tombstone,
            fingerprint: xxh3_64(user_key(value)),
            crc: crc_fast::crc32_iscsi(both),
            length: u32::try_from(both.len()).unwrap_or(u32::MAX),
        };
        item.write(&mut self.buffer);
        if self.buffer.len() >= BATCH * ITEM {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.scratch.append(&self.buffer) {
            self.failed = Some(error.to_string());
        }
        self.buffer.clear();
    }

    /// What to read from, or why there is nothing.
    pub fn finish(mut self) -> Result<Box<dyn Scratch>, String> {
        if self.failed.is_none() {
            self.flush();
        }
        self.failed.map_or(Ok(self.scratch), Err)
    }
}

/// The key of a `mvccpb.KeyValue`, its field 1, which etcd writes first; empty where it is not there, as in the record
/// that `etcdutl snapshot restore --bump-revision` leaves.
fn user_key(value: &[u8]) -> &[u8] {
    let read = || {
        let (tag, mut rest) = value.split_first()?;
        (*tag == 0x0a).then_some(())?;
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return rest.get(..length);
            }
        }
        None
    };
    read().unwrap_or_default()
}

/// Which items are in use, in the order of their keys.
#[derive(Default)]
pub(crate) struct Runs {
    runs: Chunked<(u32, u32)>,
    last: Option<usize>,
    pub(super) items: u64,
}

impl Runs {
    pub fn push(&mut self, first: u32, count: u32) {
        self.items += u64::from(count);
        // Leaves that follow each other in the file make one run: reading is the faster for it.
        if let Some(last) = self.last.and_then(|last| self.runs.get_mut(last))
            && last.0.checked_add(last.1) == Some(first)
            && let Some(sum) = last.1.checked_add(count)
        {
            last.1 = sum;
            return;
        }
        self.last = Some(self.runs.push((first, count)));
    }

    /// The items from the first to the last.
    pub(super) fn forward(&self, scratch: &mut dyn Scratch, mut each: impl FnMut(Item)) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        for (first, count) in self.runs.iter() {
            for (from, count) in batches(*first, *count) {
                read(scratch, from, count, &mut buffer)?;
                buffer.chunks_exact(ITEM).for_each(|item| each(Item::read(item)));
            }
        }
        Ok(())
    }

    /// The items from the last to the first.
    pub(super) fn backward(&self, scratch: &mut dyn Scratch, mut each: impl FnMut(Item)) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        for (first, count) in self.runs.iter().rev() {
            for (from, count) in batches(*first, *count).rev() {
                read(scratch, from, count, &mut buffer)?;
                buffer.chunks_exact(ITEM).rev().for_each(|item| each(Item::read(item)));
            }
        }
        Ok(())
    }
}

/// A run in pieces of at most [`BATCH`] items.
fn batches(first: u32, count: u32) -> impl DoubleEndedIterator<Item = (u64, usize)> {
    (0..(count as usize).div_ceil(BATCH)).map(move |batch| {
        let from = batch * BATCH;
        (u64::from(first) + from as u64, BATCH.min(count as usize - from))
    })
}

fn read(scratch: &mut dyn Scratch, from: u64, count: usize, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    buffer.resize(count * ITEM, 0);
    scratch.read_at(from * ITEM as u64, buffer)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::MemoryScratch;
    use super::*;

    #[test]
    fn items_read_back_in_the_order_of_the_runs_both_ways() {
        let mut index = Index::new(Box::new(MemoryScratch::new(1 << 20)));
        for main in 0..9000 {
            let revision = Revision { main, sub: 0, is_tombstone: main % 7 == 0 };
            index.push(revision, b"\x0a\x03abc", b"both");
        }
        let mut scratch = index.finish().unwrap();
        let mut runs = Runs::default();
        [(6000, 3000), (0, 10), (10, 2990), (4000, 1)].into_iter().for_each(|(first, count)| runs.push(first, count));
        let wanted: Vec<u64> = (6000..9000).chain(0..3000).chain([4000]).collect();
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        runs.forward(scratch.as_mut(), |item| {
            assert_eq!(item.is_tombstone, item.main % 7 == 0);
            assert_eq!((item.crc, item.length), (crc_fast::crc32_iscsi(b"both"), 4));
            forward.push(item.main);
        })
        .unwrap();
        runs.backward(scratch.as_mut(), |item| backward.push(item.main)).unwrap();
        backward.reverse();
        assert_eq!((runs.items, &forward, &backward), (6001, &wanted, &wanted));
    }

    #[test]
    fn the_user_key_of_anything_is_a_slice_of_it_or_empty() {
        assert_eq!(user_key(b"\x0a\x03abc\x10\x01"), b"abc");
        assert_eq!(user_key(&[&[0x0a, 0x80, 0x01][..], &[b'k'; 128]].concat()), [b'k'; 128]);
        for none in [&b""[..], b"\x0a", b"\x0a\x05abc", b"\x10\x01", b"\x0a\xff\xff\xff\xff\xff\xff", b"\x0a\x80"] {
            assert_eq!(user_key(none), b"");
        }
    }

    #[test]
    fn an_index_that_is_full_says_so_and_takes_nothing_more() {
        let mut index = Index::new(Box::new(MemoryScratch::new(100)));
        (0..10_000).for_each(|main| index.push(Revision { main, sub: 0, is_tombstone: false }, b"", b""));
        assert!(index.finish().is_err_and(|error| error.contains("full")));
    }
}
