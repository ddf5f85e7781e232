//! What a restore started on a host would do: the order in the making, and what people must know before they approve it. Pure.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::NodeName;
use lifeboat_crds::manifest::{Manifest, ManifestMember};
use lifeboat_crds::order::{
    EtcdClusterId, Order, OrderedBackup, OrderedMember, OrderedRequest, OrderedSafety, OrderedTimeouts, RestoreId,
};
use lifeboat_crds::restore::RestartKubelets;

use crate::etcd::status::{Member, MemberStatus};
use crate::restore_engine::order::{BUMP, OrderMember};

/// Namespace of a restore that no object asked for.
pub const NAMESPACE: &str = "host";

/// What people chose.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Members, where they are given.
    pub members: Vec<OrderMember>,
    /// Names of members that are lost.
    pub lost: Vec<String>,
    /// Acknowledged: the lost ones are a quorum.
    pub lost_quorum_acknowledged: bool,
    /// The safety backup; by what etcd here says where it is not chosen.
    pub safety: Option<OrderedSafety>,
    /// Waits before the release.
    pub hold_before_release: bool,
    /// Bounds on time.
    pub timeouts: OrderedTimeouts,
    /// Every API server of the cluster uses the etcd of its own node only.
    pub loopback_api_servers: bool,
    /// The digest of the snapshot, where an unproven manifest is to be believed.
    pub is_trusted: bool,
}

/// What was found out.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub own: &'a NodeName,
    /// What its etcd says, where it serves.
    pub live: Option<&'a MemberStatus>,
    /// Newest revision that its etcd has, where it serves.
    pub live_revision: Option<i64>,
    /// Highest revision that this host ever saw.
    pub highest_seen: Option<i64>,
    /// Cluster id in the data in place.
    pub placed_cluster: EtcdClusterId,
    /// UIDs of kube-system that etcd, or its data, holds; empty where none can be read.
    pub cluster_uids: &'a [String],
    /// The backup.
    pub manifest: &'a Manifest,
    /// Whether its manifest is proven by a key that is believed.
    pub is_signed: bool,
    /// Highest revision that the newest backup in the location knows of.
    pub highest_in_location: Option<i64>,
    /// Now.
    pub now: Timestamp,
}

/// A restore as it would be ordered, and what speaks against it or is to be known.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The order, complete but for its approval.
    pub order: Order,
    /// What keeps it from being ordered, in words.
    pub blockers: Vec<String>,
    /// What is to be known, in words.
    pub warnings: Vec<String>,
    /// Time between backup and now.
    pub age: SignedDuration,
    /// Revisions that are lost, where that is known.
    pub lost_revisions: Option<i64>,
}

/// Plans a restore; `token` is drawn by the caller. The same facts and choices give the same approval code, whatever was drawn.
pub fn plan(choices: &Choices, facts: &Facts<'_>, attempt: i32, token: &str) -> Plan {
    let Facts { own, live, live_revision, highest_seen, placed_cluster, manifest, highest_in_location, now, .. } =
        facts;
    let mut blockers = blockers_of(facts, choices);
    let mut warnings = Vec::new();
    let version = live.map_or_else(|| manifest.snapshot.etcd_version.clone(), |status| status.version.clone());
    let known = match (choices.members.is_empty(), live) {
        (false, _) => {
            let given = choices.members.iter().map(|member| (member.name.as_str(), member.peer_urls.as_slice(), false));
            pairs_of(given, &mut blockers)
        }
        (true, Some(status)) => pairs(&status.members, &mut blockers),
        (true, None) => {
            warnings.push("etcd does not serve here: the members are those of the backup's cluster".to_owned());
            pairs_of_manifest(&manifest.cluster.members, &mut blockers)
        }
    };
    let to_member = |(name, peer_url): &(String, String)| OrderedMember {
        node_name: NodeName(name.clone()),
        name: name.clone(),
        peer_url: peer_url.trim_end_matches('/').to_owned(),
        version: version.clone(),
    };
    let is_lost = |pair: &&(String, String)| choices.lost.contains(&pair.0);
    let mut members: Vec<OrderedMember> = known.iter().filter(|pair| !is_lost(pair)).map(to_member).collect();
    let mut lost: Vec<OrderedMember> = known.iter().filter(is_lost).map(to_member).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    lost.sort_by(|one, other| one.name.cmp(&other.name));
    for name in choices.lost.iter().filter(|name| known.iter().all(|(known, _)| known != *name)) {
        blockers.push(format!("{name}, called lost, is no member"));
    }
    if members.iter().all(|member| member.node_name != **own) {
        blockers
            .push(format!("this master, {own}, is not among the members: say --member NAME=PEERURL for each of them"));
    }
    let safety =
        choices.safety.unwrap_or(if live.is_some() { OrderedSafety::Required } else { OrderedSafety::Skipped });
    if safety == OrderedSafety::Skipped {
        warnings
            .push("no safety backup is taken: the old data that stays on each master is the only way back".to_owned());
    }
    if live.is_none() && safety == OrderedSafety::Required {
        blockers.push("etcd does not serve here, so no safety backup can be taken: say --safety skipped".to_owned());
    }
    if !facts.is_signed {
        warnings.push(
            "no key that this host believes signed the backup's manifest; its SHA-256 was given by hand".to_owned(),
        );
    }
    let revisions = [*live_revision, *highest_seen, manifest.snapshot.highest_revision_seen, *highest_in_location];
    let highest = revisions.into_iter().flatten().chain(manifest.snapshot.revision).max().unwrap_or(0);
    let (sha256, backup_revision) = (manifest.snapshot.sha256.clone(), manifest.snapshot.revision.unwrap_or(0));
    let mut order = Order {
        restore_id: RestoreId::new(NAMESPACE, own.as_str(), attempt, &sha256),
        request: OrderedRequest {
            namespace: NAMESPACE.to_owned(),
            name: own.as_str().to_owned(),
            attempt,
            nonce: String::new(),
            approval_code: String::new(),
        },
        cluster: manifest.cluster.uid.clone(),
        old_cluster_id: *placed_cluster,
        members,
        lost,
        lost_quorum_acknowledged: choices.lost_quorum_acknowledged,
        backup: OrderedBackup {
            backup_id: manifest.backup_id.clone(),
            cluster: manifest.cluster.uid.clone(),
            sha256,
            content_hash: manifest.snapshot.content_hash.clone().unwrap_or_default(),
            revision: backup_revision,
        },
        token: format!("lifeboat-{token}"),
        bump_to: highest.saturating_add(BUMP),
        author: (*own).clone(),
        safety,
        hold_before_release: choices.hold_before_release,
        restart_kubelets: RestartKubelets::ControlPlane,
        timeouts: choices.timeouts,
        notices: Vec::new(),
        loopback_api_servers: choices.loopback_api_servers,
        coordination: manifest.cluster.uid.clone(),
        sealed_keys: std::collections::BTreeMap::new(),
        time: *now,
    };
    if order.loses_quorum() && !order.lost_quorum_acknowledged {
        blockers.push(
            "the masters called lost are a quorum of the cluster: if they come back unwiped while nobody can reach them or the \
             location, two clusters will run. Wipe or destroy them, and say --acknowledge-lost-quorum"
                .to_owned(),
        );
    }
    order.request.approval_code = order.approval_terms().code().unwrap_or_default();
    let lost_revisions = live_revision.map(|revision| revision.saturating_sub(backup_revision));
    Plan { order, blockers, warnings, age: now.duration_since(manifest.start_time), lost_revisions }
}

