//! Deletes an archive: says so first, then the manifest, then the data.
//!
//! Power may go at any point: `expired.json` is there before anything is deleted, so whoever comes next finishes. Data
//! never goes before its manifest: what is listed can be restored. `expired.json` stays behind, as the word that whatever is
//! left or lands late may go too.

use jiff::Timestamp;
use lifeboat_crds::layout;
use lifeboat_crds::marker::Expired;

use super::{KeepError, Place};

/// Objects of one backup are a handful; more is somebody else's doing and is left alone.
const MOST_OBJECTS: usize = 1_000;

/// Who lets an archive go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// A schedule's policy, or a human by annotation or command.
    pub by: String,
    /// Why.
    pub reasons: Vec<String>,
    /// When.
    pub now: Timestamp,
}

/// Whether a decision is of a time before the cluster was last restored: the API server that it was made upon has been put
/// back since, and what it let go may be what is needed now. With an equal time, in doubt, it is.
pub fn is_older_than_restore(decided: Timestamp, last_restore: Option<Timestamp>) -> bool {
    last_restore.is_some_and(|restored| decided <= restored)
}

/// Deletes an archive. One that is gone already, or partly, is no error; the marks of the first deletion stay.
///
/// # Errors
/// It is pinned, the store refuses or fails. What was begun is finished by the next call.
pub async fn delete_archive(place: &Place, deletion: &Deletion) -> Result<(), KeepError> {
    refuse_pinned(place).await?;
    if place.expired().await?.is_none() {
        let Deletion { by, reasons, now } = deletion.clone();
        let mark = Expired { backup_id: place.backup.clone(), by, reasons, time: now };
        place.write(&place.expired_key()?, mark).await?;
    }
    // Looked at again now that the mark is there: whoever pins looks for the mark once the pin is there, so that one of
    // both sees the other.
    if let Err(pinned) = refuse_pinned(place).await {
        if matches!(pinned, KeepError::Pinned(_)) && place.has_manifest().await? {
            place.remove(&place.expired_key()?).await?;
        }
        return Err(pinned);
    }
    place.remove(&place.manifest_key()?).await?;
    if place.has_manifest().await? {
        // A store that only says so: the data must stay with its manifest.
        return Err(KeepError::Store(lifeboat_storage::StoreError::Unavailable {
            store: place.store.describe(),
            words: format!("{} was deleted and is still there", place.manifest_uri()?),
        }));
    }
    delete_data(place).await
}

async fn refuse_pinned(place: &Place) -> Result<(), KeepError> {
    match place.pin().await? {
        Some(pin) => Err(KeepError::Pinned(pin.reason)),
        None => Ok(()),
    }
}

/// Data of every attempt, and uploads that were never completed.
async fn delete_data(place: &Place) -> Result<(), KeepError> {
    let prefix = format!("{}snapshot-", layout::backup_prefix(&place.cluster, &place.backup));
    for object in place.ask("listing the data", || place.store.list_all(&prefix, MOST_OBJECTS)).await? {
        place.remove(&object.key).await?;
    }
    // They cost room and are no archive; a key that may not list them is no reason to stop.
    match place.ask("listing unfinished uploads", || place.store.list_uploads(&prefix)).await {
        Ok(uploads) => {
            for upload in uploads {
                place.ask("aborting an upload", || place.store.abort_upload(&upload)).await?;
            }
        }
        Err(error) => tracing::warn!(backup = %place.backup, %error, "unfinished uploads are not looked for"),
    }
    Ok(())
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
