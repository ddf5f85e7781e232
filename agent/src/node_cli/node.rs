//! This master as a command needs it: discovered, with etcd's directories, its own name, and how it is reached. Reads files.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::NodeError;
use crate::daemon::config::HostArguments;
use crate::etcd::client::MemberClient;
use crate::host::discovery::{Discovery, Platform};
use crate::host::files::{HostOptions, HostView, read_host};
use crate::restore_engine::layout::Place;
use crate::restore_engine::order::Own;

/// Where an API server listens unless its manifest says otherwise.
const API_SERVER_PORT: u16 = 6443;

/// Where things are, for layouts that are not understood by themselves.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArguments {
    /// The host.
    #[command(flatten)]
    host: HostArguments,
    /// Directory of lifeboat's own state.
    #[arg(long, env = "LIFEBOAT_STATE_DIR", default_value = "/var/lib/lifeboat")]
    pub state_dir: PathBuf,
    /// Directory of etcd's tools by minor version.
    #[arg(long, env = "LIFEBOAT_TOOLS_DIR", default_value = "/opt/lifeboat/tools")]
    pub tools_dir: PathBuf,
}

impl NodeArguments {
    /// Those of a process that was told by other flags.
    pub const fn of(host: HostArguments, state_dir: PathBuf, tools_dir: PathBuf) -> Self {
        Self { host, state_dir, tools_dir }
    }

    /// This program on the host, where this process is in a container.
    pub fn program_elsewhere(&self) -> Option<&Path> {
        self.host.program_elsewhere()
    }

    /// The same, for a process of the host itself: state and tools have one path in the container and there.
    #[must_use]
    pub fn on_host(&self) -> Self {
        Self { host: self.host.on_host(), ..self.clone() }
    }

    /// How the host is read.
    pub fn options(&self) -> HostOptions {
        self.host.clone().into()
    }

    /// The same, with manifests that lie elsewhere.
    #[must_use]
    pub fn with_manifests(&self, directory: &Path) -> Self {
        Self { host: self.host.with_manifests(directory), ..self.clone() }
    }

    /// The same as variables of the environment, for a process that is started to go on.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { host, state_dir, tools_dir } = self;
        let own = [("LIFEBOAT_STATE_DIR", state_dir), ("LIFEBOAT_TOOLS_DIR", tools_dir)];
        let own = own.map(|(name, path)| (name, path.to_string_lossy().into_owned()));
        own.into_iter().chain(host.environment()).collect()
    }
}

/// This master.
#[derive(Clone, Debug)]
pub struct Node {
    /// How the host is read.
    pub options: HostOptions,
    /// What was found.
    pub view: HostView,
    /// Lifeboat's own state.
    pub state_dir: PathBuf,
    /// etcd's tools.
    pub tools_dir: PathBuf,
}

impl Node {
    /// Reads the host.
    pub async fn discover(arguments: NodeArguments) -> Result<Self, NodeError> {
        let NodeArguments { host, state_dir, tools_dir } = arguments;
        let options: HostOptions = host.into();
        let read = options.clone();
        let view = tokio::task::spawn_blocking(move || read_stopped_host(&read)).await;
        let view = view.map_err(|error| NodeError::Failed(error.to_string()))?;
        Ok(Self { options, view, state_dir, tools_dir })
    }

    /// What was found.
    pub fn discovery(&self) -> &Discovery {
        &self.view.discovery
    }

    /// A client of this node's own member.
    pub async fn client(&self) -> Result<MemberClient, NodeError> {
        match &self.view.endpoint {
            Some(endpoint) => Ok(MemberClient::connect(endpoint).await?),
            None => Err(NodeError::Refused(self.discovery().problems.join("; "))),
        }
    }

    /// etcd's directories and its own name.
    ///
    /// # Errors
    /// Not all is known, or nothing may be restored here: words.
    pub fn place(&self) -> Result<Place, NodeError> {
        let found = self.discovery();
        let root = |path: &PathBuf| self.options.root.resolve(path);
        let (Some(volume), Some(data_dir), Some(name), false) =
            (&found.volume, &found.data_dir, &found.name, found.peer_urls.is_empty())
        else {
            let all = found.problems.iter().chain(&found.restore_problems).chain(&found.remarks);
            let words: Vec<&str> = all.map(String::as_str).collect();
            return Err(NodeError::Refused(format!(
                "etcd's data volume, name and peer URLs are not all known on this host: {}; where \
                 manifests were moved out of the kubelet's sight, say where with --manifest-dir; see `lifeboat etcd validate`",
                words.join("; ")
            )));
        };
        if !found.restore_problems.is_empty() {
            return Err(NodeError::Refused(found.restore_problems.join("; ")));
        }
        Ok(Place {
            volume: root(volume),
            data_dir: root(data_dir),
            wal_dir: found.wal_dir.as_ref().map(root),
            own: Own { name: name.clone(), peer_urls: found.peer_urls.clone() },
        })
    }

    /// A command of `etcd restore` as it is to be typed on this master.
    pub fn restore_command(&self, flags: &str) -> String {
        let mut line = format!("lifeboat etcd restore {flags}");
        let places = [("--manifest-dir", &self.options.manifest_dir), ("--data-dir", &self.options.overrides.data_dir)];
        for (flag, path) in places {
            if let Some(path) = path {
                line += &format!(" {flag} {}", path.display());
            }
        }
        line
    }

    /// Where this node's API server listens, or would.
    pub fn api_server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.discovery().api_server_port.unwrap_or(API_SERVER_PORT)))
    }

    /// Whether etcd's pod here looks for control files, and whose it is.
    pub fn is_obeyed(&self) -> bool {
        self.discovery().platform == Platform::Kublr || self.discovery().is_supervised
    }

    /// Addresses at which etcd and the API server of this node would answer.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let found = self.discovery();
        let urls = found.listen_client_urls.iter().chain(&found.listen_peer_urls);
        let mut addresses: Vec<SocketAddr> = urls.filter_map(|url| address(url)).collect();
        addresses.push(self.api_server());
        addresses
    }
}

/// Reads the host. Where manifests were moved out of the kubelet's sight, not all may have been: what the kubelet still
/// follows tells of an API server that runs.
fn read_stopped_host(options: &HostOptions) -> HostView {
    let mut view = read_host(options);
    if options.manifest_dir.is_some() && view.discovery.api_server_port.is_none() {
        let followed = HostOptions { manifest_dir: None, ..options.clone() };
        view.discovery.api_server_port = read_host(&followed).discovery.api_server_port;
    }
    view
}

/// Where something that listens at a URL answers on this host; names are not looked up.
fn address(url: &str) -> Option<SocketAddr> {
    let (_, rest) = url.split_once("://")?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    let host = match host {
        "0.0.0.0" | "localhost" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    let numeric = format!("{host}:{port}");
    numeric.parse::<SocketAddr>().ok().and_then(|address| address.to_socket_addrs().ok()?.next())
}
