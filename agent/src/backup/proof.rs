//! What is proven of an archive beyond its stream, before it is published: content from a read-back where the stream did
//! not fit into memory, and agreement with the members where that was asked for. Network to store and etcd.
//!
//! What cannot be proven is told as a shortfall and keeps no backup from being made; what is proven wrong does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_crds::backup::VerificationLevel;
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::{Reason, TaskError};
use lifeboat_snapshot::{Content, Facts, HashKv, HashKvError};
use lifeboat_storage::{ObjectKey, ObjectStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::comparison::{Verdict, names};
use super::error::BackupError;
use super::members::{Question, compare_members};
use crate::archive::progress::Progress;
use crate::archive::read::{ReadError, Reading, read_archive};

/// Left for the manifest.
const FOR_MANIFEST: Duration = Duration::from_secs(15);

/// What was proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The level reached.
    pub level: VerificationLevel,
    /// What is known of the content.
    pub content: Content,
    /// Why the level asked for was not reached.
    pub shortfall: Option<TaskError>,
    /// Other members that were found to hold the same.
    pub agreeing: Vec<String>,
}

impl Proof {
    /// What the stream alone proves.
    pub fn of_stream(facts: &Facts) -> Self {
        let level = match &facts.content {
            Content::Verified(_) => VerificationLevel::Content,
            Content::Unverified { reason: _ } => VerificationLevel::Checksum,
        };
        Self { level, content: facts.content.clone(), shortfall: None, agreeing: Vec::new() }
    }

    fn short(self, reason: Reason, words: impl AsRef<str>) -> Self {
        Self { shortfall: Some(TaskError::new(reason, words)), ..self }
    }
}

/// An archive that lies in the store and is not published yet.
pub struct Unpublished<'u> {
    /// Its store.
    pub store: &'u dyn ObjectStore,
    /// Its key.
    pub key: &'u ObjectKey,
    /// Its manifest as it would be without further proof.
    pub manifest: &'u Manifest,
    /// Shows how far it is.
    pub progress: &'u Arc<Progress>,
    /// One archive is read back at a time: that takes more memory than writing one.
    pub reading: &'u Semaphore,
}

/// What ends the work.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'b> {
    /// When the attempt must be over.
    pub deadline: Instant,
    /// The caller gives it up.
    pub cancel: &'b CancellationToken,
}

impl Bounds<'_> {
    /// What comes of `work` within them, and nothing after. Only for work that leaves nothing behind.
    ///
    /// # Errors
    /// They were reached.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, BackupError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(BackupError::Interrupted),
            done = tokio::time::timeout_at(self.deadline, work) => done.map_err(|_elapsed| BackupError::Late),
        }
    }

    /// When there is just time for the manifest.
    pub fn until(&self) -> Instant {
        self.deadline.checked_sub(FOR_MANIFEST).unwrap_or(self.deadline)
    }
}

/// Proves content where the stream did not.
///
/// # Errors
/// The archive is not what was written.
pub async fn prove_content(proof: Proof, archive: &Unpublished<'_>, bounds: Bounds<'_>) -> Result<Proof, BackupError> {
    let Content::Unverified { reason } = proof.content else { return Ok(proof) };
    let Unpublished { store, key, manifest, progress, reading } = archive;
    if !manifest.archive.recipients.is_empty() {
        let words =
            format!("{reason}, and an encrypted archive cannot be read back on a master: it has no private key");
        return Ok(proof.short(Reason::VerificationFailed, words));
    }
    let read = async {
        let _turn = tokio::select! {
            biased;
            () = bounds.cancel.cancelled() => return Err(ReadError::Stopped),
            turn = reading.acquire() => turn.map_err(|_closed| ReadError::Stopped)?,
        };
        read_archive(*store, key, manifest, Reading::default(), progress, bounds.cancel).await
    };
    match tokio::time::timeout_at(bounds.until(), read).await {
        Ok(Ok(Facts { content: content @ Content::Verified(_), size: _, file_sha256: _ })) => {
            Ok(Proof { level: VerificationLevel::Content, content, shortfall: None, agreeing: Vec::new() })
        }
        Ok(Ok(Facts { content: Content::Unverified { reason }, size: _, file_sha256: _ })) => {
            Ok(proof.short(Reason::VerificationFailed, format!("{reason}, also when it was read back")))
        }
        // It lies in the store as it was sent, so far as the store's own checksums tell.
        Ok(Err(error @ (ReadError::Store(_) | ReadError::Stopped))) => {
            Ok(proof.short(Reason::VerificationFailed, format!("{reason}, and it could not be read back: {error}")))
        }
        Err(_elapsed) => {
            let words = format!("{reason}, and there was no time left to read it back");
            Ok(proof.short(Reason::DeadlineExceeded, words))
        }
        Ok(Err(
            error @ (ReadError::Corrupt(_)
            | ReadError::Snapshot(_)
            | ReadError::Mismatch(_)
            | ReadError::NotSupported(_)
            | ReadError::Encrypted { .. }
            | ReadError::Write(_)),
        )) => Err(BackupError::ReadBack(error)),
    }
}

/// Members that hold different data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// Up to which revision.
    pub revision: i64,
    /// Which, with their hashes.
    pub members: BTreeMap<String, u32>,
}

/// Proves that the members hold what the snapshot holds.
///
/// # Errors
/// They do not, or the snapshot is not what its own member holds.
pub async fn prove_members(
    proof: Proof,
    hash_kv: Option<Result<HashKv, HashKvError>>,
    question: &Question<'_>,
) -> Result<Proof, BackupError> {
    let hash_kv = match hash_kv {
        Some(Ok(hash_kv)) => hash_kv,
        Some(Err(error)) => {
            let reason = match &error {
                HashKvError::Scratch(_) => Reason::InsufficientSpool,
                HashKvError::Compacted { .. }
                | HashKvError::BelowCompaction { .. }
                | HashKvError::Future { .. }
                | HashKvError::NothingAlive { .. } => Reason::CompactionMoved,
                HashKvError::Unverified { .. } => Reason::VerificationFailed,
            };
            return Ok(proof.short(reason, format!("nothing to compare with the members: {error}")));
        }
        None => return Ok(proof),
    };
    match compare_members(question, hash_kv).await {
        Verdict::Agreed { others } => Ok(Proof { level: VerificationLevel::Members, agreeing: others, ..proof }),
        Verdict::NotCompared(error) => Ok(Proof { shortfall: Some(error), ..proof }),
        Verdict::Diverged { revision, members } => {
            let words = names(&members);
            Err(BackupError::Diverged { diverged: Diverged { revision, members }, words })
        }
        Verdict::StreamDiffers { member } => Err(BackupError::StreamDiffers { member }),
    }
}

#[cfg(test)]
mod tests;
