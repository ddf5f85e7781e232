//! The controller of EtcdBackupLocations: has them probed, and says whether they can be used.

use std::time::Instant;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use lifeboat_crds::{EtcdBackupLocation, EtcdBackupLocationStatus};
use lifeboat_decisions::location::{LocationDecision, decide_location};

use crate::apply::{Lock, ReconcileError, Written};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::observe::observe_location;
use crate::stores::{Guarded, Stores};

/// The controller of EtcdBackupLocations.
pub struct Locations;

impl Controller for Locations {
    type Kind = EtcdBackupLocation;
    const NAME: &'static str = "locations";
    const CONCURRENCY: u16 = 4;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.locations
    }

    fn wakes(touched: &TouchedObject, stores: &Stores) -> Vec<String> {
        let TouchedObject { kind, name, schedule: _, location, is_heartbeat } = touched;
        match kind {
            Kind::Backup if *is_heartbeat => Vec::new(),
            Kind::Location => vec![name.clone()],
            Kind::Backup => location.iter().cloned().collect(),
            Kind::Member => stores.locations.state().iter().map(|location| location.name_any()).collect(),
            Kind::Schedule | Kind::Restore => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, location: &EtcdBackupLocation) -> Result<Next, ReconcileError> {
        let Context { stores, liveness, writer, events: sink, metrics: _, assignments: _ } = context;
        let observed = observe_location(location, stores, liveness, Instant::now());
        let LocationDecision { status, events, requeue_after } = decide_location(&observed, now());
        let current = EtcdBackupLocationStatus { execution: None, ..location.status.clone().unwrap_or_default() };
        let written = writer.apply_status(location, &current, &status, Lock::Version).await?;
        if written == Written::Applied {
            sink.publish(location, "Probe", &events);
        }
        Ok(Next::after_write(written, Next::After(requeue_after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::woken_by;

    fn woken(kind: Kind, name: &str, schedule: Option<&str>, location: Option<&str>) -> Vec<String> {
        woken_by::<Locations>(kind, name, schedule, location)
    }

    #[test]
    fn a_location_is_woken_by_its_backups_and_all_members() {
        assert_eq!(woken(Kind::Location, "bucket", None, None), ["bucket"]);
        assert_eq!(woken(Kind::Backup, "n1", Some("nightly"), Some("bucket")), ["bucket"]);
        assert_eq!(woken(Kind::Member, "m1", None, None), ["bucket"]);
        assert_eq!(woken(Kind::Schedule, "nightly", None, Some("bucket")), Vec::<String>::new());
    }
}
