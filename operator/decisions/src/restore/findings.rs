//! What speaks against a restore, as far as the operator sees it; the agent that makes the plan finds the rest.
//!
//! The words may hold figures, but none that moves while nobody does anything: they are shown as they were when the plan was
//! made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::finding::FindingKind;
use lifeboat_crds::location::AccessMode;
use lifeboat_crds::restore::{AffectedVolumes, ClusterRestore, Finding, PlanReport, PlannedBackup, SafetyBackup};
use lifeboat_crds::{ConditionType, EtcdBackupLocation, EtcdRestore, Quantity};

use super::lifetime::is_over;
use super::masters::{Master, Masters, answers};
use super::versions::Line;
use crate::assignment::has_fresh_agent;
use crate::conditions::{human_duration, is_true};
use crate::{SeenMember, after};

/// From this age on a backup is remarked upon.
pub(super) const OLD: SignedDuration = SignedDuration::from_hours(24);
/// What stays free beside the restored data, bytes.
const RESERVE: i64 = 512 * 1024 * 1024;

/// Room that a master needs on its data's file system: the unpacked file, the data made of it, the log; tenths of the size.
pub(super) fn room_needed(size: i64) -> i64 {
    (size.max(0) / 10).saturating_mul(22).saturating_add(RESERVE)
}

/// What a plan rests on.
pub(super) struct Grounds<'o> {
    pub(super) request: &'o ClusterRestore,
    pub(super) report: &'o PlanReport,
    pub(super) backup: &'o PlannedBackup,
    pub(super) masters: &'o Masters<'o>,
    pub(super) members: &'o [SeenMember],
    pub(super) locations: &'o BTreeMap<String, EtcdBackupLocation>,
    pub(super) others: &'o [EtcdRestore],
    pub(super) now: Timestamp,
}

/// Everything that was found.
pub(super) fn find(grounds: &Grounds<'_>) -> Vec<Finding> {
    let Masters { taking_part, lost, findings } = grounds.masters;
    let mut all = grounds.report.findings.clone();
    all.extend(findings.iter().cloned());
    all.extend(nobody(taking_part));
    all.extend(taking_part.iter().filter_map(unable));
    all.extend(lost.iter().filter_map(|lost| answering(lost, grounds.members)));
    all.extend(unsettled(grounds));
    all.extend(lost_quorum(taking_part.len(), lost.len()));
    all.extend(versions(&grounds.report.etcd_version, taking_part));
    let needed = room_needed(grounds.report.size_bytes);
    all.extend(taking_part.iter().filter_map(|master| no_room(master, grounds.report.size_bytes, needed)));
    all.extend(coordination(grounds));
    all.extend(grounds.others.iter().filter_map(another));
    all.extend(old_backup(grounds));
    all.extend(no_safety(grounds.request));
    all.push(volumes(grounds.report.persistent_volumes.as_ref()));
    all
}

