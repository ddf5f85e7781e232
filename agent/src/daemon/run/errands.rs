//! The work on backups that are over: pins, deletions, verification again. From the object to an errand at the store.
//!
//! Work waits here, and the object that the watch brought is of when the wait began: what is asked for is looked at in the
//! object as it is in the moment of acting, and an assignment alone deletes nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use lifeboat_crds::backup::{BackupResult, DeletionFacts, ExpiryDecision, PinFacts};
use lifeboat_crds::location::AccessMode;
use lifeboat_crds::{BackupId, EtcdBackup, Time, label};
use lifeboat_decisions::retention::{is_asked_to_go, is_void, last_restore};
use lifeboat_storage::ObjectStore;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::archive::progress::{Progress, Stage};
use crate::backup::BackupRunner;
use crate::daemon::member::last_restore_of;
use crate::daemon::worker::{WorkOrder, now};
use crate::host::files::{HostOptions, read_host};
use crate::host::identity::HostId;
use crate::keeping::{Deletion, KeepError, Place, delete_archive, remove_pin, verify_archive, write_pin};
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
    /// Tells of restores.
    host: HostOptions,
    cluster_uid: String,
    host_id: HostId,
    keyring: Arc<Keyring>,
    /// One archive is read at a time; a database may be read meanwhile.
    reading: Arc<Semaphore>,
    small: Semaphore,
}

impl ErrandRunner {
    /// Nothing is carried yet. Archives are read in turn with those that this runner reads back.
    pub fn beside(backups: &BackupRunner, opener: LocationOpener) -> Self {
        Self {
            opener,
            host: backups.host.clone(),
            cluster_uid: backups.cluster_uid.clone(),
            host_id: backups.host_id.clone(),
            keyring: Arc::clone(&backups.keyring),
            reading: Arc::clone(&backups.reading),
            small: Semaphore::new(AT_ONCE),
        }
    }

