//! The archives of one cluster in a location, as commands see them: one listing, then as many manifests as are needed.
//!
//! Reads the store. One manifest that cannot be read hides itself alone, with a remark: on the worst day the others must be
//! found all the same. One that is deleted in this moment is not there.

use std::cmp::Reverse;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::signing::{KnownKeys, SignatureState};
use lifeboat_crds::{BackupId, layout};
use lifeboat_storage::{ErrorClass, ListPage, ListRequest, ObjectKey, ObjectStore, RetryPolicy, StoreError, retry};
use tokio_util::sync::CancellationToken;

use super::file::LocationFile;
use super::trust::Trusted;
use super::{ArchiveError, Place, Which};
use crate::catalog::listing::{Listed, Listing};
use crate::keeping;
use crate::manifest::{FoundManifest, ManifestError, Manifests};

/// Manifests read at once.
const READS: usize = 16;
/// For how long a store that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// By so much the clocks of store and masters may differ before `latest` could miss the newest.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// The archives of one cluster.
pub struct Shelf {
    /// Where they lie.
    pub store: Arc<dyn ObjectStore>,
    /// UID of the cluster's kube-system namespace.
    pub cluster: String,
    /// Ends whatever goes on.
    pub cancel: CancellationToken,
    trusted: Trusted,
}

/// An archive that is there, and its manifest.
pub struct Found {
    /// What is listed of it.
    pub listed: Listed,
    /// Its manifest.
    pub manifest: FoundManifest,
}

impl Shelf {
    /// Opens a location.
    ///
    /// # Errors
    /// It cannot be used, or it is not clear whose archives are meant.
    pub async fn open(place: &Place, cancel: &CancellationToken) -> Result<Self, ArchiveError> {
        let trusted = place.trust.read()?;
        let store = LocationFile::read(&place.location)?.open(&place.keys).await?;
        let cluster = match &place.cluster {
            Some(cluster) => known_cluster(store.as_ref(), cluster, cancel).await?,
            None => only_cluster(store.as_ref(), cancel).await?,
        };
        Ok(Self { store, cluster, cancel: cancel.clone(), trusted })
    }

    /// The archives of cluster `me` in a store, for tests.
    #[cfg(test)]
    pub fn of(store: Arc<dyn ObjectStore>, known: KnownKeys) -> Self {
        let trusted = Trusted { known, ..Trusted::default() };
        Self { store, cluster: "me".to_owned(), cancel: CancellationToken::new(), trusted }
    }

    /// Opens a location and finds one archive in it.
    ///
    /// # Errors
    /// The location cannot be used, or there is no such archive.
    pub async fn open_one(which: &Which, cancel: &CancellationToken) -> Result<(Self, FoundManifest), ArchiveError> {
        Self::open_wanted(&which.place, &which.backup, cancel).await
    }

    /// As [`Self::open_one`], for who asks by other flags.
    ///
    /// # Errors
    /// The location cannot be used, or there is no such archive.
    pub async fn open_wanted(
        place: &Place,
        wanted: &str,
        cancel: &CancellationToken,
    ) -> Result<(Self, FoundManifest), ArchiveError> {
        let shelf = Self::open(place, cancel).await?;
        let found = shelf.find(wanted).await?;
        let missing = || ArchiveError::NoSuchArchive { place: shelf.store.describe(), wanted: wanted.to_owned() };
        let found = found.ok_or_else(missing)?;
        Ok((shelf, found))
    }

    /// The newest archive, if there is any.
    ///
    /// # Errors
    /// The store fails.
    pub async fn newest_of_all(&self) -> Result<Option<FoundManifest>, ArchiveError> {
        self.newest(|_| true).await
    }

