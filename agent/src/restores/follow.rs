//! Every master's part of a restore that was ordered: joins it, keeps its executor running, says how far it is, and passes on
//! that it was called off.
//!
//! Watches all EtcdRestores, and looks at this host every few seconds while something goes on. Works on without an API server:
//! what is sealed here needs none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use lifeboat_crds::condition::is_true;
use lifeboat_crds::order::RestoreId;
use lifeboat_crds::restore::NodeProgress;
use lifeboat_crds::{API_VERSION, ConditionType, EtcdRestore, Task};
use lifeboat_executor::SealOutcome;
use lifeboat_process::api_error::watch_words;
use lifeboat_protocol::start::Ignored;
use serde_json::json;
use tokio::time::Instant;

use super::cache::cached;
use super::news::progress_of;
use super::{Request, Restorer, RestoresError};
use crate::report::{Reporter, Written};
use crate::restoring::humans::{CANCEL, wish};
use crate::restoring::launch::launch;
use crate::restoring::reach::Reach;
use crate::restoring::sealing::look_for_order;
use crate::restoring::site::Site;
use crate::restoring::standing::{Standing, standings};

/// Between looks while a restore goes on.
const OFTEN: Duration = Duration::from_secs(2);
/// Between looks while none does.
const SELDOM: Duration = Duration::from_secs(10);
/// Between looks for orders that no object tells of: each is a request to the store.
const LOOK: Duration = Duration::from_secs(60);
/// The same, while the API server does not answer: somebody may be about to restore.
const LOOK_WHILE_AWAY: Duration = Duration::from_secs(10);
/// Between looks at the locations.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// A watch is begun anew this often: a connection that died unseen must not hide an order.
const WATCH_SECONDS: u32 = 60;

/// Follows restores for one node.
pub struct Follower {
    restorer: Restorer,
    client: Client,
    /// Writes `status.nodes`, as another manager than the one that writes `status.execution`: an apply of one would take
    /// away the other.
    reporter: Reporter,
    /// What is there, by name; nothing before the first list.
    seen: Option<BTreeMap<String, EtcdRestore>>,
    /// A list that goes on.
    listed: BTreeMap<String, EtcdRestore>,
    /// What was said last of each restore, by UID.
    said: BTreeMap<String, NodeProgress>,
    /// Restores whose objects were seen while they were sealed here.
    followed: BTreeSet<RestoreId>,
    /// When orders were last looked for that no object tells of.
    looked: Option<Instant>,
    /// When the locations were last kept.
    kept: Option<Instant>,
    /// Whether the API server did not answer the last time.
    is_away: bool,
    /// The last words of trouble, so that each is logged once.
    trouble: Option<String>,
}

/// What an object says about a restore that this node may have to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing yet.
    Nothing,
    /// It is ordered: to be joined.
    Joined,
    /// It is called off.
    Cancelled,
    /// It has ended, or was ended.
    Over,
}

/// Reads what is wanted. Pure.
fn wanted(restore: &EtcdRestore) -> Wanted {
    let Some(status) = &restore.status else { return Wanted::Nothing };
    let is_of_this_attempt = status.attempt == Some(restore.spec.attempt);
    let is = |type_| is_true(&status.conditions, type_);
    let is_ordered = status.assignment.as_ref().is_some_and(|assignment| assignment.task == Task::Order);
    match (is_of_this_attempt && is_ordered, is(ConditionType::Complete) || is(ConditionType::Failed)) {
        (false, _) => Wanted::Nothing,
        (true, true) => Wanted::Over,
        (true, false) if restore.spec.cancel => Wanted::Cancelled,
        (true, false) => Wanted::Joined,
    }
}

/// Whether a restore of this attempt was called off, by its field or by being deleted. Pure. An object that was never seen is
/// none that was deleted: this watch may lag behind the one by which the order came, or have begun after the rewind.
fn is_called_off(found: Option<&EtcdRestore>, attempt: i32, was_seen: bool) -> bool {
    match found {
        Some(restore) => restore.spec.cancel && restore.spec.attempt == attempt,
        None => was_seen,
    }
}

impl Follower {
    /// Nothing is followed yet.
    pub fn new(restorer: Restorer, client: Client, reporter: &Reporter) -> Self {
        let reporter = reporter.as_another("progress");
        let (said, listed) = (BTreeMap::new(), BTreeMap::new());
        Self {
            restorer,
            client,
            reporter,
            seen: None,
            listed,
            said,
            followed: BTreeSet::new(),
            looked: None,
            kept: None,
            is_away: false,
            trouble: None,
        }
    }

