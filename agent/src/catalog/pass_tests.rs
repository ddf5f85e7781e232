use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use lifeboat_crds::NodeName;
use lifeboat_crds::label;
use lifeboat_crds::location::{ArchiveSummary, CatalogReport};
use lifeboat_crds::manifest::SealedManifest;
use lifeboat_storage::{MemoryStore, PutMode};
use serde_json::{Value, json};

use super::*;
use crate::report::Reporter;

const CLUSTER: &str = "me";
const ASKED: &str = "2026-11-30T00:00:00Z";

/// An API server that keeps EtcdBackups, and nothing else.
#[derive(Clone, Default)]
struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Requests that change something.
    writes: Arc<Mutex<Vec<String>>>,
    /// How often a single object was read.
    reads: Arc<AtomicUsize>,
}

impl FakeApi {
    fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let api = self.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (code, answer) = api.answer(parts.method.as_str(), &parts.uri.to_string(), body);
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                send.send_response(Response::builder().status(code).body(answer).unwrap());
            }
        });
        Client::new(service, "lifeboat")
    }

    fn answer(&self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let name = path.split("/etcdbackups").nth(1).unwrap().trim_start_matches('/').trim_end_matches("/status");
        let mut objects = self.objects.lock().unwrap();
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "AlreadyExists" };
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason}))
        };
        match method {
            "GET" if name.is_empty() => {
                // Pages are by name; the token is the last one given.
                let after = query.split('&').find_map(|pair| pair.strip_prefix("continue=")).unwrap_or("").to_owned();
                let is_later = !after.is_empty();
                let limit: usize =
                    query.split('&').find_map(|pair| pair.strip_prefix("limit=")).unwrap().parse().unwrap();
                let page: Vec<Value> = objects
                    .range(after..)
                    .skip(usize::from(is_later))
                    .take(limit)
                    .map(|(_, object)| object.clone())
                    .collect();
                let last = page.last().map(|object| object["metadata"]["name"].clone());
                let token = if page.len() == limit { last } else { None };
                (
                    200,
                    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupList", "metadata": {"continue": token}, "items": page}),
                )
            }
            "GET" => {
                self.reads.fetch_add(1, Ordering::SeqCst);
                objects.get(name).map_or_else(|| failure(404), |object| (200, object.clone()))
            }
            "POST" => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                self.writes.lock().unwrap().push(format!("create {name}"));
                if objects.contains_key(&name) {
                    return failure(409);
                }
                let mut made = body;
                made["metadata"]["uid"] = json!(format!("uid-of-{name}"));
                made["metadata"]["creationTimestamp"] = json!(ASKED);
                objects.insert(name, made.clone());
                (201, made)
            }
            "PATCH" => {
                self.writes.lock().unwrap().push(format!("fill in {name}"));
                let Some(object) = objects.get_mut(name) else { return failure(404) };
                object["status"]["execution"] = body["status"]["execution"].clone();
                (200, object.clone())
            }
            other => panic!("{other} {uri}"),
        }
    }

    fn get(&self, name: &str) -> Value {
        self.objects.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    fn put(&self, name: &str, more: Value) {
        let mut object = json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup",
            "metadata": {"name": name, "namespace": "lifeboat", "uid": format!("uid-of-{name}"), "creationTimestamp": ASKED},
            "spec": {"locationRef": {"name": "bucket"}}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.objects.lock().unwrap().insert(name.to_owned(), object);
    }

    /// What the operator makes of what the agent filled in.
    fn operator_completes(&self) {
        for object in self.objects.lock().unwrap().values_mut() {
            let facts = object["status"]["execution"]["result"]["archive"].clone();
            if facts.is_object() {
                let id = object["metadata"]["annotations"][label::IMPORTED].clone();
                complete(object, &id, &facts);
            }
        }
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }
}

fn shown(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": ASKED})
}

