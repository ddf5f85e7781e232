//! A front before one member's client port. It ends TLS on both sides, as the member to the client and as a client to the member, and
//! knows frames, so that it can break a snapshot off in the ways that a real member does: silence, a death, a disk that gives nothing
//! (empty blobs), a changed bit, an end too early. Short calls are never as long as a snapshot and pass.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::frames::{FrameHead, HEAD, Messages, data_frame, empty_message, good_end};
use super::tls::{self, Pair};
use crate::node::Node;

/// One empty blob in so long: slower than a member that fails to read, and quick beside every timer.
const EMPTY_EVERY: Duration = Duration::from_millis(50);

/// What happens to a call whose answer has more bytes than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EtcdFault {
    /// Nothing.
    #[default]
    Healthy,
    /// Its connection falls silent, pings included: the machine is gone.
    Silent {
        /// Bytes of the call that come.
        after_bytes: u64,
    },
    /// The connection lives, no more data comes: a disk that does not answer.
    NoData {
        /// Bytes of the call that come.
        after_bytes: u64,
    },
    /// Only empty blobs come: a disk that answers with errors.
    EmptyBlobs {
        /// Bytes of the call that come.
        after_bytes: u64,
    },
    /// The connection is reset: the member died.
    Reset {
        /// Bytes of the call that come.
        after_bytes: u64,
    },
    /// The call ends well, too early.
    EndsEarly {
        /// Bytes of the call that come.
        after_bytes: u64,
    },
    /// One bit of the data is another.
    Flip {
        /// Bytes of the call that come unchanged.
        after_bytes: u64,
    },
}

impl EtcdFault {
    const fn after(self) -> Option<u64> {
        match self {
            Self::Healthy => None,
            Self::Silent { after_bytes }
            | Self::NoData { after_bytes }
            | Self::EmptyBlobs { after_bytes }
            | Self::Reset { after_bytes }
            | Self::EndsEarly { after_bytes }
            | Self::Flip { after_bytes } => Some(after_bytes),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    fault: EtcdFault,
    happened: u64,
    longest_call: u64,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(state: &Mutex<State>, bytes: u64, happened: bool) {
    let mut state = lock(state);
    state.longest_call = state.longest_call.max(bytes);
    state.happened += u64::from(happened);
}

/// A front before a member. Gone when dropped.
#[derive(Debug)]
pub struct EtcdFront {
    /// `https://10.123.x.2:PORT`, for `--etcd-endpoint` of an agent.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

impl Drop for EtcdFront {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl EtcdFront {
    pub(crate) async fn start(host: IpAddr, node: &Node) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let pki = |file: &str| node.path("/etc/kubernetes/pki/etcd").join(file);
        let (ca, ca_key) = (pki("ca.crt"), pki("ca.key"));
        let (cert, key) = (node.logs.join("etcd-front.crt"), node.logs.join("etcd-front.key"));
        let own = Pair { cert: &cert, key: &key };
        tls::sign_server(Pair { cert: &ca, key: &ca_key }, host, own).await?;
        let (client_cert, client_key) = (pki("healthcheck-client.crt"), pki("healthcheck-client.key"));
        let client = Pair { cert: &client_cert, key: &client_key };
        let service = Arc::new(Service {
            acceptor: tls::acceptor(own, &["h2"])?,
            connector: tls::Connector::new(&ca, Some(client), &["h2"])?,
            upstream: SocketAddr::from((node.ip, 2379)),
            state: Arc::default(),
        });
        let (state, stop) = (Arc::clone(&service.state), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            tokio::spawn(serve(client, Arc::clone(&service), stopped.clone()));
                        }
                    }
                }
            }
        });
        Ok(Self { endpoint: format!("https://{address}"), state, stop })
    }

    /// Falls ill, or gets well; calls that were broken off stay so.
    pub fn set(&self, fault: EtcdFault) {
        tracing::info!(endpoint = self.endpoint, ?fault, "the front changes");
        let mut state = lock(&self.state);
        state.fault = fault;
        state.happened = 0;
    }

    /// How often the present fault really happened.
    #[must_use]
    pub fn happened(&self) -> u64 {
        lock(&self.state).happened
    }

    /// Bytes of the longest answer so far.
    #[must_use]
    pub fn longest_call(&self) -> u64 {
        lock(&self.state).longest_call
    }
}

struct Service {
    acceptor: TlsAcceptor,
    connector: tls::Connector,
    upstream: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    /// For ever silent.
    Silent,
    /// Ends by RST.
    Reset,
}

async fn serve(client: TcpStream, service: Arc<Service>, stop: CancellationToken) {
    let serving = async {
        let upstream = TcpStream::connect(service.upstream).await?;
        let mut member = service.connector.connect(service.upstream.ip(), upstream).await?;
        let mut client = service.acceptor.accept(client).await?;
        let goes = {
            let (mut from_client, to_client) = tokio::io::split(&mut client);
            let (from_member, mut to_member) = tokio::io::split(&mut member);
            let down = Downstream { state: &service.state, call: None, to: to_client };
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_member) => Goes::On,
                goes = down.run(from_member) => goes.unwrap_or(Goes::On),
            }
        };
        match goes {
            Goes::On => {}
            Goes::Silent => std::future::pending().await,
            Goes::Reset => client.get_ref().0.set_zero_linger()?,
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = stop.cancelled() => {}
        outcome = serving => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection through the front ended");
            }
        }
    }
}

