//! What the records of a schedule say: which run is the newest, what goes on, what succeeded, which may go.
//!
//! The copies of one slot are one run; it succeeded if any of them did.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_crds::condition::find;
use lifeboat_crds::schedule::Retained;
use lifeboat_crds::{ConditionType, EtcdBackup, ObjectName, Reason, Time};

use super::due::is_asked;
use super::name_of;
use crate::horizon;

/// Most runs named in `status.active`.
const ACTIVE_SHOWN: usize = 32;

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// Name of one of its backups: of one that succeeded, if any did.
    pub(super) name: String,
    /// Why it failed, if it did.
    pub(super) failure: Option<(Reason, String)>,
}

/// What the records say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    /// Backups that go on.
    pub(super) active: Vec<ObjectName>,
    /// The newest backup.
    pub(super) last_backup: Option<ObjectName>,
    /// Completion of the newest good one.
    pub(super) last_success: Option<Timestamp>,
    /// Runs that failed since the last success.
    pub(super) failures: i32,
    /// The newest run that is over.
    pub(super) finished: Option<Finished>,
    /// The good ones.
    pub(super) retained: Retained,
}

/// Sums the records up. How a run ended whose slot lies ahead says nothing: it was started under a clock that was wrong, and
/// would stand for every run until then.
pub(super) fn summarize(backups: &[&EtcdBackup], now: Timestamp) -> History {
    let mut runs = runs_of(backups.iter().copied());
    for run in runs.values_mut() {
        run.sort_by(|one, other| name_of(one).cmp(name_of(other)));
    }
    let newest_first = || runs.range(..=horizon(now)).rev().map(|(_, run)| run);
    let mut active: Vec<ObjectName> = runs
        .values()
        .flatten()
        .filter(|backup| is_active(backup))
        .map(|backup| ObjectName::new(name_of(backup)))
        .collect();
    active.truncate(ACTIVE_SHOWN);
    let over: Vec<Finished> = newest_first().filter_map(|run| finished(run)).collect();
    let failures = over.iter().take_while(|run| run.failure.is_some()).count();
    let newest = newest_first().next().and_then(|run| run.first());
    let good: Vec<&EtcdBackup> = backups.iter().copied().filter(|backup| backup.is(ConditionType::Complete)).collect();
    let kept: Vec<&EtcdBackup> = good.iter().filter(|backup| !is_lost(backup)).copied().collect();
    let retained = Retained {
        count: i64::try_from(kept.len()).unwrap_or(i64::MAX),
        bytes: kept.iter().filter_map(|backup| backup.status.as_ref()?.stored_size_bytes).sum(),
        oldest: kept.iter().filter_map(|backup| completion(backup)).min().map(Time),
    };
    History {
        active,
        last_backup: newest.map(|backup| ObjectName::new(name_of(backup))),
        last_success: good.iter().filter_map(|backup| completion(backup)).filter(|time| *time <= horizon(now)).max(),
        failures: i32::try_from(failures).unwrap_or(i32::MAX),
        finished: over.into_iter().next(),
        retained,
    }
}

/// The newest run that is over.
pub(super) fn newest_finished<'b>(backups: impl Iterator<Item = &'b EtcdBackup>, now: Timestamp) -> Option<Finished> {
    runs_of(backups).range(..=horizon(now)).rev().find_map(|(_, run)| finished(run))
}

/// The copies of one slot are one run.
fn runs_of<'b>(backups: impl Iterator<Item = &'b EtcdBackup>) -> BTreeMap<Timestamp, Vec<&'b EtcdBackup>> {
    let mut runs: BTreeMap<Timestamp, Vec<&EtcdBackup>> = BTreeMap::new();
    for backup in backups {
        runs.entry(time_of(backup)).or_default().push(backup);
    }
    runs
}

/// Whether a backup goes on.
pub(super) fn is_active(backup: &EtcdBackup) -> bool {
    !backup.is_imported() && !backup.has_ended()
}

/// Whether a listing of the bucket misses the archive, or found it altered.
fn is_lost(backup: &EtcdBackup) -> bool {
    let conditions = backup.status.as_ref().map_or(&[][..], |status| &status.conditions);
    find(conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "False")
}

/// Names of the oldest records of failed backups beyond `kept`. That of the newest run that is over stays in any case: it
/// says how the schedule stands; that of the newest slot too: it says that the slot was served, should the status be
/// lost. One of a good backup never goes.
pub(super) fn failed_beyond(backups: &[&EtcdBackup], kept: i32) -> Vec<String> {
    let kept = usize::try_from(kept).unwrap_or(0);
    let mut failed: Vec<&EtcdBackup> = backups
        .iter()
        .copied()
        .filter(|backup| backup.is(ConditionType::Failed) && !backup.is(ConditionType::Complete))
        .collect();
    if failed.len() <= kept {
        // The slots of all records are read, from text, only where something may go.
        return Vec::new();
    }
    let newest_over = backups.iter().filter(|backup| !is_active(backup)).map(|backup| time_of(backup)).max();
    let newest_slot = backups.iter().filter(|backup| !is_asked(backup)).map(|backup| time_of(backup)).max();
    failed.sort_by_cached_key(|backup| Reverse((time_of(backup), name_of(backup))));
    let beyond = failed.into_iter().skip(kept);
    beyond
        .filter(|backup| ![newest_over, newest_slot].contains(&Some(time_of(backup))))
        .map(|backup| name_of(backup).to_owned())
        .collect()
}

/// The slot of a backup; for one without, when it was made.
fn time_of(backup: &EtcdBackup) -> Timestamp {
    let created = backup.metadata.creation_timestamp.as_ref().map(|time| time.0);
    backup.slot().or(created).unwrap_or(Timestamp::MIN)
}

fn completion(backup: &EtcdBackup) -> Option<Timestamp> {
    backup.status.as_ref()?.completion_time.as_ref().map(|time| time.0)
}

/// How a run ended; `None` while it may still go either way.
fn finished(run: &[&EtcdBackup]) -> Option<Finished> {
    if let Some(good) = run.iter().find(|backup| backup.is(ConditionType::Complete)) {
        return Some(Finished { name: name_of(good).to_owned(), failure: None });
    }
    // One found in the bucket waits to be filled in by a listing.
    if run.iter().any(|backup| !backup.has_ended()) {
        return None;
    }
    let backup = run.first()?;
    let failure = backup.status.as_ref().and_then(|status| status.failure.as_ref());
    let words = failure.map(|failure| (failure.reason(), failure.message.clone()));
    let failure = words.unwrap_or((Reason::SnapshotFailed, "the run failed".to_owned()));
    Some(Finished { name: name_of(backup).to_owned(), failure: Some(failure) })
}
