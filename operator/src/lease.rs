//! Who leads: the pure half of leader election.
//!
//! Given the Lease as read and how long this process saw it unchanged, says what to do, and what to write. Clocks of
//! other machines are never compared: a lease is over when *we* watched it stand still for its whole duration.
//! No I/O; the loop around it is in `leadership`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

/// Name of the Lease.
pub const LEASE_NAME: &str = "lifeboat-operator";
/// How long a lease holds without being renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews, and the others look.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// The leader stops this long before others may take over: a write that it sent last must have landed by then.
pub const LEASE_GRACE: Duration = Duration::from_secs(2);

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseDecision {
    /// There is none: create it.
    Create,
    /// It is free or its holder stopped: write our name into it.
    TakeOver,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it: look again.
    Wait,
}

/// Decides from the lease as read just now. `seen_unchanged` is how long this process saw this very version.
pub fn decide_lease(lease: Option<&Lease>, me: &str, seen_unchanged: Duration) -> LeaseDecision {
    let Some(lease) = lease else { return LeaseDecision::Create };
    let spec = lease.spec.as_ref();
    match spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty()) {
        None => LeaseDecision::TakeOver,
        Some(holder) if holder == me => LeaseDecision::Renew,
        Some(_) if seen_unchanged >= duration_of(spec) => LeaseDecision::TakeOver,
        Some(_) => LeaseDecision::Wait,
    }
}

/// The duration its holder promised; one that makes no sense counts as ours.
fn duration_of(spec: Option<&LeaseSpec>) -> Duration {
    spec.and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| (1..=600).contains(seconds))
        .map_or(LEASE_DURATION, Duration::from_secs)
}

/// Until when the leader may write, counted from the *start* of its last successful renewal.
///
/// Others begin to count when they see the renewal, which is later: the lease cannot be taken before this has passed.
pub const fn leading_time() -> Duration {
    LEASE_DURATION.saturating_sub(LEASE_GRACE)
}

/// The lease to write when creating it, taking it over or renewing it. Keeps what others put on the object, and its
/// resourceVersion, so that of two writers one gets a conflict.
pub fn held_lease(previous: Option<&Lease>, me: &str, namespace: &str, now: Timestamp) -> Lease {
    let before = previous.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let is_renewal = before.holder_identity.as_deref() == Some(me);
    let acquired = if is_renewal { before.acquire_time.clone() } else { None };
    let transitions = before.lease_transitions.unwrap_or(0);
    let is_change = previous.is_some() && !is_renewal;
    Lease {
        metadata: metadata(previous, namespace),
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if is_change { transitions.saturating_add(1) } else { transitions }),
            preferred_holder: None,
            strategy: None,
        }),
    }
}

/// The lease to write when giving it back: nobody holds it, so that the next one need not wait.
pub fn released_lease(previous: &Lease, now: Timestamp) -> Lease {
    let spec = previous.spec.clone().unwrap_or_default();
    Lease {
        metadata: previous.metadata.clone(),
        spec: Some(LeaseSpec { holder_identity: None, renew_time: Some(MicroTime(now)), ..spec }),
    }
}

fn metadata(previous: Option<&Lease>, namespace: &str) -> ObjectMeta {
    previous.map_or_else(
        || ObjectMeta {
            name: Some(LEASE_NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        |lease| lease.metadata.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(holder: Option<&str>, seconds: Option<i32>) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: seconds,
                lease_transitions: Some(3),
                acquire_time: Some(MicroTime(at(100))),
                renew_time: Some(MicroTime(at(100))),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn who_may_write_the_lease() {
        use LeaseDecision::{Create, Renew, TakeOver, Wait};
        let table: &[(&str, Option<Lease>, u64, LeaseDecision)] = &[
            ("there is no lease", None, 0, Create),
            ("it was released", Some(lease(None, Some(15))), 0, TakeOver),
            ("its holder is empty", Some(lease(Some(""), Some(15))), 0, TakeOver),
            ("it has no spec", Some(Lease::default()), 0, TakeOver),
            ("it is mine", Some(lease(Some("me"), Some(15))), 0, Renew),
            ("it is mine and old", Some(lease(Some("me"), Some(15))), 3_600, Renew),
            ("another has it, first seen now", Some(lease(Some("you"), Some(15))), 0, Wait),
            ("another has it, almost over", Some(lease(Some("you"), Some(15))), 14, Wait),
            ("another stopped", Some(lease(Some("you"), Some(15))), 15, TakeOver),
            ("another promised longer", Some(lease(Some("you"), Some(60))), 59, Wait),
            ("another promised longer and stopped", Some(lease(Some("you"), Some(60))), 60, TakeOver),
            ("no duration counts as ours", Some(lease(Some("you"), None)), 14, Wait),
            ("zero duration counts as ours", Some(lease(Some("you"), Some(0))), 14, Wait),
            ("an absurd duration counts as ours", Some(lease(Some("you"), Some(i32::MAX))), 15, TakeOver),
            ("a restarted pod of my name is another", Some(lease(Some("me_0a"), Some(15))), 1, Wait),
        ];
        for (situation, lease, seen, expected) in table {
            let decision = decide_lease(lease.as_ref(), "me", Duration::from_secs(*seen));
            assert_eq!(decision, *expected, "{situation}");
        }
    }

    #[test]
    fn a_holder_with_a_wrong_clock_is_judged_by_what_we_saw() {
        // renewTime lies far in the past or the future; only the time seen unchanged counts.
        for renewed in [0, 4_000_000_000] {
            let mut lease = lease(Some("you"), Some(15));
            lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(at(renewed)));
            assert_eq!(decide_lease(Some(&lease), "me", Duration::from_secs(3)), LeaseDecision::Wait);
        }
    }

    #[test]
    fn the_leader_stops_before_others_may_take_over() {
        assert!(leading_time() < LEASE_DURATION);
        // One renewal may fail and be tried again before the time is up.
        assert!(leading_time() > RENEW_INTERVAL * 2);
    }

    #[test]
    fn renewing_keeps_when_it_was_acquired_and_counts_no_change() {
        let spec = held_lease(Some(&lease(Some("me"), Some(15))), "me", "ns", at(200)).spec.unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(at(100))));
        assert_eq!(spec.renew_time, Some(MicroTime(at(200))));
        assert_eq!(spec.lease_transitions, Some(3));
    }

    #[test]
    fn taking_over_counts_a_change_and_keeps_the_version_read() {
        let written = held_lease(Some(&lease(Some("you"), Some(15))), "me", "ns", at(200));
        assert_eq!(written.metadata.resource_version.as_deref(), Some("7"));
        let spec = written.spec.unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(at(200))));
        assert_eq!(spec.lease_transitions, Some(4));
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
    }

    #[test]
    fn a_new_lease_has_name_namespace_and_no_change() {
        let written = held_lease(None, "me", "ns", at(200));
        assert_eq!(written.metadata.name.as_deref(), Some(LEASE_NAME));
        assert_eq!(written.metadata.namespace.as_deref(), Some("ns"));
        assert_eq!(written.spec.unwrap().lease_transitions, Some(0));
    }

    #[test]
    fn a_released_lease_can_be_taken_at_once() {
        let released = released_lease(&lease(Some("me"), Some(15)), at(300));
        assert_eq!(decide_lease(Some(&released), "you", Duration::ZERO), LeaseDecision::TakeOver);
        assert_eq!(released.metadata.resource_version.as_deref(), Some("7"));
    }
}
