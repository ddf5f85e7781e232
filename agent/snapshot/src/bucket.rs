//! What the buckets say: the part of the database that a backup's manifest shows.

use crate::content_hash::ContentHash;
use crate::error::SnapshotError;
use crate::facts::{Database, SnapshotMember};
use crate::hash_kv::{Index, Runs};
use crate::page::{BUCKET_FLAG, LeafEntry};
use crate::record::Leaf;
use crate::revision::{Revision, main_revision};

/// Takes what a walk finds in a bucket, in order.
pub(crate) trait Reader {
    /// A leaf of revisions that was summed as it passed.
    fn revisions(&mut self, leaf: &Leaf) -> Result<(), SnapshotError>;
    /// One entry of any other leaf.
    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError>;
}

/// A bucket as the root names it.
pub(crate) struct Bucket {
    pub name: Vec<u8>,
    /// Its root page; 0 where it is inline.
    pub root: u64,
    /// bbolt counts here for whoever asks it to; etcd never does.
    pub sequence: u64,
    /// A leaf, or nothing.
    pub inline: Vec<u8>,
}

/// The names of the buckets and where they are.
#[derive(Default)]
pub(crate) struct Root {
    pub buckets: Vec<Bucket>,
}

impl Reader for Root {
    fn revisions(&mut self, _: &Leaf) -> Result<(), SnapshotError> {
        Err(SnapshotError::Entry { bucket: "(root)".into(), what: "it holds revisions".into() })
    }

    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError> {
        let damaged = |what: &str| {
            let bucket = String::from_utf8_lossy(entry.key).chars().take(64).collect();
            SnapshotError::Entry { bucket, what: what.to_owned() }
        };
        if entry.flags != BUCKET_FLAG {
            return Err(damaged("it is no bucket, though the root names it as one"));
        }
        let number = |at| crate::page::u64_at(entry.value, at).ok_or_else(|| damaged("its header is cut off"));
        let (root, sequence) = (number(0)?, number(8)?);
        let inline = entry.value.get(16..).unwrap_or_default();
        if root != 0 && !inline.is_empty() {
            return Err(damaged("it has a page and is inline as well"));
        }
        self.buckets.push(Bucket { name: entry.key.to_vec(), root, sequence, inline: inline.to_vec() });
        Ok(())
    }
}

/// Reads one bucket into the facts.
pub(crate) struct BucketReader<'f> {
    name: &'f str,
    facts: &'f mut Database,
    /// Of bucket `key`: the last revision seen.
    last: Option<Revision>,
    /// Of any other bucket: the sum over its entries.
    sum: ContentHash,
    index: Option<(&'f mut Index, &'f mut Runs)>,
}

impl<'f> BucketReader<'f> {
    pub fn new(name: &'f str, facts: &'f mut Database, index: Option<(&'f mut Index, &'f mut Runs)>) -> Self {
        Self { name, facts, last: None, sum: ContentHash::default(), index }
    }

    /// When all of the bucket was seen.
    pub fn finish(self, bucket: &Bucket) {
        let [sum, sequence] = [self.sum.0.to_le_bytes().to_vec(), bucket.sequence.to_le_bytes().to_vec()];
        let sum = ContentHash::of_entry(&bucket.name, &[sum, sequence].concat());
        self.facts.other_hash = self.facts.other_hash.plus(sum);
    }

    fn damaged(&self, what: &str) -> SnapshotError {
        SnapshotError::Entry { bucket: self.name.to_owned(), what: what.to_owned() }
    }

    /// Takes a revision of bucket `key`, which comes behind all before.
    fn order(&mut self, first: Revision, last: Revision) -> Result<(), SnapshotError> {
        if self.last.is_some_and(|before| !first.is_behind(before)) {
            return Err(self.damaged("its revisions are not in order"));
        }
        self.last = Some(last);
        self.facts.revision = last.served().ok_or_else(|| self.damaged("a revision is negative"))?;
        Ok(())
    }
}

impl Reader for BucketReader<'_> {
    fn revisions(&mut self, leaf: &Leaf) -> Result<(), SnapshotError> {
        let entries = u64::from(leaf.entries);
        self.facts.total_keys += entries;
        if self.name != "key" {
            // The name of a user can look like a revision.
            self.sum = self.sum.plus(leaf.sum());
            return Ok(());
        }
        self.order(leaf.first(), leaf.last())?;
        self.facts.revisions += entries;
        self.facts.content_hash = self.facts.content_hash.plus(leaf.sum());
        if let Some((_, runs)) = &mut self.index {
            runs.push(leaf.index, u32::from(leaf.entries));
        }
        Ok(())
    }

    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError> {
        if entry.flags != 0 {
            return Err(self.damaged("a bucket lies within it"));
        }
        self.facts.total_keys += 1;
        if self.name == "key" {
            return self.revision(entry);
        }
        self.sum = self.sum.plus(ContentHash::of_entry(entry.key, entry.value));
        match self.name {
            "meta" => self.meta(entry.key, entry.value).map_err(|what| self.damaged(what))?,
            "members" => {
                let member: SnapshotMember = serde_json::from_slice(entry.value)
                    .map_err(|error| self.damaged(&format!("a member is not readable: {error}")))?;
                self.facts.members.push(member);
            }
            "cluster" if entry.key == b"clusterVersion" => {
                self.facts.cluster_version = Some(String::from_utf8_lossy(entry.value).into_owned());
            }
            "lease" => self.facts.leases += 1,
            "alarm" => self.facts.alarms += 1,
            _ => {}
        }
        Ok(())
    }
}

impl BucketReader<'_> {
    fn revision(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError> {
        let revision = Revision::parse(entry.key).ok_or_else(|| self.damaged("a key is no revision"))?;
        self.order(revision, revision)?;
        self.facts.revisions += 1;
        self.facts.content_hash = self.facts.content_hash.plus(ContentHash::of_entry(entry.key, entry.value));
        if let Some((index, runs)) = &mut self.index {
            runs.push(index.next(), 1);
            index.push(revision, entry.value, entry.both);
        }
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || value.try_into().map(u64::from_be_bytes).map_err(|_| "a number is not of 8 bytes");
        let revision = || main_revision(value).ok_or("a compact revision is cut off");
        match key {
            b"consistent_index" => self.facts.consistent_index = number()?,
            b"term" => self.facts.term = number()?,
            b"finishedCompactRev" => self.facts.compact_revision = revision()?,
            b"scheduledCompactRev" => self.facts.scheduled_compact_revision = revision()?,
            b"storageVersion" => self.facts.storage_version = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
        Ok(())
    }
}
