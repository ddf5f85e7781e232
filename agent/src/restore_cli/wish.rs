//! `restore cancel` and `restore release`: wishes that the executor of this master reads.

use std::io::Write;

use lifeboat_crds::order::RestoreId;

use crate::restoring::RestoringError;
use crate::restoring::humans::{self, RELEASE};
use crate::restoring::site::{SiteArguments, find_site};
use crate::restoring::standing::only_open;

/// Flags of `restore cancel` and `restore release`.
#[derive(Debug, clap::Args)]
pub struct WishArguments {
    /// Which restore, where more than one is under way here.
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Leaves a wish for the executor.
///
/// # Errors
/// There is no restore to wish anything of.
pub async fn run(arguments: WishArguments, name: &str, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let WishArguments { restore, site } = arguments;
    let site = find_site(site).await?;
    let standing = only_open(&site, restore.as_ref())?;
    if name == RELEASE && !standing.holds_before_release {
        return Err(RestoringError::Refused("this restore does not hold before its release".to_owned()));
    }
    humans::wish(standing.directory.root(), name)?;
    let words = if name == RELEASE {
        "this master goes on as soon as the restore is committed. Say it on every other master too"
    } else {
        "asked for. Unless it is decided already, all masters put the old data back; see `lifeboat restore status`"
    };
    writeln!(out, "{words}")?;
    Ok(())
}
