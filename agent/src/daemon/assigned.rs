//! What an assigned object asks of this agent. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use lifeboat_crds::{Assignment, Execution, NodeName};

/// One piece of work: which object, and which assignment of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkId {
    /// UID of the object: one that was deleted and made again is another.
    pub uid: String,
    /// The assignment's attempt.
    pub attempt: i32,
}

/// What is known of an object, reduced to what the decision needs.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'o> {
    /// UID of the object.
    pub uid: &'o str,
    /// Who is to do what.
    pub assignment: Option<&'o Assignment>,
    /// Whether the execution in the object is of that assignment and has a result.
    pub has_result: bool,
    /// Whether the run is over, whoever ended it.
    pub is_over: bool,
}

impl<'o> Seen<'o> {
    /// Reduces the work of an object.
    pub fn of<R>(
        uid: &'o str,
        assignment: Option<&'o Assignment>,
        execution: Option<&Execution<R>>,
        is_over: bool,
    ) -> Self {
        let has_result = match (assignment, execution) {
            (Some(assignment), Some(execution)) => execution.is_of(assignment) && execution.result.is_some(),
            (Some(_) | None, _) => false,
        };
        Self { uid, assignment, has_result, is_over }
    }
}

/// What to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Attempts of it that run and must end.
    pub cancel: Vec<WorkId>,
    /// The attempt to begin.
    pub start: Option<WorkId>,
}

/// Decides from an object and the work that runs.
///
/// An execution without result from a process that no longer lives is begun again: only one agent acts on a host, so
/// what is not running here runs nowhere (docs/adr/003).
pub fn decide_work<T>(me: &NodeName, seen: Seen<'_>, running: &HashMap<WorkId, T>) -> Step {
    let Seen { uid, assignment, has_result, is_over } = seen;
    let mine = assignment.filter(|assignment| assignment.node_name == *me && !is_over);
    let wanted = mine.map(|assignment| WorkId { uid: uid.to_owned(), attempt: assignment.attempt });
    let cancel = running.keys().filter(|id| id.uid == uid && Some(*id) != wanted.as_ref()).cloned().collect();
    let start = wanted.filter(|id| !has_result && !running.contains_key(id));
    Step { cancel, start }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use lifeboat_crds::{Task, Time};

    fn assignment(node: &str, attempt: i32) -> Assignment {
        Assignment { node_name: node.into(), attempt, task: Task::Backup, time: Time(Timestamp::UNIX_EPOCH) }
    }

    fn id(attempt: i32) -> WorkId {
        WorkId { uid: "u".into(), attempt }
    }

    fn decide(
        assignment: Option<&Assignment>,
        has_result: bool,
        is_over: bool,
        running: &[i32],
    ) -> (Vec<i32>, Option<i32>) {
        let running = running.iter().map(|attempt| (id(*attempt), ())).collect();
        let Step { mut cancel, start } =
            decide_work(&"m1".into(), Seen { uid: "u", assignment, has_result, is_over }, &running);
        cancel.sort_by_key(|id| id.attempt);
        (cancel.into_iter().map(|id| id.attempt).collect(), start.map(|id| id.attempt))
    }

    #[test]
    fn work_is_begun_once_and_ended_when_it_is_no_longer_ours() {
        let (mine, later, other) = (assignment("m1", 1), assignment("m1", 2), assignment("m2", 2));
        for (case, seen, expected) in [
            ("new", decide(Some(&mine), false, false, &[]), (vec![], Some(1))),
            ("running", decide(Some(&mine), false, false, &[1]), (vec![], None)),
            ("reported", decide(Some(&mine), true, false, &[]), (vec![], None)),
            ("the next attempt is ours too", decide(Some(&later), false, false, &[1]), (vec![1], Some(2))),
            ("given to another", decide(Some(&other), false, false, &[1]), (vec![1], None)),
            ("over", decide(Some(&mine), false, true, &[1]), (vec![1], None)),
            ("never assigned", decide(None, false, false, &[]), (vec![], None)),
            ("taken back", decide(None, false, false, &[1]), (vec![1], None)),
        ] {
            assert_eq!(seen, expected, "{case}");
        }
    }

    #[test]
    fn a_result_counts_only_for_its_own_assignment() {
        let execution = |attempt| Execution {
            node_name: "m1".into(),
            attempt,
            task: Task::Backup,
            stage: None,
            bytes_done: None,
            bytes_total: None,
            start_time: Time(Timestamp::UNIX_EPOCH),
            heartbeat_time: Time(Timestamp::UNIX_EPOCH),
            result: Some(()),
        };
        let second = assignment("m1", 2);
        assert!(Seen::of("u", Some(&second), Some(&execution(2)), false).has_result);
        assert!(!Seen::of("u", Some(&second), Some(&execution(1)), false).has_result);
    }
}
