//! Whether a member can be backed up, from what its agent says and from whether the agent says anything.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::member::{Agreement, Divergence};
use lifeboat_crds::{Condition, EtcdMember, Reason};

use crate::conditions::{GoodReason, Outcome, merge_conditions};
use crate::{SILENCE, SeenMember};

/// A member to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedMember {
    /// The member.
    pub seen: SeenMember,
    /// What every master's agent found when it last found the members equal.
    pub agreements: Vec<Agreement>,
}

/// The operator's part of a member's status.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberDecision {
    /// `Ready` and its companions.
    pub conditions: Vec<Condition>,
    /// The generation they are of.
    pub observed_generation: i64,
    /// When to look again if nothing happens.
    pub requeue_after: Duration,
}

/// Judges a member.
pub fn decide_member(observed: &ObservedMember, now: Timestamp) -> MemberDecision {
    let ObservedMember { seen, agreements } = observed;
    let SeenMember { member, unchanged_for } = seen;
    let generation = member.metadata.generation.unwrap_or(0);
    let previous = member.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let conditions = merge_conditions(previous, &judge(member, *unchanged_for, agreements).shown(), generation, now);
    // Silence is no event: it must be looked for.
    let silent_in = SILENCE.saturating_sub(*unchanged_for);
    let requeue_after = if silent_in.is_zero() { SILENCE } else { silent_in };
    MemberDecision { conditions, observed_generation: generation, requeue_after }
}

fn judge(member: &EtcdMember, unchanged_for: Duration, agreements: &[Agreement]) -> Outcome {
    let node = member.metadata.name.as_deref().unwrap_or_default();
    let facts = member.status.as_ref().map(|status| &status.facts);
    let Some(facts) = facts.filter(|facts| facts.heartbeat_time.is_some()) else {
        return Outcome::waiting(Reason::Pending, format!("the agent on {node} has not reported yet"));
    };
    if unchanged_for >= SILENCE {
        let words = format!(
            "the agent on {node} has been silent for more than {} s: is the node up, and does its agent's pod run?",
            SILENCE.as_secs()
        );
        return Outcome::waiting(Reason::AgentUnavailable, words);
    }
    if let Some(problem) = &facts.problem {
        return Outcome::troubled(Reason::NoHealthyMember, format!("etcd on {node} cannot be backed up: {problem}"));
    }
    let is_over = |divergence: &Divergence| agreements.iter().any(|agreement| agreement.is_after(divergence));
    if let Some(Divergence { revision, members, time }) = facts.divergence.as_ref().filter(|found| !is_over(found)) {
        let words = format!(
            "members of etcd hold different data at revision {revision}: {}; seen at {} by the agent on {node}. Compare \
             `etcdctl endpoint hashkv --cluster`, find out which members are right, and make the others anew, one at a \
             time; a backup with verification Members that finds them equal takes this away",
            members.join(", "),
            time.0,
        );
        return Outcome::failed(Reason::VerificationFailed, words);
    }
    match facts.has_leader {
        Some(true) => Outcome::current(GoodReason::Accepted, healthy_words(node, &facts.alarms, &facts.errors)),
        Some(false) => Outcome::troubled(
            Reason::NoHealthyMember,
            format!("etcd on {node} sees no leader: are most of the other members running?"),
        ),
        None => Outcome::waiting(Reason::Pending, format!("etcd on {node} has not been asked yet")),
    }
}

