//! Which certificates open etcd, and what the API server was told of. Pure.

use std::path::Path;

use super::server::Server;
use super::{CredentialFiles, Discovery};

/// Reads what a restore must match, and returns the API server's own way into etcd.
pub fn read_api_server(server: &Server, found: &mut Discovery) -> Option<CredentialFiles> {
    found.api_server_port =
        Some(server.arguments.get("secure-port").and_then(|port| port.parse().ok()).unwrap_or(6443));
    if let Some(path) = server.arguments.get("encryption-provider-config") {
        match server.host_path(path) {
            Ok(host) => found.api_server.encryption_config = Some(host),
            Err(words) => found.remarks.push(format!("the encryption configuration is not known on the host: {words}")),
        }
    }
    for path in server.arguments.all("service-account-key-file") {
        match server.host_path(path) {
            Ok(host) => found.api_server.service_account_keys.push(host),
            Err(words) => found.remarks.push(format!("a service-account key is not known on the host: {words}")),
        }
    }
    Some(CredentialFiles {
        ca: server.host_path_of("etcd-cafile")?,
        cert: server.host_path_of("etcd-certfile")?,
        key: server.host_path_of("etcd-keyfile")?,
    })
}

/// kubeadm's health-check certificate beside etcd's CA, else what the API server uses, else where kubeadm puts that.
///
/// The CA of the API server is the one that is known to verify this etcd; etcd's own `--trusted-ca-file` verifies
/// clients and need not be the same.
pub fn credential_candidates(etcd: Option<&Server>, api_server: Option<CredentialFiles>) -> Vec<CredentialFiles> {
    let trusted = etcd.and_then(|server| server.host_path_of("trusted-ca-file"));
    let mut candidates = Vec::new();
    if let Some(directory) = trusted.as_deref().and_then(Path::parent) {
        let ca = api_server.as_ref().map(|files| files.ca.clone()).or_else(|| trusted.clone());
        candidates.extend(ca.map(|ca| CredentialFiles {
            ca,
            cert: directory.join("healthcheck-client.crt"),
            key: directory.join("healthcheck-client.key"),
        }));
    }
    match (api_server, trusted.as_deref(), trusted.as_deref().and_then(Path::parent).and_then(Path::parent)) {
        (Some(files), _, _) => candidates.push(files),
        (None, Some(ca), Some(pki)) => candidates.push(CredentialFiles {
            ca: ca.to_owned(),
            cert: pki.join("apiserver-etcd-client.crt"),
            key: pki.join("apiserver-etcd-client.key"),
        }),
        (None, _, _) => {}
    }
    candidates
}
