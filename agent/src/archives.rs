//! What lies in a location, for people at a terminal: listed, described, verified, fetched, pinned, deleted. Needs no API
//! server.
//!
//! Works on a location described in a file and the store behind it; only pins, deletions and an applied policy change
//! anything there, and only by those whose archives they are. A location holds what its
//! manifests say, whether or not any EtcdBackup knows of it.

mod change;
mod fetch;
pub mod file;
mod retention;
mod right;
mod shelf;
mod shown;
mod trust;

use std::io::Write;
use std::path::{Path, PathBuf};

use lifeboat_crds::BackupId;
use lifeboat_crds::signing::SignatureState;
use lifeboat_storage::StoreError;
use tokio_util::sync::CancellationToken;

use self::change::{DeleteArguments, PinArguments, UnpinArguments, run_delete, run_pin, run_unpin};
pub use self::fetch::{FetchError, Target, Wanted, prove, read_identities};
use self::file::{FileError, StoreKeys};
use self::retention::{RetentionArguments, run_retention};
pub use self::shelf::Shelf;
use self::shown::Format;
use self::trust::Trust;
use crate::archive::read::ReadError;
use crate::host::keys::KeysError;
use crate::keeping::KeepError;
use crate::location::LocationError;
use crate::manifest::{FoundManifest, ManifestError};
use crate::partial_file::PartialError;

/// Archives in a location, without any API server.
#[derive(Debug, clap::Subcommand)]
pub enum ArchiveCommand {
    /// List the archives of a cluster, newest first.
    List {
        /// Where.
        #[command(flatten)]
        place: Place,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show everything that is known of an archive: its manifest.
    Describe {
        /// Which archive.
        #[command(flatten)]
        which: Which,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
        output: Format,
    },
    /// Read an archive whole and prove it: stored bytes, structure, content.
    Verify {
        /// Which archive.
        #[command(flatten)]
        which: Which,
        /// What opens it.
        #[command(flatten)]
        unlock: Unlock,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Read an archive whole, prove it, and leave its snapshot in a file that `etcdutl snapshot restore` reads.
    Fetch {
        /// Which archive.
        #[command(flatten)]
        which: Which,
        /// What opens it.
        #[command(flatten)]
        unlock: Unlock,
        /// The file; never overwritten. `{time}` in its name becomes the time of the backup.
        #[arg(long)]
        file: PathBuf,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Delete an archive for good. One that is pinned stays.
    Delete(DeleteArguments),
    /// Keep an archive for ever: nothing deletes it until it is unpinned.
    Pin(PinArguments),
    /// Let policies have their way with an archive again.
    Unpin(UnpinArguments),
    /// Show what a policy would keep and let go, and why; delete what it lets go with --apply.
    Retention(RetentionArguments),
}

/// Where archives lie.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The YAML of an EtcdBackupLocation. Keys come from `spec.s3.credentialsFile` in it (lines AWS_ACCESS_KEY_ID=… and
    /// AWS_SECRET_ACCESS_KEY=…) or from AWS_* in the environment; the CA from `spec.s3.caBundleFile`; a directory from
    /// `spec.directory.path`.
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_LOCATION")]
    location: PathBuf,
    /// UID of the cluster's kube-system namespace, where the location holds archives of several.
    #[arg(long, value_name = "UID", env = "LIFEBOAT_CLUSTER")]
    cluster: Option<String>,
    /// Keys of the store.
    #[command(flatten)]
    keys: StoreKeys,
    /// Whose signatures are believed.
    #[command(flatten)]
    trust: Trust,
}

pub use Place as ArchivePlace;

impl Place {
    /// The file that describes the location.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// Keys of the store.
    pub const fn keys(&self) -> &StoreKeys {
        &self.keys
    }
}

/// One archive.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Its backupId, the name of its EtcdBackup, or `latest`.
    backup: String,
    /// Where.
    #[command(flatten)]
    place: Place,
}

/// What opens an archive that is encrypted.
#[derive(Debug, clap::Args)]
pub struct Unlock {
    /// age identity of one of the archive's recipients, as age-keygen writes it: lines AGE-SECRET-KEY-1…, comments. Only for
    /// an archive that is encrypted.
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_IDENTITY")]
    identity: Option<PathBuf>,
}

impl Unlock {
    /// The file with the key.
    pub fn path(&self) -> Option<&Path> {
        self.identity.as_deref()
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The location's file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The location cannot be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Several clusters share the prefix.
    #[error(
        "{place} holds archives of several clusters: say --cluster with one of {clusters}; where these are no UIDs of \
         clusters, the prefix or subPath of the location is wrong"
    )]
    SeveralClusters {
        /// The store.
        place: String,
        /// Their UIDs.
        clusters: String,
    },
    /// Nothing of that cluster.
    #[error("{place} holds nothing of a cluster {wanted}; there is: {known}")]
    NoSuchCluster {
        /// The store.
        place: String,
        /// What was asked for.
        wanted: String,
        /// Whose archives there are.
        known: String,
    },
    /// There is nothing.
    #[error("{0} holds no archive of any cluster: check bucket and prefix, or path and subPath")]
    Empty(String),
    /// There is no such archive.
    #[error("{place} holds no archive {wanted}; see `lifeboat backup list`")]
    NoSuchArchive {
        /// The store.
        place: String,
        /// What was asked for.
        wanted: String,
    },
    /// A key named by a human is none.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A manifest was altered: neither it nor its archive is to be believed.
    #[error(
        "the signature of backup {0} is INVALID: its manifest was altered after it was written. Look at who writes there, \
         and use another backup"
    )]
    Altered(BackupId),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive could not be read, or is corrupt.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The archive could not be changed.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// What was asked for is not done.
    #[error("{0}")]
    Refused(String),
    /// Not everything that was to go went.
    #[error("not everything was deleted:\n{0}")]
    NotDeleted(String),
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl ArchiveError {
    /// The exit code (host.md): 1 failed, 4 refused before anything was done.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File(_)
            | Self::Keys(_)
            | Self::SeveralClusters { .. }
            | Self::NoSuchCluster { .. }
            | Self::Empty(_)
            | Self::NoSuchArchive { .. }
            | Self::Refused(_)
            | Self::Keep(KeepError::Pinned(_))
            | Self::Fetch(FetchError::File(
                PartialError::Exists(_) | PartialError::Busy(_) | PartialError::NoSpace { .. },
            ))
            | Self::Fetch(FetchError::IdentityFile { .. } | FetchError::Identity { .. })
            | Self::Fetch(FetchError::Read(ReadError::Encrypted { .. })) => 4,
            Self::Location(_)
            | Self::Store(_)
            | Self::Altered(_)
            | Self::Manifest(_)
            | Self::Fetch(_)
            | Self::Keep(_)
            | Self::NotDeleted(_)
            | Self::Output(_) => 1,
        }
    }
}

