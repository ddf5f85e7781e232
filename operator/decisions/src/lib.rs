//! The deciders of the operator: what is due, on which node, what a status means.
//!
//! Pure: every decider takes what was observed and the time, and gives a value. No I/O, no clock, no client, no chance;
//! the same observation at the same time always gives the same decision, and a decision that was applied gives no
//! further one. Carrying decisions out is the business of `lifeboat-operator`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod assignment;
pub mod backup;
pub mod conditions;
pub mod cron;
pub mod event;
pub mod location;
pub mod member;
pub mod restore;
pub mod retention;
pub mod schedule;
#[cfg(test)]
mod situation;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::{EtcdBackupLocation, EtcdMember};

/// The location that an object refers to, as far as it is there.
#[derive(Clone, Debug, PartialEq)]
pub enum LocationView {
    /// There is none of that name.
    Missing,
    /// It is there.
    Seen(Box<EtcdBackupLocation>),
}

impl LocationView {
    /// Hosts that may write there, where that is known.
    pub fn owners(&self) -> Option<&[String]> {
        match self {
            Self::Missing => None,
            Self::Seen(location) => Some(location.status.as_ref()?.owner.as_ref()?.hosts.as_slice()),
        }
    }
}

/// A member, and how long its agent's heartbeat stood still before our eyes.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenMember {
    /// The member.
    pub member: EtcdMember,
    /// How long its heartbeat was seen unchanged.
    pub unchanged_for: Duration,
}

/// An agent whose heartbeat stood still for this long is silent.
pub const SILENCE: Duration = Duration::from_secs(90);

/// How long something that often comes a moment later (a location, a Secret) is waited for before it counts as missing.
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Clocks of one installation and its stores that differ by more than this are wrong.
pub const LARGEST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What lies beyond this was written under a clock that was ahead.
fn horizon(now: Timestamp) -> Timestamp {
    after(now, LARGEST_SKEW)
}

/// `time` plus seconds; the far end of time where that is beyond it.
fn after(time: Timestamp, pause: SignedDuration) -> Timestamp {
    time.checked_add(pause).unwrap_or(if pause.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// From now until `time`; zero where that has passed.
fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or(Duration::ZERO)
}
