//! The slow reader: the same facts by another way, to hold the verifier to. Random access over the whole file, from the
//! root down, as bbolt reads; nothing of the crate but its types. It also tells which bytes mean something.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_snapshot::{ContentHash, Database, SnapshotMember};
use xxhash_rust::xxh3::xxh3_128;

/// Why a file was refused; in words, as nobody matches on it.
pub type Refused = String;

/// Everything read.
#[derive(Default)]
pub struct Read {
    pub facts: Database,
    /// Bucket, key, value, in order.
    pub entries: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    /// Pages in use.
    pub pages: BTreeSet<u64>,
    /// Bytes that mean something: `[from, to)`.
    pub meaningful: BTreeMap<usize, usize>,
    /// Levels of the tree of bucket `key`.
    pub levels: usize,
}

struct Slow<'f> {
    file: &'f [u8],
    page_size: usize,
    high_water: u64,
    pages: BTreeSet<u64>,
    meaningful: BTreeMap<usize, usize>,
    deepest: usize,
}

fn number(file: &[u8], at: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&file[at..at + bytes]);
    u64::from_le_bytes(value)
}

/// Reads a snapshot, trailer included; its SHA-256 is not looked at.
pub fn read(file: &[u8]) -> Result<Read, Refused> {
    let file = &file[..file.len() - 32];
    if file.len() < 4096 {
        return Err("too short".into());
    }
    let page_size = number(file, 16 + 8, 4) as usize;
    if ![1024, 2048, 4096, 8192, 16384, 32768, 65536].contains(&page_size) || file.len() < 2 * page_size {
        return Err("no page size".into());
    }
    for page in [0, 1] {
        let at = page * page_size;
        let sum = file[at + 16..at + 72]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let header = [number(file, at, 8), number(file, at + 8, 2), number(file, at + 10, 2), number(file, at + 12, 4)];
        if header != [page as u64, 4, 0, 0] || number(file, at + 72, 8) != sum {
            return Err(format!("meta {page}"));
        }
        if number(file, at + 16, 4) != 0xED0C_DAED || number(file, at + 20, 4) != 2 {
            return Err(format!("magic of meta {page}"));
        }
    }
    // All of the two but txid and checksum.
    let second = page_size + 16;
    if file[16..64] != file[second..second + 48] || number(file, 64, 8) != number(file, second + 48, 8).wrapping_add(1)
    {
        return Err("the metas differ".into());
    }
    let high_water = number(file, 56, 8);
    if high_water as usize > file.len() / page_size {
        return Err("cut off".into());
    }
    let mut slow = Slow {
        file,
        page_size,
        high_water,
        pages: BTreeSet::from([0, 1]),
        meaningful: BTreeMap::from([(0, 80), (page_size, page_size + 80)]),
        deepest: 0,
    };
    let mut result = Read::default();
    let mut facts = Database { page_size: page_size as u32, total_pages: high_water, ..Database::default() };
    let mut required = BTreeSet::from([&b"key"[..], b"meta", b"members"]);
    let buckets = slow.bucket(number(file, 32, 8))?;
    if buckets.windows(2).any(|pair| pair[0].1 >= pair[1].1) {
        return Err("order of the buckets".into());
    }
    for (flags, name, at, value) in buckets {
        required.remove(name.as_slice());
        if flags != 1 || value.len() < 16 {
            return Err("the root holds something else than buckets".into());
        }
        let (root, sequence) = (number(&value, 0, 8), &value[8..16]);
        let mut sum = ContentHash::default();
        slow.deepest = 0;
        let entries = if root == 0 {
            if value.len() < 32 || number(&value, 16, 8) != 0 || number(&value, 28, 4) != 0 {
                return Err("inline".into());
            }
            let entries = slow.leaf(at + 16, at + value.len())?;
            if slow.meaningful.get(&(at + 16)) != Some(&(at + value.len())) {
                return Err("slack in an inline bucket".into());
            }
            entries
        } else if value.len() == 16 {
            slow.bucket(root)?
        } else {
            return Err("inline and not".into());
        };
        if name == b"key" {
            result.levels = slow.deepest;
        }
        let ordered = |pair: &[(u64, Vec<u8>, usize, Vec<u8>)]| pair[0].1 < pair[1].1;
        if !entries.windows(2).all(ordered) {
            return Err("order".into());
        }
        let without_mark = |key: &[u8]| key[..key.len().min(17)].to_vec();
        if name == b"key" && entries.windows(2).any(|pair| without_mark(&pair[0].1) >= without_mark(&pair[1].1)) {
            return Err("a revision and its tombstone".into());
        }
        for (flags, key, _, value) in entries {
            if flags != 0 {
                return Err("a bucket in a bucket".into());
            }
            if name != b"key" {
                sum = sum.plus(hash(&[&key, &value]));
            }
            count(&mut facts, &name, &key, &value)?;
            result.entries.push((name.clone(), key, value));
        }
        facts.other_hash = facts.other_hash.plus(hash(&[&name, &[&sum.0.to_le_bytes()[..], sequence].concat()]));
    }
    let freelist = number(file, 48, 8);
    if freelist != u64::MAX {
        slow.freelist(freelist)?;
    }
    if !required.is_empty() {
        return Err(format!("no {required:?}"));
    }
    facts.revision = facts.revision.max(facts.compact_revision).max(facts.scheduled_compact_revision).max(1);
    facts.in_use_pages = slow.pages.len() as u64;
    Ok(Read { facts, pages: slow.pages, meaningful: slow.meaningful, ..result })
}

