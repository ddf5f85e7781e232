//! Three masters with the administrator's tools and nothing else of Lifeboat: no operator, no agents, etcd under the
//! supervisor. What a person would type on them, and what they would look at afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lifeboat_testbed::{EtcdLine, Node, Options, Signal, Testbed};
use serde_json::Value;

use crate::schema;
use crate::wait::eventually;

/// etcd's data volume on every master.
pub const VOLUME: &str = "/var/lib/etcd";
/// Where manifests lie that nobody follows.
pub const MANIFESTS_OFF: &str = "/etc/kubernetes/manifests-off";
/// The program on every master.
pub const LIFEBOAT: &str = "/opt/lifeboat/bin/lifeboat";
/// What a debug build reads the points from at which it kills itself.
const CRASH_FILE: &str = "/run/lifeboat/crash";
/// Pods that use etcd, in the order in which they are stopped.
const CLIENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Longer than any command of the tools takes here.
const COMMAND: Duration = Duration::from_secs(180);
/// Within which a cluster serves again after its members were started.
const SERVES: Duration = Duration::from_secs(90);

/// Which build is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What ships.
    Release,
    /// One that can be told to kill itself at a step.
    WithCrashPoints,
}

impl Build {
    fn program(self) -> Result<PathBuf> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("e2e lies in the workspace")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let (path, make) = match self {
            Self::Release => {
                let dir = std::env::var_os("LIFEBOAT_BIN_DIR")
                    .map_or_else(|| target.join("x86_64-unknown-linux-gnu/release"), PathBuf::from);
                (dir.join("lifeboat"), "make dist")
            }
            Self::WithCrashPoints => (target.join("debug/lifeboat"), "cargo build -p lifeboat-agent"),
        };
        ensure!(path.exists(), "{} does not exist: run `{make}`", path.display());
        Ok(path.canonicalize()?)
    }
}

/// The line of etcd that a program of the process tier runs; `LIFEBOAT_ETCD_LINE` chooses another one for all.
pub fn line_or(line: EtcdLine) -> Result<EtcdLine> {
    match std::env::var("LIFEBOAT_ETCD_LINE") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(line),
    }
}

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Expects that it was done.
    pub fn done(self) -> Result<Self> {
        self.ended(0, &[])
    }

    /// Expects an exit code, and words on either stream.
    pub fn ended(self, code: i32, words: &[&str]) -> Result<Self> {
        let both = format!("{}{}", self.out, self.err);
        ensure!(self.code == code, "exit code {} instead of {code}: {both}", self.code);
        for word in words {
            ensure!(both.contains(word), "{word:?} is not in: {both}");
        }
        Ok(self)
    }

    /// Expects that it was refused, with exit code 4 and words that say why.
    pub fn refused(self, words: &[&str]) -> Result<Self> {
        self.ended(4, words)
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}", self.out))
    }
}

/// Puts program and tools on every master, where `lifeboat install` would put them.
pub fn equip(bed: &Testbed, program: &Path) -> Result<()> {
    for node in bed.nodes() {
        let bin = node.path("/opt/lifeboat/bin");
        std::fs::create_dir_all(&bin)?;
        std::os::unix::fs::symlink(program, bin.join("lifeboat"))?;
        for line in EtcdLine::ALL {
            let tools = node.path("/opt/lifeboat/tools").join(line.name());
            std::fs::create_dir_all(&tools)?;
            for tool in ["etcd", "etcdutl"] {
                let built = bed.binaries().of_line(line, tool);
                // They are built in a directory of root's own, and etcd may be another user here.
                let store = built.canonicalize()?.parent().context("a program lies in a directory")?.to_owned();
                std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o755))?;
                std::os::unix::fs::symlink(built, tools.join(tool))?;
            }
        }
    }
    Ok(())
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub cluster: u64,
    pub member: u64,
    pub leader: u64,
    pub revision: i64,
    pub is_learner: bool,
}

/// Three masters.
pub struct Masters {
    pub bed: Testbed,
}