fn blockers_of(facts: &Facts<'_>, choices: &Choices) -> Vec<String> {
    let Facts { cluster_uids, manifest, is_signed, .. } = facts;
    let mut blockers = Vec::new();
    if !cluster_uids.is_empty() && !cluster_uids.contains(&manifest.cluster.uid) {
        blockers.push(format!(
            "the backup is of cluster {}, the data here of {}",
            manifest.cluster.uid,
            cluster_uids.join(", ")
        ));
    }
    if !is_signed && !choices.is_trusted {
        blockers.push(format!(
            "no key that this host believes signed the backup's manifest: name the public key with --trust-keys, or say \
             --trust {} if you are sure of it",
            manifest.snapshot.sha256
        ));
    }
    if manifest.snapshot.content_hash.is_none() || manifest.snapshot.revision.is_none() {
        blockers.push("the backup was never verified: run `lifeboat backup verify`, and take another one".to_owned());
    }
    blockers
}

fn pairs(members: &[Member], blockers: &mut Vec<String>) -> Vec<(String, String)> {
    let listed = members.iter().map(|member| (member.name.as_str(), member.peer_urls.as_slice(), member.is_learner));
    pairs_of(listed, blockers)
}

fn pairs_of_manifest(members: &[ManifestMember], blockers: &mut Vec<String>) -> Vec<(String, String)> {
    let listed = members.iter().map(|member| (member.name.as_str(), member.peer_urls.as_slice(), member.is_learner));
    pairs_of(listed, blockers)
}

fn pairs_of<'a>(
    listed: impl Iterator<Item = (&'a str, &'a [String], bool)>,
    blockers: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, urls, is_learner) in listed {
        match urls {
            _ if is_learner || name.is_empty() => blockers.push(format!(
                "member {} has not joined the cluster yet: remove it first, or say all members with --member",
                if name.is_empty() { "without a name" } else { name }
            )),
            [only] => pairs.push((name.to_owned(), only.clone())),
            _ => blockers.push(format!("member {name} has {} peer URLs; one is understood", urls.len())),
        }
    }
    pairs
}

impl Plan {
    /// The plan for people.
    pub fn words(&self) -> String {
        let Self { order, blockers, warnings, age, lost_revisions } = self;
        let mut text = String::new();
        let backup = &order.backup;
        let rounded = SignedDuration::from_secs(age.as_secs());
        let _ = writeln!(text, "backup:    {}, {rounded:#} old, revision {}", backup.backup_id, backup.revision);
        match lost_revisions {
            Some(count) => {
                let _ = writeln!(text, "lost:      {count} revisions, everything changed since then");
            }
            None => text.push_str(
                "lost:      everything changed since then; etcd does not serve here, so it was not counted\n",
            ),
        }
        let names = |members: &[OrderedMember]| {
            members.iter().map(|member| format!("{} ({})", member.name, member.peer_url)).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "members:   {}", names(&order.members));
        if !order.lost.is_empty() {
            let _ = writeln!(text, "lost:      {}: wipe them before they are powered on", names(&order.lost));
        }
        let _ = writeln!(text, "revisions: go on from {}", order.bump_to);
        let _ = writeln!(text, "safety:    {:?}", order.safety);
        text.push_str("volumes:   are not restored. What lies on persistent volumes stays as it is now\n");
        for (kind, all) in [("BLOCKED", blockers), ("warning", warnings)] {
            for words in all {
                let _ = writeln!(text, "{kind}:   {words}");
            }
        }
        text
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub mod tests;
