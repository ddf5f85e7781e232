//! Metrics of the agent: what this process did. What concerns objects is the operator's to show.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use lifeboat_crds::backup::BackupResult;
use lifeboat_process::health::Health;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::readiness::Readiness;
use crate::archive::progress::Stage;

/// How an attempt ended: `Succeeded` or the reason of the failure, a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// A stage of an attempt, a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// Makes the histogram of a stage: from a tenth of a second to half an hour and more.
fn stage_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.0, 15))
}

/// Handles of everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: Family<Outcome, Counter>,
    stages: Family<StageLabel, Histogram, fn() -> Histogram>,
    bytes_read: Counter,
    bytes_stored: Counter,
    member_usable: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("lifeboat");
        let attempts = Family::<Outcome, Counter>::default();
        registry.register("agent_backup_attempts", "Attempts at a backup, by outcome", attempts.clone());
        let stages = Family::<StageLabel, Histogram, fn() -> Histogram>::new_with_constructor(stage_histogram);
        registry.register_with_unit(
            "agent_backup_stage_duration",
            "How long the stages of attempts at a backup took",
            Unit::Seconds,
            stages.clone(),
        );
        let bytes_read = Counter::default();
        registry.register_with_unit(
            "agent_snapshot",
            "Snapshot bytes of backups that succeeded",
            Unit::Bytes,
            bytes_read.clone(),
        );
        let bytes_stored = Counter::default();
        registry.register_with_unit(
            "agent_archive",
            "Archive bytes of backups that succeeded",
            Unit::Bytes,
            bytes_stored.clone(),
        );
        let member_usable = Gauge::<i64, AtomicI64>::default();
        registry.register(
            "agent_member_usable",
            "1 while a backup could be taken from this node's etcd member, else 0",
            member_usable.clone(),
        );
        registry.register("agent_build", "Version of the agent", Info::new(vec![("version", version)]));
        Self { registry, attempts, stages, bytes_read, bytes_stored, member_usable }
    }

    /// Counts an attempt that ended.
    pub fn count_attempt(&self, result: &BackupResult) {
        let outcome = match (&result.archive, &result.error) {
            (Some(archive), _) => {
                self.bytes_read.inc_by(u64::try_from(archive.size_bytes).unwrap_or(0));
                self.bytes_stored.inc_by(u64::try_from(archive.stored_size_bytes).unwrap_or(0));
                "Succeeded"
            }
            (None, Some(error)) => error.reason().as_str(),
            (None, None) => return,
        };
        self.attempts.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts how long the stages of an attempt took.
    pub fn observe_stages(&self, durations: &[(Stage, Duration)]) {
        for (stage, duration) in durations {
            self.stages.get_or_create(&StageLabel { stage: stage.as_str() }).observe(duration.as_secs_f64());
        }
    }

    /// Notes whether the member can be used.
    pub fn set_member_usable(&self, usable: bool) {
        self.member_usable.set(i64::from(usable));
    }
}

/// What the agent shows of itself.
#[derive(Debug)]
pub struct AgentHealth {
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Arc<Metrics>,
}

impl Health for AgentHealth {
    fn waits_for(&self) -> Vec<String> {
        self.readiness.waits_for()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut shown = String::new();
        text::encode(&mut shown, &self.metrics.registry)?;
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::{Reason, TaskError};

    #[test]
    fn attempts_are_counted_by_outcome() {
        let metrics = Arc::new(Metrics::new("test"));
        let error = Some(TaskError::new(Reason::UploadFailed, "words"));
        metrics.count_attempt(&BackupResult { error, ..BackupResult::default() });
        metrics.observe_stages(&[(Stage::Reading, Duration::from_secs(3))]);
        let health = AgentHealth { readiness: Arc::default(), metrics };
        let shown = health.metrics().unwrap();
        assert!(shown.contains(r#"lifeboat_agent_backup_attempts_total{outcome="UploadFailed"} 1"#), "{shown}");
        assert!(shown.contains(r#"lifeboat_agent_backup_stage_duration_seconds_sum{stage="Reading"} 3.0"#), "{shown}");
    }

    #[test]
    fn the_reference_names_every_metric() {
        let reference = include_str!("../../../docs/reference/metrics.md");
        let metrics = Arc::new(Metrics::new("test"));
        let health = AgentHealth { readiness: Arc::default(), metrics };
        let shown = health.metrics().unwrap();
        let names = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            assert!(reference.contains(&format!("| `{name}")), "{name} is not in docs/reference/metrics.md");
        }
    }
}
