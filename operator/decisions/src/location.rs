//! Whether a location can be used: has it tried out and listed by the agents in turn, and judges what they answer.
//!
//! The operator never talks to a store. It assigns the task Probe, more often while something is wrong, so that a
//! location recovers by itself soon after its store, Secret or bucket does; and the task Catalog, so that the records in
//! the API follow what lies in the bucket.

mod listing;
mod sights;
mod tasks;
mod verdict;

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::location::{AccessMode, LocationResult, S3Location, Sight, take_over};
use lifeboat_crds::{
    Assignment, ConditionStatus, ConditionType, EtcdBackupLocation, EtcdBackupLocationSpec, EtcdBackupLocationStatus,
    Reason, Task,
};

use crate::conditions::{Outcome, end_of_grace, is_observed, merge_conditions, since, unready_since};
use crate::event::EventDraft;
use crate::{SeenMember, until};
use tasks::{Plan, Tasks, plan_task};
use verdict::Verdict;

/// Tasks that may go unanswered before the last answer counts no more.
const UNANSWERED: i32 = 3;

/// What is known around a location.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedLocation {
    /// The location.
    pub location: EtcdBackupLocation,
    /// Every member.
    pub members: Vec<SeenMember>,
    /// How long assignment and execution were seen unchanged.
    pub execution_unchanged_for: Duration,
    /// When the newest run on it was seen to end well.
    pub newest_completion: Option<Timestamp>,
    /// When a try at a run on it was last seen to fail for a reason that may be the location's ([`may_be_to_blame`]).
    pub newest_failure: Option<Timestamp>,
}

/// What is to become of a location.
#[derive(Clone, Debug, PartialEq)]
pub struct LocationDecision {
    /// The operator's part of the status.
    pub status: EtcdBackupLocationStatus,
    /// What to tell.
    pub events: Vec<EventDraft>,
    /// When to look again if nothing happens.
    pub requeue_after: Duration,
}

/// Decides upon a location.
pub fn decide_location(observed: &ObservedLocation, now: Timestamp) -> LocationDecision {
    let ObservedLocation { location, members, execution_unchanged_for, newest_completion, newest_failure } = observed;
    let generation = location.metadata.generation.unwrap_or(0);
    let before = location.status.clone().unwrap_or_default();
    if let Some(words) = unsupported(&location.spec) {
        return refuse(location, before, &words, now);
    }
    let spec_changed = !is_observed(before.observed_generation, generation);
    let answer = latest_answer(&before, None);
    let judged = Verdict::of(location, &before, latest_answer(&before, Some(Task::Probe)), generation);
    let mut status = before.clone();
    if spec_changed {
        // It may be another bucket now: what was found in the old one is no fact of this one.
        status.catalog = None;
        status.conditional_writes = None;
        status.clock_skew_seconds = None;
        status.backups = None;
        status.owner = None;
        status.sights = Vec::new();
    }
    copy_facts(&mut status, generation);
    sights::keep_present(&mut status.sights, members);
    let judged = sights::disagreement(&status.sights)
        .filter(|_| judged.is_available())
        .map_or(judged, |message| Verdict::Unavailable { reason: Reason::VerificationFailed, message });
    listing::forget_before_restore(&mut status, members, now);
    let Plan { assignment, has_agent, look_again } = plan_task(&Tasks {
        status: &status,
        spec_changed,
        take_over_changed: latest_answer(&before, Some(Task::Probe))
            .is_some_and(|answer| answer.take_over != take_over(location)),
        answer_is_outdated: answer.is_some_and(|answer| answer.observed_generation != generation),
        is_available: judged.is_available(),
        trouble: judged.trouble().map(|(reason, _)| reason),
        unready_for: since(&before.conditions, ConditionType::Ready, ConditionStatus::False)
            .map(|since| now.duration_since(since)),
        members,
        unchanged_for: *execution_unchanged_for,
        newest_completion: *newest_completion,
        newest_failure: *newest_failure,
        now,
    });
    status.assignment = assignment.or(status.assignment);
    let unanswered = verdict::unanswered_tasks(status.assignment.as_ref(), before.execution.as_ref());
    let verdict = unanswered_words(has_agent, unanswered).map_or(judged, Verdict::unheard);
    let unready_since = unready_since(&before.conditions, now);
    let shown = verdict.shown(unready_since, now, status.catalog.as_ref());
    status.observed_generation = Some(generation);
    status.conditions = merge_conditions(&before.conditions, &shown, generation, now);
    status.execution = None;
    status.provider = Some(provider(&location.spec).to_owned());
    let mut events = tell(&before, &verdict);
    events.extend(listing::tell_imports(&before));
    events.extend(listing::tell_orphans(&before));
    // The grace of a missing Secret ends without anything happening.
    let grace = verdict.trouble().and_then(|_| end_of_grace(unready_since, now)).map(|end| until(end, now));
    let requeue_after = grace.map_or(look_again, |grace| grace.min(look_again));
    LocationDecision { events, status, requeue_after }
}

