//! `etcd backup --location`: a backup of this master's etcd in a location, as the agent makes it, without an API server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::backup::{ArchiveFacts, EtcdBackupSpec};
use lifeboat_crds::manifest::ManifestObject;
use lifeboat_crds::reference::ObjectName;
use lifeboat_crds::{BackupId, NodeName};
use lifeboat_process::version::VERSION;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::NodeError;
use super::backup::Taken;
use super::node::Node;
use crate::archive::progress::Progress;
use crate::archives::file::{LocationFile, StoreKeys};
use crate::backup::{BackupError, BackupOrder, BackupRunner, Given, Opener};
use crate::etcd::client::MemberClient;
use crate::host::highest_revision::HighestRevision;
use crate::host::identity::read_or_mint_host_id;
use crate::host::last_comparison::LastComparison;
use crate::keyring::Keyring;
use crate::location::ownership::{Claim, Ownership, OwnershipError};
use crate::restore_engine::identity::uid_of_namespace;

/// Where an API server keeps the namespace whose UID is the cluster's identity, unless it was given another prefix.
const KUBE_SYSTEM: &str = "/registry/namespaces/kube-system";
/// For how long a store that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Namespace in the manifest of a backup that no object asked for.
const NAMESPACE: &str = "lifeboat";

/// Where to, and for whom.
#[derive(Debug, clap::Args)]
pub struct LocationArguments {
    /// Put the backup into a location instead of a file: the YAML of an EtcdBackupLocation. Keys come from
    /// `spec.s3.credentialsFile` in it (lines AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…) or from AWS_* in the
    /// environment; the CA from `spec.s3.caBundleFile`; a directory from `spec.directory.path`.
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_LOCATION")]
    pub location: Option<PathBuf>,
    /// UID of the cluster's kube-system namespace, where it cannot be read from etcd.
    #[arg(long, value_name = "UID", env = "LIFEBOAT_CLUSTER")]
    cluster: Option<String>,
    /// Add this host to those whose archives these are, by owner.json in the location: for another master of the same
    /// cluster, where no agent does that. Never for a cluster that was restored from this one's backup beside it.
    #[arg(long, requires = "location")]
    join_owners: bool,
    /// Keys of the store.
    #[command(flatten)]
    keys: StoreKeys,
}

impl LocationArguments {
    /// A location whose file tells everything, for this cluster.
    pub const fn of(file: PathBuf, cluster: String) -> Self {
        Self { location: Some(file), cluster: Some(cluster), join_owners: false, keys: StoreKeys::none() }
    }
}

/// Takes a backup into a location.
///
/// # Errors
/// Why there is none; then none is listed there.
pub async fn upload(
    node: &Node,
    file: &std::path::Path,
    arguments: &LocationArguments,
    spec: impl FnOnce(&mut EtcdBackupSpec),
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Taken, NodeError> {
    let described = LocationFile::read(file).map_err(|error| NodeError::Archive(Box::new(error.into())))?;
    let store = described.open(&arguments.keys).await.map_err(|error| NodeError::Archive(Box::new(error)))?;
    let location = described.location();
    let client = node.client().await?;
    let cluster_uid = match &arguments.cluster {
        Some(uid) => uid.clone(),
        None => fetch_cluster_uid(&client).await?,
    };
    let failed = |error: String| NodeError::Failed(error);
    let host_id = read_or_mint_host_id(&node.state_dir).map_err(|error| failed(error.to_string()))?;
    let name =
        node.discovery().name.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into());
    if arguments.join_owners {
        let ownership =
            Ownership { store: store.as_ref(), cluster: &cluster_uid, me: &host_id, patience: PATIENCE, cancel };
        join(&ownership).await.map_err(|error| Box::new(BackupError::from(error)))?;
    }
    let runner = BackupRunner {
        opener: Opener::Given(Box::new(Given { location: location.clone(), store })),
        keyring: Arc::new(Keyring::of_host(&node.state_dir)),
        host: node.options.clone(),
        node: NodeName(name),
        cluster_uid,
        host_id,
        // Not the agent's, which it empties at its start.
        spool_dir: node.state_dir.join("spool-by-hand"),
        version: VERSION,
        comparison: Arc::new(LastComparison::load(&node.state_dir)),
        turn: Arc::new(Semaphore::new(1)),
        reading: Arc::new(Semaphore::new(1)),
    };
    let backup_id = BackupId::new(Timestamp::now(), &hex::encode(rand::random::<[u8; 16]>()));
    let location_ref = ObjectName { name: location.metadata.name.clone().unwrap_or_default() };
    let mut wanted = EtcdBackupSpec::to(location_ref);
    spec(&mut wanted);
    let object = ManifestObject {
        namespace: NAMESPACE.to_owned(),
        name: format!("by-hand-{backup_id}"),
        schedule: None,
        spec: wanted,
    };
    let highest_revision_seen = HighestRevision::load(&node.state_dir).ok().and_then(|highest| highest.get());
    let order = BackupOrder { backup_id: backup_id.clone(), attempt: 1, object, highest_revision_seen };
    let facts = runner.run(&order, progress, cancel).await.map_err(Box::new)?;
    let ArchiveFacts { archive, size_bytes, stored_size_bytes, sha256, revision, content_hash, keys, .. } = &facts;
    Ok(Taken {
        file: None,
        archive: Some(archive.clone()),
        backup_id: Some(backup_id.to_string()),
        stored_size_bytes: u64::try_from(*stored_size_bytes).ok(),
        size_bytes: u64::try_from(*size_bytes).unwrap_or(0),
        sha256: sha256.clone(),
        verified: facts.verification.level,
        revision: *revision,
        content_hash: content_hash.clone(),
        keys: keys.and_then(|keys| u64::try_from(keys).ok()),
        members: None,
    })
}

/// Makes this host an owner beside those that are.
async fn join(ownership: &Ownership<'_>) -> Result<(), OwnershipError> {
    match ownership.check().await {
        Err(OwnershipError::OwnedByAnother(others)) => {
            let claim = Claim { masters: others.owner.hosts, take_over: Some(ownership.cluster.to_owned()) };
            ownership.settle(&claim, false, Timestamp::now()).await.map(drop)
        }
        // One that nobody owns is claimed by the backup itself.
        Ok(()) | Err(OwnershipError::Unclaimed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The identity of the cluster: the UID of its namespace kube-system, as etcd holds it.
///
/// # Errors
/// etcd does not answer, or holds none that can be read.
pub async fn fetch_cluster_uid(client: &MemberClient) -> Result<String, NodeError> {
    let answer = client.bounded(client.inner().get(KUBE_SYSTEM, None)).await?;
    let found = answer.kvs().first().and_then(|kv| uid_of_namespace(kv.value()));
    found.ok_or_else(|| {
        NodeError::Refused(format!(
            "etcd holds no readable {KUBE_SYSTEM} (another --etcd-prefix, or namespaces are encrypted at rest): say \
             --cluster with the UID of kube-system"
        ))
    })
}
