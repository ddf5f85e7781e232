//! The rules that keep: the newest so many, and the newest of each hour, day, week, month and year. Knows nothing of age.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use lifeboat_crds::schedule::Retention;

use super::count;
use super::reasons::Why;

/// By slot, the rules that keep it, in the order of the policy.
pub(super) type Kept = BTreeMap<Timestamp, Vec<Why>>;

/// A length of time that one archive is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week of ISO 8601: from Monday; its year is not always that of the day.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Unit {
    /// The word in reasons.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// The bucket that a time falls into. The repeated hour of autumn is two, told apart by the offset.
    fn bucket(self, time: &Zoned) -> Bucket {
        let (year, day) = (time.year(), time.day_of_year());
        match self {
            Self::Hour => (year, day, time.hour(), time.offset().seconds()),
            Self::Day => (year, day, 0, 0),
            Self::Week => {
                let week = time.date().iso_week_date();
                (week.year(), 0, week.week(), 0)
            }
            Self::Month => (year, 0, time.month(), 0),
            Self::Year => (year, 0, 0, 0),
        }
    }

    /// The same in words.
    fn words(self, time: &Zoned) -> String {
        let form = match self {
            Self::Hour => "%Y-%m-%dT%H%:z",
            Self::Day => "%Y-%m-%d",
            Self::Week => "%G-W%V",
            Self::Month => "%Y-%m",
            Self::Year => "%Y",
        };
        time.strftime(form).to_string()
    }
}

/// Year, day of it, hour or week or month, offset: as far as they matter.
type Bucket = (i16, i16, i8, i32);

/// The rules of a policy that keep so many buckets.
fn rules(policy: &Retention) -> [(Unit, usize); 5] {
    let Retention {
        keep_last: _,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        max_age_days: _,
        minimum_healthy: _,
    } = policy;
    [
        (Unit::Hour, count(*keep_hourly)),
        (Unit::Day, count(*keep_daily)),
        (Unit::Week, count(*keep_weekly)),
        (Unit::Month, count(*keep_monthly)),
        (Unit::Year, count(*keep_yearly)),
    ]
}

/// Which of the good runs, newest first and each once, the rules keep.
///
/// A bucket counts only if there is something in it: after a month without backups the daily ones of before still stay.
pub(super) fn kept_by_rules(newest_first: &[Timestamp], policy: &Retention, zone: &TimeZone) -> Kept {
    let mut kept = Kept::new();
    let of = count(policy.keep_last);
    for (rank, slot) in newest_first.iter().take(of).enumerate() {
        kept.entry(*slot).or_default().push(Why::Last { rank: rank + 1, of });
    }
    for (unit, of) in rules(policy) {
        // Not only the bucket before: where clocks go back over midnight, a day comes twice.
        let mut seen = BTreeSet::new();
        for slot in newest_first {
            if seen.len() == of {
                break;
            }
            let time = slot.to_zoned(zone.clone());
            if seen.insert(unit.bucket(&time)) {
                let bucket = unit.words(&time);
                kept.entry(*slot).or_default().push(Why::Bucket { unit, bucket, rank: seen.len(), of });
            }
        }
    }
    kept
}
