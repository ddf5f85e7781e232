//! One cluster with Lifeboat at work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lifeboat_testbed::{EtcdLine, ManagedProcess, Node, Options, S3Front, Testbed};
use serde_json::{Value, json};

use crate::manifests::S3Objects;
use crate::wait::eventually;

/// Namespace that Lifeboat is installed in. Not its default, so that nothing depends on the name.
pub const NAMESPACE: &str = "backup-system";
/// Bucket of the testbed's S3 server that the tests use.
pub const BUCKET: &str = "etcd-backups";

/// Name of a directory that every agent mounts.
pub const SHARED: &str = "shared";
/// A mount that every agent has, each with a directory of its own: what a location must not be.
pub const OWN: &str = "own";

/// Port of the first operator's metrics and probes.
const OPERATOR_PORT: usize = 9080;

/// Port of an agent's metrics and probes.
const AGENT_PORT: u16 = 8081;

/// Whose probes and metrics are asked for.
#[derive(Clone, Copy)]
pub enum Served<'c> {
    Operator,
    Agent(&'c str),
}

/// How a cluster is made.
pub struct Setup {
    pub name: String,
    pub etcd_line: EtcdLine,
    pub operators: usize,
    pub dir: Option<PathBuf>,
    pub namespace: String,
    /// All else of the testbed.
    pub bed: Options,
}

impl Setup {
    pub fn named(name: &str) -> Self {
        let (etcd_line, namespace, bed) = (EtcdLine::V3_6, NAMESPACE.into(), Options::default());
        Self { name: name.into(), etcd_line, operators: 1, dir: None, namespace, bed }
    }
}

/// A cluster with Lifeboat at work. Everything ends with [`Cluster::shutdown`], or when it is dropped.
pub struct Cluster {
    pub bed: Testbed,
    pub namespace: String,
    pub operators: Vec<ManagedProcess>,
    pub agents: BTreeMap<String, ManagedProcess>,
    binaries: PathBuf,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_owned()
}

/// Where the binaries under test are: `LIFEBOAT_BIN_DIR`, else the static release build.
fn binaries() -> Result<PathBuf> {
    let dir = std::env::var_os("LIFEBOAT_BIN_DIR")
        .map_or_else(|| workspace().join("target/x86_64-unknown-linux-gnu/release"), PathBuf::from);
    for name in ["lifeboat", "lifeboat-operator"] {
        if !dir.join(name).exists() {
            bail!("{} does not exist: run `make dist`, or set LIFEBOAT_BIN_DIR", dir.join(name).display());
        }
    }
    Ok(dir)
}

impl Cluster {
    /// Starts a testbed, installs the chart's API objects, starts operators and agents, and waits until all are ready.
    pub async fn start(setup: Setup) -> Result<Self> {
        let binaries = binaries()?;
        let Setup { name, etcd_line, operators, dir, namespace, bed } = setup;
        let buckets = vec![BUCKET.to_owned()];
        let bed = Testbed::start(Options { name, etcd_line, dir, buckets, ..bed }).await?;
        let mut cluster = Self { bed, namespace, operators: vec![], agents: BTreeMap::new(), binaries };
        std::fs::create_dir(cluster.shared_dir())?;
        cluster.install().await.context("installing the chart")?;
        for index in 0..operators {
            cluster.start_operator(index).await?;
        }
        for node in cluster.node_names() {
            cluster.start_agent(&node).await?;
        }
        cluster.wait_members_ready().await?;
        Ok(cluster)
    }

