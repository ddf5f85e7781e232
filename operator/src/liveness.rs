//! How long a value was seen unchanged, on this process's own monotonic clock.
//!
//! Heartbeats carry the time of another machine, so they are never compared with ours: an agent is silent when its
//! heartbeat stands still before our eyes. While the watch was broken nobody could have seen it move, so every
//! interruption starts the count anew. In memory only; a restart starts anew too. No I/O.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kind::Kind;

/// A value reduced to what is needed to see it change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a value.
    pub fn of(value: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    fingerprint: Fingerprint,
    since: Instant,
}

/// Since when each object's value stands still. Keyed by UID: an object made anew under an old name starts anew.
#[derive(Debug, Default)]
pub struct LivenessTracker {
    seen: Mutex<Sightings>,
}

type Sightings = HashMap<Kind, HashMap<String, Sighting>>;

impl LivenessTracker {
    /// Notes that the object `uid` shows this value at `now`.
    pub fn saw(&self, kind: Kind, uid: &str, fingerprint: Fingerprint, now: Instant) {
        let mut seen = self.lock();
        let of_kind = seen.entry(kind).or_default();
        match of_kind.get_mut(uid) {
            Some(sighting) if sighting.fingerprint == fingerprint => {}
            Some(sighting) => *sighting = Sighting { fingerprint, since: now },
            None => {
                of_kind.insert(uid.to_owned(), Sighting { fingerprint, since: now });
            }
        }
    }

    /// How long the value of `uid` was seen unchanged. Zero for one never seen.
    pub fn unchanged_for(&self, kind: Kind, uid: &str, now: Instant) -> Duration {
        let seen = self.lock();
        let sighting = seen.get(&kind).and_then(|of_kind| of_kind.get(uid));
        sighting.map_or(Duration::ZERO, |sighting| now.saturating_duration_since(sighting.since))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, kind: Kind, uid: &str) {
        if let Some(of_kind) = self.lock().get_mut(&kind) {
            of_kind.remove(uid);
        }
    }

    /// Starts every count of a kind anew: for a while nothing could be seen.
    pub fn start_anew(&self, kind: Kind, now: Instant) {
        if let Some(of_kind) = self.lock().get_mut(&kind) {
            of_kind.values_mut().for_each(|sighting| sighting.since = now);
        }
    }

    /// Keeps only these objects of a kind: the others went while nobody watched.
    pub fn retain(&self, kind: Kind, existing: &HashSet<String>) {
        if let Some(of_kind) = self.lock().get_mut(&kind) {
            of_kind.retain(|uid, _| existing.contains(uid));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sightings> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_unchanged_value_grows_old_from_its_first_sight() {
        let (tracker, start) = (LivenessTracker::default(), Instant::now());
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&"beat 1"), start);
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&"beat 1"), start + 40 * SECOND);
        assert_eq!(tracker.unchanged_for(Kind::Backup, "a", start + 90 * SECOND), 90 * SECOND);
    }

    #[test]
    fn a_change_starts_the_count_anew_even_if_the_other_clock_went_back() {
        let (tracker, start) = (LivenessTracker::default(), Instant::now());
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&"12:00"), start);
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&"11:00"), start + 60 * SECOND);
        assert_eq!(tracker.unchanged_for(Kind::Backup, "a", start + 70 * SECOND), 10 * SECOND);
    }

    #[test]
    fn an_object_never_seen_is_not_silent() {
        assert_eq!(LivenessTracker::default().unchanged_for(Kind::Backup, "a", Instant::now()), Duration::ZERO);
    }

    #[test]
    fn a_broken_watch_starts_every_count_anew() {
        let (tracker, start) = (LivenessTracker::default(), Instant::now());
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&1), start);
        tracker.start_anew(Kind::Member, start + 290 * SECOND);
        assert_eq!(
            tracker.unchanged_for(Kind::Backup, "a", start + 299 * SECOND),
            299 * SECOND,
            "another kind's watch"
        );
        tracker.start_anew(Kind::Backup, start + 300 * SECOND);
        tracker.saw(Kind::Backup, "a", Fingerprint::of(&1), start + 301 * SECOND);
        assert_eq!(tracker.unchanged_for(Kind::Backup, "a", start + 310 * SECOND), 10 * SECOND);
    }

    #[test]
    fn objects_that_are_gone_are_forgotten() {
        let (tracker, start) = (LivenessTracker::default(), Instant::now());
        for uid in ["a", "b", "c"] {
            tracker.saw(Kind::Backup, uid, Fingerprint::of(&1), start);
        }
        tracker.forget(Kind::Backup, "a");
        tracker.retain(Kind::Backup, &HashSet::from(["b".to_owned()]));
        let later = start + 5 * SECOND;
        let ages = ["a", "b", "c"].map(|uid| tracker.unchanged_for(Kind::Backup, uid, later));
        assert_eq!(ages, [Duration::ZERO, 5 * SECOND, Duration::ZERO]);
    }
}
