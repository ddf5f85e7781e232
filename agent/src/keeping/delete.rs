//! Deletes an archive: says so first, then the manifest, then the data.
//!
//! Power may go at any point: `expired.json` is there before anything is deleted, so whoever comes next finishes. Data
//! never goes before its manifest: what is listed can be restored. `expired.json` stays behind, as the word that whatever is
//! left or lands late may go too; beside a manifest it decides nothing, because whoever wrote it may have changed his mind.

use jiff::Timestamp;
use lifeboat_crds::marker::Expired;
use lifeboat_storage::ListedObject;

use super::data::{abort_uploads, remove_data};
use super::{KeepError, Place};

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
    delete_rest(place, |_| true).await?;
    Ok(())
}

/// Finishes a deletion that was cut off after the manifest: of what is left goes what `is_old`. An archive with a manifest is
/// one, whatever lies beside it, and is left alone. How many objects went.
///
/// # Errors
/// It is pinned, the store refuses or fails. What was begun is finished by the next call.
pub async fn finish_deletion(place: &Place, is_old: impl Fn(&ListedObject) -> bool) -> Result<usize, KeepError> {
    refuse_pinned(place).await?;
    if place.has_manifest().await? || place.expired().await?.is_none() {
        return Ok(0);
    }
    delete_rest(place, is_old).await
}

/// Takes the word back that an archive was given up, which is there and is kept; whether it is.
///
/// # Errors
/// The store refuses or fails.
pub async fn take_back(place: &Place) -> Result<bool, KeepError> {
    let is_there = place.has_manifest().await?;
    if is_there {
        place.remove(&place.expired_key()?).await?;
    }
    Ok(is_there)
}

async fn refuse_pinned(place: &Place) -> Result<(), KeepError> {
    match place.pin().await? {
        Some(pin) => Err(KeepError::Pinned(pin.reason)),
        None => Ok(()),
    }
}

/// Data of every attempt, and uploads that were never completed.
async fn delete_rest(place: &Place, goes: impl Fn(&ListedObject) -> bool) -> Result<usize, KeepError> {
    let removed = remove_data(place, goes).await?;
    // They cost room and are no archive; a key that may not list them is no reason to stop.
    if let Err(error) = abort_uploads(place).await {
        tracing::warn!(backup = %place.backup, %error, "unfinished uploads are not cleared away");
    }
    Ok(removed)
}

#[cfg(test)]
#[path = "delete_tests.rs"]
mod tests;
