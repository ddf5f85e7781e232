//! What attempts of one backup left in its store: their data, and uploads that nobody completed. Deletes what it is told to.

use lifeboat_crds::layout;
use lifeboat_storage::ListedObject;

use super::{KeepError, Place};

/// Objects of one backup are a handful; more is somebody else's doing and is left alone.
const MOST_OBJECTS: usize = 1_000;

/// Removes the data that `goes`; how many objects went.
///
/// # Errors
/// The store refuses or fails; what went is gone.
pub async fn remove_data(place: &Place, goes: impl Fn(&ListedObject) -> bool) -> Result<usize, KeepError> {
    let prefix = data_prefix(place);
    let mut removed = 0;
    for object in place.ask("listing the data", || place.store.list_all(&prefix, MOST_OBJECTS)).await? {
        if goes(&object) {
            place.remove(&object.key).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Aborts every upload that was not completed.
///
/// # Errors
/// The store refuses or fails.
pub async fn abort_uploads(place: &Place) -> Result<(), KeepError> {
    let prefix = data_prefix(place);
    for upload in place.ask("listing unfinished uploads", || place.store.list_uploads(&prefix)).await? {
        place.ask("aborting an upload", || place.store.abort_upload(&upload)).await?;
    }
    Ok(())
}

/// Whether an object is the data of that name.
pub fn is_named(object: &ListedObject, name: &str) -> bool {
    object.key.as_str().rsplit('/').next() == Some(name)
}

fn data_prefix(place: &Place) -> String {
    format!("{}snapshot-", layout::backup_prefix(&place.cluster, &place.backup))
}
