//! The directory of one restore in the data volume: the sealed order, the restore's key, the journal. Blocking I/O.
//!
//! It lies in the data volume, so that a volume attached to another machine brings along what was promised. Sealing makes
//! it whole under a name that counts for nothing, and renames: there is no half-sealed restore.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lifeboat_crds::NodeName;
use lifeboat_crds::document::DocumentError;
use lifeboat_crds::journal::{Entry, JOURNAL_FORMAT, JournalError, Record, encode};
use lifeboat_crds::mac::{MacError, RestoreKey};
use lifeboat_crds::order::{Order, OrderDigest, ReceivedOrder, RestoreId};
use lifeboat_crds::signing::KnownKeys;
use lifeboat_protocol::Terms;
use lifeboat_protocol::terms::TermsError;
use zeroize::Zeroizing;

use crate::journal::{sync_directory, write_synced};
use crate::starting::Draft;

/// Name of a directory in the making.
const SEALING: &str = ".sealing-";
/// Name of what an author keeps of an order until it is sealed.
const DRAFT: &str = ".draft-";

/// Why a restore could not be sealed, or what was sealed not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The disk.
    #[error("{path} cannot be {step}: {source}", path = .path.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is there already: a restore runs once.
    #[error("{path} is there already: this restore ran here before", path = .0.display())]
    Exists(PathBuf),
    /// The sealed order cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    BadOrder {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// The key is not the order's.
    #[error("{path} is not the key of the order beside it: {source}", path = .path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MacError,
    },
    /// The key is no key.
    #[error("{path} is not the key of a restore (64 hex digits)", path = .0.display())]
    NotAKey(PathBuf),
    /// The node takes no part.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// An entry cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl DirectoryError {
    fn disk<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Disk { step, path: path.to_owned(), source }
    }
}

/// The directory of one restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreDirectory {
    root: PathBuf,
}

impl RestoreDirectory {
    /// The one of this restore below `<dataDir>/lifeboat`. Touches nothing.
    pub fn of(lifeboat: &Path, id: &RestoreId) -> Self {
        Self { root: lifeboat.join(id.as_str()) }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The order, byte for byte as it was read.
    pub fn order(&self) -> PathBuf {
        self.root.join("order.json")
    }

    /// The restore's key.
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// What the one executor of this restore holds.
    pub fn lock(&self) -> PathBuf {
        self.root.join("executor.lock")
    }

    /// Reads what was sealed here for `node`. Whoever sealed it proved its author; the digest in the journal binds it.
    ///
    /// # Errors
    /// It cannot be read, does not hang together, or gives this node nothing to do.
    pub fn read(&self, node: &NodeName) -> Result<Sealed, DirectoryError> {
        let (ReceivedOrder { order, digest, .. }, key, _) = self.read_order()?;
        let terms = Terms::of(&order, &digest, node)?;
        Ok(Sealed { order, digest, key, terms })
    }

    /// Reads the order that is sealed here, whoever it is for.
    ///
    /// # Errors
    /// It cannot be read, or does not hang together.
    pub fn read_order_alone(&self) -> Result<Order, DirectoryError> {
        self.read_order().map(|(received, _, _)| received.order)
    }

    fn read_order(&self) -> Result<(ReceivedOrder, RestoreKey, Bytes), DirectoryError> {
        let path = self.order();
        let bytes = std::fs::read(&path).map_err(DirectoryError::disk("read", &path))?;
        let bad = |source| DirectoryError::BadOrder { path: path.clone(), source };
        let received = ReceivedOrder::read(&bytes, &KnownKeys::default()).map_err(bad)?;
        let key = read_key(&self.key())?;
        received.check_key(&key).map_err(|source| DirectoryError::OtherKey { path: self.key(), source })?;
        Ok((received, key, bytes.into()))
    }
}

/// What was sealed.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The order.
    pub order: Order,
    /// Its digest.
    pub digest: OrderDigest,
    /// The restore's key.
    pub key: RestoreKey,
    /// What the order says to this node.
    pub terms: Terms,
}

fn read_key(path: &Path) -> Result<RestoreKey, DirectoryError> {
    let text = std::fs::read_to_string(path).map_err(DirectoryError::disk("read", path))?;
    let text = Zeroizing::new(text);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| DirectoryError::NotAKey(path.to_owned()))?;
    Ok(RestoreKey::new(*bytes))
}

