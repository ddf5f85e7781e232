//! The slots in the bucket, read and proven: which order counts, and how far it is. Reads the store only.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_crds::NodeName;
use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::mark::{order_key, slot_of_key, slots_prefix};
use lifeboat_crds::order::{ActiveSlot, Order, OrderDigest, ReceivedOrder, RestoreId};
use lifeboat_crds::signing::{KnownKeys, SignatureState};
use lifeboat_protocol::observed::{DecisionSeen, Marks};
use lifeboat_protocol::start::{Progress, SlotProof, SlotSeen, SlotState, slot_state};
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore, StoreError};

use crate::board::{Board, BoardError, LARGEST_ORDER};

/// A slot has a few hundred bytes.
const LARGEST_SLOT: usize = 64 << 10;
/// Restores that one cluster ever had; more is not a list of ours.
const MOST_SLOTS: usize = 10_000;
/// The newest of them that are read.
const READ_SLOTS: usize = 64;

/// Why the slots are not known.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The board of a slot's order could not be read.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// Keys of restores that this node has, and whose orders it believes without a signature.
pub trait KnownRestoreKeys: Send + Sync {
    /// The key of this order: from its directory here, from what was sealed to this host in it, or from a join code.
    fn key_of(&self, order: &Order, digest: &OrderDigest) -> Option<RestoreKey>;

    /// Whether the order with this digest is believed whoever signed it: a human entered it with a join code, or it was
    /// sealed here.
    fn believes(&self, digest: &OrderDigest) -> bool;
}

/// What a slot in the bucket is.
#[derive(Debug)]
pub(crate) struct FoundSlot {
    pub number: u64,
    /// The restore that it names, proven or not; where it cannot be read, one that is nobody's.
    restore_id: RestoreId,
    pub state: SlotState,
    /// Slot and order, where both are authentic.
    pub proven: Option<Proven>,
}

/// A slot whose order is authentic.
#[derive(Debug)]
pub(crate) struct Proven {
    pub slot: ActiveSlot,
    pub received: ReceivedOrder,
    /// The order byte for byte.
    pub bytes: Bytes,
    /// Its key, where this node has it.
    pub key: Option<RestoreKey>,
    /// What lies on its board; nothing without the key.
    pub marks: Vec<Marks>,
    pub decision: DecisionSeen,
}

impl FoundSlot {
    pub(crate) const fn seen(&self) -> SlotSeen<'_> {
        SlotSeen { number: self.number, restore_id: &self.restore_id, state: self.state }
    }
}

/// Where slots are read from, and whom is believed.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    /// What [`Order::coordination`] says.
    pub place: &'a str,
    pub known: &'a KnownKeys,
    pub keys: &'a dyn KnownRestoreKeys,
    pub node: &'a NodeName,
}

impl Reader<'_> {
    /// The newest slots, lowest number first.
    pub(crate) async fn read(&self) -> Result<Vec<FoundSlot>, SlotsError> {
        let prefix = slots_prefix(self.place);
        let listed = self.store.list_all(&prefix, MOST_SLOTS).await?;
        let mut numbers: Vec<u64> =
            listed.iter().filter_map(|object| slot_of_key(self.place, object.key.as_str())).collect();
        numbers.sort_unstable();
        let newest = numbers.len().saturating_sub(READ_SLOTS);
        let mut found = Vec::new();
        for number in numbers.into_iter().skip(newest) {
            found.push(self.read_one(number).await?);
        }
        Ok(found)
    }

    async fn read_one(&self, number: u64) -> Result<FoundSlot, SlotsError> {
        let not_proven = |state, restore_id| Ok(FoundSlot { number, restore_id, state, proven: None });
        let nobodys = RestoreId::new("", "", 0, "");
        let key = lifeboat_crds::mark::slot_key(self.place, number);
        let Some(bytes) = self.get(&key, LARGEST_SLOT).await? else { return not_proven(SlotState::Void, nobodys) };
        let Ok((slot, signature)) = ActiveSlot::read(&bytes, self.known) else {
            return not_proven(SlotState::Void, nobodys);
        };
        let id = slot.restore_id.clone();
        let Some(bytes) = self.get(&order_key(self.place, &slot.restore_id), LARGEST_ORDER).await? else {
            return not_proven(SlotState::Void, id);
        };
        let Ok(received) = ReceivedOrder::read(&bytes, self.known) else { return not_proven(SlotState::Void, id) };
        let believed = Some(&slot.order_digest).filter(|digest| self.keys.believes(digest));
        match (&signature, &received.signature) {
            (SignatureState::Valid(_), SignatureState::Valid(_)) => {}
            _ if believed.is_some() && received.is_authored(believed) => {}
            (SignatureState::Unknown(_), SignatureState::Valid(_) | SignatureState::Unknown(_))
            | (SignatureState::Valid(_), SignatureState::Unknown(_)) => {
                return not_proven(slot_state(number, SlotProof::UnknownKey, NOTHING), id);
            }
            _ => return not_proven(SlotState::Void, id),
        }
        self.prove(number, slot, received, bytes).await
    }

    async fn prove(
        &self,
        number: u64,
        slot: ActiveSlot,
        received: ReceivedOrder,
        bytes: Bytes,
    ) -> Result<FoundSlot, SlotsError> {
        let ReceivedOrder { order, digest, .. } = &received;
        let key = self.keys.key_of(order, digest).filter(|key| received.check_key(key).is_ok());
        let (marks, decision) = match &key {
            Some(key) => {
                let mut board =
                    Board::new(Arc::clone(self.store), (order.clone(), digest.clone()), key.clone(), self.node);
                let sight = board.read().await?;
                (sight.marks, sight.decision)
            }
            None => (Vec::new(), DecisionSeen::Absent),
        };
        let nodes = |has: fn(&Marks) -> bool| -> Vec<NodeName> {
            let seats = order.members.iter().zip(&marks);
            seats.filter(|(_, marks)| has(marks)).map(|(member, _)| member.node_name.clone()).collect()
        };
        let begun = nodes(|marks| *marks != Marks::default());
        let ended = nodes(|marks| marks.ended.is_some());
        let decided = match decision {
            DecisionSeen::Made(verdict) => Some(verdict),
            DecisionSeen::Absent | DecisionSeen::Forged => None,
        };
        let progress = Progress { begun: &begun, ended: &ended, decision: decided };
        let state = slot_state(number, SlotProof::Authentic { slot: &slot, order: (order, digest) }, progress);
        let restore_id = slot.restore_id.clone();
        Ok(FoundSlot {
            number,
            restore_id,
            state,
            proven: Some(Proven { slot, received, bytes, key, marks, decision }),
        })
    }

    pub(crate) async fn get(&self, key: &str, largest: usize) -> Result<Option<Bytes>, SlotsError> {
        let key = ObjectKey::parse(key).map_err(|_| BoardError::Name(key.to_owned()))?;
        match self.store.get_small(&key, largest).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match error.class() {
                ErrorClass::Missing => Ok(None),
                ErrorClass::TooLarge => Ok(Some(Bytes::new())),
                _ => Err(error.into()),
            },
        }
    }
}

const NOTHING: Progress<'static> = Progress { begun: &[], ended: &[], decision: None };
