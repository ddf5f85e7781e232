//! Restores that an EtcdRestore asks for, as far as an agent is concerned: what it finds out for a plan, the order that it
//! writes once that is approved, and how every master joins, goes on and is heard of.
//!
//! The object counts until the order is written; from then on only its `cancel` does. What is done to the master, the executor
//! does, which outlives this process and the API server.

pub mod author;
pub mod cache;
pub mod changes;
pub mod comparing;
pub mod follow;
pub mod inspect;
pub mod news;
pub mod request;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use lifeboat_crds::order::RestoreId;
use lifeboat_crds::restore::{ClusterRestore, Decryption, PlannedBackup, RestorePlan};
use lifeboat_crds::{EtcdBackupLocation, EtcdRestore, NodeName, Reason, TaskError};
use lifeboat_executor::{SealOutcome, StartError};
use lifeboat_protocol::start::Refusal;
use lifeboat_storage::ObjectStore;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::request::{keep_request, request_of_host};
use crate::archives::ArchiveError;
use crate::archives::file::{LocationFile, PortableFile, StoreKeys, portable_files};
use crate::keyring::Keyring;
use crate::location::{LocationError, LocationOpener};
use crate::manifest::Manifests;
use crate::node_cli::NodeArguments;
use crate::restoring::RestoringError;
use crate::restoring::launch::launch;
use crate::restoring::reach::Reach;
use crate::restoring::sealing::look_for_order;
use crate::restoring::site::{Site, SiteArguments, find_site};

/// For how long a store that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an agent takes part in restores with.
#[derive(Clone)]
pub struct Restorer {
    /// Locations, Secrets and members, from the API server.
    pub opener: LocationOpener,
    /// Keys of this installation.
    pub keyring: Arc<Keyring>,
    /// This node.
    pub node: NodeName,
    /// Namespace served.
    pub namespace: String,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// The host, as flags tell it: the executor is started with the same.
    pub host: NodeArguments,
    /// Whose turn it is to start an executor: the order's author and the follower beside it mean the same one.
    pub turn: Arc<Mutex<()>>,
}

/// Why a task of a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoresError {
    /// The location, or something else that the API server has.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// This host, or the protocol.
    #[error(transparent)]
    Restoring(#[from] RestoringError),
    /// A reason of the closed list, and words.
    #[error("{1}")]
    Because(Reason, String),
}

impl RestoresError {
    /// As it stands in the object.
    pub fn to_task_error(&self) -> TaskError {
        TaskError::new(self.reason(), self.to_string())
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Location(error) => error.reason(),
            Self::Because(reason, _) => *reason,
            Self::Restoring(RestoringError::Start(StartError::Refused(refusal))) => match refusal {
                Refusal::AlreadyRan => Reason::AlreadyRestored,
                Refusal::AnotherActive | Refusal::UnknownAuthor => Reason::AnotherRestoreActive,
                Refusal::StaleOrder | Refusal::ForgedOrder | Refusal::NoSlot => Reason::PlanRefused,
            },
            Self::Restoring(RestoringError::Refused(_)) => Reason::PlanRefused,
            Self::Restoring(_) => Reason::LocationUnavailable,
        }
    }
}

/// A request whose plan says which backup.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The object.
    pub restore: &'r EtcdRestore,
    /// What it asks for.
    pub cluster: &'r ClusterRestore,
    /// Its plan, whole or in the making.
    pub plan: &'r RestorePlan,
    /// The backup that the plan names.
    pub backup: &'r PlannedBackup,
}

impl<'r> Request<'r> {
    /// Of an object; nothing where it asks for something else, or no plan names a backup yet.
    pub fn of(restore: &'r EtcdRestore) -> Option<Self> {
        let plan = restore.status.as_ref()?.plan.as_ref()?;
        Some(Self { restore, cluster: restore.spec.cluster.as_ref()?, plan, backup: plan.backup.as_ref()? })
    }

    /// Name of the object.
    pub fn name(&self) -> &'r str {
        self.restore.metadata.name.as_deref().unwrap_or_default()
    }

    /// Identity of the restore.
    pub fn id(&self, namespace: &str) -> RestoreId {
        RestoreId::new(namespace, self.name(), self.restore.spec.attempt, &self.backup.sha256)
    }

    /// Name of the location in which the masters meet.
    pub fn meeting_place(&self) -> &'r str {
        self.cluster.coordination_ref.as_ref().map_or(self.backup.location.as_str(), |named| named.name.as_str())
    }
}

/// The locations of a restore.
pub struct Locations {
    /// Where the masters meet.
    pub meeting: EtcdBackupLocation,
    /// Where the backup is, where that is another one.
    pub source: Option<EtcdBackupLocation>,
}

impl Restorer {
    /// This master, as it is now.
    ///
    /// # Errors
    /// It is not understood well enough for a restore.
    pub async fn site(&self) -> Result<Site, RestoringError> {
        find_site(SiteArguments::of(self.host.clone())).await
    }

    /// The locations of a request.
    ///
    /// # Errors
    /// One does not exist, or the API server does not answer.
    pub async fn locations(&self, request: &Request<'_>) -> Result<Locations, LocationError> {
        let meeting = self.opener.fetch(request.meeting_place()).await?;
        let is_one = request.meeting_place() == request.backup.location;
        let source = if is_one { None } else { Some(self.opener.fetch(&request.backup.location).await?) };
        Ok(Locations { meeting, source })
    }

