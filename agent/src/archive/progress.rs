//! How far a task is, and how long each stage took: written by whoever works, read by whoever reports. No I/O.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Another task of this agent comes first.
    Waiting,
    /// Location and member are looked at.
    Preparing,
    /// etcd is read.
    Reading,
    /// etcd was read; the store takes the rest.
    Uploading,
    /// The archive is complete; it is read back, or compared with the members.
    Verifying,
    /// The archive is complete; its manifest is written.
    Publishing,
}

impl Stage {
    /// The word in objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Preparing => "Preparing",
            Self::Reading => "Reading",
            Self::Uploading => "Uploading",
            Self::Verifying => "Verifying",
            Self::Publishing => "Publishing",
        }
    }
}

/// The state of one task.
#[derive(Debug, Default)]
pub struct Progress {
    /// Stages as they were entered.
    entered: Mutex<Vec<(Stage, Instant)>>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Goes on to a stage.
    pub fn enter(&self, stage: Stage) {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        if entered.last().is_none_or(|(last, _)| *last != stage) {
            entered.push((stage, Instant::now()));
        }
    }

    /// The size is known.
    pub fn expect(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// More bytes were read.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The present stage. Waiting only for who said so: it is told as such.
    pub fn stage(&self) -> Stage {
        let entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        entered.last().map_or(Stage::Preparing, |(stage, _)| *stage)
    }

    /// How long each stage took until `now`, in the order in which they were entered. A stage may be there twice.
    pub fn durations(&self, now: Instant) -> Vec<(Stage, Duration)> {
        let entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = entered.iter().skip(1).map(|(_, next)| *next).chain([now]);
        entered.iter().zip(ends).map(|((stage, begin), end)| (*stage, end.saturating_duration_since(*begin))).collect()
    }

    /// Bytes read and expected; nothing before the size is known.
    pub fn bytes(&self) -> Option<(u64, u64)> {
        let total = self.total.load(Ordering::Relaxed);
        (total > 0).then(|| (self.done.load(Ordering::Relaxed), total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_once_the_size_is_known() {
        let progress = Progress::default();
        assert_eq!((progress.stage(), progress.bytes()), (Stage::Preparing, None));
        progress.enter(Stage::Reading);
        progress.expect(10);
        progress.add(4);
        assert_eq!((progress.stage(), progress.bytes()), (Stage::Reading, Some((4, 10))));
    }

    #[test]
    fn every_stage_lasts_until_the_next() {
        let progress = Progress::default();
        progress.enter(Stage::Preparing);
        progress.enter(Stage::Reading);
        progress.enter(Stage::Reading);
        let later = Instant::now() + Duration::from_secs(60);
        let durations = progress.durations(later);
        assert_eq!(durations.iter().map(|(stage, _)| *stage).collect::<Vec<_>>(), [Stage::Preparing, Stage::Reading]);
        assert!(durations[0].1 < Duration::from_secs(60) && durations[1].1 >= Duration::from_secs(60), "{durations:?}");
    }
}
