//! The shared caches: one watch for each kind, one store, and a broadcast of what was touched.
//!
//! Reads the API server and writes nothing to it. A malformed object is kept as such: it stops no watch and no
//! controller. Runs on leader and followers alike.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::ExponentialBuilder;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Client, Resource, ResourceExt};
use lifeboat_crds::{EtcdBackup, EtcdBackupLocation, EtcdBackupSchedule, EtcdMember, EtcdRestore, NodeName};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::backup_index::BackupIndex;
use crate::kind::{Kind, Touched, TouchedObject, Watched, touched_object};
use crate::liveness::LivenessTracker;
use crate::readiness::{CacheState, Readiness};
use lifeboat_process::api_error::{watch_code, watch_words};

/// Objects listed at once; bounds the memory of a first list.
const PAGE_SIZE: u32 = 200;
/// A watch is begun anew this often: a connection that died unseen would make every agent look silent.
const WATCH_SECONDS: u32 = 60;
/// Touched objects that a slow controller may lag behind before it looks at everything instead.
const TOUCHED_CAPACITY: usize = 1_024;
/// kubectl's copy of what was applied: as large as the object, and of no use here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object as watched: readable, or not.
pub type Guarded<K> = DeserializeGuard<K>;

/// The caches of the five kinds.
#[derive(Clone)]
pub struct Stores {
    /// Namespace they are of.
    pub namespace: String,
    /// EtcdBackupLocations.
    pub locations: Store<Guarded<EtcdBackupLocation>>,
    /// EtcdBackupSchedules.
    pub schedules: Store<Guarded<EtcdBackupSchedule>>,
    /// EtcdBackups.
    pub backups: Store<Guarded<EtcdBackup>>,
    /// EtcdRestores.
    pub restores: Store<Guarded<EtcdRestore>>,
    /// EtcdMembers.
    pub members: Store<Guarded<EtcdMember>>,
    touched: broadcast::Sender<Touched>,
    index: BackupIndex,
}

/// The writing ends of the caches, for [`Writers::watch`].
pub struct Writers {
    locations: Writer<Guarded<EtcdBackupLocation>>,
    schedules: Writer<Guarded<EtcdBackupSchedule>>,
    backups: Writer<Guarded<EtcdBackup>>,
    restores: Writer<Guarded<EtcdRestore>>,
    members: Writer<Guarded<EtcdMember>>,
}

impl Stores {
    /// Empty caches.
    pub fn new(namespace: &str) -> (Self, Writers) {
        let (locations, location_writer) = store();
        let (schedules, schedule_writer) = store();
        let (backups, backup_writer) = store();
        let (restores, restore_writer) = store();
        let (members, member_writer) = store();
        let (touched, _) = broadcast::channel(TOUCHED_CAPACITY);
        let (namespace, index) = (namespace.to_owned(), BackupIndex::default());
        let stores = Self { namespace, locations, schedules, backups, restores, members, touched, index };
        let writers = Writers {
            locations: location_writer,
            schedules: schedule_writer,
            backups: backup_writer,
            restores: restore_writer,
            members: member_writer,
        };
        (stores, writers)
    }

