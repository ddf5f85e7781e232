//! `restore join`: seals the order that another master wrote, and starts the executor of this one.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;

use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{SealOutcome, Volume, seal_newest};
use lifeboat_protocol::start::Ignored;
use lifeboat_storage::ObjectStore;
use tokio_util::sync::CancellationToken;

use super::RestoreCliError;
use super::code::JoinCode;
use super::follow::follow;
use super::keys::HostRestoreKeys;
use super::launch::launch;
use super::reach::Reach;
use super::site::{Site, SiteArguments, find_site};
use super::start::{look_at_etcd, placed_cluster};
use super::status::standings;
use crate::archives::file::LocationFile;
use crate::archives::{ArchivePlace, Shelf, Unlock};
use crate::keyring::Keyring;
use crate::rejoin::journal::Journal;
use crate::restore_engine::decision::Next;
use crate::restore_engine::perform::look;

/// A join code has about a hundred characters.
const LARGEST_CODE: u64 = 1 << 10;

/// Flags of `restore join`.
#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// The join code that `restore start` printed; without it, it is asked for.
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
) -> Result<(), RestoreCliError> {
    let JoinArguments { code, place, unlock, detach, site } = arguments;
    let site = find_site(site).await?;
    let location = LocationFile::read(place.location())?;
    let open = standings(&site)?.into_iter().find(|standing| standing.outcome.is_none() || standing.owes);
    let id = if let Some(standing) = open {
        standing.restore_id
    } else {
        refuse_while_something_waits(&site)?;
        let shelf = Shelf::open(&place, cancel).await?;
        let code = read_code(code, cancel).await?;
        seal_here(&site, &shelf.store, &shelf.cluster, Some(code)).await?
    };
    Reach::of(&site.node.state_dir, &id).keep(&location, place.keys(), unlock.path(), &site.data_dir)?;
    launch(&site, &id).await?;
    writeln!(out, "{} takes part in restore {id}", site.name)?;
    out.flush()?;
    if detach { Ok(()) } else { follow(&site, &id, out, cancel).await }
}

async fn read_code(given: Option<String>, cancel: &CancellationToken) -> Result<JoinCode, RestoreCliError> {
    let text = match given {
        Some(text) => text,
        None => ask(cancel).await?,
    };
    text.parse().map_err(|error: super::code::NotACode| RestoreCliError::Refused(error.to_string()))
}

/// Reads standard input: a line from a terminal, all of it from elsewhere. A thread of its own, which is left behind where somebody
/// interrupts: nothing ends a read.
async fn ask(cancel: &CancellationToken) -> Result<String, RestoreCliError> {
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
        () = cancel.cancelled() => Err(RestoreCliError::Refused("interrupted; nothing was changed".to_owned())),
    }
}

/// A restore by file, or a re-initialisation, that is not over on this master.
pub(super) fn refuse_while_something_waits(site: &Site) -> Result<(), RestoreCliError> {
    let next = look(&site.place).map_err(|error| RestoreCliError::Failed(error.to_string()))?;
    match next {
        Next::Start => Ok(()),
        Next::EndSwap | Next::TidyUp | Next::Perform | Next::Hold => Err(RestoreCliError::Refused(
            "a restore from a file waits on this master: see `lifeboat etcd restore --status`, and take it back with --abort".to_owned(),
        )),
    }
}

/// Seals the newest order in the location for this master.
pub(super) async fn seal_here(
    site: &Site,
    store: &Arc<dyn ObjectStore>,
    cluster: &str,
    code: Option<JoinCode>,
) -> Result<RestoreId, RestoreCliError> {
    let keyring = Keyring::of_host(&site.node.state_dir).current().await;
    let keys = HostRestoreKeys { lifeboat: site.lifeboat(), entered: code };
    let live = look_at_etcd(site).await;
    let peers = live.map(|status| status.members.into_iter().flat_map(|member| member.peer_urls).collect());
    let volume = Volume {
        node: site.name.clone(),
        placed_cluster: Some(placed_cluster(site)?),
        peers: peers.unwrap_or_default(),
        rejoins: site.place.command().exists() || !matches!(Journal::read(&site.place), Ok(None)),
    };
    match seal_newest(&site.lifeboat(), (store, cluster), (&keyring.known, &keys), &volume).await? {
        SealOutcome::Sealed(id, _) | SealOutcome::Ignored(id, Ignored::Known) => Ok(id),
        SealOutcome::Nothing => Err(RestoreCliError::Refused(
            "no restore is under way in this location, or the code is of another one".to_owned(),
        )),
        SealOutcome::WantsJoinCode(id) => {
            Err(RestoreCliError::Refused(format!("the code is not that of restore {id}, which is under way")))
        }
        SealOutcome::Ignored(id, reason) => Err(RestoreCliError::Refused(format!("restore {id}: {reason}"))),
    }
}