fn complete(object: &mut Value, id: &Value, facts: &Value) {
    object["status"]["backupId"] = id.clone();
    object["status"]["storedSizeBytes"] = facts["storedSizeBytes"].clone();
    object["status"]["sha256"] = facts["sha256"].clone();
    // After the objects of the store were written, which is when the test runs.
    object["status"]["completionTime"] = json!(Timestamp::now().to_string());
    object["status"]["conditions"] =
        json!([shown("Ready", "True", "Succeeded"), shown("Complete", "True", "Succeeded")]);
}

struct Bed {
    store: MemoryStore,
    api: FakeApi,
    status: Value,
    asked: Timestamp,
}

impl Bed {
    fn new() -> Self {
        Self { store: MemoryStore::new(), api: FakeApi::default(), status: json!({}), asked: ASKED.parse().unwrap() }
    }

    async fn write(&self, key: &str, bytes: impl Into<Bytes>) {
        self.store.put(&ObjectKey::parse(key).unwrap(), bytes.into(), PutMode::Overwrite).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.store.delete(&ObjectKey::parse(key).unwrap()).await.unwrap();
    }

    async fn archive(&self, id: &str, name: &str, schedule: Option<&str>) {
        let manifest: Manifest = serde_json::from_value(json!({
            "backupId": id, "data": "snapshot-1-aa.db.zst", "attempt": 1,
            "object": {"namespace": "elsewhere", "name": name, "schedule": schedule,
                "spec": {"locationRef": {"name": "old"}, "verification": "Checksum"}},
            "cluster": {"uid": CLUSTER, "etcdClusterId": "1", "members": []},
            "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 40, "sha256": format!("of-{id}")},
            "archive": {"sizeBytes": 9, "sha256": "00", "compression": "zstd"},
            "verification": {"level": "Checksum", "time": "2026-11-24T02:03:04Z"},
            "startTime": "2026-11-24T02:03:04.5Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
        }))
        .unwrap();
        let bytes = SealedManifest::unsigned(manifest).to_bytes().unwrap();
        self.write(&format!("{CLUSTER}/backups/{id}/manifest.json"), bytes).await;
        self.write(&format!("{CLUSTER}/backups/{id}/snapshot-1-aa.db.zst"), "123456789").await;
    }

    /// A listing of everything: each is asked for ten minutes after the one before.
    async fn pass(&mut self) -> CatalogReport {
        self.asked = self.asked.checked_add(jiff::SignedDuration::from_mins(10)).unwrap();
        self.pass_at(self.asked).await
    }

    async fn pass_at(&mut self, asked: Timestamp) -> CatalogReport {
        let client = self.api.client();
        let location: EtcdBackupLocation = serde_json::from_value(json!({
            "apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
            "metadata": {"name": "bucket", "generation": 1}, "spec": {"s3": {"bucket": "abc"}}, "status": self.status}))
        .unwrap();
        let node = NodeName("m1".into());
        let importer = Importer {
            api: Api::namespaced(client.clone(), "lifeboat"),
            create_api: Api::namespaced(client.clone(), "lifeboat"),
            reporter: Reporter::new(client.clone(), "lifeboat", &node),
            node,
            namespace: "lifeboat".into(),
            location: "bucket".into(),
        };
        let cancel = CancellationToken::new();
        let pass = Pass {
            store: Arc::new(self.store.clone()),
            importer,
            api: Api::namespaced(client, "lifeboat"),
            cluster: CLUSTER,
            asked,
            now: Time(asked),
            known: KnownKeys::default(),
            cancel: &cancel,
        };
        let mut result = LocationResult::default();
        pass.run(&location, &mut result).await.unwrap();
        let report = result.catalog.unwrap();
        // As the operator notes it.
        let done = report.is_full && !report.has_more;
        let full = if done { json!(asked.to_string()) } else { self.status["catalog"]["fullPassTime"].clone() };
        self.status = json!({"catalog": {"passId": report.pass_id, "fullPassTime": full}, "backups": result.backups});
        report
    }

    fn summary(&self) -> ArchiveSummary {
        serde_json::from_value(self.status["backups"].clone()).unwrap()
    }
}

fn id(number: u32) -> String {
    format!("20261124-{:02}{:02}{:02}-{number:08x}", number / 3_600, number / 60 % 60, number % 60)
}

