//! What the files of a master say about its etcd: where it answers, where its data lies, which certificates open it.
//!
//! Pure: `files` gathers the [`HostFacts`], this decides. What is not understood is said in words and never guessed;
//! what keeps backups from being taken is a problem, what only a restore will need is a remark.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::{Arguments, parse_arguments};
use super::static_pod::{Container, StaticPod, parse_static_pod};

/// Everything read from the host before anything is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Directory of the static pods.
    pub manifest_dir: PathBuf,
    /// Its files by name, as the kubelet reads them: those that do not begin with a dot.
    pub manifests: BTreeMap<String, String>,
    /// Signs of a distribution that were found.
    pub markers: BTreeSet<Marker>,
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
#[serde(rename_all = "camelCase")]
pub struct ApiServerFiles {
    /// `--encryption-provider-config`.
    pub encryption_config: Option<PathBuf>,
    /// Every `--service-account-key-file`, in order.
    pub service_account_keys: Vec<PathBuf>,
}

/// What is known of this master's etcd. Paths are those of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Kind of control plane.
    pub platform: Platform,
    /// The manifest that starts etcd.
    pub manifest: Option<PathBuf>,
    /// etcd's `--name`.
    pub name: Option<String>,
    /// Data directory.
    pub data_dir: Option<PathBuf>,
    /// Separate directory of the WAL.
    pub wal_dir: Option<PathBuf>,
    /// Where etcd listens for clients.
    pub listen_client_urls: Vec<String>,
    /// What etcd tells clients.
    pub advertise_client_urls: Vec<String>,
    /// What etcd tells its peers.
    pub peer_urls: Vec<String>,
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
        read_etcd(server, &mut found);
    } else {
        found.problems.push(no_etcd_words(facts, found.platform));
    }
    let api_server = find_server(facts, "kube-apiserver", &mut Vec::new());
    let api_server_credentials = api_server.as_ref().and_then(|server| read_api_server(server, &mut found));
    found.credentials = credential_candidates(etcd.as_ref(), api_server_credentials);
    apply_overrides(overrides, &mut found);
    if found.endpoint.as_deref().is_some_and(|url| url.starts_with("https://")) && found.credentials.is_empty() {
        found.problems.push(
            "no client certificate for etcd is known on this host: give --etcd-ca, --etcd-cert and --etcd-key".into(),
        );
    }
    found
}

/// A server found in a manifest.
struct Server {
    file: String,
    pod: StaticPod,
    container: Container,
    arguments: Arguments,
}

impl Server {
    fn host_path(&self, path: &str) -> Result<PathBuf, String> {
        self.pod.host_path(&self.container, Path::new(path)).map_err(|unmapped| unmapped.to_string())
    }

    fn host_path_of(&self, flag: &str) -> Option<PathBuf> {
        self.arguments.get(flag).and_then(|path| self.host_path(path).ok())
    }
}

/// The manifest that runs `program`: the file of that name first, because the kubelet runs copies beside it as well.
fn find_server(facts: &HostFacts, program: &str, remarks: &mut Vec<String>) -> Option<Server> {
    let mut servers: Vec<Server> = Vec::new();
    let mut broken = Vec::new();
    for (file, text) in &facts.manifests {
        match parse_static_pod(text) {
            Ok(pod) => {
                if let Some(container) = pod.container_running(program).cloned() {
                    let prefix = (program == "etcd").then_some("ETCD_");
                    let arguments = parse_arguments(&container, prefix);
                    servers.push(Server { file: file.clone(), pod, container, arguments });
                }
            }
            Err(error) => {
                broken.push(format!("{} is no readable manifest: {error}", facts.manifest_dir.join(file).display()))
            }
        }
    }
    remarks.append(&mut broken);
    let expected = [format!("{program}.yaml"), format!("{program}.manifest")];
    servers.sort_by_key(|server| expected.iter().position(|name| *name == server.file).unwrap_or(expected.len()));
    if servers.len() > 1 {
        let names: Vec<&str> = servers.iter().map(|server| server.file.as_str()).collect();
        remarks.push(format!(
            "{} manifests in {} run {program} ({}); {} is believed. The kubelet starts every file that does not begin \
             with a dot: move copies elsewhere",
            names.len(),
            facts.manifest_dir.display(),
            names.join(", "),
            names[0],
        ));
    }
    servers.into_iter().next()
}

