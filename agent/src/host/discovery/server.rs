//! Finds the manifest that runs a server, and reads its arguments. Pure.

use std::path::{Path, PathBuf};

use super::HostFacts;
use crate::host::arguments::{Arguments, parse_arguments};
use crate::host::static_pod::{Container, StaticPod, parse_static_pod};

/// A server found in a manifest.
pub struct Server {
    /// Its manifest's file name.
    pub file: String,
    /// The pod.
    pub pod: StaticPod,
    /// The container in it.
    pub container: Container,
    /// What the server was told.
    pub arguments: Arguments,
}

impl Server {
    /// The path on the host of a path in the container, or why there is none.
    pub fn host_path(&self, path: &str) -> Result<PathBuf, String> {
        self.pod.host_path(&self.container, Path::new(path)).map_err(|unmapped| unmapped.to_string())
    }

    /// The path on the host that a flag names.
    pub fn host_path_of(&self, flag: &str) -> Option<PathBuf> {
        self.arguments.get(flag).and_then(|path| self.host_path(path).ok())
    }
}

/// The manifest that runs `program`: the file of that name first, because the kubelet runs copies beside it as well.
pub fn find_server(facts: &HostFacts, program: &str, remarks: &mut Vec<String>) -> Option<Server> {
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

/// `3.6.6` of `registry.k8s.io/etcd:3.6.6-0` or `quay.io/coreos/etcd:v3.5.30@sha256:…`.
pub fn version_in_image(image: &str) -> Option<String> {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let (_, tag) = image.rsplit_once('/').map_or(image, |(_, last)| last).split_once(':')?;
    let version = tag.trim_start_matches('v').split(['-', '+', '_']).next()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (version.split('.').count() == 3 && version.split('.').all(is_number)).then(|| version.to_owned())
}
