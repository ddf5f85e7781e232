//! The driver that all controllers share: what wakes them, how often they are tried, how they end.
//!
//! Never two reconciles of one object at once (kube's applier sees to that), a bounded number in all, each with a
//! deadline. A controller only says what wakes it and how to reconcile one object.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::apply::{ErrorClass, ObjectWriter, ReconcileError, Written};
use crate::assignments::RecentAssignments;
use crate::events::EventSink;
use crate::kind::{Touched, TouchedObject, Watched};
use crate::liveness::LivenessTracker;
use crate::metrics::Metrics;
use crate::stores::{Guarded, Stores};

/// Longest time for one reconcile, well within the lease.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(10);
/// Several changes within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Until a stale cache is looked at again; its next event usually comes first.
const STALE_PAUSE: Duration = Duration::from_secs(1);
/// Until a failed reconcile is tried again.
const TRANSIENT_PAUSE: Duration = Duration::from_secs(5);
/// The same where somebody must change something first.
const PERMANENT_PAUSE: Duration = Duration::from_secs(60);
/// No decision makes its object spin.
const MINIMUM_PAUSE: Duration = Duration::from_secs(1);

/// What controllers work with.
pub struct Context {
    /// The caches.
    pub stores: Stores,
    /// How long signs of life stand still.
    pub liveness: Arc<LivenessTracker>,
    /// Writes to the API.
    pub writer: ObjectWriter,
    /// Events.
    pub events: EventSink,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Assignments the caches may not show yet.
    pub assignments: RecentAssignments,
}

/// When an object is looked at again if nothing happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this time.
    After(Duration),
    /// Only if something happens.
    OnChange,
}

impl Next {
    /// What follows a status write: the time that was decided, or soon if the decision did not land.
    pub fn after_write(written: Written, decided: Next) -> Self {
        match written {
            Written::Applied | Written::Unchanged => decided,
            Written::Outdated => Self::After(STALE_PAUSE),
            Written::Gone => Self::OnChange,
        }
    }
}

impl From<Next> for Action {
    fn from(next: Next) -> Self {
        match next {
            Next::After(pause) => Self::requeue(pause.max(MINIMUM_PAUSE)),
            Next::OnChange => Self::await_change(),
        }
    }
}

/// The clock as deciders see it: whole seconds, as objects keep them.
pub fn now() -> Timestamp {
    lifeboat_crds::whole_seconds(Timestamp::now())
}

/// One controller.
pub trait Controller: Send + Sync + 'static {
    /// The kind it reconciles.
    type Kind: Watched + Clone + Debug + Send + Sync + 'static;
    /// Its name in logs and metrics.
    const NAME: &'static str;
    /// Reconciles that may run at once.
    const CONCURRENCY: u16;

    /// The store of its kind.
    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>>;

    /// Names of the objects to look at because of `touched`.
    fn wakes(touched: &TouchedObject, stores: &Stores) -> Vec<String>;

    /// Observes, decides, applies and reports one object.
    fn reconcile(context: &Context, object: &Self::Kind) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// Runs a controller until `shutdown`; reconciles that have begun end by themselves.
pub async fn run_controller<C: Controller>(context: Arc<Context>, shutdown: CancellationToken) {
    let queue = queue::<C>(context.stores.clone()).take_until(shutdown.cancelled_owned());
    let config = controller::Config::default().concurrency(C::CONCURRENCY).debounce(DEBOUNCE);
    let store = C::store(&context.stores).clone();
    applier(reconcile_one::<C>, retry_later::<C>, context.clone(), store, queue, config)
        .for_each(|result| {
            match result {
                // An object deleted since it was queued.
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(controller::Error::ReconcilerFailed(error, object)) => {
                    context.metrics.count_error(C::NAME, error.reason());
                    tracing::warn!(controller = C::NAME, object = %object.name, %error, "reconcile failed");
                }
                Err(controller::Error::QueueError(never)) => match never {},
                Err(controller::Error::RunnerError(error)) => {
                    tracing::error!(controller = C::NAME, %error, "controller cannot run");
                }
            }
            std::future::ready(())
        })
        .await;
}

