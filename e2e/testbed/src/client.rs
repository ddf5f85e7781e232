//! The tools an administrator has at hand, run against the testbed: kubectl, helm, etcdctl, etcdutl, tokens and kubeconfigs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::node::Node;
use crate::process::{run, run_with_input};
use crate::testbed::Testbed;

const LIMIT: Duration = Duration::from_secs(120);

impl Testbed {
    /// Runs kubectl as administrator and gives back its output.
    ///
    /// # Errors
    /// When it fails, with what it complained about.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        let mut command = self.client("kubectl");
        command.args(args);
        run(command, LIMIT).await
    }

    /// As [`Self::kubectl`], with something on standard input, for `-f -`.
    ///
    /// # Errors
    /// When it fails, with what it complained about.
    pub async fn kubectl_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        let mut command = self.client("kubectl");
        command.args(args);
        run_with_input(command, input, LIMIT).await
    }

    /// Runs helm as administrator and gives back its output.
    ///
    /// # Errors
    /// When it fails, with what it complained about.
    pub async fn helm<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        let mut command = self.client("helm");
        command.args(args);
        run(command, LIMIT).await
    }

    /// Runs etcdctl on a node with its health-check certificate, against its own member unless `args` name endpoints.
    ///
    /// # Errors
    /// When it fails, with what it complained about.
    pub async fn etcdctl<S: AsRef<OsStr>>(&self, node: &Node, args: &[S]) -> Result<String> {
        let mut command = node.std_command("etcdctl");
        command
            .args(args)
            .env("ETCDCTL_CACERT", "/etc/kubernetes/pki/etcd/ca.crt")
            .env("ETCDCTL_CERT", "/etc/kubernetes/pki/etcd/healthcheck-client.crt")
            .env("ETCDCTL_KEY", "/etc/kubernetes/pki/etcd/healthcheck-client.key");
        if !args.iter().any(|argument| argument.as_ref().as_encoded_bytes().starts_with(b"--endpoints")) {
            command.env("ETCDCTL_ENDPOINTS", "https://127.0.0.1:2379");
        }
        run(command, LIMIT).await
    }

    /// Runs etcdutl of the testbed's line of etcd; on a node it sees the node's files.
    ///
    /// # Errors
    /// When it fails, with what it complained about.
    pub async fn etcdutl<S: AsRef<OsStr>>(&self, node: Option<&Node>, args: &[S]) -> Result<String> {
        let mut command = node.map_or_else(|| self.client("etcdutl"), |node| node.std_command("etcdutl"));
        command.args(args);
        run(command, LIMIT).await
    }

    /// A token of a service account for a day; bound to a node's object when one is given, as the tokens of a DaemonSet's pods are.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn token(&self, service_account: &str, namespace: &str, node: Option<&Node>) -> Result<String> {
        let mut args = vec!["create", "token", service_account, "--namespace", namespace, "--duration", "24h"];
        if let Some(node) = node {
            args.extend(["--bound-object-kind", "Node", "--bound-object-name", &node.name]);
        }
        Ok(self.kubectl(&args).await?.trim().to_owned())
    }

    /// Writes a kubeconfig (0600) that uses a token, for `server` or else the first API server.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, token: &str, path: &Path, server: Option<&str>) -> Result<()> {
        let admin: Value = serde_norway::from_slice(&fs::read(self.kubeconfig())?)?;
        let authority = admin
            .pointer("/clusters/0/cluster/certificate-authority-data")
            .context("no CA in the administrator's kubeconfig")?;
        let server = server.map_or_else(|| self.api_server(), str::to_owned);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "token", "user": {"token": token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "token"}}],
            "current-context": "testbed",
        });
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        serde_json::to_writer_pretty(file.with_context(|| format!("write {}", path.display()))?, &config)?;
        Ok(())
    }

    /// A program in the host's own namespaces, with nothing of the caller's environment: its proxies know no way into a testbed.
    fn client(&self, program: &str) -> Command {
        let home = self.dir().join("home");
        let mut command = Command::new(self.binaries().program(program));
        command
            .env_clear()
            .env("PATH", self.binaries().search_path())
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &home)
            .env("HELM_CACHE_HOME", home.join("helm/cache"))
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_DATA_HOME", home.join("helm/data"));
        command
    }
}
