//! Keeps this node's EtcdMember: looks at host and member every few seconds, writes what changed, and a heartbeat.
//!
//! Sizes and revision change all the time and alone are no reason to write; the heartbeat brings them along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt};
use lifeboat_crds::member::{FreeBytes, LastRestore, MemberFacts};
use lifeboat_crds::{API_VERSION, EtcdMember, NodeName, whole_seconds};
use lifeboat_process::api_error::api_words;
use serde_json::json;
use tokio::time::Instant;

use super::heartbeat::SELDOM;
use super::metrics::Metrics;
use super::readiness::{Need, Readiness};
use crate::etcd::client::{Endpoint, MemberClient};
use crate::etcd::error::EtcdError;
use crate::etcd::facts::{FactsInput, certificate_warning, collect_facts};
use crate::etcd::status::{MemberStatus, fetch_member};
use crate::host::files::{HostOptions, HostView, read_host};
use crate::host::highest_revision::HighestRevision;
use crate::host::identity::HostId;
use crate::host::last_comparison::LastComparison;
use crate::host::space::read_space;
use crate::host::tools::read_tool_versions;
use crate::report::{ReportError, Reporter, Written};
use crate::restore_engine::outcome::read_last_restore;
use crate::restores::news::last_ended;

/// How often host and member are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A heartbeat without news, as seldom as those of work that goes on.
const HEARTBEAT: Duration = SELDOM;
/// Longest wait for the Node.
const NODE_DEADLINE: Duration = Duration::from_secs(10);
/// Certificates are read again this often, so that renewed ones are taken up.
const RECONNECT: Duration = Duration::from_secs(300);
/// Tools change with the agent's image.
const TOOLS_EVERY: Duration = Duration::from_secs(600);

/// Keeps the EtcdMember of one node.
pub struct MemberKeeper {
    /// This node.
    pub node: NodeName,
    /// Reads the Node, whose UID owns the EtcdMember.
    pub client: Client,
    /// Writes.
    pub reporter: Reporter,
    /// How the host is read.
    pub host: HostOptions,
    /// Directory of etcd's tools.
    pub tools_dir: PathBuf,
    /// Where backups spool; it may be a file system of its own.
    pub spool_dir: PathBuf,
    /// Identity of the host.
    pub host_id: HostId,
    /// Highest revision ever seen.
    pub highest: Arc<HighestRevision>,
    /// What the last comparison of members found.
    pub comparison: Arc<LastComparison>,
    /// Why this agent carries out no restore of all.
    pub restore_disabled: Option<String>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Readiness.
    pub readiness: Arc<Readiness>,
    /// Version of this program.
    pub version: &'static str,
}

/// What is kept from one look to the next.
#[derive(Default)]
struct Kept {
    connection: Option<(Endpoint, MemberClient, Instant)>,
    tools: Option<(BTreeMap<String, String>, Instant)>,
    written: Option<(MemberFacts, Instant)>,
    is_made: bool,
    warned: Option<String>,
}

