//! Brings the backup of an order onto this disk: downloaded, decrypted, proven, made into new data beside the old, read back.
//!
//! Reads the store; writes below the restore's directory only. The old etcd may serve meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_crds::layout;
use lifeboat_crds::order::Order;
use lifeboat_crds::signing::KnownKeys;
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore};
use tokio_util::sync::CancellationToken;

use super::machine::{failed, permanent};
use crate::archive::encryption::Identities;
use crate::archive::read::ReadError;
use crate::archives::{FetchError, Target, Wanted, prove};
use crate::host::crashsafe;
use crate::host::stop_flag::StopFlag;
use crate::host::tools::{Minor, find_restore_tool};
use crate::manifest::{ManifestError, Manifests};
use crate::partial_file::PartialError;
use crate::restore_engine::decision::decide_tool;
use crate::restore_engine::layout::{Place, RestoreDirectory};
use crate::restore_engine::order::{self as engine, OrderMember, OrderSnapshot, minor_of};
use crate::restore_engine::proof::{Proven, proven};
use crate::restore_engine::stage::{Staging, stage};
use lifeboat_executor::MachineError;

/// For how long a store that does not answer is asked again. The executor comes back anyway.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Where a backup is staged from, and with what.
#[derive(Clone, Debug)]
pub struct Supply {
    /// The store that holds the backup.
    pub store: Arc<dyn ObjectStore>,
    /// Whose signatures are believed.
    pub known: KnownKeys,
    /// What opens it.
    pub identities: Option<Arc<Identities>>,
    /// etcd's tools by minor version.
    pub tools_dir: PathBuf,
    /// Version of this node's etcd, as far as it is known.
    pub server: Option<Minor>,
}

/// Stages the backup of an order.
///
/// # Errors
/// Why it is not staged. Nothing of it counts then.
pub async fn stage_order(
    supply: &Supply,
    order: &Order,
    (place, directory): (&Place, &RestoreDirectory),
    stop: &CancellationToken,
) -> Result<(), MachineError> {
    let file = directory.root.join("snapshot.db");
    crashsafe::remove(&file).map_err(failed)?;
    let proven = fetch(supply, order, &file, stop).await?;
    let wanted = engine_order(order, &proven);
    let minor = decide_tool(wanted.snapshot.etcd, supply.server).map_err(permanent)?;
    let tool = find_restore_tool(&supply.tools_dir, minor).map_err(permanent)?;
    let (place, directory, path) = (place.clone(), directory.clone(), file.clone());
    let flag = StopFlag::of(stop);
    let staged = tokio::task::spawn_blocking(move || {
        let staging = Staging {
            place: &place,
            directory: &directory,
            file: &path,
            proven: &proven,
            order: &wanted,
            tool: &tool,
            stop: flag.as_ref(),
        };
        stage(&staging, &mut |line| tracing::info!("{line}"))
    })
    .await;
    match staged {
        Ok(Ok(())) => crashsafe::remove(&file).map_err(failed),
        Ok(Err(error)) => Err(MachineError { is_permanent: error.is_refusal(), words: error.to_string() }),
        Err(error) => Err(failed(error)),
    }
}

/// Downloads and proves the snapshot; it is the ordered one, to the last bit, or there is none.
async fn fetch(supply: &Supply, order: &Order, file: &Path, stop: &CancellationToken) -> Result<Proven, MachineError> {
    let Supply { store, known, identities, .. } = supply;
    let backup = &order.backup;
    let manifests =
        Manifests { store: store.as_ref(), cluster: &backup.cluster, known, patience: PATIENCE, cancel: stop };
    let found = manifests.fetch(&backup.backup_id).await.map_err(of_manifest)?.manifest;
    if found.snapshot.sha256 != backup.sha256 {
        return Err(permanent(format!(
            "the manifest of {} names another snapshot than the order: look at who writes there",
            backup.backup_id
        )));
    }
    let key = layout::data(&backup.cluster, &backup.backup_id, &found.data);
    let key = ObjectKey::parse(key).map_err(|error| permanent(error.to_string()))?;
    let target = Target::new(file, &found).map_err(of_fetch)?;
    let wanted = Wanted { target: Some(target), identities: identities.clone() };
    let facts = prove(store.as_ref(), &key, &found, wanted, stop).await.map_err(of_fetch)?;
    let proven = proven(file, facts).map_err(|error| permanent(error.to_string()))?;
    let is_ordered = hex::encode(proven.sha256) == backup.sha256
        && proven.database.content_hash.to_string() == backup.content_hash
        && proven.database.revision == backup.revision;
    if !is_ordered {
        return Err(permanent(format!("what lies at {key} is not the snapshot of the order")));
    }
    Ok(proven)
}

/// The order as etcd's own tool and its proof take it.
fn engine_order(order: &Order, proven: &Proven) -> engine::Order {
    let mut members: Vec<OrderMember> = order
        .members
        .iter()
        .map(|member| OrderMember { name: member.name.clone(), peer_urls: vec![member.peer_url.clone()] })
        .collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    engine::Order {
        snapshot: OrderSnapshot {
            sha256: order.backup.sha256.clone(),
            size_bytes: proven.size,
            revision: order.backup.revision,
            content_hash: order.backup.content_hash.clone(),
            etcd: minor_of(&proven.database),
            alarms: proven.database.alarms,
        },
        token: order.token.clone(),
        bump_to: order.bump_to,
        members,
        minted: order.time,
    }
}

fn of_manifest(error: ManifestError) -> MachineError {
    let is_permanent = match &error {
        ManifestError::Store(error) => is_lasting(error.class()),
        ManifestError::Document { .. }
        | ManifestError::Foreign { .. }
        | ManifestError::OtherCluster { .. }
        | ManifestError::Altered { .. } => true,
    };
    MachineError { words: error.to_string(), is_permanent }
}

fn of_fetch(error: FetchError) -> MachineError {
    let is_permanent = match &error {
        FetchError::Read(ReadError::Store(error)) => is_lasting(error.class()),
        FetchError::File(PartialError::NoSpace { .. })
        | FetchError::Read(
            ReadError::Corrupt(_)
            | ReadError::Snapshot(_)
            | ReadError::Mismatch(_)
            | ReadError::NotSupported(_)
            | ReadError::Encrypted { .. },
        ) => true,
        FetchError::File(_)
        | FetchError::IdentityFile { .. }
        | FetchError::Identity { .. }
        | FetchError::Read(ReadError::Write(_) | ReadError::Stopped) => false,
    };
    MachineError { words: error.to_string(), is_permanent }
}

const fn is_lasting(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Missing
        | ErrorClass::Corrupt
        | ErrorClass::Misconfigured
        | ErrorClass::NotSupported
        | ErrorClass::TooLarge => true,
        ErrorClass::Unavailable
        | ErrorClass::Cancelled
        | ErrorClass::CredentialsMissing
        | ErrorClass::Refused
        | ErrorClass::Held
        | ErrorClass::Conflict
        | ErrorClass::Full => false,
    }
}
