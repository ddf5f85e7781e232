//! A static pod's manifest, as far as it tells how a server runs: arguments, environment, mounts, host paths.
//!
//! Pure. Reads only what discovery needs and ignores the rest, so that fields of later Kubernetes versions cannot hurt.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// A pod that the kubelet starts from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticPod {
    /// Name of the pod.
    pub name: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Where its volumes lie, by name.
    pub volumes: BTreeMap<String, VolumeSource>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// Entry point and the arguments written with it.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, EnvValue>,
    /// Volumes mounted, as (path in the container, volume, path in the volume).
    pub mounts: Vec<Mount>,
}

/// Value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// As the manifest says.
    Literal(String),
    /// From a field of the pod or another object; not in the manifest.
    Elsewhere,
}

/// A volume mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path in the container.
    pub at: PathBuf,
    /// Name of the volume.
    pub volume: String,
    /// Path within the volume; empty for its root.
    pub sub_path: PathBuf,
}

/// Where a volume lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host.
    Host(PathBuf),
    /// Anything else; not on a path of the host that we know.
    Other,
}

/// Where a path in a container lies on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path itself.
    pub host: PathBuf,
    /// What of the host is mounted.
    pub volume_root: PathBuf,
    /// Where the container sees that.
    pub mounted_at: PathBuf,
}

/// Why a path in a container has no path on the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// No volume is mounted there: the files live and die with the container.
    #[error("{0} is inside the container: no volume is mounted at it or above it")]
    InContainer(PathBuf),
    /// The volume is not of type hostPath.
    #[error("{path} lies in volume {volume:?}, which is not a hostPath")]
    NotHostPath {
        /// Path in the container.
        path: PathBuf,
        /// Name of the volume.
        volume: String,
    },
    /// The mount names a volume that the pod does not have.
    #[error("{path} lies in volume {volume:?}, which the manifest mounts but does not define")]
    NoSuchVolume {
        /// Path in the container.
        path: PathBuf,
        /// Name of the volume.
        volume: String,
    },
    /// Not an absolute path, or one with `..` in it.
    #[error("{0} is not an absolute path without \"..\"")]
    NotAbsolute(PathBuf),
}

/// Reads a manifest; the error is the parser's words.
pub fn parse_static_pod(text: &str) -> Result<StaticPod, serde_norway::Error> {
    let wire: WirePod = serde_norway::from_str(text)?;
    let volumes = wire.spec.volumes.into_iter().map(|volume| {
        let source = volume.host_path.map_or(VolumeSource::Other, |host| VolumeSource::Host(host.path));
        (volume.name, source)
    });
    Ok(StaticPod {
        name: wire.metadata.name,
        volumes: volumes.collect(),
        containers: wire.spec.containers.into_iter().map(Container::from).collect(),
    })
}

impl StaticPod {
    /// The container that runs `program`: by the program it starts, else by its name.
    pub fn container_running(&self, program: &str) -> Option<&Container> {
        let runs = |container: &&Container| container.program() == Some(program);
        // Kublr's are named after their pods.
        let is_named =
            |container: &&Container| container.name.strip_prefix("k8s-").unwrap_or(&container.name) == program;
        self.containers.iter().find(runs).or_else(|| self.containers.iter().find(is_named))
    }

    /// The path on the host of a path in `container`, by the mount that covers it most closely.
    pub fn host_path(&self, container: &Container, path: &Path) -> Result<PathBuf, Unmapped> {
        self.mounted(container, path).map(|place| place.host)
    }

    /// Where a path in `container` lies on the host, and in which volume.
    pub fn mounted(&self, container: &Container, path: &Path) -> Result<Place, Unmapped> {
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(Unmapped::NotAbsolute(path.to_owned()));
        }
        let mount = container
            .mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.at))
            .max_by_key(|mount| mount.at.components().count())
            .ok_or_else(|| Unmapped::InContainer(path.to_owned()))?;
        let volume = mount.volume.clone();
        match self.volumes.get(&volume) {
            Some(VolumeSource::Host(host)) => {
                let below = path.strip_prefix(&mount.at).unwrap_or(Path::new(""));
                // Rebuilt from components, so that an empty remainder leaves no slash at the end.
                let volume_root: PathBuf = host.join(&mount.sub_path).components().collect();
                let host = volume_root.join(below).components().collect();
                Ok(Place { host, volume_root, mounted_at: mount.at.components().collect() })
            }
            Some(VolumeSource::Other) => Err(Unmapped::NotHostPath { path: path.to_owned(), volume }),
            None => Err(Unmapped::NoSuchVolume { path: path.to_owned(), volume }),
        }
    }
}

impl Container {
    /// File name of the program that `command` starts, looking through Lifeboat's supervisor.
    pub fn program(&self) -> Option<&str> {
        Path::new(self.words().next()?).file_name()?.to_str()
    }

    /// Command line of the server: `command` and `args`, without Lifeboat's supervisor (`lifeboat etcd-pod … --`) in front.
    pub fn words(&self) -> impl Iterator<Item = &String> {
        let all = || self.command.iter().chain(&self.args);
        let skipped = if self.is_supervised() { all().position(|word| word == "--").map_or(0, |at| at + 1) } else { 0 };
        all().skip(skipped)
    }

