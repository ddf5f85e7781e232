//! The work of EtcdBackups.

use std::sync::Arc;
use std::time::Instant;

use kube::ResourceExt;
use lifeboat_crds::backup::BackupResult;
use lifeboat_crds::manifest::ManifestObject;
use lifeboat_crds::{BackupId, EtcdBackup, Reason, Task, TaskError, label};
use tokio_util::sync::CancellationToken;

use super::errands::{Errand, ErrandRunner};
use crate::archive::progress::Progress;
use crate::backup::{BackupOrder, BackupRunner};
use crate::daemon::assigned::Seen;
use crate::daemon::metrics::Metrics;
use crate::daemon::readiness::Need;
use crate::daemon::watch::{Assigned, Carrier};
use crate::daemon::worker::{WorkOrder, carry_out};
use crate::host::highest_revision::HighestRevision;
use crate::location::LocationOpener;
use crate::report::Reporter;

impl Assigned for EtcdBackup {
    const NEED: Need = Need::Backups;

    fn seen<'o>(&'o self, uid: &'o str) -> Seen<'o> {
        let Some(status) = &self.status else { return Seen::of::<()>(uid, None, None, false) };
        // A run is over with the backup; an errand begins only then.
        let is_over = status.assignment.as_ref().is_some_and(|assignment| match errand_of(assignment.task) {
            Some(_) => false,
            None => self.has_ended(),
        });
        Seen::of(uid, status.assignment.as_ref(), status.execution.as_ref(), is_over)
    }
}

/// Carries out the work of EtcdBackups.
pub struct BackupCarrier {
    reporter: Reporter,
    runner: BackupRunner,
    errands: ErrandRunner,
    highest: Arc<HighestRevision>,
    metrics: Arc<Metrics>,
}

impl BackupCarrier {
    /// Nothing is carried yet.
    pub fn new(
        reporter: Reporter,
        runner: BackupRunner,
        opener: LocationOpener,
        highest: Arc<HighestRevision>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { reporter, errands: ErrandRunner::beside(&runner, opener), runner, highest, metrics }
    }

    async fn work(
        &self,
        backup: &EtcdBackup,
        order: &WorkOrder,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Option<BackupResult> {
        if let Some(errand) = errand_of(order.assignment.task) {
            return self.errands.run(backup, errand, order, progress, cancel).await;
        }
        let result = match backup_order(backup, order, self.highest.get()) {
            Err(error) => BackupResult::of_error(error),
            Ok(order) => match self.runner.run(&order, progress, cancel).await {
                Ok(facts) => {
                    tracing::info!(backup = %order.backup_id, attempt = order.attempt, archive = facts.archive, "the backup succeeded");
                    BackupResult::of_archive(facts)
                }
                Err(error) if error.is_interruption() => {
                    tracing::info!(backup = %order.backup_id, attempt = order.attempt, "the attempt was interrupted");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(backup = %order.backup_id, attempt = order.attempt, %error, "the attempt failed");
                    BackupResult::of_error(error.to_task_error())
                }
            },
        };
        self.metrics.count_attempt(&result);
        self.metrics.observe_stages(&progress.durations(Instant::now()));
        Some(result)
    }
}

impl Carrier<EtcdBackup> for BackupCarrier {
    async fn carry(self: Arc<Self>, backup: EtcdBackup, order: WorkOrder, cancel: CancellationToken) {
        let progress = Arc::new(Progress::default());
        let work = self.work(&backup, &order, &progress, &cancel);
        carry_out::<EtcdBackup, _>(&self.reporter, &order, &progress, &cancel, work).await;
    }
}

/// The errand that a task is, if it is one.
fn errand_of(task: Task) -> Option<Errand> {
    match task {
        Task::Verify => Some(Errand::Verify),
        Task::Pin => Some(Errand::Pin),
        Task::Delete => Some(Errand::Delete),
        Task::Backup | Task::Import | Task::Probe | Task::Catalog | Task::Plan | Task::Order => None,
    }
}

/// What is to be run, from the object. An operator that is newer may ask for what this agent cannot do.
fn backup_order(backup: &EtcdBackup, order: &WorkOrder, highest: Option<i64>) -> Result<BackupOrder, TaskError> {
    match order.assignment.task {
        Task::Backup => {}
        task @ (Task::Import
        | Task::Verify
        | Task::Pin
        | Task::Delete
        | Task::Probe
        | Task::Catalog
        | Task::Plan
        | Task::Order) => {
            let words = format!("this agent cannot carry out the task {task:?}: upgrade it");
            return Err(TaskError::new(Reason::NotSupported, words));
        }
    }
    let id = backup.status.as_ref().and_then(|status| status.backup_id.as_deref()).unwrap_or_default();
    let backup_id: BackupId =
        id.parse().map_err(|error| TaskError::new(Reason::SnapshotFailed, format!("status.backupId: {error}")))?;
    Ok(BackupOrder {
        backup_id,
        attempt: order.assignment.attempt,
        object: ManifestObject {
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            schedule: schedule_of(backup),
            spec: backup.spec.clone(),
        },
        highest_revision_seen: highest,
    })
}

/// The schedule that made a backup. Only those have a slot: a label alone was copied along with the rest of an object, and
/// must not hand a backup made by hand over to the policy of a schedule.
fn schedule_of(backup: &EtcdBackup) -> Option<String> {
    backup.annotations().get(label::SLOT)?;
    backup.labels().get(label::SCHEDULE).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_alone_makes_no_run_of_a_schedule() {
        let made_by = |annotations: serde_json::Value| {
            let backup = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
                "metadata": {"name": "b", "labels": {label::SCHEDULE: "nightly"}, "annotations": annotations},
                "spec": {"locationRef": {"name": "bucket"}}, "status": {"backupId": "20261124-020304-00000001"}});
            let assignment = json!({"nodeName": "m1", "attempt": 1, "task": "Backup", "time": "2026-11-24T02:03:04Z"});
            let assignment = serde_json::from_value(assignment).unwrap();
            let order = WorkOrder { name: "b".into(), uid: "u".into(), assignment };
            backup_order(&serde_json::from_value(backup).unwrap(), &order, None).unwrap().object.schedule
        };
        assert_eq!(made_by(json!({label::SLOT: "2026-11-24T02:00:00Z"})).as_deref(), Some("nightly"));
        assert_eq!(made_by(json!({})), None);
    }
}
