//! From the request to the approval: the backup, the agent's report, the plan, and whether it is approved as it is now.
//!
//! A plan is frozen: its figures stay as they were when it was made. What it rests on is looked at again each time, and where
//! that is no longer so the plan is another one. One that can be approved is always made upon a report of its own, so that a
//! code never comes back: what was approved while something else was shown starts nothing later.

use std::time::Duration;

use jiff::SignedDuration;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::finding::kind_of;
use lifeboat_crds::restore::{PlanReport, PlannedBackup, RestorePlan};
use lifeboat_crds::{Assignment, ConditionStatus, ConditionType, NodeName, Reason, Task, TaskError};

use super::source::{Source, resolve};
use super::{Run, Standing};
use crate::backup::is_permanent;
use crate::conditions::{Outcome, Shown, end_of_grace, human_duration, since, unready_since};
use crate::event::EventDraft;
use crate::{SILENCE, until};

/// Until something that makes no event, as silence, is looked for again.
const RECHECK: Duration = Duration::from_secs(15);
/// Until a plan that failed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Until a plan with blockers is made again: at first, and at last.
const REPLAN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

impl Run<'_> {
    /// Finds the backup and makes the plan, step by step.
    pub(super) fn plan(&mut self) -> Standing {
        let planned = self.status.plan.as_ref().and_then(|plan| plan.backup.as_ref());
        let source = resolve(self.request, &self.observed.backups, &self.observed.locations, planned);
        match source {
            Source::Found(backup) => self.plan_with(&backup),
            Source::Unfinished(words) => {
                self.status.plan = None;
                let outcome = Outcome::waiting(Reason::Pending, words);
                self.waits(&outcome, RECHECK)
            }
            Source::Missing(reason, words) => self.missing(reason, words),
        }
    }

    fn missing(&mut self, reason: Reason, words: String) -> Standing {
        self.status.plan = None;
        // Counted from when this was first shown; something else may have been the matter before.
        let since = unready_since(&self.status.conditions, self.now);
        let outcome = Outcome::missing(reason, words, since, self.now);
        let look_again = end_of_grace(since, self.now).map_or(REPLAN.0, |end| until(end, self.now));
        self.waits(&outcome, look_again)
    }

    fn plan_with(&mut self, backup: &PlannedBackup) -> Standing {
        let named = self.status.plan.as_ref().and_then(|plan| plan.backup.as_ref());
        let is_named =
            named.is_some_and(|named| named.backup_id == backup.backup_id && named.location == backup.location);
        let assignment = self.assignment().filter(|assignment| is_named && assignment.task == Task::Plan).cloned();
        let Some(assignment) = assignment else {
            self.status.plan = None;
            return self.ask(backup, None);
        };
        let is_silent = self.observed.execution_unchanged_for >= SILENCE;
        match self.own_result().map(|result| (result.plan.clone(), result.error.clone())) {
            Some((Some(report), None)) if report.backup.backup_id == backup.backup_id => {
                self.planned(backup, &assignment, &report)
            }
            Some((Some(_), None)) => {
                let words = format!("the agent on {} reported on another backup", assignment.node_name);
                self.failed(&assignment, &TaskError::new(Reason::SnapshotFailed, words))
            }
            Some((_, Some(error))) => self.failed(&assignment, &error),
            Some((None, None)) => {
                let words = format!("the agent on {} reported neither a plan nor an error", assignment.node_name);
                self.failed(&assignment, &TaskError::new(Reason::SnapshotFailed, words))
            }
            None if is_silent => self.ask(backup, Some(&assignment.node_name)),
            None => self.under_way(&assignment.node_name),
        }
    }

    /// Asks an agent for a report, and names the backup that it is to be about.
    fn ask(&mut self, backup: &PlannedBackup, failed_last: Option<&NodeName>) -> Standing {
        let node = match self.choose(failed_last) {
            Ok(node) => node,
            Err(words) => {
                let outcome = Outcome::waiting(Reason::NoHealthyMember, words);
                return self.waits(&outcome, RECHECK);
            }
        };
        if self.status.plan.is_none() {
            self.status.plan = Some(RestorePlan { backup: Some(backup.clone()), ..RestorePlan::default() });
        }
        self.assign(node.clone(), Task::Plan);
        self.under_way(&node)
    }

    /// Nothing is known yet, or what was known is looked at again: a plan with blockers is shown until then.
    fn under_way(&mut self, node: &NodeName) -> Standing {
        let left = SILENCE.saturating_sub(self.observed.execution_unchanged_for);
        if let Some(plan) = self.status.plan.clone().filter(|plan| !plan.blockers.is_empty()) {
            return self.refused(&plan, left);
        }
        let words = match self.status.plan.as_ref().and_then(|plan| plan.nonce.as_ref()) {
            Some(_) => {
                format!("what the plan rested on has changed: the agent on {node} looks at backup and cluster again")
            }
            None => format!("the agent on {node} looks at backup and cluster; nothing is touched"),
        };
        let outcome = Outcome::waiting(Reason::Planning, words);
        self.waits(&outcome, left)
    }

    fn failed(&mut self, assignment: &Assignment, error: &TaskError) -> Standing {
        let (reason, node) = (error.reason(), &assignment.node_name);
        let pause = if is_permanent(reason) { REPLAN.0 } else { RETRY };
        let waited = self.observed.execution_unchanged_for;
        if waited >= pause
            && let Ok(next) = self.choose(Some(node))
        {
            self.assign(next.clone(), Task::Plan);
            return self.under_way(&next);
        }
        let words = format!("no plan could be made on {node}: {}", error.message);
        let outcome =
            if is_permanent(reason) { Outcome::failed(reason, words) } else { Outcome::troubled(reason, words) };
        self.waits(&outcome, pause.saturating_sub(waited).max(RECHECK))
    }

    /// Without a plan that could be approved.
    fn waits(&self, outcome: &Outcome, look_again: Duration) -> Standing {
        let mut shown = outcome.shown();
        shown.push(Shown::new(
            ConditionType::PlanReady,
            ConditionStatus::Unknown,
            Reason::Planning,
            "there is no plan yet",
        ));
        shown.push(Shown::new(ConditionType::Approved, false, Reason::Planning, "there is no plan yet"));
        Standing::Shown { shown, look_again: Some(look_again) }
    }

    /// The report is there: the plan it gives, by what is known of all masters now.
    fn planned(&mut self, backup: &PlannedBackup, assignment: &Assignment, report: &PlanReport) -> Standing {
        let now = self.compose(assignment, report, backup);
        let stored = self.status.plan.clone().unwrap_or_default();
        let plan = if stored.nonce != now.nonce {
            self.replace(&stored, now)
        } else if stored.approval_code == now.approval_code {
            stored
        } else if now.blockers.is_empty() {
            return self.ask(backup, None);
        } else {
            self.replace(&stored, now)
        };
        if plan.blockers.is_empty() {
            self.await_approval(&plan, assignment)
        } else {
            self.await_mending(&plan, backup)
        }
    }

    fn replace(&mut self, stored: &RestorePlan, plan: RestorePlan) -> RestorePlan {
        if plan.blockers.is_empty() {
            self.events.push(EventDraft::new(EventReason::PlanReady, advice(&plan)));
        } else if !stored.blockers.iter().map(|line| kind_of(line)).eq(plan.blockers.iter().map(|line| kind_of(line))) {
            self.events.push(EventDraft::new(EventReason::PlanRefused, refusal(&plan)));
        }
        self.status.plan = Some(plan.clone());
        plan
    }

    /// A plan with blockers is made again, ever more seldom: each time an agent reads every key of etcd.
    fn await_mending(&mut self, plan: &RestorePlan, backup: &PlannedBackup) -> Standing {
        let (first, last) = REPLAN;
        let refused = since(&self.status.conditions, ConditionType::Failed, ConditionStatus::True);
        let lasted = refused.map_or(SignedDuration::ZERO, |since| self.now.duration_since(since));
        let pause = Duration::from_secs(lasted.as_secs().max(0).unsigned_abs() / 4).clamp(first, last);
        let waited = self.observed.execution_unchanged_for;
        if waited >= pause && self.choose(None).is_ok() {
            return self.ask(backup, None);
        }
        self.refused(plan, pause.saturating_sub(waited).min(RECHECK))
    }

    fn refused(&self, plan: &RestorePlan, look_again: Duration) -> Standing {
        let words = refusal(plan);
        let mut shown = Outcome::failed(Reason::PlanRefused, &words).shown();
        shown.push(Shown::new(ConditionType::Failed, true, Reason::PlanRefused, &words));
        shown.push(Shown::new(ConditionType::PlanReady, false, Reason::PlanRefused, &words));
        let approved = "a plan with blockers cannot be approved";
        shown.push(Shown::new(ConditionType::Approved, false, Reason::PlanRefused, approved));
        Standing::Shown { shown, look_again: Some(look_again) }
    }

    fn await_approval(&mut self, plan: &RestorePlan, assignment: &Assignment) -> Standing {
        let code = plan.approval_code.as_deref().unwrap_or_default();
        let approval = self.spec().approval.as_str();
        if !code.is_empty() && approval == code {
            return self.order(plan, assignment);
        }
        let (reason, words) = if approval.is_empty() {
            (Reason::AwaitingApproval, advice(plan))
        } else {
            let words = format!(
                "spec.approval is {approval:?}, and the code of the plan as it is now is {code}: nothing starts. {}",
                advice(plan)
            );
            (Reason::ApprovalMismatch, words)
        };
        let mut shown = Outcome::waiting(Reason::AwaitingApproval, &words).shown();
        shown.push(Shown::new(ConditionType::PlanReady, true, Reason::AwaitingApproval, "the plan can be approved"));
        shown.push(Shown::new(ConditionType::Approved, false, reason, words));
        Standing::Shown { shown, look_again: Some(RECHECK) }
    }

    /// Approved as it is at this moment: the one order.
    fn order(&mut self, plan: &RestorePlan, assignment: &Assignment) -> Standing {
        if !self.is_heard() {
            let words = "the plan was approved; before it is ordered an agent must write again, which tells of a restore that \
                         this cluster may have gone through (are the clocks of operator and masters alike?)";
            return Self::held_back(Reason::AgentUnavailable, words);
        }
        let bound = Some(&assignment.node_name).filter(|node| self.is_fresh(node)).cloned();
        let node = match bound.map_or_else(|| self.choose(None), Ok) {
            Ok(node) => node,
            Err(words) => return Self::held_back(Reason::NoHealthyMember, &words),
        };
        let code = plan.approval_code.as_deref().unwrap_or_default();
        let words = format!("the plan {code} was approved; the agent on {node} writes the order");
        self.events.push(EventDraft::new(EventReason::RestoreApproved, words));
        self.assign(node, Task::Order);
        self.run()
    }

    /// Approved, and yet not ordered for now.
    fn held_back(reason: Reason, words: &str) -> Standing {
        let mut shown = Outcome::waiting(reason, words).shown();
        shown.push(Shown::new(ConditionType::PlanReady, true, Reason::AwaitingApproval, "the plan can be approved"));
        shown.push(Shown::new(ConditionType::Approved, false, reason, words));
        Standing::Shown { shown, look_again: Some(RECHECK) }
    }
}

