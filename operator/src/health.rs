//! What the operator shows of itself over HTTP: what it waits for, and its metrics.

use std::fmt;
use std::sync::Arc;

use lifeboat_process::health::Health;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// What the server shows.
pub struct OperatorHealth {
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Arc<Metrics>,
}

impl Health for OperatorHealth {
    fn waits_for(&self) -> Vec<String> {
        self.readiness.waits_for()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::leadership::Gate;
    use crate::readiness::CacheState;
    use crate::stores::Stores;

    #[test]
    fn it_waits_for_every_cache_and_then_for_nothing() {
        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(Metrics::new(Stores::new("lifeboat").0, Gate::fixed(true)));
        let health = OperatorHealth { readiness: Arc::clone(&readiness), metrics };
        assert!(health.waits_for().iter().any(|line| line.contains("EtcdBackupSchedule:")));
        for kind in Kind::ALL {
            readiness.note(*kind, CacheState::Synced);
        }
        assert_eq!(health.waits_for(), Vec::<String>::new());
        assert!(health.metrics().unwrap().contains("lifeboat_operator_leader 1"));
    }
}
