//! What speaks against a restore, or is to be known before it is approved: a closed list, and what of it is approved.
//!
//! The words of a finding move (minutes, counts); its kind does not, and the kinds are part of what an approval is for.

use std::fmt;

use crate::condition::names;
use crate::identifier::{BackupId, NodeName};
use crate::order::{ApprovalTerms, OrderedMember, OrderedSafety, OrderedTimeouts};
use crate::restore::{ClusterRestore, EtcdRestoreSpec, Finding, PlannedMember, RestorePlan, SafetyBackup};

names! {
    /// Kinds of findings.
    FindingKind {
        /// A master that takes part has no agent that was heard of lately.
        AgentSilent,
        /// A master cannot take part.
        MasterUnable,
        /// A master that was called lost has an agent that answers.
        LostMasterAnswers,
        /// A master that was called lost is no member, or a member belongs to no known master.
        UnknownMember,
        /// A member is a learner, was never started, or has several peer URLs.
        MemberNotSettled,
        /// The masters called lost are a quorum; then only the tools on the masters may go on.
        LostQuorum,
        /// etcd on the masters cannot read the backup's data, or they run different lines.
        VersionMismatch,
        /// The data's file system on a master is too full.
        NoRoom,
        /// The backup is of another cluster, and that was not allowed.
        OtherCluster,
        /// The manifest is unsigned, or signed by an unknown key, and its snapshot was not named as trusted.
        Untrusted,
        /// The backup was never verified, so that there is nothing to prove what is staged by.
        NeverVerified,
        /// What decrypts the backup is missing, or does not fit.
        NoIdentity,
        /// The location for order and marks cannot coordinate a restore.
        CannotCoordinate,
        /// The location cannot be reached without the API server.
        NeedsApi,
        /// Another restore is under way.
        AnotherRestore,
        /// A restore from a file, or of one member, waits on a master.
        MasterBusy,
        /// The backup is of another cluster, and that was allowed.
        AllowedOtherCluster,
        /// Nobody signed the manifest; its snapshot was named as trusted.
        TrustedByHand,
        /// The backup is a day old or older.
        OldBackup,
        /// Members differ from those of the backup.
        MembersDiffer,
        /// Keys of encryption at rest or of service accounts differ from those of the backup.
        KeysDiffer,
        /// What changed since the backup could not be compared.
        NotCompared,
        /// Persistent volumes are not restored.
        Volumes,
        /// No backup of the state about to be replaced is taken.
        NoSafetyBackup,
    }
}

impl FindingKind {
    /// Whether no approval helps.
    pub const fn blocks(self) -> bool {
        match self {
            Self::AgentSilent
            | Self::MasterUnable
            | Self::LostMasterAnswers
            | Self::UnknownMember
            | Self::MemberNotSettled
            | Self::LostQuorum
            | Self::VersionMismatch
            | Self::NoRoom
            | Self::OtherCluster
            | Self::Untrusted
            | Self::NeverVerified
            | Self::NoIdentity
            | Self::CannotCoordinate
            | Self::NeedsApi
            | Self::AnotherRestore
            | Self::MasterBusy => true,
            Self::AllowedOtherCluster
            | Self::TrustedByHand
            | Self::OldBackup
            | Self::MembersDiffer
            | Self::KeysDiffer
            | Self::NotCompared
            | Self::Volumes
            | Self::NoSafetyBackup => false,
        }
    }
}

impl Finding {
    /// A finding with its words, cut at the schema's length.
    pub fn new(kind: FindingKind, message: impl AsRef<str>) -> Self {
        Self { kind: kind.as_str().to_owned(), message: message.as_ref().chars().take(900).collect() }
    }

    /// Whether no approval helps. What is not known does.
    pub fn blocks(&self) -> bool {
        FindingKind::parse(&self.kind).is_none_or(FindingKind::blocks)
    }

    /// As it stands in a plan.
    pub fn line(&self) -> String {
        format!("{}: {}", self.kind, self.message)
    }
}

/// The kind of a line of a plan, as [`Finding::line`] writes it.
pub fn kind_of(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(kind, _)| kind)
}

/// What a plan asks to be approved, owned: the operator makes the code of it, and the agent the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTerms {
    /// The members that take part, in the order of their names.
    pub members: Vec<OrderedMember>,
    /// Those that are lost.
    pub lost: Vec<OrderedMember>,
    /// The safety backup.
    pub safety: OrderedSafety,
    /// Bounds on time.
    pub timeouts: OrderedTimeouts,
    /// Kinds of warnings and blockers, sorted, each once.
    pub notices: Vec<String>,
}

impl PlannedTerms {
    /// Of a request and its plan.
    pub fn of(request: &ClusterRestore, plan: &RestorePlan) -> Self {
        let ordered = |members: &[PlannedMember]| {
            let mut members: Vec<OrderedMember> = members.iter().map(ordered_member).collect();
            members.sort_by(|one, other| one.name.cmp(&other.name));
            members
        };
        let lines = plan.warnings.iter().chain(&plan.blockers);
        let mut notices: Vec<String> = lines.map(|line| kind_of(line).to_owned()).collect();
        notices.sort();
        notices.dedup();
        Self {
            members: ordered(&plan.members),
            lost: ordered(&plan.lost),
            safety: match request.safety_backup {
                SafetyBackup::Required => OrderedSafety::Required,
                SafetyBackup::BestEffort => OrderedSafety::BestEffort,
                SafetyBackup::Skip => OrderedSafety::Skipped,
            },
            timeouts: OrderedTimeouts {
                stage_seconds: request.timeouts.stage_seconds,
                outage_seconds: request.timeouts.outage_seconds,
            },
            notices,
        }
    }

