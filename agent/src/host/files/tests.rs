//! Reading a host laid out in a temporary directory, links and all.

use std::os::unix::fs::symlink;

use super::*;
use crate::host::discovery::Platform;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, host_path: &str) -> PathBuf {
        self.0.path().join(host_path.trim_start_matches('/'))
    }

    fn file(self, host_path: &str, content: &str) -> Self {
        let path = self.path(host_path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn kubeadm(self) -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubeadm/v1.35");
        let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
        self.file("/etc/kubernetes/manifests/etcd.yaml", &read("etcd.yaml"))
            .file("/etc/kubernetes/manifests/kube-apiserver.yaml", &read("kube-apiserver.yaml"))
    }

    fn options(&self) -> HostOptions {
        HostOptions { root: HostRoot::new(self.0.path()), ..HostOptions::default() }
    }
}

#[test]
fn the_health_check_certificate_is_preferred_and_the_api_servers_serves_without_it() {
    let pki = "/etc/kubernetes/pki";
    let host = Host::new()
        .kubeadm()
        .file(&format!("{pki}/etcd/ca.crt"), "x")
        .file(&format!("{pki}/apiserver-etcd-client.crt"), "x")
        .file(&format!("{pki}/apiserver-etcd-client.key"), "x");
    let cert = |host: &Host| read_host(&host.options()).endpoint.unwrap().tls.unwrap().cert;
    assert_eq!(cert(&host), host.path("/etc/kubernetes/pki/apiserver-etcd-client.crt"));
    let host = host
        .file(&format!("{pki}/etcd/healthcheck-client.crt"), "x")
        .file(&format!("{pki}/etcd/healthcheck-client.key"), "x");
    assert_eq!(cert(&host), host.path("/etc/kubernetes/pki/etcd/healthcheck-client.crt"));
}

#[test]
fn missing_certificates_are_named_in_words() {
    let view = read_host(&Host::new().kubeadm().options());
    assert_eq!(view.endpoint, None);
    assert_eq!(view.discovery.problems.len(), 1);
    let words = &view.discovery.problems[0];
    assert!(words.contains("/etc/kubernetes/pki/etcd/ca.crt") && words.contains("--etcd-cert"), "{words}");
}

#[test]
fn the_kubelets_own_manifest_directory_counts_and_the_flag_wins() {
    let text = "kind: Pod\nmetadata: {name: e}\nspec: {containers: [{name: etcd, command: [etcd, --name=NAME, \
                '--listen-client-urls=http://127.0.0.1:1']}]}\n";
    let host = Host::new()
        .file("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nstaticPodPath: /srv/pods\n")
        .file("/srv/pods/etcd.yaml", &text.replace("NAME", "kubelet"))
        .file("/srv/pods/.etcd.yaml.tmp", "half written")
        .file("/srv/flag/etcd.yaml", &text.replace("NAME", "flag"));
    std::fs::create_dir(host.path("/srv/pods/directory")).unwrap();
    let view = read_host(&host.options());
    assert_eq!(view.discovery.name.as_deref(), Some("kubelet"));
    assert_eq!(view.discovery.manifest.as_deref(), Some(Path::new("/srv/pods/etcd.yaml")));
    assert_eq!(view.endpoint, Some(Endpoint { url: "http://127.0.0.1:1".into(), tls: None }));
    let flag = HostOptions { manifest_dir: Some("/srv/flag".into()), ..host.options() };
    assert_eq!(read_host(&flag).discovery.name.as_deref(), Some("flag"));
}

#[test]
fn an_unreadable_kubelet_configuration_is_remarked_and_the_default_assumed() {
    let host = Host::new().kubeadm().file("/var/lib/kubelet/config.yaml", "staticPodPath: [1");
    let discovery = read_host(&host.options()).discovery;
    assert_eq!(discovery.platform, Platform::StaticPods);
    assert!(discovery.remarks[0].contains("/var/lib/kubelet/config.yaml"), "{:?}", discovery.remarks);
}

#[test]
fn links_mean_the_hosts_root_below_a_root() {
    let host = Host::new().file("/srv/real/pods/etcd.yaml", "x").file("/srv/pki/ca.crt", "x");
    std::fs::create_dir_all(host.path("/etc/kubernetes")).unwrap();
    symlink("/srv/real/pods", host.path("/etc/kubernetes/manifests")).unwrap();
    symlink("../../srv/pki", host.path("/etc/kubernetes/pki")).unwrap();
    symlink("loop", host.path("/etc/loop")).unwrap();
    symlink("../../../../../etc/passwd", host.path("/etc/escape")).unwrap();
    let root = HostRoot::new(host.0.path());
    let resolve = |path: &str| root.resolve(Path::new(path));
    assert_eq!(resolve("/etc/kubernetes/manifests/etcd.yaml"), host.path("/srv/real/pods/etcd.yaml"));
    assert_eq!(resolve("/etc/kubernetes/pki/ca.crt"), host.path("/srv/pki/ca.crt"));
    assert_eq!(resolve("/etc/escape"), host.path("/etc/passwd"));
    assert!(!resolve("/etc/loop").exists());
    assert_eq!(HostRoot::new("/").resolve(Path::new("/etc")), Path::new("/etc"));
}

#[test]
fn markers_are_found_below_the_root() {
    let host = Host::new().file("/etc/kublr/daemon.yaml", "");
    assert_eq!(read_host(&host.options()).discovery.platform, Platform::Kublr);
}