    /// The archive of a backupId, `latest`, or the newest that was made for an EtcdBackup of this name.
    async fn find(&self, wanted: &str) -> Result<Option<FoundManifest>, ArchiveError> {
        let Ok(id) = wanted.parse::<BackupId>() else {
            return self.newest(|found| wanted == "latest" || found.manifest.object.name == wanted).await;
        };
        match self.read_from().fetch(&id).await {
            Ok(found) => Ok(Some(found)),
            Err(ManifestError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every archive, in the order of their ids.
    ///
    /// # Errors
    /// The store fails.
    pub async fn listed(&self) -> Result<Vec<Listed>, ArchiveError> {
        let mut listing = Listing::new(Arc::clone(&self.store), &self.cluster, None, &self.cancel);
        let mut archives = Vec::new();
        loop {
            let page = listing.next().await?;
            if page.is_empty() {
                return Ok(archives);
            }
            archives.extend(page.into_iter().filter(|listed| listed.manifest.is_some()));
        }
    }

    /// Reads manifests. One that cannot be used is left out and remarked; so is one that went meanwhile, without a word.
    ///
    /// # Errors
    /// The store fails as a whole.
    pub async fn read(&self, archives: Vec<Listed>) -> Result<Vec<Found>, ArchiveError> {
        let from = self.read_from();
        let read = stream::iter(archives).map(async |listed| (from.fetch(&listed.id).await, listed)).buffered(READS);
        let mut read = std::pin::pin!(read);
        let mut found = Vec::new();
        while let Some((manifest, listed)) = read.next().await {
            match manifest {
                Ok(manifest) => found.push(Found { listed, manifest }),
                Err(ManifestError::Store(StoreError::NotFound { .. })) => {}
                Err(ManifestError::Store(error)) if is_of_the_store(&error) => return Err(error.into()),
                Err(error) => remark(&format!("{} is left out: {error}", listed.id)),
            }
        }
        Ok(found)
    }

    /// Every manifest, the newest snapshot first: by when it was begun to be read, not by when the backup was asked for or
    /// ended.
    ///
    /// # Errors
    /// The store fails as a whole.
    pub async fn manifests(&self) -> Result<Vec<FoundManifest>, ArchiveError> {
        let found = self.read(self.listed().await?).await?;
        let mut manifests: Vec<FoundManifest> = found.into_iter().map(|found| found.manifest).collect();
        manifests.sort_by_key(|found| Reverse(begun(found)));
        Ok(manifests)
    }

    /// The newest snapshot `is_meant`; reads no more manifests than that needs.
    async fn newest(&self, is_meant: impl Fn(&FoundManifest) -> bool) -> Result<Option<FoundManifest>, ArchiveError> {
        let mut archives = self.listed().await?;
        archives.sort_by_key(|listed| Reverse(written(listed)));
        let mut newest: Option<FoundManifest> = None;
        while let Some(next) = archives.first() {
            // No snapshot was begun after its manifest was written: neither this one's nor that of any that follows.
            let latest = written(next).checked_add(SKEW).unwrap_or(Timestamp::MAX);
            let is_older = |best: &FoundManifest| latest < best.manifest.start_time;
            if newest.as_ref().is_some_and(is_older) {
                break;
            }
            let rest = archives.split_off(READS.min(archives.len()));
            let read = self.read(std::mem::replace(&mut archives, rest)).await?;
            let meant = read.into_iter().map(|found| found.manifest).filter(&is_meant);
            newest = meant.chain(newest).max_by_key(begun);
        }
        Ok(newest)
    }

    fn read_from(&self) -> Manifests<'_> {
        let Self { store, cluster, cancel, trusted } = self;
        Manifests { store: store.as_ref(), cluster, known: &trusted.known, patience: PATIENCE, cancel }
    }

    /// The place of one of its archives.
    pub fn place_of(&self, backup: &BackupId) -> keeping::Place {
        keeping::Place {
            store: Arc::clone(&self.store),
            cluster: self.cluster.clone(),
            backup: backup.clone(),
            known: self.known().clone(),
            cancel: self.cancel.clone(),
        }
    }

    fn known(&self) -> &KnownKeys {
        &self.trusted.known
    }

    /// Keys of this host that could not be read matter only where a signature could not be judged.
    pub fn remark_keys(&self, found: &FoundManifest) {
        if matches!(found.signature, SignatureState::Unknown(_)) {
            for words in &self.trusted.remarks {
                remark(words);
            }
        }
    }

    /// Where the data of an archive is.
    ///
    /// # Errors
    /// The manifest names no key.
    pub fn data_key(&self, manifest: &Manifest) -> Result<ObjectKey, StoreError> {
        Ok(ObjectKey::parse(layout::data(&self.cluster, &manifest.backup_id, &manifest.data))?)
    }
}

/// What people should know beside what they asked for.
pub fn remark(words: &str) {
    let _ = writeln!(std::io::stderr(), "lifeboat: {words}");
}

fn begun(FoundManifest { manifest, signature: _ }: &FoundManifest) -> (Timestamp, Option<i64>) {
    (manifest.start_time, manifest.snapshot.revision)
}

/// When a manifest was written, by the store's clock; one of unknown time may be the newest.
fn written(listed: &Listed) -> Timestamp {
    listed.manifest.flatten().unwrap_or(Timestamp::MAX)
}

/// Whether an error is no single object's: what else is read fails the same, or is not known to be there.
fn is_of_the_store(error: &StoreError) -> bool {
    match error.class() {
        ErrorClass::Unavailable
        | ErrorClass::Cancelled
        | ErrorClass::CredentialsMissing
        | ErrorClass::Misconfigured
        | ErrorClass::NotSupported => true,
        ErrorClass::Refused
        | ErrorClass::Held
        | ErrorClass::Corrupt
        | ErrorClass::Missing
        | ErrorClass::Conflict
        | ErrorClass::Full
        | ErrorClass::TooLarge => false,
    }
}

/// The clusters whose archives lie there; of more than a page of them, the first.
async fn clusters(store: &dyn ObjectStore, cancel: &CancellationToken) -> Result<Vec<String>, ArchiveError> {
    let page = first_page(store, ListRequest::default(), cancel).await?;
    Ok(page.prefixes.iter().map(|prefix| prefix.trim_end_matches('/').to_owned()).collect())
}

/// What lies directly below a prefix, or the first page of it.
async fn first_page(
    store: &dyn ObjectStore,
    request: ListRequest,
    cancel: &CancellationToken,
) -> Result<ListPage, StoreError> {
    let request = ListRequest { delimiter: true, ..request };
    retry("looking for clusters", RetryPolicy::until(PATIENCE), cancel, || store.list(&request)).await
}

/// The cluster asked for, if anything of it lies there: an empty list would read as "no backups".
async fn known_cluster(
    store: &dyn ObjectStore,
    cluster: &str,
    cancel: &CancellationToken,
) -> Result<String, ArchiveError> {
    let page = first_page(store, ListRequest::under(format!("{cluster}/")), cancel).await?;
    if page.objects.is_empty() && page.prefixes.is_empty() {
        let known = clusters(store, cancel).await?;
        let known = if known.is_empty() { "nothing of any".to_owned() } else { known.join(", ") };
        return Err(ArchiveError::NoSuchCluster { place: store.describe(), wanted: cluster.to_owned(), known });
    }
    Ok(cluster.to_owned())
}

/// The cluster whose archives lie there, if they are of one alone.
async fn only_cluster(store: &dyn ObjectStore, cancel: &CancellationToken) -> Result<String, ArchiveError> {
    let mut clusters = clusters(store, cancel).await?;
    match (clusters.pop(), clusters.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(ArchiveError::Empty(store.describe())),
        (Some(last), false) => {
            clusters.push(last);
            Err(ArchiveError::SeveralClusters { place: store.describe(), clusters: clusters.join(", ") })
        }
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
