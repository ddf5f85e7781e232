//! What the API server will accept and refuse, told from the generated schemas without a server.
//!
//! CEL rules are run on whole objects, creation and update. That a real API server says the same is seen in e2e.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::Validator;
use lifeboat_crds::generate::{definitions, yaml_files};
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let crd = definition(kind);
    serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

fn definition(kind: &str) -> CustomResourceDefinition {
    definitions().unwrap().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap()
}

/// Messages of the rules that refuse `object` (as an update of `old`, where given).
fn refusals(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(&schema(kind), object, old) {
        Ok(()) => vec![],
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn accepted(kind: &str, object: &Value, old: Option<&Value>) {
    assert_eq!(refusals(kind, object, old), Vec::<String>::new());
}

#[track_caller]
fn refused(kind: &str, object: &Value, old: Option<&Value>, words: &str) {
    let found = refusals(kind, object, old);
    assert!(found.iter().any(|message| message.contains(words)), "expected a refusal with {words:?}, got {found:?}");
}

fn location(spec: Value) -> Value {
    json!({"metadata": {"name": "offsite"}, "spec": spec})
}

fn backup(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "b"}, "spec": spec, "status": status})
}

fn restore(spec: Value) -> Value {
    let mut spec = spec;
    for (field, default) in [("approval", json!("")), ("attempt", json!(1)), ("cancel", json!(false))] {
        spec.as_object_mut().unwrap().entry(field).or_insert(default);
    }
    json!({"metadata": {"name": "r"}, "spec": spec})
}

#[test]
fn a_location_is_exactly_one_kind_of_store() {
    let s3 = json!({"bucket": "etcd", "prefix": "clusters/prod", "endpoint": "https://s3.example.org:9000"});
    let directory = json!({"mount": "nfs", "subPath": "a/b"});
    accepted("EtcdBackupLocation", &location(json!({"s3": s3})), None);
    accepted("EtcdBackupLocation", &location(json!({"directory": directory})), None);
    refused("EtcdBackupLocation", &location(json!({})), None, "set exactly one of s3, directory");
    refused("EtcdBackupLocation", &location(json!({"s3": s3, "directory": directory})), None, "set exactly one of");
}

#[test]
fn paths_that_leave_the_prefix_are_refused() {
    for prefix in ["/a", "a/", "a//b", "a/../b", "."] {
        let object = location(json!({"s3": {"bucket": "etcd", "prefix": prefix}}));
        refused("EtcdBackupLocation", &object, None, "write the prefix without");
    }
    let object = location(json!({"directory": {"mount": "nfs", "subPath": "../up"}}));
    refused("EtcdBackupLocation", &object, None, "relative to the mount");
}

#[test]
fn an_endpoint_is_a_url_of_http() {
    for endpoint in ["s3.example.org", "ftp://s3.example.org"] {
        let object = location(json!({"s3": {"bucket": "etcd", "endpoint": endpoint}}));
        refused("EtcdBackupLocation", &object, None, "endpoint must be a URL");
    }
}

#[test]
fn a_kms_key_needs_kms() {
    let object =
        location(json!({"s3": {"bucket": "etcd", "serverSideEncryption": {"type": "AES256", "kmsKeyId": "k"}}}));
    refused("EtcdBackupLocation", &object, None, "kmsKeyId needs type: KMS");
}

#[test]
fn sizes_are_quantities() {
    for spool in [json!("8Gi"), json!(8_589_934_592_i64), json!("0")] {
        accepted(
            "EtcdBackup",
            &backup(json!({"locationRef": {"name": "l"}, "limits": {"spool": spool}}), json!({})),
            None,
        );
    }
    for spool in [json!("8 GB"), json!("-1"), json!(-5)] {
        let object = backup(json!({"locationRef": {"name": "l"}, "limits": {"spool": spool}}), json!({}));
        refused("EtcdBackup", &object, None, "write a size as a quantity");
    }
}

#[test]
fn a_backup_is_a_record_and_a_template_is_not() {
    let old = backup(json!({"locationRef": {"name": "a"}}), json!({}));
    let new = backup(json!({"locationRef": {"name": "b"}}), json!({}));
    refused("EtcdBackup", &new, Some(&old), "an EtcdBackup is a record of one run; create a new one");
    let schedule = |name: &str| json!({"metadata": {"name": "s"}, "spec": {"schedule": "@daily", "template": {"spec": {"locationRef": {"name": name}}}}});
    accepted("EtcdBackupSchedule", &schedule("b"), Some(&schedule("a")));
}

