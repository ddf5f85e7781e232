//! A good run: what its archive is, as people read it. Decides nothing about runs that go on.

use jiff::SignedDuration;
use lifeboat_crds::backup::{ArchiveFacts, Verification, VerificationLevel};
use lifeboat_crds::{ConditionType, EtcdBackup, EtcdBackupStatus, Quantity, Reason, TaskError};

use crate::conditions::{GoodReason, Outcome, Shown, human_duration};

/// Copies what the agent reports to where people read it.
pub(super) fn copy_facts(status: &mut EtcdBackupStatus, facts: ArchiveFacts) {
    let ArchiveFacts {
        archive,
        node_name,
        member,
        etcd_version,
        storage_version,
        cluster_id,
        revision,
        content_hash,
        compact_revision,
        keys,
        size_bytes,
        stored_size_bytes,
        sha256,
        start_time,
        completion_time,
        verification,
        encryption,
        // Shown by a condition.
        pin: _,
    } = facts;
    let human = |bytes: i64| u64::try_from(bytes).ok().map(Quantity::human);
    // The agent's own time leaves out that it waited for another backup of its master; failed tries count.
    let start = status.start_time.clone().filter(|_| !status.attempts.is_empty()).unwrap_or(start_time);
    // Agents' clocks differ: another one may have begun.
    let duration = completion_time.0.duration_since(start.0).max(SignedDuration::ZERO);
    status.archive = Some(archive);
    status.node_name = node_name.or(status.node_name.take());
    status.member = Some(member);
    status.etcd_version = Some(etcd_version);
    status.storage_version = storage_version;
    status.cluster_id = Some(cluster_id);
    status.revision = revision;
    status.content_hash = content_hash;
    status.compact_revision = compact_revision;
    status.keys = keys;
    status.size = human(size_bytes);
    status.stored_size = human(stored_size_bytes);
    status.size_bytes = Some(size_bytes);
    status.stored_size_bytes = Some(stored_size_bytes);
    status.sha256 = Some(sha256);
    status.start_time = Some(start);
    status.completion_time = Some(completion_time);
    status.duration_seconds = Some(duration.as_secs());
    status.duration = Some(human_duration(duration));
    status.verification = Some(verification);
    status.encryption = encryption;
    status.failure = None;
}

/// The archive in a sentence.
pub(super) fn words(status: &EtcdBackupStatus) -> String {
    let size = status.size.as_ref().map(|size| format!(", {size}"));
    let revision = status.revision.map(|revision| format!(", revision {revision}"));
    let level = status.verification.as_ref().map(|proven| format!(", verified at level {}", proven.level.as_str()));
    format!(
        "backed up {}{}{}{} in {}",
        status.member.as_deref().unwrap_or("etcd"),
        revision.unwrap_or_default(),
        size.unwrap_or_default(),
        level.unwrap_or_default(),
        status.duration.as_deref().unwrap_or("no time"),
    )
}

/// Why a backup with an archive is good.
fn reason(backup: &EtcdBackup) -> GoodReason {
    if backup.is_imported() { GoodReason::ImportedFromCatalog } else { GoodReason::Succeeded }
}

/// How a backup with an archive stands.
pub(super) fn outcome(backup: &EtcdBackup, status: &EtcdBackupStatus) -> Outcome {
    Outcome::current(reason(backup), words(status))
}

/// The conditions of a backup with an archive.
pub(super) fn shown(backup: &EtcdBackup, status: &EtcdBackupStatus) -> Vec<Shown> {
    let mut shown = outcome(backup, status).shown();
    shown.push(Shown::new(ConditionType::Complete, true, reason(backup).into(), words(status)));
    shown.push(verified(backup.spec.verification, status.verification.as_ref()));
    shown
}

pub(super) fn verified(asked: VerificationLevel, proven: Option<&Verification>) -> Shown {
    let reached = proven.map(|proven| proven.level);
    let level = reached.map_or("none", VerificationLevel::as_str);
    if reached.is_some_and(|reached| reached >= asked) {
        return Shown::new(ConditionType::Verified, true, Reason::Succeeded, format!("verified at level {level}"));
    }
    let shortfall = proven.and_then(|proven| proven.shortfall.as_ref());
    let why = shortfall.map(|shortfall| format!(": {}", shortfall.message)).unwrap_or_default();
    let reason = shortfall.map_or(Reason::VerificationFailed, TaskError::reason);
    let words = format!("level {} was asked for and {level} reached{why}", asked.as_str());
    Shown::new(ConditionType::Verified, false, reason, words)
}
