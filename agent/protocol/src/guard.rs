//! The guard: whether etcd and API server of this node may start at all, at boot before the kubelet and every minute
//! after. Pure.
//!
//! It looks at nodes that take no part: sleepers, which wake with the old cluster's data after a Commit, and nodes that an
//! order calls lost. What the executor of a restore under way holds is its own matter ([`at_boot`]).

use std::time::Duration;

use lifeboat_crds::journal::{Journal, JournalError};
use lifeboat_crds::mark::{Outcome, Verdict};
use lifeboat_crds::order::EtcdClusterId;

use crate::ledger::{Ledger, Phase};

/// How long the store may be silent before the peers are asked instead.
pub const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// What the guard sees.
#[derive(Clone, Copy, Debug)]
pub struct GuardSeen<'a> {
    /// Cluster id in the data directory; `None` where there is no data.
    pub own_cluster: Option<EtcdClusterId>,
    /// Orders in the store: all of them, not only the newest.
    pub orders: OrdersSeen<'a>,
    /// Cluster ids that the peers answer with, those that answer.
    pub peers: &'a [EtcdClusterId],
    /// The newest journal of this node ended by a human's word.
    pub ended_by_hand: bool,
}

/// Orders in the store.
#[derive(Clone, Copy, Debug)]
pub enum OrdersSeen<'a> {
    /// It has not answered for this long.
    Silent(Duration),
    /// The authentic ones.
    Answers(&'a [OrderFacts]),
}

/// One order, for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderFacts {
    /// The old cluster.
    pub old_cluster: EtcdClusterId,
    /// It names this node lost.
    pub names_me_lost: bool,
    /// Its authentic decision.
    pub decision: Option<Verdict>,
    /// This node's journal of it.
    pub journal: JournalSeen,
}

/// This node's journal of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalSeen {
    /// There is none.
    None,
    /// It is damaged, or of a later version that has not ended.
    Unreadable,
    /// The node is here in it.
    At(Phase),
}

impl JournalSeen {
    /// A journal as it was read.
    pub fn of(journal: &Result<Journal, JournalError>) -> Self {
        match journal {
            Ok(Journal::Entries { entries, good: _ }) => Self::At(Ledger::sum(entries).phase()),
            Ok(Journal::EndedElsewhere { restore_id: _, outcome }) => Self::At(Phase::Over(*outcome)),
            Err(_) => Self::Unreadable,
        }
    }

    /// Whether this node may hold what a Commit is about: then its executor knows better than the guard.
    const fn takes_part_in_a_commit(self) -> bool {
        match self {
            Self::At(Phase::InDoubt | Phase::Obeying(_) | Phase::Over(Outcome::Committed)) => true,
            Self::At(
                Phase::Staging
                | Phase::Gathering
                | Phase::Stopping
                | Phase::Exchanging
                | Phase::Serving
                | Phase::Leaving
                | Phase::Over(Outcome::RolledBack),
            )
            | Self::None
            | Self::Unreadable => false,
        }
    }
}

/// Whether etcd and API server may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// They may.
    Start,
    /// They may not.
    Hold(HoldReason),
}

/// Why they may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// A restore was committed while this node was away: re-initialise its member from the quorum.
    Sleeper,
    /// An order that is not decided calls this node lost.
    LostUndecided,
    /// The store is silent, and the peers run another cluster.
    PeersElsewhere,
    /// The store has been silent for a few seconds only.
    Asking,
}

/// Whether etcd and API server of a node may start.
pub fn decide_guard(seen: &GuardSeen<'_>) -> Guard {
    let GuardSeen { own_cluster, orders, peers, ended_by_hand } = *seen;
    match orders {
        OrdersSeen::Answers(orders) => {
            let reason = orders.iter().find_map(|order| reason_to_hold(*order, own_cluster));
            reason.map_or(Guard::Start, Guard::Hold)
        }
        OrdersSeen::Silent(_) if ended_by_hand => Guard::Start,
        OrdersSeen::Silent(since) if since < STORE_PATIENCE => Guard::Hold(HoldReason::Asking),
        OrdersSeen::Silent(_) if peers.iter().any(|peer| Some(*peer) != own_cluster) => {
            Guard::Hold(HoldReason::PeersElsewhere)
        }
        OrdersSeen::Silent(_) => Guard::Start,
    }
}

fn reason_to_hold(order: OrderFacts, own_cluster: Option<EtcdClusterId>) -> Option<HoldReason> {
    let OrderFacts { old_cluster, names_me_lost, decision, journal } = order;
    if journal.takes_part_in_a_commit() {
        return None;
    }
    let has_old_data = own_cluster == Some(old_cluster);
    // On the node that `kubeadm init` ran on, an empty directory boots a new cluster of one without any error.
    let has_none = names_me_lost && own_cluster.is_none();
    match decision {
        Some(Verdict::Commit) if has_old_data || has_none => Some(HoldReason::Sleeper),
        None if names_me_lost && (has_old_data || has_none) => Some(HoldReason::LostUndecided),
        Some(Verdict::Commit | Verdict::Rollback) | None => None,
    }
}

/// What may run at boot, before the kubelet, on a node with this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// This restore holds nothing back.
    Clear,
    /// Nothing: take the manifests away, an etcd-alone one too; the executor goes on from the journal.
    HoldAll,
}

/// What may run at boot. The journal lies in the data volume, so a volume attached to another machine brings it along.
/// What a journal promised that cannot be read is not known, so nothing starts.
pub fn at_boot(journal: &Result<Journal, JournalError>) -> Boot {
    match journal {
        Ok(Journal::Entries { entries, good: _ }) => may_boot(&Ledger::sum(entries)),
        Ok(Journal::EndedElsewhere { restore_id: _, outcome: _ }) => Boot::Clear,
        Err(_) => Boot::HoldAll,
    }
}

/// The same of a journal that was read.
pub fn may_boot(journal: &Ledger) -> Boot {
    let runs_as_configured = journal.quiesced_at.is_none() || journal.released;
    if runs_as_configured {
        return Boot::Clear;
    }
    match journal.phase() {
        Phase::Over(_) => Boot::Clear,
        Phase::Staging
        | Phase::Gathering
        | Phase::Stopping
        | Phase::Exchanging
        | Phase::Serving
        | Phase::InDoubt
        | Phase::Leaving
        | Phase::Obeying(_) => Boot::HoldAll,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
