//! Why a backup did not come about, with the reason that people and the operator read. Pure.

use lifeboat_crds::document::DocumentError;
use lifeboat_crds::{Reason, TaskError};
use lifeboat_storage::{ErrorClass, StoreError};

use super::proof::Diverged;
use crate::archive::encryption::RecipientError;
use crate::archive::read::ReadError;
use crate::archive::spool::SpoolError;
use crate::archive::transfer::TransferError;
use crate::etcd::error::{EtcdError, EtcdErrorClass};
use crate::location::ownership::OwnershipError;
use crate::location::{LocationError, store_reason};
use crate::manifest::ManifestError;

/// The outcome of an attempt that made no archive.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The location cannot be used.
    #[error("{0}")]
    Location(#[source] LocationError),
    /// The location may only be read.
    #[error("location {0:?} is ReadOnly: back up to another, or set its spec.accessMode to ReadWrite")]
    ReadOnly(String),
    /// Others own the place, or whose it is cannot be found out.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The archive is to be encrypted, and the location does not say to whom.
    #[error(transparent)]
    Encryption(#[from] RecipientError),
    /// This host's files lead to no etcd.
    #[error("this master's etcd cannot be reached: {0}")]
    NoMember(String),
    /// etcd did not answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The transfer failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The store failed at a small question.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest cannot be written.
    #[error("the manifest cannot be written: {0}")]
    Document(#[from] DocumentError),
    /// The manifest that is there cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive was deleted while this attempt was cut off.
    #[error("{uri} says that this backup was given up and deleted meanwhile: what this attempt stored is deleted too")]
    GivenUp {
        /// The mark.
        uri: String,
    },
    /// There is a manifest and no archive.
    #[error(
        "{uri} is gone, although the manifest of this backup names it: look at who deletes there; make a new backup"
    )]
    DataMissing {
        /// The archive.
        uri: String,
    },
    /// There is a manifest and another archive.
    #[error(
        "{uri} has {found} bytes, the manifest of this backup says {expected}: look at who writes there; make a new backup"
    )]
    DataDiffers {
        /// The archive.
        uri: String,
        /// Its size.
        found: u64,
        /// The size it should have.
        expected: i64,
    },
    /// The archive is not what was written.
    #[error("the archive was read back before it was published, and is not what was sent: {0}")]
    ReadBack(#[source] ReadError),
    /// The members hold different data.
    #[error(
        "etcd's members hold different data at revision {revision}: {words}. No backup is made of a cluster of which it is \
         not known what is right. Compare `etcdctl endpoint hashkv --cluster`, find out which members are right, and make \
         the others anew, one at a time (`etcdctl member remove`, then add)",
        revision = .diverged.revision
    )]
    Diverged {
        /// Which.
        diverged: Diverged,
        /// The same for people.
        words: String,
    },
    /// The snapshot is not what its member holds.
    #[error(
        "what etcd member {member} sent as its snapshot is not what it hashes its keys to, twice: look at disk and memory \
         of its master"
    )]
    StreamDiffers {
        /// The member that was read.
        member: String,
    },
    /// The time was up before etcd was read.
    #[error("the time for this try was up before etcd could be read: API server, store or etcd did not answer")]
    Late,
    /// A thread ended in a panic.
    #[error("a thread of the agent died while {0}: its log says where; this is a defect of Lifeboat, please report it")]
    Died(&'static str),
    /// The agent was stopped or the object went away under it.
    #[error("the attempt was interrupted")]
    Interrupted,
}

