//! Why an archive was not pinned, deleted or proven, with the reason that people and the operator read. Pure.

use lifeboat_crds::document::DocumentError;
use lifeboat_crds::{Reason, TaskError};
use lifeboat_storage::StoreError;

use crate::archive::read::ReadError;
use crate::location::ownership::OwnershipError;
use crate::location::{LocationError, store_reason};
use crate::manifest::ManifestError;

/// The outcome of an errand that was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The location cannot be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The location may only be read.
    #[error("location {0:?} is ReadOnly: nothing in it is changed; set its spec.accessMode to ReadWrite")]
    ReadOnly(String),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Others own the place, or whose it is cannot be found out.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// A mark cannot be read or written.
    #[error("{uri}: {source}; look at who writes there")]
    Document {
        /// The mark.
        uri: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// There is no such archive.
    #[error("{uri} does not exist: the archive is gone")]
    Gone {
        /// Its manifest.
        uri: String,
    },
    /// The archive is kept for ever.
    #[error("the archive is pinned ({0}): remove the pin first")]
    Pinned(String),
    /// The archive could not be read, or is not what it should be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing in the object asks for it any more.
    #[error("nothing asks for the deletion of this archive any more; it was left alone")]
    NotAsked,
    /// The decision is of an API server that was rewound since.
    #[error("the deletion was decided before this cluster was restored; it was left alone")]
    BeforeRestore,
    /// The object names no archive.
    #[error("status.backupId: {0}")]
    NoBackupId(String),
    /// There was no end of it.
    #[error("the store took too long: not everything was done within {0} s; it goes on with the next try")]
    Late(u64),
    /// The agent was stopped or the work was taken away.
    #[error("the work was interrupted")]
    Interrupted,
}

impl KeepError {
    /// The reason from the closed list.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Location(error) => error.reason(),
            Self::ReadOnly(_) => Reason::AccessDenied,
            Self::Store(error) | Self::Manifest(ManifestError::Store(error)) => store_reason(error),
            Self::Ownership(error) => error.reason(),
            Self::Manifest(
                ManifestError::Document { .. }
                | ManifestError::Foreign { .. }
                | ManifestError::OtherCluster { .. }
                | ManifestError::Altered { .. },
            ) => Reason::ArchiveCorrupt,
            Self::Document { .. } => Reason::VerificationFailed,
            Self::Gone { .. } => Reason::ArchiveMissing,
            Self::Pinned(_) => Reason::Pinned,
            Self::Read(error) => read_reason(error),
            Self::NotAsked => Reason::Cancelled,
            Self::BeforeRestore | Self::Interrupted => Reason::Interrupted,
            Self::NoBackupId(_) => Reason::NotSupported,
            Self::Late(_) => Reason::DeadlineExceeded,
        }
    }

    /// As it is written into the execution's result.
    pub fn to_task_error(&self) -> TaskError {
        TaskError::new(self.reason(), self.to_string())
    }

    /// Whether nobody wants to hear of it.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted
            | Self::Store(StoreError::Cancelled { .. })
            | Self::Ownership(OwnershipError::Store(StoreError::Cancelled { .. }))
            | Self::Manifest(ManifestError::Store(StoreError::Cancelled { .. }))
            | Self::Read(ReadError::Store(StoreError::Cancelled { .. })) => true,
            Self::Location(_)
            | Self::ReadOnly(_)
            | Self::Store(_)
            | Self::Manifest(_)
            | Self::Ownership(_)
            | Self::Document { .. }
            | Self::Gone { .. }
            | Self::Pinned(_)
            | Self::Read(_)
            | Self::NotAsked
            | Self::BeforeRestore
            | Self::NoBackupId(_)
            | Self::Late(_) => false,
        }
    }
}

fn read_reason(error: &ReadError) -> Reason {
    match error {
        ReadError::Store(StoreError::NotFound { .. }) => Reason::ArchiveMissing,
        ReadError::Store(error) => store_reason(error),
        ReadError::Corrupt(_) | ReadError::Snapshot(_) | ReadError::Mismatch(_) => Reason::ArchiveCorrupt,
        ReadError::NotSupported(_) => Reason::NotSupported,
        ReadError::Encrypted { .. } => Reason::EncryptionKeyMissing,
        ReadError::Write(_) | ReadError::Stopped => Reason::VerificationFailed,
    }
}
