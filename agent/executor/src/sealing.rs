//! A node joins a restore: reads the newest slot that counts and seals its order, or says why not.

use std::path::Path;
use std::sync::Arc;

use lifeboat_crds::NodeName;
use lifeboat_crds::order::{EtcdClusterId, RestoreId};
use lifeboat_crds::signing::KnownKeys;
use lifeboat_protocol::Ledger;
use lifeboat_protocol::observed::Marks;
use lifeboat_protocol::start::{Ignored, Seal, SealSeen, SlotState, decide_seal};
use lifeboat_storage::ObjectStore;

use crate::directory::{DirectoryError, RestoreDirectory, find_restores, seal, take_turn};
use crate::journal::{JournalFileError, read_journal};
use crate::slots::{KnownRestoreKeys, Reader, SlotsError};
use lifeboat_crds::journal::Journal;

/// What a node knows of its own data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// This node.
    pub node: NodeName,
    /// Cluster id in the data in place.
    pub placed_cluster: Option<EtcdClusterId>,
    /// Peer URLs of the members that this node knows of; empty where neither its etcd nor its data says.
    pub peers: Vec<String>,
    /// A member is being re-initialised here, or waits to be.
    pub rejoins: bool,
}

/// What came of looking for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealOutcome {
    /// This node takes part from now on.
    Sealed(RestoreId, RestoreDirectory),
    /// No restore is under way, as far as this node can tell.
    Nothing,
    /// One is, and its key is not known here: it wants the join code.
    WantsJoinCode(RestoreId),
    /// One is, and this node does not take part.
    Ignored(RestoreId, Ignored),
}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The slots.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A journal.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
}

/// Looks for an order that counts, and seals it where this node is to take part.
///
/// # Errors
/// The store or the disk; nothing was sealed.
pub async fn seal_newest(
    lifeboat: &Path,
    (store, place): (&Arc<dyn ObjectStore>, &str),
    (known, keys): (&KnownKeys, &dyn KnownRestoreKeys),
    volume: &Volume,
) -> Result<SealOutcome, SealError> {
    let Volume { node, placed_cluster, peers, rejoins } = volume;
    let reader = Reader { store, place, known, keys, node };
    let slots = reader.read().await?;
    let newest = slots.iter().rev().find(|slot| slot.state != SlotState::Void);
    let Some(slot) = newest.filter(|slot| slot.state == SlotState::Active) else { return Ok(SealOutcome::Nothing) };
    let Some(proven) = &slot.proven else { return Ok(SealOutcome::Nothing) };
    let id = proven.slot.restore_id.clone();
    let Some(key) = &proven.key else { return Ok(SealOutcome::WantsJoinCode(id)) };
    let _turn = take_turn(lifeboat)?;
    let here = find_restores(lifeboat)?;
    let known_ids: Vec<RestoreId> = here.iter().map(|(id, _)| id.clone()).collect();
    let mut is_busy = false;
    for (_, directory) in &here {
        is_busy |= !has_ended(directory)?;
    }
    let order = &proven.received.order;
    let seat = order.members.iter().position(|member| member.node_name == *node);
    let own = seat.and_then(|seat| proven.marks.get(seat));
    let seen = SealSeen {
        slot: &proven.slot,
        order: Some((order, &proven.received.digest)),
        node,
        known: &known_ids,
        is_busy,
        rejoins: *rejoins,
        placed_cluster: *placed_cluster,
        peers,
        decision: proven.decision,
        has_marks: own.is_some_and(|marks| *marks != Marks::default()),
    };
    match decide_seal(&seen) {
        Seal::Seal => Ok(SealOutcome::Sealed(id, seal(lifeboat, &proven.received, &proven.bytes, key)?)),
        Seal::Ignore(reason) => Ok(SealOutcome::Ignored(id, reason)),
    }
}

/// Whether the restore of a directory is over here; one whose journal cannot be understood is not.
fn has_ended(directory: &RestoreDirectory) -> Result<bool, JournalFileError> {
    Ok(match read_journal(&directory.journal())? {
        Some(Ok(Journal::Entries { entries, good: _ })) => Ledger::sum(&entries).ended.is_some(),
        Some(Ok(Journal::EndedElsewhere { restore_id: _, outcome: _ })) => true,
        Some(Err(_)) | None => false,
    })
}