impl BackupError {
    /// The reason from the closed list.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Location(error) => match error.reason() {
                // Here a store that is away is a try that failed; whether the location is away is for its probe to say.
                Reason::LocationUnavailable => Reason::UploadFailed,
                reason => reason,
            },
            Self::ReadOnly(_) => Reason::AccessDenied,
            Self::Ownership(OwnershipError::Unclaimed { .. }) => Reason::UploadFailed,
            Self::Ownership(
                error @ (OwnershipError::Document { .. }
                | OwnershipError::Damaged(_)
                | OwnershipError::OwnedByAnother(_)),
            ) => error.reason(),
            Self::Encryption(_) => Reason::EncryptionKeyMissing,
            Self::NoMember(_) => Reason::NoHealthyMember,
            Self::Etcd(error) => etcd_reason(error),
            Self::Transfer(error) => transfer_reason(error),
            Self::Store(error) => upload_reason(error),
            Self::Ownership(OwnershipError::Store(error)) | Self::Manifest(ManifestError::Store(error)) => {
                upload_reason(error)
            }
            Self::Document(_)
            | Self::Manifest(
                ManifestError::Document { .. } | ManifestError::Foreign { .. } | ManifestError::OtherCluster { .. },
            ) => Reason::VerificationFailed,
            Self::ReadBack(_) | Self::Diverged { .. } | Self::StreamDiffers { .. } => Reason::VerificationFailed,
            Self::GivenUp { .. } => Reason::Cancelled,
            Self::DataMissing { .. } => Reason::ArchiveMissing,
            Self::DataDiffers { .. } | Self::Manifest(ManifestError::Altered { .. }) => Reason::ArchiveCorrupt,
            Self::Late => Reason::DeadlineExceeded,
            Self::Died(_) => Reason::SnapshotFailed,
            Self::Interrupted => Reason::Interrupted,
        }
    }

    /// As it is written into the execution's result.
    pub fn to_task_error(&self) -> TaskError {
        TaskError::new(self.reason(), self.to_string())
    }

    /// Whether it was refused before anything was written.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::ReadOnly(_) | Self::Encryption(_) | Self::Ownership(OwnershipError::OwnedByAnother(_)))
    }

    /// Whether nobody wants to hear of it: the work was taken away, or the agent ends and another repeats the attempt.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted
            | Self::Transfer(TransferError::Cancelled)
            | Self::Store(StoreError::Cancelled { .. })
            | Self::Ownership(OwnershipError::Store(StoreError::Cancelled { .. }))
            | Self::Manifest(ManifestError::Store(StoreError::Cancelled { .. })) => true,
            Self::Location(_)
            | Self::ReadOnly(_)
            | Self::Ownership(_)
            | Self::Encryption(_)
            | Self::NoMember(_)
            | Self::Etcd(_)
            | Self::Transfer(_)
            | Self::Store(_)
            | Self::Document(_)
            | Self::Manifest(_)
            | Self::GivenUp { .. }
            | Self::DataMissing { .. }
            | Self::DataDiffers { .. }
            | Self::ReadBack(_)
            | Self::Diverged { .. }
            | Self::StreamDiffers { .. }
            | Self::Late
            | Self::Died(_) => false,
        }
    }
}

fn etcd_reason(error: &EtcdError) -> Reason {
    match error.class() {
        EtcdErrorClass::Unavailable => Reason::NoHealthyMember,
        EtcdErrorClass::Access | EtcdErrorClass::Transfer => Reason::SnapshotFailed,
        EtcdErrorClass::Request => Reason::LimitsTooLow,
    }
}

fn transfer_reason(error: &TransferError) -> Reason {
    match error {
        TransferError::Etcd(error) => etcd_reason(error),
        TransferError::Snapshot(_) | TransferError::EndedEarly { .. } => Reason::VerificationFailed,
        TransferError::Store(error) => upload_reason(error),
        TransferError::Spool(SpoolError::Full { .. } | SpoolError::File { .. }) => Reason::InsufficientSpool,
        TransferError::Spool(SpoolError::Damaged { .. }) => Reason::VerificationFailed,
        TransferError::Spool(SpoolError::Closed) | TransferError::Stopped | TransferError::Compress(_) => {
            Reason::SnapshotFailed
        }
        TransferError::Deadline(_) => Reason::DeadlineExceeded,
        TransferError::Cancelled => Reason::Interrupted,
    }
}

/// A store that is away or full makes an upload fail; everything else it says is about the location.
fn upload_reason(error: &StoreError) -> Reason {
    match error.class() {
        ErrorClass::Unavailable
        | ErrorClass::Full
        | ErrorClass::Missing
        | ErrorClass::Conflict
        | ErrorClass::TooLarge => Reason::UploadFailed,
        ErrorClass::Cancelled => Reason::Interrupted,
        ErrorClass::Refused
        | ErrorClass::CredentialsMissing
        | ErrorClass::Misconfigured
        | ErrorClass::NotSupported
        | ErrorClass::Corrupt
        | ErrorClass::Held => store_reason(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lifeboat_snapshot::SnapshotError;

    use super::*;

    #[test]
    fn each_kind_of_trouble_has_its_reason() {
        let away = || StoreError::Unavailable { store: "s3://b".into(), words: "refused".into() };
        let denied = StoreError::AccessDenied { store: "s3://b".into(), words: "no".into(), check: "keys" };
        let silent = EtcdError::NoAnswer { url: "https://127.0.0.1:2379".into(), within: Duration::from_secs(5) };
        let cases = [
            (BackupError::Store(away()), Reason::UploadFailed),
            (BackupError::Location(LocationError::Store(away())), Reason::UploadFailed),
            (BackupError::Store(denied), Reason::AccessDenied),
            (BackupError::Etcd(silent), Reason::NoHealthyMember),
            (TransferError::Snapshot(SnapshotError::NoMeta).into(), Reason::VerificationFailed),
            (TransferError::Deadline("reading").into(), Reason::DeadlineExceeded),
            (BackupError::Died("reading"), Reason::SnapshotFailed),
        ];
        for (error, reason) in cases {
            assert_eq!(error.reason(), reason, "{error}");
            assert!(!error.is_interruption());
        }
        assert!(BackupError::Transfer(TransferError::Cancelled).is_interruption());
    }
}
