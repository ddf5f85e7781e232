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
            Task::Probe => {
                let probed = unless_cancelled(cancel, self.prober.probe(location, now().0)).await;
                if let Some(error) =
                    probed.as_ref().and_then(|probed| probed.error.as_ref().or(probed.write_error.as_ref()))
                {
                    let TaskError { reason, message } = error;
                    tracing::warn!(
                        location = location.name_any(),
                        reason,
                        message,
                        "the location cannot be used as it should be"
                    );
                }
                probed
            }
            Task::Catalog => {
                let listing = self.cataloger.list(location, (order.assignment.time.0, now()), cancel);
                unless_cancelled(cancel, listing).await
            }
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

/// What comes of `work`; nothing once it was cancelled, as work that sees that itself calls it a store that is away.
async fn unless_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        done = work => (!cancel.is_cancelled()).then_some(done),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_was_cancelled_says_nothing_of_the_location() {
        // Both see it at once, in whichever order.
        for _ in 0..100 {
            let cancel = CancellationToken::new();
            let work = async {
                cancel.cancelled().await;
                "LocationUnavailable"
            };
            let ending = async {
                tokio::task::yield_now().await;
                cancel.cancel();
            };
            let (said, ()) = tokio::join!(unless_cancelled(&cancel, work), ending);
            assert_eq!(said, None);
        }
        let cancel = CancellationToken::new();
        let cut_short = async {
            cancel.cancel();
            "LocationUnavailable"
        };
        assert_eq!(unless_cancelled(&cancel, cut_short).await, None);
        assert_eq!(unless_cancelled(&CancellationToken::new(), async { "Ready" }).await, Some("Ready"));
    }
}
