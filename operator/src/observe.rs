//! Reads from the caches what the deciders need, as plain data. Reads no API, decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use lifeboat_crds::condition::{find, is_true};
use lifeboat_crds::schedule::ConcurrencyPolicy;
use lifeboat_crds::{ConditionType, EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, label};
use lifeboat_decisions::backup::{ObservedBackup, Sighting};
use lifeboat_decisions::location::ObservedLocation;
use lifeboat_decisions::member::ObservedMember;
use lifeboat_decisions::retention::ObservedRetention;
use lifeboat_decisions::schedule::{ObservedSchedule, newest_run};
use lifeboat_decisions::{LocationView, SeenMember};

use crate::assignments::{NodeUse, RecentAssignments, is_terminal};
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
    }
}

/// What is known around the archives of a schedule.
pub fn observe_retention<'a>(
    schedule: &'a EtcdBackupSchedule,
    backups: &'a [&'a EtcdBackup],
    stores: &Stores,
) -> ObservedRetention<'a> {
    let names: BTreeSet<&str> = backups.iter().map(|backup| backup.spec.location_ref.name.as_str()).collect();
    let members = readable(&stores.members);
    let restores = members
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .filter_map(|member| member.status.as_ref()?.facts.last_restore.as_ref())
        // One of unknown time is after any listing.
        .map(|restore| restore.time.as_ref().map_or(Timestamp::MAX, |time| time.0));
    ObservedRetention {
        schedule,
        backups,
        locations: names.into_iter().map(|name| (name.to_owned(), view_location(stores, name))).collect(),
        last_restore: restores.max(),
        newest_run: newest_run(backups.iter().copied()),
    }
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
    let has_schedule = schedule.is_some();
    // Most backups ended long ago or were found in the bucket: others do not matter to those.
    let (nodes, superseded_by) = if is_terminal(backup) || is_imported(backup) {
        (NodeUse::default(), None)
    } else {
        let unfinished = stores.unfinished_backups();
        let unfinished = unfinished.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        (
            assignments.node_use(unfinished, stores.last_used(), backup.uid().as_deref()),
            schedule.and_then(|schedule| superseding(backup, &schedule, stores)),
        )
    };
    let NodeUse { busy, last_used } = nodes;
    ObservedBackup {
        location: view_location(stores, &backup.spec.location_ref.name),
        members: seen_members(stores, liveness, now),
        busy,
        last_used,
        execution_unchanged_for: unchanged_for(backup, liveness, now),
        superseded_by,
        has_schedule,
        sighting: sighting(backup, stores),
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
    let name = location.name_any();
    let ended = stores.backups.state_filter(|guarded| {
        guarded.0.as_ref().is_ok_and(|backup| backup.spec.location_ref.name == name && run_end(backup).is_some())
    });
    let ends = ended.iter().filter_map(|guarded| run_end(guarded.0.as_ref().ok()?));
    ObservedLocation {
        members: seen_members(stores, liveness, now),
        execution_unchanged_for: unchanged_for(location, liveness, now),
        newest_completion: ends.max(),
        location: location.clone(),
    }
}

/// What is known of a member.
pub fn observe_member(member: &EtcdMember, liveness: &LivenessTracker, now: Instant) -> ObservedMember {
    ObservedMember { seen: SeenMember { member: member.clone(), unchanged_for: unchanged_for(member, liveness, now) } }
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

fn slot(backup: &EtcdBackup) -> Option<Timestamp> {
    backup.annotations().get(label::SLOT).and_then(|slot| slot.parse().ok())
}

/// The newest run of the same schedule that serves a later slot, where the schedule says that it takes over.
fn superseding(backup: &EtcdBackup, schedule: &EtcdBackupSchedule, stores: &Stores) -> Option<String> {
    match schedule.spec.concurrency_policy {
        ConcurrencyPolicy::Forbid => None,
        ConcurrencyPolicy::Replace => {
            let own = slot(backup)?;
            let all = readable(&stores.backups);
            let others = all.iter().filter_map(|guarded| guarded.0.as_ref().ok());
            others
                .filter(|other| schedule_of(other) == schedule_of(backup))
                // One that failed is no reason to give up one that may succeed.
                .filter(|other| !is_terminal(other) || completion(other).is_some())
                .filter_map(|other| Some((slot(other)?, other.name_any())))
                .filter(|(slot, _)| *slot > own)
                .max()
                .map(|(_, name)| name)
        }
    }
}

/// Whether a record is of an archive that was found in its bucket, and not of a run.
fn is_imported(backup: &EtcdBackup) -> bool {
    backup.annotations().contains_key(label::IMPORTED)
}

/// When this operator saw a run end well; nothing for an archive that was found in the bucket.
fn run_end(backup: &EtcdBackup) -> Option<Timestamp> {
    let conditions = backup.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let complete =
        find(conditions, ConditionType::Complete).filter(|complete| complete.status == "True" && !is_imported(backup));
    complete.map(|complete| complete.last_transition_time.0)
}

fn completion(backup: &EtcdBackup) -> Option<Timestamp> {
    let status = backup.status.as_ref()?;
    let time = status.completion_time.as_ref().map(|time| time.0);
    time.filter(|_| is_true(&status.conditions, ConditionType::Complete))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::Fingerprint;
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
    fn a_later_slot_supersedes_only_where_the_schedule_says_so() {
        let replace = stores("Replace");
        assert_eq!(observe(&replace, "one").superseded_by.as_deref(), Some("two"));
        assert_eq!(observe(&replace, "two").superseded_by, None, "neither copies of one slot nor earlier ones");
        assert_eq!(observe(&stores("Forbid"), "one").superseded_by, None);
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
