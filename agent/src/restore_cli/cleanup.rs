//! `restore cleanup`: removes what restores that are over left on this master, the old data above all.

use std::io::Write;

use lifeboat_crds::order::RestoreId;

use crate::restoring::RestoringError;
use crate::restoring::reach::Reach;
use crate::restoring::site::{SiteArguments, find_site};
use crate::restoring::standing::standings;

/// Flags of `restore cleanup`.
#[derive(Debug, clap::Args)]
pub struct CleanupArguments {
    /// The restore whose old data is removed. Without it, only what there is is shown.
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Shows what is kept, or removes one restore's.
///
/// # Errors
/// There is no such restore, or it is not over.
pub async fn run(arguments: CleanupArguments, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let CleanupArguments { restore, site } = arguments;
    let site = find_site(site).await?;
    let all = standings(&site)?;
    let Some(id) = restore else {
        for standing in all.iter().filter(|standing| standing.outcome.is_some()) {
            let kept = site.place.directory(standing.restore_id.as_str());
            for path in std::iter::once(kept.staging()).chain(kept.staged_wal).filter(|path| path.exists()) {
                writeln!(out, "restore {}: {}", standing.restore_id, path.display())?;
            }
        }
        writeln!(out, "nothing was removed; say --restore ID to remove what one restore keeps")?;
        return Ok(());
    };
    let refused = |words: &str| RestoringError::Refused(format!("restore {id}: {words}"));
    let standing =
        all.iter().find(|standing| standing.restore_id == id).ok_or_else(|| refused("it was never sealed here"))?;
    if standing.outcome.is_none() || standing.is_running {
        return Err(refused("it is not over: what it keeps may be needed yet"));
    }
    let kept = site.place.directory(id.as_str());
    // The order and the journal stay: by them this restore never runs here again.
    crate::restore_engine::stage::clear(&kept).map_err(|error| RestoringError::Failed(error.to_string()))?;
    Reach::of(&site.node.state_dir, &id).forget()?;
    writeln!(out, "what restore {id} kept is removed")?;
    Ok(())
}
