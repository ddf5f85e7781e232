//! `etcd status` and `etcd validate`: what is known of this master, and from where. Reads; changes nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use crate::etcd::error::EtcdError;
use crate::etcd::status::{MemberStatus, fetch_member};
use crate::host::discovery::Discovery;
use crate::host::space::read_space;
use crate::host::tools::read_tool_versions;
use crate::rejoin::outcome::CommandResult;
use crate::restore_engine::outcome::RestoreResult;

/// Flags of both.
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Files alone.
    Files,
    /// etcd is asked too.
    Whole,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'s> {
    host: &'s Discovery,
    /// The certificates in use, and when the client's ends.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    certificate_ends: Option<Timestamp>,
    /// Free bytes of the data volume.
    free_bytes: Option<u64>,
    /// Version of etcdutl by minor version.
    tools: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd: Option<Etcd>,
    /// What waits in the data volume: restore.db, restore.db.failed, command.
    waiting: Vec<PathBuf>,
    last_restore: Option<RestoreResult>,
    last_command: Option<CommandResult>,
    /// What keeps backups or restores from being done here; empty where all is well.
    incomplete: Vec<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Etcd {
    version: String,
    cluster_id: String,
    member_id: String,
    is_leader: bool,
    is_learner: bool,
    has_leader: bool,
    revision: i64,
    db_size_bytes: u64,
    db_size_in_use_bytes: u64,
    alarms: Vec<String>,
    members: Vec<EtcdMember>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct EtcdMember {
    id: String,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    is_learner: bool,
}

/// Shows it.
///
/// # Errors
/// Something is missing: exit 4, after all is shown.
pub async fn run(arguments: StatusArguments, depth: Depth, out: &mut (dyn Write + Send)) -> Result<(), NodeError> {
    let StatusArguments { output, node } = arguments;
    let node = Node::discover(node).await?;
    let found = node.discovery();
    let mut incomplete: Vec<String> = found.problems.iter().chain(&found.restore_problems).cloned().collect();
    incomplete.extend(super::pod::is_missing(&node));
    let etcd = match depth {
        Depth::Files => None,
        Depth::Whole => match ask(&node).await {
            Ok(status) => Some(shown(&status)),
            Err(Some(error)) => {
                incomplete.push(error.to_string());
                None
            }
            Err(None) => None,
        },
    };
    let volume = found.volume.as_ref().map(|path| node.options.root.resolve(path));
    let place = node.place().ok();
    let waiting = place.as_ref().map(|place| vec![place.restore_db(), place.failed(), place.command()]);
    let shown = Shown {
        host: found,
        certificate_ends: node.view.not_after,
        free_bytes: volume.as_deref().and_then(|path| read_space(path).ok()).map(|space| space.available),
        tools: read_tool_versions(&node.tools_dir).await,
        etcd,
        waiting: waiting.into_iter().flatten().filter(|path| path.symlink_metadata().is_ok()).collect(),
        last_restore: place.as_ref().and_then(|place| RestoreResult::read(&place.result()).ok().flatten()),
        last_command: place.as_ref().and_then(|place| CommandResult::read(&place.command_result()).ok().flatten()),
        incomplete: incomplete.clone(),
    };
    let text = serde_norway::to_string(&shown).map_err(std::io::Error::other)?;
    print(out, output, &text, &shown)?;
    if incomplete.is_empty() { Ok(()) } else { Err(NodeError::Refused(incomplete.join("; "))) }
}

/// What etcd says; nothing to say where there is no way to ask, because the discovery says why.
async fn ask(node: &Node) -> Result<MemberStatus, Option<EtcdError>> {
    let Some(endpoint) = &node.view.endpoint else { return Err(None) };
    let client = crate::etcd::client::MemberClient::connect(endpoint).await?;
    Ok(fetch_member(&client).await?)
}

fn shown(status: &MemberStatus) -> Etcd {
    Etcd {
        version: status.version.clone(),
        cluster_id: status.cluster_id.to_string(),
        member_id: status.member_id.to_string(),
        is_leader: status.is_leader(),
        is_learner: status.is_learner,
        has_leader: status.has_leader(),
        revision: status.revision,
        db_size_bytes: status.db_size,
        db_size_in_use_bytes: status.db_size_in_use,
        alarms: status.alarms.iter().map(|alarm| format!("{} {}", alarm.member_id, alarm.kind)).collect(),
        members: status
            .members
            .iter()
            .map(|member| EtcdMember {
                id: member.id.to_string(),
                name: member.name.clone(),
                peer_urls: member.peer_urls.clone(),
                client_urls: member.client_urls.clone(),
                is_learner: member.is_learner,
            })
            .collect(),
    }
}
