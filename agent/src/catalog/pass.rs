//! One pass over a location: which archives and records are looked at, and what each look brings.
//!
//! Reads the store and the API server, makes records through [`Importer`]; decides by `compare` alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use lifeboat_crds::identifier::pass_id;
use lifeboat_crds::location::LocationResult;
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::marker::{Expired, ExpiredDocument};
use lifeboat_crds::signing::KnownKeys;
use lifeboat_crds::{BackupId, EtcdBackup, EtcdBackupLocation, Time, layout};
use lifeboat_storage::{ErrorClass, ListRequest, ObjectKey, ObjectStore, RetryPolicy, StoreError, retry as ask_store};
use tokio_util::sync::CancellationToken;

use super::compare::{Condition, Look, is_going, judge, look_at, missing};
use super::import::{Imported, Importer, pin_facts};
use super::listing::{Listed, Listing, Orphans, Tally};
use super::plan::{Scope, plan_pass};
use super::records::{Record, State, Told, ask_api, fetch_records};
use super::report::{Findings, MOST_NAMED};
use super::sweep::{Remnant, remnant_of};
use super::{CatalogError, Cataloger};
use crate::backup::archive_facts;
use crate::manifest::{ManifestError, Manifests};

/// Longest for a question to the store, its retries included.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
/// Archives looked at closely at once.
const LOOKS: usize = 8;
/// Records made in one pass; the next follows at once.
const MOST_IMPORTS: i64 = 1_000;
/// Words about one deletion, characters.
const MOST_WORDS: usize = 256;
/// Remnants cleared away after one pass; the next finds the rest.
const MOST_REMNANTS: usize = 500;
/// A pin, or the word that an archive is deleted, is a few hundred bytes.
const LARGEST_MARK: usize = 64 << 10;
/// Data without a manifest that is older belongs to no attempt that may still write one.
const OLD: Duration = Duration::from_secs(86_400);

/// What is to be looked at: an archive, and what for.
type Due = (Listed, Look);

/// What may be cleared away.
pub enum Remnants {
    /// Only what is new was listed.
    NotLookedFor,
    /// What a listing of everything found.
    OfEverything {
        /// Within bounds.
        remnants: Vec<(Listed, Remnant)>,
        /// Backups of which a run goes on.
        running: BTreeSet<BackupId>,
    },
}

/// What came of a look.
enum Seen {
    /// Nothing to tell.
    Nothing,
    Imported,
    Unreadable(BackupId, String),
    Missing(BackupId),
    Corrupt(BackupId, String),
    Recovered(BackupId),
}

/// Why an archive is not there.
enum Absence {
    /// It is there, or nobody misses it.
    None,
    /// Nobody knows.
    Lost,
    /// Somebody deleted it and left these words.
    Deleted(String),
}

/// One pass.
pub struct Pass<'p> {
    store: Arc<dyn ObjectStore>,
    importer: Importer,
    api: Api<DeserializeGuard<EtcdBackup>>,
    cluster: &'p str,
    /// When it was asked for, by the operator's clock.
    asked: Timestamp,
    /// When it began, by this host's.
    now: Time,
    known: KnownKeys,
    cancel: &'p CancellationToken,
}

impl<'p> Pass<'p> {
    /// Nothing is listed yet.
    pub fn new(
        cataloger: &'p Cataloger,
        location: &EtcdBackupLocation,
        store: Arc<dyn ObjectStore>,
        (asked, now): (Timestamp, Time),
        known: KnownKeys,
        cancel: &'p CancellationToken,
    ) -> Self {
        let Cataloger { opener: _, client, reporter, namespace, node, cluster_uid, host_id: _, keyring: _ } = cataloger;
        let api: Api<DeserializeGuard<EtcdBackup>> = Api::namespaced(client.clone(), namespace);
        let importer = Importer {
            create_api: Api::namespaced(client.clone(), namespace),
            api: api.clone(),
            reporter: reporter.clone(),
            node: node.clone(),
            namespace: namespace.clone(),
            location: location.name_any(),
        };
        Self { store, importer, api, cluster: cluster_uid, asked, now, known, cancel }
    }

