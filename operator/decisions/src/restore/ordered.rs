//! An order that was assigned: how far it is, and what becomes of it if nobody tells.
//!
//! It is assigned once. Whether one that seems to have failed was written all the same only the store knows, so there is never
//! a second.

use jiff::SignedDuration;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::restore::{NodeProgress, OrderReport, RestoreTimeouts};
use lifeboat_crds::{ConditionType, Reason, Task};

use super::{Run, Standing};
use crate::conditions::{Outcome, Shown};
use crate::event::EventDraft;
use crate::{LARGEST_SKEW, after, until};

/// Beyond the time-outs of a restore, its masters have told how it ended.
const TO_BE_TOLD: SignedDuration = SignedDuration::from_secs(300);

/// The number that a step begins with, such as `4/10 Quiesce`.
fn number(step: &str) -> u32 {
    let digits = step.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Run<'_> {
    /// Goes on with what was ordered.
    pub(super) fn run(&mut self) -> Standing {
        let is_cancelled = self.spec().cancel;
        if let Some(error) = self.own_result().and_then(|result| result.error.clone()) {
            let reason = if is_cancelled { Reason::Cancelled } else { error.reason() };
            return self.fail(reason, format!("the order was not written: {}", error.message));
        }
        if let Some(OrderReport { restore_id, bump_to }) = self.own_result().and_then(|result| result.order.clone()) {
            self.status.restore_id = Some(restore_id);
            if let Some(plan) = &mut self.status.plan {
                plan.bump_to = Some(bump_to);
            }
        }
        let Some(assignment) = self.status.assignment.clone() else { return Standing::Kept };
        let RestoreTimeouts { stage_seconds, outage_seconds } = self.request.timeouts;
        let bounds = SignedDuration::from_secs(stage_seconds.saturating_add(outage_seconds));
        let deadline = after(after(assignment.time.0, bounds), TO_BE_TOLD);
        if self.now >= deadline {
            let words = "no master has told how the restore ended, and its time is over: `lifeboat restore status` on the masters \
                         knows";
            return self.fail(Reason::DeadlineExceeded, words.to_owned());
        }
        let progress = self.progress();
        let words = self.words(&progress, is_cancelled);
        let mut shown = Outcome::waiting(Reason::Running, words).shown();
        shown.push(Shown::new(ConditionType::PlanReady, true, Reason::Approved, "the plan was approved"));
        let code = self.status.plan.as_ref().and_then(|plan| plan.approval_code.as_deref()).unwrap_or_default();
        shown.push(Shown::new(
            ConditionType::Approved,
            true,
            Reason::Approved,
            format!("the plan {code} was approved"),
        ));
        Standing::Shown { shown, look_again: Some(until(deadline, self.now)) }
    }

    /// Fills in how far the masters are; gives those that have told.
    fn progress(&mut self) -> Vec<NodeProgress> {
        let nodes = self.own_nodes();
        let total = self.status.plan.as_ref().map_or(0, |plan| plan.members.len());
        self.status.nodes_ready = Some(format!("{}/{total}", nodes.len()));
        let step = self.step();
        if let Some(step) = step.clone().filter(|step| self.status.step.as_ref() != Some(step)) {
            self.events.push(EventDraft::new(EventReason::RestoreStep, step));
        }
        self.status.step = step.or(self.status.step.take());
        nodes
    }

    /// The step of the least advanced master of those that have told.
    fn step(&self) -> Option<String> {
        let steps = self.own_nodes().into_iter().filter_map(|node| node.step);
        steps.min_by_key(|step| number(step))
    }

    /// What the planned masters have told of this order; of an attempt before, their words are older.
    fn own_nodes(&self) -> Vec<NodeProgress> {
        let Some(plan) = &self.status.plan else { return Vec::new() };
        let ordered = self.assignment().filter(|assignment| assignment.task == Task::Order).map(|order| order.time.0);
        let Some(since) = ordered.map(|ordered| after(ordered, -LARGEST_SKEW)) else { return Vec::new() };
        let is_planned = |node: &NodeProgress| plan.members.iter().any(|member| member.node_name == node.node_name);
        let told = self.status.nodes.iter().filter(|node| is_planned(node) && node.step.is_some());
        told.filter(|node| node.time.as_ref().is_none_or(|time| time.0 >= since)).cloned().collect()
    }

    fn words(&self, nodes: &[NodeProgress], is_cancelled: bool) -> String {
        let node = self.assignment().map(|assignment| assignment.node_name.to_string()).unwrap_or_default();
        let mut words = match &self.status.step {
            None => format!("the agent on {node} writes the order; nothing is touched yet"),
            Some(step) => {
                let at = |node: &NodeProgress| node.step.as_ref() == Some(step);
                let mut last: Vec<&str> =
                    nodes.iter().filter(|node| at(node)).map(|node| node.node_name.as_str()).collect();
                last.sort_unstable();
                format!("step {step}; not further yet: {}", last.join(", "))
            }
        };
        if is_cancelled {
            words += "; it is being called off, which holds until the decision is recorded (from Quiesce on only `lifeboat restore \
                      cancel` on a master is heard)";
        }
        if self.status.attempt != Some(self.spec().attempt) {
            words += "; the attempt that was asked for since begins when this one has ended";
        }
        words
    }
}
