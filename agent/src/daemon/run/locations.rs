//! The work of EtcdBackupLocations: probes and listings, never behind a backup.

use std::sync::Arc;

use kube::ResourceExt;
use lifeboat_crds::location::LocationResult;
use lifeboat_crds::{EtcdBackupLocation, Reason, Task, TaskError};
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::catalog::Cataloger;
use crate::daemon::assigned::Seen;
use crate::daemon::readiness::Need;
use crate::daemon::watch::{Assigned, Carrier};
use crate::daemon::worker::{WorkOrder, carry_out, now};
use crate::location::probe::Prober;
use crate::report::Reporter;

impl Assigned for EtcdBackupLocation {
    const NEED: Need = Need::Locations;

    fn seen<'o>(&'o self, uid: &'o str) -> Seen<'o> {
        let Some(status) = &self.status else { return Seen::of::<()>(uid, None, None, false) };
        Seen::of(uid, status.assignment.as_ref(), status.execution.as_ref(), false)
    }
}

/// Carries out the work of EtcdBackupLocations.
pub struct LocationCarrier {
    reporter: Reporter,
    prober: Prober,
    cataloger: Cataloger,
}

impl LocationCarrier {
    /// Nothing is carried yet.
    pub fn new(reporter: Reporter, prober: Prober, cataloger: Cataloger) -> Self {
        Self { reporter, prober, cataloger }
    }

    async fn work(
        &self,
        location: &EtcdBackupLocation,
        order: &WorkOrder,
        cancel: &CancellationToken,
    ) -> Option<LocationResult> {
        let generation = location.metadata.generation.unwrap_or_default();
        match order.assignment.task {
            Task::Probe => tokio::select! {
                () = cancel.cancelled() => None,
                result = self.prober.probe(location, now().0) => Some(result),
            },
            Task::Catalog => tokio::select! {
                () = cancel.cancelled() => None,
                result = self.cataloger.list(location, (order.assignment.time.0, now()), cancel) => Some(result),
            },
            task @ (Task::Backup
            | Task::Import
            | Task::Verify
            | Task::Pin
            | Task::Delete
            | Task::Plan
            | Task::Order) => {
                let words = format!("this agent cannot carry out the task {task:?}: upgrade it");
                let error = Some(TaskError::new(Reason::NotSupported, words));
                Some(LocationResult {
                    observed_generation: generation,
                    error,
                    time: Some(now()),
                    ..LocationResult::default()
                })
            }
        }
    }
}

impl Carrier<EtcdBackupLocation> for LocationCarrier {
    async fn carry(self: Arc<Self>, location: EtcdBackupLocation, order: WorkOrder, cancel: CancellationToken) {
        let progress = Arc::new(Progress::default());
        progress.enter(Stage::Preparing);
        tracing::debug!(location = location.name_any(), task = ?order.assignment.task, "asked");
        let work = self.work(&location, &order, &cancel);
        carry_out::<EtcdBackupLocation, _>(&self.reporter, &order, &progress, &cancel, work).await;
    }
}