/// A field of the spec that this version accepts but cannot serve, in words.
///
/// Writing archives otherwise than the spec asks for would be worse than refusing.
pub fn unsupported(spec: &EtcdBackupLocationSpec) -> Option<String> {
    let EtcdBackupLocationSpec { s3, directory: _, access_mode: _, encryption: _ } = spec;
    let s3 = s3.as_ref();
    let names =
        [s3.is_some_and(|s3: &S3Location| s3.insecure_skip_tls_verify).then_some("spec.s3.insecureSkipTLSVerify")];
    let found: Vec<&str> = names.into_iter().flatten().collect();
    (!found.is_empty())
        .then(|| format!("not supported by this version: {}; remove it from the location", found.join(", ")))
}

/// Why no backup can ever be written there, in words.
pub fn refuses_archives(spec: &EtcdBackupLocationSpec, name: &str) -> Option<String> {
    match spec.access_mode {
        AccessMode::ReadWrite => None,
        AccessMode::ReadOnly => Some(format!(
            "location {name} is ReadOnly, so no backup can be written to it: use another location, or set its \
             accessMode to ReadWrite"
        )),
    }
}

/// Whether a run that failed for this reason says that its location should be tried out.
pub fn may_be_to_blame(reason: Reason) -> bool {
    use Reason::{
        AccessDenied, CredentialsMissing, EncryptionKeyMissing, LocationUnavailable, OwnedByAnother, UploadFailed,
    };
    [AccessDenied, CredentialsMissing, EncryptionKeyMissing, LocationUnavailable, OwnedByAnother, UploadFailed]
        .contains(&reason)
}

fn provider(spec: &EtcdBackupLocationSpec) -> &'static str {
    if spec.s3.is_some() { "S3" } else { "Directory" }
}

/// Why nothing can be heard of the location, where that is so.
fn unanswered_words(has_agent: bool, unanswered: i32) -> Option<String> {
    if !has_agent {
        let words = "no agent is there to try the location out: do the agents run on the control-plane nodes?";
        return Some(words.to_owned());
    }
    (unanswered >= UNANSWERED)
        .then(|| format!("the last {UNANSWERED} questions and more were not answered: see the logs of the agents"))
}

/// The newest answer that is still there to read, of the current task or of the one before it; only if it is to this
/// task, where one is named.
fn latest_answer(status: &EtcdBackupLocationStatus, task: Option<Task>) -> Option<&LocationResult> {
    let execution = status.execution.as_ref().filter(|execution| task.is_none_or(|task| execution.task == task));
    execution.and_then(|execution| execution.result.as_ref())
}

/// The answer to the current task, and when that was asked for.
fn current_answer(status: &EtcdBackupLocationStatus) -> Option<(&Assignment, &LocationResult)> {
    let assignment = status.assignment.as_ref()?;
    let execution = status.execution.as_ref().filter(|execution| execution.is_of(assignment))?;
    Some((assignment, execution.result.as_ref()?))
}

/// Copies what the answer to the current task brought to where people and other decisions read it.
fn copy_facts(status: &mut EtcdBackupLocationStatus, generation: i64) {
    let Some((assignment, answer)) = current_answer(status) else { return };
    let (asked, answer) = (assignment.clone(), answer.clone());
    let LocationResult {
        observed_generation,
        error,
        write_error: _,
        provider: _,
        conditional_writes,
        clock_skew_seconds,
        backups,
        time: _,
        owner,
        take_over: _,
        catalog,
        directory_id,
    } = answer;
    if !tasks::is_listing(asked.task) {
        status.last_probe_time = Some(asked.time.clone());
    }
    if observed_generation != generation {
        return;
    }
    // What a failed probe could not find out is still as it was.
    status.conditional_writes = conditional_writes.or(status.conditional_writes);
    status.clock_skew_seconds = clock_skew_seconds.or(status.clock_skew_seconds);
    status.backups = backups.or(status.backups.take());
    status.owner = owner.or(status.owner.take());
    if let Some(directory_id) = directory_id {
        sights::note(&mut status.sights, Sight { node_name: asked.node_name.clone(), directory_id });
    }
    if tasks::is_listing(asked.task) {
        listing::note_pass(status, asked.time, catalog, error);
    }
}

fn refuse(
    location: &EtcdBackupLocation,
    before: EtcdBackupLocationStatus,
    words: &str,
    now: Timestamp,
) -> LocationDecision {
    let generation = location.metadata.generation.unwrap_or(0);
    let outcome = Outcome::failed(Reason::NotSupported, words);
    let shown = Verdict::unknown_with(outcome.shown(), Reason::NotSupported, words);
    let status = EtcdBackupLocationStatus {
        observed_generation: Some(generation),
        conditions: merge_conditions(&before.conditions, &shown, generation, now),
        execution: None,
        provider: Some(provider(&location.spec).to_owned()),
        ..before
    };
    LocationDecision { status, events: Vec::new(), requeue_after: tasks::PERIOD }
}

/// An event when a location stops working, or stops for another reason than before.
fn tell(before: &EtcdBackupLocationStatus, verdict: &Verdict) -> Vec<EventDraft> {
    let old = lifeboat_crds::condition::find(&before.conditions, ConditionType::Ready);
    let old = old.filter(|ready| ready.status == ConditionStatus::False.as_str());
    let trouble = verdict.trouble().filter(|(reason, _)| old.is_none_or(|old| old.reason != reason.as_str()));
    let event = trouble
        .map(|(reason, message)| EventDraft::new(EventReason::LocationUnavailable, format!("{reason}: {message}")));
    event.into_iter().collect()
}

#[cfg(test)]
#[path = "location_tests.rs"]
mod tests;
