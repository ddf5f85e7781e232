//! Labels and annotations under `etcd.lifeboat.dev/`.

/// Label on a backup: name of the schedule that made it.
pub const SCHEDULE: &str = "etcd.lifeboat.dev/schedule";
/// Annotation on a backup made by a schedule: the slot it serves, RFC 3339.
pub const SLOT: &str = "etcd.lifeboat.dev/slot";
/// Annotation on a schedule: any new value starts a run ("Backup now").
pub const RUN_NOW: &str = "etcd.lifeboat.dev/run-now";
/// Annotation on a backup: keep it for ever; the value says why.
pub const PIN: &str = "etcd.lifeboat.dev/pin";
/// Annotation on a backup: delete archive and record; the value must be the backupId.
pub const DELETE_ARCHIVE: &str = "etcd.lifeboat.dev/delete-archive";
/// Annotation on a backup found in the bucket: its backupId.
pub const IMPORTED: &str = "etcd.lifeboat.dev/imported";
/// Annotation on a location: claims a prefix that other hosts own; the value must be the UID of the cluster's kube-system.
pub const TAKE_OVER: &str = "etcd.lifeboat.dev/take-over";
/// Label of nodes that carry a control plane (kubeadm's).
pub const CONTROL_PLANE_NODE: &str = "node-role.kubernetes.io/control-plane";
/// Annotation on a restore: restore a backup of another cluster; the value must be the UID of that cluster's kube-system.
pub const ALLOW_OTHER_CLUSTER: &str = "etcd.lifeboat.dev/allow-other-cluster";
/// Annotation on a restore: restore a backup whose manifest no known key signed; the value must be the snapshot's SHA-256.
pub const TRUST: &str = "etcd.lifeboat.dev/trust";
/// Annotation on a restore that the operator made again after etcd was put back: its restoreId.
pub const RECREATED: &str = "etcd.lifeboat.dev/recreated";
/// Annotation on an EtcdMember: the restoreId of the last restore that an EtcdRestore was made again for, so that one that a
/// human deletes stays away.
pub const TOLD: &str = "etcd.lifeboat.dev/told-restore";
