//! When a location is probed next, and by whom. Judges nothing.
//!
//! Counts from the time of the assignment, which is of the operator's own clock: the agents' clocks are others.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::location::LocationResult;
use lifeboat_crds::{Assignment, EtcdBackupLocationStatus, Reason, Task, Time};

use crate::assignment::{choose_agent, has_fresh_agent, host_of, next_attempt};
use crate::{SeenMember, after, until};

/// Between probes of a location that works.
pub(super) const PERIOD: Duration = Duration::from_secs(300);
/// Shortest time between probes of one that does not.
const QUICK: SignedDuration = SignedDuration::from_secs(15);
/// Longest time between those; also the shortest before backups are counted anew.
const SLOW: SignedDuration = SignedDuration::from_secs(60);
/// An agent that has not answered for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(45);
/// Until a location without any agent is looked at again; a new agent wakes it before.
const NO_AGENT_PAUSE: Duration = Duration::from_secs(30);

/// What the plan rests on.
pub(super) struct Probing<'a> {
    pub(super) status: &'a EtcdBackupLocationStatus,
    /// Whether the spec changed since the last decision: a probe under way may have read the old one.
    pub(super) spec_changed: bool,
    /// Whether the last answer is of another spec.
    pub(super) answer_is_outdated: bool,
    /// Whether the annotation that claims the prefix is another than the last answer saw.
    pub(super) take_over_changed: bool,
    pub(super) answer: Option<&'a LocationResult>,
    pub(super) unready_for: Option<SignedDuration>,
    pub(super) members: &'a [SeenMember],
    pub(super) unchanged_for: Duration,
    pub(super) newest_completion: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The plan.
pub(super) struct Plan {
    /// The next probe, if it is time.
    pub(super) assignment: Option<Assignment>,
    /// Whether there is an agent that could probe.
    pub(super) has_agent: bool,
    pub(super) look_again: Duration,
}

/// The probe that was assigned last.
enum Last<'a> {
    None,
    /// Not answered yet.
    Asked,
    Answered(&'a Assignment),
}

pub(super) fn plan_probe(probing: &Probing<'_>) -> Plan {
    let Probing {
        status,
        spec_changed,
        answer_is_outdated,
        take_over_changed,
        answer: _,
        unready_for: _,
        members,
        unchanged_for,
        newest_completion: _,
        now,
    } = probing;
    let last = last_probe(status);
    let previous = status.assignment.as_ref().map(|assignment| &assignment.node_name);
    let Some(node) = choose_agent(members, previous, owners(status)) else {
        return Plan { assignment: None, has_agent: false, look_again: NO_AGENT_PAUSE };
    };
    let due = match last {
        Last::None => *now,
        Last::Answered(_) if *answer_is_outdated => *now,
        // An agent of an older version never sees the annotation; it must not be asked without a pause.
        Last::Answered(answered) if *take_over_changed => after(answered.time.0, QUICK),
        Last::Asked if *spec_changed => *now,
        Last::Asked => after(*now, seconds(PATIENCE.saturating_sub(*unchanged_for))),
        Last::Answered(answered) => next_due(answered.time.0, probing),
    };
    if due > *now {
        return Plan { assignment: None, has_agent: true, look_again: until(due, *now) };
    }
    let attempt = next_attempt(status.assignment.as_ref(), status.execution.as_ref());
    let assignment = Assignment { node_name: node, attempt, task: Task::Probe, time: Time(*now) };
    Plan { assignment: Some(assignment), has_agent: true, look_again: PATIENCE }
}

fn last_probe(status: &EtcdBackupLocationStatus) -> Last<'_> {
    let Some(assignment) = status.assignment.as_ref().filter(|assignment| assignment.task == Task::Probe) else {
        return Last::None;
    };
    let own = status.execution.as_ref().filter(|execution| execution.is_of(assignment));
    match own.and_then(|execution| execution.result.as_ref()) {
        Some(_) => Last::Answered(assignment),
        None => Last::Asked,
    }
}

fn next_due(asked: Timestamp, probing: &Probing<'_>) -> Timestamp {
    let Probing {
        status,
        spec_changed: _,
        answer_is_outdated: _,
        take_over_changed: _,
        answer,
        unready_for,
        members,
        unchanged_for: _,
        newest_completion,
        now: _,
    } = probing;
    let error = answer.and_then(|answer| answer.error.as_ref().or(answer.write_error.as_ref()));
    let period = match error.map(lifeboat_crds::TaskError::reason) {
        None => {
            let probed = status.last_probe_time.as_ref().map(|time| time.0);
            let is_outdated =
                newest_completion.is_some_and(|completion| probed.is_none_or(|probed| completion > probed));
            // A new master may not write before an owner's probe has added it.
            let lacks_master = members.iter().filter(|seen| has_fresh_agent(seen)).any(|seen| {
                host_of(seen).is_some_and(|host| owners(status).is_some_and(|owners| !owners.contains(host)))
            });
            if is_outdated || lacks_master { SLOW } else { seconds(PERIOD) }
        }
        Some(Reason::AccessDenied | Reason::OwnedByAnother | Reason::NotSupported) => SLOW,
        // Whatever else it is may pass soon; the longer it lasts, the more slowly it is asked.
        Some(_) => SignedDuration::from_secs(unready_for.unwrap_or_default().as_secs() / 4).clamp(QUICK, SLOW),
    };
    after(asked, period)
}

/// Hosts that may write there, where that is known.
fn owners(status: &EtcdBackupLocationStatus) -> Option<&[String]> {
    status.owner.as_ref().map(|owner| owner.hosts.as_slice())
}

fn seconds(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