/// Restores that this node has a directory of, oldest name first.
///
/// # Errors
/// The disk.
pub fn find_restores(lifeboat: &Path) -> Result<Vec<(RestoreId, RestoreDirectory)>, DirectoryError> {
    let entries = match std::fs::read_dir(lifeboat) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DirectoryError::disk("read", lifeboat)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(DirectoryError::disk("read", lifeboat))?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.parse::<RestoreId>().ok()) {
            let directory = RestoreDirectory::of(lifeboat, &id);
            found.push((id, directory));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// This host's turn to seal, until it is dropped: an agent that follows the object, one that ordered it and a command may find the same
/// order in the same moment, and each would make the same directory. Held for the time of a few writes.
///
/// # Errors
/// The disk.
pub(crate) fn take_turn(lifeboat: &Path) -> Result<File, DirectoryError> {
    // etcd's data directory: it is there before anything is sealed, and nothing else locks it.
    let above = lifeboat.parent().unwrap_or(lifeboat);
    let turn = File::open(above).map_err(DirectoryError::disk("opened", above))?;
    turn.lock().map_err(DirectoryError::disk("locked", above))?;
    Ok(turn)
}

/// Seals an order: from when this returns this node takes part, and never twice. `bytes` are those that were read and
/// found authentic.
///
/// # Errors
/// It was sealed before, or the disk; then it is not sealed.
pub fn seal(
    lifeboat: &Path,
    received: &ReceivedOrder,
    bytes: &[u8],
    key: &RestoreKey,
) -> Result<RestoreDirectory, DirectoryError> {
    let (id, digest) = (&received.order.restore_id, &received.digest);
    let directory = RestoreDirectory::of(lifeboat, id);
    if directory.root.symlink_metadata().is_ok() {
        return Err(DirectoryError::Exists(directory.root));
    }
    let record = Record::Sealed { restore_id: id.clone(), order_digest: digest.clone() };
    let first = encode(&Entry { format: JOURNAL_FORMAT, sequence: 0, elapsed_millis: 0, record })?;
    let making = RestoreDirectory { root: lifeboat.join(format!("{SEALING}{id}")) };
    make(&making, bytes, key, Some(&first))?;
    // Fails where the name was taken meanwhile: a directory that is not empty is not replaced.
    std::fs::rename(&making.root, &directory.root).map_err(DirectoryError::disk("renamed into place", &making.root))?;
    sync_above(lifeboat)?;
    // Its order is sealed: from here on it is the bucket's and the journal's.
    remove(&lifeboat.join(format!("{DRAFT}{id}")))?;
    Ok(directory)
}

/// Keeps an order and its key before anybody else can see the order.
pub(crate) fn keep_draft(lifeboat: &Path, draft: &Draft, bytes: &[u8]) -> Result<(), DirectoryError> {
    let id = &draft.order.restore_id;
    let making = RestoreDirectory { root: lifeboat.join(format!("{SEALING}{id}")) };
    let kept = lifeboat.join(format!("{DRAFT}{id}"));
    make(&making, bytes, &draft.key, None)?;
    // One of an earlier approval: never ordered, or it would lie in the bucket and be refused as such.
    remove(&kept)?;
    std::fs::rename(&making.root, &kept).map_err(DirectoryError::disk("renamed into place", &making.root))?;
    sync_above(lifeboat)
}

/// The draft of this restore, if one is kept.
pub(crate) fn read_draft(lifeboat: &Path, id: &RestoreId) -> Result<Option<(Draft, Bytes)>, DirectoryError> {
    let kept = RestoreDirectory { root: lifeboat.join(format!("{DRAFT}{id}")) };
    if kept.root.symlink_metadata().is_err() {
        return Ok(None);
    }
    let (received, key, bytes) = kept.read_order()?;
    Ok(Some((Draft { order: received.order, key }, bytes)))
}

fn make(
    making: &RestoreDirectory,
    order: &[u8],
    key: &RestoreKey,
    journal: Option<&[u8]>,
) -> Result<(), DirectoryError> {
    remove(&making.root)?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&making.root);
    made.map_err(DirectoryError::disk("made", &making.root))?;
    let hex = Zeroizing::new(hex::encode(key.as_bytes()));
    let files = [(making.order(), order), (making.key(), hex.as_bytes())];
    let journal = journal.map(|entry| (making.journal(), entry));
    for (path, content) in files.into_iter().chain(journal) {
        write_synced(&path, content).map_err(DirectoryError::disk("written", &path))?;
    }
    sync_directory(&making.root).map_err(DirectoryError::disk("synced", &making.root))
}

fn remove(path: &Path) -> Result<(), DirectoryError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DirectoryError::disk("removed", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The directory may be new itself.
fn sync_above(lifeboat: &Path) -> Result<(), DirectoryError> {
    for path in [Some(lifeboat), lifeboat.parent()].into_iter().flatten() {
        sync_directory(path).map_err(DirectoryError::disk("synced", path))?;
    }
    Ok(())
}