fn healthy_words(node: &str, alarms: &[String], errors: &[String]) -> String {
    if alarms.is_empty() && errors.is_empty() {
        return format!("etcd on {node} is healthy");
    }
    // A member out of space still serves snapshots, and that is when they are wanted most.
    let mut words = format!("etcd on {node} can be backed up");
    if !alarms.is_empty() {
        words += &format!(", but has raised {}: see etcd's documentation on alarms", alarms.join(", "));
    }
    if !errors.is_empty() {
        words += &format!("; it says of itself: {}", errors.join("; "));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::{Show, assert_shown, at, member};
    use serde_json::json;

    fn judged(facts: serde_json::Value, silent: u64) -> serde_json::Value {
        judged_among(facts, silent, Vec::new())
    }

    fn judged_among(facts: serde_json::Value, silent: u64, agreements: Vec<Agreement>) -> serde_json::Value {
        let mut seen = member("m1", facts);
        seen.unchanged_for = Duration::from_secs(silent);
        let decision = decide_member(&ObservedMember { seen, agreements }, at(100));
        assert!(decision.requeue_after > Duration::ZERO);
        json!({"metadata": {"generation": 1}, "status": {"observedGeneration": decision.observed_generation,
            "conditions": decision.conditions}})
    }

    #[test]
    fn a_member_is_ready_as_its_agent_says_and_unknown_where_it_says_nothing() {
        let beat = |more: serde_json::Value| {
            let mut facts = json!({"heartbeatTime": "2026-11-24T00:00:00Z", "hasLeader": true});
            facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            facts
        };
        let table = [
            (json!({}), 0, Show::Unknown("Pending"), "has not reported"),
            (beat(json!({})), 0, Show::Current("Accepted"), "healthy"),
            (beat(json!({})), 89, Show::Current("Accepted"), "healthy"),
            (beat(json!({})), 90, Show::Unknown("AgentUnavailable"), "silent"),
            (beat(json!({"problem": "connection refused"})), 0, Show::Troubled("NoHealthyMember"), "etcd"),
            (
                beat(json!({"problem": "connection refused"})),
                0,
                Show::Troubled("NoHealthyMember"),
                "connection refused",
            ),
            (beat(json!({"hasLeader": false})), 0, Show::Troubled("NoHealthyMember"), "no leader"),
            (
                beat(
                    json!({"divergence": {"revision": 9, "members": ["m0 (0a)", "m1 (0b)"], "time": "2026-11-24T00:00:00Z"}}),
                ),
                0,
                Show::Failed("VerificationFailed"),
                "m0 (0a), m1 (0b)",
            ),
            (beat(json!({"alarms": ["NOSPACE"]})), 0, Show::Current("Accepted"), "NOSPACE"),
            (beat(json!({"errors": ["disk is slow"]})), 0, Show::Current("Accepted"), "disk is slow"),
        ];
        for (facts, silent, show, words) in table {
            assert_shown(&judged(facts, silent), show, words);
        }
    }
    #[test]
    fn a_divergence_counts_until_any_agent_finds_the_members_equal_later() {
        let facts = json!({"heartbeatTime": "2026-11-24T00:00:00Z", "hasLeader": true,
            "divergence": {"revision": 9, "members": ["m0 (0a)", "m1 (0b)"], "time": "2026-11-24T00:00:00Z"}});
        for (revision, time, members, is_over) in [
            (9, "2026-11-24T00:00:01Z", vec!["m0", "m1"], true),
            (90, "2026-11-25T00:00:00Z", vec!["m2", "m1", "m0"], true),
            (9, "2026-11-24T00:00:00Z", vec!["m0", "m1"], false),
            (90, "2026-11-23T00:00:00Z", vec!["m0", "m1"], false),
            // Before a restore, or of a clock that is wrong.
            (8, "2026-11-25T00:00:00Z", vec!["m0", "m1"], false),
            // Of five members three agree, and one that differed was not asked.
            (90, "2026-11-25T00:00:00Z", vec!["m0", "m2", "m3"], false),
        ] {
            let found = json!({"revision": revision, "time": time, "members": members});
            let found = serde_json::from_value(found).unwrap();
            let show = if is_over { Show::Current("Accepted") } else { Show::Failed("VerificationFailed") };
            assert_shown(&judged_among(facts.clone(), 0, vec![found]), show, "etcd");
        }
    }
}
