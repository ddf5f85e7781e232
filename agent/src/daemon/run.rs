//! The life of the agent: the host's lock, who this host and cluster are, then the watches, until it is told to stop.
//!
//! The only place that starts and ends tasks.

mod backups;
mod errands;
mod locations;
mod restores;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use lifeboat_process::api_error::api_words;
use lifeboat_process::connection::{ConnectionError, connect};
use lifeboat_process::health::serve_health;
use lifeboat_process::signals::stop_on_signal;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::backups::BackupCarrier;
use self::locations::LocationCarrier;
use self::restores::RestoreCarrier;
use super::config::Config;
use super::member::MemberKeeper;
use super::metrics::{AgentHealth, Metrics};
use super::readiness::{Need, Readiness};
use super::watch::watch_assigned;
use crate::backup::{BackupRunner, Opener};
use crate::catalog::Cataloger;
use crate::host::enter;
use crate::host::highest_revision::HighestRevision;
use crate::host::identity::{HostId, IdentityError, read_or_mint_host_id};
use crate::host::last_comparison::LastComparison;
use crate::host::lock::{HostLock, LockError};
use crate::keyring::Keyring;
use crate::location::LocationOpener;
use crate::location::probe::Prober;
use crate::node_cli::NodeArguments;
use crate::report::Reporter;
use crate::restores::Restorer;
use crate::restores::follow::Follower;
use lifeboat_process::version::VERSION;

/// Until the API server is asked again for what the agent cannot work without.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Why an agent without the flag carries out no restore.
const RESTORE_DISABLED: &str = "the agent may not restore: set agent.restore.enabled in the chart's values, or use `lifeboat restore` on the masters";

/// Longest wait for an answer.
const ASK_DEADLINE: Duration = Duration::from_secs(15);

/// Why the agent ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No client for the API server.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The address of the health server is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The host's lock cannot be tried.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host has no usable identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The spool of an earlier process cannot be removed.
    #[error("cannot empty the spool {path}: {source}", path = .path.display())]
    Spool {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A task that must run for ever ended.
    #[error("{0} ended unexpectedly")]
    TaskEnded(&'static str),
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start.
pub async fn run(config: Config) -> Result<(), RunError> {
    let stop = stop_on_signal().map_err(RunError::Signals)?;
    let (client, home) = connect(config.kubeconfig.as_deref(), "lifeboat-agent").await?;
    let namespace = config.namespace.clone().unwrap_or(home);
    tracing::info!(version = VERSION, node = %config.node, namespace, "starting");
    let readiness = Arc::new(Readiness::default());
    let metrics = Arc::new(Metrics::new(VERSION));
    let health = Arc::new(AgentHealth { readiness: Arc::clone(&readiness), metrics: Arc::clone(&metrics) });
    let mut server = JoinSet::new();
    if let Some(listener) = listen(config.listen).await? {
        server.spawn(serve_health(listener, Arc::clone(&health), CancellationToken::new()));
    }

    // One agent acts on a host. During a rollout the new one waits here, and begins where the old one ended.
    let lock = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        lock = HostLock::acquire(&config.state_dir) => lock?,
    };
    readiness.met(Need::HostLock);
    if server.is_empty() {
        // Whoever had the port had the lock too.
        let taken = || RunError::Listen { address: config.listen, source: io::ErrorKind::AddrInUse.into() };
        let listener = listen(config.listen).await?.ok_or_else(taken)?;
        server.spawn(serve_health(listener, health, CancellationToken::new()));
    }
    let spool_dir = config.state_dir.join("spool");
    empty_spool(&spool_dir)?;
    let host_id = read_or_mint_host_id(&config.state_dir)?;
    let cluster_uid = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        uid = fetch_cluster_uid(&client, &readiness) => uid,
    };
    readiness.met(Need::ClusterId);

    let parts = Parts { config, client, namespace, readiness, metrics, host_id, cluster_uid, spool_dir };
    let mut tasks = parts.start(&stop);
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        _ = tasks.watches.join_next() => Err(RunError::TaskEnded("a watch")),
        _ = tasks.keepers.join_next() => Err(RunError::TaskEnded("a keeper of EtcdMember or keys")),
        _ = server.join_next() => Err(RunError::TaskEnded("the health server")),
    };
    tracing::info!("stopping");
    stop.cancel();
    // Each watch waits for its own work to clear up, within bounds.
    while tasks.watches.join_next().await.is_some() {}
    drop(lock);
    ended
}

/// What everything is made of.
struct Parts {
    config: Config,
    client: Client,
    namespace: String,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    host_id: HostId,
    cluster_uid: String,
    spool_dir: PathBuf,
}

struct Tasks {
    watches: JoinSet<()>,
    keepers: JoinSet<()>,
}

