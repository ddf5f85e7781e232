//! `restore run`: the executor of one restore on this master. Started by a unit, or by `start` and `join`.

use std::sync::Arc;

use async_trait::async_trait;
use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{Ended, Executor, MachineError, Sealed};
use lifeboat_process::logging::{LogArguments, start_logging};
use lifeboat_protocol::Phase;
use lifeboat_storage::ObjectStore;
use tokio_util::sync::CancellationToken;

use crate::archive::progress::Progress;
use crate::archives::file::{LocationFile, StoreKeys};
use crate::archives::read_identities;
use crate::host::tools::Minor;
use crate::keyring::Keyring;
use crate::master::machine::{Safety, StaticPods};
use crate::master::processes;
use crate::master::services::Services;
use crate::master::staging::Supply;
use crate::master::trees::Trees;
use crate::node_cli::{LocationArguments, Node, upload};
use crate::restoring::RestoringError;
use crate::restoring::humans::HostHumans;
use crate::restoring::launch::{launch, notify_ready, remove_unit};
use crate::restoring::reach::Reach;
use crate::restoring::site::{Site, SiteArguments, find_site};

/// Flags of `restore run`.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The restore that is sealed here.
    #[arg(long, value_name = "ID")]
    restore: RestoreId,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Carries the restore out to its end on this master.
///
/// # Errors
/// The journal cannot be used any more in this process: start it again.
pub async fn run(arguments: RunArguments, cancel: &CancellationToken) -> Result<(), RestoringError> {
    let RunArguments { restore: id, site } = arguments;
    let _ = start_logging(&LogArguments { log_format: None, log_level: "info".to_owned() });
    let site = find_site(site).await?;
    let directory = site.restore(&id);
    let reach = Reach::of(&site.node.state_dir, &id);
    let location = LocationFile::read(&reach.location()).map_err(|error| {
        RestoringError::Refused(format!(
            "how the location is reached is not known here ({error}): say `lifeboat restore join`"
        ))
    })?;
    let store = location.open(&StoreKeys::none()).await?;
    let source = match reach.source() {
        Some(path) => LocationFile::read(&path)?.open(&StoreKeys::none()).await?,
        None => Arc::clone(&store),
    };
    let sealed = directory.read(&site.name)?;
    let machine = machine(&site, &sealed, source, &reach).await?;
    let humans = HostHumans::of(&directory, sealed.clone(), site.name.clone());
    let executor = Executor::open(&site.lifeboat(), &id, &site.name, store, (machine, humans))?;
    hold_after_a_boot(&site, &directory, executor.phase())?;
    notify_ready();
    let ended = executor.run(cancel).await?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Over(outcome) => {
            tracing::info!(outcome = ?outcome, "over");
            reach.forget()?;
            remove_unit().await?;
            Ok(())
        }
    }
}

/// Starts the executor as a unit, or a process of its own.
///
/// # Errors
/// It was not started.
pub async fn launch_here(arguments: RunArguments) -> Result<(), RestoringError> {
    let RunArguments { restore, site } = arguments;
    launch(&find_site(site).await?, &restore).await
}

/// An etcd that was started alone must not come back by itself after a boot: meanwhile the others may have put the old data
/// back. It is started again once it was read that nothing is decided.
fn hold_after_a_boot(
    site: &Site,
    directory: &lifeboat_executor::RestoreDirectory,
    phase: Phase,
) -> Result<(), RestoringError> {
    let is_alone = match phase {
        Phase::Serving | Phase::InDoubt => true,
        Phase::Staging
        | Phase::Gathering
        | Phase::Stopping
        | Phase::Exchanging
        | Phase::Leaving
        | Phase::Obeying(_)
        | Phase::Over(_) => false,
    };
    if !is_alone {
        return Ok(());
    }
    let placed = [vec![site.place.member()], Vec::new()];
    let runs = !processes::look(placed)?.etcd.is_empty();
    if runs { Ok(()) } else { site.pods(directory).hold().map_err(|error| RestoringError::Failed(error.to_string())) }
}

async fn machine(
    site: &Site,
    sealed: &Sealed,
    store: Arc<dyn ObjectStore>,
    reach: &Reach,
) -> Result<StaticPods, RestoringError> {
    let directory = site.restore(&sealed.order.restore_id);
    let trees = Trees::new(site.place.clone(), sealed.order.restore_id.as_str());
    let identities = read_identities(reach.identity().as_deref()).map_err(crate::archives::ArchiveError::from)?;
    let supply = Supply {
        store,
        known: Keyring::of_host(&site.node.state_dir).current().await.known,
        identities,
        tools_dir: site.node.tools_dir.clone(),
        server: site.node.discovery().version_hint.as_deref().and_then(Minor::of_version),
    };
    let safety = (sealed.order.author == site.name).then(|| -> Box<dyn Safety> {
        Box::new(SafetyUpload {
            node: site.node.clone(),
            location: LocationArguments::of(reach.location(), sealed.order.cluster.clone()),
        })
    });
    Ok(StaticPods {
        order: sealed.order.clone(),
        trees,
        pods: site.pods(&directory),
        client: site.node.client().await?,
        api_server: site.node.api_server(),
        supply,
        safety,
        services: Services::find(),
        told: None,
        silence: String::new(),
    })
}

/// A backup of this master's etcd into the location of the restore.
struct SafetyUpload {
    node: Node,
    location: LocationArguments,
}

#[async_trait]
impl Safety for SafetyUpload {
    async fn take(&self, stop: &CancellationToken) -> Result<String, MachineError> {
        let file = self.location.location.clone().unwrap_or_default();
        let progress = Arc::new(Progress::default());
        let taken = upload(&self.node, &file, &self.location, |_| {}, &progress, stop).await;
        let taken = taken.map_err(|error| MachineError { words: error.to_string(), is_permanent: false })?;
        Ok(taken.backup_id.unwrap_or_default())
    }
}