impl Masters {
    /// Starts the masters and puts program and tools on them; etcd runs as kubeadm left it.
    pub async fn start(name: &str, line: EtcdLine, build: Build) -> Result<Self> {
        Self::start_on(Options { etcd_line: line, ..Options::named(name) }, build).await
    }

    /// As [`Self::start`], on a bed of one's own wishes.
    pub async fn start_on(options: Options, build: Build) -> Result<Self> {
        let program = build.program()?;
        // What people call their own there.
        let own = ["/root", "/var/backups"].map(PathBuf::from);
        let node_dirs = own.into_iter().chain(options.node_dirs.iter().cloned()).collect();
        let bed = Testbed::start(Options { node_dirs, ..options }).await?;
        equip(&bed, &program)?;
        Ok(Self { bed })
    }

    /// As [`Self::start`], with etcd under the supervisor on every master.
    pub async fn supervised(name: &str, line: EtcdLine, build: Build) -> Result<Self> {
        let masters = Self::start(name, line, build).await?;
        for node in masters.nodes() {
            masters.run(node, &["etcd-pod", "install"]).await?.done()?;
            if build == Build::WithCrashPoints {
                let manifest = node.path("/etc/kubernetes/manifests/etcd.yaml");
                let text = std::fs::read_to_string(&manifest)?;
                let env =
                    format!("\n    env:\n    - name: LIFEBOAT_CRASH_FILE\n      value: {CRASH_FILE}\n    image: ");
                ensure!(text.matches("\n    image: ").count() == 1, "{text}");
                std::fs::write(&manifest, text.replace("\n    image: ", &env))?;
            }
            masters.wait_supervised(node, build).await?;
        }
        masters.bed.etcd_healthy(SERVES).await?;
        Ok(masters)
    }

    /// Waits until a member serves under the supervisor.
    pub async fn wait_supervised(&self, node: &Node, build: Build) -> Result<()> {
        eventually(&format!("etcd of {} under the supervisor", node.name), SERVES, async || {
            let pid = node.pod_pid("etcd").context("no pod")?;
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            ensure!(line.starts_with(LIFEBOAT) && line.contains("etcd-pod"), "{line}");
            let environment = std::fs::read_to_string(format!("/proc/{pid}/environ"))?;
            ensure!(environment.contains(CRASH_FILE) == (build == Build::WithCrashPoints), "not yet as it is to be");
            self.told(node).await.map(Some)
        })
        .await
        .with_context(|| node.pod_log_tail("etcd"))?;
        Ok(())
    }

    pub fn nodes(&self) -> &[Node] {
        self.bed.nodes()
    }

    /// Runs `lifeboat` on a master; what it prints for programs must be as its schema says.
    pub async fn run(&self, node: &Node, args: &[&str]) -> Result<Said> {
        let said = self.run_program(node, LIFEBOAT, args).await?;
        if args.windows(2).any(|pair| pair == ["-o", "json"]) && !said.out.is_empty() {
            let wait = if args.contains(&"--wait") { " --wait" } else { "" };
            schema::check("output", &format!("{} {}{wait}", args[0], args[1]), &said.json()?)?;
        }
        Ok(said)
    }

    /// Runs `lifeboat etcd restore` on a master whose manifests were moved out of the kubelet's sight.
    pub async fn restore(&self, node: &Node, args: &[&str]) -> Result<Said> {
        let mut all = vec!["etcd", "restore", "--manifest-dir", MANIFESTS_OFF];
        all.extend(args);
        self.run(node, &all).await
    }

    /// As [`Self::restore`], by a build that kills itself where [`Self::crash_at`] says; then the exit code is -1.
    pub async fn restore_until_crash(&self, node: &Node, args: &[&str]) -> Result<Said> {
        let crash = format!("LIFEBOAT_CRASH_FILE={CRASH_FILE}");
        let mut all = vec![&crash, LIFEBOAT, "etcd", "restore", "--manifest-dir", MANIFESTS_OFF];
        all.extend(args);
        self.run_program(node, "env", &all).await
    }

