//! What a front before the object store does wrong, and when. Pure: bytes and requests in, symptoms out; carried out by the rest of
//! this directory.

use std::time::{Duration, Instant};

/// A way to be ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// None: everything passes.
    #[default]
    Healthy,
    /// No more than this passes, in each direction, over all connections together.
    Limit {
        /// The rate.
        bytes_per_second: u64,
    },
    /// Takes so many bytes of uploads, then not one more, and says nothing in any direction; connections are accepted.
    Stall {
        /// Bytes that are still taken.
        after_bytes: u64,
    },
    /// Resets (RST) whichever connection carries the last of so many bytes, either way, each time.
    Reset {
        /// Bytes from one reset to the next.
        after_bytes: u64,
    },
    /// Connections are refused, and those there are are reset.
    Refuse,
    /// Every n-th request is answered by 503 `SlowDown`, without being passed on.
    SlowDown {
        /// 1 for every request.
        every: u64,
    },
    /// The answer's body ends early, and the connection with it, in order.
    Truncate {
        /// Bytes of the body that come.
        after_bytes: u64,
    },
    /// One bit of the answer's body is flipped.
    CorruptDownload,
    /// One bit of the request's body is flipped, behind TLS: only a checksum can tell.
    CorruptUpload,
    /// The request is carried out, and the connection reset in place of its answer.
    ErrButLand,
    /// The answer's Date is off.
    Skew {
        /// Seconds ahead.
        seconds: i64,
    },
}

/// What kind of question a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A multipart upload begins.
    Begin,
    /// A part of one.
    Part,
    /// It is completed.
    Complete,
    /// It is thrown away.
    Abort,
    /// A manifest is written.
    WriteManifest,
    /// An archive is read.
    ReadArchive,
    /// Anything else.
    Other,
}

impl Kind {
    pub(super) fn of(method: &str, path: &str, query: &str) -> Self {
        let asks = |name: &str| query.split('&').any(|pair| pair == name || pair.starts_with(&format!("{name}=")));
        match method {
            "POST" if asks("uploads") => Self::Begin,
            "POST" if asks("uploadId") => Self::Complete,
            "PUT" if asks("partNumber") => Self::Part,
            "DELETE" if asks("uploadId") => Self::Abort,
            "PUT" if path.ends_with("/manifest.json") => Self::WriteManifest,
            "GET" if path.contains("/snapshot-") => Self::ReadArchive,
            _ => Self::Other,
        }
    }
}

/// A fault, which requests it befalls, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Illness {
    fault: Fault,
    on: Option<Kind>,
    times: Option<u64>,
}

impl Illness {
    /// Only requests of a kind. Without effect on faults of whole connections.
    #[must_use]
    pub const fn on(self, kind: Kind) -> Self {
        Self { on: Some(kind), ..self }
    }

    /// Healthy again after so many times.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    pub(super) const fn is_refusal(self) -> bool {
        matches!(self.fault, Fault::Refuse)
    }
}

impl Fault {
    /// Only requests of a kind.
    #[must_use]
    pub fn on(self, kind: Kind) -> Illness {
        Illness::from(self).on(kind)
    }

    /// Healthy again after so many times.
    #[must_use]
    pub fn times(self, times: u64) -> Illness {
        Illness::from(self).times(times)
    }
}

impl From<Fault> for Illness {
    fn from(fault: Fault) -> Self {
        Self { fault, on: None, times: None }
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Towards the store.
    Up,
    /// Back.
    Down,
}

/// What becomes of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Go,
    Wait(Duration),
    Silence,
    Reset,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symptom {
    None,
    SlowDown,
    Truncate { after_bytes: u64 },
    CorruptDownload,
    CorruptUpload,
    ErrButLand,
    Skew { seconds: i64 },
}

/// The course of an illness.
#[derive(Debug)]
pub(super) struct Course {
    illness: Illness,
    /// Times that the fault really happened.
    pub happened: u64,
    requests: u64,
    bytes: u64,
    free_at: [Instant; 2],
}

impl Course {
    pub fn begin(illness: Illness, now: Instant) -> Self {
        Self { illness, happened: 0, requests: 0, bytes: 0, free_at: [now; 2] }
    }

    pub fn illness(&self) -> Illness {
        self.illness
    }

    fn may_happen(&self) -> bool {
        self.illness.times.is_none_or(|times| self.happened < times)
    }

    fn happens(&mut self, step: Step) -> Step {
        self.happened += 1;
        step
    }

