//! Cron expressions in a time zone: the moments they name, how far apart those are, and what is wrong with others.
//!
//! Five fields or a nickname; parsed by croner, zones by jiff with the data compiled in. Daylight saving as cron does
//! it: a run that falls into the gap comes right after it, one in the repeated hour runs once. An expression that names
//! every hour runs in every real hour.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};
use lifeboat_crds::Reason;

/// Why an expression cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronRefusal {
    /// There are not five fields.
    #[error(
        "schedule {expression:?} has {count} fields: write five fields (minute, hour, day of month, month, day of week), \
         such as \"0 */6 * * *\"; there is no field for seconds"
    )]
    FieldCount {
        /// What was written.
        expression: String,
        /// Fields in it.
        count: usize,
    },
    /// Runs at a distance from the last one have no times that anybody could expect them at.
    #[error(
        "schedule {0:?}: @every is not supported, because its times would depend on when the operator started; \
         write times of the clock, such as \"0 */6 * * *\" or @hourly"
    )]
    Every(String),
    /// The zone has a field of its own.
    #[error("schedule {0:?} begins with a time zone: write the zone into spec.timeZone and leave it out here")]
    ZonePrefix(String),
    /// No nickname of this name.
    #[error(
        "schedule {0:?} is no known nickname: use @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, \
         or five fields"
    )]
    Nickname(String),
    /// A field is wrong.
    #[error("schedule {expression:?}: the {field} {token:?} is wrong: {words}")]
    Field {
        /// What was written.
        expression: String,
        /// Which field.
        field: &'static str,
        /// What stands there.
        token: String,
        /// The parser's words.
        words: String,
    },
    /// The parser refuses the whole.
    #[error("schedule {expression:?}: {words}")]
    Whole {
        /// What was written.
        expression: String,
        /// The parser's words.
        words: String,
    },
    /// No such zone.
    #[error(
        "time zone {0:?} is not known: use an IANA name such as Etc/UTC or Europe/Berlin; its data is compiled into \
         the operator"
    )]
    Zone(String),
    /// No date matches.
    #[error("schedule {0:?} never fires: it names a date that does not exist")]
    NeverFires(String),
}

impl CronRefusal {
    /// The reason to show.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::FieldCount { .. }
            | Self::Every(_)
            | Self::ZonePrefix(_)
            | Self::Nickname(_)
            | Self::Field { .. }
            | Self::Whole { .. }
            | Self::Zone(_) => Reason::InvalidSchedule,
            Self::NeverFires(_) => Reason::NeverFires,
        }
    }
}

/// Nicknames and what they stand for.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
/// Names of the fields, in their order.
const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];
/// Days that are looked at for the longest time between runs: enough for all but one month of a year.
const DAYS_COMPARED: usize = 400;
/// Where that look begins. Fixed, so that the interval does not change with the season.
const FIRST_DAY_COMPARED: Date = Date::constant(2024, 1, 1);

/// An expression in its time zone that fires now and then.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    cron: Cron,
    zone: TimeZone,
    zone_name: String,
    names_every_hour: bool,
}

impl CronSchedule {
    /// Reads an expression and a zone.
    ///
    /// # Errors
    /// What is wrong with them, in words for whoever wrote them.
    pub fn parse(expression: &str, zone_name: &str) -> Result<Self, CronRefusal> {
        let cron = parse_expression(expression)?;
        let zone = jiff::tz::db().get(zone_name).map_err(|_unknown| CronRefusal::Zone(zone_name.to_owned()))?;
        let names_every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let schedule = Self { cron, zone, zone_name: zone_name.to_owned(), names_every_hour };
        match schedule.next_wall(FIRST_DAY_COMPARED.at(0, 0, 0, 0)) {
            Some(_) => Ok(schedule),
            None => Err(CronRefusal::NeverFires(expression.to_owned())),
        }
    }

