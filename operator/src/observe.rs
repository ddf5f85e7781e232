//! Reads from the caches what the deciders need, as plain data. Reads no API, decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::{
    ConditionType, EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore, label,
};
use lifeboat_decisions::backup::{ObservedBackup, Sighting};
use lifeboat_decisions::location::ObservedLocation;
use lifeboat_decisions::member::ObservedMember;
use lifeboat_decisions::restore::recreation::{Recreation, decide_recreation};
use lifeboat_decisions::restore::{ObservedRestore, has_ended, is_candidate, pinned_backup};
use lifeboat_decisions::retention::{ObservedRetention, last_restore};
use lifeboat_decisions::schedule::{ObservedSchedule, newest_run};
use lifeboat_decisions::{LocationView, SeenMember};

use crate::assignments::{NodeUse, RecentAssignments};
use crate::kind::Watched;
use crate::liveness::LivenessTracker;
use crate::stores::{Guarded, Stores, readable};

/// Every backup in the cache that has to do with a schedule, for [`observe_schedule`]: its own, and those whose names its
/// runs could want.
pub fn around_schedule(schedule: &EtcdBackupSchedule, stores: &Stores) -> Vec<Arc<Guarded<EtcdBackup>>> {
    let name = schedule.name_any();
    // Names of runs begin with the schedule's own.
    let prefix = format!("{name}-");
    stores.backups.state_filter(|guarded| {
        guarded.labels().get(label::SCHEDULE) == Some(&name)
            || guarded.meta().name.as_deref().is_some_and(|name| name.starts_with(&prefix))
    })
}

/// What is known around a schedule. `around` is what [`around_schedule`] gave.
pub fn observe_schedule<'o>(
    schedule: &EtcdBackupSchedule,
    around: &'o [Arc<Guarded<EtcdBackup>>],
    stores: &Stores,
) -> ObservedSchedule<'o> {
    let name = schedule.name_any();
    let mut backups = Vec::new();
    let mut taken_names = BTreeSet::new();
    // Unreadable ones too: their names are taken all the same.
    for guarded in around {
        match &guarded.0 {
            Ok(backup) if schedule_of(backup) == Some(&name) => backups.push(backup),
            Ok(_) | Err(_) => {
                taken_names.insert(guarded.name_any());
            }
        }
    }
    ObservedSchedule {
        schedule: schedule.clone(),
        location: view_location(stores, &schedule.spec.template.spec.location_ref.name),
        backups,
        taken_names,
        last_rewind: last_rewind(stores),
        last_heard: last_heard(stores),
    }
}

/// When an agent last wrote, by its own clock.
fn last_heard(stores: &Stores) -> Option<Timestamp> {
    let members = readable(&stores.members);
    let members = members.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    members.filter_map(|member| Some(member.status.as_ref()?.facts.heartbeat_time.as_ref()?.0)).max()
}

/// What is known around the archives of a schedule.
pub fn observe_retention<'a>(
    schedule: &'a EtcdBackupSchedule,
    backups: &'a [&'a EtcdBackup],
    stores: &Stores,
    now: Timestamp,
) -> ObservedRetention<'a> {
    let names: BTreeSet<&str> = backups.iter().map(|backup| backup.spec.location_ref.name.as_str()).collect();
    ObservedRetention {
        schedule,
        backups,
        locations: names.into_iter().map(|name| (name.to_owned(), view_location(stores, name))).collect(),
        last_restore: last_restore(&restores(stores)),
        newest_run: newest_run(backups.iter().copied(), now),
        planned: planned(stores),
    }
}

/// Archives that a restore plans with, by location and backupId.
fn planned(stores: &Stores) -> BTreeMap<(String, String), String> {
    let restores = readable(&stores.restores);
    let restores = restores.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    let pins = restores.filter_map(|restore| {
        let backup = pinned_backup(restore)?;
        Some(((backup.location.clone(), backup.backup_id.clone()), restore.name_any()))
    });
    pins.collect()
}

/// Every backup in the cache that a restore could mean, for [`observe_restore`]. One that has ended means none any more.
pub fn around_restore(restore: &EtcdRestore, stores: &Stores) -> Vec<Arc<Guarded<EtcdBackup>>> {
    match &restore.spec.cluster {
        Some(request) if !has_ended(restore) => {
            stores.backups.state_filter(|guarded| guarded.0.as_ref().is_ok_and(|backup| is_candidate(request, backup)))
        }
        Some(_) | None => Vec::new(),
    }
}

