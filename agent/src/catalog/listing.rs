//! The archives of one cluster in a store, backup by backup in the order of their ids, a page in memory at a time.
//!
//! Lists and reads nothing else. What lies below `backups/` and belongs to no backup is counted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::location::ArchiveSummary;
use lifeboat_crds::{BackupId, Time, layout};
use lifeboat_storage::{ListRequest, ListedObject, ObjectStore, RetryPolicy, StoreError, retry};
use tokio_util::sync::CancellationToken;

/// For how long a store that does not give a page is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Data of other attempts that is kept in mind of one backup; more is somebody else's doing.
const MOST_DATA: usize = 16;
/// Orphans named.
const MOST_EXAMPLES: usize = 8;

/// Everything of one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which backup.
    pub id: BackupId,
    /// When its manifest was written, by the store's clock; absent where it has none.
    pub manifest: Option<Option<Timestamp>>,
    /// Whether `expired.json` is there.
    pub is_expired: bool,
    /// When that was written, by the store's clock.
    pub expired: Option<Timestamp>,
    /// Whether `pin.json` is there.
    pub is_pinned: bool,
    /// Data of its attempts.
    pub data: Vec<Data>,
}

/// The data of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Its file name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub modified: Option<Timestamp>,
}

impl Listed {
    fn new(id: BackupId) -> Self {
        Self { id, manifest: None, is_expired: false, expired: None, is_pinned: false, data: Vec::new() }
    }

    /// The size of a file of its data.
    pub fn size_of(&self, name: &str) -> Option<u64> {
        self.data.iter().find(|data| data.name == name).map(|data| data.size)
    }
}

/// Objects that belong to no backup and are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many.
    pub count: i64,
    /// Some of their keys.
    pub examples: Vec<String>,
}

impl Orphans {
    /// Counts one.
    pub fn add(&mut self, key: String) {
        self.count = self.count.saturating_add(1);
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(key);
        }
    }
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    store: Arc<dyn ObjectStore>,
    cluster: String,
    request: Option<ListRequest>,
    /// Of the last page, what comes after the backups already given.
    open: Option<Listed>,
    /// Keys that no version of Lifeboat writes there.
    pub foreign: Orphans,
    cancel: CancellationToken,
}

impl Listing {
    /// Everything of a cluster whose backupId sorts after `after`.
    pub fn new(store: Arc<dyn ObjectStore>, cluster: &str, after: Option<&str>, cancel: &CancellationToken) -> Self {
        let prefix = layout::backups_prefix(cluster);
        let start_after = after.map(|after| format!("{prefix}{after}"));
        let request = ListRequest { start_after, ..ListRequest::under(prefix) };
        let (cluster, cancel) = (cluster.to_owned(), cancel.clone());
        Self { store, cluster, request: Some(request), open: None, foreign: Orphans::default(), cancel }
    }

    /// The next backups; none at the end.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self) -> Result<Vec<Listed>, StoreError> {
        let mut whole = Vec::new();
        while let Some(request) = &self.request {
            let question = || self.store.list(request);
            let page = retry("listing archives", RetryPolicy::until(PATIENCE), &self.cancel, question).await?;
            let next = page.next.map(|next| ListRequest { cursor: Some(next), ..request.clone() });
            for _ in 0..page.foreign {
                self.foreign.add("(a name that no object of Lifeboat has)".to_owned());
            }
            for object in page.objects {
                whole.extend(self.see(object));
            }
            self.request = next;
            if self.request.is_none() {
                whole.extend(self.open.take());
            }
            if !whole.is_empty() {
                break;
            }
        }
        Ok(whole)
    }

    /// Takes the next object; gives the backup that it ends.
    fn see(&mut self, object: ListedObject) -> Option<Listed> {
        let ListedObject { key, size, last_modified } = object;
        let Some((id, name)) = layout::part_of_backup(&self.cluster, key.as_str()) else {
            self.foreign.add(key.as_str().to_owned());
            return None;
        };
        let ended = self.open.take_if(|open| open.id != id);
        let open = self.open.get_or_insert_with(|| Listed::new(id));
        match name {
            "manifest.json" => open.manifest = Some(last_modified),
            "expired.json" => (open.is_expired, open.expired) = (true, last_modified),
            "pin.json" => open.is_pinned = true,
            name if name.starts_with("snapshot-") && !name.contains('/') && open.data.len() < MOST_DATA => {
                open.data.push(Data { name: name.to_owned(), size, modified: last_modified });
            }
            _ => self.foreign.add(key.as_str().to_owned()),
        }
        ended
    }
}

/// Counts archives: what has a manifest, and the data beside it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    summary: ArchiveSummary,
    /// What an earlier count has seen, and is not counted again.
    counted: Option<Timestamp>,
}

