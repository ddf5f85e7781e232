//! Clears away what nobody can need any more: what a deletion that was cut off left, data of attempts that lost, uploads that
//! nobody completes. What is merely not understood is counted as an orphan and stays.
//!
//! Deletes, and so only for hosts that own the place (`owner.json`), in a location that may be written. Nothing goes that
//! is younger than a day; no manifest, whatever lies beside it, and no data that one names: archives are deleted by those who
//! are asked to. A failure is logged: the next listing finds the rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::location::AccessMode;
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{BackupId, EtcdBackupLocation, layout};
use lifeboat_decisions::LARGEST_SKEW;
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore, PendingUpload, StoreError};
use tokio_util::sync::CancellationToken;

use super::listing::Listed;
use super::records::{Record, State};
use crate::keeping::{KeepError, Place, finish_deletion, is_named, remove_data, take_back};
use crate::manifest::{ManifestError, Manifests};

/// Longest for all of it; what is left is found by the next listing.
pub const SWEEP_LIMIT: Duration = Duration::from_secs(120);
/// For how long everything is left alone: whoever is at work on it is done by then, except with uploads, of which a run that
/// goes on may take up to a week (spec.limits.timeoutSeconds).
const OLD: SignedDuration = SignedDuration::from_hours(24);
/// For how long the word stays that an archive was given up.
const MARK_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// For how long a store that does not give a manifest is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is left of a backup and may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remnant {
    /// Data of an archive that was given up a day ago and whose manifest is gone.
    Rest,
    /// Data of attempts whose manifest can never be written: another one's is there.
    Losers,
    /// The word that the archive was given up, a month after the last of it went.
    Mark,
    /// The word of a day ago that an archive was given up, which is there, and which its record keeps. If its manifest were
    /// lost one day, the data must not go by it.
    TakenBack,
}

/// What of a backup may go, by what is listed of it and by its records.
pub fn remnant_of(listed: &Listed, records: &[Record], asked: Timestamp) -> Option<Remnant> {
    let Listed { id: _, manifest, is_expired, expired, is_pinned, data } = listed;
    let is_older =
        |time: &Option<Timestamp>, age: SignedDuration| time.is_some_and(|time| asked.duration_since(time) >= age);
    match (is_expired, manifest) {
        (true, None) if *is_pinned => None,
        (true, None) if data.is_empty() => is_older(expired, MARK_KEPT).then_some(Remnant::Mark),
        (true, None) => is_older(expired, OLD).then_some(Remnant::Rest),
        (true, Some(_)) => (is_older(expired, OLD) && is_kept(records)).then_some(Remnant::TakenBack),
        (false, Some(_)) => {
            (data.len() > 1 && data.iter().any(|data| is_older(&data.modified, OLD))).then_some(Remnant::Losers)
        }
        // Without a manifest and without that word nobody knows whose it is.
        (false, None) => None,
    }
}

/// Whether a record is of the archive, and none lets it go.
fn is_kept(records: &[Record]) -> bool {
    let has = |wanted: fn(&State) -> bool| records.iter().any(|record| wanted(&record.state));
    has(|state| matches!(state, State::Complete(_))) && !has(|state| matches!(state, State::Leaving))
}

/// Whether this location is swept at all, by its own word and the store's clock.
pub fn may_sweep(location: &EtcdBackupLocation) -> bool {
    let skew = location.status.as_ref().and_then(|status| status.clock_skew_seconds);
    match location.spec.access_mode {
        AccessMode::ReadOnly => false,
        AccessMode::ReadWrite => skew.is_none_or(|seconds| SignedDuration::from_secs(seconds).abs() <= LARGEST_SKEW),
    }
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
    /// Whether the store proved that a second manifest of one backup is refused; without that nobody has lost for good.
    pub is_conditional: bool,
    /// Backups of which a run goes on.
    pub running: &'s BTreeSet<BackupId>,
    /// Ends whatever goes on.
    pub cancel: &'s CancellationToken,
}

impl Sweeper<'_> {
    /// Clears away what is left of these backups, and uploads that are a day old.
    pub async fn sweep(&self, remnants: &[(Listed, Remnant)]) -> Swept {
        let mut swept = Swept::default();
        for (listed, remnant) in remnants {
            let place = self.place(&listed.id);
            let done = match remnant {
                Remnant::Rest => finish_deletion(&place, |object| self.is_old(object.last_modified)).await,
                Remnant::Losers if self.is_conditional => self.remove_losers(&place, listed).await,
                Remnant::Losers => Ok(0),
                Remnant::Mark => self.remove(layout::expired(self.cluster, &listed.id)).await.map(|()| 1),
                Remnant::TakenBack => take_back(&place).await.map(usize::from),
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

    fn place(&self, id: &BackupId) -> Place {
        Place {
            store: Arc::clone(&self.store),
            cluster: self.cluster.to_owned(),
            backup: id.clone(),
            known: self.known.clone(),
            cancel: self.cancel.clone(),
        }
    }

    fn is_old(&self, time: Option<Timestamp>) -> bool {
        time.is_some_and(|time| self.asked.duration_since(time) >= OLD)
    }

    /// Removes data beside that which the manifest names; nothing where that is not there, or where the manifest is not to be
    /// believed: whoever altered it may have changed the name.
    async fn remove_losers(&self, place: &Place, listed: &Listed) -> Result<usize, KeepError> {
        let Self { store, cluster, known, cancel, .. } = self;
        let manifests = Manifests { store: store.as_ref(), cluster, known, patience: PATIENCE, cancel };
        let winner = match manifests.fetch_believed(&listed.id).await {
            Ok(found) => found.manifest.data,
            // It went, or is not understood: then nothing is known of the data either.
            Err(
                ManifestError::Store(StoreError::NotFound { .. })
                | ManifestError::Document { .. }
                | ManifestError::Foreign { .. }
                | ManifestError::OtherCluster { .. }
                | ManifestError::Altered { .. },
            ) => return Ok(0),
            Err(ManifestError::Store(error)) => return Err(error.into()),
        };
        if listed.size_of(&winner).is_none() {
            return Ok(0);
        }
        remove_data(place, |object| !is_named(object, &winner) && self.is_old(object.last_modified)).await
    }

    async fn abort_uploads(&self) -> Result<usize, StoreError> {
        let mut aborted = 0;
        let prefix = layout::backups_prefix(self.cluster);
        for upload in self.store.list_uploads(&prefix).await? {
            let PendingUpload { key, upload_id: _, initiated } = &upload;
            let backup = layout::part_of_backup(self.cluster, key.as_str());
            let is_running = backup.is_some_and(|(id, _)| self.running.contains(&id));
            if self.is_old(*initiated) && !is_running {
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
