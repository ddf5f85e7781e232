//! A member's snapshot as a stream of bytes, with a bound on everything: silence, the whole transfer, the rate.
//!
//! Progress is counted in bytes, because a server that fails to read its disk can send empty blobs for ever. Whether
//! the bytes are a whole snapshot is not judged here; a stream that ends early ends, and the verifier says so.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

use super::client::MemberClient;
use super::error::EtcdError;
use super::raw::SnapshotMessage;

/// SHA-256 at the end of the stream, which the server does not count as part of the database.
const TRAILER: u64 = 32;
/// A reader that fell behind its rate catches up by at most this much of it; more would be a burst on etcd's disk.
const CATCH_UP: Duration = Duration::from_millis(250);

/// Bounds of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// The whole transfer, from the call to the last byte, pauses of the reader included.
    pub transfer: Duration,
    /// Waiting for etcd without a single byte; pauses of the reader do not count.
    pub no_progress: Duration,
}

/// How a snapshot is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Bounds.
    pub limits: SnapshotLimits,
    /// Bytes a second at most.
    pub bytes_per_second: Option<u64>,
    /// Refuse a member that sees no leader: for backups by schedule, not for the last one before the end.
    pub require_leader: bool,
}

/// A message of the server.
#[derive(Clone, Debug)]
struct Message {
    blob: Bytes,
    remaining: u64,
}

type Messages = BoxStream<'static, Result<Message, etcd_client::Error>>;

/// An open snapshot: its size is known, its bytes are to be read.
///
/// The bounds are enforced while a chunk is asked for. Whoever stops asking must drop it soon: etcd holds a read
/// transaction open for it, and its file grows meanwhile.
pub struct SnapshotStream {
    /// Bytes of the whole file, trailer included, as announced by the first message.
    pub size: u64,
    url: String,
    limits: SnapshotLimits,
    deadline: Instant,
    pace: Option<Pace>,
    received: u64,
    first: Option<Bytes>,
    messages: Messages,
}

/// Asks a member for its snapshot, on a connection of its own, and waits for the first bytes.
pub async fn open_snapshot(client: &MemberClient, request: SnapshotRequest) -> Result<SnapshotStream, EtcdError> {
    let SnapshotRequest { limits, bytes_per_second: _, require_leader } = request;
    let url = client.url().to_owned();
    let within = limits.no_progress.min(limits.transfer);
    let streaming = tokio::time::timeout(within, client.call_snapshot(require_leader))
        .await
        .map_err(|_| EtcdError::NoAnswer { url: url.clone(), within })??;
    let messages = stream::unfold(streaming, |mut streaming| async move {
        let message = streaming.message().await.transpose()?;
        let message = message
            .map(|SnapshotMessage { remaining_bytes: remaining, blob, version: _ }| Message { blob, remaining })
            .map_err(etcd_client::Error::GRpcStatus);
        Some((message, streaming))
    });
    SnapshotStream::begin(url, request, messages.boxed()).await
}

