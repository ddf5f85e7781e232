//! `lifeboat backup delete|pin|unpin`: one archive is changed, by a human who said so.

use std::io::Write;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::right::{Right, confirm};
use super::shelf::Shelf;
use super::shown::{Format, write_manifest};
use super::{ArchiveError, Which};
use crate::keeping::{Deletion, delete_archive, remove_pin, write_pin};
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
    let (shelf, found) = Shelf::open_one(&which, cancel).await?;
    let manifest = &found.manifest;
    let place = shelf.place_of(&manifest.backup_id);
    if let Some(pin) = place.pin().await? {
        return Err(crate::keeping::KeepError::Pinned(pin.reason).into());
    }
    right.check(&shelf).await?;
    write_manifest(out, Format::Table, &found)?;
    let question = format!("Delete {} from {} for good?", manifest.backup_id, shelf.store.describe());
    confirm(out, yes, &question, cancel).await?;
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
    let (shelf, FoundManifest { manifest, signature: _ }) = Shelf::open_one(&which, cancel).await?;
    right.check(&shelf).await?;
    let pin = write_pin(&shelf.place_of(&manifest.backup_id), &reason, Timestamp::now()).await?;
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
    let (shelf, FoundManifest { manifest, signature: _ }) = Shelf::open_one(&which, cancel).await?;
    right.check(&shelf).await?;
    remove_pin(&shelf.place_of(&manifest.backup_id)).await?;
    Ok(writeln!(out, "{} is not pinned", manifest.backup_id)?)
}