/// An offset of a payload that lies in the data of a snapshot, given one at which a message ends: a version follows the data, and a
/// header comes before it.
const fn inside_a_blob(end: usize) -> usize {
    const AWAY: usize = 200;
    if end > AWAY { end - AWAY } else { end + AWAY }
}

/// What is done to the one long call of a connection.
#[derive(Debug)]
enum Hold {
    No,
    /// Its data and its end go nowhere any more.
    Data,
    /// And empty blobs come instead.
    Empty,
}

struct Call {
    stream: u32,
    messages: Messages,
    hold: Hold,
}

/// The way from the member to the client, frame by frame.
struct Downstream<'s, W> {
    state: &'s Mutex<State>,
    call: Option<Call>,
    to: W,
}

impl<W: AsyncWrite + Unpin> Downstream<'_, W> {
    async fn run(mut self, mut from: impl AsyncRead + Unpin + Send) -> Result<Goes> {
        let (frames, mut next) = tokio::sync::mpsc::channel::<(FrameHead, Vec<u8>)>(4);
        let reading = async move {
            loop {
                let mut head = [0; HEAD];
                from.read_exact(&mut head).await?;
                let parsed = FrameHead::parse(head);
                let mut frame = head.to_vec();
                frame.resize(HEAD + parsed.length, 0);
                from.read_exact(frame.get_mut(HEAD..).unwrap_or_default()).await?;
                if frames.send((parsed, frame)).await.is_err() {
                    return anyhow::Ok(());
                }
            }
        };
        let writing = async {
            loop {
                let is_flooding = self.call.as_ref().is_some_and(|call| matches!(call.hold, Hold::Empty));
                tokio::select! {
                    frame = next.recv() => match frame {
                        None => return Ok(Goes::On),
                        Some((head, frame)) => match self.pass(head, frame).await? {
                            Goes::On => {}
                            other => return Ok(other),
                        },
                    },
                    () = tokio::time::sleep(EMPTY_EVERY), if is_flooding => {
                        let stream = self.call.as_ref().map_or(0, |call| call.stream);
                        self.write(&empty_message(stream)).await?;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            goes = writing => goes,
            read = reading => read.map(|()| Goes::On),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).await?;
        Ok(self.to.flush().await?)
    }

    async fn pass(&mut self, head: FrameHead, mut frame: Vec<u8>) -> Result<Goes> {
        if !head.is_data() {
            let is_held = self
                .call
                .as_ref()
                .is_some_and(|call| call.stream == head.stream && head.is_headers() && !matches!(call.hold, Hold::No));
            if !is_held {
                self.write(&frame).await?;
            }
            return Ok(Goes::On);
        }
        let call = match self.call.take() {
            Some(call) if call.stream == head.stream => call,
            _ => Call { stream: head.stream, messages: Messages::default(), hold: Hold::No },
        };
        let state = self.state;
        let call = self.call.insert(call);
        if !matches!(call.hold, Hold::No) {
            return Ok(Goes::On);
        }
        let fault = lock(state).fault;
        let payload = frame.get(HEAD..).unwrap_or_default();
        let end = call.messages.feed(payload, fault.after().unwrap_or(u64::MAX));
        let (bytes, stream) = (call.messages.bytes, call.stream);
        note(state, bytes, end.is_some());
        let Some(end) = end else {
            self.write(&frame).await?;
            return Ok(Goes::On);
        };
        let until_end = payload.get(..end).unwrap_or_default().to_vec();
        match fault {
            EtcdFault::Healthy => self.write(&frame).await?,
            EtcdFault::Silent { .. } => return Ok(Goes::Silent),
            EtcdFault::Reset { .. } => return Ok(Goes::Reset),
            EtcdFault::Flip { .. } => {
                if let Some(byte) = frame.get_mut(HEAD + inside_a_blob(end)) {
                    *byte ^= 1;
                }
                self.write(&frame).await?;
                // Once is enough.
                lock(state).fault = EtcdFault::Healthy;
            }
            EtcdFault::NoData { .. } => {
                call.hold = Hold::Data;
                self.write(&data_frame(stream, &until_end)).await?;
            }
            EtcdFault::EmptyBlobs { .. } => {
                call.hold = Hold::Empty;
                self.write(&data_frame(stream, &until_end)).await?;
            }
            EtcdFault::EndsEarly { .. } => {
                call.hold = Hold::Data;
                self.write(&data_frame(stream, &until_end)).await?;
                self.write(&good_end(stream)).await?;
            }
        }
        Ok(Goes::On)
    }
}