impl SnapshotStream {
    async fn begin(url: String, request: SnapshotRequest, messages: Messages) -> Result<Self, EtcdError> {
        let SnapshotRequest { limits, bytes_per_second, require_leader: _ } = request;
        let mut stream = Self {
            size: 0,
            url,
            limits,
            deadline: Instant::now() + limits.transfer,
            pace: bytes_per_second.filter(|&rate| rate > 0).map(Pace::new),
            received: 0,
            first: None,
            messages,
        };
        let first = match stream.receive().await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(stream.broken("the server ended it before the first byte".into())),
            // Nothing has come yet, so what the server says is an answer to the call and not a stream cut short.
            Err(Interruption::Failed(error)) => return Err(EtcdError::from_client(&stream.url, &error)),
            Err(interruption) => return Err(stream.explain(interruption)),
        };
        let Message { blob, remaining } = first;
        stream.size = remaining.saturating_add(blob.len() as u64).saturating_add(TRAILER);
        stream.first = Some(blob);
        stream.check_rate()?;
        Ok(stream)
    }

    /// Better to say at once that the time will not do than to load etcd for minutes and throw the bytes away.
    fn check_rate(&self) -> Result<(), EtcdError> {
        let Some(pace) = &self.pace else { return Ok(()) };
        if pace.time_for(self.size) <= self.limits.transfer {
            return Ok(());
        }
        Err(EtcdError::RateTooLow { limit: self.limits.transfer, rate: pace.rate, total: self.size })
    }

    /// The next bytes, at least one, or nothing at the end of the stream.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, EtcdError> {
        self.keep_pace().await?;
        let chunk = match self.first.take() {
            Some(chunk) => Some(chunk),
            None => match self.receive().await {
                Ok(message) => message.map(|Message { blob, remaining: _ }| blob),
                Err(interruption) => return Err(self.explain(interruption)),
            },
        };
        if let Some(chunk) = &chunk {
            self.received += chunk.len() as u64;
            if let Some(pace) = &mut self.pace {
                pace.took(chunk.len() as u64, Instant::now());
            }
        }
        Ok(chunk)
    }

    /// The chunks as a stream that ends with the snapshot or after the first error.
    #[cfg(test)]
    pub fn into_stream(self) -> impl stream::Stream<Item = Result<Bytes, EtcdError>> + Send + 'static {
        stream::unfold(Some(self), |state| async move {
            let mut state = state?;
            match state.next_chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(state))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn keep_pace(&mut self) -> Result<(), EtcdError> {
        let Some(pace) = &self.pace else { return Ok(()) };
        if pace.next > self.deadline {
            return Err(self.explain(Interruption::OutOfTime));
        }
        tokio::time::sleep_until(pace.next).await;
        Ok(())
    }

    /// The next message that holds bytes.
    async fn receive(&mut self) -> Result<Option<Message>, Interruption> {
        let waiting_since = Instant::now();
        let silence_ends = waiting_since + self.limits.no_progress;
        loop {
            let until = silence_ends.min(self.deadline);
            let message = match tokio::time::timeout_at(until, self.messages.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(Interruption::Failed(error)),
                Err(_) if until == self.deadline => return Err(Interruption::OutOfTime),
                Err(_) => return Err(Interruption::Silent),
            };
            if !message.blob.is_empty() {
                return Ok(Some(message));
            }
            // A server that floods us with nothing must not keep the timer from being looked at.
            if Instant::now() >= until {
                return Err(if until == self.deadline { Interruption::OutOfTime } else { Interruption::Silent });
            }
        }
    }

    fn explain(&self, interruption: Interruption) -> EtcdError {
        let (url, received) = (self.url.clone(), self.received);
        match interruption {
            Interruption::Silent => EtcdError::NoProgress { url, within: self.limits.no_progress, received },
            Interruption::OutOfTime => {
                EtcdError::TooSlow { url, limit: self.limits.transfer, received, total: self.size }
            }
            Interruption::Failed(error) => match EtcdError::from_client(&url, &error) {
                error @ EtcdError::NoLeader { .. } => error,
                error => self.broken(error.words()),
            },
        }
    }

    fn broken(&self, words: String) -> EtcdError {
        EtcdError::Broken { url: self.url.clone(), received: self.received, words }
    }
}

/// Why no bytes came.
enum Interruption {
    /// Nothing but silence and empty blobs.
    Silent,
    /// The whole transfer took too long.
    OutOfTime,
    /// The server or the connection ended it.
    Failed(etcd_client::Error),
}

/// Spreads a transfer over time.
#[derive(Debug)]
struct Pace {
    rate: u64,
    next: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate, next: Instant::now() }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        Duration::try_from_secs_f64(bytes as f64 / self.rate as f64).unwrap_or(Duration::MAX)
    }

    fn took(&mut self, bytes: u64, now: Instant) {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let from = self.next.max(earliest);
        self.next = from.checked_add(self.time_for(bytes)).unwrap_or(from);
    }
}

#[cfg(test)]
mod tests;