fn platform_of(facts: &HostFacts, etcd: Option<&Server>, remarks: &mut Vec<String>) -> Platform {
    let marker = facts.markers.iter().next().copied();
    let is_plain = etcd.is_some_and(|server| server.file == "etcd.yaml");
    match marker {
        Some(marker @ (Marker::KublrConfig | Marker::KublrProgram)) => {
            remarks.push("Kublr is recognised by its files; this version backs it up and does not restore it".into());
            marker.platform()
        }
        Some(marker @ (Marker::K3s | Marker::Rke2 | Marker::Talos | Marker::OpenShift)) if is_plain => {
            remarks.push(format!(
                "{} exists, but the kubelet runs etcd from etcd.yaml: taken for left over from {}",
                marker.path(),
                marker.platform().as_str(),
            ));
            Platform::StaticPods
        }
        Some(marker @ (Marker::K3s | Marker::Rke2 | Marker::Talos | Marker::OpenShift)) => marker.platform(),
        None if etcd.is_some() => Platform::StaticPods,
        None => Platform::Unknown,
    }
}

fn no_etcd_words(facts: &HostFacts, platform: Platform) -> String {
    let directory = facts.manifest_dir.display();
    let way_out = "for backups give --etcd-endpoint, --etcd-ca, --etcd-cert and --etcd-key";
    match platform {
        Platform::StaticPods | Platform::Unknown if facts.manifests.is_empty() => format!(
            "no static pod manifest was found in {directory}: is this a control-plane node with its own etcd? Set \
             --manifest-dir if they lie elsewhere, or {way_out}"
        ),
        Platform::StaticPods | Platform::Unknown => format!(
            "no manifest in {directory} runs etcd: is etcd external, or does it run as a service? Lifeboat looks after \
             the etcd of its own node; {way_out}"
        ),
        Platform::Kublr => {
            format!(
                "this is a Kublr master, but no manifest in {directory} runs etcd; set --manifest-dir, or {way_out}"
            )
        }
        Platform::K3s => {
            format!("this is a k3s server, whose etcd is not a static pod (see `k3s etcd-snapshot`); {way_out}")
        }
        Platform::Rke2 => {
            format!("this is an RKE2 server, whose layout is not read (see `rke2 etcd-snapshot`); {way_out}")
        }
        Platform::Talos => {
            format!("this is a Talos machine, whose etcd is not a static pod (see `talosctl etcd snapshot`); {way_out}")
        }
        Platform::OpenShift => format!(
            "this is an OpenShift master, whose layout is not read (see `cluster-backup.sh` on the node); {way_out}"
        ),
    }
}

fn read_etcd(server: &Server, found: &mut Discovery) {
    let Server { file, container, arguments, .. } = server;
    found.image = container.image.clone();
    found.version_hint = container.image.as_deref().and_then(version_in_image);
    if container.is_shell() {
        found.problems.push(format!(
            "{file} starts etcd through a shell, so its arguments are not in the manifest: give --etcd-endpoint, \
             --etcd-ca, --etcd-cert, --etcd-key and --data-dir"
        ));
        return;
    }
    if let Some(config) = arguments.get("config-file") {
        // etcd ignores every other flag and variable beside a configuration file: what they say would be wrong.
        found.problems.push(format!(
            "etcd reads its configuration from {config}, which Lifeboat does not read yet: give --etcd-endpoint, \
             --etcd-ca, --etcd-cert, --etcd-key and --data-dir"
        ));
        return;
    }
    found.remarks.extend(arguments.unknown.iter().map(|unknown| format!("{file}: {unknown}")));
    found.name = arguments.get("name").map(str::to_owned);
    found.listen_client_urls = arguments.list("listen-client-urls");
    found.advertise_client_urls = arguments.list("advertise-client-urls");
    found.peer_urls = arguments.list("initial-advertise-peer-urls");
    found.feature_gates = arguments.list("feature-gates");
    read_quota(arguments, found);
    read_directories(server, found);
    found.endpoint = choose_endpoint(&found.listen_client_urls);
    if found.endpoint.is_none() {
        found.problems.push(match arguments.get("listen-client-urls") {
            None => format!("{file} has no --listen-client-urls: give --etcd-endpoint"),
            Some(text) => {
                format!("--listen-client-urls={text} in {file} holds no URL to connect to: give --etcd-endpoint")
            }
        });
    }
}

fn read_quota(arguments: &Arguments, found: &mut Discovery) {
    let Some(text) = arguments.get("quota-backend-bytes") else { return };
    match text.parse::<i64>() {
        // 0 is etcd's default and a negative number means none.
        Ok(bytes) => found.quota = u64::try_from(bytes).ok().filter(|&bytes| bytes > 0),
        Err(_) => found.remarks.push(format!("--quota-backend-bytes={text} is no number")),
    }
}