    /// What is touched from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Touched> {
        self.touched.subscribe()
    }

    /// Waits until every cache was filled once.
    pub async fn wait_until_synced(&self) {
        // The error means that the watch was given up, which happens only when the process ends.
        let _ = tokio::join!(
            self.locations.wait_until_ready(),
            self.schedules.wait_until_ready(),
            self.backups.wait_until_ready(),
            self.restores.wait_until_ready(),
            self.members.wait_until_ready(),
        );
    }

    /// The location of that name, if there is one that can be read.
    pub fn location(&self, name: &str) -> Option<EtcdBackupLocation> {
        get(&self.locations, &self.namespace, name)
    }

    /// The schedule of that name, if there is one that can be read.
    pub fn schedule(&self, name: &str) -> Option<EtcdBackupSchedule> {
        get(&self.schedules, &self.namespace, name)
    }

    /// When a try at a run on a location was last seen to fail for a reason that may be the location's.
    pub fn newest_failure(&self, location: &str) -> Option<Timestamp> {
        self.index.newest_failure(location)
    }

    /// When the newest run on a location was seen to end well.
    pub fn newest_completion(&self, location: &str) -> Option<Timestamp> {
        self.index.newest_completion(location)
    }

    /// Every run that has not ended and can be read.
    pub fn unfinished_backups(&self) -> Vec<Arc<Guarded<EtcdBackup>>> {
        let names = self.index.unfinished();
        names.iter().filter_map(|name| self.backups.get(&ObjectRef::new(name).within(&self.namespace))).collect()
    }

    /// When each node was last given a backup, as far as this process has seen.
    pub fn last_used(&self) -> BTreeMap<NodeName, Timestamp> {
        self.index.last_used()
    }

    /// Brings the index up to what a watch has just put into the cache, then tells the controllers.
    pub fn report(&self, touch: Touched) {
        match &touch {
            Touched::One(TouchedObject { kind: Kind::Backup, name, .. }) => self.note_backup(name),
            Touched::One(_) => {}
            // By the watch of backups alone, which is one task: nothing older can come after.
            Touched::Everything(Kind::Backup) => {
                let backups = readable(&self.backups);
                self.index.rebuild(backups.iter().filter_map(|guarded| guarded.0.as_ref().ok()));
            }
            Touched::Everything(_) => {}
        }
        // Without a receiver there is no controller yet: it looks at everything when it starts.
        let _ = self.touched.send(touch);
    }

    fn note_backup(&self, name: &str) {
        let backup = self.backups.get(&ObjectRef::new(name).within(&self.namespace));
        self.index.note(name, backup.as_ref().and_then(|guarded| guarded.0.as_ref().ok()));
    }

    /// Whether there is a backup of that name, readable or not.
    pub fn has_backup(&self, name: &str) -> bool {
        self.backups.get(&ObjectRef::new(name).within(&self.namespace)).is_some()
    }
}

/// The object of that name, if it can be read.
pub fn get<K>(store: &Store<Guarded<K>>, namespace: &str, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let found = store.get(&ObjectRef::new(name).within(namespace))?;
    found.0.as_ref().ok().cloned()
}

/// Every object that can be read, without copying any.
pub fn readable<K>(store: &Store<Guarded<K>>) -> Vec<Arc<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|guarded| guarded.0.is_ok())
}

/// What a watch reports to besides its store.
#[derive(Clone)]
pub struct Observers {
    /// How long signs of life stand still.
    pub liveness: Arc<LivenessTracker>,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
}

impl Writers {
    /// Watches the five kinds until the tasks are aborted.
    pub fn watch(self, client: &Client, stores: &Stores, observers: &Observers) -> JoinSet<()> {
        let Self { locations, schedules, backups, restores, members } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(run_watch(client.clone(), stores.clone(), locations, observers.clone()));
        tasks.spawn(run_watch(client.clone(), stores.clone(), schedules, observers.clone()));
        tasks.spawn(run_watch(client.clone(), stores.clone(), backups, observers.clone()));
        tasks.spawn(run_watch(client.clone(), stores.clone(), restores, observers.clone()));
        tasks.spawn(run_watch(client.clone(), stores.clone(), members, observers.clone()));
        tasks
    }

    /// Fills the caches without a server.
    #[cfg(test)]
    pub fn fill(&mut self, stores: &Stores, objects: &[serde_json::Value]) {
        fn put<K>(writer: &mut Writer<Guarded<K>>, object: &serde_json::Value)
        where
            K: Watched<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + 'static,
        {
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object.clone()).unwrap()));
        }
        for object in objects {
            match object["kind"].as_str().unwrap() {
                "EtcdBackupLocation" => put(&mut self.locations, object),
                "EtcdBackupSchedule" => put(&mut self.schedules, object),
                "EtcdBackup" => {
                    put(&mut self.backups, object);
                    stores.note_backup(object["metadata"]["name"].as_str().unwrap());
                }
                "EtcdRestore" => put(&mut self.restores, object),
                "EtcdMember" => put(&mut self.members, object),
                other => panic!("{other}"),
            }
        }
        let _ = stores.touched.send(Touched::Everything(Kind::Backup));
    }

    /// Ends the first list of restores, as a server would.
    #[cfg(test)]
    pub fn mark_synced(&mut self) {
        let objects: Vec<_> = self.restores.as_reader().state();
        self.restores.apply_watcher_event(&Event::Init);
        for object in objects {
            self.restores.apply_watcher_event(&Event::InitApply((*object).clone()));
        }
        self.restores.apply_watcher_event(&Event::InitDone);
    }
}

