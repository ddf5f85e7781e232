//! What was asked for, kept beside a restore: an API server that was put back does not know it any more.

use std::io;

use lifeboat_crds::finding::without_approval;
use lifeboat_crds::order::{Order, OrderedSafety};
use lifeboat_crds::restore::{ArchiveReference, ClusterRestore, RestoreSource, RestoreTimeouts, SafetyBackup};
use lifeboat_crds::{EtcdRestoreSpec, ObjectName};
use lifeboat_executor::RestoreDirectory;

use crate::host::crashsafe::{self, WriteError};

/// Beside the order.
const FILE: &str = "request.json";
/// More than the schema of EtcdMember takes is not read.
const LARGEST: usize = 16_384;

/// Keeps the spec of a request, without its approval.
///
/// # Errors
/// The disk.
pub fn keep_request(directory: &RestoreDirectory, spec: &EtcdRestoreSpec) -> Result<(), WriteError> {
    let text = serde_json::to_vec(&without_approval(spec)).unwrap_or_default();
    crashsafe::replace(&directory.root().join(FILE), &text, 0o600)
}

/// The request that a restore amounts to which was begun on a host.
pub fn request_of_host(order: &Order, location: &str) -> EtcdRestoreSpec {
    let archive = ArchiveReference {
        location_ref: ObjectName { name: location.to_owned() },
        backup_id: order.backup.backup_id.as_str().to_owned(),
    };
    let Order { lost, hold_before_release, restart_kubelets, timeouts, safety, .. } = order;
    EtcdRestoreSpec {
        cluster: Some(ClusterRestore {
            from: RestoreSource { archive: Some(archive), ..RestoreSource::default() },
            lost: lost.iter().map(|member| member.node_name.clone()).collect(),
            coordination_ref: None,
            hold_before_release: *hold_before_release,
            safety_backup: match safety {
                OrderedSafety::Required => SafetyBackup::Required,
                OrderedSafety::BestEffort => SafetyBackup::BestEffort,
                OrderedSafety::Skipped => SafetyBackup::Skip,
            },
            decryption: None,
            restart_kubelets: *restart_kubelets,
            timeouts: RestoreTimeouts {
                stage_seconds: timeouts.stage_seconds,
                outage_seconds: timeouts.outage_seconds,
            },
        }),
        member: None,
        approval: String::new(),
        attempt: 1,
        cancel: false,
    }
}

/// The spec that was kept, as JSON; nothing where none was, or it is too large to be told.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_request(directory: &RestoreDirectory) -> io::Result<Option<String>> {
    match std::fs::read_to_string(directory.root().join(FILE)) {
        Ok(text) => Ok(Some(text).filter(|text| text.len() <= LARGEST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
