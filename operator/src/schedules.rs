//! The controller of EtcdBackupSchedules: makes the backups that are due, tidies records of failed ones, marks the archives
//! that the policy lets go.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use lifeboat_crds::{EtcdBackup, EtcdBackupSchedule, EtcdBackupStatus, label};
use lifeboat_decisions::retention::{Mark, decide_retention};
use lifeboat_decisions::schedule::{ScheduleDecision, decide_schedule};

use crate::apply::{Lock, ReconcileError, Written};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::observe::{around_schedule, observe_retention, observe_schedule};
use crate::stores::{Guarded, Stores, readable};

/// Until archives are judged again after some were: those that there was no room for follow.
const SOON: Duration = Duration::from_secs(10);

/// The controller of EtcdBackupSchedules.
pub struct Schedules;

impl Controller for Schedules {
    type Kind = EtcdBackupSchedule;
    const NAME: &'static str = "schedules";
    const CONCURRENCY: u16 = 4;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.schedules
    }

    fn wakes(touched: &TouchedObject, stores: &Stores) -> Vec<String> {
        let TouchedObject { kind, name, schedule, location: _, is_heartbeat } = touched;
        match kind {
            Kind::Schedule => vec![name.clone()],
            Kind::Backup if *is_heartbeat => Vec::new(),
            Kind::Backup => schedule.iter().cloned().collect(),
            Kind::Location => schedules_on(name, stores),
            Kind::Restore if *is_heartbeat => Vec::new(),
            // What one plans with stays.
            Kind::Restore => stores.schedules.state().iter().map(|schedule| schedule.name_any()).collect(),
            Kind::Member => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, schedule: &EtcdBackupSchedule) -> Result<Next, ReconcileError> {
        let around = around_schedule(schedule, &context.stores);
        let observed = observe_schedule(schedule, &around, &context.stores);
        let ScheduleDecision { create, delete, status, events, requeue_after } = decide_schedule(&observed, now());
        // Runs first: a slot whose run could not be made must not be noted as served.
        for backup in &create {
            context.writer.create_backup(schedule, backup).await?;
        }
        let current = schedule.status.clone().unwrap_or_default();
        let written = context.writer.apply_status(schedule, &current, &status, Lock::Version).await?;
        if written == Written::Applied {
            context.events.publish(schedule, "Schedule", &events);
        }
        for backup in observed.backups.iter().filter(|backup| delete.contains(&backup.name_any())) {
            context.writer.delete_backup(backup).await?;
        }
        let has_marked = mark_archives(context, schedule, &observed.backups).await?;
        let requeue_after = if has_marked { requeue_after.min(SOON) } else { requeue_after };
        Ok(Next::after_write(written, Next::After(requeue_after)))
    }
}

/// Writes what the policy says of each archive, where that is new; whether anything was written. A record that cannot be
/// written keeps none of the others waiting.
async fn mark_archives(
    context: &Context,
    schedule: &EtcdBackupSchedule,
    backups: &[&EtcdBackup],
) -> Result<bool, ReconcileError> {
    let marks = decide_retention(&observe_retention(schedule, backups, &context.stores, now()), now());
    let by_name: HashMap<String, &EtcdBackup> = backups.iter().map(|backup| (backup.name_any(), *backup)).collect();
    let mut refused = None;
    for Mark { name, status } in &marks {
        let Some(backup) = by_name.get(name).copied() else { continue };
        let current = EtcdBackupStatus { execution: None, ..backup.status.clone().unwrap_or_default() };
        if let Err(error) = context.writer.apply_status(backup, &current, status, Lock::Version).await {
            refused = refused.or(Some(error));
        }
    }
    refused.map_or(Ok(!marks.is_empty()), Err)
}

/// Schedules that write to a location, and those with archives there from before.
fn schedules_on(location: &str, stores: &Stores) -> Vec<String> {
    let schedules = readable(&stores.schedules);
    let writing = schedules
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .filter(|schedule| schedule.spec.template.spec.location_ref.name == location)
        .map(ResourceExt::name_any);
    let backups = readable(&stores.backups);
    let there = backups
        .iter()
        .filter_map(|guarded| guarded.0.as_ref().ok())
        .filter(|backup| backup.spec.location_ref.name == location)
        .filter_map(|backup| backup.labels().get(label::SCHEDULE).cloned());
    writing.chain(there).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::woken_by;

    fn woken(kind: Kind, name: &str, schedule: Option<&str>, location: Option<&str>) -> Vec<String> {
        woken_by::<Schedules>(kind, name, schedule, location)
    }

    #[test]
    fn the_heartbeat_of_a_run_wakes_no_schedule() {
        let beat = TouchedObject {
            kind: Kind::Backup,
            name: "n1".into(),
            schedule: Some("nightly".into()),
            location: Some("bucket".into()),
            is_heartbeat: true,
        };
        assert_eq!(Schedules::wakes(&beat, &crate::mock::example_stores()), Vec::<String>::new());
    }

    #[test]
    fn a_schedule_is_woken_by_itself_its_backups_and_its_location() {
        assert_eq!(woken(Kind::Schedule, "nightly", None, Some("bucket")), ["nightly"]);
        assert_eq!(woken(Kind::Backup, "n1", Some("nightly"), Some("bucket")), ["nightly"]);
        assert_eq!(woken(Kind::Backup, "by-hand", None, Some("bucket")), Vec::<String>::new());
        assert_eq!(woken(Kind::Location, "bucket", None, None), ["nightly"]);
        assert_eq!(woken(Kind::Location, "other", None, None), Vec::<String>::new());
        assert_eq!(woken(Kind::Member, "m1", None, None), Vec::<String>::new());
    }
}