    pub fn carry(&mut self, way: Way, bytes: u64, now: Instant) -> Step {
        if !self.may_happen() {
            return Step::Go;
        }
        match (self.illness.fault, way) {
            (Fault::Stall { .. }, Way::Down) => {}
            (_, Way::Up | Way::Down) => self.bytes += bytes,
        }
        match self.illness.fault {
            Fault::Limit { bytes_per_second } => {
                let free_at = match way {
                    Way::Up => &mut self.free_at[0],
                    Way::Down => &mut self.free_at[1],
                };
                let begins = (*free_at).max(now);
                let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
                *free_at = begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                let wait = free_at.duration_since(now);
                self.happens(Step::Wait(wait))
            }
            Fault::Stall { after_bytes } if self.bytes > after_bytes => self.happens(Step::Silence),
            Fault::Reset { after_bytes } if self.bytes > after_bytes => {
                self.bytes = 0;
                self.happens(Step::Reset)
            }
            Fault::Refuse => Step::Reset,
            Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::Healthy
            | Fault::SlowDown { .. }
            | Fault::Truncate { .. }
            | Fault::CorruptDownload
            | Fault::CorruptUpload
            | Fault::ErrButLand
            | Fault::Skew { .. } => Step::Go,
        }
    }

    pub fn answer(&mut self, kind: Kind) -> Symptom {
        if !self.may_happen() || self.illness.on.is_some_and(|on| on != kind) {
            return Symptom::None;
        }
        self.requests += 1;
        let symptom = match self.illness.fault {
            Fault::SlowDown { every } if self.requests.is_multiple_of(every.max(1)) => Symptom::SlowDown,
            Fault::Truncate { after_bytes } => Symptom::Truncate { after_bytes },
            Fault::CorruptDownload => Symptom::CorruptDownload,
            Fault::CorruptUpload => Symptom::CorruptUpload,
            Fault::ErrButLand => Symptom::ErrButLand,
            Fault::Skew { seconds } => Symptom::Skew { seconds },
            Fault::SlowDown { .. }
            | Fault::Healthy
            | Fault::Limit { .. }
            | Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::Refuse => Symptom::None,
        };
        if symptom != Symptom::None {
            self.happened += 1;
        }
        symptom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(illness: impl Into<Illness>) -> Course {
        course_from(illness, Instant::now())
    }

    fn course_from(illness: impl Into<Illness>, now: Instant) -> Course {
        Course::begin(illness.into(), now)
    }

    #[test]
    fn requests_are_told_apart() {
        for (method, path, query, kind) in [
            ("POST", "/b/u/backups/i/snapshot-1-a.db.zst", "uploads", Kind::Begin),
            ("POST", "/b/u/backups/i/snapshot-1-a.db.zst", "uploads=&x-id=CreateMultipartUpload", Kind::Begin),
            ("POST", "/b/u/backups/i/snapshot-1-a.db.zst", "uploadId=7", Kind::Complete),
            ("PUT", "/b/u/backups/i/snapshot-1-a.db.zst", "x-id=UploadPart&partNumber=3&uploadId=7", Kind::Part),
            ("DELETE", "/b/u/backups/i/snapshot-1-a.db.zst", "uploadId=7", Kind::Abort),
            ("PUT", "/b/u/backups/i/manifest.json", "x-id=PutObject", Kind::WriteManifest),
            ("GET", "/b/u/backups/i/snapshot-1-a.db.zst", "", Kind::ReadArchive),
            ("GET", "/b/", "list-type=2", Kind::Other),
        ] {
            assert_eq!(Kind::of(method, path, query), kind, "{method} {path}?{query}");
        }
    }

    #[test]
    fn every_third_request_of_the_kind_is_refused() {
        let mut course = course(Fault::SlowDown { every: 3 }.on(Kind::Part));
        let seen: Vec<_> = (0..6).map(|_| course.answer(Kind::Part)).collect();
        assert_eq!(seen.iter().filter(|symptom| **symptom == Symptom::SlowDown).count(), 2);
        assert_eq!(course.answer(Kind::Other), Symptom::None);
        assert_eq!(course.happened, 2);
    }

    #[test]
    fn an_illness_of_one_time_is_over_after_it() {
        let mut course = course(Fault::ErrButLand.times(1));
        assert_eq!(course.answer(Kind::Other), Symptom::ErrButLand);
        assert_eq!(course.answer(Kind::Other), Symptom::None);
    }

    #[test]
    fn a_limit_spreads_bytes_over_time_each_way() {
        let now = Instant::now();
        let mut course = course_from(Fault::Limit { bytes_per_second: 1000 }, now);
        let half_a_second = Duration::from_millis(500);
        let ways = [Way::Up, Way::Up, Way::Down];
        let steps = ways.map(|way| course.carry(way, 500, now));
        assert_eq!(steps, [half_a_second, 2 * half_a_second, half_a_second].map(Step::Wait));
    }

    #[test]
    fn a_stall_takes_some_bytes_and_a_reset_comes_again() {
        let now = Instant::now();
        let mut stall = course(Fault::Stall { after_bytes: 10 });
        assert_eq!(stall.carry(Way::Up, 10, now), Step::Go);
        assert_eq!((stall.carry(Way::Up, 1, now), stall.carry(Way::Down, 1, now)), (Step::Silence, Step::Silence));
        let mut reset = course(Fault::Reset { after_bytes: 10 }.times(2));
        let steps: Vec<_> = (0..4).map(|_| reset.carry(Way::Up, 11, now)).collect();
        assert_eq!(steps, [Step::Reset, Step::Reset, Step::Go, Step::Go]);
    }
}
