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