/// A plan without blockers in words: what it would do, and how to start it.
fn advice(plan: &RestorePlan) -> String {
    let backup = plan.backup.clone().unwrap_or_default();
    let loss = plan.data_loss.clone().unwrap_or_default();
    let span = match (&loss.from, &loss.to) {
        (Some(from), Some(to)) => {
            format!(" ({} before the plan was made)", human_duration(to.0.duration_since(from.0)))
        }
        (Some(_) | None, Some(_) | None) => String::new(),
    };
    let taken = loss.from.as_ref().map(|from| format!(" of {}{span}", from.0)).unwrap_or_default();
    let kinds: Vec<&str> = plan.warnings.iter().map(|line| kind_of(line)).collect();
    let warnings = if kinds.is_empty() { String::new() } else { format!(" Mind the warnings: {}.", kinds.join(", ")) };
    let lost = if plan.lost.is_empty() { String::new() } else { format!(" without {} lost ones,", plan.lost.len()) };
    format!(
        "all of etcd would go back to backup {}{taken}: {} revisions of changes would be lost. {} masters are restored together,{lost} \
         and the API is away for about {} s.{warnings} Read status.plan; to start, copy status.plan.approvalCode ({}) into \
         spec.approval",
        backup.backup_id,
        loss.revisions,
        plan.members.len(),
        plan.estimated_outage_seconds.unwrap_or_default(),
        plan.approval_code.as_deref().unwrap_or_default(),
    )
}

/// A plan with blockers in words.
fn refusal(plan: &RestorePlan) -> String {
    format!(
        "this cannot be restored as things are; the plan is made again once they are mended. {}",
        plan.blockers.join("; ")
    )
}
