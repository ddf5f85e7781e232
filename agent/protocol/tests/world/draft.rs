//! An order as tests need one, approved as it is.

use lifeboat_crds::order::{
    EtcdClusterId, Order, OrderedBackup, OrderedMember, OrderedRequest, OrderedSafety, OrderedTimeouts, RestoreId,
};
use lifeboat_crds::restore::RestartKubelets;

/// A master of this name.
pub fn master(name: &str) -> OrderedMember {
    OrderedMember {
        node_name: name.into(),
        name: name.to_owned(),
        peer_url: format!("https://{name}:2380"),
        version: "3.6.16".to_owned(),
    }
}

/// An order for these members, without those lost.
pub fn order(members: &[&str], lost: &[&str]) -> Order {
    let masters = |names: &[&str]| names.iter().copied().map(master).collect();
    approved(Order {
        restore_id: RestoreId::new("ns", "a", 1, "ab"),
        request: OrderedRequest {
            namespace: "ns".to_owned(),
            name: "a".to_owned(),
            attempt: 1,
            nonce: "n".to_owned(),
            approval_code: String::new(),
        },
        cluster: "uid".to_owned(),
        old_cluster_id: EtcdClusterId(1),
        members: masters(members),
        lost: masters(lost),
        lost_quorum_acknowledged: false,
        backup: OrderedBackup {
            backup_id: "20261124-020304-0123abcd".parse().unwrap(),
            cluster: "uid".to_owned(),
            sha256: "ab".to_owned(),
            content_hash: "cd".to_owned(),
            revision: 7,
        },
        token: "t".to_owned(),
        bump_to: 1_000_000_000,
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
    })
}

/// The same, with the code of what it says.
pub fn approved(mut order: Order) -> Order {
    order.request.approval_code = order.approval_terms().code().unwrap();
    order
}