#[test]
fn a_schedule_name_leaves_room_for_the_time() {
    let schedule = |name: String| json!({"metadata": {"name": name}, "spec": {"schedule": "@daily", "template": {"spec": {"locationRef": {"name": "l"}}}}});
    accepted("EtcdBackupSchedule", &schedule("s".repeat(40)), None);
    refused("EtcdBackupSchedule", &schedule("s".repeat(41)), None, "at most 40 characters");
}

fn execution(node: &str, attempt: i32, task: &str) -> Value {
    json!({"nodeName": node, "attempt": attempt, "task": task, "startTime": "2026-01-01T00:00:00Z", "heartbeatTime": "2026-01-01T00:00:00Z"})
}

fn assignment(node: &str, attempt: i32) -> Value {
    json!({"nodeName": node, "attempt": attempt, "task": "Backup", "time": "2026-01-01T00:00:00Z"})
}

#[test]
fn only_the_assigned_attempt_may_write_an_execution() {
    let spec = json!({"locationRef": {"name": "l"}});
    let status = |assignment: Value, execution: Option<Value>| {
        let mut status = json!({"assignment": assignment});
        if let Some(execution) = execution {
            status["execution"] = execution;
        }
        backup(spec.clone(), status)
    };
    let words = "execution may only be written by the node";
    let old = status(assignment("m1", 2), None);
    accepted("EtcdBackup", &status(assignment("m1", 2), Some(execution("m1", 2, "Backup"))), Some(&old));
    refused("EtcdBackup", &status(assignment("m1", 2), Some(execution("m1", 1, "Backup"))), Some(&old), words);
    refused("EtcdBackup", &status(assignment("m1", 2), Some(execution("m2", 2, "Backup"))), Some(&old), words);
    refused("EtcdBackup", &status(assignment("m1", 2), Some(execution("m1", 2, "Delete"))), Some(&old), words);
    accepted("EtcdBackup", &status(assignment("m1", 2), Some(execution("m9", 0, "Import"))), Some(&old));
    // The operator moves the assignment on while the old execution stays where it is.
    let running = status(assignment("m1", 2), Some(execution("m1", 2, "Backup")));
    accepted("EtcdBackup", &status(assignment("m2", 3), Some(execution("m1", 2, "Backup"))), Some(&running));
}

#[test]
fn a_result_is_what_one_task_yields_or_an_error() {
    let spec = json!({"locationRef": {"name": "l"}});
    let mut with_both = execution("m1", 1, "Backup");
    with_both["result"] = json!({});
    let old = backup(spec.clone(), json!({"assignment": assignment("m1", 1)}));
    let new = backup(spec, json!({"assignment": assignment("m1", 1), "execution": with_both}));
    refused("EtcdBackup", &new, Some(&old), "exactly one of archive, verification, pin, deletion, error");
}

#[test]
fn a_restore_is_one_request() {
    let cluster = json!({"from": {"backupRef": {"name": "b"}}});
    accepted("EtcdRestore", &restore(json!({"cluster": cluster})), None);
    accepted("EtcdRestore", &restore(json!({"member": {"nodeName": "m1"}})), None);
    refused("EtcdRestore", &restore(json!({})), None, "set exactly one of cluster, member");
    refused(
        "EtcdRestore",
        &restore(json!({"cluster": cluster, "member": {"nodeName": "m1"}})),
        None,
        "set exactly one of",
    );
    refused(
        "EtcdRestore",
        &restore(json!({"cluster": {"from": {}}})),
        None,
        "set exactly one of backupRef, latest, archive",
    );
    refused(
        "EtcdRestore",
        &restore(json!({"cluster": {"from": {"latest": {}}}})),
        None,
        "set exactly one of scheduleRef, locationRef",
    );
}

#[test]
fn a_restore_changes_only_in_approval_attempt_and_cancel() {
    let with = |approval: &str, attempt: i32, cancel: bool, backup: &str| {
        restore(
            json!({"cluster": {"from": {"backupRef": {"name": backup}}}, "approval": approval, "attempt": attempt, "cancel": cancel}),
        )
    };
    let old = with("", 2, true, "b");
    accepted("EtcdRestore", &with("ab12-cd34", 2, true, "b"), Some(&old));
    accepted("EtcdRestore", &with("", 3, false, "b"), Some(&old));
    refused("EtcdRestore", &with("", 2, true, "other"), Some(&old), "cluster is immutable");
    refused("EtcdRestore", &with("", 1, true, "b"), Some(&old), "attempt never decreases");
    refused("EtcdRestore", &with("", 2, false, "b"), Some(&old), "cancel cannot be taken back");
    refused(
        "EtcdRestore",
        &restore(json!({"member": {"nodeName": "m"}, "attempt": 3})),
        Some(&old),
        "cluster is immutable",
    );
}

