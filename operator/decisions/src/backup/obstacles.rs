//! What stands in the way of assigning a run: its own spec, or its location.
//!
//! A store that does not answer is no obstacle: the agent tries, and may well get through.

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::condition::find;
use lifeboat_crds::{ConditionType, EtcdBackupLocation, EtcdBackupStatus, Reason, TaskError};

use crate::backup::ObservedBackup;
use crate::conditions::{Outcome, end_of_grace, is_observed, is_true, unready_since};
use crate::location::{refuses_archives, unsupported};
use crate::{GRACE, LocationView, after};

/// Longest wait for the next probe of a location that is Stalled: it comes within a minute.
const UNTIL_PROBED: SignedDuration = SignedDuration::from_secs(75);

/// What stands in the way.
pub(super) enum Obstacle {
    /// Nothing.
    None,
    /// Something that may pass.
    Passing { outcome: Outcome, look_again: Timestamp },
    /// Something that does not.
    Final(TaskError),
}

/// What stands in the way of the next try.
pub(super) fn obstacle_of(
    observed: &ObservedBackup,
    status: &EtcdBackupStatus,
    first_seen: Timestamp,
    now: Timestamp,
) -> Obstacle {
    let name = &observed.backup.spec.location_ref.name;
    match &observed.location {
        LocationView::Missing => {
            let words = format!("location {name} does not exist: create the EtcdBackupLocation");
            // Counted from when this was first shown; something else may have been the matter before.
            let since = unready_since(&status.conditions, now);
            match end_of_grace(since, now) {
                Some(look_again) => {
                    Obstacle::Passing { outcome: Outcome::troubled(Reason::LocationMissing, words), look_again }
                }
                None => Obstacle::Final(TaskError::new(Reason::LocationMissing, words)),
            }
        }
        LocationView::Seen(location) => obstacle_at(location, name, first_seen, now),
    }
}

fn obstacle_at(location: &EtcdBackupLocation, name: &str, first_seen: Timestamp, now: Timestamp) -> Obstacle {
    if let Some(words) = unsupported(&location.spec) {
        return Obstacle::Final(TaskError::new(Reason::NotSupported, format!("location {name}: {words}")));
    }
    if let Some(words) = refuses_archives(&location.spec, name) {
        return Obstacle::Final(TaskError::new(Reason::AccessDenied, words));
    }
    let status = location.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let ready = find(conditions, ConditionType::Ready);
    let is_current = location
        .metadata
        .generation
        .is_some_and(|generation| is_observed(status.and_then(|status| status.observed_generation), generation));
    let Some(ready) = ready.filter(|ready| is_current && ready.reason != Reason::Pending.as_str()) else {
        // Its first probe is under way. Whatever that finds is better known before a try is spent.
        let look_again = after(first_seen, GRACE);
        let words = format!("location {name} is being tried out first");
        return if look_again > now {
            Obstacle::Passing { outcome: Outcome::waiting(Reason::Pending, words), look_again }
        } else {
            Obstacle::None
        };
    };
    let reason = Reason::parse(&ready.reason).unwrap_or(Reason::LocationUnavailable);
    let words = format!("location {name}: {}", ready.message);
    if is_true(conditions, ConditionType::Stalled) {
        // It may have been mended since it was tried; whoever mends it makes a new backup next. A probe comes within a
        // minute.
        let was_tried = status.and_then(|status| status.last_probe_time.as_ref()).is_some_and(|at| at.0 >= first_seen);
        let look_again = after(first_seen, UNTIL_PROBED);
        return if was_tried || look_again <= now {
            Obstacle::Final(TaskError::new(reason, words))
        } else {
            let words = format!("{words}; it is tried out once more before this backup is given up");
            Obstacle::Passing { outcome: Outcome::troubled(reason, words), look_again }
        };
    }
    // In its first minute: a Secret that is applied together with the backup may come a moment later.
    if ready.status == "False" && super::attempts::is_permanent(reason) {
        let look_again = after(now, GRACE);
        return Obstacle::Passing { outcome: Outcome::troubled(reason, words), look_again };
    }
    Obstacle::None
}
