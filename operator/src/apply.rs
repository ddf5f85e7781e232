//! Carries decisions out: status by server-side apply, children by create, records by delete.
//!
//! Every write passes the leader's [`Gate`]. A status is sent whole (what is left out would be removed), only if it
//! differs from what the cache shows, and with the resourceVersion it rests on, so that no decision from a stale cache
//! ever lands. No `if` on business state here.

use std::fmt::Debug;
use std::time::Instant;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use lifeboat_crds::{API_VERSION, EtcdBackup, EtcdMember, EtcdRestore, OPERATOR_FIELD_MANAGER, label};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::freshness::Freshness;
use crate::kind::Watched;
use crate::leadership::Gate;
use crate::stores::Guarded;
use lifeboat_process::api_error::api_words;

/// Why a reconcile failed. Losing a race is no failure, see [`Written`].
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// This process no longer leads.
    #[error("this replica no longer leads; nothing was written")]
    NotLeading,
    /// The API server refuses what was sent.
    #[error("the API server refuses the {kind}: {message}; is the CRD of the same version as the operator?")]
    Refused {
        /// What was sent.
        kind: &'static str,
        /// The server's words.
        message: String,
    },
    /// The service account lacks a right.
    #[error("the operator may not do this: {0}; check its Role")]
    Forbidden(String),
    /// The API server cannot be reached or has errors of its own.
    #[error("the API server did not answer as it should: {0}")]
    Unavailable(String),
    /// The reconcile took too long.
    #[error("the API server did not answer in time")]
    TimedOut,
    /// An object could not be turned into JSON.
    #[error("cannot write the status as JSON: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// It passes by itself.
    Transient,
    /// Somebody must change something; tried again rarely.
    Permanent,
}

impl ReconcileError {
    /// Whether trying again can help.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::NotLeading | Self::Unavailable(_) | Self::TimedOut => ErrorClass::Transient,
            Self::Refused { .. } | Self::Forbidden(_) | Self::Unwritable(_) => ErrorClass::Permanent,
        }
    }

    /// The variant's name, for the metric.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotLeading => "NotLeading",
            Self::Refused { .. } => "Refused",
            Self::Forbidden(_) => "Forbidden",
            Self::Unavailable(_) => "Unavailable",
            Self::TimedOut => "TimedOut",
            Self::Unwritable(_) => "Unwritable",
        }
    }

    fn of(kind: &'static str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::Forbidden(status.message.clone()),
            kube::Error::Api(status) if matches!(status.code, 400 | 422) => {
                Self::Refused { kind, message: status.message.clone() }
            }
            other => Self::Unavailable(api_words(&other)),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was sent and taken.
    Applied,
    /// There was nothing to send.
    Unchanged,
    /// The object changed since it was read: decide again from the newer one.
    Outdated,
    /// The object is gone.
    Gone,
}

/// What a status write rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The very version that was decided upon.
    Version,
    /// Nothing: the fields sent depend on no others of the object.
    None,
}

/// Writes on behalf of the leader.
pub struct ObjectWriter {
    client: Client,
    namespace: String,
    gate: Gate,
    /// What the caches must show before the next decision.
    pub freshness: Freshness,
}

