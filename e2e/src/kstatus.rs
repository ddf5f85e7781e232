//! What Flux, Helm and `kubectl wait` make of an object: kstatus' rules for custom resources.
//!
//! Written from the published rules (sigs.k8s.io/cli-utils, kstatus): Terminating, then an unseen generation, then
//! Reconciling, Stalled, and last Ready. A status without conditions would count as Current, which is why every
//! status defaults to observedGeneration -1.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    InProgress,
    Failed,
    Current,
    Terminating,
}

fn condition<'o>(object: &'o Value, type_: &str) -> Option<&'o str> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)?["status"].as_str()
}

pub fn kstatus(object: &Value) -> Kstatus {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Kstatus::Terminating;
    }
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    if let (Some(observed), Some(generation)) = (observed, generation)
        && observed != generation
    {
        return Kstatus::InProgress;
    }
    if condition(object, "Reconciling") == Some("True") {
        return Kstatus::InProgress;
    }
    if condition(object, "Stalled") == Some("True") {
        return Kstatus::Failed;
    }
    match condition(object, "Ready") {
        Some("False" | "Unknown") => Kstatus::InProgress,
        Some(_) | None => Kstatus::Current,
    }
}
