//! What the buckets say: the part of the database that a backup's manifest shows.

use crate::candidate::{main_revision, revision_key};
use crate::content_hash::ContentHash;
use crate::error::SnapshotError;
use crate::facts::{Database, SnapshotMember};
use crate::page::{BUCKET_FLAG, LeafEntry};

/// Takes what a walk finds in a bucket, in order.
pub(crate) trait Reader {
    /// A leaf of revisions that was summed as it passed.
    fn revisions(&mut self, last: &[u8; 17], entries: u32, sum: ContentHash) -> Result<(), SnapshotError>;
    /// One entry of any other leaf.
    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError>;
}

/// The names of the buckets and where they are.
#[derive(Default)]
pub(crate) struct Root {
    /// Name, root page, inline page.
    pub buckets: Vec<(Vec<u8>, u64, Vec<u8>)>,
}

impl Reader for Root {
    fn revisions(&mut self, _: &[u8; 17], _: u32, _: ContentHash) -> Result<(), SnapshotError> {
        Err(SnapshotError::Entry { bucket: "(root)".into(), what: "it holds revisions".into() })
    }

    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError> {
        let named = || String::from_utf8_lossy(entry.key).chars().take(64).collect::<String>();
        if entry.flags != BUCKET_FLAG {
            return Err(SnapshotError::Entry { bucket: "(root)".into(), what: format!("{:?} is no bucket", named()) });
        }
        let Some((root, inline)) = crate::walk::bucket_value(&entry) else {
            return Err(SnapshotError::Entry { bucket: named(), what: "its header is cut off".into() });
        };
        self.buckets.push((entry.key.to_vec(), root, inline.to_vec()));
        Ok(())
    }
}

/// Reads one bucket into the facts.
pub(crate) struct BucketReader<'f> {
    pub name: &'f str,
    pub facts: &'f mut Database,
}

impl Reader for BucketReader<'_> {
    fn revisions(&mut self, last: &[u8; 17], entries: u32, sum: ContentHash) -> Result<(), SnapshotError> {
        self.facts.total_keys += u64::from(entries);
        if self.name == "key" {
            self.facts.revisions += u64::from(entries);
            self.facts.content_hash = self.facts.content_hash.plus(sum);
            self.facts.revision = main_revision(last).unwrap_or_default();
        }
        Ok(())
    }

    fn entry(&mut self, entry: LeafEntry<'_>) -> Result<(), SnapshotError> {
        let damaged = |what: &str| SnapshotError::Entry { bucket: self.name.to_owned(), what: what.to_owned() };
        if entry.flags != 0 {
            return Err(damaged("a bucket lies within it"));
        }
        self.facts.total_keys += 1;
        match self.name {
            "key" => {
                if revision_key(entry.key).is_none() {
                    return Err(damaged("a key is no revision"));
                }
                self.facts.revisions += 1;
                self.facts.content_hash = self.facts.content_hash.plus(ContentHash::of_entry(entry.key, entry.value));
                self.facts.revision = main_revision(entry.key).unwrap_or_default();
            }
            "meta" => self.meta(entry.key, entry.value).map_err(damaged)?,
            "members" => {
                let member: SnapshotMember = serde_json::from_slice(entry.value)
                    .map_err(|error| damaged(&format!("a member is not readable: {error}")))?;
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
