//! Which archives of a schedule stay and which go, and why.
//!
//! Pure, and shared by the operator and `lifeboat backup retention`. What is not known to be good is never counted and, as
//! long as there is nothing better, never let go; in doubt everything stays. Deletes nothing.

mod buckets;
mod objects;
mod reasons;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::backup::ExpiryDecision;
use lifeboat_crds::schedule::Retention;

pub use objects::{
    Mark, ObservedRetention, ScheduledRun, decide_retention, is_asked_to_go, is_void, last_restore, scheduled_run,
};
pub use reasons::{Why, policy_words};

use crate::after;
use buckets::{Kept, kept_by_rules};

/// One archive as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub name: String,
    /// The run it is of: the copies of one run share it and count as one.
    pub slot: Timestamp,
    /// What it is worth.
    pub worth: Worth,
    /// Why it is kept for ever, where somebody said so.
    pub pin: Option<String>,
    /// Why nothing may be deleted at present where it lies.
    pub hold: Option<String>,
}

/// What an archive is worth to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is there and proven.
    Good,
    /// It may be of use, but nobody may count on it; in words why.
    NotCounted(String),
}

/// How the newest run of the schedule that is over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewestRun {
    /// It failed.
    Failed,
    /// It succeeded, or there is none.
    NotFailed,
}

/// What is known when archives are judged.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// Every archive of the schedule, in any order.
    pub holdings: &'a [Holding],
    /// The policy.
    pub policy: &'a Retention,
    /// Where hours, days, weeks, months and years begin.
    pub zone: &'a TimeZone,
    /// How the newest run ended.
    pub newest_run: NewestRun,
}

/// What is to become of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it stays.
    pub decision: ExpiryDecision,
    /// Why; never empty.
    pub reasons: Vec<Why>,
}

impl Verdict {
    fn keep(reasons: Vec<Why>) -> Self {
        Self { decision: ExpiryDecision::Keep, reasons }
    }

    fn expire(why: Why) -> Self {
        Self { decision: ExpiryDecision::Expire, reasons: vec![why] }
    }

    /// Whether it stays.
    pub fn is_keep(&self) -> bool {
        match self.decision {
            ExpiryDecision::Keep => true,
            ExpiryDecision::Expire => false,
        }
    }
}

/// Judges every archive; the verdicts are in the order of the holdings.
///
/// Of the runs with a good archive, the newest of each hour, day, week, month and year stay, as many as the policy says,
/// and the newest `keepLast`. `maxAgeDays` lets go whatever is older, except the newest `minimumHealthy` runs; while the
/// newest run failed, except the newest `keepLast` too.
pub fn judge_archives(judged: &Judged<'_>, now: Timestamp) -> Vec<Verdict> {
    let Judged { holdings, policy, zone, newest_run: _ } = judged;
    let mut good: Vec<Timestamp> =
        holdings.iter().filter(|holding| holding.worth == Worth::Good).map(|holding| holding.slot).collect();
    good.sort_unstable_by(|one, other| other.cmp(one));
    good.dedup();
    let kept = kept_by_rules(&good, policy, zone);
    let ranks: BTreeMap<Timestamp, usize> = good.iter().enumerate().map(|(rank, slot)| (*slot, rank)).collect();
    let floor = Floor::of(judged, good.len());
    let oldest = policy.max_age_days.map(|days| {
        let age = SignedDuration::from_hours(i64::from(days).saturating_mul(24));
        (days, after(now, -age))
    });
    holdings.iter().map(|holding| judge_one(holding, &kept, ranks.get(&holding.slot), &floor, oldest, policy)).collect()
}

/// The newest good runs that never go.
struct Floor {
    minimum: usize,
    while_failing: usize,
    is_reached: bool,
}

impl Floor {
    fn of(judged: &Judged<'_>, good: usize) -> Self {
        let Judged { holdings: _, policy, zone: _, newest_run } = judged;
        // Never the last good one, whatever the policy says.
        let minimum = count(policy.minimum_healthy).max(1);
        let while_failing = match newest_run {
            NewestRun::Failed => count(policy.keep_last),
            NewestRun::NotFailed => 0,
        };
        Self { minimum, while_failing, is_reached: good >= minimum.max(while_failing) }
    }

    fn reason(&self, rank: usize) -> Option<Why> {
        let Self { minimum, while_failing, is_reached: _ } = self;
        if rank < *minimum {
            return Some(Why::MinimumHealthy { of: *minimum });
        }
        (rank < *while_failing).then_some(Why::NewestRunFailed { of: *while_failing })
    }
}

fn judge_one(
    holding: &Holding,
    kept: &Kept,
    rank: Option<&usize>,
    floor: &Floor,
    oldest: Option<(i32, Timestamp)>,
    policy: &Retention,
) -> Verdict {
    let Holding { name: _, slot, worth, pin, hold } = holding;
    if let Some(words) = pin {
        return Verdict::keep(vec![Why::Pinned(words.clone())]);
    }
    let outlived = oldest.filter(|(_, oldest)| slot < oldest).map(|(days, _)| Why::OlderThan { days });
    let verdict = match worth {
        Worth::NotCounted(words) => match outlived {
            // While there are too few good ones, these may be all there is.
            Some(why) if floor.is_reached => Verdict::expire(why),
            Some(_) | None => Verdict::keep(vec![Why::NotCounted(words.clone())]),
        },
        Worth::Good => {
            let rules = kept.get(slot).cloned().unwrap_or_default();
            let protected = rank.and_then(|rank| floor.reason(*rank));
            match (outlived, rules.is_empty(), protected) {
                (None, false, _) => Verdict::keep(rules),
                (None, true, Some(why)) | (Some(_), _, Some(why)) => Verdict::keep(vec![why]),
                (None, true, None) => Verdict::expire(Why::NoRule { policy: policy_words(policy) }),
                (Some(why), _, None) => Verdict::expire(why),
            }
        }
    };
    match hold {
        Some(words) if !verdict.is_keep() => Verdict::keep(vec![Why::Paused(words.clone())]),
        Some(_) | None => verdict,
    }
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
