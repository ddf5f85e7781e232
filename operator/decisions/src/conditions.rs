//! `Ready` with its companions `Reconciling` and `Stalled`, made from one value so that they never contradict.
//!
//! kstatus (Flux, Helm) reads the three together: an object is current, in progress, or failed. There is no way here to
//! show Reconciling and Stalled at once, or a True Ready with a reason that means failure.

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::condition::find;
use lifeboat_crds::{Condition, ConditionStatus, ConditionType, Reason};

pub use lifeboat_crds::condition::{Shown, is_true, merge_conditions};

use crate::after;

/// Reasons that a True `Ready` may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodReason {
    /// The spec is understood and followed.
    Accepted,
    /// Ended well.
    Succeeded,
    /// Found in the bucket.
    ImportedFromCatalog,
    /// The restore is done.
    Restored,
}

impl From<GoodReason> for Reason {
    fn from(reason: GoodReason) -> Self {
        match reason {
            GoodReason::Accepted => Self::Accepted,
            GoodReason::Succeeded => Self::Succeeded,
            GoodReason::ImportedFromCatalog => Self::ImportedFromCatalog,
            GoodReason::Restored => Self::Restored,
        }
    }
}

/// How far from Ready something in progress is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Something is wrong at present.
    False,
    /// Not known yet.
    Unknown,
}

/// How an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As its spec says: Ready alone.
    Current {
        /// Why.
        reason: GoodReason,
        /// The words for people.
        message: String,
    },
    /// It may become Ready by itself: Reconciling too.
    InProgress {
        /// What Ready says meanwhile.
        ready: NotReady,
        /// Why.
        reason: Reason,
        /// The words for people.
        message: String,
    },
    /// Somebody must do something: Stalled too.
    Failed {
        /// Why.
        reason: Reason,
        /// The words for people.
        message: String,
    },
}

impl Outcome {
    /// As the spec says.
    pub fn current(reason: GoodReason, message: impl Into<String>) -> Self {
        Self::Current { reason, message: message.into() }
    }

    /// Not known yet; tools wait.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::InProgress { ready: NotReady::Unknown, reason, message: message.into() }
    }

    /// Wrong at present, but it may pass by itself; tools wait.
    pub fn troubled(reason: Reason, message: impl Into<String>) -> Self {
        Self::InProgress { ready: NotReady::False, reason, message: message.into() }
    }

    /// Wrong until somebody does something.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self::Failed { reason, message: message.into() }
    }

    /// Wrong; tools wait for the first minute of it, because what is missing often comes a moment later.
    pub fn missing(reason: Reason, message: impl Into<String>, since: Timestamp, now: Timestamp) -> Self {
        if now < after(since, crate::GRACE) { Self::troubled(reason, message) } else { Self::failed(reason, message) }
    }

    /// Whether something is wrong that may pass by itself.
    pub const fn is_troubled(&self) -> bool {
        match self {
            Self::InProgress { ready: NotReady::False, reason: _, message: _ } => true,
            Self::InProgress { ready: NotReady::Unknown, reason: _, message: _ }
            | Self::Current { .. }
            | Self::Failed { .. } => false,
        }
    }

    /// The conditions that say so.
    pub fn shown(&self) -> Vec<Shown> {
        use ConditionType::{Ready, Reconciling, Stalled};
        match self {
            Self::Current { reason, message } => vec![Shown::new(Ready, true, (*reason).into(), message)],
            Self::InProgress { ready, reason, message } => {
                let status = match ready {
                    NotReady::False => ConditionStatus::False,
                    NotReady::Unknown => ConditionStatus::Unknown,
                };
                vec![Shown::new(Ready, status, *reason, message), Shown::new(Reconciling, true, *reason, message)]
            }
            Self::Failed { reason, message } => {
                vec![Shown::new(Ready, false, *reason, message), Shown::new(Stalled, true, *reason, message)]
            }
        }
    }
}

/// Since when a condition has the status it has now; `None` where it has another one, or is not shown.
pub fn since(conditions: &[Condition], type_: ConditionType, status: ConditionStatus) -> Option<Timestamp> {
    let condition = find(conditions, type_).filter(|condition| condition.status == status.as_str())?;
    Some(condition.last_transition_time.0)
}

/// Since when Ready is False; now where it is not (yet).
pub fn unready_since(conditions: &[Condition], now: Timestamp) -> Timestamp {
    since(conditions, ConditionType::Ready, ConditionStatus::False).unwrap_or(now)
}

/// When the grace that began at `since` is over, if that lies ahead.
pub fn end_of_grace(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(after(since, crate::GRACE)).filter(|end| *end > now)
}

/// Whether the object is as it was when its status was written.
pub fn is_observed(observed_generation: Option<i64>, generation: i64) -> bool {
    observed_generation == Some(generation)
}

/// A length of time for people: `42s`, `3m5s`, `2h5m`, `3d`.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let both = |big: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{rest}{small}") }
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => both(minutes, "m", seconds % 60, "s"),
        3_600..172_800 => both(hours, "h", minutes % 60, "m"),
        172_800.. => both(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        let reason = prop::sample::select(Reason::ALL.to_vec());
        let good = prop::sample::select(vec![
            GoodReason::Accepted,
            GoodReason::Succeeded,
            GoodReason::ImportedFromCatalog,
            GoodReason::Restored,
        ]);
        (0..4u8, reason, good).prop_map(|(kind, reason, good)| match kind {
            0 => Outcome::current(good, "words"),
            1 => Outcome::waiting(reason, "words"),
            2 => Outcome::troubled(reason, "words"),
            _ => Outcome::failed(reason, "words"),
        })
    }

    proptest! {
        #[test]
        fn companions_of_ready_never_contradict(outcome in any_outcome()) {
            let shown = outcome.shown();
            let of = |type_| shown.iter().find(|shown| shown.type_ == type_);
            let (reconciling, stalled) = (of(ConditionType::Reconciling), of(ConditionType::Stalled));
            prop_assert!(reconciling.is_none() || stalled.is_none());
            let is_ready = of(ConditionType::Ready).unwrap().status == ConditionStatus::True;
            prop_assert_eq!(is_ready, reconciling.is_none() && stalled.is_none());
        }
    }

    #[test]
    fn what_is_missing_is_waited_for_during_one_minute() {
        let since = Timestamp::UNIX_EPOCH;
        let at = |second| Outcome::missing(Reason::LocationMissing, "", since, Timestamp::from_second(second).unwrap());
        assert_eq!(at(59), Outcome::troubled(Reason::LocationMissing, ""));
        assert_eq!(at(60), Outcome::failed(Reason::LocationMissing, ""));
    }

    #[test]
    fn durations_are_written_as_people_say_them() {
        for (seconds, words) in
            [(0, "0s"), (42, "42s"), (185, "3m5s"), (3_600, "1h"), (7_500, "2h5m"), (259_200, "3d"), (-5, "0s")]
        {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), words);
        }
    }
}