fn read_directories(server: &Server, found: &mut Discovery) {
    match server.arguments.get("data-dir") {
        None => found
            .remarks
            .push(format!("{} has no --data-dir, so etcd's data directory is not known: give --data-dir", server.file)),
        Some(path) => match server.host_path(path) {
            Ok(host) => found.data_dir = Some(host),
            Err(words) => {
                found.remarks.push(format!("etcd's data directory is not known on the host: {words}; give --data-dir"))
            }
        },
    }
    if let Some(path) = server.arguments.get("wal-dir") {
        match server.host_path(path) {
            Ok(host) => found.wal_dir = Some(host),
            Err(words) => found.remarks.push(format!("etcd's WAL directory is not known on the host: {words}")),
        }
    }
}

/// The URL by which this node's own member is reached: loopback first, so that no firewall or DNS has a say.
fn choose_endpoint(listen: &[String]) -> Option<String> {
    let mut usable: Vec<(bool, String)> = listen.iter().filter_map(|url| reachable(url)).collect();
    usable.sort_by_key(|(is_loopback, _)| !is_loopback);
    usable.into_iter().next().map(|(_, url)| url)
}

/// A URL to connect to for one to listen at; wildcard addresses become loopback.
fn reachable(url: &str) -> Option<(bool, String)> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let (is_loopback, host) = match host {
        "0.0.0.0" => (true, "127.0.0.1"),
        "[::]" => (true, "[::1]"),
        "127.0.0.1" | "[::1]" | "localhost" => (true, host),
        "" => return None,
        _ => (false, host),
    };
    // A host that still holds a variable is known to nobody.
    (!host.contains("$(")).then(|| (is_loopback, format!("{scheme}://{host}:{port}")))
}

/// `3.6.6` of `registry.k8s.io/etcd:3.6.6-0` or `quay.io/coreos/etcd:v3.5.30@sha256:…`.
fn version_in_image(image: &str) -> Option<String> {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let (_, tag) = image.rsplit_once('/').map_or(image, |(_, last)| last).split_once(':')?;
    let version = tag.trim_start_matches('v').split(['-', '+', '_']).next()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (version.split('.').count() == 3 && version.split('.').all(is_number)).then(|| version.to_owned())
}

/// Reads what a restore must match, and returns the API server's own way into etcd.
fn read_api_server(server: &Server, found: &mut Discovery) -> Option<CredentialFiles> {
    if let Some(path) = server.arguments.get("encryption-provider-config") {
        match server.host_path(path) {
            Ok(host) => found.api_server.encryption_config = Some(host),
            Err(words) => found.remarks.push(format!("the encryption configuration is not known on the host: {words}")),
        }
    }
    for path in server.arguments.all("service-account-key-file") {
        match server.host_path(path) {
            Ok(host) => found.api_server.service_account_keys.push(host),
            Err(words) => found.remarks.push(format!("a service-account key is not known on the host: {words}")),
        }
    }
    Some(CredentialFiles {
        ca: server.host_path_of("etcd-cafile")?,
        cert: server.host_path_of("etcd-certfile")?,
        key: server.host_path_of("etcd-keyfile")?,
    })
}

/// kubeadm's health-check certificate beside etcd's CA, else what the API server uses, else where kubeadm puts that.
///
/// The CA of the API server is the one that is known to verify this etcd; etcd's own `--trusted-ca-file` verifies
/// clients and need not be the same.
fn credential_candidates(etcd: Option<&Server>, api_server: Option<CredentialFiles>) -> Vec<CredentialFiles> {
    let trusted = etcd.and_then(|server| server.host_path_of("trusted-ca-file"));
    let mut candidates = Vec::new();
    if let Some(directory) = trusted.as_deref().and_then(Path::parent) {
        let ca = api_server.as_ref().map(|files| files.ca.clone()).or_else(|| trusted.clone());
        candidates.extend(ca.map(|ca| CredentialFiles {
            ca,
            cert: directory.join("healthcheck-client.crt"),
            key: directory.join("healthcheck-client.key"),
        }));
    }
    match (api_server, trusted.as_deref(), trusted.as_deref().and_then(Path::parent).and_then(Path::parent)) {
        (Some(files), _, _) => candidates.push(files),
        (None, Some(ca), Some(pki)) => candidates.push(CredentialFiles {
            ca: ca.to_owned(),
            cert: pki.join("apiserver-etcd-client.crt"),
            key: pki.join("apiserver-etcd-client.key"),
        }),
        (None, _, _) => {}
    }
    candidates
}

fn apply_overrides(overrides: &Overrides, found: &mut Discovery) {
    let Overrides { endpoint, ca, cert, key, data_dir } = overrides;
    if let Some(data_dir) = data_dir {
        found.data_dir = Some(data_dir.clone());
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