fn nobody(taking_part: &[Master<'_>]) -> Option<Finding> {
    let words = "no member that etcd lists could take part: does etcd answer, and do the agents run on the masters?";
    taking_part.is_empty().then(|| Finding::new(FindingKind::UnknownMember, words))
}

fn unable(master: &Master<'_>) -> Option<Finding> {
    let node = &master.node;
    if !master.seen.is_some_and(has_fresh_agent) {
        let words = format!(
            "the agent on {node} is silent: is the node up, and does its agent's pod run? Where the master is destroyed, make \
             the request again with {node} in spec.cluster.lost"
        );
        return Some(Finding::new(FindingKind::AgentSilent, words));
    }
    let obstacle = master.facts()?.restore_obstacle.as_ref()?;
    Some(Finding::new(FindingKind::MasterUnable, format!("{node}: {obstacle}")))
}

fn answering(lost: &Master<'_>, members: &[SeenMember]) -> Option<Finding> {
    answers(lost, members).map(|_| {
        let node = &lost.node;
        let words = format!(
            "{node} is called lost in spec.cluster.lost, but an agent answers for its member {}: make the request again \
             without it, or power that machine off and wipe it",
            lost.listed.name
        );
        Finding::new(FindingKind::LostMasterAnswers, words)
    })
}

fn unsettled(grounds: &Grounds<'_>) -> Vec<Finding> {
    let is_lost = |name: &str| grounds.masters.lost.iter().any(|lost| lost.listed.name == name);
    let staying = grounds.report.members.iter().filter(|listed| listed.name.is_empty() || !is_lost(&listed.name));
    let words = staying.filter_map(|listed| {
        let urls = listed.peer_urls.join(", ");
        let name = &listed.name;
        if name.is_empty() {
            return Some(format!("a member with peer URL {urls} was added and never started: start it, or remove it"));
        }
        if listed.is_learner {
            return Some(format!("member {name} is a learner: promote it, or remove it"));
        }
        let words = || format!("member {name} has {} peer URLs ({urls}), and must have one", listed.peer_urls.len());
        (listed.peer_urls.len() != 1).then(words)
    });
    words.map(|words| Finding::new(FindingKind::MemberNotSettled, words)).collect()
}

fn lost_quorum(taking_part: usize, lost: usize) -> Option<Finding> {
    let all = taking_part + lost;
    (lost > all / 2).then(|| {
        let words = format!(
            "{lost} of {all} members are called lost, which is a quorum: if those come back unwiped, two clusters will run. Only \
             `lifeboat restore start --acknowledge-lost-quorum` on a master can do this"
        );
        Finding::new(FindingKind::LostQuorum, words)
    })
}

fn versions(backup: &str, taking_part: &[Master<'_>]) -> Vec<Finding> {
    let mut words = Vec::new();
    let mut lines = BTreeSet::new();
    for master in taking_part.iter().filter(|master| master.seen.is_some_and(has_fresh_agent)) {
        let Some(facts) = master.facts() else { continue };
        let Some(line) = facts.version.as_deref().and_then(Line::of) else {
            words.push(format!("the version of etcd on {} is not known", master.node));
            continue;
        };
        lines.insert(line);
        if !facts.tool_versions.contains_key(&line.to_string()) {
            words.push(format!(
                "{} runs etcd {line} and has no etcdutl of that line: see agent.hostTools of the chart",
                master.node
            ));
        }
    }
    if lines.len() > 1 {
        let list: Vec<String> = lines.iter().map(ToString::to_string).collect();
        words.push(format!("masters run different lines of etcd ({}): end the upgrade first", list.join(", ")));
    }
    match Line::of(backup) {
        Some(data) => words.extend(lines.iter().filter(|line| !line.reads(data)).map(|line| {
            format!(
                "the backup is of etcd {backup}, and the masters run {line}: etcd reads data of its own line and of the one before"
            )
        })),
        None => words.push(format!("which etcd the backup is of ({backup:?}) is not understood")),
    }
    words.into_iter().map(|words| Finding::new(FindingKind::VersionMismatch, words)).collect()
}

fn no_room(master: &Master<'_>, size: i64, needed: i64) -> Option<Finding> {
    let free = master.facts()?.free_bytes.as_ref()?.data_dir?;
    let human = |bytes: i64| Quantity::human(u64::try_from(bytes).unwrap_or(0));
    (free < needed).then(|| {
        let words = format!(
            "{}: {} of room are needed where etcd's data lies (2.2 × {} of the snapshot, and {}), and {} are free",
            master.node,
            human(needed),
            human(size),
            human(RESERVE),
            human(free)
        );
        Finding::new(FindingKind::NoRoom, words)
    })
}

/// Whether order, marks and decision can lie where they are to.
fn coordination(grounds: &Grounds<'_>) -> Option<Finding> {
    let named = grounds.request.coordination_ref.as_ref().map(|named| &named.name);
    let name = named.unwrap_or(&grounds.backup.location);
    let Some(location) = grounds.locations.get(name) else {
        let words = format!("location {name}, for order and marks, does not exist: create the EtcdBackupLocation");
        return Some(Finding::new(FindingKind::CannotCoordinate, words));
    };
    let status = location.status.as_ref();
    let is_writable = status.is_some_and(|status| is_true(&status.conditions, ConditionType::Writable));
    let why = match location.spec.access_mode {
        AccessMode::ReadOnly => "is ReadOnly",
        AccessMode::ReadWrite if !is_writable => "cannot be written at present",
        AccessMode::ReadWrite if status.and_then(|status| status.conditional_writes) != Some(true) => {
            "has not proven that it creates an object only where none is"
        }
        AccessMode::ReadWrite => return None,
    };
    let words = format!("location {name} {why}: name another one for order and marks in spec.cluster.coordinationRef");
    Some(Finding::new(FindingKind::CannotCoordinate, words))
}

fn another(other: &EtcdRestore) -> Option<Finding> {
    let conditions = &other.status.as_ref()?.conditions;
    let is_under_way = is_true(conditions, ConditionType::Approved) && !is_over(conditions);
    let name = other.metadata.name.as_deref().unwrap_or_default();
    is_under_way.then(|| Finding::new(FindingKind::AnotherRestore, format!("restore {name} is under way")))
}

fn old_backup(grounds: &Grounds<'_>) -> Option<Finding> {
    let taken = grounds.backup.time.as_ref()?.0;
    (after(taken, OLD) <= grounds.now).then(|| {
        let age = human_duration(grounds.now.duration_since(taken));
        Finding::new(FindingKind::OldBackup, format!("the backup is {age} old"))
    })
}

fn no_safety(request: &ClusterRestore) -> Option<Finding> {
    match request.safety_backup {
        SafetyBackup::Skip => {
            let words = "no backup is taken of the state about to be replaced (spec.cluster.safetyBackup: Skip)";
            Some(Finding::new(FindingKind::NoSafetyBackup, words))
        }
        SafetyBackup::Required | SafetyBackup::BestEffort => None,
    }
}

fn volumes(volumes: Option<&AffectedVolumes>) -> Finding {
    let words = "persistent volumes are not restored: their contents stay as they are now";
    let more = volumes.map(|AffectedVolumes { missing_after, reappear }| {
        format!(
            "; {} made since the backup will be unknown to Kubernetes, {} deleted since will be known again (plan.persistentVolumes)",
            missing_after.len(),
            reappear.len()
        )
    });
    Finding::new(FindingKind::Volumes, format!("{words}{}", more.unwrap_or_default()))
}