impl Tally {
    /// Goes on from an earlier count.
    pub fn resume(before: Option<&ArchiveSummary>) -> Self {
        let summary = before.cloned().unwrap_or_default();
        Self { counted: summary.newest.as_ref().map(|time| time.0), summary }
    }

    /// Counts a backup, in the order of ids.
    pub fn see(&mut self, listed: &Listed) {
        let time = listed.id.time();
        let is_counted = self.counted.is_some_and(|counted| time.is_none_or(|time| time <= counted));
        if listed.manifest.is_none() || is_counted {
            return;
        }
        let bytes: u64 = listed.data.iter().map(|data| data.size).sum();
        self.summary.count += 1;
        self.summary.bytes = self.summary.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.summary.oldest.is_none() {
            self.summary.oldest = time.map(Time);
        }
        self.summary.newest = time.map(Time);
    }

    /// The count.
    pub fn finish(self) -> ArchiveSummary {
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lifeboat_storage::{MemoryStore, ObjectKey, PutMode};

    use super::*;

    async fn put(store: &dyn ObjectStore, key: &str, bytes: usize) {
        let key = ObjectKey::parse(key).unwrap();
        store.put(&key, Bytes::from(vec![0; bytes]), PutMode::Overwrite).await.unwrap();
    }

    async fn all(listing: &mut Listing) -> Vec<Listed> {
        let mut found = Vec::new();
        loop {
            let page = listing.next().await.unwrap();
            if page.is_empty() {
                return found;
            }
            found.extend(page);
        }
    }

    #[tokio::test]
    async fn only_whole_archives_of_this_cluster_are_counted() {
        let store = Arc::new(MemoryStore::new());
        for (key, bytes) in [
            ("me/owner.json", 9),
            ("me/backups/20261124-020304-00000001/manifest.json", 10),
            ("me/backups/20261124-020304-00000001/snapshot-1-aa.db.zst", 100),
            ("me/backups/20261125-020304-00000002/snapshot-1-aa.db.zst", 999),
            ("me/backups/20261126-020304-00000003/manifest.json", 10),
            ("me/backups/20261126-020304-00000003/pin.json", 10),
            ("me/backups/20261126-020304-00000003/snapshot-2-bb.db.zst", 50),
            ("me/backups/notes.txt", 1),
            ("me/backups/20261126-020304-00000003/notes.txt", 1),
            ("me2/backups/20261126-020304-00000003/manifest.json", 10),
            ("other/backups/20261126-020304-00000003/manifest.json", 10),
        ] {
            put(store.as_ref(), key, bytes).await;
        }
        let mut listing = Listing::new(store, "me", None, &CancellationToken::new());
        let found = all(&mut listing).await;
        let ids: Vec<&str> = found.iter().map(|listed| listed.id.as_str()).collect();
        assert_eq!(ids, ["20261124-020304-00000001", "20261125-020304-00000002", "20261126-020304-00000003"]);
        assert!(found[1].manifest.is_none() && found[2].is_pinned && !found[2].is_expired);
        assert_eq!(found[2].size_of("snapshot-2-bb.db.zst"), Some(50));
        assert_eq!(listing.foreign.examples, ["me/backups/20261126-020304-00000003/notes.txt", "me/backups/notes.txt"]);
        let mut tally = Tally::default();
        found.iter().for_each(|listed| tally.see(listed));
        let summary = tally.finish();
        assert_eq!((summary.count, summary.bytes), (2, 150));
        assert_eq!(summary.oldest.as_ref().unwrap().0.to_string(), "2026-11-24T02:03:04Z");
        assert_eq!(summary.newest.as_ref().unwrap().0.to_string(), "2026-11-26T02:03:04Z");
        let mut again = Tally::resume(Some(&summary));
        found.iter().for_each(|listed| again.see(listed));
        assert_eq!(again.finish(), summary, "nothing is counted twice");
    }

    #[tokio::test]
    async fn a_backup_that_lies_across_pages_is_one() {
        let store = Arc::new(MemoryStore::new());
        for number in 0..700 {
            let id = format!("20261124-02{:02}{:02}-00000001", number / 60, number % 60);
            put(store.as_ref(), &format!("me/backups/{id}/manifest.json"), 1).await;
            put(store.as_ref(), &format!("me/backups/{id}/snapshot-1-aa.db.zst"), 7).await;
            put(store.as_ref(), &format!("me/backups/{id}/pin.json"), 1).await;
        }
        let cancel = CancellationToken::new();
        let shared: Arc<dyn ObjectStore> = store;
        let found = all(&mut Listing::new(Arc::clone(&shared), "me", None, &cancel)).await;
        assert_eq!(found.len(), 700);
        assert!(found.iter().all(|listed| listed.manifest.is_some() && listed.data.len() == 1 && listed.is_pinned));
        let since = all(&mut Listing::new(shared, "me", Some("20261124-021000"), &cancel)).await;
        assert_eq!(since.len(), 100);
    }
}
