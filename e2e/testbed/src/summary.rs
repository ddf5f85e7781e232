//! `testbed.json`: what people and scripts need to know about a running testbed. Holds paths to secrets, no secrets.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::options::EtcdLine;
use crate::sweep::Identity;

const FILE: &str = "testbed.json";

/// A running testbed, written once it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Name given in its options.
    pub name: String,
    /// Process that keeps it up.
    pub(crate) owner: Identity,
    /// Line of etcd.
    pub etcd_line: EtcdLine,
    /// Administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// URL of the first API server.
    pub api_server: String,
    /// Search path for kubectl, etcdctl and the others.
    pub search_path: String,
    /// Every master.
    pub masters: Vec<MasterSummary>,
    /// The S3 server.
    pub s3: StoreSummary,
}

/// One master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MasterSummary {
    /// Node name.
    pub name: String,
    /// Address.
    pub ip: Ipv4Addr,
    /// The directory that holds its own `/etc/kubernetes` and so on.
    pub root: PathBuf,
    /// Process whose namespaces are the master's, for nsenter.
    pub init: u32,
}

/// The S3 server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreSummary {
    /// URL.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// File with the CA's certificate.
    pub ca_file: PathBuf,
    /// File with credentials, as AWS programs read them.
    pub credentials_file: PathBuf,
    /// Buckets are directories in here.
    pub data_dir: PathBuf,
}

impl Summary {
    /// Reads the summary of a testbed by its directory.
    ///
    /// # Errors
    /// When no testbed ever became ready there.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let text =
            fs::read(&file).with_context(|| format!("no testbed in {}: {FILE} cannot be read", dir.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not understood", file.display()))
    }

    /// Under its final name only when complete, as scripts wait for the file.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let part = dir.join(".testbed.json.part");
        fs::write(&part, serde_json::to_vec_pretty(self)?)?;
        fs::rename(part, dir.join(FILE))?;
        Ok(())
    }

    /// Whether the process that keeps the testbed up still lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.owner.is_alive()
    }

    /// Asks the owner to shut the testbed down.
    pub fn terminate(&self) {
        self.owner.signal(rustix::process::Signal::TERM);
    }
}
