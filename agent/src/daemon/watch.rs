//! Watches one kind for objects assigned to this node, and begins and ends their work as `assigned` decides.
//!
//! Keeps no copy of what it sees: an agent must stay small beside thousands of finished backups.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, Client, Resource, ResourceExt};
use lifeboat_crds::{Assignment, NodeName};
use lifeboat_process::api_error::watch_words;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::assigned::{Seen, Step, WorkId, decide_work};
use super::readiness::{Need, Readiness};
use super::worker::WorkOrder;

/// Longest for running work to clear up at the end of the process.
const FAREWELL: Duration = Duration::from_secs(20);
/// Objects listed at once.
const PAGE: u32 = 100;

/// A watch is begun anew this often: a connection that died unseen must not hide assignments for minutes.
const WATCH_SECONDS: u32 = 60;

/// A kind with work for agents.
pub trait Assigned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What readiness waits for.
    const NEED: Need;

    /// Its work, reduced.
    fn seen<'o>(&'o self, uid: &'o str) -> Seen<'o>;
}

/// Carries out the work of a kind.
pub trait Carrier<K>: Send + Sync + 'static {
    /// Works until done or cancelled.
    fn carry(
        self: Arc<Self>,
        object: K,
        order: WorkOrder,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}

/// Watches until `shutdown`, then waits for running work to clear up.
pub async fn watch_assigned<K: Assigned, C: Carrier<K>>(
    client: Client,
    namespace: String,
    me: NodeName,
    readiness: Arc<Readiness>,
    carrier: Arc<C>,
    shutdown: CancellationToken,
) {
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client, &namespace);
    let config =
        Config::default().fields(&format!("status.assignment.nodeName={me}")).page_size(PAGE).timeout(WATCH_SECONDS);
    let events = watcher(api, config).default_backoff().take_until(shutdown.clone().cancelled_owned());
    let mut events = std::pin::pin!(events);
    let mut desk = Desk { me, carrier, running: HashMap::new(), tasks: JoinSet::new(), listed: None };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) {
                    readiness.met(K::NEED);
                }
                desk.see(event);
            }
            Err(error) => note_failure(&readiness, K::NEED, &error),
        }
    }
    desk.close().await;
}

fn note_failure(readiness: &Readiness, need: Need, error: &watcher::Error) {
    let words = watch_words(error);
    tracing::warn!(?need, error = words, "watch failed; it is begun again");
    readiness.failing(need, &words);
}

/// The work of one kind.
struct Desk<C> {
    me: NodeName,
    carrier: Arc<C>,
    /// What was begun, until the object says that it is over or gone: a late event must not begin it again.
    running: HashMap<WorkId, CancellationToken>,
    tasks: JoinSet<()>,
    /// UIDs seen since a list began.
    listed: Option<HashSet<String>>,
}

impl<C> Desk<C> {
    fn see<K: Assigned>(&mut self, event: Event<DeserializeGuard<K>>)
    where
        C: Carrier<K>,
    {
        // Whatever ended makes room.
        while self.tasks.try_join_next().is_some() {}
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                if let (Some(listed), Some(uid)) = (&mut self.listed, object.uid()) {
                    listed.insert(uid);
                }
                self.see_object(object);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.cancel(|id| !listed.contains(&id.uid));
                }
            }
            Event::Apply(object) => self.see_object(object),
            Event::Delete(object) => {
                let uid = object.uid().unwrap_or_default();
                self.cancel(|id| id.uid == uid);
            }
        }
    }

    fn see_object<K: Assigned>(&mut self, object: DeserializeGuard<K>)
    where
        C: Carrier<K>,
    {
        let object = match object.0 {
            Ok(object) => object,
            Err(malformed) => {
                let name = malformed.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(object = name, error = %malformed, "object cannot be read; left alone");
                return;
            }
        };
        let uid = object.uid().unwrap_or_default();
        let seen = object.seen(&uid);
        let (has_result, assignment) = (seen.has_result, seen.assignment.cloned());
        let Step { cancel, start } = decide_work(&self.me, seen, &self.running);
        self.cancel(|id| cancel.contains(id));
        if let (Some(id), Some(assignment)) = (start, assignment.clone()) {
            self.start(id, assignment, object);
        } else if has_result && let Some(Assignment { attempt, .. }) = assignment {
            self.running.remove(&WorkId { uid, attempt });
        }
    }

    fn start<K: Assigned>(&mut self, id: WorkId, assignment: Assignment, object: K)
    where
        C: Carrier<K>,
    {
        let cancel = CancellationToken::new();
        let order = WorkOrder { name: object.name_any(), uid: id.uid.clone(), assignment };
        tracing::info!(
            kind = %K::kind(&()),
            object = order.name,
            attempt = order.assignment.attempt,
            task = ?order.assignment.task,
            "work begins"
        );
        let work = Box::pin(Arc::clone(&self.carrier).carry(object, order, cancel.clone()));
        self.tasks.spawn(async {
            work.await;
            // The next may be hours away.
            lifeboat_heap::give_back();
        });
        self.running.insert(id, cancel);
    }

    fn cancel(&mut self, is_meant: impl Fn(&WorkId) -> bool) {
        self.running.retain(|id, token| {
            let meant = is_meant(id);
            if meant {
                token.cancel();
            }
            !meant
        });
    }

    async fn close(mut self) {
        self.cancel(|_| true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("work did not end in time and is cut off");
        }
    }
}
