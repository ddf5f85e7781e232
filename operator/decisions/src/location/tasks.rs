//! What a location's agent is asked next, when, and by whom: to try the location out, or to list its archives. One at a
//! time; a location that does not work is tried out, not listed. Judges nothing.
//!
//! Counts from the times of assignments, which are of the operator's own clock: the agents' clocks are others.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::location::{CatalogPass, LocationResult};
use lifeboat_crds::{Assignment, EtcdBackupLocationStatus, Reason, Task, Time};

use crate::assignment::{choose_agent, has_fresh_agent, host_of, next_attempt, node_of};
use crate::{SILENCE, SeenMember, after, until};

/// Between probes of a location that works.
pub(super) const PERIOD: Duration = Duration::from_secs(300);
/// Shortest time between probes of one that does not.
const QUICK: SignedDuration = SignedDuration::from_secs(15);
/// Longest time between those; also the shortest between listings where nothing is left over from the last.
const SLOW: SignedDuration = SignedDuration::from_secs(60);
/// Between listings.
const LISTING_PERIOD: SignedDuration = SignedDuration::from_secs(600);
/// A probe that has not been answered for so long is given to another agent.
const PATIENCE: Duration = Duration::from_secs(45);
/// What a listing found is left to read for so long: the next task takes its place.
const TO_BE_READ: Duration = Duration::from_secs(5);
/// Until a location without any agent is looked at again; a new agent wakes it before.
const NO_AGENT_PAUSE: Duration = Duration::from_secs(30);

/// What the plan rests on.
pub(super) struct Tasks<'a> {
    /// The status, with what the last answer brought.
    pub(super) status: &'a EtcdBackupLocationStatus,
    /// Whether the spec changed since the last decision: a task under way may have read the old one.
    pub(super) spec_changed: bool,
    /// Whether the last answer is of another spec.
    pub(super) answer_is_outdated: bool,
    /// Whether the annotation that claims the prefix is another than the last probe saw.
    pub(super) take_over_changed: bool,
    /// Whether the location can be listed.
    pub(super) is_available: bool,
    /// What keeps it from being Ready.
    pub(super) trouble: Option<Reason>,
    pub(super) unready_for: Option<SignedDuration>,
    pub(super) members: &'a [SeenMember],
    pub(super) unchanged_for: Duration,
    pub(super) newest_completion: Option<Timestamp>,
    /// When a run on it last failed for a reason that may be the location's.
    pub(super) newest_failure: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The plan.
pub(super) struct Plan {
    /// The next task, if it is time.
    pub(super) assignment: Option<Assignment>,
    /// Whether there is an agent that could act.
    pub(super) has_agent: bool,
    pub(super) look_again: Duration,
}

/// The task that was assigned last.
enum Last<'a> {
    None,
    /// Not answered yet.
    Asked(&'a Assignment),
    Answered(&'a Assignment, &'a LocationResult),
}

pub(super) fn plan_task(tasks: &Tasks<'_>) -> Plan {
    let Tasks { status, members, now, .. } = tasks;
    let previous = status.assignment.as_ref().map(|assignment| &assignment.node_name);
    let Some(node) = choose_agent(members, previous, owners(status)) else {
        return Plan { assignment: None, has_agent: false, look_again: NO_AGENT_PAUSE };
    };
    let (task, due) = next_task(tasks);
    if due > *now {
        return Plan { assignment: None, has_agent: true, look_again: until(due, *now) };
    }
    let attempt = next_attempt(status.assignment.as_ref(), status.execution.as_ref());
    let assignment = Assignment { node_name: node, attempt, task, time: Time(*now) };
    Plan { assignment: Some(assignment), has_agent: true, look_again: patience(task) }
}

/// The next task, and when it is due.
fn next_task(tasks: &Tasks<'_>) -> (Task, Timestamp) {
    let Tasks { spec_changed, answer_is_outdated, take_over_changed, unchanged_for, now, .. } = tasks;
    match last_task(tasks) {
        Last::None => (Task::Probe, *now),
        Last::Answered(..) if *answer_is_outdated => (Task::Probe, *now),
        // An agent of an older version never sees the annotation; it must not be asked without a pause.
        Last::Answered(asked, _) if *take_over_changed => (Task::Probe, after(asked.time.0, QUICK)),
        Last::Asked(_) if *spec_changed => (Task::Probe, *now),
        // Whoever does not answer may have been hindered by the location.
        Last::Asked(asked) => (Task::Probe, after(*now, seconds(patience(asked.task).saturating_sub(*unchanged_for)))),
        Last::Answered(asked, answer) => {
            let (task, due) = after_answer(asked, answer, tasks);
            let is_read = after(*now, seconds(TO_BE_READ.saturating_sub(*unchanged_for)));
            (task, if is_listing(asked.task) { due.max(is_read) } else { due })
        }
    }
}

