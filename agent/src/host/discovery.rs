//! What the files of a master say about its etcd: where it answers, where its data lies, which certificates open it.
//!
//! Pure: `files` gathers the [`HostFacts`], this decides. What is not understood is said in words and never guessed;
//! what keeps backups from being taken is a problem, what only a restore will need is a remark.

mod credentials;
mod data;
mod endpoint;
mod etcd;
pub mod kublr;
mod platform;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use self::credentials::{credential_candidates, read_api_server};
pub use self::endpoint::choose_endpoint as own_endpoint;
use self::etcd::read_etcd;
pub use self::etcd::wanted_config_file;
use self::kublr::KublrFiles;
use self::platform::{no_etcd_words, platform_of};
use self::server::find_server;

/// Everything read from the host before anything is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Directory of the static pods.
    pub manifest_dir: PathBuf,
    /// Its files by name, as the kubelet reads them: those that do not begin with a dot.
    pub manifests: BTreeMap<String, String>,
    /// Signs of a distribution that were found.
    pub markers: BTreeSet<Marker>,
    /// etcd's configuration file, where its manifest names one: its text, or why it cannot be read.
    pub etcd_config: Option<Result<String, String>>,
    /// What Kublr's own files say.
    pub kublr: KublrFiles,
    /// What should have been read and could not be, in words.
    pub unreadable: Vec<String>,
}

/// A path whose existence tells which distribution a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Marker {
    /// Kublr's configuration.
    KublrConfig,
    /// Kublr's program.
    KublrProgram,
    /// State of a k3s server.
    K3s,
    /// State of an RKE2 server.
    Rke2,
    /// State partition of Talos.
    Talos,
    /// OpenShift's static pod resources.
    OpenShift,
}

impl Marker {
    /// Every marker that is looked for.
    pub const ALL: [Self; 6] =
        [Self::KublrConfig, Self::KublrProgram, Self::K3s, Self::Rke2, Self::Talos, Self::OpenShift];

    /// The path on the host.
    pub const fn path(self) -> &'static str {
        match self {
            Self::KublrConfig => "/etc/kublr/daemon.yaml",
            Self::KublrProgram => "/opt/kublr/bin/kublr",
            Self::K3s => "/var/lib/rancher/k3s/server",
            Self::Rke2 => "/var/lib/rancher/rke2/server",
            Self::Talos => "/system/state",
            Self::OpenShift => "/etc/kubernetes/static-pod-resources",
        }
    }

    const fn platform(self) -> Platform {
        match self {
            Self::KublrConfig | Self::KublrProgram => Platform::Kublr,
            Self::K3s => Platform::K3s,
            Self::Rke2 => Platform::Rke2,
            Self::Talos => Platform::Talos,
            Self::OpenShift => Platform::OpenShift,
        }
    }
}

/// What kind of control plane a master is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Platform {
    /// kubeadm and alike: the kubelet starts etcd from a manifest.
    StaticPods,
    /// Kublr.
    Kublr,
    /// k3s; recognised, not understood.
    K3s,
    /// RKE2; recognised, not understood.
    Rke2,
    /// Talos; recognised, not understood.
    Talos,
    /// OpenShift; recognised, not understood.
    OpenShift,
    /// Nothing known was found.
    #[default]
    Unknown,
}

impl Platform {
    /// The word in EtcdMember.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaticPods => "StaticPods",
            Self::Kublr => "Kublr",
            Self::K3s => "K3s",
            Self::Rke2 => "RKE2",
            Self::Talos => "Talos",
            Self::OpenShift => "OpenShift",
            Self::Unknown => "Unknown",
        }
    }
}

/// What the administrator said about this master; each wins over what is discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Client URL of this node's own member.
    pub endpoint: Option<String>,
    /// CA that signed etcd's server certificate.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// etcd's data directory on the host.
    pub data_dir: Option<PathBuf>,
}

/// Three files that open etcd's client port; paths of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CredentialFiles {
    /// CA that signed etcd's server certificate.
    pub ca: PathBuf,
    /// Client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Files that the API server was told of and that a restore must match; paths of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApiServerFiles {
    /// `--encryption-provider-config`.
    pub encryption_config: Option<PathBuf>,
    /// Every `--service-account-key-file`, in order.
    pub service_account_keys: Vec<PathBuf>,
}

