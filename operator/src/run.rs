//! The life of the process: caches first, then the lease, then the controllers, until it is told to stop.
//!
//! The only place that starts and ends tasks. Leadership lost is an error: the process ends and starts afresh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_crds::OPERATOR_FIELD_MANAGER;
use lifeboat_process::connection::{ConnectionError, connect};
use lifeboat_process::health::serve_health;
use lifeboat_process::signals::stop_on_signal;
use lifeboat_process::version::VERSION;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::apply::ObjectWriter;
use crate::assignments::RecentAssignments;
use crate::backups::Backups;
use crate::config::Config;
use crate::controller::{Context, run_controller};
use crate::events::event_queue;
use crate::health::OperatorHealth;
use crate::installation::keep_installation_key;
use crate::leadership::{Election, LeadershipLost};
use crate::locations::Locations;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::restores::Restores;
use crate::schedules::Schedules;
use crate::stores::{Observers, Stores};

/// Longest wait for reconciles to end at shutdown, below the pod's 30 s of grace.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(12);
/// Longest wait for the last events.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the operator ended other than by being told to.
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
    /// Another operator leads, or the API server is away.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
    /// A task that must run for ever ended.
    #[error("{0} ended unexpectedly")]
    TaskEnded(&'static str),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or has lost its leadership.
pub async fn run(config: Config) -> Result<(), RunError> {
    let stop = stop_on_signal().map_err(RunError::Signals)?;
    let (client, home) = connect(config.kubeconfig.as_deref(), OPERATOR_FIELD_MANAGER).await?;
    let namespace = config.namespace.clone().unwrap_or(home);
    tracing::info!(version = VERSION, namespace, "starting");

    let (stores, writers) = Stores::new(&namespace);
    let observers = Observers { liveness: Arc::default(), readiness: Arc::new(Readiness::default()) };
    let (mut election, gate) = Election::new(client.clone(), &namespace, &config.pod_name);
    let metrics = Arc::new(Metrics::new(stores.clone(), gate.clone()));

    let listener =
        TcpListener::bind(config.listen).await.map_err(|source| RunError::Listen { address: config.listen, source })?;
    let health = OperatorHealth { readiness: observers.readiness.clone(), metrics: metrics.clone() };
    // Lives as long as the process, beyond `stop`: probes and scrapes are answered while it drains.
    let mut server = JoinSet::new();
    server.spawn(serve_health(listener, Arc::new(health), CancellationToken::new()));
    let mut watches = writers.watch(&client, &stores, &observers);

    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = async { stores.wait_until_synced().await; election.campaign().await } => {}
        _ = watches.join_next() => return Err(RunError::TaskEnded("a watch")),
        _ = server.join_next() => return Err(RunError::TaskEnded("the health server")),
    }

    let (events, publisher) = event_queue(client.clone(), &config.pod_name);
    let publisher = tokio::spawn(publisher.run());
    let context = Arc::new(Context {
        stores,
        liveness: observers.liveness,
        writer: ObjectWriter::new(client.clone(), &namespace, gate.clone()),
        events,
        metrics,
        assignments: RecentAssignments::default(),
    });
    let drain = CancellationToken::new();
    let mut controllers = start_controllers(&context, &drain);
    controllers.spawn(keep_installation_key(client, namespace, gate, drain.clone()));

    tokio::select! {
        () = stop.cancelled() => {}
        lost = election.hold() => return Err(lost.into()),
        _ = controllers.join_next() => return Err(RunError::TaskEnded("a controller")),
        _ = watches.join_next() => return Err(RunError::TaskEnded("a watch")),
        _ = server.join_next() => return Err(RunError::TaskEnded("the health server")),
    }

    tracing::info!("stopping");
    drain.cancel();
    let drained = async { while controllers.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("a reconcile did not end in time and is cut off");
        controllers.shutdown().await;
    }
    election.release().await;
    // With the last sink the publisher ends, once it has told what is left.
    drop(context);
    if timeout(FAREWELL_TIMEOUT, publisher).await.is_err() {
        tracing::warn!("some events were not published");
    }
    Ok(())
}

fn start_controllers(context: &Arc<Context>, drain: &CancellationToken) -> JoinSet<()> {
    let mut controllers = JoinSet::new();
    controllers.spawn(run_controller::<Locations>(context.clone(), drain.clone()));
    controllers.spawn(run_controller::<Members>(context.clone(), drain.clone()));
    controllers.spawn(run_controller::<Schedules>(context.clone(), drain.clone()));
    controllers.spawn(run_controller::<Backups>(context.clone(), drain.clone()));
    controllers.spawn(run_controller::<Restores>(context.clone(), drain.clone()));
    controllers
}