    /// Carries one errand out. `None` where nobody wants to hear of it.
    pub async fn run(
        &self,
        backup: &EtcdBackup,
        errand: Errand,
        order: &WorkOrder,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Option<BackupResult> {
        let work = async {
            match errand {
                Errand::Verify => self.verify(backup, progress, cancel).await,
                Errand::Pin => self.small(progress, self.pin(backup, order, cancel)).await,
                Errand::Delete => self.small(progress, self.delete(backup, order, cancel)).await,
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
        let _turn = take_turn(&self.small, progress).await?;
        progress.enter(Stage::Preparing);
        tokio::time::timeout(SMALL_LIMIT, work).await.unwrap_or(Err(KeepError::Late(SMALL_LIMIT.as_secs())))
    }

    async fn verify(
        &self,
        backup: &EtcdBackup,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<BackupResult, KeepError> {
        let _turn = take_turn(&self.reading, progress).await?;
        progress.enter(Stage::Preparing);
        let place = self.place(backup, Access::Read, cancel).await?;
        let seconds = u64::try_from(backup.spec.limits.timeout_seconds).unwrap_or(0);
        let proving = verify_archive(&place, progress, now().0);
        let proven = tokio::time::timeout(Duration::from_secs(seconds), proving).await;
        Ok(BackupResult::of_verification(proven.unwrap_or(Err(KeepError::Late(seconds)))?))
    }

    async fn pin(
        &self,
        backup: &EtcdBackup,
        order: &WorkOrder,
        cancel: &CancellationToken,
    ) -> Result<BackupResult, KeepError> {
        let place = self.place(backup, Access::Write, cancel).await?;
        let backup = &self.fetch_current(order).await?;
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
        order: &WorkOrder,
        cancel: &CancellationToken,
    ) -> Result<BackupResult, KeepError> {
        let place = self.place(backup, Access::Write, cancel).await?;
        let last_restore = self.last_restore().await?;
        // Nothing waits between this and the deletion.
        let backup = &self.fetch_current(order).await?;
        let deletion = deletion_of(backup, &order.assignment.time, last_restore, now().0)?;
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

    /// The object as it is now, if it is still the one, and the work still ours.
    async fn fetch_current(&self, order: &WorkOrder) -> Result<EtcdBackup, KeepError> {
        let found = self.opener.fetch_backup(&order.name).await?;
        found.filter(|backup| is_current(backup, order)).ok_or(KeepError::Interrupted)
    }

    /// When this cluster was last restored: by this host's own file, and by what the other masters tell.
    async fn last_restore(&self) -> Result<Option<Timestamp>, KeepError> {
        let options = self.host.clone();
        let read = tokio::task::spawn_blocking(move || last_restore_of(&options, &read_host(&options)));
        let own = read.await.map_err(|_panicked| KeepError::Interrupted)?;
        let members = self.opener.fetch_members().await?;
        let told = members.iter().filter_map(|member| member.status.as_ref()?.facts.last_restore.as_ref());
        Ok(last_restore(told.chain(&own)))
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

/// A turn; that it is waited for is told only where it is.
async fn take_turn<'t>(turns: &'t Semaphore, progress: &Progress) -> Result<SemaphorePermit<'t>, KeepError> {
    if let Ok(turn) = turns.try_acquire() {
        return Ok(turn);
    }
    progress.enter(Stage::Waiting);
    turns.acquire().await.map_err(|_closed| KeepError::Interrupted)
}

/// What is done to a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Whether an object is still the one that the work is for, and still asks for it of this agent.
fn is_current(backup: &EtcdBackup, order: &WorkOrder) -> bool {
    let WorkOrder { name: _, uid, assignment } = order;
    let assigned = backup.status.as_ref().and_then(|status| status.assignment.as_ref());
    backup.metadata.uid.as_ref() == Some(uid) && assigned == Some(assignment)
}

/// Who asks for the deletion in the object as it is now. What was decided upon an API server that was put back since is void:
/// a policy's decision is of the listing that it rests on, a human's of when it was assigned.
fn deletion_of(
    backup: &EtcdBackup,
    assigned: &Time,
    last_restore: Option<Timestamp>,
    now: Timestamp,
) -> Result<Deletion, KeepError> {
    let annotations = backup.annotations();
    if annotations.get(label::PIN).is_some_and(|words| !words.is_empty()) {
        return Err(KeepError::NotAsked);
    }
    let expiry = backup.status.as_ref().and_then(|status| status.expiry.as_ref());
    let (is_void, by, reasons) = if is_asked_to_go(backup) {
        let by = format!("annotation {} on EtcdBackup {}", label::DELETE_ARCHIVE, backup.name_any());
        (false, by, Vec::new())
    } else {
        match expiry.map(|expiry| (expiry.decision, expiry)) {
            Some((ExpiryDecision::Expire, expiry)) => {
                let schedule = backup.labels().get(label::SCHEDULE).map_or("unknown", String::as_str);
                let by = format!("retention of schedule {schedule}");
                (is_void(expiry, last_restore), by, expiry.reasons.clone())
            }
            Some((ExpiryDecision::Keep, _)) | None => return Err(KeepError::NotAsked),
        }
    };
    if is_void || last_restore.is_some_and(|restored| assigned.0 <= restored) {
        return Err(KeepError::BeforeRestore);
    }
    Ok(Deletion { by, reasons, now })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::host::files::HostRoot;

    const ID: &str = "20261124-020304-00000001";
    const PASS: &str = "20261124-100000-0000000a";

    fn backup(annotations: Value, decision: &str) -> EtcdBackup {
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "b", "uid": "u", "labels": {label::SCHEDULE: "nightly"}, "annotations": annotations},
            "spec": {"locationRef": {"name": "bucket"}},
            "status": {"backupId": ID, "assignment": {"nodeName": "m1", "attempt": 2, "task": "Delete", "time": at(11).to_string()},
                "expiry": {"decision": decision, "reasons": ["older than 3 days"], "policyGeneration": 1, "passId": PASS}}}))
        .unwrap()
    }

    fn at(hour: i8) -> Timestamp {
        jiff::civil::date(2026, 11, 24).at(hour, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
    }

    fn decide(backup: &EtcdBackup, last_restore: Option<Timestamp>) -> Result<String, KeepError> {
        deletion_of(backup, &Time(at(11)), last_restore, at(12)).map(|deletion| deletion.by)
    }

    #[test]
    fn an_assignment_alone_deletes_nothing() {
        let by = |annotations, decision| decide(&backup(annotations, decision), None).ok();
        assert_eq!(by(json!({}), "Keep"), None);
        assert_eq!(by(json!({label::DELETE_ARCHIVE: "yes"}), "Keep"), None);
        assert_eq!(by(json!({label::PIN: "audit"}), "Expire"), None);
        assert_eq!(by(json!({label::PIN: "audit", label::DELETE_ARCHIVE: ID}), "Expire"), None);
        assert_eq!(by(json!({}), "Expire").as_deref(), Some("retention of schedule nightly"));
        assert!(by(json!({label::DELETE_ARCHIVE: ID}), "Keep").unwrap().contains("annotation"));
    }

    #[test]
    fn a_decision_that_rests_on_a_listing_of_before_the_last_restore_is_void() {
        let expired = backup(json!({}), "Expire");
        let is_done = |backup: &EtcdBackup, restored| match decide(backup, restored) {
            Ok(_) => true,
            Err(KeepError::BeforeRestore) => false,
            Err(error) => panic!("{error}"),
        };
        assert!(is_done(&expired, None) && is_done(&expired, Some(at(9))));
        assert!(!is_done(&expired, Some(at(10))), "in doubt");
        // The operator of the API server that was put back assigns what is void anew.
        let between = at(10).checked_add(jiff::SignedDuration::from_mins(30)).unwrap();
        assert!(!is_done(&expired, Some(between)));
        let mut undated = expired;
        undated.status.as_mut().unwrap().expiry.as_mut().unwrap().pass_id = "none".into();
        assert!(is_done(&undated, None) && !is_done(&undated, Some(at(9))));
        let asked = backup(json!({label::DELETE_ARCHIVE: ID}), "Keep");
        assert!(is_done(&asked, Some(between)) && !is_done(&asked, Some(at(11))));
    }

    fn order() -> WorkOrder {
        let assignment = json!({"nodeName": "m1", "attempt": 2, "task": "Delete", "time": at(11).to_string()});
        WorkOrder { name: "b".into(), uid: "u".into(), assignment: serde_json::from_value(assignment).unwrap() }
    }

    /// A master with an archive in a directory, and an API server that has one EtcdBackup, or none.
    struct Bed {
        shelf: tempfile::TempDir,
        runner: ErrandRunner,
    }

    impl Bed {
        fn new(found: Option<&EtcdBackup>) -> Self {
            let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
            let location = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
                "metadata": {"name": "bucket"}, "spec": {"directory": {"mount": "shelf"}}});
            let members = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdMemberList", "metadata": {}, "items": []});
            let found = found.map(|backup| serde_json::to_value(backup).unwrap());
            tokio::spawn(async move {
                while let Some((request, send)) = handle.next_request().await {
                    let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
                    let (_, kind) = request.uri().path().split_once("/namespaces/lifeboat/").unwrap();
                    let answer = match kind {
                        "etcdbackuplocations/bucket" => Some(location.clone()),
                        "etcdmembers" => Some(members.clone()),
                        "etcdbackups/b" => found.clone(),
                        "secrets/lifeboat-installation" => None,
                        other => panic!("{other}"),
                    };
                    let code = if answer.is_some() { 200 } else { 404 };
                    let body = Body::from(serde_json::to_vec(&answer.unwrap_or(missing)).unwrap());
                    send.send_response(Response::builder().status(code).body(body).unwrap());
                }
            });
            let client = Client::new(service, "lifeboat");
            let shelf = tempfile::tempdir().unwrap();
            let me = HostId::fixed('0');
            let put = |path: &str, body: Value| {
                let path = shelf.path().join("uid").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, body.to_string()).unwrap();
            };
            put("owner.json", json!({"formatVersion": "1.0", "payload": {"uid": "uid", "hosts": [me.as_str()]}}));
            put(&format!("backups/{ID}/manifest.json"), json!({}));
            put(&format!("backups/{ID}/snapshot-1-aa.db.zst"), json!("data"));
            let directories = BTreeMap::from([("shelf".to_owned(), shelf.path().to_owned())]);
            let runner = ErrandRunner {
                opener: LocationOpener::new(client.clone(), "lifeboat", directories),
                // A host without anything that looks like etcd.
                host: HostOptions { root: HostRoot::new(shelf.path().join("host")), ..HostOptions::default() },
                cluster_uid: "uid".into(),
                host_id: me,
                keyring: Arc::new(Keyring::open(client, "lifeboat", shelf.path())),
                reading: Arc::new(Semaphore::new(1)),
                small: Semaphore::new(1),
            };
            Self { shelf, runner }
        }