async fn run_watch<K>(client: Client, stores: Stores, mut writer: Writer<Guarded<K>>, observers: Observers)
where
    K: Watched<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let api = Api::<Guarded<K>>::namespaced(client, &stores.namespace);
    let events = watcher(api, watcher::Config::default().page_size(PAGE_SIZE).timeout(WATCH_SECONDS))
        .backoff(watch_backoff())
        .modify(slim);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_heartbeat = is_heartbeat(&event, &writer.as_reader());
                writer.apply_watcher_event(&event);
                report_event(event, is_heartbeat, &writer.as_reader(), &stores, &observers);
            }
            Err(error) => {
                // Nothing was visible meanwhile, so nobody was silent.
                observers.liveness.start_anew(K::KIND, Instant::now());
                if observers.readiness.note(K::KIND, cache_state(&error)) {
                    tracing::warn!(kind = %K::KIND, error = watch_words(&error), "watch failed, trying again");
                }
            }
        }
    }
}

/// Whether an event moves nothing but the progress of an agent's work, by what the store holds before it.
fn is_heartbeat<K>(event: &Event<Guarded<K>>, store: &Store<Guarded<K>>) -> bool
where
    K: Watched + Clone + 'static,
{
    match event {
        Event::Apply(object) => {
            let before = store.get(&ObjectRef::from_obj(object));
            let before = before.as_ref().and_then(|before| before.0.as_ref().ok());
            object.0.as_ref().ok().zip(before).is_some_and(|(object, before)| object.is_heartbeat_after(before))
        }
        Event::Init | Event::InitApply(_) | Event::InitDone | Event::Delete(_) => false,
    }
}

/// Tells the others what a watch saw, after the store has it.
fn report_event<K>(
    event: Event<Guarded<K>>,
    is_heartbeat: bool,
    store: &Store<Guarded<K>>,
    stores: &Stores,
    observers: &Observers,
) where
    K: Watched + Clone + 'static,
{
    let now = Instant::now();
    let touch = match event {
        Event::Init | Event::InitApply(_) => return,
        Event::Apply(object) => {
            saw(&object, observers, now);
            match one(&object) {
                Touched::One(touched) => Touched::One(TouchedObject { is_heartbeat, ..touched }),
                Touched::Everything(kind) => Touched::Everything(kind),
            }
        }
        Event::Delete(object) => {
            object.uid().iter().for_each(|uid| observers.liveness.forget(K::KIND, uid));
            one(&object)
        }
        Event::InitDone => {
            let objects = store.state();
            observers.liveness.retain(K::KIND, &objects.iter().filter_map(|object| object.uid()).collect());
            objects.iter().for_each(|object| saw(object, observers, now));
            if observers.readiness.note(K::KIND, CacheState::Synced) {
                tracing::info!(kind = %K::KIND, objects = objects.len(), "cache synced");
            }
            Touched::Everything(K::KIND)
        }
    };
    stores.report(touch);
}

fn saw<K: Watched>(object: &Guarded<K>, observers: &Observers, now: Instant) {
    let sign = object.0.as_ref().ok().and_then(K::sign_of_life);
    if let (Some(uid), Some(sign)) = (object.uid(), sign) {
        observers.liveness.saw(K::KIND, &uid, sign, now);
    }
}

fn one<K: Watched>(object: &Guarded<K>) -> Touched {
    let location = object.0.as_ref().ok().and_then(K::location);
    Touched::One(touched_object(K::KIND, object, location))
}

