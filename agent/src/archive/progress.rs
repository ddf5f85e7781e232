//! How far a task is: written by whoever works, read by whoever reports. No I/O.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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
    const ALL: [Self; 6] =
        [Self::Waiting, Self::Preparing, Self::Reading, Self::Uploading, Self::Verifying, Self::Publishing];

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
    stage: AtomicU8,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Goes on to a stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
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

    /// The present stage.
    pub fn stage(&self) -> Stage {
        let stage = self.stage.load(Ordering::Relaxed);
        Stage::ALL.into_iter().find(|known| *known as u8 == stage).unwrap_or(Stage::Waiting)
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
        assert_eq!((progress.stage(), progress.bytes()), (Stage::Waiting, None));
        progress.enter(Stage::Reading);
        progress.expect(10);
        progress.add(4);
        assert_eq!((progress.stage(), progress.bytes()), (Stage::Reading, Some((4, 10))));
    }
}
