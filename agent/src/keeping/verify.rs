//! Reads an archive back, whole, and says what that proves. Writes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_crds::backup::{Verification, VerificationLevel};
use lifeboat_crds::{Reason, TaskError, Time};
use lifeboat_snapshot::Content;

use super::{KeepError, Place};
use crate::archive::progress::Progress;
use crate::archive::read::{Reading, read_archive};

/// Proves an archive again.
///
/// # Errors
/// It is gone, is not what its manifest says, or the store fails.
pub async fn verify_archive(
    place: &Place,
    progress: &Arc<Progress>,
    now: Timestamp,
) -> Result<Verification, KeepError> {
    let manifest = place.manifest().await?;
    let key = place.data_key(&manifest.data)?;
    let facts =
        read_archive(place.store.as_ref(), &key, &manifest, Reading::default(), progress, &place.cancel).await?;
    let (level, shortfall) = match facts.content {
        Content::Verified(_) => (VerificationLevel::Content, None),
        Content::Unverified { reason } => {
            let words = format!("the pages cannot be checked by this version, so not by another reading: {reason}");
            (VerificationLevel::Checksum, Some(TaskError::new(Reason::NotSupported, words)))
        }
    };
    Ok(Verification { level, time: Time(now), shortfall })
}
