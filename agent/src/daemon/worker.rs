//! Carries one piece of work out: says that it began, lets it run, says how far it is, and what came of it.
//!
//! The work itself is a future handed in. A result that the API server cannot take now is kept and tried again until it
//! is taken, refused, or the work is cancelled.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use lifeboat_crds::{Assignment, Execution, Time, whole_seconds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::heartbeat::{AFTER_A_LOST_HEARTBEAT, next_heartbeat};
use crate::archive::progress::Progress;
use crate::report::{Reporter, Written};

/// Which object the work is for, and what was asked.
#[derive(Clone, Debug)]
pub struct WorkOrder {
    /// Name of the object.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The assignment.
    pub assignment: Assignment,
}

/// Runs `work` and reports on it. `None` from the work means that nobody wants to hear of it.
pub async fn carry_out<K, R>(
    reporter: &Reporter,
    order: &WorkOrder,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
    work: impl Future<Output = Option<R>>,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    R: Serialize + Clone,
{
    let (begun, start_time) = (Instant::now(), now());
    let report = |result: Option<R>| {
        let execution = execution(order, start_time.clone(), progress, result);
        async move { reporter.write_execution::<K, R>(&order.name, &order.uid, &execution).await }
    };
    // Said before anything is done: an attempt that was taken away meanwhile never begins. An API server that does not
    // answer is no reason to wait with a backup.
    match report(None).await {
        Ok(Written::Landed) => {}
        Ok(Written::Gone | Written::NotOurs(_)) => return,
        Err(error) => tracing::warn!(object = order.name, %error, "beginning without telling"),
    }
    // Beside the work, never in its way: an API server that hangs must not hold up whoever reads etcd.
    let heartbeats = async {
        let mut pause = next_heartbeat(begun.elapsed());
        loop {
            tokio::time::sleep(pause).await;
            pause = next_heartbeat(begun.elapsed());
            match report(None).await {
                Ok(Written::Landed) => {}
                // The watch brings the reason, and the cancellation with it.
                Ok(Written::Gone | Written::NotOurs(_)) => {
                    tracing::debug!(object = order.name, "a heartbeat was refused")
                }
                Err(error) => {
                    tracing::warn!(object = order.name, %error, "a heartbeat was lost");
                    pause = AFTER_A_LOST_HEARTBEAT;
                }
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        never = heartbeats => never,
    };
    let Some(result) = result else { return };
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(15))
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        match report(Some(result.clone())).await {
            Ok(Written::Landed) => return,
            Ok(Written::Gone) => {
                tracing::info!(object = order.name, attempt = order.assignment.attempt, "nobody waits for the result");
                return;
            }
            Ok(Written::NotOurs(words)) => {
                tracing::warn!(
                    object = order.name,
                    attempt = order.assignment.attempt,
                    words,
                    "the result was refused"
                );
                return;
            }
            Err(error) => tracing::warn!(object = order.name, %error, "the result is kept and told again"),
        }
        let pause = pauses.next().unwrap_or(Duration::from_secs(15));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn execution<R>(order: &WorkOrder, start_time: Time, progress: &Progress, result: Option<R>) -> Execution<R> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let Assignment { node_name, attempt, task, time: _ } = &order.assignment;
    let bytes = progress.bytes();
    Execution {
        node_name: node_name.clone(),
        attempt: *attempt,
        task: *task,
        stage: result.is_none().then(|| progress.stage().as_str().to_owned()),
        bytes_done: bytes.map(|(done, _)| signed(done)),
        bytes_total: bytes.map(|(_, total)| signed(total)),
        start_time,
        heartbeat_time: now(),
        result,
    }
}

/// The clock as objects keep it: whole seconds.
pub fn now() -> Time {
    Time(whole_seconds(Timestamp::now()))
}
