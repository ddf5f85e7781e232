//! From a manifest in the bucket to an EtcdBackup in the API: a record of an archive that this API server does not know.
//!
//! Creates records and writes their `status.execution` (task Import, attempt 0); alters no other record, deletes none. An
//! agent that dies between the two leaves a record that the next pass fills in.

use kube::api::PostParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use lifeboat_crds::backup::{ArchiveFacts, BackupResult, PinFacts};
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::marker::PinDocument;
use lifeboat_crds::{BackupId, EtcdBackup, Execution, NodeName, ObjectName, Task, Time, label};
use lifeboat_decisions::retention::{ScheduledRun, scheduled_run};
use lifeboat_process::api_error::api_words;

use super::CatalogError;
use super::records::{API_DEADLINE, Record, State, ask_api};
use crate::report::{Reporter, Written};

/// What became of an archive without a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It has one now.
    Made,
    /// It had one all along.
    Known,
    /// The API server takes none for it, in these words.
    Refused(String),
}

/// Makes records.
#[derive(Clone)]
pub struct Importer {
    /// Records that may be unreadable to this version.
    pub api: Api<DeserializeGuard<EtcdBackup>>,
    /// Makes them.
    pub create_api: Api<EtcdBackup>,
    /// Writes their execution.
    pub reporter: Reporter,
    /// This node.
    pub node: NodeName,
    /// Namespace of the records.
    pub namespace: String,
    /// The location they are on.
    pub location: String,
}

/// The record of an archive, under a name.
pub fn record_of(manifest: &Manifest, name: &str, namespace: &str, location: &str) -> EtcdBackup {
    let Manifest { backup_id, object, .. } = manifest;
    let mut spec = object.spec.clone();
    spec.location_ref = ObjectName::new(location);
    let mut backup = EtcdBackup::new(name, spec);
    backup.metadata.namespace = Some(namespace.to_owned());
    let annotations = backup.annotations_mut();
    annotations.insert(label::IMPORTED.to_owned(), backup_id.to_string());
    if let Some(ScheduledRun { schedule, slot }) = scheduled_run(object) {
        // A schedule must know which slot this run served, or it would take it for one of today.
        annotations.insert(label::SLOT.to_owned(), slot.to_string());
        backup.labels_mut().insert(label::SCHEDULE.to_owned(), schedule.to_owned());
    }
    backup
}

/// What `pin.json` says, for the record. One that cannot be read still pins.
pub fn pin_facts(bytes: &[u8], now: Time) -> PinFacts {
    match PinDocument::from_bytes(bytes) {
        Ok(document) => {
            let reason = document.payload.reason.chars().take(1_024).collect();
            PinFacts { reason: Some(reason), time: Time(document.payload.time) }
        }
        Err(error) => PinFacts { reason: Some(format!("pin.json cannot be read: {error}")), time: now },
    }
}

impl Importer {
    /// Gives an archive its record, unless it has one under the name it was made for.
    ///
    /// # Errors
    /// The API server fails.
    pub async fn import(&self, manifest: &Manifest, facts: ArchiveFacts, now: Time) -> Result<Imported, CatalogError> {
        let id = &manifest.backup_id;
        for name in [manifest.object.name.as_str(), id.as_str()] {
            match self.create(manifest, name).await? {
                Created::Record { name, uid } => return self.fill_in(&name, &uid, facts, now).await,
                Created::Taken => {}
                Created::Refused(words) => return Ok(Imported::Refused(words)),
            }
            match self.holder(name, id, &facts.archive).await? {
                Holder::SameArchive => return Ok(Imported::Known),
                Holder::Unfilled { uid } => return self.fill_in(name, &uid, facts, now).await,
                Holder::Other => {}
            }
        }
        Ok(Imported::Refused(format!("the names {} and {id} are taken by other backups", manifest.object.name)))
    }

    async fn create(&self, manifest: &Manifest, name: &str) -> Result<Created, CatalogError> {
        let record = record_of(manifest, name, &self.namespace, &self.location);
        let params = PostParams { field_manager: Some(self.reporter.manager().to_owned()), ..PostParams::default() };
        let asked = tokio::time::timeout(API_DEADLINE, self.create_api.create(&params, &record));
        match asked.await {
            Ok(Ok(made)) => Ok(Created::Record { name: made.name_any(), uid: made.uid().unwrap_or_default() }),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Created::Taken),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 422) => {
                Ok(Created::Refused(status.message.clone()))
            }
            Ok(Err(error)) => Err(CatalogError::Api { doing: "creating an EtcdBackup", words: api_words(&error) }),
            Err(_elapsed) => {
                Err(CatalogError::Api { doing: "creating an EtcdBackup", words: "no answer in time".to_owned() })
            }
        }
    }

    /// Whose record has the name that an archive should have.
    async fn holder(&self, name: &str, id: &BackupId, archive: &str) -> Result<Holder, CatalogError> {
        let found = ask_api("reading an EtcdBackup", self.api.get_opt(name)).await?;
        // It went meanwhile: the next pass makes the record.
        let Some(found) = found else { return Ok(Holder::SameArchive) };
        let Ok(backup) = &found.0 else { return Ok(Holder::Other) };
        let Some(record) = Record::of(backup).filter(|record| record.id == *id) else { return Ok(Holder::Other) };
        if backup.spec.location_ref.name != self.location {
            // Two locations may lead to one place: each archive there is shown once.
            let shown = backup.status.as_ref().and_then(|status| status.archive.as_deref());
            return Ok(if shown == Some(archive) { Holder::SameArchive } else { Holder::Other });
        }
        Ok(match record.state {
            State::Importing => Holder::Unfilled { uid: record.uid.into() },
            State::Running | State::Leaving | State::Complete(_) => Holder::SameArchive,
            State::Failed => Holder::Other,
        })
    }

    /// Writes into a record what its archive is.
    ///
    /// # Errors
    /// The API server fails.
    pub async fn fill_in(
        &self,
        name: &str,
        uid: &str,
        facts: ArchiveFacts,
        now: Time,
    ) -> Result<Imported, CatalogError> {
        let execution = Execution {
            node_name: self.node.clone(),
            attempt: 0,
            task: Task::Import,
            stage: None,
            bytes_done: None,
            bytes_total: None,
            start_time: now.clone(),
            heartbeat_time: now,
            result: Some(BackupResult::of_archive(facts)),
        };
        match self.reporter.write_execution::<EtcdBackup, _>(name, uid, &execution).await {
            Ok(Written::Landed) => Ok(Imported::Made),
            // Deleted in this moment, or filled in by somebody else.
            Ok(Written::Gone) => Ok(Imported::Known),
            Ok(Written::NotOurs(words)) => Ok(Imported::Refused(words)),
            Err(error) => Err(CatalogError::Api { doing: "filling in an EtcdBackup", words: error.to_string() }),
        }
    }
}

enum Created {
    Record { name: String, uid: String },
    Taken,
    Refused(String),
}

enum Holder {
    SameArchive,
    Unfilled { uid: String },
    Other,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_pin_that_cannot_be_read_still_pins() {
        let facts = pin_facts(b"{", Time(Timestamp::UNIX_EPOCH));
        assert!(facts.reason.unwrap().contains("cannot be read"));
    }
}
