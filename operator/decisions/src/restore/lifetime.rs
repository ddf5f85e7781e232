//! The life of a request: attempts, cancellation, and the ends that are none of its own doing.

use jiff::Timestamp;
use lifeboat_crds::condition::find;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::restore::PlannedBackup;
use lifeboat_crds::{Condition, ConditionStatus, ConditionType, EtcdRestore, EtcdRestoreStatus, Reason, Task};

use super::{Run, Standing};
use crate::conditions::{Outcome, Shown, is_true, since};
use crate::event::EventDraft;

/// Whether a restore, in the attempt that its status is of, is over. A plan with blockers is not: it is made again.
pub fn has_ended(restore: &EtcdRestore) -> bool {
    let status = restore.status.as_ref();
    let is_of_this_attempt = status.is_some_and(|status| status.attempt == Some(restore.spec.attempt));
    is_of_this_attempt && status.is_some_and(|status| is_over(&status.conditions))
}

/// The backup that must stay because a restore that is not over plans with it.
pub fn pinned_backup(restore: &EtcdRestore) -> Option<&PlannedBackup> {
    let plan = restore.status.as_ref()?.plan.as_ref()?;
    plan.backup.as_ref().filter(|_| !has_ended(restore))
}

pub(super) fn is_over(conditions: &[Condition]) -> bool {
    is_true(conditions, ConditionType::Complete) || failed_for(conditions).is_some_and(|why| why != Reason::PlanRefused)
}

/// Why a restore is Failed, if it is. A reason of another version ends it all the same.
fn failed_for(conditions: &[Condition]) -> Option<Reason> {
    let failed = find(conditions, ConditionType::Failed).filter(|failed| failed.status == "True")?;
    Some(Reason::parse(&failed.reason).unwrap_or(Reason::DeadlineExceeded))
}

impl Run<'_> {
    /// Where the restore stands, and what is to be done.
    pub(super) fn stand(&mut self) -> Standing {
        let is_anew = self.begin_attempt();
        // These stay, whatever the masters tell: they are about the request, not about what was carried out.
        if matches!(
            failed_for(&self.status.conditions),
            Some(Reason::Cancelled | Reason::Superseded | Reason::AlreadyRestored)
        ) {
            return Standing::Kept;
        }
        if let Some(told) = self.told() {
            return self.end_as_told(&told);
        }
        if is_over(&self.status.conditions) {
            return Standing::Kept;
        }
        if let Some(restored) = self.rewound().filter(|_| !is_anew) {
            let words = format!(
                "the cluster was restored at {restored}, and this request is of before that; raise spec.attempt to run it all \
                 the same"
            );
            return self.fail(Reason::Superseded, words);
        }
        if self.is_ordered() {
            return self.run();
        }
        if self.spec().cancel {
            let words = "called off before anything was ordered; nothing was touched. To run it after all, raise spec.attempt \
                         and set spec.cancel to false";
            return self.fail(Reason::Cancelled, words.to_owned());
        }
        self.plan()
    }

    /// Begins anew where the attempt was raised; whether it did. An order that is being carried out is waited for: it is of
    /// the attempt before, and nobody else would say how it ends.
    fn begin_attempt(&mut self) -> bool {
        let wanted = self.spec().attempt;
        let is_raised = self.status.attempt.is_some_and(|attempt| attempt != wanted);
        if is_raised && self.is_ordered() && !is_over(&self.status.conditions) {
            return false;
        }
        if is_raised {
            let EtcdRestoreStatus { observed_generation, assignment, nodes, .. } = std::mem::take(&mut self.status);
            // The assignment says which attempts of work are used up. Without a plan it is nobody's.
            self.status = EtcdRestoreStatus { observed_generation, assignment, nodes, ..EtcdRestoreStatus::default() };
        }
        self.status.attempt = Some(wanted);
        is_raised
    }

    /// Whether the one order was assigned.
    pub(super) fn is_ordered(&self) -> bool {
        let is_order = self.assignment().is_some_and(|assignment| assignment.task == Task::Order);
        is_order && is_true(&self.status.conditions, ConditionType::Approved)
    }

    /// When older data took the place of that in which this request was made. A time that lies ahead is of a clock that is
    /// wrong.
    fn rewound(&self) -> Option<Timestamp> {
        let told =
            self.observed.members.iter().filter_map(|seen| seen.member.status.as_ref()?.facts.last_restore.as_ref());
        let done = told.filter(|restore| restore.outcome == LastRestore::RESTORED);
        let newest =
            done.filter_map(|restore| Some(restore.time.as_ref()?.0)).filter(|time| *time <= self.now).max()?;
        (self.begun() < newest).then_some(newest)
    }

    /// When this attempt was begun, by the last sign of it.
    fn begun(&self) -> Timestamp {
        let created = self.observed.restore.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0);
        // An attempt that was raised shows everything anew, and is not approved from its beginning on.
        let approved = since(&self.status.conditions, ConditionType::Approved, ConditionStatus::False);
        let raised = approved.filter(|_| self.spec().attempt > 1);
        let assigned = self.assignment().map(|assignment| assignment.time.0);
        [raised, assigned].into_iter().flatten().fold(created, Timestamp::max)
    }

    /// The end, without success.
    pub(super) fn fail(&mut self, reason: Reason, message: String) -> Standing {
        self.events.push(EventDraft::new(EventReason::RestoreFailed, format!("{reason}: {message}")));
        let mut shown = Outcome::failed(reason, &message).shown();
        shown.push(Shown::new(ConditionType::Failed, true, reason, message));
        shown.extend(self.shown_before());
        Standing::Shown { shown, look_again: None }
    }

    /// Of the plan and its approval, what was shown before.
    pub(super) fn shown_before(&self) -> Vec<Shown> {
        let types = [ConditionType::PlanReady, ConditionType::Approved];
        let before = types.into_iter().filter_map(|type_| find(&self.status.conditions, type_));
        before.filter_map(Shown::of_condition).collect()
    }
}
