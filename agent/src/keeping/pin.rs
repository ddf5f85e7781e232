//! Writes and removes `pin.json`. While it is there, nothing deletes the archive: not a policy, not a command.

use jiff::Timestamp;
use lifeboat_crds::marker::Pin;

use super::{KeepError, Place};

/// Pins an archive, and gives the pin that is there now. With the same words again nothing is written.
///
/// A deletion that another agent began, and that has looked for pins already, can no longer be stopped; then there is no
/// archive and no pin.
///
/// # Errors
/// There is no such archive, or the store fails.
pub async fn write_pin(place: &Place, reason: &str, now: Timestamp) -> Result<Pin, KeepError> {
    if !place.has_manifest().await? {
        return Err(place.gone());
    }
    let pin = match place.pin().await? {
        Some(pin) if pin.reason == reason => pin,
        Some(_) | None => {
            let pin = Pin { backup_id: place.backup.clone(), reason: reason.to_owned(), time: now };
            place.write(&place.pin_key()?, pin.clone()).await?;
            pin
        }
    };
    // What was given up and not deleted is kept after all.
    if place.expired().await?.is_some() {
        if !place.has_manifest().await? {
            place.remove(&place.pin_key()?).await?;
            return Err(place.gone());
        }
        place.remove(&place.expired_key()?).await?;
    }
    if place.has_manifest().await? { Ok(pin) } else { Err(place.gone()) }
}

/// Removes the pin; succeeds if there is none.
///
/// # Errors
/// The store fails.
pub async fn remove_pin(place: &Place) -> Result<(), KeepError> {
    place.remove(&place.pin_key()?).await
}
