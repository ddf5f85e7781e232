//! The task Catalog: makes the records in the API follow what lies in the bucket, page by page.
//!
//! Lists the store, reads manifests, compares them with the EtcdBackups of a location; creates records of archives that
//! have none. What it finds of the others is only reported. After a listing of everything it clears away what nobody can need
//! any more ([`sweep`]); it deletes no archive.

mod compare;
mod import;
pub mod listing;
mod pass;
mod plan;
mod records;
mod report;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use lifeboat_crds::location::LocationResult;
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{EtcdBackupLocation, NodeName, Reason, TaskError, Time};
use lifeboat_storage::{ObjectStore, StoreError};
use tokio_util::sync::CancellationToken;

use self::pass::{Pass, Remnants};
use self::sweep::{SWEEP_LIMIT, Sweeper, may_sweep};
use crate::host::identity::HostId;
use crate::keyring::Keyring;
use crate::location::mark::{read_mark, who_differs};
use crate::location::ownership::Ownership;
use crate::location::{LocationError, LocationOpener, is_conditional};
use crate::report::Reporter;

/// Longest for a whole pass; what it has done by then stays done.
const PASS_LIMIT: Duration = Duration::from_secs(1_200);

/// Why a location could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The location cannot be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API server failed.
    #[error("{doing}: {words}")]
    Api {
        /// What was asked.
        doing: &'static str,
        /// The server's words.
        words: String,
    },
    /// It is not the directory that was probed elsewhere.
    #[error("{me} sees another directory than {other}: nothing was listed")]
    AnotherDirectory {
        /// This master.
        me: NodeName,
        /// The other.
        other: NodeName,
    },
    /// It took too long.
    #[error("the listing was not over within {} minutes", PASS_LIMIT.as_secs() / 60)]
    Late,
}

impl CatalogError {
    /// The reason that people read.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Location(error) => error.reason(),
            Self::Store(error) => crate::location::store_reason(error),
            Self::Api { .. } => Reason::LocationUnavailable,
            Self::AnotherDirectory { .. } => Reason::VerificationFailed,
            Self::Late => Reason::DeadlineExceeded,
        }
    }
}

/// Who lists.
#[derive(Clone)]
pub struct Cataloger {
    /// Opens locations.
    pub opener: LocationOpener,
    /// Reads and makes records.
    pub client: Client,
    /// Writes what an import found.
    pub reporter: Reporter,
    /// Namespace of the records.
    pub namespace: String,
    /// This node.
    pub node: NodeName,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// Identity of this host, which may clear away where it owns the place.
    pub host_id: HostId,
    /// Whose manifests are believed.
    pub keyring: Arc<Keyring>,
}

impl Cataloger {
    /// Lists a location; `asked` is the time of the assignment, of the operator's clock, and `now` of this host's. Everything
    /// that goes wrong is in the result.
    pub async fn list(
        &self,
        location: &EtcdBackupLocation,
        (asked, now): (Timestamp, Time),
        cancel: &CancellationToken,
    ) -> LocationResult {
        let mut result = LocationResult {
            observed_generation: location.metadata.generation.unwrap_or_default(),
            ..LocationResult::default()
        };
        let pass = async {
            let store = self.opener.open(&location.spec).await?;
            result.directory_id = read_mark(store.as_ref(), location).await?;
            let sights = location.status.as_ref().map_or(&[][..], |status| &status.sights);
            if let Some(other) = who_differs(sights, &self.node, result.directory_id.as_deref()) {
                // Every archive would be missed, and retention would believe it.
                return Err(CatalogError::AnotherDirectory { me: self.node.clone(), other: other.clone() });
            }
            let known = self.keyring.current().await.known;
            let pass = Pass::new(self, location, Arc::clone(&store), (asked, now), known.clone(), cancel);
            let remnants = pass.run(location, &mut result).await?;
            self.sweep(location, store, (asked, &known), &remnants, cancel).await;
            Ok(())
        };
        let outcome = tokio::time::timeout(PASS_LIMIT, pass).await.unwrap_or(Err(CatalogError::Late));
        if let Err(error) = outcome {
            tracing::warn!(location = location.name_any(), %error, "the location could not be listed");
            result.error = Some(TaskError::new(error.reason(), error.to_string()));
        }
        result
    }

    /// Clears away what a listing of everything found to be of no use, where this host may.
    async fn sweep(
        &self,
        location: &EtcdBackupLocation,
        store: Arc<dyn ObjectStore>,
        (asked, known): (Timestamp, &KnownKeys),
        remnants: &Remnants,
        cancel: &CancellationToken,
    ) {
        let Remnants::OfEverything { remnants, running } = remnants else { return };
        if !may_sweep(location) {
            return;
        }
        let cluster = self.cluster_uid.as_str();
        let ownership = Ownership { store: store.as_ref(), cluster, me: &self.host_id, patience: SWEEP_LIMIT, cancel };
        if ownership.check().await.is_err() {
            // Said by the probe.
            return;
        }
        let is_conditional = is_conditional(location);
        let sweeper = Sweeper { store, cluster, known, asked, is_conditional, running, cancel };
        if tokio::time::timeout(SWEEP_LIMIT, sweeper.sweep(remnants)).await.is_err() {
            tracing::warn!(location = location.name_any(), "not everything was cleared away in time");
        }
    }
}