    /// Whether Lifeboat's supervisor starts the server.
    pub fn is_supervised(&self) -> bool {
        let mut words = self.command.iter().chain(&self.args);
        let is_ours = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "lifeboat");
        words.next().is_some_and(is_ours) && words.next().is_some_and(|word| word == "etcd-pod")
    }

    /// Whether a shell starts the server, which hides its arguments in a script.
    pub fn is_shell(&self) -> bool {
        matches!(self.program(), Some("sh" | "bash" | "ash" | "dash"))
    }
}

#[derive(Deserialize)]
struct WirePod {
    #[serde(default)]
    metadata: WireMetadata,
    spec: WireSpec,
}

#[derive(Default, Deserialize)]
struct WireMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct WireSpec {
    containers: Vec<WireContainer>,
    #[serde(default)]
    volumes: Vec<WireVolume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    #[serde(default)]
    name: String,
    image: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<WireEnv>,
    #[serde(default)]
    volume_mounts: Vec<WireMount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEnv {
    name: String,
    value: Option<String>,
    value_from: Option<serde_norway::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMount {
    name: String,
    mount_path: PathBuf,
    #[serde(default)]
    sub_path: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVolume {
    name: String,
    host_path: Option<WireHostPath>,
}

#[derive(Deserialize)]
struct WireHostPath {
    path: PathBuf,
}

impl From<WireContainer> for Container {
    fn from(wire: WireContainer) -> Self {
        let WireContainer { name, image, command, args, env, volume_mounts } = wire;
        let env = env.into_iter().map(|WireEnv { name, value, value_from }| {
            let value =
                if value_from.is_some() { EnvValue::Elsewhere } else { EnvValue::Literal(value.unwrap_or_default()) };
            (name, value)
        });
        let mounts = volume_mounts.into_iter().map(|WireMount { name, mount_path, sub_path }| Mount {
            at: mount_path,
            volume: name,
            sub_path,
        });
        Self { name, image, command, args, env: env.collect(), mounts: mounts.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(mounts: &[(&str, &str, &str)], volumes: &[(&str, VolumeSource)]) -> StaticPod {
        let mounts = mounts.iter().map(|&(at, volume, sub_path)| Mount {
            at: at.into(),
            volume: volume.into(),
            sub_path: sub_path.into(),
        });
        StaticPod {
            name: "etcd".into(),
            containers: vec![Container { mounts: mounts.collect(), ..Container::default() }],
            volumes: volumes.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect(),
        }
    }

    fn host(path: &str) -> VolumeSource {
        VolumeSource::Host(path.into())
    }

    #[test]
    fn a_path_is_mapped_by_the_closest_mount() {
        let pod = pod(
            &[("/var/lib/etcd", "data", ""), ("/var/lib", "lib", ""), ("/wal", "data", "member/wal")],
            &[("data", host("/mnt/disk/etcd/")), ("lib", host("/srv"))],
        );
        for (inside, outside) in [
            ("/var/lib/etcd", "/mnt/disk/etcd"),
            ("/var/lib/etcd/deep/er", "/mnt/disk/etcd/deep/er"),
            ("/var/lib/etcd2", "/srv/etcd2"),
            ("/wal", "/mnt/disk/etcd/member/wal"),
        ] {
            assert_eq!(pod.host_path(&pod.containers[0], Path::new(inside)), Ok(outside.into()), "{inside}");
        }
    }

    #[test]
    fn a_path_without_a_host_path_says_why() {
        let pod = pod(&[("/a", "tmp", ""), ("/b", "gone", "")], &[("tmp", VolumeSource::Other)]);
        let words = |path: &str| pod.host_path(&pod.containers[0], Path::new(path)).unwrap_err().to_string();
        assert!(words("/a/x").contains("not a hostPath"));
        assert!(words("/b").contains("does not define"));
        assert!(words("/c").contains("no volume is mounted"));
        assert!(words("default.etcd").contains("absolute"));
        assert!(words("/a/../etc").contains("absolute"));
    }

    #[test]
    fn a_manifest_in_json_and_unknown_fields_are_read() {
        let text = r#"{"kind":"Pod","metadata":{"name":"e","new":1},"spec":{"future":true,"containers":[
            {"name":"etcd","command":["/usr/local/bin/etcd"],"env":[{"name":"A","value":"1"},
            {"name":"B","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}]}]}}"#;
        let pod = parse_static_pod(text).unwrap();
        let container = pod.container_running("etcd").unwrap();
        assert_eq!(container.program(), Some("etcd"));
        assert_eq!(container.env["A"], EnvValue::Literal("1".into()));
        assert_eq!(container.env["B"], EnvValue::Elsewhere);
    }

    #[test]
    fn text_that_is_no_pod_is_an_error() {
        for text in ["", "[]", "kind: Pod", "spec: {containers: 3}", "a: b: c"] {
            assert!(parse_static_pod(text).is_err(), "{text:?}");
        }
    }
}
