//! What kubeadm and kubelet tell a young API server: who its administrators are, and the Node objects. Through `kubectl --raw`, which
//! needs no discovery and so costs a fraction of an apply.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::node::Node;
use crate::testbed::Testbed;

/// Lets `admin.conf` act as administrator; kubeadm gives that group its power with this very object.
pub(crate) async fn create_admin_binding(bed: &Testbed) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "kubeadm:cluster-admins"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}],
    });
    raw(bed, "create", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await
}

/// Registers one node as kubelet does, Ready, with kubeadm's labels and without taints.
pub(crate) async fn create_node(bed: &Testbed, node: &Node) -> Result<()> {
    let object = node_object(node, true);
    raw(bed, "create", "/api/v1/nodes", &object).await?;
    // Admission taints every new node as not ready; the controller that would lift it is off, as nothing renews heartbeats here.
    raw(bed, "replace", &format!("/api/v1/nodes/{}", node.name), &object).await
}

/// Rewrites the Ready condition.
pub(crate) async fn write_ready(bed: &Testbed, node: &Node, ready: bool) -> Result<()> {
    raw(bed, "replace", &format!("/api/v1/nodes/{}/status", node.name), &node_object(node, ready)).await
}

async fn raw(bed: &Testbed, verb: &str, path: &str, object: &Value) -> Result<()> {
    bed.kubectl_with_input(&[verb, "--raw", path, "-f", "-"], &object.to_string())
        .await
        .with_context(|| format!("{verb} {path}"))?;
    Ok(())
}

fn node_object(node: &Node, ready: bool) -> Value {
    let (status, reason) = if ready { ("True", "KubeletReady") } else { ("False", "KubeletNotReady") };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "node-role.kubernetes.io/control-plane": "",
                "node.kubernetes.io/exclude-from-external-load-balancers": "",
            },
        },
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "set by the testbed"}],
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "v1.35.4", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
        },
    })
}