#[tokio::test]
async fn an_archive_without_a_record_gets_one_and_only_one() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "nightly-20261124020000-1", Some("nightly")).await;
    bed.archive(&id(2), "taken", None).await;
    bed.write(&format!("{CLUSTER}/backups/{}/pin.json", id(2)), r#"{"formatVersion":"1.0","payload":{"backupId":"20261124-000002-00000002","reason":"audit","time":"2026-11-24T03:00:00Z"}}"#).await;
    bed.archive(&id(3), "given-up", None).await;
    bed.write(&format!("{CLUSTER}/backups/{}/expired.json", id(3)), "{}").await;
    // It was given up just now, by the clock of the store.
    bed.asked = Timestamp::now();
    bed.write(&format!("other/backups/{}/manifest.json", id(4)), "{}").await;
    bed.api.put("taken", json!({}));
    let report = bed.pass().await;
    assert_eq!((report.is_full, report.has_more, report.imported), (true, false, 2));
    let record = bed.api.get("nightly-20261124020000-1");
    assert_eq!(record["metadata"]["annotations"], json!({label::IMPORTED: id(1), label::SLOT: "2026-11-24T02:00:00Z"}));
    assert_eq!(record["metadata"]["labels"], json!({label::SCHEDULE: "nightly"}));
    assert_eq!(record["spec"]["locationRef"]["name"], "bucket");
    assert_eq!(record["spec"]["verification"], "Checksum");
    let execution = &record["status"]["execution"];
    assert_eq!(
        (&execution["task"], &execution["attempt"], &execution["nodeName"]),
        (&json!("Import"), &json!(0), &json!("m1"))
    );
    assert_eq!(execution["result"]["archive"]["storedSizeBytes"], 9);
    let pinned = bed.api.get(&id(2));
    assert_eq!(pinned["status"]["execution"]["result"]["archive"]["pin"]["reason"], "audit");
    assert_eq!(bed.api.get("taken")["status"], Value::Null, "it is another's");
    assert_eq!(bed.summary().count, 3);
    bed.api.writes();
    bed.api.operator_completes();
    assert_eq!(bed.pass().await.imported, 0);
    assert_eq!(bed.api.writes(), Vec::<String>::new(), "there is nothing to do");
}

/// The copy of a run under another name keeps its label; retention must not get hold of it by way of the bucket.
#[tokio::test]
async fn an_archive_made_by_hand_from_a_copy_of_a_run_is_not_the_schedules() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "before-the-upgrade", Some("nightly")).await;
    assert_eq!(bed.pass().await.imported, 1);
    let record = bed.api.get("before-the-upgrade");
    assert_eq!(record["metadata"]["annotations"], json!({label::IMPORTED: id(1)}));
    assert_eq!(record["metadata"]["labels"], Value::Null);
}

#[tokio::test]
async fn an_import_that_was_cut_off_is_completed_by_the_next_pass() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "by-hand", None).await;
    bed.api
        .put("by-hand", json!({"metadata": {"name": "by-hand", "uid": "u", "annotations": {label::IMPORTED: id(1)}}}));
    let report = bed.pass().await;
    assert_eq!((report.imported, report.missing.len()), (1, 0));
    assert_eq!(bed.api.writes(), ["fill in by-hand"]);
    // And one that the operator has not seen yet is left to it.
    assert_eq!(bed.pass().await.imported, 0);
    assert_eq!(bed.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_goes_on_is_left_alone_and_one_that_failed_has_its_archive_shown_beside_it() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "running", None).await;
    bed.archive(&id(2), "failed", None).await;
    bed.api.put("running", json!({"status": {"backupId": id(1)}}));
    bed.api.put(
        "failed",
        json!({"status": {"backupId": id(2), "conditions": [shown("Failed", "True", "DeadlineExceeded")]}}),
    );
    assert_eq!(bed.pass().await.imported, 1);
    assert_eq!(bed.api.get(&id(2))["metadata"]["annotations"][label::IMPORTED], id(2));
    assert_eq!(bed.api.get("running")["status"]["execution"], Value::Null);
}

