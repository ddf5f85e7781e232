//! Brings a file and its order into etcd's data volume, proven, so that the next start of etcd restores. Blocking I/O;
//! nothing is restored here.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::NodeError;
use super::node::Node;
use crate::host::crashsafe;
use crate::host::crashsafe::sync_directory;
use crate::host::highest_revision::HighestRevision;
use crate::host::tools::{Minor, find_restore_tool};
use crate::partial_file::PartialFile;
use crate::restore_engine::decision::decide_tool;
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::exchange;
use crate::restore_engine::identity::read_cluster_uids;
use crate::restore_engine::layout::{PRIVATE, Place, RestoreId};
use crate::restore_engine::order::{Minting, Order, OrderDocument, OrderMember, mint};
use crate::restore_engine::perform::{digest_of, live_cluster, read_order};
use crate::restore_engine::proof::{prove_database, prove_snapshot};
use crate::restore_engine::stage::{Owner, check_space};
use crate::restore_engine::standstill::{Lock, check_no_open_files, find_answering, lock_database};
use crate::snapshot_file::SaveError;

/// What is to be staged.
#[derive(Debug)]
pub struct Wanted<'w> {
    /// The snapshot.
    pub file: &'w Path,
    /// The order, where another master minted it.
    pub order: Option<&'w Path>,
    /// Members as the administrator gives them.
    pub members: &'w [OrderMember],
    /// UID of another cluster whose file this may be.
    pub other_cluster: Option<&'w str>,
    /// Version of etcd on this node, where the administrator tells.
    pub server: Option<Minor>,
}

/// What was staged.
#[derive(Debug)]
pub struct Staged {
    /// The order.
    pub order: Order,
    /// Its digest.
    pub digest: String,
    /// The order's file, if it was minted now.
    pub minted: Option<PathBuf>,
    /// What deserves attention, in words.
    pub remarks: Vec<String>,
}

/// Proves that nothing of etcd and no API server runs on this node, and keeps etcd from starting meanwhile.
///
/// # Errors
/// Something runs.
pub fn prove_stopped(node: &Node, place: &Place) -> Result<Option<Lock>, NodeError> {
    let lock = lock_database(&place.database())?;
    check_no_open_files(place)?;
    if let Some(address) = find_answering(&node.addresses()) {
        return Err(NodeError::Refused(format!(
            "something answers at {address}: stop etcd and the API server on this node first, and keep them stopped until every \
             master is ready"
        )));
    }
    Ok(lock)
}

/// Stages a file where nothing is pending, for who holds the lock of this node.
///
/// # Errors
/// Why not; nothing was changed then.
pub fn stage(
    node: &Node,
    place: &Place,
    _held: &Lock,
    wanted: &Wanted<'_>,
    stop: &AtomicBool,
) -> Result<Staged, NodeError> {
    let Wanted { file, order, members, other_cluster, server } = wanted;
    let _stopped = prove_stopped(node, place)?;
    exchange::check_places(place)?;
    let size = std::fs::metadata(file).map_err(RestoreError::disk("opened", file))?.len();
    // The file itself, and the data made of it.
    check_space(place, size.saturating_mul(2))?;
    let mut remarks = Vec::new();
    let partial = PartialFile::make(&place.restore_db()).map_err(SaveError::File)?;
    let proven = prove_snapshot(file, stop, |bytes| Ok(partial.write(bytes)?))?;
    check_cluster(file, place, *other_cluster)?;
    let (order, minted) = match order {
        Some(path) => (read_order(path)?, None),
        None => {
            let highest = HighestRevision::load(&node.state_dir).ok().and_then(|highest| highest.get());
            let live = read_live(place, stop, &mut remarks);
            let order = mint(&Minting {
                sha256: proven.sha256,
                size: proven.size,
                database: &proven.database,
                members,
                highest_seen: highest.max(live),
                own: &place.own,
                token: hex::encode(rand::random::<[u8; 16]>()),
                now: Timestamp::now(),
            })
            .map_err(RestoreError::from)?;
            (order, Some(order_path(file)))
        }
    };
    order.check(&place.own, &proven.sha256).map_err(RestoreError::from)?;
    let digest = digest_of(&order, file)?;
    // Its cluster lives here already, or did before another restore.
    if live_cluster(place)? == Some(order.cluster_id()) || exchange::was_ended(place, &RestoreId::of_digest(&digest))? {
        return Err(RestoreError::DoneBefore.into());
    }
    let known = server.or_else(|| node.discovery().version_hint.as_deref().and_then(Minor::of_version));
    let minor = decide_tool(order.snapshot.etcd, known).map_err(RestoreError::Version)?;
    if !node.is_obeyed() {
        find_restore_tool(&node.tools_dir, minor).map_err(RestoreError::NoTool)?;
    }
    let bytes = OrderDocument::unsigned(order.clone())
        .to_bytes()
        .map_err(|source| RestoreError::BadOrder { path: order_path(file), source })?;
    if let Some(path) = &minted
        && !crashsafe::create_new(path, &bytes, PRIVATE)?
    {
        return Err(NodeError::Refused(format!(
            "{} exists already: give it with --order, so that every master restores alike",
            path.display()
        )));
    }
    // An etcd that was started meanwhile waits for the lock, and would run on the old data.
    check_no_open_files(place)?;
    put(place, partial, &bytes)?;
    Ok(Staged { order, digest, minted, remarks })
}

/// Where the order of a file is written: beside it.
fn order_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".order");
    file.with_file_name(name)
}

/// Whether the file is of the cluster whose data lies here, as far as both tell.
fn check_cluster(file: &Path, place: &Place, other: Option<&str>) -> Result<(), NodeError> {
    let of_file = read_cluster_uids(file).map_err(RestoreError::disk("read", file))?;
    let database = place.database();
    if !database.exists() {
        return Ok(());
    }
    let here = read_cluster_uids(&database).map_err(RestoreError::disk("read", &database))?;
    let is_named = other.is_some_and(|uid| of_file.contains(uid));
    if of_file.is_empty() || here.is_empty() || !of_file.is_disjoint(&here) || is_named {
        return Ok(());
    }
    let [of_file, here] = [of_file, here].map(|uids| uids.into_iter().collect::<Vec<_>>().join(", "));
    Err(NodeError::Refused(format!(
        "the file is of another cluster: its kube-system has UID {of_file}, that of this node's data {here}; if that is meant, \
         say --allow-other-cluster {of_file}"
    )))
}

/// The revision of this node's own data, which a restore must go beyond.
fn read_live(place: &Place, stop: &AtomicBool, remarks: &mut Vec<String>) -> Option<i64> {
    let database = place.database();
    if !database.exists() {
        return None;
    }
    match prove_database(&database, stop) {
        Ok(proven) => Some(proven.database.revision),
        Err(error) => {
            remarks.push(format!("the revision of this node's own data is not known: {error}"));
            None
        }
    }
}

/// Gives file and order their names; the file last, because its name is what starts the restore.
fn put(place: &Place, partial: PartialFile, order: &[u8]) -> Result<(), NodeError> {
    let owner = Owner::of(place)?;
    owner.give(partial.path())?;
    crashsafe::replace(&place.order(), order, PRIVATE)?;
    owner.give(&place.order())?;
    partial.place().map_err(SaveError::File)?;
    crashsafe::remove(&place.failed())?;
    Ok(sync_directory(&place.volume)?)
}
