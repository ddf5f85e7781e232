//! The beginning: who may write an order, and which order a node seals. Pure.
//!
//! Two may start at the same moment, on two masters or from two objects. An order is created only where none is; the slot
//! after the highest that counts is created only where none is; and everybody, its author too, seals what the slot reads
//! back as. A slot counts only if it is authentic and the order that it names is: what somebody else left there stands in
//! nobody's way.

use lifeboat_crds::NodeName;
use lifeboat_crds::mark::Verdict;
use lifeboat_crds::order::{ActiveSlot, EtcdClusterId, Order, OrderDigest, RestoreId};

use crate::observed::DecisionSeen;
use crate::seat::MOST_MEMBERS;

/// What was approved: an order made from another approval is another order, also under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Nonce of the plan.
    pub nonce: String,
    /// The approval code.
    pub code: String,
}

/// What the author sees before each write.
#[derive(Clone, Copy, Debug)]
pub struct StartSeen<'a> {
    /// The restore to start.
    pub id: &'a RestoreId,
    /// What was approved for it.
    pub approved: &'a Approved,
    /// `restores/<id>/order.json`.
    pub order: OrderThere<'a>,
    /// All slots.
    pub slots: &'a [SlotSeen<'a>],
    /// This request, by namespace, name and attempt, has an outcome, or a journal on this node.
    pub already_ran: bool,
}

/// `restores/<id>/order.json` before it is slotted.
#[derive(Clone, Copy, Debug)]
pub enum OrderThere<'a> {
    /// There is none.
    None,
    /// Something lies there that nobody of this installation wrote.
    Forged,
    /// An authentic one.
    Authentic {
        /// Its digest.
        digest: &'a OrderDigest,
        /// What it was approved by.
        approved: &'a Approved,
    },
}

/// A slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotSeen<'a> {
    /// Its number, from the key.
    pub number: u64,
    /// The restore it names.
    pub restore_id: &'a RestoreId,
    /// Whether it counts.
    pub state: SlotState,
}

/// Whether a slot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Its order is under way.
    Active,
    /// Every member of its order has ended.
    Over,
    /// Nobody of this installation wrote it, or there is no authentic order that it names: it counts for nothing.
    Void,
    /// Its author's key is not known here, so nothing can be said of it.
    Unverifiable,
}

/// What of a slot could be proven.
#[derive(Clone, Copy, Debug)]
pub enum SlotProof<'a> {
    /// It is forged or unsigned, or its order is missing, forged, or not the one that it names.
    None,
    /// Slot or order are signed by a key that is not known here.
    UnknownKey,
    /// Both are authentic.
    Authentic {
        /// The slot.
        slot: &'a ActiveSlot,
        /// The order, and its digest as received.
        order: (&'a Order, &'a OrderDigest),
    },
}

/// What the store says of how far an order is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Nodes with an authentic mark of any step.
    pub begun: &'a [NodeName],
    /// Nodes with an authentic mark Ended.
    pub ended: &'a [NodeName],
    /// The authentic decision.
    pub decision: Option<Verdict>,
}

/// Whether the slot with this number in its key counts.
pub fn slot_state(number: u64, proof: SlotProof<'_>, progress: Progress<'_>) -> SlotState {
    match proof {
        SlotProof::None => SlotState::Void,
        SlotProof::UnknownKey => SlotState::Unverifiable,
        SlotProof::Authentic { slot, order: (order, digest) } => {
            let fits = slot.number == number && slot.restore_id == order.restore_id && slot.order_digest == *digest;
            match (fits, slot_is_over(order, progress)) {
                (false, _) => SlotState::Void,
                (true, true) => SlotState::Over,
                (true, false) => SlotState::Active,
            }
        }
    }
}

/// Whether every member of an order has ended; lost ones never do. A member that had not begun when the others rolled back
/// never will: it seals nothing that is decided.
pub fn slot_is_over(order: &Order, progress: Progress<'_>) -> bool {
    let Progress { begun, ended, decision } = progress;
    let rolled_back = decision == Some(Verdict::Rollback);
    let is_done = |node: &NodeName| ended.contains(node) || (rolled_back && !begun.contains(node));
    order.members.iter().all(|member| is_done(&member.node_name))
}