#[tokio::test]
async fn what_is_gone_altered_or_back_is_told_once() {
    let mut bed = Bed::new();
    for number in 1..=5 {
        bed.archive(&id(number), &format!("b{number}"), None).await;
    }
    bed.pass().await;
    bed.api.operator_completes();
    let key = |number: u32, name: &str| format!("{CLUSTER}/backups/{}/{name}", id(number));
    bed.delete(&key(1, "manifest.json")).await;
    bed.delete(&key(2, "snapshot-1-aa.db.zst")).await;
    bed.write(&key(3, "snapshot-1-aa.db.zst"), "short").await;
    let whole = bed.store.get_small(&ObjectKey::parse(key(4, "manifest.json")).unwrap(), 1 << 20).await.unwrap();
    bed.write(&key(4, "manifest.json"), "{}").await;
    // Written later than the record says.
    bed.api.objects.lock().unwrap().get_mut("b4").unwrap()["status"]["completionTime"] = json!("2026-01-01T00:00:00Z");
    let report = bed.pass().await;
    assert_eq!(report.missing, [id(1), id(2)]);
    let corrupt: Vec<&str> = report.corrupt.iter().map(|altered| altered.backup_id.as_str()).collect();
    assert_eq!(corrupt, [id(3), id(4)]);
    assert!(report.corrupt[0].message.contains("has 5 bytes, the manifest says 9"), "{:?}", report.corrupt);
    assert!(report.recovered.is_empty() && report.imported == 0);
    // The operator says so.
    for (name, reason) in
        [("b1", "ArchiveMissing"), ("b2", "ArchiveMissing"), ("b3", "ArchiveCorrupt"), ("b4", "ArchiveCorrupt")]
    {
        bed.api.objects.lock().unwrap().get_mut(name).unwrap()["status"]["conditions"][0] =
            shown("Ready", "False", reason);
    }
    let report = bed.pass().await;
    assert_eq!((report.missing.len(), report.corrupt.len(), report.recovered.len()), (0, 0, 0), "it is known");
    bed.write(&key(1, "manifest.json"), whole.clone()).await;
    let report = bed.pass().await;
    assert_eq!(report.corrupt[0].backup_id, id(1), "not its own manifest");
    bed.archive(&id(1), "b1", None).await;
    bed.archive(&id(2), "b2", None).await;
    bed.archive(&id(3), "b3", None).await;
    bed.write(&key(4, "manifest.json"), whole).await;
    assert_eq!(bed.pass().await.recovered, [id(1), id(2), id(3), id(4)]);
}

/// As `lifeboat backup delete` and `retention --apply` leave it.
#[tokio::test]
async fn an_archive_that_was_deleted_on_purpose_is_not_lost() {
    let mut bed = Bed::new();
    for number in 1..=3 {
        bed.archive(&id(number), &format!("b{number}"), None).await;
    }
    bed.pass().await;
    bed.api.operator_completes();
    let key = |number: u32, name: &str| format!("{CLUSTER}/backups/{}/{name}", id(number));
    for number in 1..=3 {
        let mark = Expired {
            backup_id: id(number).parse().unwrap(),
            by: "lifeboat backup retention".into(),
            reasons: vec!["kept by no rule".into()],
            time: ASKED.parse().unwrap(),
        };
        let mark = ExpiredDocument::unsigned(mark).to_bytes().unwrap();
        bed.write(&key(number, "expired.json"), mark).await;
        bed.delete(&key(number, "manifest.json")).await;
    }
    bed.delete(&key(1, "snapshot-1-aa.db.zst")).await;
    bed.delete(&key(2, "snapshot-1-aa.db.zst")).await;
    bed.write(&key(2, "expired.json"), "{}").await;
    let report = bed.pass().await;
    let words: Vec<(&str, &str)> =
        report.deleted.iter().map(|gone| (gone.backup_id.as_str(), gone.message.as_str())).collect();
    let first = id(1);
    assert_eq!(words, [(first.as_str(), "by `lifeboat backup retention` on 2026-11-30T00:00:00Z: kept by no rule")]);
    assert_eq!(report.missing, [id(2), id(3)], "a word that cannot be read, and a deletion of which data is left");
}

