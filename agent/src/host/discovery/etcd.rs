//! What etcd was told: name, URLs, directories, quota. Pure.

use std::path::PathBuf;

use super::data::read_directories;
use super::endpoint::choose_endpoint;
use super::server::{Server, find_server, version_in_image};
use super::{Discovery, HostFacts};
use crate::host::arguments::{Arguments, parse_config_file};

/// Reads what etcd was told, and what that means on the host.
pub fn read_etcd(server: &Server, facts: &HostFacts, found: &mut Discovery) {
    let Server { file, container, arguments, .. } = server;
    found.image = container.image.clone();
    found.version_hint = container.image.as_deref().and_then(version_in_image);
    if container.is_shell() {
        found.problems.push(format!(
            "{file} starts etcd through a shell, so its arguments are not in the manifest: give --etcd-endpoint, \
             --etcd-ca, --etcd-cert, --etcd-key and --data-dir"
        ));
        return;
    }
    let from_file = match arguments.get("config-file").map(|config| read_config(config, facts)) {
        None => None,
        Some(Ok(arguments)) => Some(arguments),
        Some(Err(words)) => {
            found.problems.push(words);
            return;
        }
    };
    // etcd ignores every other flag and variable beside a configuration file.
    let arguments = from_file.as_ref().unwrap_or(arguments);
    found.remarks.extend(arguments.unknown.iter().map(|unknown| format!("{file}: {unknown}")));
    found.name = arguments.get("name").map(str::to_owned);
    found.listen_client_urls = arguments.list("listen-client-urls");
    found.advertise_client_urls = arguments.list("advertise-client-urls");
    found.peer_urls = arguments.list("initial-advertise-peer-urls");
    found.listen_peer_urls = arguments.list("listen-peer-urls");
    found.initial_cluster = arguments.list("initial-cluster");
    found.feature_gates = arguments.list("feature-gates");
    read_quota(arguments, found);
    read_directories(server, arguments, facts, found);
    found.endpoint = choose_endpoint(&found.listen_client_urls);
    if found.endpoint.is_none() {
        found.problems.push(match arguments.get("listen-client-urls") {
            None => format!("{file} has no --listen-client-urls: give --etcd-endpoint"),
            Some(text) => {
                format!("--listen-client-urls={text} in {file} holds no URL to connect to: give --etcd-endpoint")
            }
        });
    }
}

fn read_quota(arguments: &Arguments, found: &mut Discovery) {
    let Some(text) = arguments.get("quota-backend-bytes") else { return };
    match text.parse::<i64>() {
        // 0 is etcd's default and a negative number means none.
        Ok(bytes) => found.quota = u64::try_from(bytes).ok().filter(|&bytes| bytes > 0),
        Err(_) => found.remarks.push(format!("--quota-backend-bytes={text} is no number")),
    }
}

/// The configuration file that etcd's manifest names, as a path of the host; nothing where there is none.
pub fn wanted_config_file(facts: &HostFacts) -> Option<Result<PathBuf, String>> {
    let server = find_server(facts, "etcd", &mut Vec::new())?;
    let path = server.arguments.get("config-file")?;
    Some(server.host_path(path))
}

fn read_config(path: &str, facts: &HostFacts) -> Result<Arguments, String> {
    let hidden = |words: &str| {
        format!(
            "etcd reads its configuration from {path}, and {words}: give --etcd-endpoint, --etcd-ca, --etcd-cert, \
             --etcd-key and --data-dir"
        )
    };
    match &facts.etcd_config {
        None => Err(hidden("that file was not read")),
        Some(Err(words)) => Err(hidden(words)),
        Some(Ok(text)) => parse_config_file(text).map_err(|error| hidden(&format!("it is not understood: {error}"))),
    }
}
