//! What the derive leaves to do on a generated schema: bounds everywhere, no `nullable`, only formats Kubernetes knows.

use serde_json::{Map, Value, json};

/// Default of every status: nothing looks finished before the operator saw it (kstatus compares generations).
pub(crate) fn status_default() -> Value {
    json!({"observedGeneration": -1})
}

/// Bounds of a text without one of its own; the cost of CEL rules is estimated from them.
const MAX_LENGTH: u64 = 4096;
/// Bounds of a list or map without one of its own.
const MAX_ITEMS: u64 = 64;
/// Formats that the API server checks. It warns of any other, and of those that only the derive knows (`uint32`).
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// Mends a schema in place, downwards.
pub(crate) fn mend_schema(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    // Optional fields are left out, never null: a null in a manifest is then pruned and defaulted by the server.
    object.remove("nullable");
    if object.get("format").and_then(Value::as_str).is_some_and(|format| !KNOWN_FORMATS.contains(&format)) {
        object.remove("format");
    }
    bound(object);
    for key in ["properties", "additionalProperties", "items"] {
        match (key, object.get_mut(key)) {
            ("properties", Some(Value::Object(properties))) => properties.values_mut().for_each(mend_schema),
            (_, Some(inner)) => mend_schema(inner),
            (_, None) => {}
        }
    }
}

fn bound(object: &mut Map<String, Value>) {
    match object.get("type").and_then(Value::as_str) {
        Some("string") if !object.contains_key("enum") && object.get("format").is_none() => {
            object.entry("maxLength").or_insert(json!(MAX_LENGTH));
        }
        Some("array") => {
            object.entry("maxItems").or_insert(json!(MAX_ITEMS));
        }
        Some("object") if object.contains_key("additionalProperties") => {
            object.entry("maxProperties").or_insert(json!(MAX_ITEMS));
        }
        _ => {}
    }
}
