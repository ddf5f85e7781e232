//! `restore join`: seals the order that another master wrote, and starts the executor of this one.

use std::io::{IsTerminal, Read, Write};

use tokio_util::sync::CancellationToken;

use super::follow::follow;
use crate::archives::file::LocationFile;
use crate::archives::{ArchivePlace, Shelf, Unlock};
use crate::restores::request::{keep_request, read_request, request_of_host};
use crate::restoring::RestoringError;
use crate::restoring::code::JoinCode;
use crate::restoring::launch::launch;
use crate::restoring::reach::{Reach, read_identity};
use crate::restoring::sealing::{refuse_while_something_waits, seal_or_ask};
use crate::restoring::site::{SiteArguments, find_site};
use crate::restoring::standing::standings;

/// A join code has about a hundred characters.
const LARGEST_CODE: u64 = 1 << 10;

/// Flags of `restore join`.
#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// The join code that `restore start` printed. Without it, the installation's key on this host is tried, then it is asked for.
    #[arg(long, env = "LIFEBOAT_JOIN_CODE", hide_env_values = true)]
    code: Option<String>,
    /// Where the backup is, and where the masters meet.
    #[command(flatten)]
    place: ArchivePlace,
    /// What opens it.
    #[command(flatten)]
    unlock: Unlock,
    /// Do not watch it to its end.
    #[arg(long)]
    detach: bool,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Joins, or starts the executor of a restore again that has not ended here.
///
/// # Errors
/// It is refused, does not work, or the old data was put back.
pub async fn run(
    arguments: JoinArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoringError> {
    let JoinArguments { code, place, unlock, detach, site } = arguments;
    let site = find_site(site).await?;
    let location = LocationFile::read(place.location())?;
    let open = standings(&site)?.into_iter().find(|standing| standing.outcome.is_none() || standing.owes);
    let id = if let Some(standing) = open {
        standing.restore_id
    } else {
        refuse_while_something_waits(&site)?;
        let shelf = Shelf::open(&place, cancel).await?;
        let given = code.map(|text| parse_code(&text)).transpose()?;
        let ask = async || parse_code(&ask(cancel).await?);
        seal_or_ask(&site, (&shelf.store, &shelf.cluster), given, ask).await?
    };
    let directory = site.restore(&id);
    if read_request(&directory)?.is_none() {
        keep_request(&directory, &request_of_host(&directory.read_order_alone()?, &location.name()))?;
    }
    Reach::of(&site.node.state_dir, &id).keep(
        &location.portable(place.keys())?,
        None,
        read_identity(unlock.path())?,
        &site.data_dir,
    )?;
    launch(&site, &id).await?;
    writeln!(out, "{} takes part in restore {id}", site.name)?;
    out.flush()?;
    if detach { Ok(()) } else { follow(&site, &id, out, cancel).await }
}

fn parse_code(text: &str) -> Result<JoinCode, RestoringError> {
    text.parse().map_err(|error: crate::restoring::code::NotACode| RestoringError::Refused(error.to_string()))
}

/// Reads standard input: a line from a terminal, all of it from elsewhere. A thread of its own, which is left behind where somebody
/// interrupts: nothing ends a read.
async fn ask(cancel: &CancellationToken) -> Result<String, RestoringError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = if std::io::stdin().is_terminal() {
            let _ = write!(std::io::stderr(), "join code: ");
            std::io::stdin().read_line(&mut text)
        } else {
            std::io::stdin().take(LARGEST_CODE).read_to_string(&mut text)
        };
        let _ = sender.send(read.map(|_| text));
    });
    tokio::select! {
        read = receiver => Ok(read.unwrap_or_else(|_| Ok(String::new()))?),
        () = cancel.cancelled() => Err(RestoringError::Refused("interrupted; nothing was changed".to_owned())),
    }
}
