//! The one way to ask a store again: only outcomes that recover by themselves, with growing pauses and jitter, until a
//! deadline for everything together, and stoppable at any moment. Sleeps and runs the caller's operation; no other I/O.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::StoreError;

/// How long and how often to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pause after the first failure; doubles from there, plus jitter of up to as much again.
    pub first_pause: Duration,
    /// No pause (before jitter) is longer.
    pub longest_pause: Duration,
    /// Everything together: attempts, pauses, and the attempt that is under way when the time is up.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// 200 ms growing to 5 s, until `deadline` has passed.
    #[must_use]
    pub fn until(deadline: Duration) -> Self {
        Self { first_pause: Duration::from_millis(200), longest_pause: Duration::from_secs(5), deadline }
    }
}

/// Runs `operation` until it succeeds, fails for good, is cancelled, or `policy.deadline` has passed.
///
/// `description` completes the sentence "… was cancelled": "uploading part 3".
///
/// # Errors
/// The operation's own error when asking again makes no sense; [`StoreError::Unavailable`] with the last words and the
/// number of attempts at the deadline; [`StoreError::Cancelled`].
pub async fn retry<T, F, Fut>(
    description: &str,
    policy: RetryPolicy,
    cancel: &CancellationToken,
    mut operation: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let started = Instant::now();
    let deadline = started + policy.deadline;
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(policy.first_pause)
        .with_max_delay(policy.longest_pause)
        .with_jitter()
        .without_max_times()
        .build();
    let mut attempts = 0_u32;
    let mut last: Option<(String, String)> = None;
    loop {
        attempts += 1;
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(StoreError::Cancelled { what: description.to_owned() }),
            outcome = tokio::time::timeout_at(deadline, operation()) => outcome,
        };
        match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(StoreError::Unavailable { store, words })) => last = Some((store, words)),
            Ok(Err(error)) if !error.is_worth_retrying() => return Err(error),
            Ok(Err(error)) => last = Some((description.to_owned(), error.to_string())),
            Err(_elapsed) => return Err(given_up(description, attempts, policy.deadline, last)),
        }
        let pause = pauses.next().unwrap_or(policy.longest_pause);
        if Instant::now() + pause >= deadline {
            return Err(given_up(description, attempts, policy.deadline, last));
        }
        tracing::debug!(description, attempts, ?pause, error = ?last, "asking the store again");
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(StoreError::Cancelled { what: description.to_owned() }),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn given_up(description: &str, attempts: u32, deadline: Duration, last: Option<(String, String)>) -> StoreError {
    let (store, words) =
        last.unwrap_or_else(|| ("the store".to_owned(), format!("{description} got no answer in time")));
    StoreError::Unavailable {
        store,
        words: format!("{words} (still so after {attempts} attempts within {} s)", deadline.as_secs()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn unavailable() -> StoreError {
        StoreError::Unavailable { store: "s3://b".into(), words: "connection refused".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_a_minute_is_spanned() {
        let started = Instant::now();
        let calls = AtomicU32::new(0);
        let result =
            retry("putting", RetryPolicy::until(Duration::from_secs(120)), &CancellationToken::new(), || async {
                calls.fetch_add(1, Ordering::Relaxed);
                if started.elapsed() < Duration::from_secs(60) { Err(unavailable()) } else { Ok(7) }
            })
            .await;
        assert_eq!(result, Ok(7));
        assert!(started.elapsed() < Duration::from_secs(75), "came back {:?} after", started.elapsed());
        assert!(calls.load(Ordering::Relaxed) < 40, "the store was hammered");
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_holds_and_the_last_words_are_kept() {
        let started = Instant::now();
        let policy = RetryPolicy::until(Duration::from_secs(20));
        let result: Result<(), _> =
            retry("putting", policy, &CancellationToken::new(), || async { Err(unavailable()) }).await;
        let error = result.unwrap_err();
        assert!(error.is_worth_retrying());
        assert!(error.to_string().contains("connection refused (still so after"), "{error}");
        assert!(started.elapsed() <= Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_hangs_ends_at_the_deadline() {
        let started = Instant::now();
        let policy = RetryPolicy::until(Duration::from_secs(20));
        let result: Result<(), _> = retry("reading", policy, &CancellationToken::new(), std::future::pending).await;
        assert!(matches!(result, Err(StoreError::Unavailable { .. })));
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_outcomes_are_asked_once() {
        let calls = AtomicU32::new(0);
        let result: Result<(), _> =
            retry("putting", RetryPolicy::until(Duration::from_secs(60)), &CancellationToken::new(), || async {
                calls.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Full { store: "d".into(), words: "no space".into() })
            })
            .await;
        assert!(matches!(result, Err(StoreError::Full { .. })));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_interrupts_a_pause() {
        let cancel = CancellationToken::new();
        let started = Instant::now();
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            stop.cancel();
        });
        let result: Result<(), _> =
            retry("putting", RetryPolicy::until(Duration::from_secs(600)), &cancel, || async { Err(unavailable()) })
                .await;
        assert_eq!(result, Err(StoreError::Cancelled { what: "putting".into() }));
        assert_eq!(started.elapsed().as_secs(), 3);
    }
}
