//! Reads the host for discovery: manifests, kubelet's configuration, markers, certificates. I/O, read-only, blocking.
//!
//! Everything lies below an optional root, for pods that mount the host elsewhere and for tests. Links are followed
//! inside that root. A file that cannot be read becomes words, never an error: the EtcdMember must say what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;

use super::certificate::read_not_after;
use super::discovery::kublr::KublrFiles;
use super::discovery::{CredentialFiles, Discovery, HostFacts, Marker, Overrides, discover, wanted_config_file};
use crate::etcd::client::{Endpoint, TlsFiles};

const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
const DEFAULT_MANIFEST_DIR: &str = "/etc/kubernetes/manifests";
/// A manifest is a few KiB; a file beyond this is something else and is not read into memory.
const LARGEST_MANIFEST: u64 = 1 << 20;
/// `kublr validate` only reads its own configuration.
const KUBLR_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// Where the files of the host are seen: paths of the host below a root, which is empty where they are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl HostRoot {
    /// The host below `root`; an empty path or `/` for the host itself.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self(if root == Path::new("/") { PathBuf::new() } else { root })
    }

    /// Whether the host's files are seen where they are.
    pub fn is_host(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// The path by which this process reaches a path of the host.
    ///
    /// Below a root, links are followed one by one: an absolute one means the host's root, not the container's.
    pub fn resolve(&self, host_path: &Path) -> PathBuf {
        if self.0.as_os_str().is_empty() {
            return host_path.to_owned();
        }
        let mut reached = self.0.clone();
        let mut todo = parts_reversed(host_path);
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                if reached != self.0 {
                    reached.pop();
                }
                continue;
            }
            let next = reached.join(&part);
            match next.read_link() {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        reached.clone_from(&self.0);
                    }
                    todo.extend(parts_reversed(&target));
                }
                Ok(_) | Err(_) => reached = next,
            }
        }
        reached
    }
}

fn parts_reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

/// How this host is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Where the host's files are seen.
    pub root: HostRoot,
    /// Directory of the static pods on the host; the kubelet's own setting where absent.
    pub manifest_dir: Option<PathBuf>,
    /// What the administrator said.
    pub overrides: Overrides,
}

/// A master as its files show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// What was found out; its problems hold those of the certificates too.
    pub discovery: Discovery,
    /// How to reach this node's own member; absent where a problem says why.
    pub endpoint: Option<Endpoint>,
    /// When the client certificate ends.
    pub not_after: Option<Timestamp>,
}

/// Reads the host and decides what it is. Blocking, a few small files.
pub fn read_host(options: &HostOptions) -> HostView {
    let HostOptions { root, manifest_dir, overrides } = options;
    let facts = read_facts(root, manifest_dir.as_deref());
    let mut discovery = discover(&facts, overrides);
    let mut view_not_after = None;
    let endpoint = match discovery.endpoint.clone() {
        None => None,
        Some(url) if url.starts_with("http://") => Some(Endpoint { url, tls: None }),
        Some(url) => match choose_credentials(root, &discovery.credentials) {
            Ok(None) => None,
            Ok(Some(files)) => {
                match read_not_after(&files.cert) {
                    Ok(not_after) => view_not_after = Some(not_after),
                    Err(error) => discovery.problems.push(error.to_string()),
                }
                Some(Endpoint { url, tls: Some(files) })
            }
            Err(words) => {
                discovery.problems.push(words);
                None
            }
        },
    };
    HostView { discovery, endpoint, not_after: view_not_after }
}

/// Gathers what discovery decides upon.
pub fn read_facts(root: &HostRoot, manifest_dir: Option<&Path>) -> HostFacts {
    let mut unreadable = Vec::new();
    let manifest_dir = match manifest_dir {
        Some(given) => given.to_owned(),
        None => kubelet_manifest_dir(root, &mut unreadable),
    };
    let manifests = read_manifests(root, &manifest_dir, &mut unreadable);
    let markers: BTreeSet<Marker> =
        Marker::ALL.into_iter().filter(|marker| root.resolve(Path::new(marker.path())).exists()).collect();
    let kublr = read_kublr(root, &markers, &mut unreadable);
    let facts = HostFacts { manifest_dir, manifests, markers, etcd_config: None, kublr, unreadable };
    let etcd_config = wanted_config_file(&facts).map(|path| read_etcd_config(root, &path?));
    HostFacts { etcd_config, ..facts }
}

