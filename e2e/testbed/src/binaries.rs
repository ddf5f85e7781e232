//! Where the components' programs are. They are built once by `hack/build-tools.sh`; this file only finds them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::options::EtcdLine;

/// The directory that `hack/build-tools.sh` fills, seen with one line of etcd in front.
#[derive(Debug, Clone)]
pub struct Binaries {
    root: PathBuf,
    line: EtcdLine,
}

/// The workspace this crate was compiled in; tests and the demo run from a checkout.
pub(crate) fn workspace() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).to_path_buf()
}

impl Binaries {
    /// Finds the programs under `$LIFEBOAT_TESTBED`, else under `target/testbed` of the workspace.
    ///
    /// # Errors
    /// When one is missing; the message says how to build it.
    pub fn locate(line: EtcdLine) -> Result<Self> {
        let root =
            std::env::var_os("LIFEBOAT_TESTBED").map_or_else(|| workspace().join("target/testbed"), PathBuf::from);
        let found = Self { root, line };
        let needed = [
            "kube-apiserver",
            "kube-controller-manager",
            "kubeadm",
            "kubectl",
            "versitygw",
            "helm",
            "etcd",
            "etcdctl",
            "etcdutl",
        ];
        let missing: Vec<_> = needed.into_iter().filter(|program| !found.program(program).exists()).collect();
        if !missing.is_empty() {
            bail!(
                "{} not found for etcd {line} in {}: run hack/build-tools.sh",
                missing.join(", "),
                found.root.display()
            );
        }
        Ok(found)
    }

    /// The directory above `bin`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of a program; etcd's own three come from the chosen line.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        let bin = self.root.join("bin");
        match name {
            "etcd" | "etcdctl" | "etcdutl" => bin.join(self.line.name()).join(name),
            _ => bin.join(name),
        }
    }

    /// Path of a program of another line of etcd, say to read an old data directory with a newer etcdutl.
    #[must_use]
    pub fn of_line(&self, line: EtcdLine, name: &str) -> PathBuf {
        Self { root: self.root.clone(), line }.program(name)
    }

    /// The search path of every process in the testbed: a manifest says `etcd`, and the chosen line's is first.
    pub(crate) fn search_path(&self) -> OsString {
        let bin = self.root.join("bin");
        let mut path = bin.join(self.line.name()).into_os_string();
        path.push(":");
        path.push(bin);
        path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        path
    }
}