/// Whether order, marks and decision may be deleted. Not while a member is unfinished; and a Commit that left masters out
/// is what the guard of those goes by whenever they wake.
pub fn may_clean_up(order: &Order, progress: Progress<'_>) -> bool {
    let is_wanted = match progress.decision {
        Some(Verdict::Commit) => !order.lost.is_empty(),
        Some(Verdict::Rollback) => false,
        None => true,
    };
    slot_is_over(order, progress) && !is_wanted
}

/// What the author does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Create `order.json` from the draft, only where none is.
    CreateOrder,
    /// Create this slot, only where none is.
    CreateSlot(ActiveSlot),
    /// The slot is there: seal by it, as every other node.
    Follow,
    /// It is not to be.
    Refuse(Refusal),
}

/// Why an order is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It ran before.
    #[error("this restore ran before; to run the same request again, raise spec.attempt")]
    AlreadyRan,
    /// Another one is active.
    #[error("another restore is active; wait until it has ended on every member, or cancel it")]
    AnotherActive,
    /// The active slot cannot be judged.
    #[error(
        "the newest restore in the store was ordered with a key that is not known here; add its public key, or wait until it has ended"
    )]
    UnknownAuthor,
    /// An order of an earlier approval lies there.
    #[error(
        "an order of an earlier approval of this request lies in the store and was never run; raise spec.attempt, and approve the new plan"
    )]
    StaleOrder,
    /// Something else lies where the order belongs.
    #[error(
        "something that this installation did not write lies where the order belongs; find out who wrote it, then raise spec.attempt and approve the new plan"
    )]
    ForgedOrder,
    /// Numbers ended.
    #[error(
        "there is no free slot for another restore in the store; delete the slots that this installation did not write"
    )]
    NoSlot,
}

/// What the author of an order does next.
pub fn decide_start(seen: &StartSeen<'_>) -> Start {
    let StartSeen { id, approved, order, slots, already_ran } = *seen;
    if already_ran {
        return Start::Refuse(Refusal::AlreadyRan);
    }
    let newest = slots.iter().filter(|slot| slot.state != SlotState::Void).max_by_key(|slot| slot.number);
    match newest.map(|slot| (slot.state, slot.restore_id == id)) {
        Some((SlotState::Active, true)) => return Start::Follow,
        Some((SlotState::Active, false)) => return Start::Refuse(Refusal::AnotherActive),
        Some((SlotState::Unverifiable, _)) => return Start::Refuse(Refusal::UnknownAuthor),
        Some((SlotState::Over, true)) => return Start::Refuse(Refusal::AlreadyRan),
        Some((SlotState::Over, false) | (SlotState::Void, _)) | None => {}
    }
    match order {
        OrderThere::None => Start::CreateOrder,
        OrderThere::Forged => Start::Refuse(Refusal::ForgedOrder),
        OrderThere::Authentic { digest: _, approved: found } if found != approved => Start::Refuse(Refusal::StaleOrder),
        OrderThere::Authentic { digest, approved: _ } => match free_slot(newest.map(|slot| slot.number), slots) {
            Some(number) => {
                let (restore_id, order_digest) = (id.clone(), digest.clone());
                Start::CreateSlot(ActiveSlot { number, restore_id, order_digest })
            }
            None => Start::Refuse(Refusal::NoSlot),
        },
    }
}

