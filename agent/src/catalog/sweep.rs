//! Clears away what nobody can need any more: deletions that were cut off, data of attempts that lost, uploads that nobody
//! completes. What is merely not understood is counted as an orphan and stays.
//!
//! Deletes, and so only for hosts that own the place (`owner.json`), in a location that may be written. Nothing goes that
//! is younger than a day, and no data that a manifest names. A failure is logged: the next listing finds the rest.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::location::{AccessMode, EtcdBackupLocationStatus};
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{BackupId, EtcdBackupLocation, layout};
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore, PendingUpload, StoreError};
use tokio_util::sync::CancellationToken;

use super::listing::Listed;
use crate::keeping::{Deletion, KeepError, Place, delete_archive};
use crate::manifest::{ManifestError, fetch_manifest};

/// Longest for all of it; what is left is found by the next listing.
pub const SWEEP_LIMIT: Duration = Duration::from_secs(120);
/// No attempt that was begun so long ago still goes on: a run takes a week at most, and its parts come in all the time.
const OLD: SignedDuration = SignedDuration::from_hours(24);
/// For how long the word stays that an archive was given up.
const MARK_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Clocks that differ by more say nothing about the age of an object.
const MOST_SKEW: i64 = 300;

/// What is left of a backup and may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remnant {
    /// A deletion that was begun a day ago is finished.
    Deletion,
    /// Data of attempts whose manifest can never be written: another one's is there.
    Losers,
    /// The word that the archive was given up, a month after the last of it went.
    Mark,
}

/// What of a backup may go, by what is listed of it.
pub fn remnant_of(listed: &Listed, asked: Timestamp) -> Option<Remnant> {
    let Listed { id: _, manifest, is_expired, expired, is_pinned, data } = listed;
    let is_older =
        |time: &Option<Timestamp>, age: SignedDuration| time.is_some_and(|time| asked.duration_since(time) >= age);
    match (is_expired, manifest) {
        (true, None) if data.is_empty() && !is_pinned => is_older(expired, MARK_KEPT).then_some(Remnant::Mark),
        (true, Some(_) | None) if !is_pinned => is_older(expired, OLD).then_some(Remnant::Deletion),
        (true, Some(_) | None) => None,
        (false, Some(_)) => {
            (data.len() > 1 && data.iter().any(|data| is_older(&data.modified, OLD))).then_some(Remnant::Losers)
        }
        // Without a manifest and without that word nobody knows whose it is.
        (false, None) => None,
    }
}

/// Whether this location is swept at all, by its own word and the store's clock.
pub fn may_sweep(location: &EtcdBackupLocation) -> bool {
    let skew = location.status.as_ref().and_then(|status| status.clock_skew_seconds);
    match location.spec.access_mode {
        AccessMode::ReadOnly => false,
        AccessMode::ReadWrite => skew.is_none_or(|seconds| seconds.abs() <= MOST_SKEW),
    }
}

/// Whether the store proved that a second manifest of one backup is refused; without that nobody has lost for good.
pub fn is_conditional(status: Option<&EtcdBackupLocationStatus>) -> bool {
    status.and_then(|status| status.conditional_writes) == Some(true)
}

/// How much was cleared away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects and archives.
    pub removed: usize,
    /// Uploads.
    pub aborted: usize,
}

/// Clears away.
pub struct Sweeper<'s> {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// UID of the kube-system namespace.
    pub cluster: &'s str,
    /// Whose signatures are believed.
    pub known: &'s KnownKeys,
    /// When the listing was asked for, by the operator's clock.
    pub asked: Timestamp,
    /// As [`is_conditional`] says.
    pub is_conditional: bool,
    /// Ends whatever goes on.
    pub cancel: &'s CancellationToken,
}

impl Sweeper<'_> {
    /// Clears away what is left of these backups, and uploads that are a day old.
    pub async fn sweep(&self, remnants: &[(Listed, Remnant)]) -> Swept {
        let mut swept = Swept::default();
        for (listed, remnant) in remnants {
            let done = match remnant {
                Remnant::Deletion => self.finish_deletion(&listed.id).await.map(|()| 1),
                Remnant::Losers if self.is_conditional => self.remove_losers(listed).await,
                Remnant::Losers => Ok(0),
                Remnant::Mark => self.remove(layout::expired(self.cluster, &listed.id)).await.map(|()| 1),
            };
            match done {
                Ok(count) => swept.removed += count,
                Err(error) => self.remark(&listed.id, &error),
            }
        }
        match self.abort_uploads().await {
            Ok(count) => swept.aborted = count,
            Err(error) => tracing::warn!(%error, "unfinished uploads are not cleared away"),
        }
        if swept != Swept::default() {
            let Swept { removed, aborted } = swept;
            tracing::info!(removed, aborted, "what nobody can need any more was cleared away");
        }
        swept
    }

    /// The mark is there already, and says who let it go; a pin that came since is respected.
    async fn finish_deletion(&self, id: &BackupId) -> Result<(), KeepError> {
        let place = Place {
            store: Arc::clone(&self.store),
            cluster: self.cluster.to_owned(),
            backup: id.clone(),
            known: self.known.clone(),
            cancel: self.cancel.clone(),
        };
        let deletion = Deletion { by: "the catalog".to_owned(), reasons: Vec::new(), now: self.asked };
        delete_archive(&place, &deletion).await
    }

    /// Removes data beside that which the manifest names; nothing where that is not there.
    async fn remove_losers(&self, listed: &Listed) -> Result<usize, KeepError> {
        let found = match fetch_manifest(self.store.as_ref(), self.cluster, &listed.id, self.known).await {
            Ok(found) => found,
            // It went, or is not understood: then nothing is known of the data either.
            Err(ManifestError::Store(StoreError::NotFound { .. })) => return Ok(0),
            Err(ManifestError::Document { .. } | ManifestError::Foreign { .. }) => return Ok(0),
            Err(ManifestError::Store(error)) => return Err(error.into()),
        };
        let winner = &found.manifest.data;
        if listed.size_of(winner).is_none() {
            return Ok(0);
        }
        let mut removed = 0;
        for data in listed.data.iter().filter(|data| data.name != *winner) {
            if data.modified.is_some_and(|time| self.asked.duration_since(time) >= OLD) {
                self.remove(layout::data(self.cluster, &listed.id, &data.name)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn abort_uploads(&self) -> Result<usize, StoreError> {
        let mut aborted = 0;
        for upload in self.store.list_uploads(&layout::backups_prefix(self.cluster)).await? {
            let PendingUpload { key: _, upload_id: _, initiated } = &upload;
            if initiated.is_some_and(|begun| self.asked.duration_since(begun) >= OLD) {
                self.store.abort_upload(&upload).await?;
                aborted += 1;
            }
        }
        Ok(aborted)
    }

    async fn remove(&self, key: String) -> Result<(), KeepError> {
        let key = ObjectKey::parse(key).map_err(StoreError::from)?;
        Ok(self.store.delete(&key).await?)
    }

    fn remark(&self, backup: &BackupId, error: &KeepError) {
        match error {
            // It stays until its time is over; nobody need hear of that every ten minutes.
            KeepError::Store(store) if store.class() == ErrorClass::Held => {
                tracing::debug!(%backup, %error, "what is left stays");
            }
            error => tracing::warn!(%backup, %error, "what is left stays"),
        }
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
