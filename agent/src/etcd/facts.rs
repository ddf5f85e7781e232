//! Puts together what the agent reports of its master. Pure: everything was read before.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::member::{Certificates, FreeBytes, LastRestore, MemberFacts};
use lifeboat_crds::{Quantity, Time};

use super::error::EtcdError;
use super::status::MemberStatus;
use crate::host::discovery::{Discovery, Platform};
use crate::host::identity::HostId;
use crate::host::last_comparison::Finding;

/// A client certificate that ends this soon is spoken of; kubeadm renews a month before at upgrades.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Everything the facts are made of.
#[derive(Clone, Debug)]
pub struct FactsInput<'a> {
    /// What the host's files say.
    pub discovery: &'a Discovery,
    /// What the member says; nothing where there is no way to ask.
    pub status: Option<&'a Result<MemberStatus, EtcdError>>,
    /// End of the client certificate.
    pub not_after: Option<Timestamp>,
    /// Free space.
    pub free: FreeBytes,
    /// etcd's tools on the host.
    pub tool_versions: &'a BTreeMap<String, String>,
    /// Highest revision ever seen, this one included.
    pub highest_revision_seen: Option<i64>,
    /// What the last comparison of members found.
    pub comparison: Option<&'a Finding>,
    /// What became of the last restore of this host.
    pub last_restore: Option<&'a LastRestore>,
    /// Why no restore of all can be carried out by this agent, whatever the host is like.
    pub restore_disabled: Option<&'a str>,
    /// Identity of the host.
    pub host_id: Option<&'a HostId>,
    /// Version of this agent.
    pub agent_version: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// The facts of an EtcdMember. `problem` is there if and only if no backup can be taken from this member.
pub fn collect_facts(input: &FactsInput<'_>) -> MemberFacts {
    let FactsInput {
        discovery,
        status,
        not_after,
        free,
        tool_versions,
        highest_revision_seen,
        comparison,
        last_restore,
        restore_disabled,
        host_id,
        agent_version,
        now,
    } = input;
    let (status, not_after, now) = (*status, *not_after, *now);
    let member = status.and_then(|status| status.as_ref().ok());
    let bytes = |size: Option<u64>| size.and_then(|size| i64::try_from(size).ok());
    let human = |size: Option<u64>| size.map(Quantity::human);
    let db_size = member.map(|member| member.db_size);
    let db_size_in_use = member.map(|member| member.db_size_in_use);
    let (agreement, divergence) = match comparison {
        Some(Finding::Agreement(found)) => (Some(found.clone()), None),
        Some(Finding::Divergence(found)) => (None, Some(found.clone())),
        None => (None, None),
    };
    MemberFacts {
        version: member.map(|member| member.version.clone()),
        member_id: member.map(|member| member.member_id.to_string()),
        cluster_id: member.map(|member| member.cluster_id.to_string()),
        name: own_name(member).or_else(|| discovery.name.clone()),
        is_leader: member.map(MemberStatus::is_leader),
        is_learner: member.map(|member| member.is_learner),
        has_leader: member.map(MemberStatus::has_leader),
        revision: member.map(|member| member.revision),
        db_size: human(db_size),
        db_size_in_use: human(db_size_in_use),
        db_size_bytes: bytes(db_size),
        db_size_in_use_bytes: bytes(db_size_in_use),
        quota: human(member.and_then(|member| member.quota).or(discovery.quota)),
        alarms: member.map(|member| member.own_alarms().map(str::to_owned).collect()).unwrap_or_default(),
        errors: member.map(errors_of).unwrap_or_default(),
        endpoints: discovery.endpoint.iter().cloned().collect(),
        data_dir: discovery.data_dir.as_ref().map(|path| path.display().to_string()),
        platform: Some(discovery.platform.as_str().to_owned()),
        problem: problem(discovery, status, not_after, now),
        tool_versions: (*tool_versions).clone(),
        free_bytes: (*free != FreeBytes::default()).then(|| free.clone()),
        certificates: not_after.map(|end| Certificates { not_after: Some(Time(end)) }),
        agent_version: Some((*agent_version).to_owned()),
        heartbeat_time: Some(Time(now)),
        highest_revision_seen: *highest_revision_seen,
        host_id: host_id.map(ToString::to_string),
        agreement,
        divergence,
        last_restore: last_restore.cloned(),
        restore_obstacle: restore_disabled.map(str::to_owned).or_else(|| restore_obstacle(discovery)),
    }
}

/// Why this master could not take part in a restore of all.
fn restore_obstacle(discovery: &Discovery) -> Option<String> {
    match discovery.platform {
        Platform::StaticPods => {}
        other => {
            return Some(format!(
                "masters of platform {} are restored by hand: see docs/how-to/kublr-by-hand.md",
                other.as_str()
            ));
        }
    }
    if !discovery.problems.is_empty() {
        return Some(discovery.problems.join("; ").chars().take(1_024).collect());
    }
    let is_apart = discovery.is_wal_volume;
    is_apart.then(|| {
        "the directory of the WAL is the root of a volume of its own and cannot change places with another one"
            .to_owned()
    })
}

/// As many and as long as there is room for.
fn errors_of(member: &MemberStatus) -> Vec<String> {
    member.errors.iter().take(16).map(|words| words.chars().take(1_024).collect()).collect()
}

fn own_name(member: Option<&MemberStatus>) -> Option<String> {
    member.and_then(MemberStatus::own).map(|own| own.name.clone()).filter(|name| !name.is_empty())
}

/// Why no backup can be taken here, all reasons in one text.
fn problem(
    discovery: &Discovery,
    status: Option<&Result<MemberStatus, EtcdError>>,
    not_after: Option<Timestamp>,
    now: Timestamp,
) -> Option<String> {
    let mut problems = discovery.problems.clone();
    match status {
        None => {}
        Some(Err(error)) => {
            // An expired certificate is the reason of what TLS says less clearly.
            problems.extend(not_after.filter(|&end| end <= now).map(expired_words));
            problems.push(error.to_string());
        }
        Some(Ok(member)) => problems.extend(member_problems(discovery, member)),
    }
    (!problems.is_empty()).then(|| problems.join("; ").chars().take(4_096).collect())
}

fn expired_words(end: Timestamp) -> String {
    format!("the client certificate for etcd ended at {end}: renew it, on kubeadm with `kubeadm certs renew all`")
}

/// Words about a client certificate that ends within a week, for the log; it is no problem until it has ended.
pub fn certificate_warning(not_after: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let end = not_after?;
    if end <= now {
        return Some(expired_words(end));
    }
    (end.duration_since(now) < ENDS_SOON).then(|| {
        format!("the client certificate for etcd ends at {end}: renew it, on kubeadm with `kubeadm certs renew all`")
    })
}

fn member_problems(discovery: &Discovery, member: &MemberStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if !member.has_leader() {
        problems.push("the member sees no leader: are most of the other members running?".to_owned());
    }
    if member.own_alarms().any(|alarm| alarm == "CORRUPT") {
        problems.push(
            "etcd raised the alarm CORRUPT for this member: its data differs from the others', so it is no source of \
             backups"
                .to_owned(),
        );
    }
    // The agent of a node reads that node's member; a load balancer or another node behind the URL would not be noticed.
    if let (Some(expected), Some(name)) = (&discovery.name, own_name(Some(member)))
        && *expected != name
    {
        problems.push(format!(
            "{} answers as member {name:?}, but this node's etcd is {expected:?}: the endpoint must be that of the \
             node's own member",
            discovery.endpoint.as_deref().unwrap_or("the endpoint"),
        ));
    }
    problems
}

#[cfg(test)]
mod tests;
