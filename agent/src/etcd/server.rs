//! Real etcd servers for tests, from the testbed's programs (`make tools`), with kubeadm's own certificates.

mod tests;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_ports::free_port;
use rustix::process::{Pid, Signal, kill_process};

use super::client::{Endpoint, MemberClient, TlsFiles};
use super::status::{MemberStatus, fetch_member};

/// Every line of etcd that is supported.
pub const LINES: [&str; 3] = ["3.5", "3.6", "3.7"];

/// A program of the testbed.
pub fn program(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/testbed");
    let path = std::env::var_os("LIFEBOAT_TESTBED").map_or(workspace, PathBuf::from).join("bin").join(name);
    assert!(path.exists(), "{} is missing: build the real components with `make tools`", path.display());
    path
}

/// Certificates as `kubeadm init phase certs` makes them.
pub struct Pki(tempfile::TempDir);

impl Pki {
    pub fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        let config = pki.0.path().join("kubeadm.yaml");
        let text = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: \
             10.0.0.11}}\nnodeRegistration: {{name: m0}}\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: \
             ClusterConfiguration\nkubernetesVersion: v1.35.0\ncertificatesDir: {}\n",
            pki.0.path().display()
        );
        std::fs::write(&config, text).unwrap();
        for phase in ["etcd-ca", "etcd-server", "etcd-healthcheck-client"] {
            let made = Command::new(program("kubeadm"))
                .args(["init", "phase", "certs", phase, "--config"])
                .arg(&config)
                .stdout(Stdio::null())
                .status();
            assert!(made.unwrap().success(), "kubeadm failed in phase {phase}");
        }
        pki
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("etcd").join(name)
    }

    pub fn client(&self) -> TlsFiles {
        TlsFiles {
            ca: self.path("ca.crt"),
            cert: self.path("healthcheck-client.crt"),
            key: self.path("healthcheck-client.key"),
        }
    }
}

/// One running member, ended and removed with its directory when it goes out of scope.
pub struct RealEtcd {
    command: Command,
    child: Child,
    line: String,
    pub url: String,
    pub data_dir: tempfile::TempDir,
}

impl RealEtcd {
    /// One member without TLS, serving.
    pub async fn start(line: &str, extra: &[&str]) -> Self {
        let server = Self::spawn(line, "http", extra);
        server.wait_until_healthy(&server.endpoint()).await;
        server
    }

    /// One member with TLS in both directions, serving.
    pub async fn start_with_tls(line: &str, pki: &Pki) -> Self {
        let path = |name| pki.path(name).display().to_string();
        let (cert, key, ca) = (path("server.crt"), path("server.key"), path("ca.crt"));
        let extra = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth=true"];
        let server = Self::spawn(line, "https", &extra);
        let endpoint = Endpoint { url: server.url.clone(), tls: Some(pki.client()) };
        server.wait_until_healthy(&endpoint).await;
        server
    }

    /// Two members of one cluster, serving.
    pub async fn start_two(line: &str) -> [Self; 2] {
        Self::start_cluster::<2>(line).await
    }

    /// Members `m0`, `m1`… of one cluster, serving.
    pub async fn start_cluster<const MEMBERS: usize>(line: &str) -> [Self; MEMBERS] {
        let peers = std::array::from_fn::<_, MEMBERS, _>(|_| format!("http://127.0.0.1:{}", free_port()));
        let named: Vec<String> = peers.iter().enumerate().map(|(index, peer)| format!("m{index}={peer}")).collect();
        let cluster = named.join(",");
        let members = std::array::from_fn::<_, MEMBERS, _>(|index| {
            let (name, peer) = (format!("m{index}"), &peers[index]);
            let extra = [
                "--name",
                &name,
                "--initial-cluster",
                &cluster,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
            ];
            Self::spawn_named(line, "http", &extra)
        });
        for member in &members {
            member.wait_until_healthy(&member.endpoint()).await;
        }
        members
    }

    /// Ends it, has its database file altered, and starts it again.
    pub async fn alter_database(&mut self, alter: impl FnOnce(&mut Vec<u8>)) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
        let path = self.data_dir.path().join("data/member/snap/db");
        let mut bytes = std::fs::read(&path).unwrap();
        alter(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        self.child = self.command.spawn().unwrap();
        self.wait_until_healthy(&self.endpoint()).await;
    }

    fn spawn(line: &str, scheme: &str, extra: &[&str]) -> Self {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let cluster = format!("m0={peer}");
        let own = [
            "--name=m0",
            "--initial-cluster",
            &cluster,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ];
        Self::spawn_named(line, scheme, &[&own[..], extra].concat())
    }

    fn spawn_named(line: &str, scheme: &str, arguments: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://127.0.0.1:{}", free_port());
        let mut command = Command::new(program(&format!("{line}/etcd")));
        command
            .arg("--data-dir")
            .arg(data_dir.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--log-level=error"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Self { command, child, line: line.to_owned(), url, data_dir }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { url: self.url.clone(), tls: None }
    }

    pub async fn client(&self) -> MemberClient {
        MemberClient::connect(&self.endpoint()).await.unwrap()
    }

    pub async fn status(&self) -> MemberStatus {
        fetch_member(&self.client().await).await.unwrap()
    }

    /// Waits until a condition on the status holds.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&MemberStatus) -> bool) -> MemberStatus {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wait_until_healthy(&self, endpoint: &Endpoint) {
        let begun = Instant::now();
        let client = MemberClient::connect(endpoint).await.unwrap();
        loop {
            match fetch_member(&client).await {
                Ok(status) if status.has_leader() => return,
                other => {
                    assert!(begun.elapsed() < Duration::from_secs(60), "etcd {} is not ready: {other:?}", self.line)
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes `count` values of `size` bytes that do not compress to nothing; tells whether etcd took them all.
    pub async fn fill(&self, count: usize, size: usize) -> bool {
        let mut client = etcd_client::Client::connect([&self.url], None).await.unwrap();
        for index in 0..count {
            let value: Vec<u8> = (0..size).map(|_| rand::random::<u8>()).collect();
            if client.put(format!("/registry/test/{index}"), value, None).await.is_err() {
                return false;
            }
        }
        true
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
