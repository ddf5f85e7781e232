//! What the real API server accepts, refuses, and lets whom do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lifeboat_e2e::cluster::{Cluster, Setup, condition, is_condition};
use lifeboat_e2e::manifests::{backup, schedule};
use serde_json::{Value, json};

/// Expects that the server refuses an object with these words.
async fn refused(cluster: &Cluster, object: &Value, words: &str) -> Result<()> {
    match cluster.apply(object).await {
        Ok(said) => bail!("accepted: {said}\n{object:#}"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(said.contains(words), "expected {words:?} in: {said}");
            Ok(())
        }
    }
}

fn restore(spec: Value) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore", "metadata": {"name": "r"}, "spec": spec})
}

fn location(spec: Value) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation", "metadata": {"name": "l"}, "spec": spec})
}

async fn the_server_says_what_is_wrong(cluster: &Cluster) -> Result<()> {
    refused(cluster, &location(json!({})), "set exactly one of s3, directory").await?;
    refused(cluster, &location(json!({"s3": {"bucket": "etcd", "prefix": "/x"}})), "write the prefix without").await?;
    refused(cluster, &location(json!({"s3": {"bucket": "etcd", "endpoint": "minio:9000"}})), "endpoint must be a URL")
        .await?;
    refused(cluster, &restore(json!({})), "set exactly one of cluster, member").await?;
    refused(cluster, &restore(json!({"cluster": {"from": {}}})), "set exactly one of backupRef, latest, archive")
        .await?;
    let mut sized = backup("b", "nowhere");
    sized["spec"]["limits"] = json!({"spool": "8 GB"});
    refused(cluster, &sized, "write a size as a quantity").await?;
    let mut misspelt = backup("b", "nowhere");
    misspelt["spec"]["verification"] = json!("Everything");
    refused(cluster, &misspelt, "Unsupported value").await?;
    refused(cluster, &schedule(&"s".repeat(41), "@daily", "l"), "at most 40 characters").await?;
    cluster.apply(&schedule(&"s".repeat(40), "@daily", "l")).await?;
    // A template may change, a record may not.
    cluster.apply(&schedule(&"s".repeat(40), "@daily", "other")).await?;
    cluster.apply(&backup("record", "nowhere")).await?;
    refused(cluster, &backup("record", "elsewhere"), "an EtcdBackup is a record of one run; create a new one").await?;
    cluster.apply(&restore(json!({"member": {"nodeName": "m0"}, "attempt": 2}))).await?;
    refused(cluster, &restore(json!({"member": {"nodeName": "m1"}, "attempt": 2})), "member is immutable").await?;
    refused(cluster, &restore(json!({"member": {"nodeName": "m0"}, "attempt": 1})), "attempt never decreases").await?;
    Ok(())
}

/// Defaults are the server's: what a user leaves out is there to read afterwards.
async fn defaults_are_filled_in(cluster: &Cluster) -> Result<()> {
    let record = cluster.get("etcdb", "record").await?.unwrap();
    ensure!(
        record["spec"]
            == json!({"locationRef": {"name": "nowhere"}, "source": {"memberPolicy": "PreferFollower"},
                "compression": {"zstdLevel": 1}, "verification": "Content", "backoffLimit": 3,
                "limits": {"transferSeconds": 300, "timeoutSeconds": 1800, "spool": "8Gi"}}),
        "{record:#}"
    );
    let nightly = cluster.get("etcdbs", &"s".repeat(40)).await?.unwrap();
    ensure!(
        nightly["spec"]["retention"]
            == json!({"keepLast": 7, "keepHourly": 0, "keepDaily": 7, "keepWeekly": 4, "keepMonthly": 6, "keepYearly": 0, "minimumHealthy": 3}),
        "{nightly:#}"
    );
    Ok(())
}

/// A restore of one member cannot be carried out by this version, and says so instead of looking as if it went on.
async fn a_restore_of_one_member_says_that_it_is_not_supported(cluster: &Cluster) -> Result<()> {
    let stalled =
        cluster.wait_for("etcdr", "r", Duration::from_secs(20), |r| is_condition(r, "Stalled", "True")).await?;
    ensure!(condition(&stalled, "Ready").unwrap()["reason"] == "NotSupported", "{stalled:#}");
    println!("{}", cluster.kubectl(&["get", "etcdr"]).await?);
    Ok(())
}

/// kubectl as the agent of a node: what its token would say, by impersonation.
async fn as_agent(cluster: &Cluster, node: &str, args: &[&str]) -> Result<String> {
    let user = format!("--as=system:serviceaccount:{}:lifeboat-agent", cluster.namespace);
    let extra = format!("--as-user-extra=authentication.kubernetes.io/node-name={node}");
    let mut all = vec![user.as_str()];
    if !node.is_empty() {
        all.push(&extra);
    }
    all.extend_from_slice(args);
    cluster.kubectl(&all).await
}

