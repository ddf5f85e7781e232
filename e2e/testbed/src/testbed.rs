//! The whole: claims a subnet, lays out machines and wires, has kubeadm write the files, starts everything and waits until all of it
//! is healthy. Its end is the end of everything it started.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::binaries::{Binaries, workspace};
use crate::front::S3Front;
use crate::front::etcd::EtcdFront;
use crate::machine::Machine;
use crate::network::{Network, set_port};
use crate::node::{AGENT_GROUP, NODE_DIRS, Node};
use crate::options::Options;
use crate::process::{ManagedProcess, Recipe, run};
use crate::s3::{S3, STORE_PORT};
use crate::summary::{MasterSummary, StoreSummary, Summary};
use crate::supervisor::{Birth, Followed, Pods, Supervisor};
use crate::sweep::{Claim, Identity};
use crate::wait::wait_for;
use crate::workdir::Workdir;
use crate::{kubeadm, registration};

/// Longest for one member to be restored: several GiB on a busy disk.
const RESTORE_LIMIT: Duration = Duration::from_secs(600);

/// A control plane of several masters and an object store, alive as long as this value.
// Fields are dropped from the top: first what starts processes, then the machines with all processes, then their files, and last
// the claim that lets the next testbed have the subnet.
#[derive(Debug)]
pub struct Testbed {
    supervisor: Option<Supervisor>,
    s3: S3,
    nodes: Vec<Node>,
    hub: Machine,
    network: Network,
    kubeconfig: PathBuf,
    binaries: Binaries,
    options: Options,
    workdir: Workdir,
    _claim: Claim,
}

/// Machines and wires, before anything runs.
struct Ground {
    claim: Claim,
    workdir: Workdir,
    network: Network,
    hub: Machine,
    store: Machine,
    nodes: Vec<Node>,
}

