//! What is fixed while a world lives.

use lifeboat_crds::journal::Inodes;
use lifeboat_crds::order::{
    EtcdClusterId, Order, OrderDigest, OrderedBackup, OrderedMember, OrderedRequest, OrderedSafety, OrderedTimeouts,
    RestoreId,
};
use lifeboat_crds::restore::RestartKubelets;
use lifeboat_protocol::Terms;
use std::time::Duration;

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
    let master = |index: usize| OrderedMember {
        node_name: format!("m{index}").as_str().into(),
        name: format!("m{index}"),
        peer_url: format!("https://m{index}:2380"),
        version: "3.6.16".to_owned(),
    };
    let mut order = Order {
        restore_id: RestoreId::new("lifeboat", "model", 1, "ab"),
        request: OrderedRequest {
            namespace: "lifeboat".to_owned(),
            name: "model".to_owned(),
            attempt: 1,
            nonce: "n".to_owned(),
            approval_code: String::new(),
        },
        cluster: "uid".to_owned(),
        old_cluster_id: OLD_CLUSTER,
        members: (0..members).map(master).collect(),
        lost: (members..NODES).map(master).collect(),
        lost_quorum_acknowledged: true,
        backup: OrderedBackup {
            backup_id: "20261124-020304-0123abcd".parse().unwrap(),
            cluster: "uid".to_owned(),
            sha256: "ab".to_owned(),
            content_hash: "cd".to_owned(),
            revision: 7,
        },
        token: "t".to_owned(),
        bump_to: BUMP_TO,
        author: "m0".into(),
        safety: OrderedSafety::Required,
        hold_before_release: false,
        restart_kubelets: RestartKubelets::None,
        timeouts: OrderedTimeouts { stage_seconds: 3600, outage_seconds: 900 },
        notices: vec![],
        loopback_api_servers: false,
        coordination: "uid/".to_owned(),
        sealed_keys: Default::default(),
        time: "2026-11-24T02:03:04Z".parse().unwrap(),
    };
    order.request.approval_code = order.approval_terms().code().unwrap();
    order
}

impl Setting {
    pub fn new(members: usize) -> Self {
        let order = order(members);
        let of = |member: &OrderedMember| Terms::of(&order, &digest(0), &member.node_name).unwrap();
        let terms = order.members.iter().map(of).collect();
        Self { members, separate_wal: false, list_all: true, differs: None, order, terms }
    }
}