impl ObjectWriter {
    /// A writer into one namespace, closed by `gate`.
    pub fn new(client: Client, namespace: &str, gate: Gate) -> Self {
        Self { client, namespace: namespace.to_owned(), gate, freshness: Freshness::default() }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pass_gate(&self) -> Result<(), ReconcileError> {
        if self.gate.may_write() { Ok(()) } else { Err(ReconcileError::NotLeading) }
    }

    /// Makes `wanted` the operator's part of the status, if `current`, the operator's part as cached, differs.
    ///
    /// # Errors
    /// What the API server answers, except that the object changed or is gone.
    pub async fn apply_status<K, S>(
        &self,
        object: &K,
        current: &S,
        wanted: &S,
        lock: Lock,
    ) -> Result<Written, ReconcileError>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        S: Serialize,
    {
        // Compared as JSON, which is what the server keeps: times there have whole seconds.
        let wanted = serde_json::to_value(wanted)?;
        if serde_json::to_value(current)? == wanted {
            return Ok(Written::Unchanged);
        }
        self.pass_gate()?;
        let name = object.name_any();
        let patch = Patch::Apply(status_patch(object, wanted, lock));
        let params = PatchParams::apply(OPERATOR_FIELD_MANAGER).force();
        // The answer may be an object that this version cannot read; only its metadata matters.
        match self.api::<Guarded<K>>().patch_status(&name, &params, &patch).await {
            Ok(written) => {
                if let (Some(uid), Some(upon)) = (object.uid(), object.resource_version()) {
                    self.freshness.wrote(&uid, &upon, written.resource_version().as_deref());
                }
                Ok(Written::Applied)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Written::Outdated),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
            Err(error) => Err(ReconcileError::of(K::KIND.as_str(), error)),
        }
    }

    /// Creates a backup on behalf of `parent`. One that exists is left alone: names are deterministic, so it is the
    /// same run, or a foreign object that the decision will see next time.
    ///
    /// # Errors
    /// What the API server answers, except that the name is taken.
    pub async fn create_backup<K: Resource>(&self, parent: &K, backup: &EtcdBackup) -> Result<(), ReconcileError> {
        self.pass_gate()?;
        let mut backup = backup.clone();
        backup.metadata.namespace = Some(self.namespace.clone());
        let name = backup.name_any();
        let params = PostParams { field_manager: Some(OPERATOR_FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api::<EtcdBackup>().create(&params, &backup).await {
            Ok(_) => tracing::info!(backup = name, "backup created"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(ReconcileError::of(EtcdBackup::KIND.as_str(), error)),
        }
        if let Some(uid) = parent.meta().uid.as_deref() {
            self.freshness.created(uid, &name, Instant::now());
        }
        Ok(())
    }

    /// Creates a restore again that its own rewind wiped out. One that exists is left alone: GitOps was faster.
    ///
    /// # Errors
    /// What the API server answers, except that the name is taken.
    pub async fn create_restore(&self, restore: &EtcdRestore) -> Result<(), ReconcileError> {
        self.pass_gate()?;
        let mut restore = restore.clone();
        restore.metadata.namespace = Some(self.namespace.clone());
        let params = PostParams { field_manager: Some(OPERATOR_FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api::<EtcdRestore>().create(&params, &restore).await {
            Ok(_) => tracing::info!(restore = restore.name_any(), "restore made again with its outcome"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(ReconcileError::of(EtcdRestore::KIND.as_str(), error)),
        }
        Ok(())
    }

    /// Notes on a member for which restore an EtcdRestore was made again.
    ///
    /// # Errors
    /// What the API server answers, except that the member is gone.
    pub async fn note_told(&self, member: &EtcdMember, restore_id: &str) -> Result<Written, ReconcileError> {
        self.pass_gate()?;
        let patch = json!({"metadata": {"annotations": {label::TOLD: restore_id}}});
        let params = PatchParams { field_manager: Some(OPERATOR_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match self.api::<Guarded<EtcdMember>>().patch_metadata(&member.name_any(), &params, &Patch::Merge(&patch)).await
        {
            Ok(_) => Ok(Written::Applied),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
            Err(error) => Err(ReconcileError::of(EtcdMember::KIND.as_str(), error)),
        }
    }

    /// Deletes the record of a backup, if it is still the one that was decided upon.
    ///
    /// # Errors
    /// What the API server answers, except that the object changed or is gone.
    pub async fn delete_backup(&self, backup: &EtcdBackup) -> Result<Written, ReconcileError> {
        self.pass_gate()?;
        let preconditions = Preconditions { uid: backup.uid(), resource_version: backup.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api::<EtcdBackup>().delete(&backup.name_any(), &params).await {
            Ok(_) => Ok(Written::Applied),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Written::Outdated),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
            Err(error) => Err(ReconcileError::of(EtcdBackup::KIND.as_str(), error)),
        }
    }
}

/// The apply patch of a status. Sends nothing but the status, and the version it rests on.
fn status_patch<K: Watched>(object: &K, status: Value, lock: Lock) -> Value {
    let version = match lock {
        Lock::Version => object.meta().resource_version.clone(),
        Lock::None => None,
    };
    let mut metadata = json!({"name": object.name_any()});
    if let Some(version) = version {
        metadata["resourceVersion"] = Value::String(version);
    }
    json!({"apiVersion": API_VERSION, "kind": K::KIND.as_str(), "metadata": metadata, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Conversation;
    use lifeboat_crds::{EtcdBackupStatus, EtcdMember};

    const BACKUPS: &str = "/apis/etcd.lifeboat.dev/v1alpha1/namespaces/lifeboat/etcdbackups";

    fn backup() -> EtcdBackup {
        serde_json::from_value(json!({"apiVersion": API_VERSION, "kind": "EtcdBackup",
            "metadata": {"name": "b", "namespace": "lifeboat", "uid": "u", "resourceVersion": "41"},
            "spec": {"locationRef": {"name": "bucket"}}, "status": {"observedGeneration": -1}}))
        .unwrap()
    }

    fn status(generation: i64) -> EtcdBackupStatus {
        EtcdBackupStatus { observed_generation: Some(generation), ..EtcdBackupStatus::default() }
    }

    fn stored(version: &str) -> Value {
        let mut stored = serde_json::to_value(backup()).unwrap();
        stored["metadata"]["resourceVersion"] = json!(version);
        stored
    }

    fn writer(is_leader: bool) -> (ObjectWriter, Conversation) {
        let (client, server) = Conversation::start();
        (ObjectWriter::new(client, "lifeboat", Gate::fixed(is_leader)), server)
    }

    #[tokio::test]
    async fn a_status_is_applied_by_force_whole_and_upon_the_version_read() {
        let (writer, mut server) = writer(true);
        let script = async {
            let asked = server.expect("PATCH", &format!("{BACKUPS}/b/status")).await;
            let query = asked.uri.split_once('?').unwrap().1;
            let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
            pairs.sort_unstable();
            assert_eq!(pairs, ["fieldManager=lifeboat-operator", "force=true"]);
            assert_eq!(asked.content_type, "application/apply-patch+yaml");
            assert_eq!(
                *asked.json(),
                json!({"apiVersion": API_VERSION, "kind": "EtcdBackup",
                    "metadata": {"name": "b", "resourceVersion": "41"}, "status": {"observedGeneration": 1}})
            );
            asked.answer(200, &stored("42"));
        };
        let (object, current, wanted) = (backup(), status(-1), status(1));
        let (written, ()) = tokio::join!(writer.apply_status(&object, &current, &wanted, Lock::Version), script);
        assert_eq!(written.unwrap(), Written::Applied);
        assert!(writer.freshness.is_stale("u", "41", |_| true, Instant::now()), "the cache still shows version 41");
    }

    #[tokio::test]
    async fn an_unchanged_status_is_not_sent() {
        let (writer, _server) = writer(true);
        let written = writer.apply_status(&backup(), &status(1), &status(1), Lock::Version).await;
        assert_eq!(written.unwrap(), Written::Unchanged);
    }

    #[tokio::test]
    async fn parts_of_seconds_are_no_change() {
        let (writer, _server) = writer(true);
        let at = |text: &str| EtcdBackupStatus {
            start_time: Some(lifeboat_crds::Time(text.parse().unwrap())),
            ..EtcdBackupStatus::default()
        };
        let (current, wanted) = (at("2026-11-24T00:00:00Z"), at("2026-11-24T00:00:00.7Z"));
        let written = writer.apply_status(&backup(), &current, &wanted, Lock::Version).await;
        assert_eq!(written.unwrap(), Written::Unchanged);
    }

    #[tokio::test]
    async fn whoever_does_not_lead_sends_nothing() {
        let (writer, server) = writer(false);
        drop(server); // Any request would now fail as Unavailable.
        let results = [
            writer.apply_status(&backup(), &status(-1), &status(1), Lock::Version).await.map(drop),
            writer.create_backup(&backup(), &backup()).await,
            writer.delete_backup(&backup()).await.map(drop),
            writer.create_restore(&EtcdRestore::new("r", spec())).await,
            writer.note_told(&EtcdMember::new("m1", lifeboat_crds::member::EtcdMemberSpec {}), "id").await.map(drop),
        ];
        for result in results {
            assert!(matches!(result, Err(ReconcileError::NotLeading)), "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_decision_from_a_stale_cache_is_outdated_and_no_error() {
        let (writer, mut server) = writer(true);
        let script = async { server.expect("PATCH", BACKUPS).await.answer_conflict() };
        let (object, current, wanted) = (backup(), status(-1), status(1));
        let (written, ()) = tokio::join!(writer.apply_status(&object, &current, &wanted, Lock::Version), script);
        assert_eq!(written.unwrap(), Written::Outdated);
    }

    #[tokio::test]
    async fn the_servers_refusal_and_a_missing_right_are_told_apart() {
        let (writer, mut server) = writer(true);
        let (object, current, wanted) = (backup(), status(-1), status(1));
        let script = async {
            server.expect("PATCH", BACKUPS).await.refuse(422, "Invalid", "status.phase: Too long");
            server.expect("PATCH", BACKUPS).await.refuse(403, "Forbidden", "cannot patch etcdbackups/status");
            server.expect("PATCH", BACKUPS).await.refuse(500, "InternalError", "etcdserver: request timed out");
        };
        let calls = async {
            let mut errors = Vec::new();
            for _ in 0..3 {
                errors.push(writer.apply_status(&object, &current, &wanted, Lock::Version).await.unwrap_err());
            }
            errors
        };
        let (errors, ()) = tokio::join!(calls, script);
        let seen: Vec<_> = errors.iter().map(|error| (error.reason(), error.class())).collect();
        assert_eq!(
            seen,
            [
                ("Refused", ErrorClass::Permanent),
                ("Forbidden", ErrorClass::Permanent),
                ("Unavailable", ErrorClass::Transient)
            ]
        );
        assert!(errors[0].to_string().contains("Too long"));
    }

    #[tokio::test]
    async fn a_backup_that_exists_already_is_left_alone() {
        let (writer, mut server) = writer(true);
        let script = async {
            let asked = server.expect("POST", &format!("{BACKUPS}?")).await;
            assert!(asked.uri.contains("fieldManager=lifeboat-operator"), "{}", asked.uri);
            assert_eq!(asked.json()["metadata"]["namespace"], "lifeboat");
            asked.refuse(409, "AlreadyExists", "etcdbackups \"b\" already exists");
        };
        let object = backup();
        let (created, ()) = tokio::join!(writer.create_backup(&object, &object), script);
        created.unwrap();
    }

    fn spec() -> lifeboat_crds::EtcdRestoreSpec {
        serde_json::from_value(json!({"cluster": {"from": {"backupRef": {"name": "b"}}}})).unwrap()
    }

    #[tokio::test]
    async fn a_restore_is_made_again_unless_gitops_was_faster_and_that_is_noted() {
        let (writer, mut server) = writer(true);
        let script = async {
            let asked =
                server.expect("POST", "/apis/etcd.lifeboat.dev/v1alpha1/namespaces/lifeboat/etcdrestores?").await;
            assert_eq!(asked.json()["metadata"], json!({"name": "r", "namespace": "lifeboat"}));
            asked.refuse(409, "AlreadyExists", "etcdrestores \"r\" already exists");
            let members = "/apis/etcd.lifeboat.dev/v1alpha1/namespaces/lifeboat/etcdmembers";
            let asked = server.expect("PATCH", &format!("{members}/m1?")).await;
            assert!(asked.uri.contains("fieldManager=lifeboat-operator"), "{}", asked.uri);
            assert_eq!(asked.content_type, "application/merge-patch+json");
            assert_eq!(*asked.json(), json!({"metadata": {"annotations": {label::TOLD: "id"}}}));
            asked.answer(200, &json!({"apiVersion": API_VERSION, "kind": "EtcdMember", "metadata": {"name": "m1"}}));
        };
        let member = EtcdMember::new("m1", lifeboat_crds::member::EtcdMemberSpec {});
        let calls = async {
            writer.create_restore(&EtcdRestore::new("r", spec())).await.unwrap();
            writer.note_told(&member, "id").await.unwrap()
        };
        let (written, ()) = tokio::join!(calls, script);
        assert_eq!(written, Written::Applied);
    }

    #[tokio::test]
    async fn a_record_is_deleted_only_as_it_was_seen() {
        let (writer, mut server) = writer(true);
        let script = async {
            let asked = server.expect("DELETE", &format!("{BACKUPS}/b")).await;
            assert_eq!(asked.json()["preconditions"], json!({"uid": "u", "resourceVersion": "41"}));
            asked.answer_conflict();
        };
        let object = backup();
        let (deleted, ()) = tokio::join!(writer.delete_backup(&object), script);
        assert_eq!(deleted.unwrap(), Written::Outdated);
    }

    #[test]
    fn conditions_of_a_member_rest_on_no_version() {
        let member: EtcdMember = serde_json::from_value(json!({"apiVersion": API_VERSION, "kind": "EtcdMember",
            "metadata": {"name": "m1", "resourceVersion": "9"}}))
        .unwrap();
        assert_eq!(status_patch(&member, json!({}), Lock::None)["metadata"], json!({"name": "m1"}));
    }
}
