//! Which node is asked to act: the scheduler's part.
//!
//! A backup needs an agent that was heard of lately and a healthy member next to it; a probe needs only the agent. Then
//! the least disturbance: not the node that just failed, voters before learners, idle before busy, followers before the
//! leader.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lifeboat_crds::backup::MemberPolicy;
use lifeboat_crds::{Assignment, Execution, NodeName};

use crate::{SILENCE, SeenMember};

/// What is asked of a node for a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    /// Reads this node's member and no other.
    pub pinned: Option<&'a NodeName>,
    /// Hosts that may write in the location, where that is known.
    pub owners: Option<&'a [String]>,
    /// Which member is preferred.
    pub policy: MemberPolicy,
    /// The node of the last failed try.
    pub failed_last: Option<&'a NodeName>,
    /// Most room the spool may take, bytes.
    pub spool: Option<u64>,
    /// Running backups by node.
    pub busy: &'a BTreeMap<NodeName, u32>,
    /// Newest assignment by node.
    pub last_used: &'a BTreeMap<NodeName, Timestamp>,
}

/// Chooses the node for a backup.
///
/// # Errors
/// Why there is none, in words that name every candidate's problem.
pub fn choose_node(members: &[SeenMember], wanted: &Wanted<'_>) -> Result<NodeName, String> {
    let candidates = members.iter().filter(|seen| wanted.pinned.is_none_or(|node| node_of(seen) == *node));
    let able = candidates.clone().filter(|seen| obstacle(seen).is_none() && may_write(seen, wanted.owners));
    let best = able.min_by_key(|seen| preference(seen, wanted));
    best.map(node_of).ok_or_else(|| no_node(candidates, wanted))
}

/// Whether a node's host is among those that own the location; where it is not known who does, any is.
fn may_write(seen: &SeenMember, owners: Option<&[String]>) -> bool {
    owners.is_none_or(|owners| host_of(seen).is_some_and(|host| owners.contains(host)))
}

/// The identity of a node's host, as its agent told it.
pub fn host_of(seen: &SeenMember) -> Option<&String> {
    seen.member.status.as_ref()?.facts.host_id.as_ref()
}

/// Why no backup can be taken from a member; `None` where it can. Does not change while nothing changes.
pub fn obstacle(seen: &SeenMember) -> Option<String> {
    let SeenMember { member, unchanged_for } = seen;
    let facts = member.status.as_ref().map(|status| &status.facts);
    let Some(facts) = facts.filter(|facts| facts.heartbeat_time.is_some()) else {
        return Some("its agent has not reported yet".to_owned());
    };
    if *unchanged_for >= SILENCE {
        return Some(format!("its agent has been silent for more than {} s", SILENCE.as_secs()));
    }
    if let Some(problem) = &facts.problem {
        return Some(problem.clone());
    }
    match facts.has_leader {
        Some(true) => None,
        Some(false) => Some("its etcd member sees no leader".to_owned()),
        None => Some("its etcd member has not been asked yet".to_owned()),
    }
}

/// Chooses an agent for a task that needs no etcd: the one after `previous` in the order of names, so that they take turns.
///
/// An owner of the location where one is there: it adds the hosts of new masters, which would be refused themselves.
pub fn choose_agent(
    members: &[SeenMember],
    previous: Option<&NodeName>,
    owners: Option<&[String]>,
) -> Option<NodeName> {
    let fresh = || members.iter().filter(|seen| has_fresh_agent(seen));
    let mut nodes: BTreeSet<NodeName> = fresh().filter(|seen| may_write(seen, owners)).map(node_of).collect();
    if nodes.is_empty() {
        nodes = fresh().map(node_of).collect();
    }
    let next = previous.and_then(|previous| nodes.iter().find(|node| *node > previous));
    next.or_else(|| nodes.first()).cloned()
}

/// Whether the agent of a node was heard of lately.
pub fn has_fresh_agent(seen: &SeenMember) -> bool {
    let SeenMember { member, unchanged_for } = seen;
    let heartbeat = member.status.as_ref().and_then(|status| status.facts.heartbeat_time.as_ref());
    heartbeat.is_some() && *unchanged_for < SILENCE
}

/// Attempt of the next assignment: later than all that were assigned or carried out.
///
/// The execution counts too: the API server refuses one whose attempt goes back.
pub fn next_attempt<R>(assignment: Option<&Assignment>, execution: Option<&Execution<R>>) -> i32 {
    let assigned = assignment.map_or(0, |assignment| assignment.attempt);
    let executed = execution.map_or(0, |execution| execution.attempt);
    assigned.max(executed).saturating_add(1)
}

/// The node of a member.
pub fn node_of(seen: &SeenMember) -> NodeName {
    NodeName(seen.member.metadata.name.clone().unwrap_or_default())
}

/// Sorts healthy candidates, best first.
type Preference = (bool, bool, bool, bool, u32, bool, Option<Timestamp>, NodeName);

fn preference(seen: &SeenMember, wanted: &Wanted<'_>) -> Preference {
    let Wanted { pinned: _, owners: _, policy, failed_last, spool, busy, last_used } = wanted;
    let node = node_of(seen);
    let facts = seen.member.status.as_ref().map(|status| &status.facts);
    let is_leader = facts.and_then(|facts| facts.is_leader).unwrap_or(false);
    let is_learner = facts.and_then(|facts| facts.is_learner).unwrap_or(false);
    let free = facts.and_then(|facts| facts.free_bytes.as_ref()).and_then(|free| free.spool);
    let size = facts.and_then(|facts| facts.db_size_bytes).and_then(|size| u64::try_from(size).ok());
    // The archive is never much larger than the database, and the spool never than its limit.
    let need = [*spool, size].into_iter().flatten().min().unwrap_or(0);
    let is_tight = free.is_some_and(|free| u64::try_from(free).unwrap_or(0) < need);
    let (against_policy, leader_last) = match policy {
        MemberPolicy::PreferFollower => (false, is_leader),
        MemberPolicy::Leader => (!is_leader, false),
        MemberPolicy::Any => (false, false),
    };
    let busy = busy.get(&node).copied().unwrap_or(0);
    let used = last_used.get(&node).copied();
    (
        failed_last.is_some_and(|failed| *failed == node),
        is_learner,
        against_policy,
        is_tight,
        busy,
        leader_last,
        used,
        node,
    )
}

fn no_node<'a>(candidates: impl Iterator<Item = &'a SeenMember>, wanted: &Wanted<'_>) -> String {
    let Wanted { pinned, owners, policy: _, failed_last: _, spool: _, busy: _, last_used: _ } = wanted;
    let no_owner = || {
        "its host is not among those that may write in the location yet; the next probe of the location adds it"
            .to_owned()
    };
    let hindrance = |seen| obstacle(seen).or_else(|| (!may_write(seen, *owners)).then(no_owner));
    let mut words: Vec<String> =
        candidates.filter_map(|seen| Some(format!("{}: {}", node_of(seen), hindrance(seen)?))).collect();
    words.sort();
    match (words.is_empty(), pinned) {
        (false, Some(node)) => {
            format!(
                "the etcd member of node {node}, which spec.source.nodeName asks for, cannot be read; {}",
                words.join("; ")
            )
        }
        (false, None) => format!("no etcd member can be backed up; {}", words.join("; ")),
        (true, Some(node)) => format!(
            "node {node}, which spec.source.nodeName asks for, has no EtcdMember: is it a control-plane node, and does \
             its agent run?"
        ),
        (true, None) => {
            "no agent has reported an etcd member yet: do the agents run on the control-plane nodes?".to_owned()
        }
    }
}

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod tests;