/// What one entry says.
fn count(facts: &mut Database, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Refused> {
    facts.total_keys += 1;
    let big = |bytes: &[u8]| -> Result<i64, Refused> {
        Ok(i64::from_be_bytes(bytes.get(..8).ok_or("short")?.try_into().map_err(|_| "short")?))
    };
    if bucket == b"key" {
        let marked = key.len() == 18 && key[17] == b't';
        if !(key.len() == 17 || marked) || key[8] != b'_' || key[0] >= 0x80 || key[9] >= 0x80 {
            return Err("no revision".into());
        }
        facts.revisions += 1;
        facts.revision = big(key)?;
        facts.content_hash = facts.content_hash.plus(hash(&[key, value]));
        return Ok(());
    }
    let text = || Some(String::from_utf8_lossy(value).into_owned());
    match (bucket, key) {
        (b"meta", b"consistent_index") => facts.consistent_index = whole(value)?,
        (b"meta", b"term") => facts.term = whole(value)?,
        (b"meta", b"finishedCompactRev") => facts.compact_revision = big(value)?,
        (b"meta", b"scheduledCompactRev") => facts.scheduled_compact_revision = big(value)?,
        (b"meta", b"storageVersion") => facts.storage_version = text(),
        (b"cluster", b"clusterVersion") => facts.cluster_version = text(),
        (b"members", _) => facts.members.push(member(value)?),
        (b"lease", _) => facts.leases += 1,
        (b"alarm", _) => facts.alarms += 1,
        _ => {}
    }
    Ok(())
}

fn whole(value: &[u8]) -> Result<u64, Refused> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| "a number of other than 8 bytes")?))
}

fn member(value: &[u8]) -> Result<SnapshotMember, Refused> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// XXH3-128 over length and bytes of every part, in one go.
fn hash(parts: &[&[u8]]) -> ContentHash {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    ContentHash(xxh3_128(&bytes))
}

/// Flags, key, offset of the value in the file, value.
type Entry = (u64, Vec<u8>, usize, Vec<u8>);

