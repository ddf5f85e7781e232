//! Discovery on kubeadm's own manifests (`tests/data/kubeadm`, made by its `generate.sh`) and on variants.

use std::path::Path;

use super::endpoint::choose_endpoint;
use super::server::version_in_image;
use super::*;

fn corpus(name: &str) -> HostFacts {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let manifests = std::fs::read_dir(&directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
    });
    HostFacts {
        manifest_dir: "/etc/kubernetes/manifests".into(),
        manifests: manifests.collect(),
        ..HostFacts::default()
    }
}

fn seen(name: &str) -> Discovery {
    discover(&corpus(name), &Overrides::default())
}

/// A pod with etcd, as `container` continues it.
fn pod(container: &str) -> HostFacts {
    let text = format!("kind: Pod\nmetadata: {{name: etcd}}\nspec:\n  containers:\n  - name: etcd\n{container}");
    HostFacts {
        manifest_dir: "/manifests".into(),
        manifests: BTreeMap::from([("etcd.yaml".to_owned(), text)]),
        ..HostFacts::default()
    }
}

fn paths(texts: &[&str]) -> Vec<PathBuf> {
    texts.iter().map(PathBuf::from).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn credentials(ca: &str, cert: &str, key: &str) -> CredentialFiles {
    CredentialFiles { ca: ca.into(), cert: cert.into(), key: key.into() }
}

#[test]
fn kubeadm_as_it_comes_is_understood_whole() {
    let expected = Discovery {
        platform: Platform::StaticPods,
        manifest: Some("/etc/kubernetes/manifests/etcd.yaml".into()),
        is_supervised: false,
        name: Some("master-1".into()),
        data_dir: Some("/var/lib/etcd".into()),
        volume: Some("/var/lib/etcd".into()),
        volume_mount: Some("/var/lib/etcd".into()),
        wal_dir: None,
        is_wal_volume: false,
        volume_conflict: None,
        listen_client_urls: strings(&["https://127.0.0.1:2379", "https://10.0.0.11:2379"]),
        advertise_client_urls: strings(&["https://10.0.0.11:2379"]),
        peer_urls: strings(&["https://10.0.0.11:2380"]),
        listen_peer_urls: strings(&["https://10.0.0.11:2380"]),
        initial_cluster: strings(&["master-1=https://10.0.0.11:2380"]),
        endpoint: Some("https://127.0.0.1:2379".into()),
        credentials: vec![
            credentials(
                "/etc/kubernetes/pki/etcd/ca.crt",
                "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
                "/etc/kubernetes/pki/etcd/healthcheck-client.key",
            ),
            credentials(
                "/etc/kubernetes/pki/etcd/ca.crt",
                "/etc/kubernetes/pki/apiserver-etcd-client.crt",
                "/etc/kubernetes/pki/apiserver-etcd-client.key",
            ),
        ],
        quota: None,
        image: Some("registry.k8s.io/etcd:3.6.6-0".into()),
        version_hint: Some("3.6.6".into()),
        feature_gates: strings(&["InitialCorruptCheck=true"]),
        api_server: ApiServerFiles {
            encryption_config: None,
            service_account_keys: paths(&["/etc/kubernetes/pki/sa.pub"]),
        },
        api_server_port: Some(6443),
        sources: BTreeMap::from([("volume", "the hostPath in etcd.yaml".to_owned())]),
        restore_problems: vec![],
        problems: vec![],
        remarks: vec![],
    };
    assert_eq!(seen("kubeadm/v1.35"), expected);
}

#[test]
fn kubeadm_with_own_directories_quota_and_ipv6_is_understood() {
    let found = seen("kubeadm/v1.35-tuned");
    assert_eq!((found.problems.as_slice(), found.remarks.as_slice()), (&[][..], &[][..]));
    assert_eq!(found.name.as_deref(), Some("master-2"));
    assert_eq!(found.data_dir.as_deref(), Some(Path::new("/mnt/fast/etcd")));
    assert_eq!(found.wal_dir.as_deref(), Some(Path::new("/mnt/fast/etcd/wal")));
    assert_eq!(found.endpoint.as_deref(), Some("https://[::1]:2379"));
    assert_eq!(found.quota, Some(8 << 30));
    assert_eq!(found.credentials[0].cert, Path::new("/srv/pki/etcd/healthcheck-client.crt"));
    assert_eq!(found.credentials[1].cert, Path::new("/srv/pki/apiserver-etcd-client.crt"));
    // The container sees it as /etc/kubernetes/enc/config.yaml.
    assert_eq!(found.api_server.encryption_config.as_deref(), Some(Path::new("/srv/kubernetes/enc/config.yaml")));
}

#[test]
fn every_manifest_of_kubeadm_is_understood() {
    for name in [
        "kubeadm/v1.24",
        "kubeadm/v1.28-joined",
        "kubeadm/v1.31",
        "kubeadm/v1.34",
        "kubeadm/v1.35",
        "kubeadm/v1.35-joined",
        "kubeadm/v1.35-supervised",
        "kubeadm/v1.35-tuned",
        "kubeadm/v1.37",
    ] {
        let found = seen(name);
        assert_eq!(found.platform, Platform::StaticPods, "{name}");
        assert_eq!((found.problems.as_slice(), found.remarks.as_slice()), (&[][..], &[][..]), "{name}");
        assert!(found.name.is_some() && found.volume.is_some() && found.endpoint.is_some(), "{name}");
        assert_eq!((found.restore_problems.len(), found.peer_urls.len()), (0, 1), "{name}");
        assert_eq!(found.credentials.len(), 2, "{name}");
    }
}

#[test]
fn flags_in_args_separate_values_and_environment_are_read_alike() {
    let volumes = "    volumeMounts: [{name: d, mountPath: /data}]\n  volumes: [{name: d, hostPath: {path: /mnt/d}}]\n";
    for container in [
        "    command: [etcd, --name=a, --data-dir=/data/etcd, '--listen-client-urls=http://127.0.0.1:2379']\n",
        "    args: [etcd, --name=a, --data-dir=/data/etcd, '--listen-client-urls=http://127.0.0.1:2379']\n",
        "    command: [/usr/local/bin/etcd]\n    args: [--name, a, --data-dir, /data/etcd, --listen-client-urls, 'http://127.0.0.1:2379']\n",
        "    command: [etcd, --name, a]\n    env: [{name: ETCD_DATA_DIR, value: /data/etcd}, {name: ETCD_NAME, value: b}, \
         {name: ETCD_LISTEN_CLIENT_URLS, value: 'http://127.0.0.1:2379'}]\n",
        "    command: [etcd, --name=$(NODE), --data-dir=/data/etcd, '--listen-client-urls=http://0.0.0.0:2379']\n    \
         env: [{name: NODE, value: a}]\n",
    ] {
        let found = discover(&pod(&format!("{container}{volumes}")), &Overrides::default());
        assert_eq!(found.problems, strings(&[]), "{container}");
        assert_eq!(found.name.as_deref(), Some("a"), "{container}");
        assert_eq!(found.data_dir.as_deref(), Some(Path::new("/mnt/d/etcd")), "{container}");
        assert_eq!(found.endpoint.as_deref(), Some("http://127.0.0.1:2379"), "{container}");
    }
}

#[test]
fn the_endpoint_is_this_nodes_own_and_loopback_first() {
    for (listen, expected) in [
        ("https://10.0.0.1:2379,https://127.0.0.1:2379", Some("https://127.0.0.1:2379")),
        ("https://10.0.0.1:2379,https://10.0.0.2:2379", Some("https://10.0.0.1:2379")),
        ("https://0.0.0.0:4001", Some("https://127.0.0.1:4001")),
        ("https://[::]:2379", Some("https://[::1]:2379")),
        ("https://[fd00::1]:2379, https://[::1]:2379/", Some("https://[::1]:2379")),
        ("unix://etcd:2379,https://10.0.0.1:2379", Some("https://10.0.0.1:2379")),
        ("https://$(IP):2379", None),
        ("https://10.0.0.1", None),
        ("", None),
    ] {
        let listen: Vec<String> = listen.split(',').map(|url| url.trim().to_owned()).collect();
        assert_eq!(choose_endpoint(&listen).as_deref(), expected, "{listen:?}");
    }
}

#[test]
fn a_data_directory_without_a_path_on_the_host_is_a_remark_and_no_hindrance_to_backups() {
    let urls = "'--listen-client-urls=http://127.0.0.1:2379'";
    for (container, words) in [
        (format!("    command: [etcd, --data-dir=/data, {urls}]\n"), "no volume is mounted"),
        (
            format!(
                "    command: [etcd, --data-dir=/data, {urls}]\n    volumeMounts: [{{name: d, mountPath: /data}}]\n"
            ),
            "does not define",
        ),
        (
            format!(
                "    command: [etcd, --data-dir=/data, {urls}]\n    volumeMounts: [{{name: d, mountPath: /data}}]\n  \
                 volumes: [{{name: d, emptyDir: {{}}}}]\n"
            ),
            "not a hostPath",
        ),
        (format!("    command: [etcd, {urls}]\n"), "no --data-dir"),
    ] {
        let found = discover(&pod(&container), &Overrides::default());
        assert_eq!(found.data_dir, None, "{container}");
        assert_eq!(found.problems, strings(&[]), "{container}");
        assert!(found.remarks[0].contains(words), "{:?}", found.remarks);
    }
}

#[test]
fn what_hides_its_arguments_is_a_problem_in_words_until_the_administrator_tells() {
    for (container, words) in [
        ("    command: [/bin/sh, -c, 'exec etcd --name a']\n", "through a shell"),
        ("    command: [etcd, --config-file=/etc/etcd.conf.yml, --name=ignored]\n", "/etc/etcd.conf.yml"),
        ("    command: [etcd]\n    env: [{name: ETCD_CONFIG_FILE, value: /etc/e.yml}]\n", "/etc/e.yml"),
        ("    command: [etcd, --name=a]\n", "--listen-client-urls"),
        ("    command: [etcd, --name=a, '--listen-client-urls=unix://x:1']\n", "unix://x:1"),
    ] {
        let found = discover(&pod(container), &Overrides::default());
        assert_eq!(found.problems.len(), 1, "{container}");
        assert!(
            found.problems[0].contains(words) && found.problems[0].contains("--etcd-endpoint"),
            "{:?}",
            found.problems
        );
        assert_eq!(found.endpoint, None);
        let overrides = Overrides {
            endpoint: Some("https://127.0.0.1:2379".into()),
            ca: Some("/ca".into()),
            cert: Some("/cert".into()),
            key: Some("/key".into()),
            data_dir: Some("/data".into()),
        };
        let told = discover(&pod(container), &overrides);
        assert_eq!(told.problems, strings(&[]), "{container}");
        assert_eq!(told.endpoint, overrides.endpoint);
        assert_eq!(told.credentials, [credentials("/ca", "/cert", "/key")]);
        assert_eq!(told.data_dir, overrides.data_dir);
    }
}

#[test]
fn half_an_override_of_the_certificates_names_the_missing_half() {
    let overrides = Overrides { cert: Some("/cert".into()), ..Overrides::default() };
    let found = discover(&corpus("kubeadm/v1.35"), &overrides);
    assert_eq!(
        found.problems,
        strings(&["the files to reach etcd with go together: --etcd-ca and --etcd-key are not given"])
    );
}

#[test]
fn https_without_any_known_certificate_is_a_problem() {
    let facts = pod("    command: [etcd, '--listen-client-urls=https://127.0.0.1:2379']\n");
    let found = discover(&facts, &Overrides::default());
    assert!(found.problems[0].contains("--etcd-cert"), "{:?}", found.problems);
}

#[test]
fn distributions_are_recognised_and_pointed_to_their_own_way() {
    for (marker, platform, words) in [
        (Marker::K3s, Platform::K3s, "k3s etcd-snapshot"),
        (Marker::Rke2, Platform::Rke2, "rke2 etcd-snapshot"),
        (Marker::Talos, Platform::Talos, "talosctl etcd snapshot"),
        (Marker::OpenShift, Platform::OpenShift, "cluster-backup.sh"),
        (Marker::KublrConfig, Platform::Kublr, "Kublr"),
        (Marker::KublrProgram, Platform::Kublr, "Kublr"),
    ] {
        let facts = HostFacts { markers: BTreeSet::from([marker]), ..HostFacts::default() };
        let found = discover(&facts, &Overrides::default());
        assert_eq!(found.platform, platform);
        assert!(found.problems[0].contains(words), "{:?}", found.problems);
    }
}

#[test]
fn a_kubeadm_master_with_leftovers_of_another_distribution_is_still_one() {
    let facts = HostFacts { markers: BTreeSet::from([Marker::K3s]), ..corpus("kubeadm/v1.35") };
    let found = discover(&facts, &Overrides::default());
    assert_eq!((found.platform, found.problems.len(), found.remarks.len()), (Platform::StaticPods, 0, 1));
}

#[test]
fn a_worker_and_a_master_with_external_etcd_say_what_is_missing() {
    let worker = discover(&HostFacts { manifest_dir: "/m".into(), ..HostFacts::default() }, &Overrides::default());
    assert_eq!(worker.platform, Platform::Unknown);
    assert!(worker.problems[0].contains("no static pod manifest was found in /m"), "{:?}", worker.problems);
    let mut external = corpus("kubeadm/v1.35");
    external.manifests.remove("etcd.yaml");
    let found = discover(&external, &Overrides::default());
    assert!(found.problems[0].contains("is etcd external"), "{:?}", found.problems);
}

#[test]
fn a_copy_beside_the_manifest_is_remarked_and_not_believed() {
    let mut facts = corpus("kubeadm/v1.35");
    let copy = facts.manifests["etcd.yaml"].replace("/var/lib/etcd", "/old");
    facts.manifests.insert("a-copy.yaml".into(), copy);
    facts.manifests.insert("broken.yaml".into(), ": not a pod".into());
    let found = discover(&facts, &Overrides::default());
    assert_eq!(found.data_dir.as_deref(), Some(Path::new("/var/lib/etcd")));
    assert_eq!(found.problems, strings(&[]));
    assert!(found.remarks.iter().any(|remark| remark.contains("broken.yaml")), "{:?}", found.remarks);
    assert!(found.remarks.iter().any(|remark| remark.contains("etcd.yaml, a-copy.yaml")), "{:?}", found.remarks);
}

#[test]
fn without_the_api_servers_manifest_its_certificate_is_looked_for_where_kubeadm_puts_it() {
    let mut facts = corpus("kubeadm/v1.35");
    let both = discover(&facts, &Overrides::default()).credentials;
    facts.manifests.remove("kube-apiserver.yaml");
    assert_eq!(discover(&facts, &Overrides::default()).credentials, both);
}

#[test]
fn versions_are_read_from_image_tags() {
    for (image, version) in [
        ("registry.k8s.io/etcd:3.6.6-0", Some("3.6.6")),
        ("quay.io/coreos/etcd:v3.5.30@sha256:00", Some("3.5.30")),
        ("reg:5000/etcd", None),
        ("reg:5000/etcd:latest", None),
        ("etcd@sha256:00", None),
        ("etcd:3.5", None),
    ] {
        assert_eq!(version_in_image(image).as_deref(), version, "{image}");
    }
}

#[test]
fn the_volume_is_the_hosts_path_of_what_is_mounted_also_above_the_data_directory() {
    let container = "    command: [etcd, --data-dir=/data/member-1, '--listen-client-urls=http://127.0.0.1:2379']\n    \
                     volumeMounts: [{name: d, mountPath: /data/, subPath: here}]\n  volumes: [{name: d, hostPath: {path: \
                     /mnt/d/}}]\n";
    let found = discover(&pod(container), &Overrides::default());
    assert_eq!(found.data_dir.as_deref(), Some(Path::new("/mnt/d/here/member-1")));
    assert_eq!(found.volume.as_deref(), Some(Path::new("/mnt/d/here")));
    assert_eq!(found.volume_mount.as_deref(), Some(Path::new("/data")));
    let told = Overrides { data_dir: Some("/mnt/d/here/other".into()), ..Overrides::default() };
    assert_eq!(discover(&pod(container), &told).volume.as_deref(), Some(Path::new("/mnt/d/here")));
    let told = Overrides { data_dir: Some("/elsewhere".into()), ..Overrides::default() };
    assert_eq!(discover(&pod(container), &told).volume.as_deref(), Some(Path::new("/elsewhere")));
}

#[test]
fn etcds_configuration_file_is_read_and_nothing_else_counts_beside_it() {
    let container = "    command: [etcd, --config-file=/etc/etcd.conf.yml, --name=ignored]\n    env: [{name: \
                     ETCD_DATA_DIR, value: /ignored}]\n    volumeMounts: [{name: d, mountPath: /data}]\n  volumes: [{name: \
                     d, hostPath: {path: /mnt/d}}]\n";
    let config = "name: a\ndata-dir: /data\nlisten-client-urls: http://127.0.0.1:2379\nquota-backend-bytes: 4096\n\
                  initial-advertise-peer-urls: https://10.0.0.1:2380\nclient-transport-security: {trusted-ca-file: /ca}\n";
    let facts = HostFacts { etcd_config: Some(Ok(config.into())), ..pod(container) };
    let found = discover(&facts, &Overrides::default());
    assert_eq!(found.problems, strings(&[]));
    assert_eq!((found.name.as_deref(), found.quota), (Some("a"), Some(4096)));
    assert_eq!(found.data_dir.as_deref(), Some(Path::new("/mnt/d")));
    assert_eq!(found.peer_urls, strings(&["https://10.0.0.1:2380"]));
    for broken in [Ok("- not a mapping".to_owned()), Err("/x cannot be read".to_owned())] {
        let facts = HostFacts { etcd_config: Some(broken), ..pod(container) };
        let words = discover(&facts, &Overrides::default()).problems.join("; ");
        assert!(words.contains("/etc/etcd.conf.yml") && words.contains("--data-dir"), "{words}");
    }
}

#[test]
fn an_external_etcd_is_named_and_refused() {
    let found = discover(&corpus("external"), &Overrides::default());
    assert!(found.problems[0].contains("https://10.9.0.1:2379,https://10.9.0.2:2379"), "{:?}", found.problems);
    assert!(!found.restore_problems.is_empty());
}

#[test]
fn a_manifest_with_our_supervisor_is_read_like_the_one_without() {
    let mut plain = seen("kubeadm/v1.35");
    plain.sources.clear();
    let mut supervised = seen("kubeadm/v1.35-supervised");
    supervised.sources.clear();
    assert!(std::mem::take(&mut supervised.is_supervised));
    assert_eq!(supervised, plain);
}

/// A Kublr master whose files say `daemon` and whose program says `validate`.
fn kublr(daemon: Option<&str>, validate: Option<&str>) -> Discovery {
    let facts = HostFacts {
        markers: BTreeSet::from([Marker::KublrConfig, Marker::KublrProgram]),
        kublr: kublr::KublrFiles { daemon: daemon.map(str::to_owned), validate: validate.map(str::to_owned) },
        ..corpus("kublr")
    };
    discover(&facts, &Overrides::default())
}

#[test]
fn a_kublr_master_is_understood_whole() {
    let found = kublr(None, None);
    assert_eq!((found.problems.as_slice(), found.restore_problems.as_slice()), (&[][..], &[][..]));
    assert_eq!(found.platform, Platform::Kublr);
    assert_eq!(found.name.as_deref(), Some("etcd1"));
    assert_eq!(found.peer_urls, strings(&["https://etcd1.kublr.local:2380"]));
    assert_eq!(found.endpoint.as_deref(), Some("https://127.0.0.1:2379"));
    assert_eq!(found.volume.as_deref(), Some(Path::new("/mnt/master-pd/etcd")));
    assert_eq!(found.version_hint.as_deref(), Some("3.5.15"));
    assert_eq!(found.sources["volume"], "the hostPath in etcd.manifest");
}

#[test]
fn kublrs_own_word_on_the_data_volume_comes_first() {
    let daemon = "kublr_agent: {}\netcd_storage:\n  path: /mnt/master-pd/etcd\n";
    assert_eq!(kublr(Some(daemon), None).sources["volume"], "/etc/kublr/daemon.yaml");
    // As a stream, after the log lines of the program, in the second document.
    let validate = "INFO reading: configuration: [\n---\nkind: {}\n---\netcd_storage: {type: persistent, path: /mnt/master-pd/etcd}\n";
    let found = kublr(Some("kublr_agent: {}\n"), Some(validate));
    assert_eq!((found.sources["volume"].as_str(), found.restore_problems.len()), ("kublr validate", 0));
    // Two different answers are no answer.
    let other = kublr(Some("etcd_storage: {path: /mnt/other}"), None);
    assert!(other.restore_problems[0].contains("/mnt/other"), "{:?}", other.restore_problems);
    assert_eq!(other.problems, strings(&[]));
    for broken in ["etcd_storage: {path: relative}", "etcd_storage: [\n", "etcd_storage: {path: [1]}"] {
        assert!(kublr(Some(broken), None).remarks.iter().any(|words| words.contains("--data-dir")), "{broken}");
    }
}

#[test]
fn a_kublr_master_without_a_manifest_still_has_its_data_volume() {
    let facts = HostFacts { markers: BTreeSet::from([Marker::KublrProgram]), ..HostFacts::default() };
    let found = discover(&facts, &Overrides::default());
    assert_eq!(found.volume.as_deref(), Some(Path::new(kublr::DEFAULT_VOLUME)));
    assert_eq!(found.sources["volume"], "Kublr's default");
}

#[test]
fn distributions_that_are_not_restored_say_how_they_are() {
    for (marker, words) in [
        (Marker::K3s, "k3s server --cluster-reset"),
        (Marker::Rke2, "rke2 server --cluster-reset"),
        (Marker::Talos, "talosctl bootstrap --recover-from"),
        (Marker::OpenShift, "cluster-restore.sh"),
    ] {
        let facts = HostFacts { markers: BTreeSet::from([marker]), ..HostFacts::default() };
        let found = discover(&facts, &Overrides::default());
        assert!(found.restore_problems.iter().any(|said| said.contains(words)), "{:?}", found.restore_problems);
    }
}