/// Whether a location's task lists its archives; else it tries the location out.
pub(super) const fn is_listing(task: Task) -> bool {
    match task {
        Task::Catalog => true,
        Task::Probe
        | Task::Backup
        | Task::Import
        | Task::Verify
        | Task::Pin
        | Task::Delete
        | Task::Plan
        | Task::Order => false,
    }
}

/// How long an agent may say nothing new. A listing goes on for as long as there are archives to import, and says so every
/// minute.
const fn patience(task: Task) -> Duration {
    if is_listing(task) { SILENCE } else { PATIENCE }
}

fn last_task<'a>(tasks: &'a Tasks<'_>) -> Last<'a> {
    let is_ours = |assignment: &&Assignment| matches!(assignment.task, Task::Probe | Task::Catalog);
    let Some(assignment) = tasks.status.assignment.as_ref().filter(is_ours) else { return Last::None };
    let own = tasks.status.execution.as_ref().filter(|execution| execution.is_of(assignment));
    match own.and_then(|execution| execution.result.as_ref()) {
        Some(answer) => Last::Answered(assignment, answer),
        None => Last::Asked(assignment),
    }
}

fn after_answer(asked: &Assignment, answer: &LocationResult, tasks: &Tasks<'_>) -> (Task, Timestamp) {
    let probe = (Task::Probe, next_probe(asked, answer, tasks));
    if !tasks.is_available {
        return probe;
    }
    let listing = (Task::Catalog, next_listing(asked, answer, tasks));
    // Of two that are due the probe goes first, however long they have been due; it takes seconds.
    if listing.1.max(tasks.now) < probe.1 { listing } else { probe }
}

fn next_probe(asked: &Assignment, answer: &LocationResult, tasks: &Tasks<'_>) -> Timestamp {
    let Tasks { status, trouble, unready_for, members, newest_failure, now, .. } = tasks;
    if asked.task == Task::Catalog && answer.error.is_some() {
        // Whether the location is to blame is for a probe to say.
        return *now;
    }
    // A time that lies ahead is of a clock that was wrong.
    let probed = status.last_probe_time.as_ref().map(|time| time.0).filter(|time| time <= now);
    let Some(probed) = probed else { return *now };
    let is_in_doubt = newest_failure.is_some_and(|failed| failed > probed && failed <= *now);
    let period = match trouble {
        // Runs meet trouble long before the next probe would.
        None if is_in_doubt => QUICK,
        // A new master may not write before an owner's probe has added it.
        None if lacks_master(status, members) => SLOW,
        // Whether all see the same directory is not known before each has looked.
        None if lacks_sight(status, members) => SLOW,
        None => seconds(PERIOD),
        Some(Reason::AccessDenied | Reason::OwnedByAnother | Reason::NotSupported) => SLOW,
        // Whatever else it is may pass soon; the longer it lasts, the more slowly it is asked.
        Some(_) => SignedDuration::from_secs(unready_for.unwrap_or_default().as_secs() / 4).clamp(QUICK, SLOW),
    };
    after(probed, period)
}

fn next_listing(asked: &Assignment, answer: &LocationResult, tasks: &Tasks<'_>) -> Timestamp {
    let Tasks { status, newest_completion, now, .. } = tasks;
    let Some(pass) = &status.catalog else { return *now };
    let CatalogPass { pass_id: _, time, full_pass_time: _, note: _, orphans: _, error } = pass;
    let Some(time) = time.as_ref().filter(|time| time.0 <= *now) else {
        // Records that are still to be made are made at once. Losses that are still to be told of wait: where a whole bucket
        // was lost, each listing reads every record to tell of some.
        let only_tells = answer.catalog.as_ref().is_some_and(|report| report.has_more && report.imported == 0);
        return if only_tells && asked.time.0 <= *now { after(asked.time.0, SLOW) } else { *now };
    };
    // Both in whole seconds: one that ended in the second of the question may have been too late for it.
    let is_outdated = newest_completion.is_some_and(|completion| completion >= time.0);
    after(time.0, if is_outdated || error.is_some() { SLOW } else { LISTING_PERIOD })
}

/// Hosts that may write there, where that is known.
fn owners(status: &EtcdBackupLocationStatus) -> Option<&[String]> {
    status.owner.as_ref().map(|owner| owner.hosts.as_slice())
}

/// Whether a master with an agent is not yet among the owners.
fn lacks_master(status: &EtcdBackupLocationStatus, members: &[SeenMember]) -> bool {
    let Some(owners) = owners(status) else { return false };
    let mut fresh = members.iter().filter(|seen| has_fresh_agent(seen));
    fresh.any(|seen| host_of(seen).is_some_and(|host| !owners.contains(host)))
}

/// Whether a master with an agent has not told yet which directory it sees, where others have.
fn lacks_sight(status: &EtcdBackupLocationStatus, members: &[SeenMember]) -> bool {
    let EtcdBackupLocationStatus { sights, .. } = status;
    let has_told = |seen: &SeenMember| sights.iter().any(|sight| sight.node_name == node_of(seen));
    !sights.is_empty() && members.iter().any(|seen| has_fresh_agent(seen) && !has_told(seen))
}

fn seconds(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
