//! What is fixed while a world lives.

use lifeboat_crds::journal::Inodes;
use lifeboat_crds::order::{EtcdClusterId, Order, OrderDigest, OrderedMember};
use lifeboat_protocol::Terms;
use std::time::Duration;

use super::draft;

/// Masters of the cluster, lost ones included.
pub const NODES: usize = 3;
/// etcd's cluster id before the restore.
pub const OLD_CLUSTER: EtcdClusterId = EtcdClusterId(1);
/// And after.
pub const NEW_CLUSTER: EtcdClusterId = EtcdClusterId(2);
/// Longer than every deadline.
pub const LATE: Duration = Duration::from_secs(1_000_000);
pub const BUMP_TO: i64 = 1_000_000_000;
pub const INODES: Inodes = Inodes { old_member: 1, new_member: 2, wal: None };

/// What is fixed while a world lives.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Masters that take part; those after them are lost.
    pub members: usize,
    /// The WAL lies in a directory of its own.
    pub separate_wal: bool,
    /// API servers use every etcd of the cluster, not only their own.
    pub list_all: bool,
    /// This member's staged data differs, and its staging did not see it.
    pub differs: Option<usize>,
    /// The order; drafts of it differ in their digest only.
    pub order: Order,
    /// Terms by seat.
    pub terms: Vec<Terms>,
}

/// Digest of a draft.
pub fn digest(draft: u8) -> OrderDigest {
    format!("{draft:064}").parse().unwrap()
}

fn order(members: usize) -> Order {
    let (members, lost) = ["m0", "m1", "m2"].split_at(members);
    let order = draft::order(members, lost);
    Order { old_cluster_id: OLD_CLUSTER, bump_to: BUMP_TO, lost_quorum_acknowledged: true, ..order }
}

impl Setting {
    pub fn new(members: usize) -> Self {
        let order = order(members);
        let of = |member: &OrderedMember| Terms::of(&order, &digest(0), &member.node_name).unwrap();
        let terms = order.members.iter().map(of).collect();
        Self { members, separate_wal: false, list_all: true, differs: None, order, terms }
    }
}