    /// Runs a program on a master.
    pub async fn run_program(&self, node: &Node, program: &str, args: &[&str]) -> Result<Said> {
        let mut command = node.command(program);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(COMMAND, command.output()).await;
        let output = ended.with_context(|| format!("{program} {args:?} hangs on {}", node.name))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ok(Said { code, out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// Stops everything on every master: what uses etcd first.
    pub async fn stop_all(&self) -> Result<()> {
        for pod in CLIENTS {
            futures::future::try_join_all(self.nodes().iter().map(|node| stop_now(node, pod))).await?;
        }
        futures::future::try_join_all(self.nodes().iter().map(|node| node.stop_pod("etcd"))).await?;
        Ok(())
    }

    /// Starts etcd on every master, and waits until all serve.
    pub async fn start_etcd(&self) -> Result<()> {
        for node in self.nodes() {
            node.start_pod("etcd").await?;
        }
        self.bed.etcd_healthy(SERVES).await
    }

    /// Starts the API server where one is to run, and waits until it is ready.
    pub async fn start_api(&self) -> Result<()> {
        let first = &self.nodes()[0];
        for pod in ["kube-apiserver", "kube-controller-manager"] {
            first.start_pod(pod).await?;
        }
        self.bed.api_ready(SERVES).await
    }

    /// Creates a ConfigMap.
    pub async fn create(&self, name: &str) -> Result<()> {
        self.bed.kubectl(&["-n", "default", "create", "configmap", name, "--from-literal=a=b"]).await.map(drop)
    }

    /// Names of the ConfigMaps that tests made.
    pub async fn created(&self) -> Result<Vec<String>> {
        let args = ["-n", "default", "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"];
        let names = self.bed.kubectl(&args).await?;
        Ok(names.split_whitespace().filter(|name| *name != "kube-root-ca.crt").map(str::to_owned).collect())
    }

    /// What a master's member says of itself.
    pub async fn told(&self, node: &Node) -> Result<Told> {
        let endpoint = format!("--endpoints=https://{}:2379", node.ip);
        let args = ["endpoint", "status", "--command-timeout=3s", "-w", "json", &endpoint];
        let text = self.bed.etcdctl(node, &args).await?;
        let value: Value = serde_json::from_str(&text)?;
        let status = value.pointer("/0/Status").context("no status")?;
        let number = |path: &str| status.pointer(path).and_then(Value::as_u64).with_context(|| format!("no {path}"));
        Ok(Told {
            cluster: number("/header/cluster_id")?,
            member: number("/header/member_id")?,
            leader: number("/leader").unwrap_or_default(),
            revision: i64::try_from(number("/header/revision")?)?,
            is_learner: status["isLearner"].as_bool().unwrap_or(false),
        })
    }

    /// Waits until all members are voters of one cluster with the same content, and gives the cluster.
    pub async fn see_equal(&self) -> Result<u64> {
        eventually("all members to be equal", SERVES, async || {
            let told = futures::future::try_join_all(self.nodes().iter().map(|node| self.told(node))).await?;
            let first = told[0];
            ensure!(told.iter().all(|one| one.cluster == first.cluster && !one.is_learner), "{told:?}");
            let revision = told.iter().map(|one| one.revision).min().unwrap_or_default().to_string();
            let hashes = self.nodes().iter().map(|node| self.hash(node, &revision));
            let hashes = futures::future::try_join_all(hashes).await?;
            ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "at revision {revision}: {hashes:?}");
            let members = self.members().await?;
            ensure!(members.len() == self.nodes().len(), "{members:?}");
            anyhow::Ok(Some(first.cluster))
        })
        .await
        .with_context(|| self.log_tails())
    }

    async fn hash(&self, node: &Node, revision: &str) -> Result<(u64, u64)> {
        let endpoint = format!("--endpoints=https://{}:2379", node.ip);
        let text = self.bed.etcdctl(node, &["endpoint", "hashkv", "--rev", revision, "-w", "json", &endpoint]).await?;
        let value: Value = serde_json::from_str(&text)?;
        let number = |name: &str| value.pointer(&format!("/0/HashKV/{name}")).and_then(Value::as_u64);
        Ok((number("hash").context("no hash")?, number("compact_revision").unwrap_or_default()))
    }

    /// Members by name, as the first member that answers lists them.
    pub async fn members(&self) -> Result<BTreeMap<String, u64>> {
        let endpoints: Vec<String> = self.nodes().iter().map(|node| format!("https://{}:2379", node.ip)).collect();
        let endpoints = format!("--endpoints={}", endpoints.join(","));
        let text = self.bed.etcdctl(&self.nodes()[0], &["member", "list", "-w", "json", &endpoints]).await?;
        let value: Value = serde_json::from_str(&text)?;
        let members = value["members"].as_array().context("no members")?;
        let entry = |member: &Value| Some((member["name"].as_str()?.to_owned(), member["ID"].as_u64()?));
        members.iter().map(|member| entry(member).with_context(|| format!("{member}"))).collect()
    }

    /// A file in a master's data volume, as JSON.
    pub fn read_json(&self, node: &Node, file: &str) -> Result<Value> {
        let path = node.path(VOLUME).join(file);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let value = serde_json::from_slice(&bytes)?;
        schema::check("files", file, &value)?;
        Ok(value)
    }

    /// Names in a master's data volume.
    pub fn files(&self, node: &Node) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(node.path(VOLUME))?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until a file in a master's data volume is JSON that is as `good` wants it, and gives it.
    pub async fn wait_json(
        &self,
        node: &Node,
        file: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(&format!("{file} of {}", node.name), limit, async || {
            let value = self.read_json(node, file)?;
            if good(&value) { Ok(Some(value)) } else { bail!("{value:#}") }
        })
        .await
        .with_context(|| node.pod_log_tail("etcd"))
    }

    /// Waits until a master's etcd log holds a text, beyond what it held at `from`.
    pub async fn wait_log(&self, node: &Node, from: u64, text: &str, limit: Duration) -> Result<()> {
        eventually(&format!("{text:?} in the log of {}", node.name), limit, async || {
            let log = self.log_from(node, from)?;
            anyhow::Ok(log.contains(text).then_some(()))
        })
        .await
        .with_context(|| node.pod_log_tail("etcd"))
    }

    /// A master's etcd log from a place on.
    pub fn log_from(&self, node: &Node, from: u64) -> Result<String> {
        let bytes = std::fs::read(node.pod_log("etcd"))?;
        let from = usize::try_from(from)?.min(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[from..]).into_owned())
    }

    /// Where a master's etcd log ends now.
    pub fn log_end(&self, node: &Node) -> u64 {
        std::fs::metadata(node.pod_log("etcd")).map(|metadata| metadata.len()).unwrap_or_default()
    }

    /// Has the supervisor of a master, or its tool, kill itself at these steps, one after the other.
    pub fn crash_at(&self, node: &Node, points: &[&str]) -> Result<()> {
        Ok(std::fs::write(node.path(CRASH_FILE), points.join("\n") + "\n")?)
    }

    /// Steps at which they have yet to kill themselves.
    pub fn crashes_left(&self, node: &Node) -> Vec<String> {
        let text = std::fs::read_to_string(node.path(CRASH_FILE)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Ends of the logs of all members.
    pub fn log_tails(&self) -> String {
        self.nodes().iter().map(|node| node.pod_log_tail("etcd")).collect::<Vec<_>>().join("\n")
    }
}

/// Stops a pod that runs, if it does: an API server stops to listen at once, but would drain its connections for half a minute.
async fn stop_now(node: &Node, pod: &str) -> Result<()> {
    if !node.path("/etc/kubernetes/manifests").join(format!("{pod}.yaml")).exists() {
        return Ok(());
    }
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // It may have ended by itself.
        let _ = node.kill_pod(pod, Signal::KILL);
    };
    let (stopped, ()) = tokio::join!(node.stop_pod(pod), kill);
    stopped
}
