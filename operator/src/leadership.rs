//! Leader election: the loop around `lease`.
//!
//! Reads the Lease, carries out what `lease` decides, and opens or closes the [`Gate`] that every write passes. Watches
//! are not gated: a follower keeps its caches warm. Once leadership is lost the process ends; it is never regained.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::lease::{LEASE_NAME, LeaseDecision, RENEW_INTERVAL, decide_lease, held_lease, leading_time, released_lease};
use lifeboat_process::api_error::api_words;

/// Longest time for one reading or writing of the Lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// How soon a failed renewal is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether this process may write: every write asks right before it is sent.
#[derive(Clone, Debug)]
pub struct Gate(watch::Receiver<Option<Instant>>);

impl Gate {
    /// Whether this process leads and its time is not up.
    pub fn may_write(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// A gate that is open for an hour, or closed.
    #[cfg(test)]
    pub fn fixed(is_open: bool) -> Self {
        let until = is_open.then(|| Instant::now() + Duration::from_secs(3_600));
        Self(watch::channel(until).1)
    }
}

/// Leadership is gone; the process must end.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipLost {
    /// Another process holds the lease.
    #[error("lease {LEASE_NAME} is now held by another operator")]
    Taken,
    /// The lease could not be renewed in time.
    #[error("lease {LEASE_NAME} could not be renewed for {} s; is the API server reachable?", leading_time().as_secs())]
    NotRenewed,
}

/// Why a round of the election brought nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{}", api_words(.0))]
    Api(#[from] kube::Error),
}

/// What one round of the election found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leading,
    Following,
}

/// This process's part in the election.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    namespace: String,
    identity: String,
    until: watch::Sender<Option<Instant>>,
    renew_interval: Duration,
    /// The version of the Lease last read, and when it was first seen.
    sighted: Option<(String, Instant)>,
    /// The Lease as this process last wrote it.
    held: Option<Lease>,
}

