//! Metrics of the operator: handles for what the process counts, and gauges read from the caches at each scrape.
//!
//! What concerns objects is never stored: after a restart it is right at once, and it goes with its object. Only the
//! leader shows it, so that sums over replicas are right.

use std::fmt::{self, Debug, Formatter};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::leadership::Gate;
use crate::object_metrics::object_gauges;
use crate::stores::Stores;
use lifeboat_process::version::VERSION;

/// Labels of a failed reconcile. Both come from closed lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// Which controller.
    pub controller: &'static str,
    /// The error's variant.
    pub reason: &'static str,
}

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconcile_errors: Family<ErrorLabels, Counter>,
}

impl Metrics {
    /// Metrics over these caches.
    pub fn new(stores: Stores, gate: Gate) -> Self {
        let mut registry = Registry::with_prefix("lifeboat");
        let reconcile_errors = Family::<ErrorLabels, Counter>::default();
        registry.register(
            "reconcile_errors",
            "Reconciles that failed, by controller and reason",
            reconcile_errors.clone(),
        );
        registry.register("operator_build", "Version of the operator", Info::new(vec![("version", VERSION)]));
        registry.register_collector(Box::new(ObjectCollector { stores, gate }));
        Self { registry, reconcile_errors }
    }

    /// Counts a failed reconcile.
    pub fn count_error(&self, controller: &'static str, reason: &'static str) {
        self.reconcile_errors.get_or_create(&ErrorLabels { controller, reason }).inc();
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// A label or value could not be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// A gauge and its values by label.
pub struct GaugeRows {
    /// Name without prefix.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Labels and values.
    pub rows: Vec<(Vec<(&'static str, String)>, f64)>,
}

struct ObjectCollector {
    stores: Stores,
    gate: Gate,
}

impl Debug for ObjectCollector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCollector").finish_non_exhaustive()
    }
}

impl Collector for ObjectCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let is_leader = self.gate.may_write();
        encoder
            .encode_descriptor("operator_leader", "Whether this replica leads", None, MetricType::Gauge)?
            .encode_gauge(&i64::from(is_leader))?;
        if !is_leader {
            return Ok(());
        }
        for GaugeRows { name, help, rows } in object_gauges(&self.stores) {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in rows {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
