//! One restore of the whole cluster, from the request to its outcome: which backup, what plan, whether it is approved, how
//! far it is, how it ended.
//!
//! Two things are never done twice. An order is assigned once, upon an approval of the plan as it is at that moment; and an
//! object that has an outcome is never planned or ordered again, however often GitOps applies it. What ended on the masters
//! is read from what they tell of themselves: the API may have been rewound to before the request was there.

mod assigning;
mod composing;
mod findings;
mod lifetime;
mod masters;
mod ordered;
mod outcome;
mod planning;
pub mod recreation;
mod source;
mod versions;

pub use lifetime::{has_ended, pinned_backup};
pub use source::is_candidate;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::restore::{ClusterRestore, RestoreResult};
use lifeboat_crds::{
    Assignment, Condition, ConditionType, EtcdBackup, EtcdBackupLocation, EtcdRestore, EtcdRestoreSpec,
    EtcdRestoreStatus, Execution, Reason,
};

use crate::SeenMember;
use crate::conditions::{Outcome, Shown, merge_conditions};
use crate::event::EventDraft;

/// What is known around a restore.
#[derive(Clone, Debug)]
pub struct ObservedRestore<'o> {
    /// The restore.
    pub restore: EtcdRestore,
    /// The backups that it could mean ([`is_candidate`]); borrowed, for there may be thousands.
    pub backups: Vec<&'o EtcdBackup>,
    /// Every location, by name.
    pub locations: BTreeMap<String, EtcdBackupLocation>,
    /// Every member.
    pub members: Vec<SeenMember>,
    /// Every other restore.
    pub others: Vec<EtcdRestore>,
    /// How long assignment and execution were seen unchanged.
    pub execution_unchanged_for: Duration,
}

/// What is to become of a restore.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreDecision {
    /// The operator's part of the status.
    pub status: EtcdRestoreStatus,
    /// What to tell.
    pub events: Vec<EventDraft>,
    /// When to look again if nothing happens; `None` where only a change can bring anything new.
    pub requeue_after: Option<Duration>,
}

/// Decides upon a restore.
pub fn decide_restore(observed: &ObservedRestore<'_>, now: Timestamp) -> RestoreDecision {
    let EtcdRestoreSpec { cluster, member: _, approval: _, attempt: _, cancel: _ } = &observed.restore.spec;
    match cluster {
        Some(request) => Run::of(observed, request, now).decide(),
        None => refuse(&observed.restore, now),
    }
}

/// One member: not `Failed`, so that a later version that can do it finds it as it was asked for, to be planned and approved.
fn refuse(restore: &EtcdRestore, now: Timestamp) -> RestoreDecision {
    let node = restore.spec.member.as_ref().map_or("its master", |member| member.node_name.as_str());
    let words = format!(
        "this version of Lifeboat makes one member anew on its master alone: run `lifeboat etcd reinitialize` on {node}"
    );
    let generation = restore.metadata.generation.unwrap_or(0);
    let before = restore.status.clone().unwrap_or_default();
    let outcome = Outcome::failed(Reason::NotSupported, words);
    let status = EtcdRestoreStatus {
        observed_generation: Some(generation),
        phase: Some(Reason::NotSupported.as_str().to_owned()),
        conditions: merge_conditions(&before.conditions, &outcome.shown(), generation, now),
        kind: restore.spec.member.as_ref().map(|_| "Member".to_owned()),
        // The agents' parts.
        execution: None,
        nodes: Vec::new(),
        ..before
    };
    RestoreDecision { status, events: Vec::new(), requeue_after: None }
}

/// How a restore is to be shown.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// As it is shown already.
    Kept,
    /// Like this.
    Shown {
        /// Every condition.
        shown: Vec<Shown>,
        /// When to look again if nothing happens.
        look_again: Option<Duration>,
    },
}

/// A restore while it is decided upon.
struct Run<'o> {
    observed: &'o ObservedRestore<'o>,
    request: &'o ClusterRestore,
    status: EtcdRestoreStatus,
    /// The agents' part: what the assigned one says.
    execution: Option<Execution<RestoreResult>>,
    events: Vec<EventDraft>,
    now: Timestamp,
}

impl<'o> Run<'o> {
    fn of(observed: &'o ObservedRestore<'o>, request: &'o ClusterRestore, now: Timestamp) -> Self {
        let mut status = observed.restore.status.clone().unwrap_or_default();
        let execution = status.execution.take();
        Self { observed, request, status, execution, events: Vec::new(), now }
    }

    fn decide(mut self) -> RestoreDecision {
        let standing = self.stand();
        self.finish(standing)
    }

    fn spec(&self) -> &'o EtcdRestoreSpec {
        &self.observed.restore.spec
    }

    fn name(&self) -> &'o str {
        self.observed.restore.metadata.name.as_deref().unwrap_or_default()
    }

    /// The assignment, as far as it is of this attempt: the plan, in which the backup is named, is written together with it.
    fn assignment(&self) -> Option<&Assignment> {
        let is_current = self.status.plan.as_ref().is_some_and(|plan| plan.backup.is_some());
        self.status.assignment.as_ref().filter(|_| is_current)
    }

    /// What the agent says of the assignment.
    fn own_execution(&self) -> Option<&Execution<RestoreResult>> {
        let assignment = self.assignment()?;
        self.execution.as_ref().filter(|execution| execution.is_of(assignment))
    }

    fn own_result(&self) -> Option<&RestoreResult> {
        self.own_execution()?.result.as_ref()
    }

    fn finish(self, standing: Standing) -> RestoreDecision {
        let Self { observed, request: _, mut status, execution: _, events, now } = self;
        let generation = observed.restore.metadata.generation.unwrap_or(0);
        let requeue_after = match standing {
            Standing::Kept => {
                status.conditions.iter_mut().for_each(|condition| condition.observed_generation = Some(generation));
                None
            }
            Standing::Shown { shown, look_again } => {
                let before: Vec<Condition> = std::mem::take(&mut status.conditions);
                status.conditions = merge_conditions(&before, &shown, generation, now);
                let ready = shown.iter().find(|shown| shown.type_ == ConditionType::Ready);
                status.phase = ready.map(|ready| ready.reason.as_str().to_owned());
                look_again
            }
        };
        status.observed_generation = Some(generation);
        status.kind = Some("Cluster".to_owned());
        // The agents' part.
        status.nodes = Vec::new();
        RestoreDecision { status, events, requeue_after }
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
