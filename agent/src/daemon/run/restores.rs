//! The work of EtcdRestores: the plan and the order. One at a time.

use std::sync::Arc;

use lifeboat_crds::restore::RestoreResult;
use lifeboat_crds::{EtcdRestore, Reason, Task, TaskError};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::daemon::assigned::Seen;
use crate::daemon::readiness::Need;
use crate::daemon::watch::{Assigned, Carrier};
use crate::daemon::worker::{WorkOrder, carry_out};
use crate::report::Reporter;
use crate::restores::{Request, Restorer, RestoresError};

impl Assigned for EtcdRestore {
    const NEED: Need = Need::Restores;

    fn seen<'o>(&'o self, uid: &'o str) -> Seen<'o> {
        let Some(status) = &self.status else { return Seen::of::<()>(uid, None, None, false) };
        Seen::of(uid, status.assignment.as_ref(), status.execution.as_ref(), false)
    }
}

/// Carries out the work of EtcdRestores.
pub struct RestoreCarrier {
    reporter: Reporter,
    restorer: Restorer,
    turn: Mutex<()>,
}

impl RestoreCarrier {
    /// Nothing is carried yet.
    pub fn new(reporter: Reporter, restorer: Restorer) -> Self {
        Self { reporter, restorer, turn: Mutex::new(()) }
    }

    async fn work(&self, restore: &EtcdRestore, order: &WorkOrder, cancel: &CancellationToken) -> RestoreResult {
        let _turn = self.turn.lock().await;
        let done = match (order.assignment.task, Request::of(restore)) {
            (Task::Plan, Some(request)) => self
                .restorer
                .inspect(&request, cancel)
                .await
                .map(|report| RestoreResult { plan: Some(report), ..RestoreResult::default() }),
            (Task::Order, Some(request)) => self
                .restorer
                .order(&request)
                .await
                .map(|report| RestoreResult { order: Some(report), ..RestoreResult::default() }),
            (task, None) => Err(RestoresError::Because(
                Reason::PlanRefused,
                format!("the object names no backup to {task:?}: it asks for something that this agent does not know"),
            )),
            (task, Some(_)) => Err(RestoresError::Because(
                Reason::NotSupported,
                format!("this agent cannot carry out the task {task:?}: upgrade it"),
            )),
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(restore = order.name, task = ?order.assignment.task, %error, "not done");
            let error: TaskError = error.to_task_error();
            RestoreResult { error: Some(error), ..RestoreResult::default() }
        })
    }
}

impl Carrier<EtcdRestore> for RestoreCarrier {
    async fn carry(self: Arc<Self>, restore: EtcdRestore, order: WorkOrder, cancel: CancellationToken) {
        let progress = Arc::new(Progress::default());
        progress.enter(Stage::Preparing);
        let work = async {
            // An order that is being written is not torn off: it would be written by halves.
            let result = self.work(&restore, &order, &cancel).await;
            (!cancel.is_cancelled()).then_some(result)
        };
        carry_out::<EtcdRestore, _>(&self.reporter, &order, &progress, &cancel, work).await;
    }
}
