//! Static pod manifests, read the way kubelet reads them: every file of the directory whose name does not begin with a dot. Only what
//! it takes to run the first container's command as a process is understood. Reads files, starts nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// kubelet's default for pods that name none; kubeadm's name none.
const GRACE_SECONDS: u64 = 30;

/// One pod, as far as it can be run without containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub pod: String,
    /// `command` and `args` of the first container, behind what makes it another user where the pod is to run as one.
    pub line: Vec<String>,
    /// Variables with a literal value.
    pub env: Vec<(String, String)>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The file as read: any change of it restarts the pod.
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    termination_grace_period_seconds: Option<u64>,
    #[serde(default)]
    security_context: SecurityContext,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecurityContext {
    run_as_user: Option<u32>,
    run_as_group: Option<u32>,
}

impl SecurityContext {
    /// What goes before a command.
    fn prefix(&self) -> Vec<String> {
        let Self { run_as_user: Some(user), run_as_group } = *self else { return Vec::new() };
        let group = run_as_group.unwrap_or(0);
        let flags = [format!("--reuid={user}"), format!("--regid={group}")];
        let all = ["setpriv".to_owned()].into_iter().chain(flags);
        all.chain(["--clear-groups".to_owned(), "--".to_owned()]).collect()
    }
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: Option<String>,
}

/// `Err` holds the reason why the file does not describe a pod that can be run.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    let Pod { metadata: Metadata { name: pod }, spec } =
        serde_norway::from_slice(bytes).map_err(|error| error.to_string())?;
    let Spec { containers, termination_grace_period_seconds, security_context } = spec;
    let container = containers.into_iter().next().ok_or("no container")?;
    let Container { command, args, env } = container;
    if command.is_empty() {
        return Err("no command, and there are no images to take one from".to_owned());
    }
    Ok(Manifest {
        pod,
        line: security_context.prefix().into_iter().chain(command).chain(args).collect(),
        env: env.into_iter().filter_map(|Variable { name, value }| Some((name, value?))).collect(),
        grace: Duration::from_secs(termination_grace_period_seconds.unwrap_or(GRACE_SECONDS)),
        bytes: bytes.to_vec(),
    })
}

/// Reads one directory again and again; a file is parsed only when its content changed.
#[derive(Debug, Default)]
pub(crate) struct ManifestReader {
    seen: BTreeMap<PathBuf, (Vec<u8>, Option<Manifest>)>,
}

impl ManifestReader {
    /// Pods by name. What cannot be read or parsed is not there, as for kubelet; of two files for one pod the first by name counts.
    pub(crate) fn read(&mut self, directory: &Path) -> BTreeMap<String, Manifest> {
        let mut files: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        self.seen.retain(|path, _| files.contains(path));
        let mut pods = BTreeMap::new();
        for file in files {
            let Ok(bytes) = fs::read(&file) else { continue };
            if self.seen.get(&file).is_none_or(|(known, _)| *known != bytes) {
                let manifest = parse_manifest(&bytes)
                    .inspect_err(|reason| tracing::warn!(file = %file.display(), reason, "manifest ignored"))
                    .ok();
                self.seen.insert(file.clone(), (bytes, manifest));
            }
            if let Some((_, Some(manifest))) = self.seen.get(&file) {
                pods.entry(manifest.pod.clone()).or_insert_with(|| manifest.clone());
            }
        }
        pods
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "metadata: {name: etcd}\nspec:\n  containers:\n  - command: [etcd, --name=a]\n    args: [--x]\n    env: [{name: A, value: b}, {name: C, valueFrom: {}}]\n";

    #[test]
    fn command_args_and_literal_variables_are_taken() {
        let manifest = parse_manifest(POD.as_bytes()).expect("a pod");
        assert_eq!(manifest.pod, "etcd");
        assert_eq!(manifest.line, ["etcd", "--name=a", "--x"]);
        assert_eq!(manifest.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(manifest.grace, Duration::from_secs(30));
    }

    #[test]
    fn a_pod_of_another_user_is_run_as_that() {
        let text = POD.replace("spec:\n", "spec:\n  securityContext: {runAsUser: 42, runAsGroup: 43}\n");
        let line = parse_manifest(text.as_bytes()).expect("a pod").line;
        assert_eq!(line[..5], ["setpriv", "--reuid=42", "--regid=43", "--clear-groups", "--"]);
        assert_eq!(line[5..], ["etcd", "--name=a", "--x"]);
        let text = POD.replace("spec:\n", "spec:\n  securityContext: {seccompProfile: {type: RuntimeDefault}}\n");
        assert_eq!(parse_manifest(text.as_bytes()).expect("a pod").line[0], "etcd");
    }

    #[test]
    fn what_cannot_be_run_says_why() {
        assert!(parse_manifest(b"metadata: {name: x}\nspec: {containers: []}").is_err());
        assert!(parse_manifest(b"metadata: {name: x}\nspec: {containers: [{image: y}]}").is_err());
        assert!(parse_manifest(b": : :").is_err());
    }

    #[test]
    fn dot_files_and_half_written_files_are_not_pods() {
        let directory = tempfile::tempdir().expect("directory");
        let mut reader = ManifestReader::default();
        fs::write(directory.path().join(".etcd.yaml"), POD).expect("file");
        assert!(reader.read(directory.path()).is_empty());
        fs::write(directory.path().join("etcd.yaml"), &POD[..30]).expect("file");
        assert!(reader.read(directory.path()).is_empty());
        fs::write(directory.path().join("etcd.yaml"), POD).expect("file");
        assert_eq!(reader.read(directory.path()).len(), 1);
        fs::remove_file(directory.path().join("etcd.yaml")).expect("remove");
        assert!(reader.read(directory.path()).is_empty());
    }

    #[test]
    fn any_change_of_the_file_makes_another_manifest() {
        let commented = format!("{POD}# touched\n");
        assert_ne!(parse_manifest(POD.as_bytes()), parse_manifest(commented.as_bytes()));
    }
}
