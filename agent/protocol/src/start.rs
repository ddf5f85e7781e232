//! The beginning: who may write an order, and which order a node seals. Pure.
//!
//! Two may start at the same moment, on two masters or from two objects. An order is created only where none is; the slot
//! after the highest is created only where none is; and everybody, its author too, seals what the slot reads back as.

use lifeboat_crds::order::{ActiveSlot, OrderDigest, RestoreId};

/// What the author sees before each write.
#[derive(Clone, Copy, Debug)]
pub struct StartSeen<'a> {
    /// The restore to start.
    pub id: &'a RestoreId,
    /// Digest of `restores/<id>/order.json`, where there is one.
    pub order: Option<&'a OrderDigest>,
    /// The highest slot.
    pub slot: Option<&'a ActiveSlot>,
    /// Every member of that slot's order has ended, or is lost.
    pub slot_is_over: bool,
    /// This request, by namespace, name and attempt, has an outcome, or a journal on this node.
    pub already_ran: bool,
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
}

/// What the author of an order does next.
pub fn decide_start(seen: &StartSeen<'_>) -> Start {
    let StartSeen { id, order, slot, slot_is_over, already_ran } = *seen;
    if already_ran {
        return Start::Refuse(Refusal::AlreadyRan);
    }
    match slot {
        Some(slot) if slot.restore_id == *id => return Start::Follow,
        Some(_) if !slot_is_over => return Start::Refuse(Refusal::AnotherActive),
        Some(_) | None => {}
    }
    // Somebody else's order of the same restore counts as much as one's own: what is there is there.
    match order {
        None => Start::CreateOrder,
        Some(found) => Start::CreateSlot(ActiveSlot {
            number: slot.map_or(0, |slot| slot.number + 1),
            restore_id: id.clone(),
            order_digest: found.clone(),
        }),
    }
}

/// What a node sees of the highest slot.
#[derive(Clone, Copy, Debug)]
pub struct SealSeen<'a> {
    /// The slot as read.
    pub slot: &'a ActiveSlot,
    /// The order it names, as read and found authentic: its digest.
    pub order: Option<&'a OrderDigest>,
    /// The approval code computed again from the order is the approved one.
    pub approval_fits: bool,
    /// This node is among the members.
    pub takes_part: bool,
    /// Restores that this node has a journal of.
    pub known: &'a [RestoreId],
}

/// What a node does about the highest slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Write the order beside a new journal, and the first record.
    Seal,
    /// Nothing.
    Ignore(Ignored),
}

/// Why a slot is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// This node has a journal of it: a restore runs once.
    Known,
    /// This node is not among its members.
    NoPart,
    /// The order is missing, forged, or not the one that won the slot.
    NotTheOrder,
    /// What was approved is not what is ordered.
    NotApproved,
}

/// Whether a node seals the order of the highest slot.
pub fn decide_seal(seen: &SealSeen<'_>) -> Seal {
    let SealSeen { slot, order, approval_fits, takes_part, known } = *seen;
    if known.contains(&slot.restore_id) {
        Seal::Ignore(Ignored::Known)
    } else if order != Some(&slot.order_digest) {
        Seal::Ignore(Ignored::NotTheOrder)
    } else if !takes_part {
        Seal::Ignore(Ignored::NoPart)
    } else if !approval_fits {
        Seal::Ignore(Ignored::NotApproved)
    } else {
        Seal::Seal
    }
}
