//! Work: what the operator assigns to a node, and what the node's agent says of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identifier::NodeName;
use crate::{Reason, Time};

/// What an agent is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Task {
    /// Take a backup.
    Backup,
    /// Fill a backup's status from its manifest in the bucket (attempt 0).
    Import,
    /// Read an archive back and verify its content again.
    Verify,
    /// Write or remove `pin.json`.
    Pin,
    /// Delete an archive.
    Delete,
    /// Try out a location.
    Probe,
    /// List the manifests of a location.
    Catalog,
    /// Contribute to the plan of a restore.
    Plan,
    /// Write the order of a restore.
    Order,
}

/// Written by the operator: who is to do what. `attempt` fences agents that come late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct Assignment {
    /// Node whose agent is to act.
    pub node_name: NodeName,
    /// Counts the assignments of this object, from 1.
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// What to do.
    pub task: Task,
    /// When it was assigned.
    pub time: Time,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskError {
    /// One of the closed list of reasons.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What happened and what to do about it.
    #[schemars(length(max = 4096))]
    pub message: String,
}

impl TaskError {
    /// An error with its words, cut at the schema's 4,096 characters.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Self { reason: reason.as_str().to_owned(), message: message.as_ref().chars().take(4_096).collect() }
    }

    /// The reason as a value; one from a newer agent counts as a failed snapshot.
    pub fn reason(&self) -> Reason {
        Reason::parse(&self.reason).unwrap_or(Reason::SnapshotFailed)
    }
}

/// Written by the agent: how far the assigned task is, and its result. `R` is the result of the kind's tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic", "x-kubernetes-validations" = [{
    "rule": "self.attempt >= oldSelf.attempt",
    "message": "attempt never decreases",
}]))]
pub struct Execution<R> {
    /// Node whose agent writes.
    pub node_name: NodeName,
    /// The assignment's attempt.
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// The assignment's task.
    pub task: Task,
    /// What the agent does at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stage: Option<String>,
    /// Bytes read from etcd so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<i64>,
    /// Bytes expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<i64>,
    /// When the agent began.
    pub start_time: Time,
    /// When the agent last said so. Judged by how long it was seen unchanged, never against another clock.
    pub heartbeat_time: Time,
    /// Present once the task is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<R>,
}

impl<R> Execution<R> {
    /// Whether this execution is of that assignment.
    pub fn is_of(&self, assignment: &Assignment) -> bool {
        let Assignment { node_name, attempt, task, time: _ } = assignment;
        self.node_name == *node_name && self.attempt == *attempt && self.task == *task
    }
}

/// CEL rule at the status of every kind with work: an execution must be that of the assignment.
///
/// Tried on a real API server (design, examples): late, unassigned and forged attempts get 422.
pub(crate) const EXECUTION_IS_ASSIGNED: &str = "!has(self.execution) || (has(oldSelf.execution) && self.execution == oldSelf.execution) || \
(self.execution.task == 'Import' && self.execution.attempt == 0) || \
(has(self.assignment) && self.execution.nodeName == self.assignment.nodeName && \
self.execution.attempt == self.assignment.attempt && self.execution.task == self.assignment.task)";
/// Words of [`EXECUTION_IS_ASSIGNED`].
pub(crate) const EXECUTION_IS_ASSIGNED_MESSAGE: &str =
    "execution may only be written by the node, attempt and task of the current assignment";