    /// Follows for as long as the process lives.
    pub async fn run(mut self) {
        let api: Api<DeserializeGuard<EtcdRestore>> = Api::namespaced(self.client.clone(), &self.restorer.namespace);
        let events = watcher(api, Config::default().timeout(WATCH_SECONDS)).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.is_away = false;
                        self.see(event);
                        // Something may be to be done at once.
                        next = next.min(Instant::now() + Duration::from_millis(200));
                    }
                    Some(Err(error)) => {
                        self.is_away = true;
                        tracing::debug!(error = watch_words(&error), "the watch of EtcdRestores is begun again");
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {
                    let goes_on = self.step().await;
                    next = Instant::now() + if goes_on { OFTEN } else { SELDOM };
                }
            }
        }
    }

    fn see(&mut self, event: Event<DeserializeGuard<EtcdRestore>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(DeserializeGuard(Ok(restore))) => {
                self.listed.insert(restore.name_any(), restore);
            }
            Event::InitDone => self.seen = Some(std::mem::take(&mut self.listed)),
            Event::Apply(DeserializeGuard(Ok(restore))) => {
                self.seen.get_or_insert_default().insert(restore.name_any(), restore);
            }
            Event::Delete(object) => {
                let name = object.0.map_or_else(|malformed| malformed.metadata.name, |restore| restore.metadata.name);
                self.seen.get_or_insert_default().remove(&name.unwrap_or_default());
            }
            // One that cannot be read asks for nothing, and takes nothing away.
            Event::InitApply(DeserializeGuard(Err(_))) | Event::Apply(DeserializeGuard(Err(_))) => {}
        }
    }

    /// Does what is to be done now; tells whether something goes on.
    async fn step(&mut self) -> bool {
        match self.try_step().await {
            Ok(goes_on) => {
                self.trouble = None;
                goes_on
            }
            Err(error) => {
                let words = error.to_string();
                if self.trouble.as_ref() != Some(&words) {
                    tracing::warn!(error = words, "a restore is followed later");
                    self.trouble = Some(words);
                }
                true
            }
        }
    }

    async fn try_step(&mut self) -> Result<bool, RestoresError> {
        let wished: Vec<EtcdRestore> = self
            .seen
            .iter()
            .flat_map(BTreeMap::values)
            .filter(|restore| matches!(wanted(restore), Wanted::Joined | Wanted::Cancelled))
            .cloned()
            .collect();
        let site = match self.restorer.site().await {
            Ok(site) => site,
            // A master that is not understood takes part in nothing; who wants it to is told.
            Err(error) if wished.is_empty() => {
                tracing::debug!(%error, "no restore can be followed here");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let here = standings(&site)?;
        let mut goes_on = !wished.is_empty();
        for standing in here.iter().filter(|standing| standing.outcome.is_none() || standing.owes) {
            goes_on = true;
            self.keep_going(&site, standing).await?;
        }
        for restore in &wished {
            if let Some(request) = Request::of(restore) {
                self.take_part(&site, &here, &request).await?;
            }
        }
        self.call_off(&here)?;
        self.keep_locations(&site).await;
        goes_on |= self.join_unasked(&site).await;
        Ok(goes_on)
    }

    /// For the day on which there is no API server to be asked.
    async fn keep_locations(&mut self, site: &Site) {
        let is_due = self.kept.is_none_or(|at| at.elapsed() >= KEEP_EVERY);
        if self.is_away || self.seen.is_none() || !is_due {
            return;
        }
        match self.restorer.keep_locations(&site.node.state_dir).await {
            Ok(()) => self.kept = Some(Instant::now()),
            Err(error) => tracing::debug!(%error, "how locations are reached is kept later"),
        }
    }

    /// Looks for orders that no object tells of, in every location that this host knows, and joins. Tells whether one was.
    async fn join_unasked(&mut self, site: &Site) -> bool {
        let pause = if self.is_away { LOOK_WHILE_AWAY } else { LOOK };
        if self.looked.is_some_and(|at| at.elapsed() < pause) {
            return false;
        }
        self.looked = Some(Instant::now());
        let mut joined = false;
        for path in cached(&site.node.state_dir) {
            match self.restorer.join_from(site, &path).await {
                Ok(found) => joined |= found,
                Err(error) => tracing::debug!(location = %path.display(), %error, "orders are looked for later"),
            }
        }
        joined
    }

    /// An executor that died is started again, where no unit does.
    async fn keep_going(&self, site: &Site, standing: &Standing) -> Result<(), RestoresError> {
        let is_reachable = Reach::of(&site.node.state_dir, &standing.restore_id).location().exists();
        if !standing.is_running && is_reachable {
            launch(site, &standing.restore_id).await?;
        }
        Ok(())
    }

    /// Joins what is not joined yet, and tells how far it is.
    async fn take_part(&mut self, site: &Site, here: &[Standing], request: &Request<'_>) -> Result<(), RestoresError> {
        let id = request.id(&self.restorer.namespace);
        match here.iter().find(|standing| standing.restore_id == id) {
            Some(standing) => {
                self.followed.insert(id.clone());
                let is_reachable = Reach::of(&site.node.state_dir, &id).location().exists();
                if standing.outcome.is_none() && !is_reachable {
                    // Killed between sealing and setting off.
                    let locations = self.restorer.locations(request).await?;
                    self.restorer.set_off(site, request, &locations).await?;
                }
                self.tell(request.restore, standing).await;
            }
            None if wanted(request.restore) == Wanted::Joined => self.join(site, &id, request).await?,
            None => {}
        }
        Ok(())
    }

    async fn join(&self, site: &Site, id: &RestoreId, request: &Request<'_>) -> Result<(), RestoresError> {
        let locations = self.restorer.locations(request).await?;
        let store = self.restorer.meet(&locations).await?;
        match look_for_order(site, (&store, &self.restorer.cluster_uid), None).await? {
            SealOutcome::Sealed(found, _) | SealOutcome::Ignored(found, Ignored::Known) if found == *id => {
                tracing::info!(restore = request.name(), restore_id = %id, "joined");
                self.restorer.set_off(site, request, &locations).await
            }
            SealOutcome::Ignored(found, reason) => {
                tracing::info!(restore_id = %found, %reason, "this master takes no part");
                Ok(())
            }
            // The author writes it in this moment, or another one took its place.
            SealOutcome::Nothing | SealOutcome::Sealed(..) | SealOutcome::WantsJoinCode(_) => Ok(()),
        }
    }

    /// Only what is new; what the API server does not take now is said again.
    async fn tell(&mut self, restore: &EtcdRestore, standing: &Standing) {
        let uid = restore.uid().unwrap_or_default();
        let progress = progress_of(&self.restorer.node, standing);
        if self.said.get(&uid) == Some(&progress) {
            return;
        }
        let name = restore.name_any();
        let patch = json!({"apiVersion": API_VERSION, "kind": "EtcdRestore", "metadata": {"name": name, "uid": uid},
            "status": {"nodes": [progress]}});
        match self.reporter.apply_status::<EtcdRestore>(&name, &patch).await {
            Ok(Written::Landed | Written::Gone | Written::NotOurs(_)) => {
                self.said.insert(uid, progress);
            }
            Err(error) => tracing::debug!(%error, "progress is told later"),
        }
    }

    /// Passes on that a restore was called off, by its field or by being deleted. Whoever has obeyed a decision by then, or
    /// learnt one, does not mind; an API server that was put back by this very restore knows nothing of it either.
    fn call_off(&self, here: &[Standing]) -> Result<(), RestoresError> {
        let Some(seen) = &self.seen else { return Ok(()) };
        for standing in here.iter().filter(|standing| standing.outcome.is_none()) {
            let Ok(order) = standing.directory.read_order_alone() else { continue };
            if order.request.namespace != self.restorer.namespace {
                continue;
            }
            let found = seen.get(&order.request.name);
            let was_seen = self.followed.contains(&standing.restore_id);
            if is_called_off(found, order.request.attempt, was_seen) && !standing.directory.root().join(CANCEL).exists()
            {
                tracing::info!(restore = order.request.name, "called off");
                wish(standing.directory.root(), CANCEL).map_err(crate::restoring::RestoringError::from)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn restore(spec: &Value, status: &Value) -> EtcdRestore {
        let mut spec = spec.clone();
        spec["cluster"] = json!({"from": {"backupRef": {"name": "b"}}});
        serde_json::from_value(json!({"apiVersion": API_VERSION, "kind": "EtcdRestore", "metadata": {"name": "r"},
            "spec": spec, "status": status}))
        .unwrap()
    }

    #[test]
    fn only_what_is_ordered_and_not_over_is_joined() {
        let assigned =
            |task: &str| json!({"nodeName": "m1", "attempt": 2, "task": task, "time": "2026-11-24T02:03:04Z"});
        let ended = |type_: &str| json!([{"type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-11-24T02:03:04Z"}]);
        let (first, second) = (json!({}), json!({"attempt": 2}));
        for (spec, status, expected) in [
            (&first, json!({}), Wanted::Nothing),
            (&first, json!({"attempt": 1, "assignment": assigned("Plan")}), Wanted::Nothing),
            (&first, json!({"attempt": 1, "assignment": assigned("Order")}), Wanted::Joined),
            (&second, json!({"attempt": 1, "assignment": assigned("Order")}), Wanted::Nothing),
            (&json!({"cancel": true}), json!({"attempt": 1, "assignment": assigned("Order")}), Wanted::Cancelled),
            (
                &first,
                json!({"attempt": 1, "assignment": assigned("Order"), "conditions": ended("Failed")}),
                Wanted::Over,
            ),
            (
                &first,
                json!({"attempt": 1, "assignment": assigned("Order"), "conditions": ended("Complete")}),
                Wanted::Over,
            ),
        ] {
            assert_eq!(wanted(&restore(spec, &status)), expected, "{spec} {status}");
        }
    }

    #[test]
    fn an_object_that_was_never_seen_was_not_deleted() {
        let there = restore(&json!({"attempt": 2}), &json!({}));
        let cancelled = restore(&json!({"attempt": 2, "cancel": true}), &json!({}));
        for was_seen in [false, true] {
            assert!(!is_called_off(Some(&there), 2, was_seen));
            assert!(is_called_off(Some(&cancelled), 2, was_seen));
            assert!(!is_called_off(Some(&cancelled), 1, was_seen), "another attempt");
            assert_eq!(is_called_off(None, 2, was_seen), was_seen);
        }
    }
}