/// What is known around a restore. `around` is what [`around_restore`] gave.
pub fn observe_restore<'o>(
    restore: &EtcdRestore,
    around: &'o [Arc<Guarded<EtcdBackup>>],
    stores: &Stores,
    liveness: &LivenessTracker,
    now: Instant,
) -> ObservedRestore<'o> {
    let locations = readable(&stores.locations);
    let locations = locations.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    let others = readable(&stores.restores);
    let others = others.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    ObservedRestore {
        restore: restore.clone(),
        backups: around.iter().filter_map(|guarded| guarded.0.as_ref().ok()).collect(),
        locations: locations.map(|location| (location.name_any(), location.clone())).collect(),
        members: seen_members(stores, liveness, now),
        others: others.filter(|other| other.name_any() != restore.name_any()).cloned().collect(),
        execution_unchanged_for: unchanged_for(restore, liveness, now),
    }
}

/// What is to be made again because of what a member tells.
pub fn recreation(member: &EtcdMember, stores: &Stores) -> Option<Recreation> {
    let all = readable(&stores.members);
    let all = all.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    decide_recreation(member, all)
}

/// The last restore of each master.
fn restores(stores: &Stores) -> Vec<LastRestore> {
    let members = readable(&stores.members);
    let members = members.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    members.filter_map(|member| member.status.as_ref()?.facts.last_restore.clone()).collect()
}

/// When older data last took the place of the cluster's own, as far as that is known.
fn last_rewind(stores: &Stores) -> Option<Timestamp> {
    let done = restores(stores).into_iter().filter(|restore| restore.outcome == LastRestore::RESTORED);
    done.filter_map(|restore| Some(restore.time?.0)).max()
}

/// What is known around a backup.
pub fn observe_backup(
    backup: &EtcdBackup,
    stores: &Stores,
    liveness: &LivenessTracker,
    assignments: &RecentAssignments,
    now: Instant,
) -> ObservedBackup {
    let schedule = schedule_of(backup).and_then(|name| stores.schedule(name));
    // Most backups ended long ago or were found in the bucket: others do not matter to those.
    let (nodes, later_runs) = if backup.has_ended() || backup.is_imported() {
        (NodeUse::default(), Vec::new())
    } else {
        let unfinished = stores.unfinished_backups();
        let unfinished = unfinished.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        (assignments.node_use(unfinished, stores.last_used(), backup.uid().as_deref()), later_runs(backup, stores))
    };
    let NodeUse { busy, last_used } = nodes;
    ObservedBackup {
        location: view_location(stores, &backup.spec.location_ref.name),
        members: seen_members(stores, liveness, now),
        busy,
        last_used,
        execution_unchanged_for: unchanged_for(backup, liveness, now),
        has_schedule: schedule.is_some(),
        concurrency: schedule.map(|schedule| schedule.spec.concurrency_policy),
        later_runs,
        sighting: sighting(backup, stores),
        last_rewind: last_rewind(stores),
        backup: backup.clone(),
    }
}

/// What is known around a location.
pub fn observe_location(
    location: &EtcdBackupLocation,
    stores: &Stores,
    liveness: &LivenessTracker,
    now: Instant,
) -> ObservedLocation {
    ObservedLocation {
        members: seen_members(stores, liveness, now),
        execution_unchanged_for: unchanged_for(location, liveness, now),
        newest_completion: stores.newest_completion(&location.name_any()),
        newest_failure: stores.newest_failure(&location.name_any()),
        location: location.clone(),
    }
}

/// What is known of a member.
pub fn observe_member(
    member: &EtcdMember,
    stores: &Stores,
    liveness: &LivenessTracker,
    now: Instant,
) -> ObservedMember {
    let all = readable(&stores.members);
    let agreements = all
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .filter_map(|member| member.status.as_ref()?.facts.agreement.clone());
    ObservedMember {
        seen: SeenMember { member: member.clone(), unchanged_for: unchanged_for(member, liveness, now) },
        agreements: agreements.collect(),
    }
}

fn schedule_of(backup: &EtcdBackup) -> Option<&String> {
    backup.labels().get(label::SCHEDULE)
}

fn view_location(stores: &Stores, name: &str) -> LocationView {
    stores.location(name).map_or(LocationView::Missing, |location| LocationView::Seen(Box::new(location)))
}

fn sighting(backup: &EtcdBackup, stores: &Stores) -> Sighting {
    let place = ObjectRef::new(&backup.spec.location_ref.name).within(&stores.namespace);
    let location = stores.locations.get(&place);
    let location = location.as_ref().and_then(|guarded| guarded.0.as_ref().ok());
    location.map_or(Sighting::Unsaid, |location| Sighting::of(backup, location))
}

fn seen_members(stores: &Stores, liveness: &LivenessTracker, now: Instant) -> Vec<SeenMember> {
    let members = readable(&stores.members);
    let seen = members
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .map(|member| SeenMember { member: member.clone(), unchanged_for: unchanged_for(member, liveness, now) });
    seen.collect()
}

fn unchanged_for<K: Watched>(object: &K, liveness: &LivenessTracker, now: Instant) -> Duration {
    object.meta().uid.as_deref().map_or(Duration::ZERO, |uid| liveness.unchanged_for(K::KIND, uid, now))
}

