//! Waiting for conditions with deadlines; never a sleep in place of a condition.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// Looks until `probe` gives `Ok(Some(value))`; after `limit` fails with the last thing it said.
pub async fn eventually<T, E, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    E: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, E>>,
{
    let start = Instant::now();
    loop {
        let last = match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "the condition does not hold".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}: {last}");
        }
        tokio::time::sleep(PERIOD).await;
    }
}
