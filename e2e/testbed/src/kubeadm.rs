//! The files of every master, written by kubeadm itself, one `init phase` after the other inside the node's own namespaces. What
//! `kubeadm join` would do to a later master, sharing the CAs and listing the members so far, is done here.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::node::{MANIFESTS, MANIFESTS_OFF, Node};
use crate::options::Options;
use crate::process::run;

const KUBERNETES: &str = "v1.35.4";
/// What kubeadm copies to a joining master.
const SHARED: [&str; 8] =
    ["ca.crt", "ca.key", "sa.pub", "sa.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key"];
const PHASES: [[&str; 2]; 4] = [["certs", "all"], ["kubeconfig", "all"], ["control-plane", "all"], ["etcd", "local"]];

/// Writes PKI, kubeconfigs, manifests and kubelet's configuration of all nodes; manifests of what `options` leaves out wait aside.
pub(crate) async fn write_files(nodes: &[Node], options: &Options) -> Result<()> {
    let Some((first, others)) = nodes.split_first() else { bail!("no nodes") };
    write_node(first, first, options).await?;
    for node in others {
        for file in SHARED {
            let to = node.path("/etc/kubernetes/pki").join(file);
            fs::create_dir_all(to.parent().context("no parent")?)?;
            fs::copy(first.path("/etc/kubernetes/pki").join(file), &to).with_context(|| format!("copy {file}"))?;
        }
    }
    futures::future::try_join_all(others.iter().map(|node| write_node(node, first, options))).await?;
    let members: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.ip)).collect();
    for (joined, node) in nodes.iter().enumerate().skip(1) {
        let manifest = node.path(MANIFESTS).join("etcd.yaml");
        let text = fs::read_to_string(&manifest)?;
        let joining = as_joined(&text, &members[..=joined])
            .with_context(|| format!("{} has no --initial-cluster", manifest.display()))?;
        fs::write(&manifest, joining)?;
    }
    Ok(())
}

/// The value of `--initial-cluster`.
pub(crate) fn initial_cluster(members: &[(&str, Ipv4Addr)]) -> String {
    members.iter().map(|(name, ip)| format!("{name}=https://{ip}:2380")).collect::<Vec<_>>().join(",")
}

/// etcd's manifest of the first master, made into that of a master that joined as the last of `members`. `None` when the text has no
/// `--initial-cluster`.
fn as_joined(manifest: &str, members: &[(&str, Ipv4Addr)]) -> Option<String> {
    const FLAG: &str = "- --initial-cluster=";
    let line = manifest.lines().find(|line| line.trim_start().starts_with(FLAG))?;
    let indent = &line[..line.len() - line.trim_start().len()];
    let joined = format!("{indent}{FLAG}{}\n{indent}- --initial-cluster-state=existing", initial_cluster(members));
    Some(manifest.replacen(line, &joined, 1))
}

async fn write_node(node: &Node, first: &Node, options: &Options) -> Result<()> {
    let config = node.root.join("kubeadm.yaml");
    fs::write(&config, configuration(node, first, options)?)?;
    for [phase, part] in PHASES {
        let mut command: Command = node.std_command("kubeadm");
        command.args(["init", "phase", phase, part, "--config"]).arg(&config);
        run(command, Duration::from_secs(60)).await.with_context(|| format!("kubeadm for {}", node.name))?;
    }
    // What discovery reads on a real master to learn where static pods live. No kubelet runs.
    fs::write(
        node.path("/var/lib/kubelet/config.yaml"),
        format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: {MANIFESTS}\n"),
    )?;
    fs::create_dir_all(node.path(MANIFESTS_OFF))?;
    let serves = usize::from(node.ordinal) < options.api_servers;
    for (component, runs) in [
        ("kube-apiserver", serves),
        ("kube-controller-manager", serves && options.controller_manager),
        ("kube-scheduler", serves && options.scheduler),
    ] {
        if !runs {
            let file = format!("{component}.yaml");
            fs::rename(node.path(MANIFESTS).join(&file), node.path(MANIFESTS_OFF).join(&file))?;
        }
    }
    Ok(())
}

/// JSON is YAML: two documents of it.
fn configuration(node: &Node, first: &Node, options: &Options) -> Result<String> {
    let init = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": node.ip, "bindPort": 6443},
        "nodeRegistration": {"name": node.name, "criSocket": "unix:///run/containerd/containerd.sock"},
    });
    let flag = |(name, value): &(String, String)| json!({"name": name, "value": value});
    let mut etcd_args: Vec<_> = options.etcd_args.iter().map(flag).collect();
    if !options.fsync {
        etcd_args.push(json!({"name": "unsafe-no-fsync", "value": "true"}));
    }
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": KUBERNETES,
        "controlPlaneEndpoint": format!("{}:6443", first.ip),
        // RSA keys would take seconds of the start.
        "encryptionAlgorithm": "ECDSA-P256",
        "etcd": {"local": {"imageTag": options.etcd_line.image_tag(), "extraArgs": etcd_args}},
        "apiServer": {"extraArgs": options.api_server_args.iter().map(flag).collect::<Vec<_>>()},
        // No kubelet renews the nodes' leases, so that controller would declare every node lost. With its default of 20 requests a
        // second the controller manager needs five seconds more for its start.
        "controllerManager": {"extraArgs": [
            {"name": "kube-api-qps", "value": "200"},
            {"name": "kube-api-burst", "value": "400"},
            {"name": "controllers", "value": "*,bootstrapsigner,tokencleaner,-node-lifecycle-controller"},
        ]},
    });
    Ok(format!("{}\n---\n{}\n", serde_json::to_string_pretty(&init)?, serde_json::to_string_pretty(&cluster)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_master_lists_the_members_so_far_and_says_existing() {
        let members = [("master-0", Ipv4Addr::new(10, 123, 10, 10)), ("master-1", Ipv4Addr::new(10, 123, 10, 11))];
        let text =
            "    - --name=master-1\n    - --initial-cluster=master-1=https://10.123.10.11:2380\n    - --key-file=k\n";
        assert_eq!(
            as_joined(text, &members).as_deref(),
            Some(
                "    - --name=master-1\n    - --initial-cluster=master-0=https://10.123.10.10:2380,master-1=https://10.123.10.11:2380\n    \
                 - --initial-cluster-state=existing\n    - --key-file=k\n"
            )
        );
        assert_eq!(as_joined("    - --name=x\n", &members), None);
    }
}
