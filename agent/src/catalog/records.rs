//! The EtcdBackups on a location, reduced to what is compared with its archives. Reads the API server, page by page.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use lifeboat_crds::backup::{Expiry, ExpiryDecision};
use lifeboat_crds::condition::{find, is_true};
use lifeboat_crds::{BackupId, ConditionType, EtcdBackup, Reason, label};
use lifeboat_decisions::retention::is_asked_to_go;
use lifeboat_process::api_error::api_words;

use super::CatalogError;

/// Records read at once.
const PAGE: u32 = 200;
/// Longest wait for the API server.
pub const API_DEADLINE: Duration = Duration::from_secs(30);

/// A record, reduced: there may be ten thousand of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its backup.
    pub id: BackupId,
    /// Name of the object.
    pub name: Box<str>,
    /// UID of the object.
    pub uid: Box<str>,
    /// How it stands.
    pub state: State,
    /// What the conditions say that a listing found.
    pub told: Option<Told>,
}

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A run that goes on.
    Running,
    /// An import that nobody has filled in.
    Importing,
    /// A run that ended without an archive, or an import of none.
    Failed,
    /// It is being deleted, with its archive or without.
    Leaving,
    /// There was an archive.
    Complete(Archive),
}

/// What a record says of its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Size in the store, bytes.
    pub stored: i64,
    /// Fingerprint of the snapshot's SHA-256, see [`fingerprint`].
    pub sha256: u64,
    /// When it was complete, by the agent's clock.
    pub completion: Timestamp,
}

/// What a listing found before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// That the archive is gone.
    Missing,
    /// That it is another.
    Corrupt,
}

/// A hash of a hash: enough to see that two differ.
pub fn fingerprint(sha256: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    sha256.hash(&mut hasher);
    hasher.finish()
}

impl Record {
    /// Reduces an object; `None` for one without an identity.
    pub fn of(backup: &EtcdBackup) -> Option<Self> {
        let id = id_of(backup)?;
        let conditions = backup.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let ready = find(conditions, ConditionType::Ready).filter(|ready| ready.status == "False");
        // Whoever read the archive and found it unsound shows that in Verified; a listing knows no better.
        let was_read = find(conditions, ConditionType::Verified).is_some_and(|verified| verified.status == "False");
        let told = ready.and_then(|ready| match Reason::parse(&ready.reason) {
            Some(Reason::ArchiveMissing) => Some(Told::Missing),
            Some(Reason::ArchiveCorrupt) if !was_read => Some(Told::Corrupt),
            _ => None,
        });
        let name = backup.metadata.name.as_deref()?.into();
        let uid = backup.metadata.uid.as_deref()?.into();
        Some(Self { id, name, uid, state: state_of(backup), told })
    }
}

fn state_of(backup: &EtcdBackup) -> State {
    let status = backup.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let expiry = status.and_then(|status| status.expiry.as_ref());
    let expires = expiry.is_some_and(|Expiry { decision, .. }| *decision == ExpiryDecision::Expire);
    if backup.metadata.deletion_timestamp.is_some() || is_asked_to_go(backup) || expires || is_deleted(backup) {
        return State::Leaving;
    }
    if is_true(conditions, ConditionType::Failed) {
        return State::Failed;
    }
    let archive = status.and_then(|status| {
        Some(Archive {
            stored: status.stored_size_bytes?,
            sha256: fingerprint(status.sha256.as_deref()?),
            completion: status.completion_time.as_ref()?.0,
        })
    });
    match archive.filter(|_| is_true(conditions, ConditionType::Complete)) {
        Some(archive) => State::Complete(archive),
        None if backup.is_imported() => {
            match status.and_then(|status| status.execution.as_ref()) {
                // Filled in, and the operator has not seen it yet.
                Some(execution) if execution.result.is_some() => State::Running,
                Some(_) | None => State::Importing,
            }
        }
        None => State::Running,
    }
}

/// Whether an agent deleted the archive, and the operator has not seen it yet. That one was asked to says nothing: the store
/// may have refused, and the policy may keep the archive since; whoever still wants it gone says so in the object.
fn is_deleted(backup: &EtcdBackup) -> bool {
    let Some(status) = &backup.status else { return false };
    let (assignment, execution) = (status.assignment.as_ref(), status.execution.as_ref());
    let own = execution.filter(|execution| assignment.is_some_and(|assignment| execution.is_of(assignment)));
    own.and_then(|execution| execution.result.as_ref()).is_some_and(|result| result.deletion.is_some())
}

/// The identity of a backup, also before the operator has written it down.
fn id_of(backup: &EtcdBackup) -> Option<BackupId> {
    let noted = backup.status.as_ref().and_then(|status| status.backup_id.as_deref());
    if let Some(id) = noted.or_else(|| backup.annotations().get(label::IMPORTED).map(String::as_str)) {
        return id.parse().ok();
    }
    let created = backup.metadata.creation_timestamp.as_ref()?;
    Some(BackupId::new(created.0, backup.metadata.uid.as_deref()?))
}

/// Every record on a location, in the order of their ids.
///
/// # Errors
/// The API server fails.
pub async fn fetch_records(
    api: &Api<DeserializeGuard<EtcdBackup>>,
    location: &str,
) -> Result<Vec<Record>, CatalogError> {
    let mut params = ListParams::default().fields(&format!("spec.locationRef.name={location}")).limit(PAGE);
    let mut records = Vec::new();
    loop {
        let page = ask_api("listing the EtcdBackups", api.list(&params)).await?;
        let readable = page.items.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        records.extend(readable.filter_map(Record::of));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    records.sort_by(|one, other| (&one.id, &one.name).cmp(&(&other.id, &other.name)));
    records.shrink_to_fit();
    Ok(records)
}

/// One question to the API server, within bounds.
///
/// # Errors
/// In the server's words.
pub async fn ask_api<T>(
    doing: &'static str,
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, CatalogError> {
    match tokio::time::timeout(API_DEADLINE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(CatalogError::Api { doing, words: api_words(&error) }),
        Err(_elapsed) => {
            Err(CatalogError::Api { doing, words: format!("no answer within {} s", API_DEADLINE.as_secs()) })
        }
    }
}