/// The lowest number above the newest slot that counts, and that nothing lies at.
fn free_slot(newest: Option<u64>, slots: &[SlotSeen<'_>]) -> Option<u64> {
    let first = newest.map_or(Some(0), |number| number.checked_add(1))?;
    (first..=u64::MAX).find(|number| slots.iter().all(|slot| slot.number != *number))
}

/// What a node sees of the newest slot that counts.
#[derive(Clone, Copy, Debug)]
pub struct SealSeen<'a> {
    /// The slot as read.
    pub slot: &'a ActiveSlot,
    /// The order it names, as read and found authentic, and its digest as received.
    pub order: Option<(&'a Order, &'a OrderDigest)>,
    /// This node.
    pub node: &'a NodeName,
    /// Restores that this node has a journal of.
    pub known: &'a [RestoreId],
    /// One of those has not ended, or its journal cannot be read.
    pub is_busy: bool,
    /// A member is being re-initialised on this node, or waits to be.
    pub rejoins: bool,
    /// Cluster id in the data in place.
    pub placed_cluster: Option<EtcdClusterId>,
    /// Peer URLs of the members that this node knows of, from its etcd or its data; empty where neither says.
    pub peers: &'a [String],
    /// The decision of that order.
    pub decision: DecisionSeen,
    /// Marks of this node under that order lie in the store.
    pub has_marks: bool,
}

/// What a node does about the newest slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Write the order beside a new journal, byte for byte as it was read, and the first record.
    Seal,
    /// Nothing.
    Ignore(Ignored),
}

/// Why a slot is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// This node has a journal of it: a restore runs once.
    #[error("this restore ran here before")]
    Known,
    /// The order is missing, forged, or not the one that won the slot.
    #[error("the order is missing, forged, or not the one of its slot")]
    NotTheOrder,
    /// This node is not among its members.
    #[error("this node is not among the members of the order")]
    NoPart,
    /// More members than an order may have.
    #[error("the order has more than nine members")]
    TooMany,
    /// What was approved is not what is ordered.
    #[error("the order is not what was approved")]
    NotApproved,
    /// The lost masters are a quorum of the old cluster, and nobody acknowledged what that means.
    #[error("the masters called lost are a quorum of the old cluster, and that was not acknowledged")]
    LostQuorum,
    /// A master that this node knows is neither a member nor lost.
    #[error("the order leaves out a member of this cluster, neither taking part nor lost")]
    LeavesOut,
    /// It was decided already.
    #[error("the restore was decided before this node took part")]
    Decided,
    /// This node took part before: its marks are there and its journal is not. The data volume was replaced.
    #[error("this node took part in the restore before and has lost its journal: it must not take part twice")]
    HasMarks,
    /// Another restore is unfinished here.
    #[error("another restore has not ended on this node")]
    Busy,
    /// A member is being re-initialised here.
    #[error("the member of this node is being re-initialised")]
    Rejoins,
    /// The data here is not of the cluster that the order restores.
    #[error("the data on this node is not of the cluster that the order restores")]
    OtherCluster,
}

/// Whether a node seals the order of the newest slot. Each question is one that a safe restore needs answered yes.
pub fn decide_seal(seen: &SealSeen<'_>) -> Seal {
    let SealSeen { slot, order, node, known, is_busy, rejoins, placed_cluster, peers, decision, has_marks } = *seen;
    if known.contains(&slot.restore_id) {
        return Seal::Ignore(Ignored::Known);
    }
    let Some((order, _)) = order.filter(|(_, digest)| **digest == slot.order_digest) else {
        return Seal::Ignore(Ignored::NotTheOrder);
    };
    let takes_part = order.members.iter().any(|member| member.node_name == *node);
    let named = |peer: &String| order.members.iter().chain(&order.lost).any(|member| member.peer_url == *peer);
    let reasons = [
        (!takes_part, Ignored::NoPart),
        (order.members.len() > MOST_MEMBERS, Ignored::TooMany),
        (!order.is_as_approved(), Ignored::NotApproved),
        (order.loses_quorum() && !order.lost_quorum_acknowledged, Ignored::LostQuorum),
        (!peers.iter().all(named), Ignored::LeavesOut),
        (decision != DecisionSeen::Absent, Ignored::Decided),
        (has_marks, Ignored::HasMarks),
        (is_busy, Ignored::Busy),
        (rejoins, Ignored::Rejoins),
        (placed_cluster != Some(order.old_cluster_id), Ignored::OtherCluster),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(Seal::Ignore(reason))).unwrap_or(Seal::Seal)
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
