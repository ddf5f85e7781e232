//! A steady writer beside what is measured, and what its writes took.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use etcd_client::Client;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Time from one write to the next: 200 a second.
const EVERY: Duration = Duration::from_millis(5);
/// Bytes of a value.
const VALUE: usize = 1024;
/// Keys that are written in turn.
const KEYS: u64 = 500;

/// One write.
#[derive(Clone, Copy, Debug)]
struct Put {
    sent: SystemTime,
    took: Duration,
}

/// Writes of one run.
#[derive(Clone, Debug, Default)]
pub struct Puts(Vec<Put>);

/// What writes took, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latencies {
    pub count: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Writes until `stop`. A write does not wait for the one before: a server that stalls is asked on, as by other clients.
///
/// # Errors
/// A write fails.
pub async fn write_steadily(client: Client, stop: CancellationToken) -> Result<Puts> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut flying, mut puts) = (JoinSet::new(), Puts::default());
    for count in 0_u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let mut kv = client.kv_client();
        flying.spawn(async move {
            let (sent, begun) = (SystemTime::now(), Instant::now());
            kv.put(format!("/registry/bench/writer/{}", count % KEYS), vec![0x5a; VALUE], None).await?;
            Ok::<_, etcd_client::Error>(Put { sent, took: begun.elapsed() })
        });
        while let Some(done) = flying.try_join_next() {
            puts.0.push(done??);
        }
    }
    while let Some(done) = flying.join_next().await {
        puts.0.push(done??);
    }
    Ok(puts)
}

impl Puts {
    /// Those sent from one moment to another.
    pub fn within(&self, (from, to): (SystemTime, SystemTime)) -> Self {
        Self(self.0.iter().filter(|put| (from..=to).contains(&put.sent)).copied().collect())
    }

    /// All of several runs.
    pub fn pool(runs: &[Self]) -> Self {
        Self(runs.iter().flat_map(|puts| puts.0.iter().copied()).collect())
    }

    /// What they took.
    pub fn latencies(&self) -> Latencies {
        let mut took: Vec<_> = self.0.iter().map(|put| put.took).collect();
        took.sort_unstable();
        let rank = |share: f64| {
            let index = (took.len() as f64 * share).ceil() as usize;
            took.get(index.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        Latencies { count: took.len(), p50_ms: rank(0.5), p99_ms: rank(0.99), max_ms: rank(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sorted_writes() {
        let put =
            |ms| Put { sent: SystemTime::UNIX_EPOCH + Duration::from_millis(ms), took: Duration::from_millis(ms) };
        let puts = Puts((1..=200).rev().map(put).collect());
        let Latencies { count, p50_ms, p99_ms, max_ms } = puts.latencies();
        assert_eq!((count, p50_ms, p99_ms, max_ms), (200, 100.0, 198.0, 200.0));
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(puts.within((at(11), at(20))).latencies().count, 10);
        assert_eq!(Puts::default().latencies().count, 0);
    }
}
