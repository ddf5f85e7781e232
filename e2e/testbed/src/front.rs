//! Sick fronts: what stands before the real object store or a real etcd and lets a test make them ill while it runs. Each is part of the
//! test's own process, listens where the masters reach it, and counts what it did, so that a test can prove that a fault happened.
//!
//! A client's bytes go through [`line`] (slow, silent, reset), its requests through [`exchange`] (refused, cut, changed, unanswered).

pub mod etcd;
mod exchange;
mod frames;
pub mod illness;
mod line;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::exchange::Exchange;
use self::illness::{Course, Illness, Kind, Step, Symptom, Way};
use self::tls::Pair;

/// Bytes between a client's connection and whoever serves it.
const BETWEEN: usize = 64 * 1024;
/// Until a port that was given up is tried again.
const REBIND: Duration = Duration::from_millis(50);

/// What passed a front since it was started.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes towards the store.
    pub bytes_up: u64,
    /// Bytes back.
    pub bytes_down: u64,
    /// Requests by kind.
    pub requests: BTreeMap<Kind, u64>,
}

/// A front's illness and what it saw; shared with every connection.
#[derive(Debug)]
struct Patient {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    course: Course,
    seen: Seen,
}

impl Patient {
    fn new() -> Arc<Self> {
        let course = Course::begin(Illness::default(), Instant::now());
        Arc::new(Self { state: Mutex::new(State { course, seen: Seen::default() }), changes: watch::Sender::new(()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, illness: Illness) {
        self.state().course = Course::begin(illness, Instant::now());
        self.changes.send_replace(());
    }

    /// Waits for the next change of the illness.
    async fn changed(&self) {
        // Fails only when the sender is gone, and that is ours.
        let _ = self.changes.subscribe().changed().await;
    }

    fn is_refusing(&self) -> bool {
        self.state().course.illness().is_refusal()
    }

    fn count_bytes(&self, way: Way, bytes: usize) {
        let seen = &mut self.state().seen;
        match way {
            Way::Up => seen.bytes_up += bytes as u64,
            Way::Down => seen.bytes_down += bytes as u64,
        }
    }

    fn carry(&self, way: Way, bytes: usize) -> Step {
        self.state().course.carry(way, bytes as u64, Instant::now())
    }

    fn answer(&self, kind: Kind) -> Symptom {
        let mut state = self.state();
        *state.seen.requests.entry(kind).or_default() += 1;
        state.course.answer(kind)
    }
}

/// A front before the object store. Gone when dropped.
#[derive(Debug)]
pub struct S3Front {
    /// `https://10.123.x.2:PORT`
    pub endpoint: String,
    patient: Arc<Patient>,
    stop: CancellationToken,
}

impl Drop for S3Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl S3Front {
    /// Starts a healthy front before `upstream`, on a free port of `host`, with a certificate of the CA in `dir` (`ca.crt`, `ca.key`).
    pub(crate) async fn start(host: std::net::IpAddr, upstream: SocketAddr, dir: &Path) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (cert, key) =
            (dir.join(format!("front-{}.crt", address.port())), dir.join(format!("front-{}.key", address.port())));
        let (ca, ca_key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let own = Pair { cert: &cert, key: &key };
        tls::sign_server(Pair { cert: &ca, key: &ca_key }, host, own).await?;
        let (patient, stop) = (Patient::new(), CancellationToken::new());
        let service = Service {
            patient: Arc::clone(&patient),
            acceptor: tls::acceptor(own, &["http/1.1"])?,
            connector: tls::Connector::new(&ca, None, &[])?,
            upstream,
        };
        let accepting = accept_all(listener, address, Arc::new(service), stop.clone());
        tokio::spawn(async move { stop_at(accepting, address).await });
        Ok(Self { endpoint: format!("https://{address}"), patient, stop })
    }

    /// Falls ill, or gets well.
    pub fn set(&self, illness: impl Into<Illness>) {
        let illness = illness.into();
        tracing::info!(endpoint = self.endpoint, ?illness, "the front changes");
        self.patient.set(illness);
    }

    /// How often the present fault really happened.
    #[must_use]
    pub fn happened(&self) -> u64 {
        self.patient.state().course.happened
    }

    /// What passed since the start.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.patient.state().seen.clone()
    }

    /// Requests of a kind since the start.
    #[must_use]
    pub fn requests(&self, kind: Kind) -> u64 {
        self.seen().requests.get(&kind).copied().unwrap_or(0)
    }
}

async fn stop_at(accepting: impl Future<Output = Result<()>>, address: SocketAddr) {
    if let Err(error) = accepting.await {
        tracing::error!(%address, %error, "the front ended");
    }
}

/// What serves connections.
struct Service {
    patient: Arc<Patient>,
    acceptor: TlsAcceptor,
    connector: tls::Connector,
    upstream: SocketAddr,
}

/// Accepts until stopped; while connections are to be refused, nobody listens.
async fn accept_all(
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    stop: CancellationToken,
) -> Result<()> {
    let mut listener = Some(listener);
    let mut open = CancellationToken::new();
    loop {
        // Subscribed before the look, so that a change in between is not missed.
        let mut changes = service.patient.changes.subscribe();
        if service.patient.is_refusing() {
            drop(listener.take());
            open.cancel();
            open = CancellationToken::new();
            service.patient.state().course.happened += 1;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = changes.changed() => continue,
            }
        }
        let listening = match listener.take() {
            Some(listening) => listening,
            None => bind_again(address, &stop).await?,
        };
        tokio::select! {
            () = stop.cancelled() => { open.cancel(); return Ok(()) }
            _ = changes.changed() => {}
            accepted = listening.accept() => {
                if let Ok((client, _)) = accepted {
                    service.patient.state().seen.connections += 1;
                    tokio::spawn(serve(client, Arc::clone(&service), open.child_token()));
                }
            }
        }
        listener = Some(listening);
    }
}

async fn bind_again(address: SocketAddr, stop: &CancellationToken) -> Result<TcpListener> {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if stop.is_cancelled() => return Err(error.into()),
            Err(_) => tokio::time::sleep(REBIND).await,
        }
    }
}

async fn serve(client: TcpStream, service: Arc<Service>, reset: CancellationToken) {
    let (outside, inside) = tokio::io::duplex(BETWEEN);
    let serving = async {
        let tls = service.acceptor.accept(inside).await?;
        let exchange = Arc::new(Exchange::new(
            Arc::clone(&service.patient),
            service.upstream,
            service.connector.clone(),
            reset.clone(),
        ));
        let answer = service_fn(move |request| {
            let exchange = Arc::clone(&exchange);
            Box::pin(async move { exchange.answer(request).await })
        });
        let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), answer);
        // Whatever ended it, the client shall see the end of TLS, as from a server that thinks it said everything.
        let _ = std::future::poll_fn(|context| connection.poll_without_shutdown(context)).await;
        connection.into_parts().io.into_inner().shutdown().await
    };
    tokio::join!(line::carry_line(client, outside, &service.patient, reset.clone()), async {
        // What went wrong the client knows.
        let _: std::io::Result<()> = serving.await;
    });
}