    /// Opens the store in which the masters meet.
    ///
    /// # Errors
    /// What is missing.
    pub async fn meet(&self, locations: &Locations) -> Result<Arc<dyn ObjectStore>, LocationError> {
        self.opener.open(&locations.meeting.spec).await
    }

    /// Keeps on this host how the locations are reached and what opens the backup: afterwards nobody is there to be asked.
    ///
    /// # Errors
    /// Something is missing, or the disk.
    pub async fn keep_reach(
        &self,
        site: &Site,
        id: &RestoreId,
        (request, locations): (&Request<'_>, &Locations),
    ) -> Result<(), RestoresError> {
        let meeting = self.portable(&locations.meeting).await?;
        let source = match &locations.source {
            Some(source) => Some(self.portable(source).await?),
            None => None,
        };
        let identity = self.identity(request.cluster.decryption.as_ref()).await?;
        let reach = Reach::of(&site.node.state_dir, id);
        reach.keep(&meeting, source.as_deref(), identity, &site.data_dir).map_err(RestoringError::from)?;
        Ok(())
    }

    /// A location in files that a host can keep.
    ///
    /// # Errors
    /// Its Secret or CA is missing, or the API server does not answer.
    pub async fn portable(&self, location: &EtcdBackupLocation) -> Result<Vec<PortableFile>, RestoresError> {
        let reach = self.opener.reach(&location.spec).await?;
        portable_files(location, &reach).map_err(|error| RestoringError::Failed(error.to_string()).into())
    }

    /// What opens the backup, as the request says.
    ///
    /// # Errors
    /// It is not there.
    pub async fn identity(&self, decryption: Option<&Decryption>) -> Result<Option<Zeroizing<Vec<u8>>>, RestoresError> {
        let missing = |words: String| RestoresError::Because(Reason::EncryptionKeyMissing, words);
        let Some(Decryption { identity_secret_ref, host_file }) = decryption else { return Ok(None) };
        match (identity_secret_ref, host_file) {
            (Some(named), _) => {
                let secret: Option<Secret> = self.opener.fetch_secret(&named.name).await?;
                let found = secret.and_then(|mut secret| secret.data.as_mut()?.remove(&named.key));
                let bytes = found.ok_or_else(|| {
                    missing(format!(
                        "Secret {:?} has no key {:?} (spec.cluster.decryption.identitySecretRef): put the age identity there",
                        named.name, named.key
                    ))
                })?;
                Ok(Some(Zeroizing::new(bytes.0)))
            }
            (None, Some(path)) => {
                let resolved = self.host.options().root.resolve(std::path::Path::new(path));
                let read = tokio::task::spawn_blocking(move || std::fs::read(resolved)).await;
                match read {
                    Ok(Ok(bytes)) => Ok(Some(Zeroizing::new(bytes))),
                    Ok(Err(error)) => Err(missing(format!(
                        "{path} (spec.cluster.decryption.hostFile) cannot be read on {}: {error}",
                        self.node
                    ))),
                    Err(error) => Err(missing(error.to_string())),
                }
            }
            (None, None) => Ok(None),
        }
    }

    /// Joins what was ordered on another host, in a location that is kept on this one. What needs a private key waits for a
    /// human with that, `lifeboat restore join`; what an object asks for, for that object. Tells whether something was joined.
    ///
    /// # Errors
    /// The store, or this host.
    pub async fn join_from(&self, site: &Site, location: &Path) -> Result<bool, RestoresError> {
        let failed = |error: ArchiveError| RestoringError::from(error);
        let file = LocationFile::read(location).map_err(RestoringError::from)?;
        let store = file.open(&StoreKeys::none()).await.map_err(failed)?;
        let outcome = look_for_order(site, (&store, &self.cluster_uid), None).await?;
        let SealOutcome::Sealed(id, directory) = outcome else { return Ok(false) };
        let order = directory.read_order_alone().map_err(RestoringError::from)?;
        let known = self.keyring.current().await.known;
        let cancel = CancellationToken::new();
        let (store, cluster) = (store.as_ref(), order.backup.cluster.as_str());
        let manifests = Manifests { store, cluster, known: &known, patience: PATIENCE, cancel: &cancel };
        let found = manifests.fetch(&order.backup.backup_id).await;
        let needs_more = found.map_or(true, |found| !found.manifest.archive.recipients.is_empty());
        match (order.request.namespace == self.namespace, needs_more) {
            // The object names the key, or the other location; whoever follows it sets off with those.
            (true, true) => return Ok(true),
            (true, false) => {}
            (false, _) => {
                keep_request(&directory, &request_of_host(&order, &file.name())).map_err(RestoringError::from)?;
            }
        }
        if needs_more {
            tracing::warn!(
                restore_id = %id,
                "a restore was ordered and sealed here; it needs a private key: say `lifeboat restore join --identity FILE` on this master"
            );
            return Ok(true);
        }
        let files = file.portable(&StoreKeys::none()).map_err(RestoringError::from)?;
        let reach = Reach::of(&site.node.state_dir, &id);
        reach.keep(&files, None, None, &site.data_dir).map_err(RestoringError::from)?;
        launch(site, &id).await?;
        tracing::info!(restore_id = %id, author = %order.author, "joined what was ordered on another master");
        Ok(true)
    }
}
