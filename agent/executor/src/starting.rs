//! The author of an order: draws it once, keeps it on this disk, publishes it, and takes the slot that makes it count.
//!
//! Killed anywhere and run again, it goes on with the same draft: a second draft under the same id would be a second
//! order, and the key of the first would be gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_crds::document::Envelope;
use lifeboat_crds::mac::{MacError, RestoreKey};
use lifeboat_crds::mark::{order_key, slot_key};
use lifeboat_crds::order::{ActiveSlot, Order, OrderDigest, ReceivedOrder, RestoreId};
use lifeboat_crds::signing::{KnownKeys, SigningKey};
use lifeboat_protocol::start::{Approved, OrderThere, Refusal, SlotState, Start, StartSeen, decide_start};
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore, PutMode, StoreError};
use serde_json::Value;

use crate::board::{BoardError, LARGEST_ORDER};
use crate::directory::{DirectoryError, find_restores, keep_draft, read_draft};
use crate::slots::{FoundSlot, KnownRestoreKeys, Reader, SlotsError};

/// Two authors at once need a round or two; more means that the store does not keep its promises.
const ROUNDS: usize = 8;

/// An order that is not published yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The order.
    pub order: Order,
    /// Its key, drawn for it.
    pub key: RestoreKey,
}

/// An order that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The restore.
    pub restore_id: RestoreId,
    /// The order in the slot. Another author's, where it was first.
    pub digest: OrderDigest,
    /// Its slot.
    pub slot: u64,
    /// The key of the draft that was published, which may be that of an earlier try.
    pub key: RestoreKey,
}

/// Why no order of this author counts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not to be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The slots.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The order cannot be written; has not been seen.
    #[error(transparent)]
    Document(#[from] MacError),
    /// The store does not keep what it was given.
    #[error("what is written to the store is not what is read there: it cannot coordinate a restore")]
    Unreliable,
}

/// Publishes an order and takes a slot for it. Safe to repeat: the draft of the first time is used again.
///
/// # Errors
/// Why the order does not count.
pub async fn start(
    lifeboat: &Path,
    store: &Arc<dyn ObjectStore>,
    draft: &Draft,
    author: Option<&SigningKey>,
    (known, keys): (&KnownKeys, &dyn KnownRestoreKeys),
) -> Result<Started, StartError> {
    let (draft, bytes) = settle_draft(lifeboat, draft, author)?;
    let own = ReceivedOrder::read(&bytes, known).map_err(MacError::from)?;
    let Draft { order, key } = &draft;
    let trust = AlsoOwn { keys, key, digest: &own.digest };
    let place = order.coordination.as_str();
    let reader = Reader { store, place, known, keys: &trust, node: &order.author };
    let approved = approval(order);
    let here: Vec<PathBuf> = find_restores(lifeboat)?
        .into_iter()
        .filter(|(id, _)| *id == order.restore_id)
        .map(|(_, directory)| directory.root().to_owned())
        .collect();
    for _ in 0..ROUNDS {
        let slots = reader.read().await?;
        let found = reader.get(&order_key(place, &order.restore_id), LARGEST_ORDER).await?;
        let there = found.map(|bytes| ReceivedOrder::read(&bytes, known).ok());
        let there_approved = there.as_ref().and_then(Option::as_ref).map(|received| approval(&received.order));
        let seen = StartSeen {
            id: &order.restore_id,
            approved: &approved,
            order: match (&there, &there_approved) {
                (None, _) => OrderThere::None,
                (Some(Some(received)), Some(approved))
                    if received.is_authored(Some(&received.digest).filter(|digest| trust.believes(digest))) =>
                {
                    OrderThere::Authentic { digest: &received.digest, approved }
                }
                (Some(_), _) => OrderThere::Forged,
            },
            slots: &slots.iter().map(FoundSlot::seen).collect::<Vec<_>>(),
            already_ran: !here.is_empty() || has_run(&slots, order),
        };
        match decide_start(&seen) {
            Start::CreateOrder => create(store, &order_key(place, &order.restore_id), bytes.clone()).await?,
            Start::CreateSlot(slot) => {
                let document = slot.publish(author).map_err(MacError::from)?;
                let bytes = document.to_bytes().map_err(MacError::from)?;
                create(store, &slot_key(place, slot.number), bytes.into()).await?;
            }
            Start::Follow => return following(&slots, &order.restore_id, key),
            Start::Refuse(refusal) => return Err(refusal.into()),
        }
    }
    Err(StartError::Unreliable)
}

/// Creates an object; one that is there already is read in the next round.
async fn create(store: &Arc<dyn ObjectStore>, key: &str, bytes: Bytes) -> Result<(), StartError> {
    let key = ObjectKey::parse(key).map_err(|_| SlotsError::from(BoardError::Name(key.to_owned())))?;
    match store.put(&key, bytes, PutMode::CreateNew).await {
        Err(error) if error.class() != ErrorClass::Conflict => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn following(slots: &[FoundSlot], id: &RestoreId, key: &RestoreKey) -> Result<Started, StartError> {
    let newest = slots.iter().rev().find(|slot| slot.state == SlotState::Active);
    let proven = newest.and_then(|slot| Some((slot.number, slot.proven.as_ref()?)));
    let ActiveSlot { number: _, restore_id, order_digest } =
        proven.map(|(_, proven)| &proven.slot).filter(|slot| slot.restore_id == *id).ok_or(StartError::Unreliable)?;
    let slot = proven.map_or(0, |(number, _)| number);
    Ok(Started { restore_id: restore_id.clone(), digest: order_digest.clone(), slot, key: key.clone() })
}

/// Whether the request was ordered before, under whatever id: its attempt names it.
fn has_run(slots: &[FoundSlot], order: &Order) -> bool {
    let is_same = |other: &Order| {
        let (one, two) = (&order.request, &other.request);
        (&one.namespace, &one.name, one.attempt) == (&two.namespace, &two.name, two.attempt)
    };
    let over = slots.iter().filter(|slot| slot.state == SlotState::Over);
    over.filter_map(|slot| slot.proven.as_ref()).any(|proven| is_same(&proven.received.order))
}

fn approval(order: &Order) -> Approved {
    Approved { nonce: order.request.nonce.clone(), code: order.request.approval_code.clone() }
}

/// The draft that lies here already, of the same approval, or this one, kept before anybody can see it.
fn settle_draft(lifeboat: &Path, draft: &Draft, author: Option<&SigningKey>) -> Result<(Draft, Bytes), StartError> {
    if let Some((kept, bytes)) = read_draft(lifeboat, &draft.order.restore_id)?
        && approval(&kept.order) == approval(&draft.order)
    {
        return Ok((kept, bytes));
    }
    let document: Envelope<Value> = draft.order.publish(author, &draft.key)?;
    let bytes = Bytes::from(document.to_bytes().map_err(MacError::from)?);
    keep_draft(lifeboat, draft, &bytes)?;
    Ok((draft.clone(), bytes))
}

/// What the author knows besides: its own order.
struct AlsoOwn<'a> {
    keys: &'a dyn KnownRestoreKeys,
    key: &'a RestoreKey,
    digest: &'a OrderDigest,
}

impl KnownRestoreKeys for AlsoOwn<'_> {
    fn key_of(&self, order: &Order, digest: &OrderDigest) -> Option<RestoreKey> {
        if digest == self.digest { Some(self.key.clone()) } else { self.keys.key_of(order, digest) }
    }

    fn believes(&self, digest: &OrderDigest) -> bool {
        digest == self.digest || self.keys.believes(digest)
    }
}
