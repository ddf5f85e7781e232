//! Which backup is meant. `latest` is resolved once for each plan: a backup that a plan names stays the one, as long as it is
//! there and good.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_crds::condition::find;
use lifeboat_crds::restore::{ArchiveReference, ClusterRestore, LatestBackup, PlannedBackup};
use lifeboat_crds::{ConditionType, EtcdBackup, EtcdBackupLocation, Reason, label};

use crate::conditions::is_true;

/// What is meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// This backup.
    Found(PlannedBackup),
    /// One that is not over yet; in words.
    Unfinished(String),
    /// None; why, and in words.
    Missing(Reason, String),
}

/// Whether a restore could mean a backup, whatever that is worth.
pub fn is_candidate(request: &ClusterRestore, backup: &EtcdBackup) -> bool {
    let place = &backup.spec.location_ref.name;
    let source = &request.from;
    let by_name = source.backup_ref.as_ref().is_some_and(|named| backup.metadata.name.as_ref() == Some(&named.name));
    let by_latest = source.latest.as_ref().is_some_and(|LatestBackup { schedule_ref, location_ref, not_after: _ }| {
        let schedule = backup.metadata.labels.as_ref().and_then(|labels| labels.get(label::SCHEDULE));
        schedule_ref.as_ref().is_some_and(|named| schedule == Some(&named.name))
            || location_ref.as_ref().is_some_and(|named| *place == named.name)
    });
    let by_archive = source.archive.as_ref().is_some_and(|ArchiveReference { location_ref, backup_id }| {
        let id = backup.status.as_ref().and_then(|status| status.backup_id.as_ref());
        *place == location_ref.name && id == Some(backup_id)
    });
    by_name || by_latest || by_archive
}

/// The backup that a request means, given the one that its plan names.
pub(super) fn resolve(
    request: &ClusterRestore,
    backups: &[&EtcdBackup],
    locations: &BTreeMap<String, EtcdBackupLocation>,
    planned: Option<&PlannedBackup>,
) -> Source {
    let candidates: Vec<&EtcdBackup> = backups.iter().copied().filter(|backup| is_candidate(request, backup)).collect();
    let good: Vec<PlannedBackup> = candidates.iter().filter_map(|backup| good_one(backup)).collect();
    let is_same = |one: &PlannedBackup, other: &PlannedBackup| {
        one.backup_id == other.backup_id && one.location == other.location && one.sha256 == other.sha256
    };
    let kept = planned.filter(|planned| good.iter().any(|backup| is_same(backup, planned)));
    let not_after = request.from.latest.as_ref().and_then(|latest| latest.not_after.as_ref()).map(|time| time.0);
    let found = kept.cloned().or_else(|| newest(good, not_after));
    match found {
        Some(backup) if locations.contains_key(&backup.location) => Source::Found(backup),
        Some(backup) => no_location(&backup.location),
        None => none(request, &candidates, locations),
    }
}

/// A backup as a plan names it, where it is good; what only its manifest tells is filled in by the plan's agent.
fn good_one(backup: &EtcdBackup) -> Option<PlannedBackup> {
    let status = backup.status.as_ref().filter(|status| is_true(&status.conditions, ConditionType::Ready))?;
    Some(PlannedBackup {
        backup_id: status.backup_id.clone()?,
        revision: status.revision?,
        time: status.start_time.clone(),
        sha256: status.sha256.clone()?,
        cluster: String::new(),
        content_hash: status.content_hash.clone().unwrap_or_default(),
        location: backup.spec.location_ref.name.clone(),
    })
}

/// The newest; of those whose content was proven, where there are any, for no other can be staged.
fn newest(good: Vec<PlannedBackup>, not_after: Option<Timestamp>) -> Option<PlannedBackup> {
    let time = |backup: &PlannedBackup| backup.time.as_ref().map(|time| time.0);
    let allowed =
        good.into_iter().filter(|backup| not_after.is_none_or(|limit| time(backup).is_some_and(|at| at <= limit)));
    allowed.max_by_key(|backup| (!backup.content_hash.is_empty(), time(backup), backup.backup_id.clone()))
}

fn no_location(name: &str) -> Source {
    Source::Missing(Reason::LocationMissing, format!("location {name} does not exist: create the EtcdBackupLocation"))
}

fn none(
    request: &ClusterRestore,
    candidates: &[&EtcdBackup],
    locations: &BTreeMap<String, EtcdBackupLocation>,
) -> Source {
    let latest = request.from.latest.as_ref();
    let archive = request.from.archive.as_ref();
    let place = latest
        .and_then(|latest| latest.location_ref.as_ref())
        .or_else(|| archive.map(|archive| &archive.location_ref))
        .map(|named| named.name.as_str());
    if let Some(place) = place.filter(|place| !locations.contains_key(*place)) {
        return no_location(place);
    }
    let missing = |words: String| Source::Missing(Reason::ArchiveMissing, words);
    if let (Some(named), [backup, ..]) = (request.from.backup_ref.as_ref(), candidates) {
        return not_good(backup, &named.name);
    }
    if let Some(named) = request.from.backup_ref.as_ref() {
        return missing(format!("there is no EtcdBackup {}; `kubectl get etcdb` shows those there are", named.name));
    }
    if let Some(ArchiveReference { location_ref, backup_id }) = archive {
        return missing(format!(
            "location {} has no good archive {backup_id}, by the records that are there; a listing of the location, every ten \
             minutes, makes a record of each",
            location_ref.name
        ));
    }
    let of = match latest.and_then(|latest| latest.schedule_ref.as_ref()) {
        Some(schedule) => format!("of schedule {}", schedule.name),
        None => format!("in location {}", place.unwrap_or_default()),
    };
    let limit = latest.and_then(|latest| latest.not_after.as_ref());
    let until = limit.map(|time| format!(" of {} or before", time.0)).unwrap_or_default();
    missing(format!("there is no good backup {of}{until}; `kubectl get etcdb` shows those there are"))
}

/// Why the backup that is named cannot be restored from.
fn not_good(backup: &EtcdBackup, name: &str) -> Source {
    if !backup.has_ended() {
        return Source::Unfinished(format!("waits for backup {name} to end"));
    }
    let conditions = backup.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let ready = find(conditions, ConditionType::Ready);
    let words =
        ready.map_or("nothing is known of it".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
    Source::Missing(Reason::ArchiveMissing, format!("backup {name} cannot be restored from: {words}"))
}