/// Objects to reconcile: everything once, then whatever is touched; everything again after falling behind.
fn queue<C: Controller>(stores: Stores) -> impl Stream<Item = Result<ObjectRef<Guarded<C::Kind>>, Infallible>> {
    // Subscribed before everything is listed: nothing falls between.
    let touched = stores.subscribe();
    let first = everything::<C>(&stores);
    let rest = stream::unfold((touched, stores), |(mut touched, stores)| async move {
        let woken = next_woken::<C>(&mut touched, &stores).await?;
        Some((woken, (touched, stores)))
    });
    stream::iter([first]).chain(rest).flat_map(stream::iter).map(Ok)
}

async fn next_woken<C: Controller>(
    touched: &mut Receiver<Touched>,
    stores: &Stores,
) -> Option<Vec<ObjectRef<Guarded<C::Kind>>>> {
    match touched.recv().await {
        Ok(Touched::One(touched)) => {
            let names = C::wakes(&touched, stores);
            Some(names.iter().map(|name| ObjectRef::new(name).within(&stores.namespace)).collect())
        }
        Ok(Touched::Everything(_)) | Err(RecvError::Lagged(_)) => Some(everything::<C>(stores)),
        Err(RecvError::Closed) => None,
    }
}

fn everything<C: Controller>(stores: &Stores) -> Vec<ObjectRef<Guarded<C::Kind>>> {
    C::store(stores).state().iter().map(|object| ObjectRef::from_obj(&**object)).collect()
}

fn reconcile_one<C: Controller>(
    object: Arc<Guarded<C::Kind>>,
    context: Arc<Context>,
) -> futures::future::BoxFuture<'static, Result<Action, ReconcileError>> {
    Box::pin(async move {
        let object = match &object.0 {
            Ok(object) => object,
            Err(malformed) => {
                let name = malformed.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(controller = C::NAME, object = name, error = %malformed, "object cannot be read; left alone");
                return Ok(Action::await_change());
            }
        };
        if object.meta().deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        if is_stale(&context, object) {
            return Ok(Next::After(STALE_PAUSE).into());
        }
        let next = timeout(RECONCILE_TIMEOUT, C::reconcile(&context, object)).await;
        next.map_err(|_elapsed| ReconcileError::TimedOut)?.map(Action::from)
    })
}

fn is_stale<K: Watched>(context: &Context, object: &K) -> bool {
    let (Some(uid), Some(version)) = (object.uid(), object.resource_version()) else { return false };
    let has_child = |name: &str| context.stores.has_backup(name);
    context.writer.freshness.is_stale(&uid, &version, has_child, Instant::now())
}