impl Testbed {
    /// Brings everything up and returns when it is healthy: every member of etcd, every API server, the controller manager's first
    /// work, the nodes, the store.
    ///
    /// # Errors
    /// When a program is missing, root is, or something is not healthy in time; then with the end of the logs. Nothing is left.
    pub async fn start(options: Options) -> Result<Self> {
        let begun = Instant::now();
        options.check()?;
        let binaries = Binaries::locate(options.etcd_line)?;
        let ground = {
            let (options, binaries) = (options.clone(), binaries.clone());
            tokio::task::spawn_blocking(move || lay_out(&options, &binaries)).await??
        };
        let Ground { claim, workdir, network, hub, store, mut nodes } = ground;
        let logs = workdir.path().join("logs");
        let store_dir = workdir.path().join("s3");
        let (s3, written) = tokio::join!(
            S3::start_in(store, network.store(), &store_dir, &logs, &binaries, &options.buckets),
            kubeadm::write_files(&nodes, &options),
        );
        let s3 = s3?;
        written?;
        tracing::debug!(elapsed = ?begun.elapsed(), "files are written");

        let members: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.ip)).collect();
        if let Some(snapshot) = &options.database {
            restore_members(&nodes, snapshot).await?;
            tracing::debug!(elapsed = ?begun.elapsed(), "members are restored");
        }
        let birth = Arc::new(Birth { initial_cluster: kubeadm::initial_cluster(&members), ..Birth::default() });
        let supervisor = Supervisor::start(nodes.iter().map(followed).collect(), birth.clone())?;
        for node in &mut nodes {
            node.wake = Some(supervisor.waker());
        }
        let kubeconfig = workdir.path().join("kubeconfig");
        let super_admin = nodes.first().context("no nodes")?.path("/etc/kubernetes/super-admin.conf");
        let mut bed = Self {
            supervisor: Some(supervisor),
            s3,
            nodes,
            hub,
            network,
            kubeconfig: super_admin,
            binaries,
            options,
            workdir,
            _claim: claim,
        };

        bed.etcd_healthy(bed.options.start_timeout).await?;
        birth.over.store(true, Ordering::SeqCst);
        tracing::debug!(elapsed = ?begun.elapsed(), "etcd is healthy");
        if bed.options.api_servers > 0 {
            bed.api_ready(bed.options.start_timeout).await?;
            tracing::debug!(elapsed = ?begun.elapsed(), "API is ready");
            bed.populate().await?;
        }
        // From here on as kubeadm's administrator, whose power the binding has just given.
        fs::copy(bed.first().path("/etc/kubernetes/admin.conf"), &kubeconfig)?;
        bed.kubeconfig = kubeconfig;
        bed.summary()?.write(bed.dir())?;
        tracing::info!(elapsed = ?begun.elapsed(), dir = %bed.dir().display(), "testbed is ready");
        Ok(bed)
    }

    async fn populate(&self) -> Result<()> {
        let nodes = futures::future::try_join_all(self.nodes.iter().map(|node| registration::create_node(self, node)));
        let controllers = async {
            if !self.options.controller_manager {
                return Ok(());
            }
            let account = ["get", "--raw", "/api/v1/namespaces/default/serviceaccounts/default"];
            wait_for("the controller manager's first work", self.options.start_timeout, async || {
                self.kubectl(&account).await.map(|_account| true)
            })
            .await
            .with_context(|| self.first().pod_log_tail("kube-controller-manager"))
        };
        let (binding, nodes, controllers) = tokio::join!(registration::create_admin_binding(self), nodes, controllers);
        binding?;
        nodes?;
        controllers
    }

    /// Waits until every member of etcd serves linearizable reads.
    ///
    /// # Errors
    /// After `limit`, with the end of the members' logs.
    pub async fn etcd_healthy(&self, limit: Duration) -> Result<()> {
        let endpoints = self.nodes.iter().map(|node| format!("https://{}:2379", node.ip)).collect::<Vec<_>>().join(",");
        let args = ["endpoint", "health", "--command-timeout=3s", "--endpoints", &endpoints];
        wait_for("all members of etcd healthy", limit, async || {
            self.etcdctl(self.first(), &args).await.map(|_healthy| true)
        })
        .await
        .with_context(|| self.nodes.iter().map(|node| node.pod_log_tail("etcd")).collect::<Vec<_>>().join("\n"))
    }

    /// Waits until every API server that is to run says it is ready.
    ///
    /// # Errors
    /// After `limit`, with the end of its log.
    pub async fn api_ready(&self, limit: Duration) -> Result<()> {
        for node in self.nodes.iter().take(self.options.api_servers) {
            let server = format!("https://{}:6443", node.ip);
            let args = ["get", "--raw", "/readyz", "--request-timeout=3s", "--server", &server];
            wait_for(&format!("API server of {} ready", node.name), limit, async || {
                self.kubectl(&args).await.map(|answer| answer == "ok")
            })
            .await
            .with_context(|| node.pod_log_tail("kube-apiserver"))?;
        }
        Ok(())
    }

    /// Administrator's kubeconfig, for the first API server.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// URL of the first API server.
    #[must_use]
    pub fn api_server(&self) -> String {
        format!("https://{}:6443", self.first().ip)
    }

    /// Where all files of this testbed are, `logs` among them.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.workdir.path()
    }

    /// The masters.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The object store.
    #[must_use]
    pub const fn s3(&self) -> &S3 {
        &self.s3
    }

    /// The programs in use.
    #[must_use]
    pub const fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    #[expect(clippy::indexing_slicing, reason = "options demand one master at least")]
    fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// Starts a program on a node, or on the hub (a machine on the bridge that is no master; the host reaches its ports at
    /// [`Self::hub_address`]). It gets a clean environment with PATH, HOME and `env`; its output goes to `logs/<node>/<log>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_in<S: AsRef<OsStr>>(
        &self,
        node: Option<&Node>,
        program: impl AsRef<OsStr>,
        args: &[S],
        env: &[(&str, &str)],
        log: &str,
    ) -> Result<ManagedProcess> {
        let group = ["setpriv", "--groups", AGENT_GROUP, "--"];
        let line = group.iter().filter(|_| node.is_some()).map(OsString::from);
        let line =
            line.chain([program.as_ref().to_owned()]).chain(args.iter().map(|argument| argument.as_ref().to_owned()));
        ManagedProcess::start(Recipe {
            entrance: node.map_or_else(|| self.hub.entrance(), Node::entrance),
            search_path: self.binaries.search_path(),
            line: line.collect(),
            env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            log: self.dir().join("logs").join(node.map_or("hub", |node| node.name.as_str())).join(format!("{log}.log")),
        })
    }

    /// Address of the hub.
    #[must_use]
    pub fn hub_address(&self) -> std::net::Ipv4Addr {
        self.network.hub()
    }

    /// Pulls a node's network cable: peers and clients get no answer, not even a refusal. It still reaches itself.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn disconnect(&self, node: &Node) -> Result<()> {
        set_port(&self.hub, &node.port(), false)
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn reconnect(&self, node: &Node) -> Result<()> {
        set_port(&self.hub, &node.port(), true)
    }

    /// Pulls the object store's cable: uploads hang instead of failing.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn disconnect_s3(&self) -> Result<()> {
        set_port(&self.hub, STORE_PORT, false)
    }

    /// Plugs the object store's cable in again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn reconnect_s3(&self) -> Result<()> {
        set_port(&self.hub, STORE_PORT, true)
    }

    /// A front before the object store that can be made ill; healthy at first.
    ///
    /// # Errors
    /// When it cannot listen, or openssl is missing.
    pub async fn s3_front(&self) -> Result<S3Front> {
        self.s3.front(self.network.host()).await
    }

    /// A front before a member of etcd that can be made ill; healthy at first. An agent is pointed at it by `--etcd-endpoint`.
    ///
    /// # Errors
    /// When it cannot listen, or openssl is missing.
    pub async fn etcd_front(&self, node: &Node) -> Result<EtcdFront> {
        EtcdFront::start(self.network.host().into(), node).await
    }

    /// Sets the Ready condition of a node's object; nothing else does, as no kubelet runs.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_node_ready(&self, node: &Node, ready: bool) -> Result<()> {
        registration::write_ready(self, node, ready).await
    }

    /// Leaves the directory when the testbed ends.
    pub fn keep(&mut self) {
        self.workdir.keep();
    }

    /// Ends everything and returns when it is gone. Dropping does the same, blocking the thread for it.
    ///
    /// # Errors
    /// When the thread that does it fails.
    pub async fn shutdown(self) -> Result<()> {
        tokio::task::spawn_blocking(move || drop(self)).await?;
        Ok(())
    }

    fn summary(&self) -> Result<Summary> {
        let S3 { endpoint, region, ca_file, credentials_file, data_dir, .. } = &self.s3;
        Ok(Summary {
            name: self.options.name.clone(),
            owner: Identity::of(std::process::id()).context("own process is not in /proc")?,
            etcd_line: self.options.etcd_line,
            kubeconfig: self.kubeconfig.clone(),
            api_server: self.api_server(),
            search_path: self.binaries.search_path().to_string_lossy().into_owned(),
            masters: self.nodes.iter().map(master_summary).collect(),
            s3: StoreSummary {
                endpoint: endpoint.clone(),
                region: region.clone(),
                ca_file: ca_file.clone(),
                credentials_file: credentials_file.clone(),
                data_dir: data_dir.clone(),
            },
        })
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // Before the machines, or it would start again what they take down.
        drop(self.supervisor.take());
        self.nodes.iter().for_each(|node| node.machine.power_off());
        self.s3.machine.power_off();
        self.hub.power_off();
        self.network.disconnect_hub();
    }
}

