//! `lifeboat backup delete|pin|unpin`: one archive is changed, by a human who said so.

use std::io::Write;

use jiff::Timestamp;
use lifeboat_crds::manifest::Manifest;
use tokio_util::sync::CancellationToken;

use super::right::{Right, confirm};
use super::shown::{Format, write_manifest};
use super::{ArchiveError, Shelf, Which};
use crate::keeping::{Deletion, Place, delete_archive, remove_pin, write_pin};
use crate::manifest::FoundManifest;

/// Which archive goes.
#[derive(Debug, clap::Args)]
pub struct DeleteArguments {
    /// Which archive.
    #[command(flatten)]
    which: Which,
    /// By what right.
    #[command(flatten)]
    right: Right,
    /// Delete without asking.
    #[arg(long)]
    yes: bool,
}

/// Which archive is kept for ever.
#[derive(Debug, clap::Args)]
pub struct PinArguments {
    /// Which archive.
    #[command(flatten)]
    which: Which,
    /// Why it is kept.
    #[arg(long, value_name = "WORDS")]
    reason: String,
    /// By what right.
    #[command(flatten)]
    right: Right,
}

/// Which archive is no longer kept for ever.
#[derive(Debug, clap::Args)]
pub struct UnpinArguments {
    /// Which archive.
    #[command(flatten)]
    which: Which,
    /// By what right.
    #[command(flatten)]
    right: Right,
}

/// Deletes an archive.
///
/// # Errors
/// It is pinned, or not this host's to delete, or the store fails.
pub async fn run_delete(
    arguments: DeleteArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    let DeleteArguments { which, right, yes } = arguments;
    let (shelf, found) = Shelf::open_one(&which).await?;
    let manifest = &found.manifest;
    let place = place_of(&shelf, manifest, cancel);
    if let Some(pin) = place.pin().await? {
        return Err(crate::keeping::KeepError::Pinned(pin.reason).into());
    }
    right.check(shelf.store.as_ref(), &shelf.cluster).await?;
    write_manifest(out, Format::Table, &found)?;
    confirm(out, yes, &format!("Delete {} from {} for good?", manifest.backup_id, shelf.store.describe())).await?;
    let deletion = Deletion { by: "lifeboat backup delete".to_owned(), reasons: Vec::new(), now: Timestamp::now() };
    delete_archive(&place, &deletion).await?;
    Ok(writeln!(out, "{} was deleted", manifest.backup_id)?)
}

/// Pins an archive.
///
/// # Errors
/// It is not this host's to pin, or the store fails.
pub async fn run_pin(
    arguments: PinArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    let PinArguments { which, reason, right } = arguments;
    let (shelf, FoundManifest { manifest, signature: _ }) = Shelf::open_one(&which).await?;
    right.check(shelf.store.as_ref(), &shelf.cluster).await?;
    let pin = write_pin(&place_of(&shelf, &manifest, cancel), &reason, Timestamp::now()).await?;
    Ok(writeln!(out, "{} is kept until it is unpinned: {}", manifest.backup_id, pin.reason)?)
}

/// Unpins an archive.
///
/// # Errors
/// It is not this host's to unpin, or the store fails.
pub async fn run_unpin(
    arguments: UnpinArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    let UnpinArguments { which, right } = arguments;
    let (shelf, FoundManifest { manifest, signature: _ }) = Shelf::open_one(&which).await?;
    right.check(shelf.store.as_ref(), &shelf.cluster).await?;
    remove_pin(&place_of(&shelf, &manifest, cancel)).await?;
    Ok(writeln!(out, "{} is not pinned", manifest.backup_id)?)
}

/// The place of an archive of a shelf.
pub fn place_of(shelf: &Shelf, manifest: &Manifest, cancel: &CancellationToken) -> Place {
    Place {
        store: std::sync::Arc::clone(&shelf.store),
        cluster: shelf.cluster.clone(),
        backup: manifest.backup_id.clone(),
        known: shelf.known().clone(),
        cancel: cancel.clone(),
    }
}