/// Runs of the same schedule that serve later slots. One that failed is no reason to give up one that may succeed.
fn later_runs(backup: &EtcdBackup, stores: &Stores) -> Vec<(Timestamp, String)> {
    let (Some(schedule), Some(own)) = (schedule_of(backup), backup.slot()) else { return Vec::new() };
    let all = readable(&stores.backups);
    let siblings = all
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .filter(|other| schedule_of(other) == Some(schedule))
        .filter(|other| !other.has_ended() || other.is(ConditionType::Complete));
    siblings.filter_map(|other| Some((other.slot()?, other.name_any()))).filter(|(slot, _)| *slot > own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Fingerprint;
    use lifeboat_crds::schedule::ConcurrencyPolicy;
    use serde_json::{Value, json};

    fn backup(name: &str, labels: &Value, slot: &str) -> Value {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": name, "namespace": "lifeboat", "uid": name, "labels": labels,
                "annotations": {label::SLOT: slot}},
            "spec": {"locationRef": {"name": "bucket"}}})
    }

    fn schedule(policy: &str) -> Value {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupSchedule",
            "metadata": {"name": "nightly", "namespace": "lifeboat"},
            "spec": {"schedule": "@daily", "concurrencyPolicy": policy,
                "template": {"spec": {"locationRef": {"name": "bucket"}}}}})
    }

    fn stores(policy: &str) -> Stores {
        let (stores, mut writers) = Stores::new("lifeboat");
        let nightly = json!({label::SCHEDULE: "nightly"});
        let mut done = backup("done", &json!({}), "");
        done["status"] = json!({"completionTime": "2026-11-24T05:00:00Z", "conditions": [{"type": "Complete",
            "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-11-24T05:00:00Z"}]});
        let mut unreadable = backup("unreadable", &nightly, "");
        unreadable["spec"] = json!(7);
        writers.fill(&stores, &[
            schedule(policy),
            backup("one", &nightly, "2026-11-24T01:00:00Z"),
            backup("one-copy", &nightly, "2026-11-24T01:00:00Z"),
            backup("two", &nightly, "2026-11-24T03:00:00+01:00"),
            backup("other", &json!({label::SCHEDULE: "hourly"}), "2026-11-24T09:00:00Z"),
            backup("nightly-20261124000000", &json!({}), ""),
            done,
            unreadable,
            json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdMember",
                "metadata": {"name": "m1", "namespace": "lifeboat", "uid": "m1"}, "status": {}}),
            json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
                "metadata": {"name": "bucket", "namespace": "lifeboat", "uid": "l"}, "spec": {"s3": {"bucket": "abc"}}}),
        ]);
        stores
    }

    fn cached(stores: &Stores, name: &str) -> EtcdBackup {
        crate::stores::get(&stores.backups, "lifeboat", name).unwrap()
    }

    fn observe(stores: &Stores, name: &str) -> ObservedBackup {
        let assignments = RecentAssignments::default();
        observe_backup(&cached(stores, name), stores, &LivenessTracker::default(), &assignments, Instant::now())
    }

    #[test]
    fn a_schedule_sees_its_own_backups_and_the_names_it_could_want() {
        let stores = stores("Forbid");
        let nightly = stores.schedule("nightly").unwrap();
        let around = around_schedule(&nightly, &stores);
        let observed = observe_schedule(&nightly, &around, &stores);
        let mut own: Vec<_> = observed.backups.iter().map(|backup| backup.name_any()).collect();
        own.sort();
        assert_eq!(own, ["one", "one-copy", "two"]);
        assert_eq!(observed.taken_names.into_iter().collect::<Vec<_>>(), ["nightly-20261124000000", "unreadable"]);
        assert!(matches!(observed.location, LocationView::Seen(_)));
    }

    #[test]
    fn a_run_sees_the_later_ones_of_its_schedule() {
        let stores = stores("Replace");
        let two = ("2026-11-24T02:00:00Z".parse().unwrap(), "two".to_owned());
        assert_eq!(observe(&stores, "one").later_runs, [two]);
        assert_eq!(observe(&stores, "one").concurrency, Some(ConcurrencyPolicy::Replace));
        assert_eq!(observe(&stores, "two").later_runs, [], "neither copies of one slot nor earlier ones");
    }

    #[test]
    fn the_location_knows_its_newest_completion_and_the_members() {
        let stores = stores("Forbid");
        let (liveness, start) = (LivenessTracker::default(), Instant::now());
        liveness.saw(crate::kind::Kind::Member, "m1", Fingerprint::of(&1), start);
        let location = stores.location("bucket").unwrap();
        let observed = observe_location(&location, &stores, &liveness, start + Duration::from_secs(7));
        assert_eq!(observed.newest_completion, Some("2026-11-24T05:00:00Z".parse().unwrap()));
        assert_eq!(observed.members.len(), 1);
        assert_eq!(observed.members[0].unchanged_for, Duration::from_secs(7));
    }
}