impl MemberKeeper {
    /// Keeps it for as long as the process lives.
    pub async fn run(self) {
        let mut kept = Kept::default();
        loop {
            let facts = self.look(&mut kept).await;
            self.metrics.set_member_usable(facts.problem.is_none());
            if is_news(kept.written.as_ref(), &facts, Instant::now()) {
                match self.publish(&mut kept, &facts).await {
                    Ok(()) => {
                        kept.written = Some((facts, Instant::now()));
                        self.readiness.met(Need::Member);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the EtcdMember is written later");
                        self.readiness.failing(Need::Member, &error.to_string());
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, kept: &mut Kept) -> MemberFacts {
        let options = self.host.clone();
        let read = tokio::task::spawn_blocking(move || {
            let view = read_host(&options);
            let last_restore = last_restore_of(&options, &view);
            (view, last_restore)
        });
        let (view, last_restore) = read.await.unwrap_or_else(|_| {
            let discovery = crate::host::discovery::Discovery::default();
            (HostView { discovery, endpoint: None, not_after: None }, None)
        });
        let HostView { discovery, endpoint, not_after } = view;
        let status = match endpoint {
            Some(endpoint) => Some(ask(&mut kept.connection, endpoint).await),
            None => None,
        };
        if let Some(Ok(status)) = &status {
            self.note_revision(status.revision);
        }
        let now = whole_seconds(Timestamp::now());
        let warning = certificate_warning(not_after, now);
        if warning != kept.warned {
            if let Some(words) = &warning {
                tracing::warn!("{words}");
            }
            kept.warned = warning;
        }
        let data_dir = discovery.data_dir.as_deref().map(|dir| self.host.root.resolve(dir));
        let free = free_bytes(data_dir.as_deref(), &self.spool_dir);
        let comparison = self.comparison.get();
        collect_facts(&FactsInput {
            discovery: &discovery,
            status: status.as_ref(),
            not_after,
            free,
            tool_versions: tool_versions(&mut kept.tools, &self.tools_dir).await,
            highest_revision_seen: self.highest.get(),
            comparison: comparison.as_ref(),
            last_restore: last_restore.as_ref(),
            restore_disabled: self.restore_disabled.as_deref(),
            host_id: Some(&self.host_id),
            agent_version: self.version,
            now,
        })
    }

    /// On a thread that nobody waits for: the disk is etcd's own, and a heartbeat must not hang with it.
    fn note_revision(&self, revision: i64) {
        let now = std::time::Instant::now();
        if !self.highest.observe(revision, now) {
            return;
        }
        let highest = Arc::clone(&self.highest);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = highest.keep(now) {
                tracing::warn!(%error, "the highest revision is not kept on disk");
            }
        });
    }

    async fn publish(&self, kept: &mut Kept, facts: &MemberFacts) -> Result<(), ReportError> {
        let status = json!({"apiVersion": API_VERSION, "kind": "EtcdMember", "metadata": {"name": self.node.as_str()}, "status": facts});
        for _ in 0..2 {
            if !kept.is_made {
                self.reporter.apply::<EtcdMember>(self.node.as_str(), &self.object().await).await?;
                kept.is_made = true;
            }
            match self.reporter.apply_status::<EtcdMember>(self.node.as_str(), &status).await? {
                Written::Landed => return Ok(()),
                // Deleted by somebody: made again.
                Written::Gone => kept.is_made = false,
                Written::NotOurs(words) => {
                    tracing::warn!(words, "the API server refused this node's EtcdMember");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The object itself: owned by the Node, so that it goes with it.
    async fn object(&self) -> serde_json::Value {
        let name = self.node.as_str();
        let mut object = json!({"apiVersion": API_VERSION, "kind": "EtcdMember", "metadata": {"name": name}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = match tokio::time::timeout(NODE_DEADLINE, nodes.get_opt(name)).await {
            Ok(Ok(Some(node))) => Ok(node),
            Ok(Ok(None)) => Err("there is no Node of this name".to_owned()),
            Ok(Err(error)) => Err(api_words(&error)),
            Err(_elapsed) => Err("no answer in time".to_owned()),
        };
        match node {
            Ok(node) => {
                let uid = node.uid().unwrap_or_default();
                object["metadata"]["ownerReferences"] =
                    json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
            }
            Err(words) => tracing::warn!(node = name, words, "the EtcdMember will not go with its Node"),
        }
        object
    }
}

/// The member's answer, over a connection that is kept while it works.
async fn ask(
    connection: &mut Option<(Endpoint, MemberClient, Instant)>,
    endpoint: Endpoint,
) -> Result<MemberStatus, EtcdError> {
    let kept = connection.take().filter(|(to, _, since)| *to == endpoint && since.elapsed() < RECONNECT);
    let (client, since) = match kept {
        Some((_, client, since)) => (client, since),
        None => (MemberClient::connect(&endpoint).await?, Instant::now()),
    };
    let status = fetch_member(&client).await?;
    *connection = Some((endpoint, client, since));
    Ok(status)
}

async fn tool_versions<'k>(
    kept: &'k mut Option<(BTreeMap<String, String>, Instant)>,
    tools_dir: &Path,
) -> &'k BTreeMap<String, String> {
    let known = kept.take().filter(|(_, since)| since.elapsed() < TOOLS_EVERY);
    let read = match known {
        Some(known) => known,
        None => (read_tool_versions(tools_dir).await, Instant::now()),
    };
    &kept.insert(read).0
}

/// What became of the last restore of a host; nothing where its data volume is not known, and so cannot be restored into.
/// Blocking.
pub fn last_restore_of(options: &HostOptions, view: &HostView) -> Option<LastRestore> {
    let volume = view.discovery.volume.as_deref()?;
    let from_file = read_last_restore(&options.root.resolve(volume));
    let data_dir = view.discovery.data_dir.as_deref()?;
    let of_all = last_ended(&options.root.resolve(data_dir).join("lifeboat"));
    // A result that cannot be read has no time, and must not be hidden by one that can.
    let is_unknown = from_file.as_ref().is_some_and(|last| last.time.is_none());
    if is_unknown { from_file } else { from_file.into_iter().chain(of_all).max_by_key(|last| last.time.clone()) }
}

fn free_bytes(data_dir: Option<&Path>, spool: &Path) -> FreeBytes {
    let free = |path: &Path| {
        let space = read_space(path).ok()?;
        i64::try_from(space.available).ok()
    };
    FreeBytes { data_dir: data_dir.and_then(free), spool: free(spool) }
}

/// Whether facts are worth a write: something a person or the operator acts on changed, or a heartbeat is due.
fn is_news(written: Option<&(MemberFacts, Instant)>, facts: &MemberFacts, now: Instant) -> bool {
    match written {
        None => true,
        Some((before, at)) => now.duration_since(*at) >= HEARTBEAT || comparable(before) != comparable(facts),
    }
}

/// The facts without what changes all the time.
fn comparable(facts: &MemberFacts) -> MemberFacts {
    MemberFacts {
        revision: None,
        db_size: None,
        db_size_in_use: None,
        db_size_bytes: None,
        db_size_in_use_bytes: None,
        free_bytes: None,
        heartbeat_time: None,
        highest_revision_seen: None,
        ..facts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_revision_waits_for_the_heartbeat_and_a_problem_does_not() {
        let start = Instant::now();
        let facts = |revision, problem: Option<&str>| MemberFacts {
            revision: Some(revision),
            problem: problem.map(str::to_owned),
            ..MemberFacts::default()
        };
        let written = (facts(1, None), start);
        let later = start + Duration::from_secs(30);
        assert!(is_news(None, &facts(1, None), start));
        assert!(!is_news(Some(&written), &facts(9, None), later));
        assert!(is_news(Some(&written), &facts(1, Some("no leader")), later));
        assert!(is_news(Some(&written), &facts(1, None), start + HEARTBEAT));
    }
}