impl Parts {
    fn start(self, stop: &CancellationToken) -> Tasks {
        let Self { config, client, namespace, readiness, metrics, host_id, cluster_uid, spool_dir } = self;
        let Config {
            node,
            namespace: _,
            kubeconfig: _,
            listen: _,
            state_dir,
            tools_dir,
            directories,
            directory_reserve_percent,
            restore,
            host_arguments,
            host,
        } = config;
        let reporter = Reporter::new(client.clone(), &namespace, &node);
        let opener = LocationOpener::new(client.clone(), &namespace, directories)
            .with_directory_reserve_percent(directory_reserve_percent);
        let keyring = Arc::new(Keyring::open(client.clone(), &namespace, &state_dir));
        let highest = Arc::new(load_highest(&state_dir));
        let comparison = Arc::new(LastComparison::load(&state_dir));
        let runner = BackupRunner {
            opener: Opener::Api(opener.clone()),
            keyring: Arc::clone(&keyring),
            host: host.clone(),
            node: node.clone(),
            cluster_uid: cluster_uid.clone(),
            host_id: host_id.clone(),
            spool_dir: spool_dir.clone(),
            version: VERSION,
            comparison: Arc::clone(&comparison),
            turn: Arc::new(Semaphore::new(1)),
            reading: Arc::new(Semaphore::new(1)),
        };
        let backups =
            BackupCarrier::new(reporter.clone(), runner, opener.clone(), Arc::clone(&highest), Arc::clone(&metrics));
        let restore_disabled = if restore {
            host_arguments.program_elsewhere().and_then(enter::obstacle)
        } else {
            Some(RESTORE_DISABLED.to_owned())
        };
        let restorer = Restorer {
            opener: opener.clone(),
            keyring: Arc::clone(&keyring),
            node: node.clone(),
            namespace: namespace.clone(),
            cluster_uid: cluster_uid.clone(),
            turn: Arc::default(),
            host: NodeArguments::of(host_arguments, state_dir, tools_dir.clone()),
        };
        let prober = Prober { opener: opener.clone(), cluster_uid: cluster_uid.clone(), host_id: host_id.clone() };
        let cataloger = Cataloger {
            opener,
            client: client.clone(),
            reporter: reporter.clone(),
            namespace: namespace.clone(),
            node: node.clone(),
            cluster_uid,
            host_id: host_id.clone(),
            keyring: Arc::clone(&keyring),
        };
        let locations = LocationCarrier::new(reporter.clone(), prober, cataloger);
        let mut watches = JoinSet::new();
        watches.spawn(watch_assigned(
            client.clone(),
            namespace.clone(),
            node.clone(),
            Arc::clone(&readiness),
            Arc::new(backups),
            stop.clone(),
        ));
        watches.spawn(watch_assigned(
            client.clone(),
            namespace.clone(),
            node.clone(),
            Arc::clone(&readiness),
            Arc::new(locations),
            stop.clone(),
        ));
        let mut keepers = JoinSet::new();
        if restore {
            let restores = RestoreCarrier::new(reporter.clone(), restorer.clone());
            watches.spawn(watch_assigned(
                client.clone(),
                namespace,
                node.clone(),
                Arc::clone(&readiness),
                Arc::new(restores),
                stop.clone(),
            ));
            keepers.spawn(Follower::new(restorer, client.clone(), &reporter).run());
        } else {
            readiness.met(Need::Restores);
        }
        keepers.spawn(keyring.keep());
        let member = MemberKeeper {
            node,
            client,
            reporter,
            host,
            tools_dir,
            spool_dir,
            host_id,
            highest,
            comparison,
            restore_disabled,
            metrics,
            readiness,
            version: VERSION,
        };
        keepers.spawn(member.run());
        Tasks { watches, keepers }
    }
}

/// The port for probes, unless another process has it: on the host's network that is the agent that is to end first.
async fn listen(address: SocketAddr) -> Result<Option<TcpListener>, RunError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(source) => Err(RunError::Listen { address, source }),
    }
}

/// Whoever spooled before has ended: the host's lock is ours. A spool that is a file system of its own stays, emptied.
fn empty_spool(path: &Path) -> Result<(), RunError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy) => Ok(()),
        Err(source) => Err(RunError::Spool { path: path.to_owned(), source }),
    }
}

/// A damaged file must not keep backups from being taken; the next heartbeat writes it anew.
fn load_highest(state_dir: &Path) -> HighestRevision {
    HighestRevision::load(state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "the highest revision is not known");
        HighestRevision::unknown(state_dir)
    })
}

/// The UID of kube-system: what a cluster is known by in a bucket.
async fn fetch_cluster_uid(client: &Client, readiness: &Readiness) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    loop {
        let words = match timeout(ASK_DEADLINE, namespaces.get("kube-system")).await {
            Ok(Ok(namespace)) => match namespace.uid() {
                Some(uid) => return uid,
                None => "it has no UID".to_owned(),
            },
            Ok(Err(error)) => api_words(&error),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        tracing::warn!(error = words, "waiting for namespace kube-system");
        readiness.failing(Need::ClusterId, &words);
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
