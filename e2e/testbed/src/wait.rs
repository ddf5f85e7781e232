//! Waiting for a condition under a deadline; the only sleep of the crate beside the supervisor's tick.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const INTERVAL: Duration = Duration::from_millis(100);

/// Asks until the answer is yes.
///
/// # Errors
/// After `limit`: what was waited for, and the last error the question gave. An error of a single question is not one of the wait.
pub async fn wait_for<F, Fut>(what: &str, limit: Duration, mut question: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    let mut last = None;
    loop {
        match tokio::time::timeout(limit.saturating_sub(begun.elapsed()), question()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => last = Some(error),
            Err(_elapsed) => {}
        }
        if begun.elapsed() >= limit {
            let message = format!("not within {limit:?}: {what}");
            return match last {
                Some(error) => Err(error).context(message),
                None => bail!(message),
            };
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_the_first_yes_and_outlives_errors() {
        let mut asked = 0;
        wait_for("third time", Duration::from_secs(5), || {
            asked += 1;
            let answer = if asked == 1 { Err(anyhow::anyhow!("not yet there")) } else { Ok(asked == 3) };
            async move { answer }
        })
        .await
        .expect("the third answer is yes");
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn a_wait_in_vain_names_what_it_waited_for_and_why() {
        let error = wait_for("godot", Duration::from_millis(1), || async { Err(anyhow::anyhow!("still on the road")) })
            .await
            .expect_err("never comes");
        assert!(format!("{error:#}").contains("godot") && format!("{error:#}").contains("still on the road"));
    }

    #[tokio::test]
    async fn a_question_that_hangs_does_not_outlast_the_deadline() {
        let begun = Instant::now();
        assert!(wait_for("x", Duration::from_millis(50), std::future::pending).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
