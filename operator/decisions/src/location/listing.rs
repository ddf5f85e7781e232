//! What a listing of a location's archives leaves behind in its status, and what it gives to say. Pure.

use jiff::Timestamp;
use lifeboat_crds::event::EventReason;
use lifeboat_crds::location::{AlteredArchive, CatalogPass, CatalogReport};
use lifeboat_crds::{EtcdBackupLocationStatus, TaskError, Time};

use super::current_answer;
use crate::SeenMember;
use crate::event::EventDraft;
use crate::retention::last_restore;

/// Identity of a listing where there was none yet.
const NO_PASS: &str = "none";

/// Notes what came of a listing that was asked for at `asked`.
pub(super) fn note_pass(
    status: &mut EtcdBackupLocationStatus,
    asked: Time,
    report: Option<CatalogReport>,
    error: Option<TaskError>,
) {
    let before = status.catalog.take();
    let (full_pass_time, note, orphans) =
        before.as_ref().map_or((None, None, 0), |pass| (pass.full_pass_time.clone(), pass.note.clone(), pass.orphans));
    let pass_id = before.map_or_else(|| NO_PASS.to_owned(), |pass| pass.pass_id);
    status.catalog = Some(match (report, error) {
        (Some(report), None) => {
            let is_settled = !report.has_more;
            CatalogPass {
                pass_id: report.pass_id.clone(),
                // Without a time the next one follows at once.
                time: is_settled.then(|| asked.clone()),
                full_pass_time: if report.is_full && is_settled { Some(asked) } else { full_pass_time },
                note: if report.is_full { note_of(&report) } else { note },
                orphans: if report.is_full { report.orphans } else { orphans },
                error: None,
            }
        }
        (_, error) => CatalogPass { pass_id, time: Some(asked), full_pass_time, note, orphans, error },
    });
}

/// Forgets a listing of everything that was made before the cluster was restored: the records it was compared with are others
/// now, and the next listing must be of everything again, at once. A time that lies ahead is of a clock that is wrong.
pub(super) fn forget_before_restore(status: &mut EtcdBackupLocationStatus, members: &[SeenMember], now: Timestamp) {
    let Some(pass) = &mut status.catalog else { return };
    let facts = members.iter().filter_map(|seen| Some(&seen.member.status.as_ref()?.facts));
    let restored = last_restore(facts.filter_map(|facts| facts.last_restore.as_ref())).filter(|time| *time <= now);
    let is_older = |listed: &Time| restored.is_some_and(|restored| listed.0 <= restored);
    if pass.full_pass_time.as_ref().is_some_and(is_older) {
        pass.full_pass_time = None;
    }
    // Without a time the next one follows at once: the newest archives have no record now, and people look for them.
    if pass.time.as_ref().is_some_and(is_older) {
        pass.time = None;
    }
}

/// What a listing of everything found that somebody should look at.
fn note_of(report: &CatalogReport) -> Option<String> {
    let orphans = (report.orphans > 0).then(|| orphan_words(report));
    let unreadable = (report.unreadable > 0).then(|| {
        let example = |AlteredArchive { backup_id, message }: &AlteredArchive| format!("{backup_id}: {message}");
        let examples: Vec<String> = report.unreadable_examples.iter().map(example).collect();
        format!("{} archives cannot be shown as backups: {}", report.unreadable, examples.join("; "))
    });
    let lost = (report.has_more && !report.missing.is_empty()).then(|| {
        format!(
            "{} backups and more have no archive here any more; every minute some are told of: was the bucket emptied, or is \
             another prefix set?",
            report.missing.len()
        )
    });
    let words: Vec<String> = [lost, unreadable, orphans].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join("; ").chars().take(2_048).collect())
}

fn orphan_words(report: &CatalogReport) -> String {
    let examples = report.orphan_examples.join(", ");
    format!("{} objects belong to no backup and are left alone: {examples}", report.orphans)
}

/// What the last listing left to say, for the message of Ready.
pub(super) fn words(pass: Option<&CatalogPass>) -> Option<String> {
    let CatalogPass { pass_id: _, time: _, full_pass_time: _, note, orphans: _, error } = pass?;
    match error {
        Some(error) => Some(format!("its archives could not be listed: {}", error.message)),
        None => note.clone(),
    }
}

/// An event when a listing made records.
pub(super) fn tell_imports(before: &EtcdBackupLocationStatus) -> Option<EventDraft> {
    let (_, answer) = current_answer(before)?;
    let report = answer.catalog.as_ref().filter(|report| report.imported > 0)?;
    let is_news = before.catalog.as_ref().is_none_or(|pass| pass.pass_id != report.pass_id);
    is_news.then(|| {
        let note = format!(
            "{} archives that no EtcdBackup told of were found in the location and have one now",
            report.imported
        );
        EventDraft::new(EventReason::BackupImported, note)
    })
}

/// An event when a listing of everything found more objects that belong to no backup than the one before.
pub(super) fn tell_orphans(before: &EtcdBackupLocationStatus) -> Option<EventDraft> {
    let (_, answer) = current_answer(before)?;
    let known = before.catalog.as_ref().map_or(0, |pass| pass.orphans);
    let report = answer.catalog.as_ref().filter(|report| report.is_full && report.orphans > known)?;
    Some(EventDraft::new(EventReason::ArchiveOrphaned, orphan_words(report)))
}
