//! Restores: this version cannot carry them out and says so at once, instead of looking as if it went on.

use jiff::Timestamp;
use lifeboat_crds::{EtcdRestore, EtcdRestoreSpec, EtcdRestoreStatus, Reason};

use crate::conditions::{Outcome, merge_conditions};
use crate::event::EventDraft;

/// What is to become of a restore.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoreDecision {
    /// The operator's part of the status.
    pub status: EtcdRestoreStatus,
    /// What to tell.
    pub events: Vec<EventDraft>,
}

/// Decides upon a restore. Not `Failed`: a later version that can restore finds it as it was asked for, to be planned
/// and approved.
pub fn decide_restore(restore: &EtcdRestore, now: Timestamp) -> RestoreDecision {
    let EtcdRestoreSpec { cluster, member, approval: _, attempt: _, cancel: _ } = &restore.spec;
    let kind = match (cluster, member) {
        (Some(_), _) => Some("Cluster".to_owned()),
        (None, Some(_)) => Some("Member".to_owned()),
        (None, None) => None,
    };
    let generation = restore.metadata.generation.unwrap_or(0);
    let before = restore.status.clone().unwrap_or_default();
    let outcome = Outcome::failed(
        Reason::NotSupported,
        "this version of Lifeboat makes and verifies backups, but does not restore them yet: fetch the archive with \
         stock tools, unpack it with zstd -d, and restore it with etcdutl snapshot restore",
    );
    let status = EtcdRestoreStatus {
        observed_generation: Some(generation),
        phase: Some("NotSupported".to_owned()),
        conditions: merge_conditions(&before.conditions, &outcome.shown(), generation, now),
        kind,
        // The agents' parts.
        execution: None,
        nodes: Vec::new(),
        ..before
    };
    RestoreDecision { status, events: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::{Show, assert_shown, at};
    use serde_json::json;

    #[test]
    fn a_restore_is_refused_at_once_with_its_kind() {
        for (spec, kind) in [
            (json!({"cluster": {"from": {"backupRef": {"name": "b"}}}}), "Cluster"),
            (json!({"member": {"nodeName": "m1"}}), "Member"),
        ] {
            let mut restore: EtcdRestore = serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1",
                "kind": "EtcdRestore", "metadata": {"name": "r", "generation": 1}, "spec": spec,
                "status": {"observedGeneration": -1}}))
            .unwrap();
            let RestoreDecision { status, events } = decide_restore(&restore, at(0));
            assert!(events.is_empty());
            assert_eq!(status.kind.as_deref(), Some(kind));
            restore.status = Some(status.clone());
            assert_shown(&serde_json::to_value(&restore).unwrap(), Show::Failed("NotSupported"), "etcdutl");
            assert_eq!(decide_restore(&restore, at(500)).status, status, "and that does not change");
        }
    }
}
