//! EtcdBackupSchedule: when, where, how many to keep.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::EtcdBackupSpec;
use crate::reference::ObjectName;
use crate::{Condition, Time};

/// When etcd is backed up, where to, and how many backups are kept.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "etcd.lifeboat.dev",
    version = "v1alpha1",
    kind = "EtcdBackupSchedule",
    doc = "When etcd is backed up, where to, and how many backups are kept.",
    plural = "etcdbackupschedules",
    namespaced,
    status = "EtcdBackupScheduleStatus",
    derive = "PartialEq",
    shortname = "etcdbs",
    category = "lifeboat",
    validation = Rule::new("self.metadata.name.size() <= 40").message("choose a name of at most 40 characters: backups append a time to it").reason(Reason::FieldValueInvalid),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessTime"),
    printcolumn(name = "Last", type_ = "string", json_path = r#".status.conditions[?(@.type=="LastBackupSucceeded")].reason"#),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRunTime"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Timezone", type_ = "string", priority = 1, json_path = ".spec.timeZone"),
    printcolumn(name = "Kept", type_ = "integer", priority = 1, json_path = ".status.retained.count"),
    printcolumn(name = "Location", type_ = "string", priority = 1, json_path = ".spec.template.spec.locationRef.name"),
    printcolumn(name = "Message", type_ = "string", priority = 1, json_path = r#".status.conditions[?(@.type=="Ready")].message"#)
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupScheduleSpec {
    /// Five fields (minute, hour, day of month, month, day of week), or @hourly, @daily, @midnight, @weekly, @monthly,
    /// @yearly, @annually.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// IANA name of the time zone the schedule is meant in.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Starts no runs by itself while true. Running ones finish; the annotation run-now still starts one.
    #[serde(default)]
    pub suspend: bool,
    /// Takes the first backup at once instead of waiting for the first slot.
    #[serde(default)]
    pub run_on_create: bool,
    /// A missed run is caught up, once, within this time, seconds. Without it: half the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// Spreads the runs of several schedules: each is late by a fixed part of this, seconds.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub jitter_seconds: i64,
    /// What to do when a slot comes while the last run goes on.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Runs on this many members at once; each makes its own backup.
    #[serde(default = "default_copies")]
    #[schemars(range(min = 1, max = 9))]
    pub copies: i32,
    /// Which backups are kept.
    #[serde(default)]
    pub retention: Retention,
    /// How many records of failed runs are kept.
    #[serde(default)]
    pub history: History,
    /// What each backup looks like.
    pub template: BackupTemplate,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}

fn default_copies() -> i32 {
    1
}

/// What to do when a slot comes while the last run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The slot is left out.
    #[default]
    Forbid,
    /// The running backup is given up for the new one.
    Replace,
}

/// Which backups of a schedule are kept. A backup that any rule keeps is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The newest so many.
    #[serde(default = "default_keep_last")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_last: i32,
    /// The newest of so many hours.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_hourly: i32,
    /// The newest of so many days.
    #[serde(default = "default_keep_daily")]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_daily: i32,
    /// The newest of so many weeks.
    #[serde(default = "default_keep_weekly")]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_weekly: i32,
    /// The newest of so many months.
    #[serde(default = "default_keep_monthly")]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_monthly: i32,
    /// The newest of so many years.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000))]
    pub keep_yearly: i32,
    /// Nothing older than this, days, whatever the other rules say; never below minimumHealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub max_age_days: Option<i32>,
    /// So many verified backups are never let go.
    #[serde(default = "default_minimum_healthy")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum_healthy: i32,
}

fn default_keep_last() -> i32 {
    7
}

fn default_keep_daily() -> i32 {
    7
}

fn default_keep_weekly() -> i32 {
    4
}

fn default_keep_monthly() -> i32 {
    6
}

fn default_minimum_healthy() -> i32 {
    3
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_last: default_keep_last(),
            keep_hourly: 0,
            keep_daily: default_keep_daily(),
            keep_weekly: default_keep_weekly(),
            keep_monthly: default_keep_monthly(),
            keep_yearly: 0,
            max_age_days: None,
            minimum_healthy: default_minimum_healthy(),
        }
    }
}

/// How many records of runs are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Records of failed runs. That of a succeeded one lives as long as its archive.
    #[serde(default = "default_history_failed")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed: i32,
}

fn default_history_failed() -> i32 {
    10
}

impl Default for History {
    fn default() -> Self {
        Self { failed: default_history_failed() }
    }
}

/// What each backup of a schedule looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackupTemplate {
    /// Labels and annotations of the backups.
    #[serde(default, skip_serializing_if = "TemplateMetadata::is_empty")]
    pub metadata: TemplateMetadata,
    /// Spec of the backups.
    pub spec: EtcdBackupSpec,
}

/// Labels and annotations of the backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl TemplateMetadata {
    /// Whether there are neither labels nor annotations.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// What is known of a schedule.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::status_default()))]
pub struct EtcdBackupScheduleStatus {
    /// Generation the operator last saw; -1 before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, LastBackupSucceeded, WithinObjective, Suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The schedule in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub description: Option<String>,
    /// Next run, RFC 3339 in the schedule's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next_run_time: Option<String>,
    /// The next three runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(max = 64)))]
    pub upcoming_runs: Vec<String>,
    /// Longest time between runs, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// Slot of the newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_time: Option<Time>,
    /// Completion of the newest good backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// The newest backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_ref: Option<ObjectName>,
    /// Value of the annotation run-now that was last obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_run_now: Option<String>,
    /// Runs that failed since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i32>,
    /// Greatest age the last success should have: 1.25 × interval + 900 s. Stays while the expression cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_seconds: Option<i64>,
    /// The good backups of this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<Retained>,
    /// Runs that go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub active: Vec<ObjectName>,
}

/// The good backups of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Retained {
    /// How many.
    pub count: i64,
    /// Bytes they take in the store.
    pub bytes: i64,
    /// Completion of the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
}