fn retry_later<C: Controller>(_: Arc<Guarded<C::Kind>>, error: &ReconcileError, _: Arc<Context>) -> Action {
    Action::requeue(match error.class() {
        ErrorClass::Transient => TRANSIENT_PAUSE,
        ErrorClass::Permanent => PERMANENT_PAUSE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event_queue;
    use crate::kind::Kind;
    use crate::leadership::Gate;
    use crate::mock::Conversation;
    use crate::stores::Writers;
    use lifeboat_crds::EtcdRestore;
    use serde_json::{Value, json};
    use std::sync::Mutex;

    /// What was reconciled, by namespace: each test has its own.
    static RECONCILED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

    struct Noting;

    impl Controller for Noting {
        type Kind = EtcdRestore;
        const NAME: &'static str = "noting";
        const CONCURRENCY: u16 = 2;

        fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
            &stores.restores
        }

        fn wakes(touched: &TouchedObject, _: &Stores) -> Vec<String> {
            touched.location.iter().cloned().collect()
        }

        async fn reconcile(context: &Context, object: &EtcdRestore) -> Result<Next, ReconcileError> {
            let name = object.name_any();
            RECONCILED.lock().unwrap().push((context.stores.namespace.clone(), name.clone()));
            if name == "failing" { Err(ReconcileError::Forbidden("no".into())) } else { Ok(Next::OnChange) }
        }
    }

    fn restore(namespace: &str, name: &str, spec: &Value) -> Value {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore",
            "metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}, "spec": spec})
    }

    /// A controller that runs over these restores, all synced.
    fn start(
        namespace: &str,
        names: &[&str],
    ) -> (Arc<Context>, Writers, CancellationToken, tokio::task::JoinHandle<()>) {
        let (client, _server) = Conversation::start();
        let (stores, mut writers) = Stores::new(namespace);
        let spec = |name: &str| if name == "malformed" { json!(7) } else { json!({"member": {"nodeName": "m1"}}) };
        let objects: Vec<_> = names.iter().map(|name| restore(namespace, name, &spec(name))).collect();
        writers.fill(&stores, &objects);
        writers.mark_synced();
        let context = Arc::new(Context {
            metrics: Arc::new(Metrics::new(stores.clone(), Gate::fixed(true))),
            stores,
            liveness: Arc::default(),
            writer: ObjectWriter::new(client.clone(), namespace, Gate::fixed(true)),
            events: event_queue(client, "pod").0,
            assignments: RecentAssignments::default(),
        });
        let stop = CancellationToken::new();
        let controller = tokio::spawn(run_controller::<Noting>(context.clone(), stop.clone()));
        (context, writers, stop, controller)
    }

    fn reconciled(namespace: &str) -> Vec<String> {
        let mut names: Vec<_> =
            RECONCILED.lock().unwrap().iter().filter(|(of, _)| of == namespace).map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }

    async fn until(what: impl Fn() -> bool) {
        for _ in 0..500 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("did not come about within 5 s");
    }

    #[tokio::test]
    async fn everything_is_looked_at_once_and_then_what_is_woken() {
        let (context, _writers, stop, controller) = start("once", &["a", "b"]);
        until(|| reconciled("once") == ["a", "b"]).await;
        let touched = TouchedObject {
            kind: Kind::Member,
            name: "m1".into(),
            schedule: None,
            location: Some("b".into()),
            is_heartbeat: false,
        };
        context.stores.report(Touched::One(touched));
        until(|| reconciled("once") == ["a", "b", "b"]).await;
        context.stores.report(Touched::Everything(Kind::Restore));
        until(|| reconciled("once") == ["a", "a", "b", "b", "b"]).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), controller).await.expect("it ends when told to").unwrap();
    }

    #[tokio::test]
    async fn neither_a_malformed_nor_a_failing_object_stops_the_others() {
        let (context, _writers, stop, controller) = start("others", &["malformed", "failing", "z"]);
        until(|| reconciled("others") == ["failing", "z"]).await;
        let counted = r#"lifeboat_reconcile_errors_total{controller="noting",reason="Forbidden"} 1"#;
        until(|| context.metrics.encode().unwrap().contains(counted)).await;
        stop.cancel();
        controller.await.unwrap();
    }

    #[tokio::test]
    async fn an_object_whose_newest_status_is_not_yet_cached_waits() {
        let (context, mut writers, stop, controller) = start("stale", &["a"]);
        until(|| reconciled("stale") == ["a"]).await;
        context.writer.freshness.wrote("a", "1", Some("2"));
        context.stores.report(Touched::Everything(Kind::Restore));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(reconciled("stale"), ["a"]);
        let mut newer = restore("stale", "a", &json!({"member": {"nodeName": "m1"}}));
        newer["metadata"]["resourceVersion"] = json!("2");
        writers.fill(&context.stores, &[newer]);
        until(|| reconciled("stale") == ["a", "a"]).await;
        stop.cancel();
        controller.await.unwrap();
    }

    #[test]
    fn no_decision_makes_its_object_spin() {
        assert_eq!(Action::from(Next::After(Duration::ZERO)), Action::requeue(MINIMUM_PAUSE));
        assert_eq!(Next::after_write(Written::Outdated, Next::OnChange), Next::After(STALE_PAUSE));
        assert_eq!(Next::after_write(Written::Unchanged, Next::OnChange), Next::OnChange);
    }
}
