//! The task Catalog: makes the records in the API follow what lies in the bucket, page by page.
//!
//! Lists the store, reads manifests, compares them with the EtcdBackups of a location; creates records of archives that
//! have none. What it finds of the others is only reported. Writes nothing to the store.

mod compare;
mod import;
mod listing;
mod pass;
mod plan;
mod records;
mod report;

use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt};
use lifeboat_crds::location::LocationResult;
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{EtcdBackupLocation, NodeName, Reason, TaskError};
use lifeboat_storage::StoreError;
use tokio_util::sync::CancellationToken;

use self::pass::Pass;
use crate::daemon::report::Reporter;
use crate::location::{LocationError, LocationOpener};

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
}

impl Cataloger {
    /// Lists a location; `asked` is the time of the assignment. Everything that goes wrong is in the result.
    pub async fn list(
        &self,
        location: &EtcdBackupLocation,
        asked: Timestamp,
        cancel: &CancellationToken,
    ) -> LocationResult {
        let mut result = LocationResult {
            observed_generation: location.metadata.generation.unwrap_or_default(),
            ..LocationResult::default()
        };
        let pass = async {
            let store = self.opener.open(&location.spec).await?;
            let known = KnownKeys::default();
            let pass = Pass::new(self, location, store, asked, known, cancel);
            pass.run(location, &mut result).await
        };
        let outcome = tokio::time::timeout(PASS_LIMIT, pass).await.unwrap_or(Err(CatalogError::Late));
        if let Err(error) = outcome {
            tracing::warn!(location = location.name_any(), %error, "the location could not be listed");
            result.error = Some(TaskError::new(error.reason(), error.to_string()));
        }
        result
    }
}