#[tokio::test]
async fn an_archive_that_is_being_deleted_is_not_missed() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "b1", None).await;
    bed.pass().await;
    bed.api.operator_completes();
    bed.delete(&format!("{CLUSTER}/backups/{}/manifest.json", id(1))).await;
    let good = bed.api.get("b1");
    let set = |path: &str, value: Value| {
        let mut object = good.clone();
        match path {
            "expiry" => object["status"]["expiry"] = value,
            annotation => object["metadata"]["annotations"][annotation] = value,
        }
        bed.api.objects.lock().unwrap().insert("b1".into(), object);
    };
    set("expiry", json!({"decision": "Expire", "reasons": [], "policyGeneration": 1, "passId": "p"}));
    let mut other =
        Bed { store: bed.store.clone(), api: bed.api.clone(), status: json!({}), asked: ASKED.parse().unwrap() };
    assert!(other.pass().await.missing.is_empty());
    set(label::DELETE_ARCHIVE, json!(id(1)));
    assert!(other.pass().await.missing.is_empty());
    set("expiry", json!({"decision": "Keep", "reasons": [], "policyGeneration": 1, "passId": "p"}));
    assert_eq!(other.pass().await.missing, [id(1)]);
}

#[tokio::test]
async fn an_archive_that_was_given_up_and_is_there_is_watched_as_any_other() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "b1", None).await;
    bed.archive(&id(2), "b2", None).await;
    bed.pass().await;
    bed.api.operator_completes();
    for number in [1, 2] {
        bed.write(&format!("{CLUSTER}/backups/{}/expired.json", id(number)), "{}").await;
    }
    bed.write(&format!("{CLUSTER}/backups/{}/snapshot-1-aa.db.zst", id(1)), "short").await;
    let report = bed.pass().await;
    assert_eq!(report.corrupt.iter().map(|altered| altered.backup_id.clone()).collect::<Vec<_>>(), [id(1)]);
    // Its record was deleted; the deletion of the archive had failed long before.
    bed.api.objects.lock().unwrap().remove("b2");
    bed.asked = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(2)).unwrap();
    assert_eq!(bed.pass().await.imported, 1);
}

/// The store refused, and the policy keeps the archive since; or somebody mistyped the annotation.
#[tokio::test]
async fn a_deletion_that_came_to_nothing_hides_no_loss() {
    let mut bed = Bed::new();
    for number in 1..=4 {
        bed.archive(&id(number), &format!("b{number}"), None).await;
    }
    bed.pass().await;
    bed.api.operator_completes();
    let work = json!({"nodeName": "m1", "attempt": 2, "task": "Delete"});
    let with = |more: Value| {
        let mut work = work.clone();
        work.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        work
    };
    let execution = |result: Value| with(json!({"startTime": ASKED, "heartbeatTime": ASKED, "result": result}));
    {
        let mut objects = bed.api.objects.lock().unwrap();
        for (name, result) in [
            ("b1", json!({"error": {"reason": "RetentionHeld", "message": "locked"}})),
            ("b2", json!({"deletion": {"time": ASKED}})),
        ] {
            objects.get_mut(name).unwrap()["status"]["assignment"] = with(json!({"time": ASKED}));
            objects.get_mut(name).unwrap()["status"]["execution"] = execution(result);
        }
        objects.get_mut("b3").unwrap()["metadata"]["annotations"][label::DELETE_ARCHIVE] = json!("yes");
        let pinned = json!({label::IMPORTED: id(4), label::DELETE_ARCHIVE: id(4), label::PIN: "audit"});
        objects.get_mut("b4").unwrap()["metadata"]["annotations"] = pinned;
    }
    for number in 1..=4 {
        bed.delete(&format!("{CLUSTER}/backups/{}/manifest.json", id(number))).await;
    }
    assert_eq!(bed.pass().await.missing, [id(1), id(3), id(4)], "only what an agent deleted is not missed");
}

