//! The controller of EtcdRestores: this version says that it cannot restore.

use kube::runtime::reflector::Store;
use lifeboat_crds::{EtcdRestore, EtcdRestoreStatus};
use lifeboat_decisions::restore::{RestoreDecision, decide_restore};

use crate::apply::{Lock, ReconcileError, Written};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::stores::{Guarded, Stores};

/// The controller of EtcdRestores.
pub struct Restores;

impl Controller for Restores {
    type Kind = EtcdRestore;
    const NAME: &'static str = "restores";
    const CONCURRENCY: u16 = 2;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.restores
    }

    fn wakes(touched: &TouchedObject, _: &Stores) -> Vec<String> {
        match touched.kind {
            Kind::Restore => vec![touched.name.clone()],
            Kind::Location | Kind::Schedule | Kind::Backup | Kind::Member => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, restore: &EtcdRestore) -> Result<Next, ReconcileError> {
        let RestoreDecision { status, events } = decide_restore(restore, now());
        // The agents write `execution` and `nodes`.
        let before = restore.status.clone().unwrap_or_default();
        let current = EtcdRestoreStatus { execution: None, nodes: Vec::new(), ..before };
        let written = context.writer.apply_status(restore, &current, &status, Lock::Version).await?;
        if written == Written::Applied {
            context.events.publish(restore, "Restore", &events);
        }
        Ok(Next::after_write(written, Next::OnChange))
    }
}