fn master_summary(node: &Node) -> MasterSummary {
    MasterSummary { name: node.name.clone(), ip: node.ip, root: node.root.clone(), init: node.machine.init().pid }
}

/// Gives every member the content of a snapshot, as one new cluster.
async fn restore_members(nodes: &[Node], snapshot: &Path) -> Result<()> {
    let members: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.ip)).collect();
    for node in nodes {
        let mut command = node.std_command("etcdutl");
        command.args(["snapshot", "restore", "--data-dir", "/var/lib/etcd", "--name", &node.name]);
        command.args(["--initial-cluster", &kubeadm::initial_cluster(&members)]);
        command.args(["--initial-advertise-peer-urls", &format!("https://{}:2380", node.ip)]).arg(snapshot);
        run(command, RESTORE_LIMIT).await.with_context(|| format!("restoring {}", node.name))?;
    }
    Ok(())
}

fn followed(node: &Node) -> Followed {
    Followed {
        node: node.name.clone(),
        manifests: node.path(crate::node::MANIFESTS),
        member: node.path("/var/lib/etcd/member"),
        logs: node.logs.clone(),
        entrance: node.entrance(),
        search_path: node.search_path.clone(),
        pods: node.pods.clone(),
    }
}

/// Everything that blocks: directories, namespaces, wires.
fn lay_out(options: &Options, binaries: &Binaries) -> Result<Ground> {
    let mut claim = Claim::take()?;
    let network = Network::new(claim.subnet);
    let keep = options.keep || std::env::var_os("LIFEBOAT_TESTBED_KEEP").is_some_and(|value| value == "1");
    let own = || {
        workspace().join("target/testbed/beds").join(format!(
            "{}-{}-{}",
            options.name,
            claim.subnet,
            std::process::id()
        ))
    };
    let dir = options.dir.clone().unwrap_or_else(own);
    let workdir = Workdir::create(dir, keep)?;
    claim.record(&options.name, workdir.path(), keep, Vec::new())?;
    for dir in ["home", "s3"] {
        fs::create_dir_all(workdir.path().join(dir))?;
    }
    let hub = Machine::boot("hub", &[])?;
    network.connect_hub(&hub)?;
    let store = Machine::boot("store", &[])?;
    network.plug(&hub, &store, STORE_PORT, network.store())?;
    let mut nodes = Vec::with_capacity(options.masters);
    for ordinal in 0..u8::try_from(options.masters)? {
        let node = build_node(ordinal, options, binaries, network, workdir.path())?;
        network.plug(&hub, &node.machine, &node.port(), node.ip)?;
        nodes.push(node);
    }
    let machines = nodes.iter().map(|node| &node.machine).chain([&hub, &store]).map(Machine::init).collect();
    claim.record(&options.name, workdir.path(), keep, machines)?;
    Ok(Ground { claim, workdir, network, hub, store, nodes })
}

fn build_node(ordinal: u8, options: &Options, binaries: &Binaries, network: Network, dir: &Path) -> Result<Node> {
    let name = format!("master-{ordinal}");
    let root = dir.join(&name);
    let own = NODE_DIRS.iter().map(PathBuf::from).chain(options.node_dirs.iter().cloned());
    let binds: Vec<_> = own.map(|path| (crate::machine::on_host(&root, &path), path)).collect();
    let machine = Machine::boot(&name, &binds)?;
    Ok(Node {
        ip: network.node(ordinal),
        ordinal,
        logs: dir.join("logs").join(&name),
        machine,
        search_path: binaries.search_path(),
        pods: Arc::new(Pods::default()),
        wake: None,
        name,
        root,
    })
}
