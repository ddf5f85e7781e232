//! Why an archive stays or goes, in words. In objects they are such that one more run alters few of them: a rank would
//! alter all.

use lifeboat_crds::schedule::Retention;

use super::buckets::Unit;

/// Longest reason in an object, characters.
const LONGEST: usize = 256;

/// A reason to keep an archive or to let it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody pinned it.
    Pinned(String),
    /// It counts for nothing, so no rule can let it go.
    NotCounted(String),
    /// One of the newest.
    Last {
        /// Which of them, from 1.
        rank: usize,
        /// How many are kept.
        of: usize,
    },
    /// The newest of its hour, day, week, month or year.
    Bucket {
        /// Of which length.
        unit: Unit,
        /// Of which one.
        bucket: String,
        /// Which of those kept, from 1 as the newest.
        rank: usize,
        /// How many are kept.
        of: usize,
    },
    /// One of the verified ones that are never let go.
    MinimumHealthy {
        /// How many there must be.
        of: usize,
    },
    /// The newest run failed, and there would be too few.
    NewestRunFailed {
        /// How many there must be.
        of: usize,
    },
    /// It would go, but nothing is deleted at present.
    Paused(String),
    /// It is too old.
    OlderThan {
        /// The greatest age, days.
        days: i32,
    },
    /// No rule keeps it.
    NoRule {
        /// The rules.
        policy: String,
    },
}

impl Why {
    /// As it stands in an object.
    pub fn stable(&self) -> String {
        let words = match self {
            Self::Pinned(words) => format!("pinned: {words}"),
            Self::NotCounted(words) => format!("not counted: {words}"),
            Self::Last { rank: _, of } => format!("last {of}"),
            Self::Bucket { unit, bucket, rank: _, of: _ } => format!("{} {bucket}", unit.as_str()),
            Self::MinimumHealthy { of } => format!("minimum healthy {of}"),
            Self::NewestRunFailed { of } => format!("the newest run failed: the last {of} stay"),
            Self::Paused(words) => format!("would expire, but nothing is deleted while {words}"),
            Self::OlderThan { days } => format!("older than {days} days"),
            Self::NoRule { policy } => format!("kept by no rule ({policy})"),
        };
        words.chars().take(LONGEST).collect()
    }

    /// As a table shows it, with the rank.
    pub fn ranked(&self) -> String {
        match self {
            Self::Last { rank, of } => format!("last {rank} of {of}"),
            Self::Bucket { unit, bucket: _, rank, of } => format!("{} {rank} of {of}", unit.as_str()),
            Self::Pinned(_)
            | Self::NotCounted(_)
            | Self::MinimumHealthy { .. }
            | Self::NewestRunFailed { .. }
            | Self::Paused(_)
            | Self::OlderThan { .. }
            | Self::NoRule { .. } => self.stable(),
        }
    }
}

/// A policy in words: `last 7, daily 7, weekly 4, monthly 6`; without any rule, what stays all the same.
pub fn policy_words(policy: &Retention) -> String {
    let Retention {
        keep_last,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        max_age_days: _,
        minimum_healthy,
    } = policy;
    let rules = [
        ("last", keep_last),
        ("hourly", keep_hourly),
        ("daily", keep_daily),
        ("weekly", keep_weekly),
        ("monthly", keep_monthly),
        ("yearly", keep_yearly),
    ];
    let words: Vec<String> =
        rules.iter().filter(|(_, number)| **number > 0).map(|(rule, number)| format!("{rule} {number}")).collect();
    if words.is_empty() { format!("minimum healthy {minimum_healthy}") } else { words.join(", ") }
}