    /// Lists as much as is due; the result has what was found.
    ///
    /// # Errors
    /// The location could not be listed. Records that were made by then stay.
    pub async fn run(
        &self,
        location: &EtcdBackupLocation,
        result: &mut LocationResult,
    ) -> Result<Remnants, CatalogError> {
        let status = location.status.clone().unwrap_or_default();
        let pass_id = pass_id(self.asked, rand::random());
        match plan_pass(&status, self.asked) {
            Scope::Full => self.list_all(pass_id, result).await,
            Scope::After(mark) => {
                let mut findings = Findings::new(pass_id, false);
                let mut tally = Tally::resume(status.backups.as_ref());
                let mut listing = Listing::new(Arc::clone(&self.store), self.cluster, Some(&mark), self.cancel);
                loop {
                    let page = listing.next().await?;
                    if page.is_empty() {
                        break;
                    }
                    page.iter().for_each(|listed| tally.see(listed));
                    let is_due = |listed: &Listed| listed.manifest.is_some() && !is_going(listed, self.asked);
                    let due = page.into_iter().filter(is_due);
                    self.look(due.map(|listed| (listed, Look::Find)).collect(), &mut findings).await?;
                }
                result.backups = Some(tally.finish());
                result.catalog = Some(findings.finish(Orphans::default()));
                Ok(Remnants::NotLookedFor)
            }
        }
    }

    /// Lists everything and compares it with every record.
    async fn list_all(&self, pass_id: String, result: &mut LocationResult) -> Result<Remnants, CatalogError> {
        // Read before the store is listed: what they call complete must then be there.
        let records = fetch_records(&self.api, &self.importer.location).await?;
        let mut rest = records.as_slice();
        let mut findings = Findings::new(pass_id, true);
        let mut tally = Tally::default();
        let mut orphans = Orphans::default();
        let mut remnants = Vec::new();
        let mut gone = Vec::new();
        let mut listing = Listing::new(Arc::clone(&self.store), self.cluster, None, self.cancel);
        loop {
            let page = listing.next().await?;
            if page.is_empty() {
                break;
            }
            let mut due = Vec::new();
            for listed in page {
                tally.see(&listed);
                self.count_orphans(&listed, &mut orphans);
                let own = pass_by(&mut rest, &listed.id, &mut gone);
                let remnant = remnant_of(&listed, own, self.asked).filter(|_| remnants.len() < MOST_REMNANTS);
                remnants.extend(remnant.map(|remnant| (listed.clone(), remnant)));
                let look = look_at(&listed, own, self.asked);
                match look {
                    Look::None => {}
                    Look::Gone(record) => note_gone(&mut gone, record),
                    Look::Check(..) | Look::Import | Look::Find | Look::FillIn(_) => due.push((listed, look)),
                }
            }
            self.look(due, &mut findings).await?;
        }
        pass_all(rest, &mut gone);
        self.confirm_gone(gone, &mut findings).await?;
        for key in &listing.foreign.examples {
            orphans.add(key.clone());
        }
        orphans.count += listing.foreign.count - i64::try_from(listing.foreign.examples.len()).unwrap_or(0);
        result.backups = Some(tally.finish());
        result.catalog = Some(findings.finish(orphans));
        let running = records.iter().filter(|record| record.state == State::Running);
        Ok(Remnants::OfEverything { remnants, running: running.map(|record| record.id.clone()).collect() })
    }

    /// Reports archives as missing, of as many records as a report names; the next pass looks at the rest.
    async fn confirm_gone(&self, mut gone: Vec<Record>, findings: &mut Findings) -> Result<(), CatalogError> {
        if gone.len() > MOST_NAMED {
            findings.left_over();
            gone.truncate(MOST_NAMED);
        }
        let confirmed = stream::iter(gone).map(async |record| {
            let absence = self.absence(&record).await?;
            Ok::<_, CatalogError>((record.id, absence))
        });
        let mut confirmed = std::pin::pin!(confirmed.buffer_unordered(LOOKS));
        while let Some(confirmed) = confirmed.try_next().await? {
            match confirmed {
                (_, Absence::None) => {}
                (id, Absence::Lost) => findings.missing(&id),
                (id, Absence::Deleted(words)) => findings.deleted(&id, &words),
            }
        }
        Ok(())
    }

