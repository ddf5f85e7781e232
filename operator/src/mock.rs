//! An API server for tests: a script says which request comes next and what it is answered; and caches without any
//! server. Tests only.

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use lifeboat_crds::label;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse};

use crate::controller::Controller;
use crate::kind::{Kind, TouchedObject};
use crate::stores::Stores;

/// The server's side of a conversation.
pub struct Conversation {
    handle: Handle<Request<Body>, Response<Body>>,
}

/// A request that waits for its answer.
pub struct Asked {
    /// Path and query.
    pub uri: String,
    /// `Content-Type`.
    pub content_type: String,
    body: Value,
    send: SendResponse<Response<Body>>,
}

impl Conversation {
    /// A client, and the server it talks to. A request beyond the script fails once the conversation is dropped.
    pub fn start() -> (Client, Self) {
        let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        (Client::new(service, "lifeboat"), Self { handle })
    }

    /// The next request, which must have this method and begin with this path.
    pub async fn expect(&mut self, method: &str, path: &str) -> Asked {
        let (request, send) = self.handle.next_request().await.expect("no further request came");
        let (parts, body) = request.into_parts();
        let uri = parts.uri.to_string();
        assert_eq!(parts.method.as_str(), method, "{uri}");
        assert!(uri.starts_with(path), "{uri} instead of {path}");
        let bytes = body.collect_bytes().await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        let content_type = parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
        Asked { uri, content_type: content_type.unwrap_or_default(), body, send }
    }
}

impl Asked {
    /// The body that was sent.
    pub fn json(&self) -> &Value {
        &self.body
    }

    /// Answers with an object.
    pub fn answer(self, code: u16, body: &Value) {
        let response = Response::builder().status(code).body(Body::from(serde_json::to_vec(body).unwrap())).unwrap();
        self.send.send_response(response);
    }

    /// Answers with a failure.
    pub fn refuse(self, code: u16, reason: &str, message: &str) {
        self.answer(
            code,
            &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}),
        );
    }

    /// Answers 404.
    pub fn answer_not_found(self) {
        self.refuse(404, "NotFound", "not found");
    }

    /// Answers 409.
    pub fn answer_conflict(self) {
        self.refuse(409, "Conflict", "the object has been modified; please apply your changes to the latest version");
    }
}

/// Caches with a schedule, its two unfinished backups and an ended one, a backup made by hand, their location, a member.
pub fn example_stores() -> Stores {
    let object = |kind: &str, name: &str| {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "lifeboat", "uid": name}})
    };
    let backup = |name: &str, schedule: Option<&str>, ended: Option<&str>| {
        let mut backup = object("EtcdBackup", name);
        backup["spec"] = json!({"locationRef": {"name": "bucket"}});
        if let Some(schedule) = schedule {
            backup["metadata"]["labels"] = json!({label::SCHEDULE: schedule});
        }
        if let Some(type_) = ended {
            backup["status"] = json!({"conditions": [{"type": type_, "status": "True", "reason": "Succeeded",
                "message": "", "lastTransitionTime": "2026-11-24T00:00:00Z"}]});
        }
        backup
    };
    let mut schedule = object("EtcdBackupSchedule", "nightly");
    schedule["spec"] = json!({"schedule": "@daily", "template": {"spec": {"locationRef": {"name": "bucket"}}}});
    let mut location = object("EtcdBackupLocation", "bucket");
    location["spec"] = json!({"s3": {"bucket": "abc"}});
    let (stores, mut writers) = Stores::new("lifeboat");
    let ended = backup("ended", Some("nightly"), Some("Failed"));
    writers.fill(
        &stores,
        &[
            schedule,
            location,
            backup("n1", Some("nightly"), None),
            backup("n2", Some("nightly"), None),
            ended,
            backup("by-hand", None, None),
            object("EtcdMember", "m1"),
        ],
    );
    stores
}

/// Names that a controller looks at, of [`example_stores`], because of an object; sorted.
pub fn woken_by<C: Controller>(kind: Kind, name: &str, schedule: Option<&str>, location: Option<&str>) -> Vec<String> {
    let touched = TouchedObject {
        kind,
        name: name.to_owned(),
        schedule: schedule.map(str::to_owned),
        location: location.map(str::to_owned),
        is_heartbeat: false,
    };
    let mut names = C::wakes(&touched, &example_stores());
    names.sort();
    names
}