/// Walks every schema below `spec` and `status`.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(inner, &format!("{path}.{key}"), visit);
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key) {
            walk(inner, &format!("{path}{step}"), visit);
        }
    }
}

#[test]
fn every_text_list_and_map_is_bounded_and_nothing_is_nullable() {
    for crd in definitions().unwrap() {
        let kind = crd.spec.names.kind.as_str();
        walk(&schema(kind), kind, &mut |path, schema| {
            assert!(schema.get("nullable").is_none(), "{path} is nullable");
            let has = |key: &str| schema.get(key).is_some();
            match schema.get("type").and_then(Value::as_str) {
                Some("string") => assert!(has("maxLength") || has("enum") || has("format"), "{path} is unbounded"),
                Some("array") => assert!(has("maxItems"), "{path} is unbounded"),
                Some("object") => assert!(!has("additionalProperties") || has("maxProperties"), "{path} is unbounded"),
                _ => {}
            }
        });
    }
}

#[test]
fn every_field_is_explained() {
    for crd in definitions().unwrap() {
        let kind = crd.spec.names.kind.as_str();
        walk(&schema(kind), kind, &mut |path, schema| {
            if path != kind && !path.ends_with("[]") && !path.ends_with("{}") {
                assert!(schema.get("description").is_some(), "{path} has no description");
            }
        });
    }
}

#[test]
fn nothing_looks_finished_before_the_operator_saw_it() {
    for crd in definitions().unwrap() {
        let kind = crd.spec.names.kind.as_str();
        assert_eq!(schema(kind)["properties"]["status"]["default"], json!({"observedGeneration": -1}), "{kind}");
    }
}

#[test]
fn names_columns_and_selectable_fields_are_those_of_the_design() {
    let columns = |kind: &str, wide: bool| -> Vec<String> {
        let columns = definition(kind).spec.versions[0].additional_printer_columns.clone().unwrap();
        columns.into_iter().filter(|c| (c.priority.unwrap_or(0) > 0) == wide).map(|c| c.name).collect()
    };
    assert_eq!(columns("EtcdBackup", false), ["Status", "Revision", "Size", "Verified", "Duration", "Age"]);
    assert_eq!(columns("EtcdBackup", true), ["Schedule", "Node", "Etcd", "Location", "Message"]);
    assert_eq!(
        columns("EtcdBackupSchedule", false),
        ["Schedule", "Suspend", "Last Success", "Last", "Next", "Ready", "Age"]
    );
    assert_eq!(columns("EtcdBackupSchedule", true), ["Timezone", "Kept", "Location", "Message"]);
    assert_eq!(
        columns("EtcdBackupLocation", false),
        ["Provider", "Access", "Available", "Ready", "Backups", "Last Checked", "Age"]
    );
    assert_eq!(columns("EtcdRestore", false), ["Kind", "Status", "Step", "Nodes", "Backup", "Age"]);
    assert_eq!(columns("EtcdRestore", true), ["Outage", "Message"]);
    assert_eq!(columns("EtcdMember", false), ["Member", "Leader", "Version", "DB Size", "Revision", "Ready", "Age"]);
    let names: Vec<_> =
        definitions().unwrap().into_iter().map(|crd| crd.spec.names.short_names.unwrap().concat()).collect();
    assert_eq!(names, ["etcdb", "etcdbl", "etcdbs", "etcdm", "etcdr"]);
    for crd in definitions().unwrap() {
        assert_eq!(
            crd.spec.names.categories,
            Some(vec!["lifeboat".to_owned()]),
            "kubectl delete all must not reach records"
        );
    }
    let selectable: Vec<_> = definition("EtcdBackup").spec.versions[0]
        .selectable_fields
        .clone()
        .unwrap()
        .into_iter()
        .map(|f| f.json_path)
        .collect();
    assert_eq!(selectable, [".spec.locationRef.name", ".status.phase", ".status.assignment.nodeName"]);
}

#[test]
fn the_committed_crds_are_those_generated() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/lifeboat/templates/crds");
    let mut committed: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    committed.sort();
    let generated = yaml_files().unwrap();
    let mut names: Vec<_> = generated.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    assert_eq!(committed, names);
    for (name, yaml) in generated {
        assert_eq!(std::fs::read_to_string(dir.join(&name)).unwrap(), yaml, "{name} is out of date: run `make gen`");
        assert!(!yaml.contains("{{"), "{name}: helm would take it for a template");
    }
}