async fn forbidden(outcome: Result<String>, words: &str) -> Result<()> {
    match outcome {
        Ok(said) => bail!("allowed: {said}"),
        Err(error) => {
            ensure!(format!("{error:#}").contains(words), "expected {words:?} in {error:#}");
            Ok(())
        }
    }
}

async fn an_agent_may_touch_only_its_own_work(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.node_names();
    let (mine, other) = (nodes[0].as_str(), nodes[1].as_str());
    let status = |patch: Value| patch.to_string();
    let patch = |resource: &'static str, name: String, body: String| {
        vec![
            "patch".to_owned(),
            resource.to_owned(),
            name,
            "--subresource=status".into(),
            "--type=merge".into(),
            "-p".into(),
            body,
        ]
    };
    async fn run(cluster: &Cluster, node: &str, args: Vec<String>) -> Result<String> {
        as_agent(cluster, node, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    }
    run(cluster, mine, patch("etcdm", mine.into(), status(json!({"status": {"platform": "StaticPods"}})))).await?;
    let words = "an agent may write only the EtcdMember of its own node";
    forbidden(
        run(cluster, mine, patch("etcdm", other.into(), status(json!({"status": {"platform": "x"}})))).await,
        words,
    )
    .await?;
    let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    forbidden(run(cluster, mine, patch("etcdm", mine.into(), status(conditions))).await, "operator's").await?;
    forbidden(
        run(cluster, "", patch("etcdm", mine.into(), status(json!({"status": {"platform": "x"}})))).await,
        "names no node",
    )
    .await?;

    // A finished backup: its execution belongs to its node, and only while it is that of the assignment.
    cluster.create_location("policy").await?;
    let mut object = backup("policy", "policy");
    object["spec"]["source"] = json!({"nodeName": mine});
    cluster.apply(&object).await?;
    let done =
        cluster.wait_for("etcdb", "policy", Duration::from_secs(90), |b| is_condition(b, "Complete", "True")).await?;
    let execution = |node: &str, attempt: i64| {
        json!({"status": {"execution": {"nodeName": node, "attempt": attempt, "task": "Backup",
            "startTime": "2026-01-01T00:00:00Z", "heartbeatTime": "2026-01-01T00:00:00Z"}}})
        .to_string()
    };
    let attempt = done["status"]["assignment"]["attempt"].as_i64().unwrap();
    forbidden(
        run(cluster, other, patch("etcdb", "policy".into(), execution(mine, attempt))).await,
        "assigned to its node",
    )
    .await?;
    forbidden(
        run(cluster, mine, patch("etcdb", "policy".into(), execution(mine, attempt + 1))).await,
        "execution may only be written by",
    )
    .await?;
    forbidden(
        run(cluster, mine, patch("etcdb", "policy".into(), json!({"status": {"phase": "Complete!"}}).to_string()))
            .await,
        "status.execution",
    )
    .await?;
    imports_and_nothing_else(cluster, mine, other).await?;
    // How far a master is with a restore its own agent says, whoever is assigned; and nothing else of it.
    let nodes = |nodes: &[&str]| {
        let entries: Vec<Value> = nodes.iter().map(|node| json!({"nodeName": node, "step": "1/10 Stage"})).collect();
        json!({"status": {"nodes": entries}}).to_string()
    };
    run(cluster, mine, patch("etcdr", "r".into(), nodes(&[mine]))).await?;
    run(cluster, other, patch("etcdr", "r".into(), nodes(&[mine, other]))).await?;
    for foreign in [nodes(&[other]), nodes(&[]), nodes(&[mine, "m9", other])] {
        forbidden(run(cluster, other, patch("etcdr", "r".into(), foreign)).await, "only its own entry").await?;
    }
    let decided = json!({"status": {"decision": "Commit"}}).to_string();
    forbidden(run(cluster, mine, patch("etcdr", "r".into(), decided)).await, "only status.execution").await?;
    // Nothing else: no deletion, no other kind.
    for args in [
        vec!["delete", "etcdb", "policy"],
        vec!["get", "secrets"],
        vec!["delete", "etcdr", "r"],
        vec!["patch", "etcdr", "r", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#],
        vec!["create", "configmap", "x"],
    ] {
        forbidden(as_agent(cluster, mine, &args).await, "forbidden").await?;
    }
    Ok(())
}

/// An agent makes records of archives, of its own accord, and fills them in; it makes no runs and asks for nothing.
async fn imports_and_nothing_else(cluster: &Cluster, mine: &str, other: &str) -> Result<()> {
    let id = "20260101-000000-0123abcd";
    let create = async |node: &str, name: &str, annotations: Value| -> Result<String> {
        let mut object = backup(name, "policy");
        object["metadata"]["annotations"] = annotations;
        let user = format!("--as=system:serviceaccount:{}:lifeboat-agent", cluster.namespace);
        let extra = format!("--as-user-extra=authentication.kubernetes.io/node-name={node}");
        let args = ["-n", &cluster.namespace, &user, &extra, "create", "--validate=false", "-f", "-"];
        cluster.bed.kubectl_with_input(&args, &object.to_string()).await
    };
    let imported = |value: &str| json!({"etcd.lifeboat.dev/imported": value});
    for annotations in [json!({}), imported("yes"), imported("20260101-000000-0123abcd/../x")] {
        forbidden(create(mine, "found", annotations).await, "only as the record of an archive").await?;
    }
    let mut asking = imported(id);
    asking["etcd.lifeboat.dev/delete-archive"] = json!(id);
    forbidden(create(mine, "found", asking).await, "no annotation that asks").await?;
    create(mine, "found", imported(id)).await?;
    let fill = |node: &str, task: &str, attempt: i64| {
        json!({"status": {"execution": {"nodeName": node, "attempt": attempt, "task": task,
            "startTime": "2026-01-01T00:00:00Z", "heartbeatTime": "2026-01-01T00:00:00Z",
            "result": {"error": {"reason": "ArchiveCorrupt", "message": "filled in by a test"}}}}})
        .to_string()
    };
    let write = async |node: &str, name: &str, body: String| -> Result<String> {
        as_agent(cluster, node, &["patch", "etcdb", name, "--subresource=status", "--type=merge", "-p", &body]).await
    };
    forbidden(write(mine, "found", fill(other, "Import", 0)).await, "assigned to its node").await?;
    forbidden(write(mine, "found", fill(mine, "Import", 1)).await, "of the current assignment").await?;
    forbidden(write(mine, "found", fill(mine, "Backup", 0)).await, "of the current assignment").await?;
    forbidden(write(other, "policy", fill(other, "Import", 0)).await, "attempt never decreases").await?;
    write(mine, "found", fill(mine, "Import", 0)).await?;
    let said =
        cluster.wait_for("etcdb", "found", Duration::from_secs(20), |b| is_condition(b, "Failed", "True")).await?;
    ensure!(condition(&said, "Ready").unwrap()["message"] == "filled in by a test", "{said:#}");
    Ok(())
}

async fn the_operator_may_read_no_secret(cluster: &Cluster) -> Result<()> {
    let user = format!("--as=system:serviceaccount:{}:lifeboat-operator", cluster.namespace);
    let secret = "secret/lifeboat-installation";
    for args in [["get", "secrets"], ["get", secret], ["delete", secret], ["get", "configmaps"], ["get", "nodes"]] {
        forbidden(cluster.kubectl(&[user.as_str(), args[0], args[1]]).await, "forbidden").await?;
    }
    Ok(())
}

async fn approval_needs_its_own_right(cluster: &Cluster) -> Result<()> {
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "restore-writer"},
         "rules": [{"apiGroups": ["etcd.lifeboat.dev"], "resources": ["etcdrestores"], "verbs": ["get", "create", "patch", "update"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "restore-writer"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "restore-writer"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "creator"}]}]});
    cluster.apply(&role).await?;
    let approve = ["--as=creator", "patch", "etcdr", "r", "--type=merge", "-p", r#"{"spec":{"approval":"ab12-cd34"}}"#];
    forbidden(cluster.kubectl(&approve).await, "approve").await?;
    // Who may create restores may not therefore name every backup: that takes `use` on it.
    for from in [
        json!({"backupRef": {"name": "policy"}}),
        json!({"latest": {"scheduleRef": {"name": "nightly"}}}),
        json!({"archive": {"locationRef": {"name": "policy"}, "backupId": "20261124-020304-00000001"}}),
    ] {
        let mut object = restore(json!({"cluster": {"from": from}}));
        object["metadata"]["name"] = json!("by-creator");
        let args = ["-n", cluster.namespace.as_str(), "--as=creator", "create", "-f", "-"];
        let created = cluster.bed.kubectl_with_input(&args, &object.to_string()).await;
        forbidden(created, "use").await?;
    }
    cluster
        .kubectl(&["--as=creator", "patch", "etcdr", "r", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#])
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_api_server_holds_users_agents_and_operator_to_the_contract() -> Result<()> {
    let cluster = Cluster::start(Setup::named("api")).await?;
    the_server_says_what_is_wrong(&cluster).await?;
    defaults_are_filled_in(&cluster).await?;
    a_restore_of_one_member_says_that_it_is_not_supported(&cluster).await?;
    an_agent_may_touch_only_its_own_work(&cluster).await?;
    the_operator_may_read_no_secret(&cluster).await?;
    approval_needs_its_own_right(&cluster).await?;
    let everything = cluster.kubectl(&["get", "all"]).await?;
    ensure!(!everything.contains("etcdbackup"), "kubectl delete all must not reach records: {everything}");
    cluster.shutdown().await
}