/// A bucket that was lost must not make the API server suffer too.
#[tokio::test]
async fn of_a_bucket_that_was_lost_each_pass_looks_at_some_records() {
    let mut bed = Bed::new();
    for number in 0..150 {
        bed.archive(&id(number), &format!("b{number:03}"), None).await;
    }
    bed.pass().await;
    bed.api.operator_completes();
    for number in 0..150 {
        bed.delete(&format!("{CLUSTER}/backups/{}/manifest.json", id(number))).await;
    }
    let mut reads = Vec::new();
    let mut told = Vec::new();
    for (named, has_more) in [(64, true), (64, true), (22, false)] {
        bed.api.reads.store(0, Ordering::SeqCst);
        let report = bed.pass().await;
        assert_eq!((report.missing.len(), report.has_more), (named, has_more));
        reads.push(bed.api.reads.load(Ordering::SeqCst));
        for missing in &report.missing {
            let mut objects = bed.api.objects.lock().unwrap();
            let is_it = |object: &&mut Value| object["status"]["backupId"] == missing.as_str();
            objects.values_mut().find(is_it).unwrap()["status"]["conditions"][0] =
                shown("Ready", "False", "ArchiveMissing");
        }
        told.extend(report.missing);
    }
    assert_eq!(told, (0..150).map(id).collect::<Vec<_>>());
    assert_eq!(reads, [64, 64, 22], "one for each that is told");
}

#[tokio::test]
async fn a_pass_makes_a_thousand_records_and_the_next_goes_on() {
    let mut bed = Bed::new();
    for number in 0..1_700 {
        bed.archive(&id(number), &format!("b{number:04}"), None).await;
    }
    let first = bed.pass().await;
    assert_eq!((first.imported, first.has_more), (1_000, true));
    bed.api.operator_completes();
    let second = bed.pass().await;
    assert_eq!((second.imported, second.has_more, second.is_full), (700, false, true));
    assert_eq!(bed.summary().count, 1_700);
    bed.api.operator_completes();
    // So many are listed whole once a day; meanwhile only what is new.
    bed.archive("20261129-230000-00000001", "new", None).await;
    bed.delete(&format!("{CLUSTER}/backups/{}/manifest.json", id(3))).await;
    let hour: Timestamp = "2026-11-30T01:00:00Z".parse().unwrap();
    let third = bed.pass_at(hour).await;
    assert_eq!((third.is_full, third.imported, third.missing.len()), (false, 1, 0));
    assert_eq!(bed.summary().count, 1_701);
    bed.api.operator_completes();
    bed.api.writes();
    let fourth = bed.pass_at(hour).await;
    assert_eq!((fourth.imported, bed.api.writes().len(), bed.summary().count), (0, 0, 1_701));
    let day: Timestamp = "2026-12-01T00:30:00Z".parse().unwrap();
    assert_eq!(bed.pass_at(day).await.missing, [id(3)]);
}

#[tokio::test]
async fn what_cannot_be_shown_is_told_and_left_alone() {
    let mut bed = Bed::new();
    bed.archive(&id(1), "without-data", None).await;
    bed.delete(&format!("{CLUSTER}/backups/{}/snapshot-1-aa.db.zst", id(1))).await;
    bed.write(&format!("{CLUSTER}/backups/{}/manifest.json", id(2)), r#"{"formatVersion":"9.0"}"#).await;
    bed.write(&format!("{CLUSTER}/backups/{}/snapshot-1-bb.db.zst", id(3)), "x").await;
    bed.write(&format!("{CLUSTER}/backups/notes.txt"), "x").await;
    let report = bed.pass_at("2020-01-01T00:00:00Z".parse().unwrap()).await;
    assert_eq!((report.unreadable, report.orphans), (2, 1), "{report:?}");
    // Data that no attempt can still make a manifest for is an orphan a day later.
    bed.status = json!({});
    let late = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(25)).unwrap();
    let report = bed.pass_at(late).await;
    assert_eq!(report.orphans, 2, "{report:?}");
    let words: Vec<&str> = report.unreadable_examples.iter().map(|altered| altered.message.as_str()).collect();
    assert!(words.iter().any(|words| words.contains("is gone")), "{words:?}");
    assert!(words.iter().any(|words| words.contains("newer version of lifeboat")), "{words:?}");
    assert_eq!(bed.api.writes(), Vec::<String>::new());
}
