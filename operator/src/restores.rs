//! The controller of EtcdRestores: has them planned and ordered, and says how far they are and how they ended.
//!
//! One at a time: of two that are approved at once the second must see the first.

use std::time::Instant;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use lifeboat_crds::{EtcdRestore, EtcdRestoreStatus};
use lifeboat_decisions::restore::{RestoreDecision, decide_restore, has_ended};

use crate::apply::{Lock, ReconcileError, Written};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::observe::{around_restore, observe_restore};
use crate::stores::{Guarded, Stores, readable};

/// The controller of EtcdRestores.
pub struct Restores;

impl Controller for Restores {
    type Kind = EtcdRestore;
    const NAME: &'static str = "restores";
    const CONCURRENCY: u16 = 1;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.restores
    }

    fn wakes(touched: &TouchedObject, stores: &Stores) -> Vec<String> {
        let TouchedObject { kind, name, schedule: _, location: _, is_heartbeat } = touched;
        match kind {
            Kind::Restore if *is_heartbeat => vec![name.clone()],
            Kind::Restore => {
                let mut woken = named(stores, |other| !has_ended(other) && other.name_any() != *name);
                woken.push(name.clone());
                woken
            }
            Kind::Backup if *is_heartbeat => Vec::new(),
            Kind::Backup | Kind::Location => named(stores, |restore| !has_ended(restore)),
            // How one ended is told by one master after the other.
            Kind::Member => named(stores, |_| true),
            Kind::Schedule => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, restore: &EtcdRestore) -> Result<Next, ReconcileError> {
        let around = around_restore(restore, &context.stores);
        let observed = observe_restore(restore, &around, &context.stores, &context.liveness, Instant::now());
        let RestoreDecision { status, events, requeue_after } = decide_restore(&observed, now());
        // The agents write `execution` and `nodes`.
        let before = restore.status.clone().unwrap_or_default();
        let current = EtcdRestoreStatus { execution: None, nodes: Vec::new(), ..before };
        let written = context.writer.apply_status(restore, &current, &status, Lock::Version).await?;
        if written == Written::Applied {
            context.events.publish(restore, "Restore", &events);
        }
        Ok(Next::after_write(written, requeue_after.map_or(Next::OnChange, Next::After)))
    }
}

/// Names of restores.
fn named(stores: &Stores, is_meant: impl Fn(&EtcdRestore) -> bool) -> Vec<String> {
    let restores = readable(&stores.restores);
    let restores = restores.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    restores.filter(|restore| is_meant(restore)).map(ResourceExt::name_any).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::{Fingerprint, LivenessTracker};
    use lifeboat_crds::label;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn object(kind: &str, name: &str, more: &Value) -> Value {
        let mut object = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "lifeboat", "uid": name}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    }

    /// Caches with a restore that has ended and one that has not, and what they could mean.
    fn stores() -> Stores {
        let request = json!({"cluster": {"from": {"latest": {"scheduleRef": {"name": "nightly"}}}}});
        let complete = json!([{"type": "Complete", "status": "True", "reason": "Restored", "message": "",
            "lastTransitionTime": "2026-11-24T00:00:00Z"}]);
        let backup = json!({"spec": {"locationRef": {"name": "bucket"}}});
        let mut nightly = object("EtcdBackup", "nightly-1", &backup);
        nightly["metadata"]["labels"] = json!({label::SCHEDULE: "nightly"});
        let (stores, mut writers) = Stores::new("lifeboat");
        writers.fill(
            &stores,
            &[
                object(
                    "EtcdRestore",
                    "ended",
                    &json!({"spec": request, "status": {"attempt": 1, "conditions": complete}}),
                ),
                object("EtcdRestore", "planned", &json!({"spec": request, "status": {"attempt": 1}})),
                object("EtcdBackupLocation", "bucket", &json!({"spec": {"s3": {"bucket": "abc"}}})),
                object("EtcdMember", "m1", &json!({"status": {}})),
                object("EtcdBackup", "by-hand", &backup),
                nightly,
            ],
        );
        stores
    }

    fn woken(kind: Kind, name: &str, is_heartbeat: bool) -> Vec<String> {
        let touched = TouchedObject { kind, name: name.into(), schedule: None, location: None, is_heartbeat };
        let mut names = Restores::wakes(&touched, &stores());
        names.sort();
        names
    }

    #[test]
    fn a_restore_that_is_not_over_is_woken_by_all_it_depends_on() {
        assert_eq!(woken(Kind::Restore, "planned", true), ["planned"]);
        assert_eq!(woken(Kind::Restore, "planned", false), ["planned"]);
        assert_eq!(woken(Kind::Restore, "gone", false), ["gone", "planned"]);
        assert_eq!(woken(Kind::Backup, "nightly-1", false), ["planned"]);
        assert_eq!(woken(Kind::Backup, "nightly-1", true), Vec::<String>::new());
        assert_eq!(woken(Kind::Location, "bucket", false), ["planned"]);
        assert_eq!(woken(Kind::Member, "m1", false), ["ended", "planned"], "each master tells how it ended");
    }

    #[test]
    fn a_restore_sees_what_it_could_mean_and_the_others() {
        let (stores, liveness, start) = (stores(), LivenessTracker::default(), Instant::now());
        let cached = |name: &str| crate::stores::get(&stores.restores, "lifeboat", name).unwrap();
        assert!(around_restore(&cached("ended"), &stores).is_empty(), "it means none any more");
        liveness.saw(Kind::Restore, "planned", Fingerprint::of(&1), start);
        let around = around_restore(&cached("planned"), &stores);
        let observed = observe_restore(&cached("planned"), &around, &stores, &liveness, start + Duration::from_secs(7));
        assert_eq!(observed.backups.iter().map(|backup| backup.name_any()).collect::<Vec<_>>(), ["nightly-1"]);
        assert_eq!(observed.others.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["ended"]);
        assert_eq!(observed.locations.keys().collect::<Vec<_>>(), ["bucket"]);
        assert_eq!((observed.members.len(), observed.execution_unchanged_for), (1, Duration::from_secs(7)));
    }
}