impl Election {
    /// A candidate, and the gate that its leadership opens.
    ///
    /// The identity is of this process and not of the pod: a restarted container must not inherit its own lease, for
    /// writes of its former life may still be on their way.
    pub fn new(client: Client, namespace: &str, pod_name: &str) -> (Self, Gate) {
        let (until, receiver) = watch::channel(None);
        let election = Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            identity: format!("{pod_name}_{:016x}", rand::random::<u64>()),
            until,
            renew_interval: RENEW_INTERVAL,
            sighted: None,
            held: None,
        };
        (election, Gate(receiver))
    }

    /// Waits until this process leads.
    pub async fn campaign(&mut self) {
        loop {
            match self.round().await {
                Ok(Role::Leading) => {
                    tracing::info!(identity = %self.identity, "leading");
                    return;
                }
                Ok(Role::Following) => {}
                Err(error) => tracing::warn!(%error, "cannot take part in leader election"),
            }
            sleep(self.renew_interval).await;
        }
    }

    /// Renews the lease for as long as that works; returns why it no longer does. The gate is closed by then.
    pub async fn hold(&mut self) -> LeadershipLost {
        let mut pause = self.renew_interval;
        loop {
            let Some(deadline) = *self.until.borrow() else { return LeadershipLost::NotRenewed };
            let round = async {
                sleep(pause).await;
                self.round().await
            };
            pause = match tokio::time::timeout_at(deadline, round).await {
                Ok(Ok(Role::Leading)) => self.renew_interval,
                Ok(Ok(Role::Following)) => {
                    self.until.send_replace(None);
                    return LeadershipLost::Taken;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "lease not renewed, trying again");
                    RETRY_INTERVAL
                }
                Err(_elapsed) => {
                    self.until.send_replace(None);
                    return LeadershipLost::NotRenewed;
                }
            };
        }
    }

    /// Gives the lease back, so that another operator can start at once. To be called once nothing writes any more.
    pub async fn release(&mut self) {
        self.until.send_replace(None);
        let Some(held) = self.held.take() else { return };
        let lease = released_lease(&held, Timestamp::now());
        match timeout(CALL_TIMEOUT, self.leases.replace(LEASE_NAME, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => tracing::info!("lease released"),
            Ok(Err(error)) => tracing::warn!(error = api_words(&error), "lease not released; it ends by itself"),
            Err(_elapsed) => tracing::warn!("lease not released in time; it ends by itself"),
        }
    }

    /// Reads, decides, writes. A conflict means that another was quicker.
    async fn round(&mut self) -> Result<Role, RoundError> {
        let started = Instant::now();
        let lease = within(self.leases.get_opt(LEASE_NAME)).await?;
        let seen_unchanged = self.sight(lease.as_ref());
        let post = PostParams::default();
        let next = held_lease(lease.as_ref(), &self.identity, &self.namespace, Timestamp::now());
        let written = match decide_lease(lease.as_ref(), &self.identity, seen_unchanged) {
            LeaseDecision::Wait => return Ok(Role::Following),
            LeaseDecision::Create => within(self.leases.create(&post, &next)).await,
            LeaseDecision::TakeOver | LeaseDecision::Renew => {
                within(self.leases.replace(LEASE_NAME, &post, &next)).await
            }
        };
        let is_leading = self.until.borrow().is_some();
        match written {
            Ok(lease) => {
                self.held = Some(lease);
                self.until.send_replace(Some(started + leading_time()));
                Ok(Role::Leading)
            }
            // For a follower a lost race is an answer. A leader reads again: it may have been its own earlier try.
            Err(RoundError::Api(kube::Error::Api(status)))
                if !is_leading && (status.is_conflict() || status.is_already_exists()) =>
            {
                Ok(Role::Following)
            }
            Err(error) => Err(error),
        }
    }

    fn sight(&mut self, lease: Option<&Lease>) -> Duration {
        let now = Instant::now();
        let Some(version) = lease.and_then(ResourceExt::resource_version) else {
            self.sighted = None;
            return Duration::ZERO;
        };
        match &self.sighted {
            Some((seen, since)) if *seen == version => now.duration_since(*since),
            Some(_) | None => {
                self.sighted = Some((version, now));
                Duration::ZERO
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RoundError> {
    Ok(timeout(CALL_TIMEOUT, call).await.map_err(|_elapsed| RoundError::TimedOut)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Conversation;
    use serde_json::json;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/lifeboat/leases";

    fn stored(holder: &str, version: &str) -> serde_json::Value {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": LEASE_NAME, "namespace": "lifeboat", "resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
    }

    #[tokio::test]
    async fn the_first_operator_creates_the_lease_and_may_write() {
        let (client, mut server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        assert!(!gate.may_write());
        let script = async {
            server.expect("GET", &format!("{PATH}/{LEASE_NAME}")).await.answer_not_found();
            let create = server.expect("POST", PATH).await;
            let mut lease = create.json().clone();
            assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("pod-a_"), "{lease}");
            lease["metadata"]["resourceVersion"] = json!("1");
            create.answer(201, &lease);
        };
        let (role, ()) = tokio::join!(election.round(), script);
        assert_eq!(role.unwrap(), Role::Leading);
        assert!(gate.may_write());
    }

    #[tokio::test]
    async fn a_lease_held_by_another_is_only_read() {
        let (client, mut server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        let script = async {
            server.expect("GET", PATH).await.answer(200, &stored("pod-b_1", "5"));
        };
        let (role, ()) = tokio::join!(election.round(), script);
        assert_eq!(role.unwrap(), Role::Following);
        assert!(!gate.may_write());
    }

    #[tokio::test]
    async fn of_two_that_take_a_free_lease_the_slower_follows() {
        let (client, mut server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        let script = async {
            server.expect("GET", PATH).await.answer(200, &stored("", "5"));
            let replace = server.expect("PUT", PATH).await;
            assert_eq!(replace.json()["metadata"]["resourceVersion"], "5");
            replace.answer_conflict();
        };
        let (role, ()) = tokio::join!(election.round(), script);
        assert_eq!(role.unwrap(), Role::Following);
        assert!(!gate.may_write());
    }

    #[tokio::test]
    async fn a_leader_that_finds_another_name_in_the_lease_stops_at_once() {
        let (client, mut server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        election.until.send_replace(Some(Instant::now() + leading_time()));
        election.renew_interval = Duration::from_millis(1);
        assert!(gate.may_write());
        let script = async {
            server.expect("GET", PATH).await.answer(200, &stored("pod-b_1", "9"));
        };
        let (lost, ()) = tokio::join!(election.hold(), script);
        assert!(matches!(lost, LeadershipLost::Taken), "{lost}");
        assert!(!gate.may_write());
    }

    #[tokio::test]
    async fn a_leader_that_cannot_renew_stops_at_its_own_deadline() {
        let (client, server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        election.until.send_replace(Some(Instant::now() + Duration::from_millis(50)));
        let lost = election.hold().await;
        assert!(matches!(lost, LeadershipLost::NotRenewed), "{lost}");
        assert!(!gate.may_write());
        drop(server);
    }

    #[tokio::test]
    async fn releasing_writes_a_lease_without_holder() {
        let (client, mut server) = Conversation::start();
        let (mut election, gate) = Election::new(client, "lifeboat", "pod-a");
        election.held = serde_json::from_value(stored("pod-a_1", "9")).unwrap();
        election.until.send_replace(Some(Instant::now() + leading_time()));
        let script = async {
            let replace = server.expect("PUT", PATH).await;
            assert!(replace.json()["spec"].get("holderIdentity").is_none());
            assert_eq!(replace.json()["metadata"]["resourceVersion"], "9");
            let body = replace.json().clone();
            replace.answer(200, &body);
        };
        tokio::join!(election.release(), script);
        assert!(!gate.may_write());
    }
}
