//! Configuration of the agent: flags and their environment, turned once into a validated [`Config`]. No I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lifeboat_crds::NodeName;
use lifeboat_process::logging::LogArguments;
use lifeboat_storage::DIRECTORY_RESERVE_PERCENT;

use crate::host::discovery::Overrides;
use crate::host::files::{HostOptions, HostRoot};

/// Runs the agent of one master; started by the DaemonSet of the chart.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArguments {
    /// Name of this node in Kubernetes.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Namespace whose objects are served. Without it, that of the kubeconfig or the pod.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// Kubeconfig to use instead of the pod's service account.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "LIFEBOAT_LISTEN", default_value = "0.0.0.0:8081")]
    listen: SocketAddr,
    /// Directory of this agent's own state on the host, as this process sees it.
    #[arg(long, env = "LIFEBOAT_STATE_DIR", default_value = "/var/lib/lifeboat")]
    state_dir: PathBuf,
    /// Directory of etcd's tools by minor version, as this process sees it.
    #[arg(long, env = "LIFEBOAT_TOOLS_DIR", default_value = "/opt/lifeboat/tools")]
    tools_dir: PathBuf,
    /// A directory that locations may name, as NAME=PATH; may be given several times.
    #[arg(long = "directory", env = "LIFEBOAT_DIRECTORIES", value_name = "NAME=PATH", value_delimiter = ',', value_parser = parse_directory)]
    directories: Vec<(String, PathBuf)>,
    /// Percent of the file system of such a directory that archives leave free, unless it is another machine's: etcd may
    /// live on it.
    #[arg(long, env = "LIFEBOAT_DIRECTORY_RESERVE_PERCENT", default_value_t = DIRECTORY_RESERVE_PERCENT, value_parser = clap::value_parser!(u64).range(0..=100))]
    directory_reserve_percent: u64,
    /// Carry out restores of all masters: needs the host's processes, mounts and service manager.
    #[arg(long, env = "LIFEBOAT_RESTORE", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    restore: bool,
    /// The host.
    #[command(flatten)]
    host: HostArguments,
    /// Logs.
    #[command(flatten)]
    pub log: LogArguments,
}

/// Where etcd is found, for layouts that are not understood by themselves.
#[derive(Clone, Debug, clap::Args)]
pub struct HostArguments {
    /// Where the host's file system is seen by this process.
    #[arg(long, env = "LIFEBOAT_HOST_ROOT", default_value = "/")]
    host_root: PathBuf,
    /// Directory of the static pods on the host. Without it, the kubelet's own setting.
    #[arg(long, env = "LIFEBOAT_MANIFEST_DIR")]
    manifest_dir: Option<PathBuf>,
    /// Client URL of this node's own etcd member.
    #[arg(long, env = "LIFEBOAT_ETCD_ENDPOINT")]
    etcd_endpoint: Option<String>,
    /// CA that signed etcd's server certificate; path on the host.
    #[arg(long, env = "LIFEBOAT_ETCD_CA")]
    etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd; path on the host.
    #[arg(long, env = "LIFEBOAT_ETCD_CERT")]
    etcd_cert: Option<PathBuf>,
    /// Its key; path on the host.
    #[arg(long, env = "LIFEBOAT_ETCD_KEY")]
    etcd_key: Option<PathBuf>,
    /// etcd's data directory on the host.
    #[arg(long, env = "LIFEBOAT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// This program on the host, for what must outlive the agent's container.
    #[arg(long, env = "LIFEBOAT_HOST_PROGRAM", default_value = "/opt/lifeboat/bin/lifeboat", hide = true)]
    host_program: PathBuf,
}

impl HostArguments {
    /// The same, with manifests that lie elsewhere.
    #[must_use]
    pub fn with_manifests(&self, directory: &Path) -> Self {
        Self { manifest_dir: Some(directory.to_owned()), ..self.clone() }
    }

    /// This program on the host, where this process sees the host's file system somewhere else than the host itself does.
    pub fn program_elsewhere(&self) -> Option<&Path> {
        (self.host_root != Path::new("/")).then_some(self.host_program.as_path())
    }

    /// The same, for a process of the host itself.
    #[must_use]
    pub fn on_host(&self) -> Self {
        Self { host_root: PathBuf::from("/"), ..self.clone() }
    }

    /// The same as variables of the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { host_root, manifest_dir, etcd_endpoint, etcd_ca, etcd_cert, etcd_key, data_dir, host_program: _ } =
            self;
        let paths = [
            ("LIFEBOAT_HOST_ROOT", Some(host_root)),
            ("LIFEBOAT_MANIFEST_DIR", manifest_dir.as_ref()),
            ("LIFEBOAT_ETCD_CA", etcd_ca.as_ref()),
            ("LIFEBOAT_ETCD_CERT", etcd_cert.as_ref()),
            ("LIFEBOAT_ETCD_KEY", etcd_key.as_ref()),
            ("LIFEBOAT_DATA_DIR", data_dir.as_ref()),
        ];
        let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path?.to_string_lossy().into_owned())));
        paths.chain(etcd_endpoint.clone().map(|url| ("LIFEBOAT_ETCD_ENDPOINT", url))).collect()
    }
}

/// The configuration of one agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Namespace served; `None` means the client's own.
    pub namespace: Option<String>,
    /// Kubeconfig, if not in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the health server.
    pub listen: SocketAddr,
    /// Own state.
    pub state_dir: PathBuf,
    /// etcd's tools.
    pub tools_dir: PathBuf,
    /// Directories by name.
    pub directories: BTreeMap<String, PathBuf>,
    /// What of their file systems stays free.
    pub directory_reserve_percent: u64,
    /// Whether restores of all masters are carried out.
    pub restore: bool,
    /// The host, as flags tell it.
    pub host_arguments: HostArguments,
    /// How the host is read.
    pub host: HostOptions,
}

impl From<AgentArguments> for Config {
    fn from(arguments: AgentArguments) -> Self {
        let AgentArguments {
            node_name,
            namespace,
            kubeconfig,
            listen,
            state_dir,
            tools_dir,
            directories,
            directory_reserve_percent,
            restore,
            host,
            log: _,
        } = arguments;
        Self {
            node: NodeName(node_name),
            // A variable that is set but empty means "not set" in every chart.
            namespace: namespace.filter(|name| !name.is_empty()),
            kubeconfig: set(kubeconfig),
            listen,
            state_dir,
            tools_dir,
            directories: directories.into_iter().collect(),
            directory_reserve_percent,
            restore,
            host_arguments: host.clone(),
            host: host.into(),
        }
    }
}

impl From<HostArguments> for HostOptions {
    fn from(arguments: HostArguments) -> Self {
        let HostArguments {
            host_root,
            manifest_dir,
            etcd_endpoint,
            etcd_ca,
            etcd_cert,
            etcd_key,
            data_dir,
            host_program: _,
        } = arguments;
        Self {
            root: HostRoot::new(host_root),
            manifest_dir: set(manifest_dir),
            overrides: Overrides {
                endpoint: etcd_endpoint.filter(|url| !url.is_empty()),
                ca: set(etcd_ca),
                cert: set(etcd_cert),
                key: set(etcd_key),
                data_dir: set(data_dir),
            },
        }
    }
}

fn set(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn parse_directory(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.to_owned(), PathBuf::from(path))),
        Some(_) | None => Err("write it as NAME=/ABSOLUTE/PATH".to_owned()),
    }
}
