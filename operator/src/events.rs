//! Events about our objects. Told, never relied upon: one that cannot be published is logged and forgotten.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use lifeboat_crds::{API_VERSION, OPERATOR_FIELD_MANAGER};
use lifeboat_decisions::event::EventDraft;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use lifeboat_process::api_error::api_words;

/// Longest time for one event.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);
/// Events that may wait.
const QUEUE_CAPACITY: usize = 256;
/// Longest note the API server takes, bytes.
const NOTE_LIMIT: usize = 1_024;

/// Where controllers leave events. Never waits: a slow API must not hold up a reconcile.
#[derive(Clone)]
pub struct EventSink(mpsc::Sender<(Event, ObjectReference)>);

/// Publishes what is left in the sink. One for the process: it folds repeated events into series.
pub struct EventPublisher {
    recorder: Recorder,
    queue: mpsc::Receiver<(Event, ObjectReference)>,
}

/// A sink, and the publisher that signs with the replica's name.
pub fn event_queue(client: Client, pod_name: &str) -> (EventSink, EventPublisher) {
    let (sender, queue) = mpsc::channel(QUEUE_CAPACITY);
    let reporter = Reporter { controller: OPERATOR_FIELD_MANAGER.to_owned(), instance: Some(pod_name.to_owned()) };
    (EventSink(sender), EventPublisher { recorder: Recorder::new(client, reporter), queue })
}

impl EventSink {
    /// Leaves what a decision says about `object`. `action` is what the controller was doing, such as `Schedule`.
    pub fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, action: &str, drafts: &[EventDraft]) {
        for draft in drafts {
            let event = event_of(draft, action, object.meta().namespace.as_deref());
            if let Err(TrySendError::Full((event, _)) | TrySendError::Closed((event, _))) =
                self.0.try_send((event, object.object_ref(&())))
            {
                tracing::warn!(reason = event.reason, "event dropped: too many wait to be published");
            }
        }
    }
}

impl EventPublisher {
    /// Publishes until every sink is gone and nothing is left.
    pub async fn run(self) {
        let Self { recorder, mut queue } = self;
        while let Some((event, object)) = queue.recv().await {
            match timeout(PUBLISH_TIMEOUT, recorder.publish(&event, &object)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = api_words(&error), reason = event.reason, "event not published");
                }
                Err(_elapsed) => tracing::warn!(reason = event.reason, "event not published in time"),
            }
        }
    }
}

fn event_of(draft: &EventDraft, action: &str, namespace: Option<&str>) -> Event {
    let EventDraft { reason, note, about } = draft;
    Event {
        type_: if reason.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: reason.as_str().to_owned(),
        note: Some(cut(note)),
        action: action.to_owned(),
        secondary: about.as_ref().map(|name| ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("EtcdBackup".to_owned()),
            name: Some(name.clone()),
            namespace: namespace.map(str::to_owned),
            ..ObjectReference::default()
        }),
    }
}

/// The note as the API server takes it, cut between characters.
fn cut(note: &str) -> String {
    let mut end = note.len().min(NOTE_LIMIT);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Conversation;
    use lifeboat_crds::EtcdBackup;
    use lifeboat_crds::event::EventReason;
    use serde_json::json;

    #[test]
    fn failures_are_warnings_and_successes_are_not() {
        let type_of = |reason| event_of(&EventDraft::new(reason, ""), "Backup", None).type_;
        assert_eq!(type_of(EventReason::BackupSucceeded), EventType::Normal);
        assert_eq!(type_of(EventReason::BackupFailed), EventType::Warning);
    }

    #[tokio::test]
    async fn events_are_published_in_the_background_and_a_refusal_stops_nothing() {
        let (client, mut server) = Conversation::start();
        let (sink, publisher) = event_queue(client, "pod-a");
        let backup: EtcdBackup = serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1",
            "kind": "EtcdBackup", "metadata": {"name": "b", "namespace": "lifeboat", "uid": "u"},
            "spec": {"locationRef": {"name": "bucket"}}}))
        .unwrap();
        let draft = |reason| EventDraft::new(reason, "words");
        sink.publish(&backup, "Backup", &[draft(EventReason::BackupRetrying), draft(EventReason::BackupFailed)]);
        drop(sink);
        let path = "/apis/events.k8s.io/v1/namespaces/lifeboat/events";
        let script = async {
            server.expect("POST", path).await.refuse(403, "Forbidden", "no");
            let asked = server.expect("POST", path).await;
            let event = asked.json();
            assert_eq!(event["reason"], "BackupFailed");
            assert_eq!(event["type"], "Warning");
            assert_eq!(event["regarding"]["uid"], "u");
            assert_eq!(event["reportingController"], "lifeboat-operator");
            let body = event.clone();
            asked.answer(201, &body);
        };
        tokio::join!(publisher.run(), script);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = "ü".repeat(NOTE_LIMIT);
        assert_eq!(cut(&note).len(), NOTE_LIMIT);
        assert_eq!(cut(&format!("x{note}")).len(), NOTE_LIMIT - 1);
        assert_eq!(cut("short"), "short");
    }
}
