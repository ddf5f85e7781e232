//! `etcd-pod install|uninstall`: puts the supervisor into this master's manifest of etcd, or takes it out. Writes one file,
//! at which the kubelet restarts etcd, and a mark in lifeboat's own directory: `kubeadm upgrade` writes the manifest anew.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::Serialize;

use super::NodeError;
use super::node::{Node, NodeArguments};
use super::shown::{Format, print};
use crate::etcd::status::fetch_member;
use crate::etcd_pod::manifest_edit::{Insertion, insert, remove};
use crate::host::crashsafe;
use crate::rejoin::quorum::client_urls;
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::exchange;
use crate::restore_engine::identity::read_wal_head;
use crate::restore_engine::layout::{PRIVATE, Place};

/// Where program and tools are, on the host and in etcd's container.
const DIRECTORY: &str = "/opt/lifeboat";

/// The mark that the supervisor was put in, beside lifeboat's other state.
const INSTALLED: &str = "etcd-pod-installed";

/// The supervisor and this master's manifest.
#[derive(Debug, clap::Subcommand)]
pub enum PodAction {
    /// Put the supervisor into this master's manifest of etcd; the kubelet restarts etcd then.
    Install(ManifestArguments),
    /// Take it out again, every other byte left as it is; the kubelet restarts etcd then.
    Uninstall(ManifestArguments),
}

/// Flags of both.
#[derive(Debug, clap::Args)]
pub struct ManifestArguments {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Changed {
    /// The manifest that was changed.
    manifest: PathBuf,
    /// Whether the supervisor is in it now.
    installed: bool,
}

/// Does it.
///
/// # Errors
/// Why the manifest was left as it is.
pub async fn run_pod_action(action: PodAction, out: &mut (dyn Write + Send)) -> Result<(), NodeError> {
    let (is_install, ManifestArguments { output, node }) = match action {
        PodAction::Install(arguments) => (true, arguments),
        PodAction::Uninstall(arguments) => (false, arguments),
    };
    let node = Node::discover(node).await?;
    // Where the volume is not known there is nothing in it that could be found pending.
    if let Ok(place) = node.place() {
        check_nothing_is_pending(&place, is_install)?;
    }
    let found = node.discovery();
    let manifest = found.manifest.as_ref().ok_or_else(|| NodeError::Refused(found.problems.join("; ")))?;
    let path = node.options.root.resolve(manifest);
    let failed = |error: std::io::Error| NodeError::Failed(format!("{} cannot be read: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o7777;
    let mark = node.state_dir.join(INSTALLED);
    if !is_install && !found.is_supervised && mark.exists() {
        crashsafe::remove(&mark)?;
        let words = format!("{} was written anew without the supervisor; that is known now\n", path.display());
        return Ok(print(out, output, &words, &Changed { manifest: path, installed: false })?);
    }
    let (changed, words) = if is_install {
        check_program(&node)?;
        let insertion = Insertion { directory: DIRECTORY.to_owned(), flags: flags(&node).await? };
        (insert(&text, &insertion), "etcd is restarted under lifeboat's supervisor by the kubelet")
    } else {
        (remove(&text), "etcd is restarted without lifeboat's supervisor by the kubelet")
    };
    let changed = changed.map_err(|words| NodeError::Refused(format!("{}: {words}", path.display())))?;
    // The mark is never there without the supervisor, whatever a kill cuts off.
    if is_install {
        crashsafe::replace(&path, changed.as_bytes(), mode)?;
        crashsafe::make_private_directory(&node.state_dir)?;
        crashsafe::replace(&mark, format!("{}\n", manifest.display()).as_bytes(), PRIVATE)?;
    } else {
        crashsafe::remove(&mark)?;
        crashsafe::replace(&path, changed.as_bytes(), mode)?;
    }
    let value = Changed { manifest: path.clone(), installed: is_install };
    Ok(print(out, output, &format!("{} is changed: {words}; one master at a time\n", path.display()), &value)?)
}

/// Whether the supervisor was put into the manifest and is not there any more: words.
pub fn is_missing(node: &Node) -> Option<String> {
    let found = node.discovery();
    let manifest = found.manifest.as_ref().filter(|_| !found.is_supervised)?;
    node.state_dir.join(INSTALLED).exists().then(|| {
        format!(
            "lifeboat's supervisor was installed in front of etcd and is not in {} any more (`kubeadm upgrade` writes it anew): \
             `lifeboat etcd-pod install` puts it in again, `lifeboat etcd-pod uninstall` forgets it",
            manifest.display()
        )
    })
}

/// What the next start of etcd would do otherwise with the supervisor than without it must be over first: an order that waits would
/// be carried out by one that is put in, and data that is held back would be served where it is taken out.
fn check_nothing_is_pending(place: &Place, is_install: bool) -> Result<(), NodeError> {
    let files = [place.restore_db(), place.failed(), place.command()];
    if let Some(path) = files.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(NodeError::Refused(format!(
            "{} is there, so something is asked of this member that is not over: see `lifeboat etcd restore --status` and \
             `lifeboat etcd status`, end it or take it back, then try again",
            path.display()
        )));
    }
    if exchange::find_unfinished(place)?.is_some() {
        return Err(NodeError::Refused(
            "a restore was begun here and is not over: see `lifeboat etcd restore --status`".into(),
        ));
    }
    let has_data = read_wal_head(&place.wal()).map_err(RestoreError::disk("read", &place.wal()))?.is_some();
    if !is_install && !has_data {
        return Err(NodeError::Refused(
            "this member has no data, and without the supervisor etcd could found an empty cluster in its place: re-initialise the \
             member or restore it first"
                .into(),
        ));
    }
    Ok(())
}

/// The program must be where the container will look for it.
fn check_program(node: &Node) -> Result<(), NodeError> {
    let program = PathBuf::from(DIRECTORY).join("bin/lifeboat");
    let seen = node.options.root.resolve(&program);
    let is_there =
        std::fs::metadata(&seen).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    if is_there {
        return Ok(());
    }
    Err(NodeError::Refused(format!(
        "{} is not there: copy this program to it, with mode 0755, on the host",
        program.display()
    )))
}

/// What the supervisor is told: where the control files are, and the other members for the day on which all else is lost.
async fn flags(node: &Node) -> Result<Vec<String>, NodeError> {
    let found = node.discovery();
    let mount = found.volume_mount.as_ref().ok_or_else(|| {
        NodeError::Refused("etcd's data volume is not known: see `lifeboat etcd validate`".to_owned())
    })?;
    let client = node.client().await?;
    let status = fetch_member(&client).await?;
    let mut flags = vec![format!("--volume={}", mount.display())];
    flags.extend(client_urls(&status.members, &found.peer_urls).iter().map(|url| format!("--endpoint={url}")));
    Ok(flags)
}
