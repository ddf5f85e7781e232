//! The work on backups that are over: pins, deletions, verification again. From the object to an errand at the store.
//!
//! What asks for a deletion is looked at again here, in the object as it is now: an assignment alone deletes nothing.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use lifeboat_crds::backup::{BackupResult, DeletionFacts, ExpiryDecision, PinFacts};
use lifeboat_crds::location::AccessMode;
use lifeboat_crds::{BackupId, EtcdBackup, Time, label};
use lifeboat_storage::ObjectStore;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::backup::BackupRunner;
use crate::daemon::worker::now;
use crate::host::identity::HostId;
use crate::keeping::{
    Deletion, KeepError, Place, delete_archive, is_older_than_restore, remove_pin, verify_archive, write_pin,
};
use crate::keyring::Keyring;
use crate::location::LocationOpener;
use crate::location::ownership::Ownership;

/// Pins and deletions at once; further ones wait.
const AT_ONCE: usize = 4;
/// Longest for a pin or a deletion.
const SMALL_LIMIT: Duration = Duration::from_secs(600);
/// For how long a store that does not say whose prefix it is is asked again.
const OWNER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest words of a pin, characters: what a result has room for.
const LONGEST_PIN: usize = 1_024;

/// Something to be done with a backup that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Read the archive back and prove it.
    Verify,
    /// Write or remove `pin.json`, as the annotation says.
    Pin,
    /// Delete the archive.
    Delete,
}

/// Carries errands out.
pub struct ErrandRunner {
    opener: LocationOpener,
    cluster_uid: String,
    host_id: HostId,
    keyring: Arc<Keyring>,
    /// One archive is read at a time, and not beside a database.
    turn: Arc<Semaphore>,
    small: Semaphore,
}

impl ErrandRunner {
    /// Nothing is carried yet. Errands wait their turn with the backups of this runner.
    pub fn beside(backups: &BackupRunner) -> Self {
        Self {
            opener: backups.opener.clone(),
            cluster_uid: backups.cluster_uid.clone(),
            host_id: backups.host_id.clone(),
            keyring: Arc::clone(&backups.keyring),
            turn: Arc::clone(&backups.turn),
            small: Semaphore::new(AT_ONCE),
        }
    }

    /// Carries one errand out; `assigned` is when it was decided. `None` where nobody wants to hear of it.
    pub async fn run(
        &self,
        backup: &EtcdBackup,
        errand: Errand,
        assigned: &Time,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Option<BackupResult> {
        progress.enter(Stage::Waiting);
        let work = async {
            match errand {
                Errand::Verify => self.verify(backup, progress, cancel).await,
                Errand::Pin => self.small(progress, self.pin(backup, cancel)).await,
                Errand::Delete => self.small(progress, self.delete(backup, assigned, cancel)).await,
            }
        };
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(KeepError::Interrupted),
            done = work => done,
        };
        match done {
            Ok(result) => Some(result),
            Err(error) if error.is_interruption() => {
                tracing::info!(backup = backup.name_any(), ?errand, "the errand was interrupted");
                None
            }
            Err(error) => {
                tracing::warn!(backup = backup.name_any(), ?errand, %error, "the errand was not done");
                Some(BackupResult::of_error(error.to_task_error()))
            }
        }
    }

    async fn small(
        &self,
        progress: &Progress,
        work: impl Future<Output = Result<BackupResult, KeepError>>,
    ) -> Result<BackupResult, KeepError> {
        let _turn = self.small.acquire().await.map_err(|_closed| KeepError::Interrupted)?;
        progress.enter(Stage::Preparing);
        tokio::time::timeout(SMALL_LIMIT, work).await.unwrap_or(Err(KeepError::Late(SMALL_LIMIT.as_secs())))
    }

