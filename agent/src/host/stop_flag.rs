//! A cancellation that blocking work can look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Set once its token is cancelled; it stops watching when it is dropped.
#[derive(Debug)]
pub struct StopFlag {
    is_set: Arc<AtomicBool>,
    watching: tokio::task::JoinHandle<()>,
}

impl StopFlag {
    /// The flag of a token.
    pub fn of(token: &CancellationToken) -> Self {
        let is_set = Arc::new(AtomicBool::new(false));
        let (set, token) = (Arc::clone(&is_set), token.clone());
        let watching = tokio::spawn(async move {
            token.cancelled().await;
            set.store(true, Ordering::Relaxed);
        });
        Self { is_set, watching }
    }
}

impl AsRef<AtomicBool> for StopFlag {
    fn as_ref(&self) -> &AtomicBool {
        &self.is_set
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