    /// The approval code of a plan, which needs neither code nor figures in it; nothing where it names no backup.
    pub fn code(&self, namespace: &str, name: &str, spec: &EtcdRestoreSpec, plan: &RestorePlan) -> Option<String> {
        let (request, backup) = (spec.cluster.as_ref()?, plan.backup.as_ref()?);
        let backup_id: BackupId = backup.backup_id.parse().ok()?;
        let terms = ApprovalTerms {
            namespace,
            name,
            attempt: spec.attempt,
            nonce: plan.nonce.as_deref().unwrap_or_default(),
            backup_id: &backup_id,
            sha256: &backup.sha256,
            members: &self.members,
            lost: &self.lost,
            safety: self.safety,
            hold_before_release: request.hold_before_release,
            restart_kubelets: request.restart_kubelets,
            timeouts: self.timeouts,
            notices: &self.notices,
        };
        terms.code().ok()
    }
}

/// A member as an order names it. Executors know themselves by the name of their member.
fn ordered_member(member: &PlannedMember) -> OrderedMember {
    OrderedMember {
        node_name: NodeName(member.name.clone()),
        name: member.name.clone(),
        peer_url: member.peer_url.trim_end_matches('/').to_owned(),
        version: member.version.clone(),
    }
}

/// The spec of a request as it is kept beside a restore and shown afterwards: without its approval, so that nothing that is
/// made again of it is approved.
pub fn without_approval(spec: &EtcdRestoreSpec) -> EtcdRestoreSpec {
    EtcdRestoreSpec { approval: String::new(), cancel: false, ..spec.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Order, OrderedBackup, OrderedRequest, RestoreId};
    use serde_json::json;

    fn spec() -> EtcdRestoreSpec {
        serde_json::from_value(json!({"cluster": {"from": {"backupRef": {"name": "b"}}}, "approval": "x"})).unwrap()
    }

    fn plan() -> RestorePlan {
        serde_json::from_value(json!({
            "nonce": "n",
            "backup": {"backupId": "20261124-020304-00000001", "revision": 7, "sha256": "ab"},
            "members": [
                {"nodeName": "node-b", "name": "b", "peerURL": "https://10.0.0.2:2380/", "platform": "StaticPods", "version": "3.6.1"},
                {"nodeName": "node-a", "name": "a", "peerURL": "https://10.0.0.1:2380", "platform": "StaticPods", "version": "3.6.1"}],
            "warnings": ["Volumes: 3 of them", "OldBackup: 2 days"]}))
        .unwrap()
    }

    fn code(spec: &EtcdRestoreSpec, plan: &RestorePlan) -> String {
        PlannedTerms::of(spec.cluster.as_ref().unwrap(), plan).code("ns", "r", spec, plan).unwrap()
    }

    #[test]
    fn figures_do_not_change_the_code_and_what_would_be_done_does() {
        let (spec, plan) = (spec(), plan());
        let first = code(&spec, &plan);
        let mut moved = plan.clone();
        moved.warnings = vec!["OldBackup: 3 days".into(), "Volumes: 4 of them".into()];
        moved.members.reverse();
        assert_eq!(code(&spec, &moved), first);
        let mut other = spec.clone();
        other.approval.clear();
        assert_eq!(code(&other, &plan), first, "the approval is not approved");
        other.attempt = 2;
        assert_ne!(code(&other, &plan), first);
        let mut other = spec.clone();
        other.cluster.as_mut().unwrap().hold_before_release = true;
        assert_ne!(code(&other, &plan), first);
        for change in [
            |plan: &mut RestorePlan| plan.nonce = Some("m".into()),
            |plan: &mut RestorePlan| plan.warnings.truncate(1),
            |plan: &mut RestorePlan| drop(plan.members.pop()),
            |plan: &mut RestorePlan| plan.members[0].version = "3.6.2".into(),
            |plan: &mut RestorePlan| plan.backup.as_mut().unwrap().sha256 = "cd".into(),
        ] {
            let mut changed = plan.clone();
            change(&mut changed);
            assert_ne!(code(&spec, &changed), first, "{changed:?}");
        }
    }

    /// The code that the operator shows is the one that every master computes from the order.
    #[test]
    fn an_order_made_of_a_plan_is_as_approved() {
        let (spec, plan) = (spec(), plan());
        let request = spec.cluster.as_ref().unwrap();
        let terms = PlannedTerms::of(request, &plan);
        let order = Order {
            members: terms.members.clone(),
            lost: terms.lost.clone(),
            safety: terms.safety,
            timeouts: terms.timeouts,
            notices: terms.notices.clone(),
            hold_before_release: request.hold_before_release,
            restart_kubelets: request.restart_kubelets,
            restore_id: RestoreId::new("ns", "r", 1, "ab"),
            request: OrderedRequest {
                namespace: "ns".into(),
                name: "r".into(),
                attempt: 1,
                nonce: "n".into(),
                approval_code: code(&spec, &plan),
            },
            backup: OrderedBackup {
                backup_id: "20261124-020304-00000001".parse().unwrap(),
                sha256: "ab".into(),
                ..crate::order::tests::order().backup
            },
            ..crate::order::tests::order()
        };
        assert!(order.is_as_approved());
    }

    #[test]
    fn what_a_newer_agent_found_blocks() {
        assert!(Finding { kind: "Unheard".into(), message: String::new() }.blocks());
        assert!(!Finding::new(FindingKind::Volumes, "w").blocks());
        assert_eq!(Finding::new(FindingKind::NoRoom, "w").line(), "NoRoom: w");
    }

    #[test]
    fn nothing_that_is_made_again_is_approved() {
        let mut spec = spec();
        spec.cancel = true;
        let kept = without_approval(&spec);
        assert!(kept.approval.is_empty() && !kept.cancel && kept.cluster == spec.cluster);
    }
}
