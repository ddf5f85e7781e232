//! Which kind of control plane a host is part of, and what is said where it is none of ours. Pure.

use super::server::{Server, find_server};
use super::{HostFacts, Marker, Platform};

/// The kind of control plane, by what was found on the host.
pub fn platform_of(facts: &HostFacts, etcd: Option<&Server>, remarks: &mut Vec<String>) -> Platform {
    let marker = facts.markers.iter().next().copied();
    let is_plain = etcd.is_some_and(|server| server.file == "etcd.yaml");
    match marker {
        Some(marker @ (Marker::KublrConfig | Marker::KublrProgram)) => marker.platform(),
        Some(marker @ (Marker::K3s | Marker::Rke2 | Marker::Talos | Marker::OpenShift)) if is_plain => {
            remarks.push(format!(
                "{} exists, but the kubelet runs etcd from etcd.yaml: taken for left over from {}",
                marker.path(),
                marker.platform().as_str(),
            ));
            Platform::StaticPods
        }
        Some(marker @ (Marker::K3s | Marker::Rke2 | Marker::Talos | Marker::OpenShift)) => marker.platform(),
        None if etcd.is_some() => Platform::StaticPods,
        None => Platform::Unknown,
    }
}

/// Why no manifest runs etcd here, and what to do.
pub fn no_etcd_words(facts: &HostFacts, platform: Platform) -> String {
    let directory = facts.manifest_dir.display();
    let way_out = "for backups give --etcd-endpoint, --etcd-ca, --etcd-cert and --etcd-key";
    if let Some(servers) = external_etcd(facts) {
        return format!(
            "the API server of this node uses an etcd elsewhere ({servers}) and no manifest in {directory} runs etcd: \
             Lifeboat looks after the etcd of its own node; run it on the hosts of that etcd, or {way_out}"
        );
    }
    match platform {
        Platform::StaticPods | Platform::Unknown if facts.manifests.is_empty() => format!(
            "no static pod manifest was found in {directory}: is this a control-plane node with its own etcd? Set \
             --manifest-dir if they lie elsewhere, or {way_out}"
        ),
        Platform::StaticPods | Platform::Unknown => format!(
            "no manifest in {directory} runs etcd: is etcd external, or does it run as a service? Lifeboat looks after \
             the etcd of its own node; {way_out}"
        ),
        Platform::Kublr => {
            format!(
                "this is a Kublr master, but no manifest in {directory} runs etcd; set --manifest-dir, or {way_out}"
            )
        }
        Platform::K3s => {
            format!("this is a k3s server, whose etcd is not a static pod (see `k3s etcd-snapshot`); {way_out}")
        }
        Platform::Rke2 => {
            format!("this is an RKE2 server, whose layout is not read (see `rke2 etcd-snapshot`); {way_out}")
        }
        Platform::Talos => {
            format!("this is a Talos machine, whose etcd is not a static pod (see `talosctl etcd snapshot`); {way_out}")
        }
        Platform::OpenShift => format!(
            "this is an OpenShift master, whose layout is not read (see `cluster-backup.sh` on the node); {way_out}"
        ),
    }
}

/// The servers that this node's API server uses, where none of them is the node itself.
fn external_etcd(facts: &HostFacts) -> Option<String> {
    let api_server = find_server(facts, "kube-apiserver", &mut Vec::new())?;
    let servers = api_server.arguments.list("etcd-servers");
    let own = api_server.arguments.get("advertise-address").unwrap_or("127.0.0.1");
    let is_own = |url: &String| ["127.0.0.1", "[::1]", "localhost", own].iter().any(|host| url.contains(*host));
    (!servers.is_empty() && !servers.iter().any(is_own)).then(|| servers.join(","))
}

/// Why a restore is not done on such a host, and how it is done there.
pub fn restore_words(platform: Platform) -> Option<String> {
    let (name, way) = match platform {
        Platform::StaticPods | Platform::Kublr => return None,
        Platform::K3s => ("a k3s server", "`k3s server --cluster-reset --cluster-reset-restore-path=…`"),
        Platform::Rke2 => ("an RKE2 server", "`rke2 server --cluster-reset --cluster-reset-restore-path=…`"),
        Platform::Talos => ("a Talos machine", "`talosctl bootstrap --recover-from=…`"),
        Platform::OpenShift => ("an OpenShift master", "`cluster-restore.sh` on the recovery host"),
        Platform::Unknown => {
            return Some("what runs etcd on this host is not understood: see --manifest-dir and --data-dir".to_owned());
        }
    };
    Some(format!("this is {name}, which Lifeboat does not restore: its own way is {way}"))
}
