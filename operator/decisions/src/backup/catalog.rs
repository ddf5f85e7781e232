//! What the listings of a location mean for a backup: its archive was found, is gone, is another than it was, is back.
//!
//! A run that succeeded stays Complete, as a Job does; whether its archive can be used is what `Ready` says. The listing
//! tells changes only, so what is said here stays until another listing says otherwise.

use lifeboat_crds::event::EventReason;
use lifeboat_crds::location::CatalogReport;
use lifeboat_crds::{BackupId, ConditionType, EtcdBackup, EtcdBackupLocation, EtcdBackupStatus, Reason, label};

use super::archive;
use crate::conditions::{Outcome, Shown};
use crate::event::EventDraft;

/// What the last listing of its location said of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing new.
    #[default]
    Unsaid,
    /// Its archive is not there.
    Missing,
    /// It was deleted on purpose, by whom and when in these words.
    Deleted(String),
    /// Its archive is another than the one that was written, in these words.
    Corrupt(String),
    /// It was missing or corrupt, and is as it should be.
    Recovered,
}

impl Sighting {
    /// What the listing that its location shows says of a backup.
    pub fn of(backup: &EtcdBackup, location: &EtcdBackupLocation) -> Self {
        let Some(report) = report_of(location) else { return Self::Unsaid };
        let noted = backup.status.as_ref().and_then(|status| status.backup_id.as_deref());
        let Some(id) = noted.or_else(|| imported_id(backup)) else { return Self::Unsaid };
        let CatalogReport { missing, deleted, corrupt, recovered, .. } = report;
        if let Some(deleted) = deleted.iter().find(|deleted| deleted.backup_id == id) {
            return Self::Deleted(deleted.message.clone());
        }
        if missing.iter().any(|other| other == id) {
            return Self::Missing;
        }
        if let Some(altered) = corrupt.iter().find(|altered| altered.backup_id == id) {
            return Self::Corrupt(altered.message.clone());
        }
        if recovered.iter().any(|other| other == id) { Self::Recovered } else { Self::Unsaid }
    }
}

/// Whether the listing that a location shows has anything to say of single backups.
pub fn concerns(location: &EtcdBackupLocation) -> Option<impl Fn(&EtcdBackup) -> bool> {
    let CatalogReport { missing, deleted, corrupt, recovered, .. } = report_of(location)?;
    let altered = corrupt.iter().chain(deleted).map(|altered| altered.backup_id.as_str());
    let meant: std::collections::HashSet<&str> =
        missing.iter().chain(recovered).map(String::as_str).chain(altered).collect();
    (!meant.is_empty()).then_some(move |backup: &EtcdBackup| {
        let noted = backup.status.as_ref().and_then(|status| status.backup_id.as_deref());
        noted.or_else(|| imported_id(backup)).is_some_and(|id| meant.contains(id))
    })
}

fn report_of(location: &EtcdBackupLocation) -> Option<&CatalogReport> {
    location.status.as_ref()?.execution.as_ref()?.result.as_ref()?.catalog.as_ref()
}

/// What the annotation of an imported record says.
pub(super) fn imported_id(backup: &EtcdBackup) -> Option<&str> {
    backup.metadata.annotations.as_ref()?.get(label::IMPORTED).map(String::as_str)
}

/// Why a record that calls itself imported can be of no archive.
pub(super) fn not_an_import(backup: &EtcdBackup) -> Option<String> {
    let id = imported_id(backup)?;
    let invalid = id.parse::<BackupId>().err()?;
    Some(format!(
        "the annotation {} marks a record of an archive found in the bucket: {invalid}; create the backup without it",
        label::IMPORTED
    ))
}

/// What is new of an archive.
pub(super) struct News {
    /// How the backup stands now.
    pub(super) outcome: Outcome,
    /// The word in the column.
    pub(super) phase: &'static str,
    /// What to tell.
    pub(super) event: Option<EventDraft>,
}

/// What a listing says that is new of a backup whose archive was there. `shown` is what its conditions say so far.
pub(super) fn news(
    backup: &EtcdBackup,
    status: &EtcdBackupStatus,
    shown: &[Shown],
    sighting: &Sighting,
) -> Option<News> {
    let told = told(shown);
    let place = status.archive.as_deref().unwrap_or("the archive");
    match sighting {
        Sighting::Missing if told != Some(Reason::ArchiveMissing) => {
            let words = format!(
                "{place}, or the data that it names, is gone from location {}: put it back, and the next listing finds \
                 it; or delete this record",
                backup.spec.location_ref.name
            );
            let event = EventDraft::new(EventReason::ArchiveMissing, words.clone());
            let outcome = Outcome::failed(Reason::ArchiveMissing, words);
            Some(News { outcome, phase: "ArchiveMissing", event: Some(event) })
        }
        Sighting::Corrupt(what) if told != Some(Reason::ArchiveCorrupt) => {
            let words = format!("{place} is not the archive that was written: {what}");
            let event = EventDraft::new(EventReason::VerificationFailed, words.clone());
            let outcome = Outcome::failed(Reason::ArchiveCorrupt, words);
            Some(News { outcome, phase: "ArchiveCorrupt", event: Some(event) })
        }
        Sighting::Recovered if told.is_some() => {
            Some(News { outcome: archive::outcome(backup, status), phase: "Complete", event: None })
        }
        // The record goes.
        Sighting::Deleted(_) => None,
        Sighting::Missing | Sighting::Corrupt(_) | Sighting::Recovered | Sighting::Unsaid => None,
    }
}

/// What is said to be the matter with the archive.
fn told(shown: &[Shown]) -> Option<Reason> {
    let ready = shown.iter().find(|shown| shown.type_ == ConditionType::Ready)?;
    let is_lost = matches!(ready.reason, Reason::ArchiveMissing | Reason::ArchiveCorrupt);
    is_lost.then_some(ready.reason)
}