/// What is known of this master's etcd. Paths are those of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Kind of control plane.
    pub platform: Platform,
    /// The manifest that starts etcd.
    pub manifest: Option<PathBuf>,
    /// Whether that manifest starts etcd under lifeboat's supervisor.
    pub is_supervised: bool,
    /// etcd's `--name`.
    pub name: Option<String>,
    /// Data directory.
    pub data_dir: Option<PathBuf>,
    /// Root of the volume that the data directory lies in: where the etcd pod's control files are.
    pub volume: Option<PathBuf>,
    /// Where etcd's container sees that root.
    pub volume_mount: Option<PathBuf>,
    /// Separate directory of the WAL.
    pub wal_dir: Option<PathBuf>,
    /// Whether that directory is the root of a volume in etcd's container: there it cannot change places with another one.
    pub is_wal_volume: bool,
    /// Two places that are told for the data, in words; settled by saying which.
    #[serde(skip)]
    pub(crate) volume_conflict: Option<String>,
    /// Where etcd listens for clients.
    pub listen_client_urls: Vec<String>,
    /// What etcd tells clients.
    pub advertise_client_urls: Vec<String>,
    /// What etcd tells its peers.
    pub peer_urls: Vec<String>,
    /// Where etcd listens for its peers.
    pub listen_peer_urls: Vec<String>,
    /// `--initial-cluster`, `name=url` each. Not the truth about members: on the master that kubeadm init made, itself alone.
    pub initial_cluster: Vec<String>,
    /// The one URL the agent uses: this node's own member, by loopback where it listens there.
    pub endpoint: Option<String>,
    /// Certificates to try, best first; the first whose files exist is used.
    pub credentials: Vec<CredentialFiles>,
    /// Quota of the database in bytes, where it is set.
    pub quota: Option<u64>,
    /// Image of the etcd container.
    pub image: Option<String>,
    /// Version that the image's tag promises.
    pub version_hint: Option<String>,
    /// etcd's feature gates, `Name=value`.
    pub feature_gates: Vec<String>,
    /// What a restore must find unchanged.
    pub api_server: ApiServerFiles,
    /// Port of this node's API server, where its manifest is there.
    pub api_server_port: Option<u16>,
    /// Where a value comes from, by its name in this structure, for those with more than one possible source.
    pub sources: BTreeMap<&'static str, String>,
    /// What keeps a restore from being done on this master by Lifeboat, in words.
    pub restore_problems: Vec<String>,
    /// What keeps backups from being taken here, in words.
    pub problems: Vec<String>,
    /// What is odd or missing and does not hinder backups, in words.
    pub remarks: Vec<String>,
}

/// Decides what this master is from what was read.
pub fn discover(facts: &HostFacts, overrides: &Overrides) -> Discovery {
    let mut found = Discovery { remarks: facts.unreadable.clone(), ..Discovery::default() };
    let etcd = find_server(facts, "etcd", &mut found.remarks);
    found.platform = platform_of(facts, etcd.as_ref(), &mut found.remarks);
    if let Some(server) = &etcd {
        found.manifest = Some(facts.manifest_dir.join(&server.file));
        found.is_supervised = server.container.is_supervised();
        read_etcd(server, facts, &mut found);
    } else {
        found.problems.push(no_etcd_words(facts, found.platform));
        data::volume_without_manifest(facts, &mut found);
    }
    found.restore_problems.extend(platform::restore_words(found.platform));
    let api_server = find_server(facts, "kube-apiserver", &mut Vec::new());
    let api_server_credentials = api_server.as_ref().and_then(|server| read_api_server(server, &mut found));
    found.credentials = credential_candidates(etcd.as_ref(), api_server_credentials);
    apply_overrides(overrides, &mut found);
    found.restore_problems.extend(found.volume_conflict.take());
    if found.endpoint.as_deref().is_some_and(|url| url.starts_with("https://")) && found.credentials.is_empty() {
        found.problems.push(
            "no client certificate for etcd is known on this host: give --etcd-ca, --etcd-cert and --etcd-key".into(),
        );
    }
    found
}

fn apply_overrides(overrides: &Overrides, found: &mut Discovery) {
    let Overrides { endpoint, ca, cert, key, data_dir } = overrides;
    if let Some(data_dir) = data_dir {
        found.volume_conflict = None;
        data::take_given_directory(data_dir, found);
    }
    if let Some(url) = endpoint {
        found.endpoint = Some(url.clone());
        // Whatever was not understood above, the administrator told what a backup needs.
        found.remarks.append(&mut found.problems);
    }
    match (ca, cert, key) {
        (None, None, None) => {}
        (Some(ca), Some(cert), Some(key)) => {
            found.credentials = vec![CredentialFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() }];
        }
        (ca, cert, key) => {
            let missing: Vec<&str> = [("--etcd-ca", ca), ("--etcd-cert", cert), ("--etcd-key", key)]
                .into_iter()
                .filter_map(|(flag, path)| path.is_none().then_some(flag))
                .collect();
            found.problems.push(format!(
                "the files to reach etcd with go together: {} not given",
                if missing.len() == 1 {
                    format!("{} is", missing[0])
                } else {
                    format!("{} are", missing.join(" and "))
                }
            ));
        }
    }
}

#[cfg(test)]
mod tests;