    pub fn node_names(&self) -> Vec<String> {
        self.bed.nodes().iter().map(|node| node.name.clone()).collect()
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.bed.nodes().iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// Applies what the chart renders, but for the workloads: there is no kubelet here to run pods.
    async fn install(&self) -> Result<()> {
        let chart = workspace().join("charts/lifeboat");
        let rendered =
            self.bed.helm(&["template", "lifeboat", &chart.to_string_lossy(), "-n", &self.namespace]).await?;
        let mut kept = vec![];
        for document in serde_norway::Deserializer::from_str(&rendered) {
            let object = <Value as serde::Deserialize>::deserialize(document)?;
            if !object.is_null() && !matches!(object["kind"].as_str(), Some("Deployment" | "DaemonSet")) {
                kept.push(object);
            }
        }
        self.bed.kubectl(&["create", "namespace", &self.namespace]).await?;
        let (definitions, rest): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|object| object["kind"] == "CustomResourceDefinition");
        self.apply_list(definitions).await?;
        self.bed.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await?;
        self.apply_list(rest).await
    }

    /// A warning of the API server about an object of the chart is a defect.
    async fn apply_list(&self, items: Vec<Value>) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        let args = ["-n", &self.namespace, "apply", "--server-side", "--warnings-as-errors", "-f", "-"];
        self.bed.kubectl_with_input(&args, &list.to_string()).await.map(drop)
    }

    /// `kubectl apply` of an object; a default namespace is Lifeboat's.
    pub async fn apply(&self, object: &Value) -> Result<String> {
        let args = ["-n", &self.namespace, "apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.bed.kubectl_with_input(&args, &object.to_string()).await
    }

    /// kubectl in Lifeboat's namespace: what it prints on both streams; an error where it fails.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend_from_slice(args);
        self.bed.kubectl(&all).await
    }

    /// One object as JSON; `None` where it does not exist.
    pub async fn get(&self, resource: &str, name: &str) -> Result<Option<Value>> {
        let text = self.kubectl(&["get", resource, name, "-o", "json", "--ignore-not-found"]).await?;
        Ok(if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text)?) })
    }

    /// Every object of a resource.
    pub async fn list(&self, resource: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", resource, "-o", "json"]).await?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until an object is as `good` wants it, and gives it.
    pub async fn wait_for(
        &self,
        resource: &str,
        name: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let last = std::cell::RefCell::new(Value::Null);
        let waited = eventually(&format!("{resource}/{name}"), limit, || async {
            let object = self.get(resource, name).await?;
            if let Some(object) = &object {
                last.replace(object["status"].clone());
            }
            anyhow::Ok(object.filter(|object| good(object)))
        })
        .await;
        waited.with_context(|| format!("last status: {:#}\n{}", last.borrow(), self.log_tails()))
    }

    /// The objects for a location in the testbed's S3 server.
    pub fn s3_objects<'a>(&'a self, name: &'a str, prefix: &'a str) -> S3Objects<'a> {
        let s3 = self.bed.s3();
        S3Objects {
            name,
            prefix,
            endpoint: &s3.endpoint,
            bucket: BUCKET,
            ca_pem: &s3.ca_pem,
            access_key: &s3.access_key,
            secret_key: &s3.secret_key,
        }
    }

    /// Applies a working location and waits until it is Ready.
    pub async fn create_location(&self, name: &str) -> Result<()> {
        self.apply(&self.s3_objects(name, name).all()).await?;
        self.wait_for("etcdbl", name, Duration::from_secs(60), |l| is_condition(l, "Ready", "True")).await?;
        Ok(())
    }

    /// A working location in a bucket of its own, behind a front of its own that can be made ill.
    pub async fn create_sick_location(&self, name: &str) -> Result<S3Front> {
        let front = self.bed.s3_front().await?;
        self.bed.s3().create_bucket(name)?;
        let objects = S3Objects { endpoint: &front.endpoint, bucket: name, ..self.s3_objects(name, name) };
        self.apply(&objects.all()).await?;
        self.wait_for("etcdbl", name, Duration::from_secs(60), |l| is_condition(l, "Ready", "True")).await?;
        Ok(front)
    }

    /// Has a location listed whole at once, by a change of its spec that changes nothing, and waits for that.
    pub async fn relist(&self, name: &str) -> Result<()> {
        let before = self.get("etcdbl", name).await?.context("no such location")?;
        let spec = &before["spec"];
        let patch = if spec["s3"].is_null() {
            // The same directory, written otherwise.
            let path = spec["directory"]["subPath"].as_str().unwrap_or_default();
            let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
            json!({"spec": {"directory": {"subPath": other}}})
        } else {
            let class = if spec["s3"]["storageClass"].is_null() { json!("STANDARD") } else { Value::Null };
            json!({"spec": {"s3": {"storageClass": class}}})
        };
        self.kubectl(&["patch", "etcdbl", name, "--type=merge", "-p", &patch.to_string()]).await?;
        let generation = self.get("etcdbl", name).await?.context("no such location")?["metadata"]["generation"].clone();
        self.wait_for("etcdbl", name, Duration::from_secs(120), |location| {
            let pass = &location["status"]["catalog"];
            location["status"]["observedGeneration"] == generation
                && pass["fullPassTime"].is_string()
                && pass["passId"] != before["status"]["catalog"]["passId"]
        })
        .await
        .map(drop)
    }

    /// The directory in which the store keeps a backup.
    pub fn place_of(&self, backup: &Value) -> PathBuf {
        let archive = backup["status"]["archive"].as_str().unwrap_or_default();
        let manifest = match archive.strip_prefix(&format!("s3://{BUCKET}/")) {
            Some(key) => self.bed.s3().bucket_dir(BUCKET).join(key),
            None => PathBuf::from(archive),
        };
        manifest.parent().map(Path::to_owned).unwrap_or_default()
    }

    async fn kubeconfig(&self, account: &str, node: Option<&Node>, file: &Path) -> Result<()> {
        let token = self.bed.token(account, &self.namespace, node).await?;
        self.bed.write_kubeconfig(&token, file, None)
    }

    /// Starts the operator once more; `index` names its log and port.
    pub async fn start_operator(&mut self, index: usize) -> Result<()> {
        let kubeconfig = self.bed.dir().join(format!("operator-{index}.kubeconfig"));
        self.kubeconfig("lifeboat-operator", None, &kubeconfig).await?;
        let process = self.bed.spawn_in(
            None,
            self.binaries.join("lifeboat-operator"),
            &["--listen", &format!("0.0.0.0:{}", OPERATOR_PORT + index), "--log-format", "text"],
            &[
                ("KUBECONFIG", kubeconfig.to_string_lossy().as_ref()),
                ("POD_NAMESPACE", &self.namespace),
                ("POD_NAME", &format!("lifeboat-operator-{index}")),
                ("RUST_LOG", "info"),
            ],
            &format!("operator-{index}"),
        )?;
        if index < self.operators.len() {
            self.operators[index] = process;
        } else {
            self.operators.push(process);
        }
        Ok(())
    }

    /// Starts the agent of a node, within the node's namespaces.
    pub async fn start_agent(&mut self, node: &str) -> Result<()> {
        self.start_agent_with(node, &[]).await
    }

    /// Starts the agent of a node with more arguments; one that runs ends first.
    pub async fn start_agent_with(&mut self, node: &str, more: &[&str]) -> Result<()> {
        if let Some(mut running) = self.agents.remove(node) {
            running.terminate(Duration::from_secs(10)).await?;
        }
        let process = self.spawn_agent(node, "agent", AGENT_PORT, more).await?;
        self.agents.insert(node.to_owned(), process);
        Ok(())
    }

    /// Starts an agent of a node under another log name and port.
    pub async fn spawn_agent(&self, node: &str, log: &str, port: u16, more: &[&str]) -> Result<ManagedProcess> {
        let kubeconfig = self.bed.dir().join(format!("agent-{node}.kubeconfig"));
        let machine = self.node(node)?;
        self.kubeconfig("lifeboat-agent", Some(machine), &kubeconfig).await?;
        let own = self.bed.dir().join("own").join(node);
        std::fs::create_dir_all(&own)?;
        let directory = format!("{SHARED}={},{OWN}={}", self.shared_dir().display(), own.display());
        let listen = format!("0.0.0.0:{port}");
        let mut arguments = vec!["agent", "--listen", &listen, "--log-format", "text", "--directory", &directory];
        // However full the disk of this machine is: the directory stands for another machine's.
        arguments.extend(["--directory-reserve-percent", "0"]);
        arguments.extend(more);
        self.bed.spawn_in(
            Some(machine),
            self.binaries.join("lifeboat"),
            &arguments,
            &[
                ("KUBECONFIG", kubeconfig.to_string_lossy().as_ref()),
                ("POD_NAMESPACE", &self.namespace),
                ("NODE_NAME", node),
                ("RUST_LOG", "info"),
            ],
            log,
        )
    }

    /// Starts what has ended again, as a kubelet does: an operator that lost its lease ends on purpose.
    pub async fn restart_ended(&mut self) -> Result<()> {
        for process in self.operators.iter_mut().chain(self.agents.values_mut()) {
            if !process.is_running() {
                process.restart().await?;
            }
        }
        Ok(())
    }

    /// Waits until an object is as `good` wants it, while what ends is started again; the API may be away meanwhile.
    pub async fn wait_for_while_restarting(
        &mut self,
        resource: &str,
        name: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let begun = std::time::Instant::now();
        loop {
            self.restart_ended().await?;
            let object = self.get(resource, name).await;
            match object {
                Ok(Some(object)) if good(&object) => return Ok(object),
                other if begun.elapsed() > limit => {
                    bail!("waited {limit:?} for {resource}/{name}: {other:#?}\n{}", self.log_tails())
                }
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// A program under test.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A directory that every agent sees under the name [`SHARED`], as an NFS mount would be.
    pub fn shared_dir(&self) -> PathBuf {
        self.bed.dir().join("shared")
    }

    /// What a process answers over HTTP, asked from a master: the first operator, or that master's agent.
    pub async fn http(&self, of: Served<'_>, path: &str) -> Result<String> {
        let (node, url) = match of {
            Served::Operator => {
                (&self.bed.nodes()[0], format!("http://{}:{OPERATOR_PORT}{path}", self.bed.hub_address()))
            }
            Served::Agent(node) => (self.node(node)?, format!("http://127.0.0.1:{AGENT_PORT}{path}")),
        };
        let output = node.command("curl").args(["--silent", "--show-error", "--max-time", "10", &url]).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{url}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Waits until the operator calls every member ready.
    pub async fn wait_members_ready(&self) -> Result<()> {
        for node in self.node_names() {
            self.wait_for("etcdm", &node, Duration::from_secs(60), |m| is_condition(m, "Ready", "True")).await?;
        }
        Ok(())
    }

    /// The ends of the logs of everything of ours, for an error message.
    pub fn log_tails(&self) -> String {
        self.operators
            .iter()
            .chain(self.agents.values())
            .map(|process| format!("--- {}\n{}\n", process.log().display(), process.log_tail()))
            .collect()
    }

    /// Ends everything.
    pub async fn shutdown(mut self) -> Result<()> {
        for process in self.operators.iter_mut().chain(self.agents.values_mut()) {
            process.terminate(Duration::from_secs(10)).await?;
        }
        self.bed.shutdown().await
    }
}

/// Status of a condition of an object.
pub fn condition<'o>(object: &'o Value, type_: &str) -> Option<&'o Value> {
    object.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Whether a condition has a status.
pub fn is_condition(object: &Value, type_: &str, status: &str) -> bool {
    condition(object, type_).is_some_and(|condition| condition["status"] == status)
}

/// Whether a run is over.
pub fn is_terminal(object: &Value) -> bool {
    is_condition(object, "Complete", "True") || is_condition(object, "Failed", "True")
}
