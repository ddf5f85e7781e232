//! The controller of EtcdBackups: assigns runs to masters, and says what became of them and of their archives.
//!
//! One at a time: each assignment must see those before it.

use std::time::Instant;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use lifeboat_crds::{EtcdBackup, EtcdBackupStatus, label};
use lifeboat_decisions::backup::{BackupDecision, Record, concerns, decide_backup};
use lifeboat_decisions::event::EventDraft;

use crate::apply::{Lock, ReconcileError, Written};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::observe::observe_backup;
use crate::stores::{Guarded, Stores};

/// The controller of EtcdBackups.
pub struct Backups;

impl Controller for Backups {
    type Kind = EtcdBackup;
    const NAME: &'static str = "backups";
    const CONCURRENCY: u16 = 1;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.backups
    }

    fn wakes(touched: &TouchedObject, stores: &Stores) -> Vec<String> {
        let TouchedObject { kind, name, schedule, location: _, is_heartbeat } = touched;
        match kind {
            Kind::Backup if *is_heartbeat => vec![name.clone()],
            Kind::Backup => {
                let siblings = schedule.as_ref().map(|schedule| unfinished(stores, |backup| is_of(backup, schedule)));
                let mut woken = siblings.unwrap_or_default();
                woken.push(name.clone());
                woken
            }
            // What a policy decided is void once its schedule is gone.
            Kind::Schedule if stores.schedule(name).is_none() => named(stores, |backup| is_of(backup, name)),
            Kind::Schedule => unfinished(stores, |backup| is_of(backup, name)),
            Kind::Location => {
                let is_on_it = |backup: &EtcdBackup| backup.spec.location_ref.name == *name;
                let mut woken = unfinished(stores, is_on_it);
                woken.extend(listed(stores, name, is_on_it));
                woken
            }
            Kind::Member => unfinished(stores, |_| true),
            Kind::Restore => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, backup: &EtcdBackup) -> Result<Next, ReconcileError> {
        let Context { stores, liveness, writer, events: sink, metrics: _, assignments } = context;
        let observed = observe_backup(backup, stores, liveness, assignments, Instant::now());
        let BackupDecision { status, events, requeue_after, record } = decide_backup(&observed, now());
        match record {
            Record::Stays => {}
            Record::Goes => return remove(context, backup, &events).await,
        }
        let current = EtcdBackupStatus { execution: None, ..backup.status.clone().unwrap_or_default() };
        let written = writer.apply_status(backup, &current, &status, Lock::Version).await?;
        if written == Written::Applied {
            if let (Some(uid), Some(assignment)) = (backup.uid(), &status.assignment) {
                assignments.wrote(&uid, assignment);
            }
            sink.publish(backup, "Backup", &events);
        }
        Ok(Next::after_write(written, requeue_after.map_or(Next::OnChange, Next::After)))
    }
}

/// Deletes the record of an archive that is gone. Told about the schedule: of what is gone nobody asks any more.
async fn remove(context: &Context, backup: &EtcdBackup, events: &[EventDraft]) -> Result<Next, ReconcileError> {
    let written = context.writer.delete_backup(backup).await?;
    if written == Written::Applied {
        let schedule = backup.labels().get(label::SCHEDULE).and_then(|name| context.stores.schedule(name));
        match schedule {
            Some(schedule) => context.events.publish(&schedule, "Retention", events),
            None => context.events.publish(backup, "Retention", events),
        }
    }
    Ok(Next::after_write(written, Next::OnChange))
}

fn is_of(backup: &EtcdBackup, schedule: &str) -> bool {
    backup.labels().get(label::SCHEDULE).is_some_and(|name| name == schedule)
}

/// Names of the backups that the last listing of a location has something to say of.
fn listed(stores: &Stores, location: &str, is_on_it: impl Fn(&EtcdBackup) -> bool) -> Vec<String> {
    let Some(location) = stores.location(location) else { return Vec::new() };
    let Some(is_meant) = concerns(&location) else { return Vec::new() };
    named(stores, |backup| is_on_it(backup) && is_meant(backup))
}

/// Names of the backups that have not ended.
fn unfinished(stores: &Stores, is_meant: impl Fn(&EtcdBackup) -> bool) -> Vec<String> {
    let unfinished = stores.unfinished_backups();
    let meant = unfinished.iter().filter_map(|guarded| guarded.0.as_ref().ok()).filter(|backup| is_meant(backup));
    meant.map(ResourceExt::name_any).collect()
}

/// Names of backups, of all there are: for what happens seldom.
fn named(stores: &Stores, is_meant: impl Fn(&EtcdBackup) -> bool) -> Vec<String> {
    let meant = stores.backups.state_filter(|guarded| guarded.0.as_ref().is_ok_and(&is_meant));
    meant.iter().map(|backup| backup.name_any()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::woken_by;

    fn woken(kind: Kind, name: &str, schedule: Option<&str>, location: Option<&str>) -> Vec<String> {
        woken_by::<Backups>(kind, name, schedule, location)
    }

    #[test]
    fn an_unfinished_backup_is_woken_by_all_it_depends_on() {
        assert_eq!(woken(Kind::Backup, "n1", Some("nightly"), Some("bucket")), ["n1", "n1", "n2"]);
        assert_eq!(woken(Kind::Backup, "ended", Some("nightly"), Some("bucket")), ["ended", "n1", "n2"]);
        assert_eq!(woken(Kind::Backup, "by-hand", None, Some("bucket")), ["by-hand"]);
        assert_eq!(woken(Kind::Schedule, "nightly", None, Some("bucket")), ["n1", "n2"]);
        assert_eq!(woken(Kind::Location, "bucket", None, None), ["by-hand", "n1", "n2"]);
        assert_eq!(woken(Kind::Location, "other", None, None), Vec::<String>::new());
        assert_eq!(woken(Kind::Member, "m1", None, None), ["by-hand", "n1", "n2"]);
    }
}