/// Drops what takes room and is never read.
fn slim<K: Resource>(object: &mut Guarded<K>) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove(LAST_APPLIED);
}

/// Shorter than kube's own (30 s): somebody who installs the CRDs late should not wait for long.
fn watch_backoff() -> impl Backoff + 'static {
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter();
    ResetTimerBackoff::new(ExponentialBackoff::from(delays), Duration::from_secs(60))
}

fn cache_state(error: &watcher::Error) -> CacheState {
    match watch_code(error) {
        Some(404) => CacheState::NotServed,
        Some(_) | None => CacheState::Failing(watch_words(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::mock::Conversation;
    use serde_json::json;

    fn list(version: &str, items: serde_json::Value) -> serde_json::Value {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupList",
            "metadata": {"resourceVersion": version}, "items": items})
    }

    #[tokio::test]
    async fn a_malformed_object_stops_neither_watch_nor_cache() {
        let (client, mut server) = Conversation::start();
        let (stores, writers) = Stores::new("lifeboat");
        let observers = Observers { liveness: Arc::default(), readiness: Arc::default() };
        let Writers { backups, .. } = writers;
        let watch = tokio::spawn(run_watch(client, stores.clone(), backups, observers.clone()));
        let good = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "good", "namespace": "lifeboat", "uid": "1",
                "managedFields": [{"manager": "kubectl"}], "annotations": {LAST_APPLIED: "{}", "kept": "yes"}},
            "spec": {"locationRef": {"name": "bucket"}}});
        let bad = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": "bad", "namespace": "lifeboat", "uid": "2"}, "spec": {"locationRef": 7}});
        let asked = server.expect("GET", "/apis/etcd.lifeboat.dev/v1alpha1/namespaces/lifeboat/etcdbackups").await;
        asked.answer(200, &list("1", json!([good, bad])));
        stores.backups.wait_until_ready().await.unwrap();
        let kept = get(&stores.backups, "lifeboat", "good").unwrap();
        assert!(stores.has_backup("bad"), "its name is taken");
        assert!(get(&stores.backups, "lifeboat", "bad").is_none());
        assert_eq!(readable(&stores.backups).len(), 1);
        assert_eq!(kept.metadata.managed_fields.unwrap_or_default(), vec![]);
        assert_eq!(kept.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["kept"]);
        watch.abort();
    }

    #[tokio::test]
    async fn a_kind_that_is_not_served_yet_is_waited_for() {
        let (client, mut server) = Conversation::start();
        let (stores, writers) = Stores::new("lifeboat");
        let observers = Observers { liveness: Arc::default(), readiness: Arc::default() };
        let Writers { backups, .. } = writers;
        let watch = tokio::spawn(run_watch(client, stores.clone(), backups, observers.clone()));
        let path = "/apis/etcd.lifeboat.dev/v1alpha1/namespaces/lifeboat/etcdbackups";
        server.expect("GET", path).await.answer_not_found();
        let second = server.expect("GET", path).await;
        let lines = observers.readiness.waits_for();
        assert!(lines.iter().any(|line| line.contains("install CRD etcdbackups.etcd.lifeboat.dev")), "{lines:?}");
        second.answer(200, &list("1", json!([])));
        stores.backups.wait_until_ready().await.unwrap();
        while observers.readiness.waits_for().iter().any(|line| line.starts_with("EtcdBackup:")) {
            tokio::task::yield_now().await;
        }
        watch.abort();
    }

    #[test]
    fn an_unreadable_object_still_tells_its_schedule() {
        let bad: Guarded<EtcdBackup> = serde_json::from_value(json!({"metadata": {"name": "bad",
            "labels": {"etcd.lifeboat.dev/schedule": "nightly"}}, "spec": 7}))
        .unwrap();
        let Touched::One(touched) = one(&bad) else { panic!("one object") };
        assert_eq!((touched.kind, touched.schedule.as_deref()), (Kind::Backup, Some("nightly")));
    }
}