        /// What comes of the errand for which the watch brought an object.
        async fn run(&self, brought: &EtcdBackup) -> Option<BackupResult> {
            let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
            self.runner.run(brought, Errand::Delete, &order(), &progress, &cancel).await
        }

        fn has_archive(&self) -> bool {
            let place = self.shelf.path().join("uid/backups").join(ID);
            let is_marked = place.join("expired.json").exists();
            let is_there = ["manifest.json", "snapshot-1-aa.db.zst"].map(|name| place.join(name).exists());
            assert_eq!(is_there, [!is_marked; 2], "whole, or gone with a word");
            !is_marked
        }
    }

    #[tokio::test]
    async fn a_turn_is_waited_for_only_where_another_has_it() {
        let (turns, progress) = (Semaphore::new(1), Progress::default());
        let first = take_turn(&turns, &progress).await.unwrap();
        assert_eq!(progress.stage(), Stage::Preparing);
        let mut second = std::pin::pin!(take_turn(&turns, &progress));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert_eq!(progress.stage(), Stage::Waiting);
        drop(first);
        assert!(second.await.is_ok());
    }

    /// Between the watch and the turn of an errand may lie half an hour.
    #[tokio::test]
    async fn what_counts_is_the_object_in_the_moment_of_acting() {
        let brought = backup(json!({}), "Expire");
        let bed = Bed::new(Some(&brought));
        assert!(bed.run(&brought).await.unwrap().deletion.is_some() && !bed.has_archive());
        // The policy was loosened, or somebody pinned it.
        for found in [backup(json!({}), "Keep"), backup(json!({label::PIN: "audit"}), "Expire")] {
            let bed = Bed::new(Some(&found));
            let error = bed.run(&brought).await.unwrap().error.unwrap();
            assert!(error.message.contains("nothing asks") && bed.has_archive(), "{error:?}");
        }
        // It is gone, another of its name, or another agent's by now: nobody wants to hear of it.
        let mut other = brought.clone();
        other.metadata.uid = Some("v".into());
        let mut later = brought.clone();
        later.status.as_mut().unwrap().assignment.as_mut().unwrap().attempt = 3;
        for found in [None, Some(&other), Some(&later)] {
            let bed = Bed::new(found);
            assert!(bed.run(&brought).await.is_none() && bed.has_archive(), "{found:?}");
        }
    }
}