/// Runs a command; what it has to say goes to `out`.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run_archive_command(
    command: ArchiveCommand,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    match command {
        ArchiveCommand::List { place, output } => {
            let shelf = Shelf::open(&place, cancel).await?;
            let manifests = shelf.manifests().await?;
            until_closed(shown::write_list(out, output, &manifests))
        }
        ArchiveCommand::Describe { which, output } => {
            let (shelf, found) = Shelf::open_one(&which, cancel).await?;
            until_closed(shown::write_manifest(out, output, &found))?;
            shelf.remark_keys(&found);
            refuse_altered(&found)
        }
        ArchiveCommand::Verify { which, unlock, output } => {
            let wanted = Wanted { target: None, identities: read_identities(unlock.identity.as_deref())? };
            let (shelf, found) = Shelf::open_one(&which, cancel).await?;
            refuse_altered(&found)?;
            let manifest = &found.manifest;
            let facts = prove(shelf.store.as_ref(), &shelf.data_key(manifest)?, manifest, wanted, cancel).await?;
            shelf.remark_keys(&found);
            until_closed(shown::write_proof(out, output, &found, &facts, None))
        }
        ArchiveCommand::Fetch { which, unlock, file, output } => {
            let identities = read_identities(unlock.identity.as_deref())?;
            let (shelf, found) = Shelf::open_one(&which, cancel).await?;
            refuse_altered(&found)?;
            let manifest = &found.manifest;
            let target = Target::new(&file, manifest)?;
            let path = target.path().to_owned();
            let wanted = Wanted { target: Some(target), identities };
            let facts = prove(shelf.store.as_ref(), &shelf.data_key(manifest)?, manifest, wanted, cancel).await?;
            shelf.remark_keys(&found);
            until_closed(shown::write_proof(out, output, &found, &facts, Some(&path)))
        }
        ArchiveCommand::Delete(arguments) => run_delete(arguments, out, cancel).await,
        ArchiveCommand::Pin(arguments) => run_pin(arguments, out, cancel).await,
        ArchiveCommand::Unpin(arguments) => run_unpin(arguments, out, cancel).await,
        ArchiveCommand::Retention(arguments) => run_retention(arguments, out, cancel).await,
    }
}

/// Whoever closes the pipe (`| head`) has seen enough. Only where nothing is left to be done.
fn until_closed(written: std::io::Result<()>) -> Result<(), ArchiveError> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// An altered manifest is worse than none: what it says of the archive proves nothing.
fn refuse_altered(found: &FoundManifest) -> Result<(), ArchiveError> {
    match &found.signature {
        SignatureState::Valid(_) | SignatureState::Unknown(_) | SignatureState::Unsigned => Ok(()),
        SignatureState::Invalid => Err(ArchiveError::Altered(found.manifest.backup_id.clone())),
    }
}