    /// The first moment after `time`; `None` at the end of the calendar.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        if self.names_every_hour {
            let next = self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok()?;
            return Some(next.timestamp());
        }
        // Moments never go back along the wall clock, so the first one that lies ahead is the next.
        let mut wall = whole(self.zone.to_datetime(time));
        loop {
            wall = self.next_wall(wall)?;
            let moment = self.moment(wall)?;
            if moment > time {
                return Some(moment);
            }
            wall = wall.checked_add(1.second()).ok()?;
        }
    }

    /// The last moment up to and including `time` that lies after `start`.
    pub fn last_between(&self, start: Timestamp, time: Timestamp) -> Option<Timestamp> {
        let is_before = |second: i64| {
            let from = Timestamp::from_second(second).ok();
            from.and_then(|from| self.next_after(from)).filter(|next| *next <= time)
        };
        let (mut low, mut high) = (start.as_second(), time.as_second());
        let mut found = is_before(low)?;
        // `next_after` never goes back, so halving finds the last second that still has a moment ahead of it.
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match is_before(middle) {
                Some(moment) => (low, found) = (middle, moment),
                None => high = middle,
            }
        }
        Some(found)
    }

    /// The longest time between two runs, as the wall clock counts.
    pub fn interval(&self) -> SignedDuration {
        let first_day = self.next_wall(FIRST_DAY_COMPARED.at(0, 0, 0, 0));
        let Some(first) = first_day else { return SignedDuration::ZERO };
        let (within, last) = self.walk_day(first);
        // From a day's last run to the next such day's first: the days vary, their times do not.
        let mut longest = within;
        let mut day = first.date();
        for _ in 0..DAYS_COMPARED {
            let end = day.to_datetime(last.time());
            let Some(next) = end.checked_add(1.second()).ok().and_then(|start| self.next_wall(start)) else { break };
            longest = longest.max(next.duration_since(end));
            day = next.date();
        }
        longest
    }

    /// The longest time between runs of the day that begins with `first`, and its last run.
    fn walk_day(&self, first: DateTime) -> (SignedDuration, DateTime) {
        let (mut longest, mut last) = (SignedDuration::ZERO, first);
        while let Some(next) = last.checked_add(1.second()).ok().and_then(|start| self.next_wall(start)) {
            if next.date() != first.date() {
                break;
            }
            longest = longest.max(next.duration_since(last));
            last = next;
        }
        (longest, last)
    }

    /// A moment as people of the zone write it: RFC 3339 with the offset.
    pub fn local(&self, time: Timestamp) -> String {
        time.display_with_offset(self.zone.to_offset(time)).to_string()
    }

    /// The expression in words, with its zone.
    pub fn description(&self) -> String {
        let words = self.cron.describe();
        format!("{}, {}", words.trim_end_matches('.'), self.zone_name)
    }

    /// The first time on the wall clock that matches, from `wall` on.
    fn next_wall(&self, wall: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&wall, true).ok()
    }

    /// When the wall clock shows this: the first time where twice, right after the gap where never.
    fn moment(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, after: _ } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { before: _, after } => {
                // With the later offset the time reads as one before the change; the change is the next one there.
                let earlier = after.to_timestamp(wall).ok()?;
                let change = self.zone.following(earlier).next();
                change.map(|change| change.timestamp())
            }
        }
    }
}

fn whole(wall: DateTime) -> DateTime {
    wall.with().subsec_nanosecond(0).build().unwrap_or(wall)
}

fn parse_expression(expression: &str) -> Result<Cron, CronRefusal> {
    let written = || expression.to_owned();
    let trimmed = expression.trim();
    if ["TZ=", "CRON_TZ="].iter().any(|prefix| trimmed.starts_with(prefix)) {
        return Err(CronRefusal::ZonePrefix(written()));
    }
    if trimmed.starts_with("@every") {
        return Err(CronRefusal::Every(written()));
    }
    let nickname = NICKNAMES.iter().find(|(name, _)| *name == trimmed).map(|(_, meaning)| *meaning);
    if nickname.is_none() && trimmed.starts_with('@') {
        return Err(CronRefusal::Nickname(written()));
    }
    let fields: Vec<&str> = nickname.unwrap_or(trimmed).split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(CronRefusal::FieldCount { expression: written(), count: fields.len() });
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&fields.join(" ")).map_err(|error| {
        // The parser does not say which field it means; each is tried alone.
        let wrong = (0..FIELDS.len()).find_map(|index| {
            let mut alone = ["*"; 5];
            alone[index] = fields[index];
            parser.parse(&alone.join(" ")).err().map(|error| (index, error))
        });
        match wrong {
            Some((index, error)) => CronRefusal::Field {
                expression: written(),
                field: FIELDS[index],
                token: fields[index].to_owned(),
                words: error.to_string(),
            },
            None => CronRefusal::Whole { expression: written(), words: error.to_string() },
        }
    })
}

/// A fixed part of `span`, as a hash of `key` chooses it.
pub fn jitter(key: &str, span: SignedDuration) -> SignedDuration {
    use sha2::{Digest, Sha256};
    let Some(seconds) = u64::try_from(span.as_secs()).ok().filter(|seconds| *seconds > 0) else {
        return SignedDuration::ZERO;
    };
    let digest = Sha256::digest(key.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(number % seconds).unwrap_or(0))
}

/// The next moments after `time`.
pub fn upcoming(schedule: &CronSchedule, time: Timestamp, count: usize) -> Vec<Timestamp> {
    std::iter::successors(schedule.next_after(time), |last| schedule.next_after(*last)).take(count).collect()
}

/// How many moments lie strictly between two others, counted to a hundred.
pub fn count_between(schedule: &CronSchedule, start: Timestamp, end: Timestamp) -> usize {
    upcoming(schedule, start, 100).into_iter().filter(|moment| *moment < end).count()
}

/// Greatest age that the last success of a schedule should have: 1.25 × interval + 900 s.
pub fn objective(interval: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(interval.as_secs().saturating_mul(5) / 4 + 900)
}

/// How late a missed run may be: as the schedule says, else half the interval.
pub fn starting_deadline(seconds: Option<i64>, interval: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(seconds.unwrap_or(interval.as_secs() / 2).max(1))
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
