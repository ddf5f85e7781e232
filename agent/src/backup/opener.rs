//! Where a backup's location comes from: the API server, or a file that a person named.

use std::fmt;
use std::sync::Arc;

use lifeboat_crds::EtcdBackupLocation;
use lifeboat_crds::location::EtcdBackupLocationSpec;
use lifeboat_storage::ObjectStore;

use crate::location::{LocationError, LocationOpener};

/// Gives locations and opens their stores.
#[derive(Clone, Debug)]
pub enum Opener {
    /// By name, from the API server.
    Api(LocationOpener),
    /// One that was read and opened already, whatever is asked for.
    Given(Box<Given>),
}

/// A location with its store.
#[derive(Clone)]
pub struct Given {
    /// The location.
    pub location: EtcdBackupLocation,
    /// Its store.
    pub store: Arc<dyn ObjectStore>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({})", self.store.describe())
    }
}

impl Opener {
    /// Reads a location.
    ///
    /// # Errors
    /// It does not exist, or the API server does not answer.
    pub async fn fetch(&self, name: &str) -> Result<EtcdBackupLocation, LocationError> {
        match self {
            Self::Api(opener) => opener.fetch(name).await,
            Self::Given(given) => Ok(given.location.clone()),
        }
    }

    /// A client for what a location describes. Asks nothing of the store yet.
    ///
    /// # Errors
    /// What is missing or cannot work.
    pub async fn open(&self, spec: &EtcdBackupLocationSpec) -> Result<Arc<dyn ObjectStore>, LocationError> {
        match self {
            Self::Api(opener) => opener.open(spec).await,
            Self::Given(given) => Ok(Arc::clone(&given.store)),
        }
    }
}