impl Slow<'_> {
    /// All entries of a bucket's tree.
    fn bucket(&mut self, root: u64) -> Result<Vec<Entry>, Refused> {
        self.page(root, None, 1)
    }

    /// A free list that is kept in the file; etcd keeps none, but would read one.
    fn freelist(&mut self, page: u64) -> Result<(), Refused> {
        let at = page as usize * self.page_size;
        if page >= self.high_water || number(self.file, at, 8) != page || number(self.file, at + 8, 2) != 16 {
            return Err("no free list".into());
        }
        let overflow = number(self.file, at + 12, 4);
        let end = at + (overflow as usize + 1) * self.page_size;
        let fresh = (page..=page + overflow).all(|page| page < self.high_water && self.pages.insert(page));
        let (mut next, mut count) = (at + 16, number(self.file, at + 10, 2) as usize);
        if count == 0xffff && fresh {
            count = number(self.file, next, 8) as usize;
            next += 8;
        }
        let mut before = 1;
        while count > 0 {
            if !fresh || next + 8 > end {
                return Err("free list".into());
            }
            let id = number(self.file, next, 8);
            if id <= before || id >= self.high_water || self.pages.contains(&id) {
                return Err("free list".into());
            }
            (before, next, count) = (id, next + 8, count - 1);
        }
        if fresh { Ok(()) } else { Err("free list".into()) }
    }

    fn page(&mut self, page: u64, named: Option<&[u8]>, level: usize) -> Result<Vec<Entry>, Refused> {
        self.deepest = self.deepest.max(level);
        if level > 25 {
            return Err("too deep".into());
        }
        if page >= self.high_water {
            return Err("page out of range".into());
        }
        let at = page as usize * self.page_size;
        let (flags, count) = (number(self.file, at + 8, 2), number(self.file, at + 10, 2) as usize);
        let overflow = number(self.file, at + 12, 4);
        if number(self.file, at, 8) != page || page + overflow >= self.high_water {
            return Err(format!("header of page {page}"));
        }
        for page in page..=page + overflow {
            if !self.pages.insert(page) {
                return Err(format!("page {page} twice"));
            }
        }
        let end = at + (overflow as usize + 1) * self.page_size;
        let entries = match flags {
            2 => {
                let entries = self.leaf(at, end)?;
                if entries.is_empty() && level > 1 {
                    return Err("an empty leaf".into());
                }
                entries
            }
            1 if count > 0 => self.branch(at, end, count, level)?,
            _ => return Err(format!("page {page} is none of a tree")),
        };
        match (named, entries.first()) {
            (Some(named), Some((_, key, _, _))) if named != key => Err("the parent's key".into()),
            _ => Ok(entries),
        }
    }

    fn branch(&mut self, at: usize, end: usize, count: usize, level: usize) -> Result<Vec<Entry>, Refused> {
        let mut next = at + 16 + 16 * count;
        let mut all = Vec::new();
        for element in (0..count).map(|index| at + 16 + 16 * index) {
            if element + 16 > end {
                return Err("elements".into());
            }
            let (position, size) = (number(self.file, element, 4) as usize, number(self.file, element + 4, 4) as usize);
            if element + position != next || size == 0 || next + size > end {
                return Err("position".into());
            }
            let key = self.file[next..next + size].to_vec();
            next += size;
            all.extend(self.page(number(self.file, element + 8, 8), Some(&key), level + 1)?);
        }
        self.meaningful.insert(at, next);
        Ok(all)
    }

    fn leaf(&mut self, at: usize, end: usize) -> Result<Vec<Entry>, Refused> {
        if number(self.file, at + 8, 2) != 2 {
            return Err("no leaf".into());
        }
        let count = number(self.file, at + 10, 2) as usize;
        let mut next = at + 16 + 16 * count;
        let mut entries = Vec::new();
        for element in (0..count).map(|index| at + 16 + 16 * index) {
            if element + 16 > end {
                return Err("elements".into());
            }
            let field = |index: usize| number(self.file, element + 4 * index, 4) as usize;
            let (key, value) = (field(2), field(3));
            if element + field(1) != next || key == 0 || next + key + value > end {
                return Err("position".into());
            }
            let (middle, behind) = (next + key, next + key + value);
            let (key, value) = (self.file[next..middle].to_vec(), self.file[middle..behind].to_vec());
            entries.push((field(0) as u64, key, middle, value));
            next = behind;
        }
        self.meaningful.insert(at, next);
        Ok(entries)
    }
}

/// HashKV as mvcc/hash.go and key_index.go have it: `Keep` as a set, crc32c bit by bit. `None` where nothing is kept and
/// something lies below the compaction.
pub fn hash_kv(read: &Read, revision: i64, compact_revision: i64) -> Option<u32> {
    let entries = read.entries.iter().filter(|entry| entry.0 == b"key").map(|(_, key, value)| {
        let main = i64::from_be_bytes(key[..8].try_into().unwrap());
        (main, key.len() == 18, key, value)
    });
    let entries: Vec<_> = entries.filter(|entry| entry.0 <= revision).collect();
    let mut newest = BTreeMap::new();
    for (_, is_tombstone, key, value) in &entries {
        // Field 1 of the message; keys of the corpora are shorter than 128 bytes.
        let user_key = value.get(2..2 + usize::from(*value.get(1).unwrap_or(&0))).unwrap_or_default();
        newest.insert(user_key, (*key, *is_tombstone));
    }
    let keep: BTreeSet<_> = newest.values().filter(|newest| !newest.1).map(|newest| newest.0).collect();
    let mut crc = crc32c(u32::MAX, b"key");
    for (main, is_tombstone, key, value) in entries {
        if main == compact_revision && is_tombstone {
            continue;
        }
        if main <= compact_revision && keep.is_empty() {
            return None;
        }
        if main > compact_revision || keep.contains(key) {
            crc = crc32c(crc32c(crc, key), value);
        }
    }
    Some(!crc)
}

fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}