fn read_etcd_config(root: &HostRoot, path: &Path) -> Result<String, String> {
    match read_small(&root.resolve(path)) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("{} is no file", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Kublr's configuration; its program is asked only on the host itself, and only for what the file does not say.
fn read_kublr(root: &HostRoot, markers: &BTreeSet<Marker>, unreadable: &mut Vec<String>) -> KublrFiles {
    let mut kublr = KublrFiles::default();
    let path = Path::new(Marker::KublrConfig.path());
    if markers.contains(&Marker::KublrConfig) {
        match read_small(&root.resolve(path)) {
            Ok(text) => kublr.daemon = text,
            Err(error) => unreadable.push(format!("{} cannot be read: {error}", path.display())),
        }
    }
    let is_said = kublr.daemon.as_deref().is_some_and(|text| text.contains("etcd_storage"));
    if !is_said && markers.contains(&Marker::KublrProgram) && root.is_host() {
        kublr.validate = ask_kublr(Path::new(Marker::KublrProgram.path()));
    }
    kublr
}

/// What `kublr validate` prints; nothing where it takes longer than it should.
fn ask_kublr(program: &Path) -> Option<String> {
    let mut child = Command::new(program)
        .arg("validate")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut output = child.stdout.take()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    // A thread of its own, left behind where a child of the program keeps the pipe open.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if output.by_ref().take(LARGEST_MANIFEST).read_to_end(&mut text).is_ok() {
            let _ = sender.send(text);
        }
    });
    let begun = Instant::now();
    while begun.elapsed() < KUBLR_ANSWERS_WITHIN && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    let text = receiver.recv_timeout(Duration::from_secs(1)).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletConfig {
    static_pod_path: Option<PathBuf>,
}

fn kubelet_manifest_dir(root: &HostRoot, unreadable: &mut Vec<String>) -> PathBuf {
    let default = PathBuf::from(DEFAULT_MANIFEST_DIR);
    let text = match std::fs::read_to_string(root.resolve(Path::new(KUBELET_CONFIG))) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return default,
        Err(error) => {
            unreadable.push(format!("{KUBELET_CONFIG} cannot be read ({error}); {DEFAULT_MANIFEST_DIR} is assumed"));
            return default;
        }
    };
    match serde_norway::from_str::<KubeletConfig>(&text) {
        Ok(KubeletConfig { static_pod_path }) => static_pod_path.filter(|path| path.is_absolute()).unwrap_or(default),
        Err(error) => {
            unreadable.push(format!("{KUBELET_CONFIG} is not understood ({error}); {DEFAULT_MANIFEST_DIR} is assumed"));
            default
        }
    }
}

fn read_manifests(root: &HostRoot, directory: &Path, unreadable: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut manifests = BTreeMap::new();
    let entries = match std::fs::read_dir(root.resolve(directory)) {
        Ok(entries) => entries,
        Err(error) => {
            unreadable.push(format!("directory {} cannot be read: {error}", directory.display()));
            return manifests;
        }
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let host_path = directory.join(&name);
        match read_small(&root.resolve(&host_path)) {
            Ok(Some(text)) => {
                manifests.insert(name, text);
            }
            Ok(None) => {}
            Err(error) => unreadable.push(format!("{} cannot be read: {error}", host_path.display())),
        }
    }
    manifests
}

/// A regular file of a manifest's size; nothing for directories and the like.
fn read_small(path: &Path) -> io::Result<Option<String>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() > LARGEST_MANIFEST {
        return Err(io::Error::other(format!("{} bytes are too many for a manifest", metadata.len())));
    }
    std::fs::read_to_string(path).map(Some)
}

/// The first candidate whose three files exist, with the paths of this process.
fn choose_credentials(root: &HostRoot, candidates: &[CredentialFiles]) -> Result<Option<TlsFiles>, String> {
    let mut missing = Vec::new();
    for CredentialFiles { ca, cert, key } in candidates {
        let absent = [ca, cert, key].into_iter().find(|path| !root.resolve(path).is_file());
        match absent {
            None => {
                let files = TlsFiles { ca: root.resolve(ca), cert: root.resolve(cert), key: root.resolve(key) };
                return Ok(Some(files));
            }
            Some(path) => missing.push(path.display().to_string()),
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    Err(format!(
        "no client certificate for etcd: {} {} not exist on this host; on kubeadm `kubeadm init phase certs \
         etcd-healthcheck-client` makes one, else give --etcd-ca, --etcd-cert and --etcd-key",
        missing.join(" and "),
        if missing.len() == 1 { "does" } else { "do" },
    ))
}

#[cfg(test)]
mod tests;