    async fn verify(
        &self,
        backup: &EtcdBackup,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<BackupResult, KeepError> {
        let _turn = self.turn.acquire().await.map_err(|_closed| KeepError::Interrupted)?;
        progress.enter(Stage::Preparing);
        let place = self.place(backup, Access::Read, cancel).await?;
        let seconds = u64::try_from(backup.spec.limits.timeout_seconds).unwrap_or(0);
        let proving = verify_archive(&place, progress, now().0);
        let proven = tokio::time::timeout(Duration::from_secs(seconds), proving).await;
        Ok(BackupResult::of_verification(proven.unwrap_or(Err(KeepError::Late(seconds)))?))
    }

    async fn pin(&self, backup: &EtcdBackup, cancel: &CancellationToken) -> Result<BackupResult, KeepError> {
        let place = self.place(backup, Access::Write, cancel).await?;
        let words = backup.annotations().get(label::PIN).filter(|words| !words.is_empty());
        let facts = match words {
            Some(words) => {
                let words: String = words.chars().take(LONGEST_PIN).collect();
                let pin = write_pin(&place, &words, now().0).await?;
                PinFacts { reason: Some(pin.reason), time: Time(pin.time) }
            }
            None => {
                remove_pin(&place).await?;
                PinFacts { reason: None, time: now() }
            }
        };
        tracing::info!(backup = backup.name_any(), pinned = facts.reason.is_some(), "the pin was changed");
        Ok(BackupResult::of_pin(facts))
    }

    async fn delete(
        &self,
        backup: &EtcdBackup,
        assigned: &Time,
        cancel: &CancellationToken,
    ) -> Result<BackupResult, KeepError> {
        let deletion = deletion_of(backup)?;
        // No version restores yet; whoever does gives the time here.
        if is_older_than_restore(assigned.0, None) {
            return Err(KeepError::BeforeRestore);
        }
        let place = self.place(backup, Access::Write, cancel).await?;
        match delete_archive(&place, &deletion).await {
            Ok(()) => {
                let reasons = deletion.reasons.join(", ");
                tracing::info!(backup = backup.name_any(), by = deletion.by, reasons, "the archive was deleted");
                Ok(BackupResult::of_deletion(DeletionFacts { time: now() }))
            }
            // The bucket knows of a pin that the API server does not: that is the answer.
            Err(KeepError::Pinned(_)) => match place.pin().await? {
                Some(pin) => Ok(BackupResult::of_pin(PinFacts { reason: Some(pin.reason), time: Time(pin.time) })),
                None => Err(KeepError::Pinned("removed in this moment".to_owned())),
            },
            Err(error) => Err(error),
        }
    }

    async fn place(&self, backup: &EtcdBackup, access: Access, cancel: &CancellationToken) -> Result<Place, KeepError> {
        let id = backup.status.as_ref().and_then(|status| status.backup_id.as_deref()).unwrap_or_default();
        let id: BackupId = id
            .parse()
            .map_err(|error: lifeboat_crds::identifier::InvalidBackupId| KeepError::NoBackupId(error.to_string()))?;
        let name = &backup.spec.location_ref.name;
        let location = self.opener.fetch(name).await?;
        match (access, location.spec.access_mode) {
            (Access::Write, AccessMode::ReadOnly) => return Err(KeepError::ReadOnly(name.clone())),
            (Access::Read | Access::Write, AccessMode::ReadWrite) | (Access::Read, AccessMode::ReadOnly) => {}
        }
        let store: Arc<dyn ObjectStore> = self.opener.open(&location.spec).await?;
        match access {
            Access::Read => {}
            Access::Write => {
                let (store, cluster, me) = (store.as_ref(), self.cluster_uid.as_str(), &self.host_id);
                Ownership { store, cluster, me, patience: OWNER_PATIENCE, cancel }.check().await?;
            }
        }
        let known = self.keyring.current().await.known;
        Ok(Place { store, cluster: self.cluster_uid.clone(), backup: id, known, cancel: cancel.clone() })
    }
}

/// What is done to a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Who asks for the deletion in the object as it is now.
fn deletion_of(backup: &EtcdBackup) -> Result<Deletion, KeepError> {
    let status = backup.status.as_ref();
    let id = status.and_then(|status| status.backup_id.as_ref());
    let annotations = backup.annotations();
    if annotations.get(label::PIN).is_some_and(|words| !words.is_empty()) {
        return Err(KeepError::NotAsked);
    }
    if id.is_some() && annotations.get(label::DELETE_ARCHIVE) == id {
        let by = format!("annotation {} on EtcdBackup {}", label::DELETE_ARCHIVE, backup.name_any());
        return Ok(Deletion { by, reasons: Vec::new(), now: now().0 });
    }
    let expiry = status.and_then(|status| status.expiry.as_ref());
    match expiry.map(|expiry| (expiry.decision, &expiry.reasons)) {
        Some((ExpiryDecision::Expire, reasons)) => {
            let schedule = backup.labels().get(label::SCHEDULE).map_or("unknown", String::as_str);
            Ok(Deletion { by: format!("retention of schedule {schedule}"), reasons: reasons.clone(), now: now().0 })
        }
        Some((ExpiryDecision::Keep, _)) | None => Err(KeepError::NotAsked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn backup(annotations: Value, decision: &str) -> EtcdBackup {
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "b", "labels": {label::SCHEDULE: "nightly"}, "annotations": annotations},
            "spec": {"locationRef": {"name": "bucket"}},
            "status": {"backupId": "20261124-020304-00000001", "expiry": {"decision": decision,
                "reasons": ["older than 3 days"], "policyGeneration": 1, "passId": ""}}}))
        .unwrap()
    }

    #[test]
    fn an_assignment_alone_deletes_nothing() {
        let by = |annotations, decision| deletion_of(&backup(annotations, decision)).ok().map(|deletion| deletion.by);
        assert_eq!(by(json!({}), "Keep"), None);
        assert_eq!(by(json!({label::DELETE_ARCHIVE: "yes"}), "Keep"), None);
        assert_eq!(by(json!({label::PIN: "audit"}), "Expire"), None);
        assert_eq!(by(json!({}), "Expire").as_deref(), Some("retention of schedule nightly"));
        assert!(by(json!({label::DELETE_ARCHIVE: "20261124-020304-00000001"}), "Keep").unwrap().contains("annotation"));
    }
}
