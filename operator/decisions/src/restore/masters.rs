//! The masters of a plan: who of the members that etcd lists is which master, and which of them are lost.

use lifeboat_crds::NodeName;
use lifeboat_crds::finding::FindingKind;
use lifeboat_crds::member::MemberFacts;
use lifeboat_crds::restore::{Finding, ListedMember, PlannedMember};

use crate::SeenMember;
use crate::assignment::{has_fresh_agent, node_of};

/// A member that etcd lists, and the master it is on.
#[derive(Clone, Debug)]
pub(super) struct Master<'o> {
    pub(super) node: NodeName,
    pub(super) listed: &'o ListedMember,
    pub(super) seen: Option<&'o SeenMember>,
}

impl Master<'_> {
    pub(super) fn facts(&self) -> Option<&MemberFacts> {
        Some(&self.seen?.member.status.as_ref()?.facts)
    }

    pub(super) fn planned(&self) -> PlannedMember {
        let facts = self.facts();
        PlannedMember {
            node_name: self.node.clone(),
            name: self.listed.name.clone(),
            peer_url: self.listed.peer_urls.first().cloned().unwrap_or_default(),
            platform: facts.and_then(|facts| facts.platform.clone()).unwrap_or_default(),
            version: facts.and_then(|facts| facts.version.clone()).unwrap_or_default(),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Masters<'o> {
    pub(super) taking_part: Vec<Master<'o>>,
    pub(super) lost: Vec<Master<'o>>,
    /// Who could not be told apart.
    pub(super) findings: Vec<Finding>,
}

/// Tells the members that etcd lists apart.
pub(super) fn tell_apart<'o>(listed: &'o [ListedMember], seen: &'o [SeenMember], lost: &[NodeName]) -> Masters<'o> {
    let mut masters = Masters::default();
    for node in lost {
        let own = seen.iter().find(|seen| node_of(seen) == *node);
        // A node that is gone told its member's name to nobody; kubeadm names them alike.
        let name = own.and_then(member_name).unwrap_or(node.as_str());
        match listed.iter().find(|listed| listed.name == name) {
            Some(listed) => masters.lost.push(Master { node: node.clone(), listed, seen: own }),
            None => masters.findings.push(Finding::new(
                FindingKind::UnknownMember,
                format!(
                    "{node}, which spec.cluster.lost names, has no member in etcd: make the request again without it"
                ),
            )),
        }
    }
    for listed in listed {
        let is_lost = masters.lost.iter().any(|lost| lost.listed == listed);
        // One that was never started has no name yet.
        if is_lost || listed.name.is_empty() {
            continue;
        }
        let of_that_name = seen.iter().filter(|seen| member_name(seen) == Some(&listed.name));
        // Where a machine took another's place, the one that answers.
        match of_that_name.min_by_key(|seen| seen.unchanged_for) {
            Some(seen) => masters.taking_part.push(Master { node: node_of(seen), listed, seen: Some(seen) }),
            None => masters.findings.push(Finding::new(
                FindingKind::UnknownMember,
                format!(
                    "member {} ({}) is on no master that an agent has reported: start the agent there, or, where that master is \
                     destroyed, make the request again with its node in spec.cluster.lost",
                    listed.name,
                    listed.peer_urls.join(", ")
                ),
            )),
        }
    }
    masters
}

/// Whether anybody answers in the place of a lost master: itself, or another machine under its member's name.
pub(super) fn answers<'o>(lost: &Master<'_>, seen: &'o [SeenMember]) -> Option<&'o SeenMember> {
    let is_it = |seen: &&SeenMember| node_of(seen) == lost.node || member_name(seen) == Some(&lost.listed.name);
    seen.iter().filter(is_it).find(|seen| has_fresh_agent(seen))
}

fn member_name(seen: &SeenMember) -> Option<&str> {
    seen.member.status.as_ref()?.facts.name.as_deref()
}
