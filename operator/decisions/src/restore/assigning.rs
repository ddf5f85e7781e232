//! Which agent makes the plan and writes the order.

use jiff::SignedDuration;
use lifeboat_crds::{Assignment, NodeName, Task, Time};

use super::Run;
use crate::assignment::{has_fresh_agent, next_attempt, node_of, obstacle};
use crate::{LARGEST_SKEW, SILENCE, SeenMember, after};

/// [`SILENCE`], as the time of the clock is counted.
const SILENCE_SECONDS: SignedDuration = SignedDuration::from_secs(SILENCE.as_secs().cast_signed());

impl Run<'_> {
    /// The masters that take part, as far as is known: those that are not lost.
    fn candidates(&self) -> impl Iterator<Item = &SeenMember> {
        self.observed.members.iter().filter(|seen| !self.request.lost.contains(&node_of(seen)))
    }

    /// The best agent beside a healthy member: not the one that just failed, voters first, followers before the leader.
    ///
    /// # Errors
    /// Why there is none, in words that name every candidate's problem.
    pub(super) fn choose(&self, failed_last: Option<&NodeName>) -> Result<NodeName, String> {
        let facts =
            |seen: &SeenMember| seen.member.status.as_ref().map(|status| status.facts.clone()).unwrap_or_default();
        let able = self.candidates().filter(|seen| obstacle(seen).is_none());
        let best = able.min_by_key(|seen| {
            let facts = facts(seen);
            (
                failed_last == Some(&node_of(seen)),
                facts.restore_obstacle.is_some(),
                facts.is_learner.unwrap_or(false),
                facts.is_leader.unwrap_or(false),
                node_of(seen),
            )
        });
        best.map(node_of).ok_or_else(|| {
            let mut words: Vec<String> =
                self.candidates().filter_map(|seen| Some(format!("{}: {}", node_of(seen), obstacle(seen)?))).collect();
            words.sort();
            if words.is_empty() {
                return "no agent has reported an etcd member yet: do the agents run on the control-plane nodes?"
                    .to_owned();
            }
            format!("no master can be asked at present; {}", words.join("; "))
        })
    }

    /// Whether the agent of a node that takes part was heard of lately.
    pub(super) fn is_fresh(&self, node: &NodeName) -> bool {
        self.candidates().any(|seen| node_of(seen) == *node && has_fresh_agent(seen))
    }

    /// Whether a master that takes part has written lately by its own clock. In data of an older time that was put back none
    /// has, and only what the first one writes tells of that.
    pub(super) fn is_heard(&self) -> bool {
        let patience = SILENCE_SECONDS + LARGEST_SKEW;
        let mut beats =
            self.candidates().filter_map(|seen| Some(seen.member.status.as_ref()?.facts.heartbeat_time.as_ref()?.0));
        beats.any(|beat| after(beat, patience) >= self.now)
    }

    /// Asks an agent.
    pub(super) fn assign(&mut self, node_name: NodeName, task: Task) {
        let attempt = next_attempt(self.status.assignment.as_ref(), self.execution.as_ref());
        self.status.assignment = Some(Assignment { node_name, attempt, task, time: Time(self.now) });
    }
}
