//! The testbed itself, against the real components it brings up. Needs root and the programs of `hack/build-tools.sh`.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lifeboat_testbed::{EtcdLine, Node, Options, Signal, Summary, Testbed, wait_for};
use serde_json::Value;

/// Whether etcd's database is free to be locked. bbolt of a running etcd holds it exclusively.
fn db_is_free(node: &Node) -> Result<bool> {
    let db = File::open(node.path("/var/lib/etcd/member/snap/db"))?;
    Ok(db.try_lock_shared().is_ok())
}

/// Every process whose command line speaks of `text`.
fn processes_with(text: &str) -> Vec<String> {
    let lines = fs::read_dir("/proc").expect("proc").flatten();
    lines
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|pid| pid != std::process::id()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Waits until a process with this command line is stopped.
fn wait_until_stopped(text: &str) {
    let is_stopped =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let pids = fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.file_name());
        let stopped = pids.filter_map(|pid| pid.into_string().ok()).any(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").starts_with(text) && is_stopped(&pid)
        });
        if stopped {
            return;
        }
        assert!(Instant::now() < deadline, "no {text} has stopped");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn interfaces() -> String {
    let output = Command::new("ip").args(["-oneline", "-4", "address"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `10.123.x.` of a testbed.
fn subnet(bed: &Testbed) -> String {
    let [a, b, c, _] = bed.hub_address().octets();
    format!("{a}.{b}.{c}.")
}

async fn curl(bed: &Testbed, node: Option<&Node>, url: &str) -> Result<String> {
    let args = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "3", "--cacert"];
    let mut command = match node {
        Some(node) => node.command("curl"),
        None => tokio::process::Command::new("curl"),
    };
    let output = command
        .env_remove("https_proxy")
        .env_remove("HTTPS_PROXY")
        .args(args)
        .arg(&bed.s3().ca_file)
        .arg(url)
        .output()
        .await?;
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn a_bed_serves_obeys_its_manifests_and_leaves_nothing() -> Result<()> {
    let begun = Instant::now();
    let bed = Testbed::start(Options::named("whole")).await?;
    eprintln!("start: {:?}", begun.elapsed());
    let [first, second, third] = bed.nodes() else { panic!("three nodes") };

    // etcd: three started members over mutual TLS, one leader.
    let endpoints =
        format!("--endpoints=https://{}:2379,https://{}:2379,https://{}:2379", first.ip, second.ip, third.ip);
    let status: Value =
        serde_json::from_str(&bed.etcdctl(second, &["endpoint", "status", "-w", "json", &endpoints]).await?)?;
    let leaders: Vec<_> =
        status.as_array().context("array")?.iter().map(|member| member["Status"]["leader"].clone()).collect();
    assert_eq!(leaders.len(), 3);
    assert!(leaders.iter().all(|leader| *leader == leaders[0] && leader.as_u64() != Some(0)), "{status}");
    let anonymous = second
        .command("etcdctl")
        .args(["--endpoints", "https://127.0.0.1:2379", "--insecure-skip-tls-verify", "get", "x"])
        .output();
    assert!(!anonymous.await?.status.success(), "etcd must demand a client certificate");

    // The API: nodes, and a write seen in etcd of another node.
    let nodes: Value = serde_json::from_str(
        &bed.kubectl(&["get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "json"]).await?,
    )?;
    let nodes = nodes["items"].as_array().context("items")?.clone();
    assert_eq!(nodes.len(), 3);
    assert!(
        nodes
            .iter()
            .all(|node| node["spec"]["taints"].is_null() && node["status"]["conditions"][0]["status"] == "True"),
        "{nodes:?}"
    );
    bed.kubectl(&["create", "configmap", "seen", "--from-literal=a=b"]).await?;
    let keys = bed.etcdctl(third, &["get", "--keys-only", "/registry/configmaps/default/seen"]).await?;
    assert!(keys.contains("/registry/configmaps/default/seen"));

    // Manifests as kubeadm leaves them, on masters that joined one after the other.
    let manifest = |node: &Node| fs::read_to_string(node.path("/etc/kubernetes/manifests/etcd.yaml"));
    assert!(!manifest(first)?.contains("--initial-cluster-state") && !manifest(first)?.contains("master-1="));
    assert!(manifest(second)?.contains("--initial-cluster-state=existing") && !manifest(second)?.contains("master-2="));
    assert!(manifest(third)?.contains(&format!("master-2=https://{}:2380", third.ip)));
    assert!(!third.path("/etc/kubernetes/manifests/kube-apiserver.yaml").exists());

    // A node sees its own processes, files and name, not those of others.
    let seen = |stdout: Vec<u8>| String::from_utf8_lossy(&stdout).into_owned();
    let own = second
        .command("sh")
        .args(["-c", "hostname; ls /var/lib/etcd; cat /proc/[0-9]*/comm | grep -cx etcd"])
        .output()
        .await?;
    assert_eq!(seen(own.stdout), "master-1\nmember\n1\n");

    // Moved out: the process ends and lets go of its database. Moved in: it serves again.
    assert!(!db_is_free(second)?);
    second.stop_pod("etcd").await?;
    assert!(db_is_free(second)? && second.pod_pid("etcd").is_none());
    assert!(bed.etcdctl(second, &["endpoint", "health", "--command-timeout=1s"]).await.is_err());
    second.start_pod("etcd").await?;
    bed.etcd_healthy(Duration::from_secs(20)).await?;
    assert!(!db_is_free(second)?);

    // Killed: it is started again as the manifest is still there.
    let before = third.pod_pid("etcd").context("runs")?;
    third.kill_pod("etcd", Signal::KILL)?;
    wait_for("another etcd", Duration::from_secs(10), async || {
        Ok(third.pod_pid("etcd").is_some_and(|pid| pid != before))
    })
    .await?;
    bed.etcd_healthy(Duration::from_secs(20)).await?;

    // Paused and resumed.
    third.pause_pod("etcd")?;
    assert!(bed.etcdctl(third, &["endpoint", "health", "--command-timeout=1s"]).await.is_err());
    third.resume_pod("etcd")?;
    bed.etcd_healthy(Duration::from_secs(20)).await?;

    // A changed manifest restarts with the new flags.
    let file = third.path("/etc/kubernetes/manifests/etcd.yaml");
    let changed = fs::read_to_string(&file)?.replace("--snapshot-count=10000", "--snapshot-count=10001");
    fs::write(third.path("/etc/kubernetes/manifests/.etcd.yaml.new"), changed)?;
    fs::rename(third.path("/etc/kubernetes/manifests/.etcd.yaml.new"), &file)?;
    wait_for("the new flag", Duration::from_secs(40), async || {
        let pid = third.pod_pid("etcd").context("not yet")?;
        Ok(fs::read_to_string(format!("/proc/{pid}/cmdline"))?.contains("--snapshot-count=10001"))
    })
    .await?;
    bed.etcd_healthy(Duration::from_secs(20)).await?;

    // A cable pulled: the others cannot reach it, and it still reaches itself.
    bed.disconnect(third)?;
    let of_third = format!("--endpoints=https://{}:2379", third.ip);
    assert!(bed.etcdctl(first, &["endpoint", "health", "--command-timeout=1s", &of_third]).await.is_err());
    assert!(bed.etcdctl(third, &["endpoint", "status", "--command-timeout=2s"]).await.is_ok());
    bed.reconnect(third)?;
    bed.etcd_healthy(Duration::from_secs(20)).await?;

    // A node's readiness is what the test says.
    bed.set_node_ready(second, false).await?;
    let condition = ["get", "node", "master-1", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"];
    assert_eq!(bed.kubectl(&condition).await?, "False");

    let (dir, prefix) = (bed.dir().to_path_buf(), subnet(&bed));
    assert!(interfaces().contains(&prefix) && !processes_with(&prefix).is_empty());
    bed.shutdown().await?;
    assert!(!dir.exists());
    assert!(!interfaces().contains(&prefix), "{}", interfaces());
    assert_eq!(processes_with(&prefix), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_a_test_spawns_can_be_cut_off_killed_and_restarted() -> Result<()> {
    let bed = Testbed::start(Options { masters: 1, controller_manager: false, ..Options::named("spawn") }).await?;
    let [node] = bed.nodes() else { panic!("one node") };

    // A token bound to the node, used through a kubeconfig from inside the node.
    bed.kubectl(&["create", "serviceaccount", "agent"]).await?;
    let token = bed.token("agent", "default", Some(node)).await?;
    let kubeconfig = node.path("/var/lib/lifeboat/kubeconfig");
    bed.write_kubeconfig(&token, &kubeconfig, None)?;
    let mut whoami = bed.spawn_in(
        Some(node),
        "kubectl",
        &["auth", "whoami", "-o", "json"],
        &[("KUBECONFIG", "/var/lib/lifeboat/kubeconfig")],
        "whoami",
    )?;
    assert!(whoami.wait().await?.success(), "{}", whoami.log_tail());
    let log = whoami.log_tail();
    assert!(
        log.contains("system:serviceaccount:default:agent") && log.contains("authentication.kubernetes.io/node-name"),
        "{log}"
    );

    // Cut off from etcd: the agent's group only.
    let probe = r#"while :; do if etcdctl --endpoints https://127.0.0.1:2379 --command-timeout=1s --cacert $P/ca.crt --cert $P/server.crt --key $P/server.key get x >/dev/null 2>&1; then echo yes; else echo no; fi; sleep 0.1; done"#;
    let mut agent = bed.spawn_in(Some(node), "sh", &["-c", probe], &[("P", "/etc/kubernetes/pki/etcd")], "probe")?;
    let log = agent.log().to_path_buf();
    let says = |word: &'static str| {
        let log = log.clone();
        move || {
            let last = fs::read_to_string(&log).unwrap_or_default().lines().last().map(str::to_owned);
            async move { Ok(last.as_deref() == Some(word)) }
        }
    };
    wait_for("a probe that reaches etcd", Duration::from_secs(20), says("yes")).await?;
    node.block_agent_etcd().await?;
    wait_for("a probe cut off", Duration::from_secs(20), says("no")).await?;
    assert!(bed.etcdctl(node, &["endpoint", "health"]).await.is_ok(), "others must still reach etcd");
    node.unblock_agent_etcd().await?;
    wait_for("a probe that reaches etcd again", Duration::from_secs(20), says("yes")).await?;

    // Killed, it is gone inside the node too, and nobody starts it again but the test.
    let pid = agent.pid().context("runs")?;
    agent.kill9().await?;
    assert!(!agent.is_running() && !Path::new(&format!("/proc/{pid}")).exists());
    agent.restart().await?;
    wait_for("another process", Duration::from_secs(5), async || Ok(agent.pid().is_some_and(|now| now != pid))).await?;
    let pid = agent.pid().context("runs")?;
    drop(agent);
    wait_for("the end of a dropped process", Duration::from_secs(5), async || {
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })
    .await?;

    // The store: TLS that verifies, strangers are refused, from the host and from a node; dead and back; unreachable and back.
    let url = format!("{}/backups", bed.s3().endpoint);
    assert_eq!(curl(&bed, None, &url).await?, "403");
    assert_eq!(curl(&bed, Some(node), &url).await?, "403");
    let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user"];
    let credentials = format!("{}:{}", bed.s3().access_key, bed.s3().secret_key);
    let object = format!("{url}/some/object");
    let put = node
        .command("curl")
        .args(["--silent", "--fail", "--cacert"])
        .arg(&bed.s3().ca_file)
        .args(signed)
        .args([
            &credentials,
            "--header",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            "--upload-file",
            "/etc/hostname",
            &object,
        ])
        .output()
        .await?;
    assert!(put.status.success(), "{put:?}");
    assert!(bed.s3().bucket_dir("backups").join("some/object").exists());
    bed.s3().kill().await?;
    assert_eq!(curl(&bed, None, &url).await?, "000");
    bed.s3().start().await?;
    assert_eq!(curl(&bed, None, &url).await?, "403");
    bed.disconnect_s3()?;
    let begun = Instant::now();
    assert_eq!(curl(&bed, None, &url).await?, "000");
    assert!(begun.elapsed() > Duration::from_secs(2), "a pulled cable hangs, it does not refuse");
    bed.reconnect_s3()?;
    assert_eq!(curl(&bed, None, &url).await?, "403");
    bed.shutdown().await
}

#[tokio::test]
async fn two_beds_with_other_lines_of_etcd_stand_side_by_side() -> Result<()> {
    let of = |etcd_line| Options { etcd_line, api_servers: 0, ..Options::named("side") };
    let (old, new) = tokio::try_join!(Testbed::start(of(EtcdLine::V3_5)), Testbed::start(of(EtcdLine::V3_7)))?;
    assert_ne!(subnet(&old), subnet(&new));
    for (bed, line) in [(&old, "3.5."), (&new, "3.7.")] {
        let [first, ..] = bed.nodes() else { panic!("nodes") };
        let status: Value = serde_json::from_str(&bed.etcdctl(first, &["endpoint", "status", "-w", "json"]).await?)?;
        let version = status[0]["Status"]["version"].as_str().context("version")?.to_owned();
        assert!(version.starts_with(line), "{version}");
        bed.etcdctl(first, &["put", "line", line]).await?;
    }
    let [first, ..] = new.nodes() else { panic!("nodes") };
    assert!(new.etcdctl(first, &["get", "line"]).await?.contains("3.7."), "each has data of its own");
    drop(old);
    assert!(new.etcd_healthy(Duration::from_secs(5)).await.is_ok(), "the end of one is not the end of the other");
    Ok(())
}

#[test]
fn a_killed_owner_leaves_nothing_but_files_and_those_are_swept() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let dir = parent.path().join("bed");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["up", "--masters", "1", "--api-servers", "0", "--dir"])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(owner.stdout.take().context("stdout")?).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    let Summary { masters, .. } = Summary::read(&dir)?;
    let [a, b, c, _] = masters[0].ip.octets();
    let prefix = format!("{a}.{b}.{c}.");
    // A stopped process is the hardest to get rid of: it cannot see that its owner is gone.
    let etcd =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    let etcd = etcd.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.starts_with("etcd\0") && line.contains(&prefix))
    });
    for pid in etcd {
        Command::new("kill").args(["-STOP", &pid.to_string()]).status()?;
    }
    assert!(processes_with(&prefix).len() >= 2, "etcd and the store");
    // Its nsenter stops with it. Only then does the kernel wake what the owner's death leaves stopped (the other order is
    // for `gc`).
    let entrance = format!("nsenter --target {}", masters[0].init);
    wait_until_stopped(&entrance);

    owner.kill()?;
    owner.wait()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let init = format!("/proc/{}", masters[0].init);
    while !processes_with(&prefix).is_empty() || interfaces().contains(&prefix) || Path::new(&init).exists() {
        assert!(Instant::now() < deadline, "left: {init} {:?}\n{}", processes_with(&prefix), interfaces());
        std::thread::sleep(Duration::from_millis(50));
    }

    let swept = Command::new(env!("CARGO_BIN_EXE_testbed")).arg("gc").output()?;
    assert!(swept.status.success(), "{swept:?}");
    // Another test that starts meanwhile may have swept first.
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn a_bed_of_the_command_line_can_be_entered_and_shut_down() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let dir = parent.path().join("bed");
    let testbed = || Command::new(env!("CARGO_BIN_EXE_testbed"));
    let mut owner = testbed()
        .args(["up", "--masters", "1", "--api-servers", "0", "--dir"])
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(owner.stdout.take().context("stdout")?).read_line(&mut line)?;
    let inside = testbed()
        .args(["exec", "--dir"])
        .arg(&dir)
        .args(["master-0", "--", "ls", "/etc/kubernetes/manifests"])
        .output()?;
    assert_eq!(String::from_utf8(inside.stdout)?, "etcd.yaml\n");
    assert!(testbed().args(["down", "--dir"]).arg(&dir).status()?.success());
    assert!(owner.wait()?.success() && !dir.exists());
    Ok(())
}
