//! Guards against deciding from a cache that does not show our own last write yet.
//!
//! A watch lags behind the API server. Status writes carry the resourceVersion they rest on, so a stale decision is
//! refused there; this saves the attempt, and covers what has no such lock: objects that were just created. In memory
//! only. No I/O.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for a created object to appear in the cache; it may have been deleted meanwhile.
const CHILD_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Expectation {
    /// The version that the last write rested on: a cache that still shows it is stale.
    written_upon: Option<String>,
    /// Objects created and not yet seen.
    children: Vec<(String, Instant)>,
}

/// What the cache must show before an object may be decided upon again. Keyed by UID.
#[derive(Debug, Default)]
pub struct Freshness {
    expected: Mutex<HashMap<String, Expectation>>,
}

impl Freshness {
    /// Notes that a write resting on version `upon` made version `became`.
    pub fn wrote(&self, uid: &str, upon: &str, became: Option<&str>) {
        if became == Some(upon) {
            return; // The server found nothing to change: no event follows.
        }
        self.lock().entry(uid.to_owned()).or_default().written_upon = Some(upon.to_owned());
    }

    /// Notes that `child` was created on behalf of the object.
    pub fn created(&self, uid: &str, child: &str, now: Instant) {
        self.lock().entry(uid.to_owned()).or_default().children.push((child.to_owned(), now));
    }

    /// Whether the cache, showing the object at `version`, lacks what this process wrote.
    pub fn is_stale(&self, uid: &str, version: &str, has_child: impl Fn(&str) -> bool, now: Instant) -> bool {
        let mut expected = self.lock();
        let Some(expectation) = expected.get_mut(uid) else { return false };
        expectation
            .children
            .retain(|(name, since)| now.saturating_duration_since(*since) < CHILD_PATIENCE && !has_child(name));
        if expectation.written_upon.as_deref() != Some(version) {
            expectation.written_upon = None;
        }
        let is_stale = expectation.written_upon.is_some() || !expectation.children.is_empty();
        if !is_stale {
            expected.remove(uid);
        }
        is_stale
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Expectation>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_shows_what_we_wrote_upon_is_stale() {
        let (freshness, now) = (Freshness::default(), Instant::now());
        freshness.wrote("a", "5", Some("6"));
        assert!(freshness.is_stale("a", "5", |_| true, now));
        assert!(!freshness.is_stale("a", "6", |_| true, now));
        assert!(!freshness.is_stale("b", "5", |_| true, now));
    }

    #[test]
    fn a_write_that_changed_nothing_is_not_waited_for() {
        let (freshness, now) = (Freshness::default(), Instant::now());
        freshness.wrote("a", "5", Some("5"));
        assert!(!freshness.is_stale("a", "5", |_| true, now));
    }

    #[test]
    fn a_created_object_is_waited_for_but_not_forever() {
        let (freshness, now) = (Freshness::default(), Instant::now());
        freshness.created("a", "run", now);
        assert!(freshness.is_stale("a", "5", |_| false, now));
        assert!(!freshness.is_stale("a", "5", |_| false, now + CHILD_PATIENCE));
        freshness.created("a", "run", now);
        assert!(!freshness.is_stale("a", "5", |name| name == "run", now));
    }
}