    /// Whether an archive is still missing, and still wanted: it may be deleted in this moment.
    async fn absence(&self, record: &Record) -> Result<Absence, CatalogError> {
        let Some(now) = self.fetch_record(&record.name, &record.id).await? else { return Ok(Absence::None) };
        if now.uid != record.uid || missing(std::slice::from_ref(&now)) == Look::None {
            return Ok(Absence::None);
        }
        let key = ObjectKey::parse(layout::manifest(self.cluster, &record.id)).map_err(StoreError::from)?;
        let head = ask_store("looking at a manifest", RetryPolicy::until(STORE_PATIENCE), self.cancel, || {
            self.store.head(&key)
        });
        match head.await {
            Ok(_) => Ok(Absence::None),
            Err(StoreError::NotFound { .. }) => self.why_absent(&record.id).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an archive without a manifest was deleted on purpose: nothing of it is left but the word of whoever did it.
    /// While data is left the deletion may have come to nothing, and the manifest been lost by other hands.
    async fn why_absent(&self, id: &BackupId) -> Result<Absence, CatalogError> {
        let policy = || RetryPolicy::until(STORE_PATIENCE);
        let prefix = format!("{}{id}/", layout::backups_prefix(self.cluster));
        let request = ListRequest::under(prefix);
        let left = ask_store("listing what is left of an archive", policy(), self.cancel, || self.store.list(&request));
        let key = ObjectKey::parse(layout::expired(self.cluster, id)).map_err(StoreError::from)?;
        if left.await?.objects.iter().map(|object| &object.key).ne([&key]) {
            return Ok(Absence::Lost);
        }
        let read =
            ask_store("reading a mark", policy(), self.cancel, || self.store.get_small(&key, LARGEST_MARK)).await;
        let mark = match read {
            Ok(bytes) => ExpiredDocument::from_bytes(&bytes).ok(),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(mark.map_or(Absence::Lost, |mark| Absence::Deleted(deletion_words(&mark.payload))))
    }

    /// Data without manifest, when no attempt can still be about to write one.
    fn count_orphans(&self, listed: &Listed, orphans: &mut Orphans) {
        if listed.manifest.is_some() || listed.is_expired {
            return;
        }
        let is_old =
            |modified: Timestamp| Duration::try_from(self.asked.duration_since(modified)).is_ok_and(|age| age >= OLD);
        for data in listed.data.iter().filter(|data| data.modified.is_some_and(is_old)) {
            orphans.add(layout::data(self.cluster, &listed.id, &data.name));
        }
    }

    /// Looks at archives, some at once, and notes what is found.
    async fn look(&self, due: Vec<Due>, findings: &mut Findings) -> Result<(), CatalogError> {
        let room = usize::try_from(MOST_IMPORTS - findings.imports()).unwrap_or(0);
        let is_import = |(_, look): &Due| matches!(look, Look::Import | Look::FillIn(_));
        let (imports, mut looks): (Vec<Due>, Vec<Due>) = due.into_iter().partition(is_import);
        if imports.len() > room {
            findings.left_over();
        }
        looks.extend(imports.into_iter().take(room));
        let seen = stream::iter(looks).map(|(listed, look)| self.look_closely(listed, look)).buffer_unordered(LOOKS);
        let mut seen = std::pin::pin!(seen);
        while let Some(seen) = seen.try_next().await? {
            match seen {
                Seen::Nothing => {}
                Seen::Imported => findings.imported(),
                Seen::Unreadable(id, words) => findings.unreadable(&id, &words),
                Seen::Missing(id) => findings.missing(&id),
                Seen::Corrupt(id, words) => findings.corrupt(&id, &words),
                Seen::Recovered(id) => findings.recovered(&id),
            }
        }
        Ok(())
    }

    async fn look_closely(&self, listed: Listed, look: Look) -> Result<Seen, CatalogError> {
        let read = self.read(&listed.id).await?;
        match look {
            Look::None | Look::Gone(_) => Ok(Seen::Nothing),
            Look::Check(record, archive) => {
                let found = match &read {
                    // It went meanwhile.
                    Read::Gone => return Ok(Seen::Nothing),
                    Read::Unusable(words) => Condition::Corrupt(words.clone()),
                    Read::Manifest(manifest) => judge(&listed, manifest, Some(archive)),
                };
                Ok(news(&record, found))
            }
            Look::Import => self.import(&listed, read, None).await,
            Look::Find => self.find(&listed, read).await,
            Look::FillIn(record) => self.import(&listed, read, Some(record)).await,
        }
    }

    /// Looks for the record of an archive by the name it was made for, without which it has none.
    async fn find(&self, listed: &Listed, read: Read) -> Result<Seen, CatalogError> {
        let record = match &read {
            Read::Manifest(manifest) => self.fetch_record(&manifest.object.name, &listed.id).await?,
            Read::Gone | Read::Unusable(_) => None,
        };
        match (record.as_ref().map(|record| record.state), record, read) {
            (Some(State::Complete(archive)), Some(record), Read::Manifest(manifest)) => {
                Ok(news(&record, judge(listed, &manifest, Some(archive))))
            }
            (Some(State::Running | State::Leaving), _, _) => Ok(Seen::Nothing),
            (Some(State::Importing), record, read) => self.import(listed, read, record).await,
            (Some(State::Failed | State::Complete(_)) | None, _, read) => self.import(listed, read, None).await,
        }
    }

    async fn import(&self, listed: &Listed, read: Read, into: Option<Record>) -> Result<Seen, CatalogError> {
        let manifest = match read {
            Read::Gone => return Ok(Seen::Nothing),
            Read::Unusable(words) => return Ok(Seen::Unreadable(listed.id.clone(), words)),
            Read::Manifest(manifest) => manifest,
        };
        let words = match judge(listed, &manifest, None) {
            Condition::Sound => None,
            Condition::Missing => Some(format!("{}, which its manifest names, is gone", manifest.data)),
            Condition::Corrupt(words) => Some(words),
        };
        if let Some(words) = words {
            return Ok(Seen::Unreadable(listed.id.clone(), words));
        }
        let key = ObjectKey::parse(layout::manifest(self.cluster, &listed.id)).map_err(StoreError::from)?;
        let now = self.now.clone();
        let mut facts = archive_facts(&manifest, &self.store.uri(&key));
        if listed.is_pinned {
            facts.pin = self.read_pin(&listed.id).await?.map(|bytes| pin_facts(&bytes, now.clone()));
        }
        let imported = match into {
            Some(record) => self.importer.fill_in(&record.name, &record.uid, facts, now).await?,
            None => self.importer.import(&manifest, facts, now).await?,
        };
        Ok(match imported {
            Imported::Made => Seen::Imported,
            Imported::Known => Seen::Nothing,
            Imported::Refused(words) => Seen::Unreadable(listed.id.clone(), words),
        })
    }

    async fn read(&self, id: &BackupId) -> Result<Read, CatalogError> {
        let (store, cluster, known) = (self.store.as_ref(), self.cluster, &self.known);
        let manifests = Manifests { store, cluster, known, patience: STORE_PATIENCE, cancel: self.cancel };
        match manifests.fetch_believed(id).await {
            Ok(found) => Ok(Read::Manifest(Box::new(found.manifest))),
            Err(ManifestError::Store(StoreError::NotFound { .. })) => Ok(Read::Gone),
            Err(ManifestError::Store(error)) if matches!(error.class(), ErrorClass::TooLarge | ErrorClass::Corrupt) => {
                Ok(Read::Unusable(error.to_string()))
            }
            Err(ManifestError::Store(error)) => Err(error.into()),
            Err(
                error @ (ManifestError::Document { .. }
                | ManifestError::Foreign { .. }
                | ManifestError::OtherCluster { .. }
                | ManifestError::Altered { .. }),
            ) => Ok(Read::Unusable(error.to_string())),
        }
    }

    async fn read_pin(&self, id: &BackupId) -> Result<Option<bytes::Bytes>, CatalogError> {
        let key = ObjectKey::parse(layout::pin(self.cluster, id)).map_err(StoreError::from)?;
        let policy = RetryPolicy::until(STORE_PATIENCE);
        match ask_store("reading a pin", policy, self.cancel, || self.store.get_small(&key, LARGEST_MARK)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch_record(&self, name: &str, id: &BackupId) -> Result<Option<Record>, CatalogError> {
        let found = ask_api("reading an EtcdBackup", self.api.get_opt(name)).await?;
        let backup = found.and_then(|guarded| guarded.0.ok());
        Ok(backup.as_ref().and_then(Record::of).filter(|record| record.id == *id))
    }
}

/// Passes by the records whose backups sort before `id`: nothing is listed of them. Gives those of `id` itself.
fn pass_by<'r>(rest: &mut &'r [Record], id: &BackupId, gone: &mut Vec<Record>) -> &'r [Record] {
    let (before, after) = rest.split_at(rest.partition_point(|record| record.id < *id));
    pass_all(before, gone);
    let (own, after) = after.split_at(after.partition_point(|record| record.id == *id));
    *rest = after;
    own
}

/// Passes by records of whose backups nothing is listed.
fn pass_all(records: &[Record], gone: &mut Vec<Record>) {
    for same in records.chunk_by(|one, other| one.id == other.id) {
        if let Look::Gone(record) = missing(same) {
            note_gone(gone, record);
        }
    }
}

/// Keeps one more than is looked at, so that it is known that there are more.
fn note_gone(gone: &mut Vec<Record>, record: Record) {
    if gone.len() <= MOST_NAMED {
        gone.push(record);
    }
}

/// Who deleted an archive, when and why.
fn deletion_words(mark: &Expired) -> String {
    let Expired { backup_id: _, by, reasons, time } = mark;
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    let day = time.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("by `{by}` on {day}{reasons}").chars().take(MOST_WORDS).collect()
}

/// What was read of a manifest.
enum Read {
    Manifest(Box<Manifest>),
    /// There is none any more.
    Gone,
    Unusable(String),
}

/// What is new in how an archive is.
fn news(record: &Record, found: Condition) -> Seen {
    let id = record.id.clone();
    match (found, record.told) {
        (Condition::Sound, Some(_)) => Seen::Recovered(id),
        (Condition::Missing, Some(Told::Corrupt) | None) => Seen::Missing(id),
        (Condition::Corrupt(words), Some(Told::Missing) | None) => Seen::Corrupt(id, words),
        (Condition::Sound, None)
        | (Condition::Missing, Some(Told::Missing))
        | (Condition::Corrupt(_), Some(Told::Corrupt)) => Seen::Nothing,
    }
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
