//! What the sealed order says, as far as this node needs it to decide. Pure; computed once, from the order alone.

use std::time::Duration;

use lifeboat_crds::NodeName;
use lifeboat_crds::order::{EtcdClusterId, Order, OrderDigest, OrderedSafety, RestoreId};
use lifeboat_crds::restore::RestartKubelets;

use crate::seat::{MOST_MEMBERS, Seat};

/// Longest time from Quiesce until all members are Prepared: everything is on every disk by then, so whoever is not
/// there soon is not coming (restore.md, Protocol).
pub const PREPARE_DEADLINE: Duration = Duration::from_secs(120);

/// The terms of a restore for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The restore.
    pub restore_id: RestoreId,
    /// Digest of the sealed order.
    pub order_digest: OrderDigest,
    /// This node's seat.
    pub seat: Seat,
    /// How many members take part.
    pub members: usize,
    /// etcd's cluster id before the restore.
    pub old_cluster_id: EtcdClusterId,
    /// Revision that the restored cluster goes on from.
    pub bump_to: i64,
    /// What is said of the safety backup, to the node that takes it; `None` for the others.
    pub safety: Option<OrderedSafety>,
    /// Waits after the decision for `lifeboat restore release`.
    pub hold_before_release: bool,
    /// Every API server uses the etcd of its own node only.
    pub loopback_api_servers: bool,
    /// This node's kubelet is restarted at the end.
    pub restart_kubelet: bool,
    /// Longest time until all members are stopped, from sealing.
    pub stage: Duration,
    /// Longest time from stopping until all are Prepared.
    pub prepare: Duration,
    /// Longest time without API, from stopping, before a Rollback is asked for.
    pub outage: Duration,
}

/// An order that gives this node nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The node is not among its members.
    #[error("this node is not among the members of the order")]
    NoPart,
    /// More than [`MOST_MEMBERS`].
    #[error("the order has more than nine members")]
    TooMany,
}

impl Terms {
    /// The terms for `node`, of the order with this digest.
    ///
    /// # Errors
    /// The node takes no part, or nobody can, because the order has too many members.
    pub fn of(order: &Order, digest: &OrderDigest, node: &NodeName) -> Result<Self, TermsError> {
        if order.members.len() > MOST_MEMBERS {
            return Err(TermsError::TooMany);
        }
        let seat_of = |name: &NodeName| order.members.iter().position(|member| member.node_name == *name);
        let seat = seat_of(node).ok_or(TermsError::NoPart)?;
        // An author that is no member itself leaves the safety backup to the first.
        let takes_safety = seat_of(&order.author).unwrap_or(0) == seat;
        let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            restore_id: order.restore_id.clone(),
            order_digest: digest.clone(),
            seat: Seat(u8::try_from(seat).map_err(|_| TermsError::TooMany)?),
            members: order.members.len(),
            old_cluster_id: order.old_cluster_id,
            bump_to: order.bump_to,
            safety: takes_safety.then_some(order.safety),
            hold_before_release: order.hold_before_release,
            loopback_api_servers: order.loopback_api_servers,
            restart_kubelet: match order.restart_kubelets {
                RestartKubelets::ControlPlane | RestartKubelets::All => true,
                RestartKubelets::None => false,
            },
            stage: seconds(order.timeouts.stage_seconds),
            prepare: PREPARE_DEADLINE,
            outage: seconds(order.timeouts.outage_seconds),
        })
    }
}
