//! The reference pages for users, written from the same types and schemas as the CRDs.

use std::fmt::Write;

use serde_json::Value;

use crate::condition::{ConditionType, Reason};
use crate::event::EventReason;
use crate::finding::FindingKind;
use crate::generate::{GenerateError, definitions};

const NOTE: &str = "<!-- Generated from crds/src by `make gen`. Do not edit. -->\n";

/// The reference pages: file name and content.
pub fn pages() -> Result<Vec<(String, String)>, GenerateError> {
    Ok(vec![("api.md".to_owned(), fields_page()?), ("conditions.md".to_owned(), conditions_page())])
}

fn conditions_page() -> String {
    let rows = |title: &str, rows: Vec<(&str, String)>| {
        let body: String = rows.into_iter().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n")).collect();
        format!("\n## {title}\n\n| name | meaning |\n|---|---|\n{body}")
    };
    let plain = |name: &'static str, meaning: &str| (name, meaning.to_owned());
    let types = ConditionType::ALL.iter().map(|t| plain(t.as_str(), t.meaning())).collect();
    let reasons = Reason::ALL.iter().map(|r| plain(r.as_str(), r.meaning())).collect();
    let events = EventReason::ALL
        .iter()
        .map(|e| (e.as_str(), format!("{} ({})", e.meaning(), if e.is_warning() { "Warning" } else { "Normal" })))
        .collect();
    let findings = FindingKind::ALL
        .iter()
        .map(|kind| {
            (kind.as_str(), format!("{} ({})", kind.meaning(), if kind.blocks() { "blocker" } else { "warning" }))
        })
        .collect();
    format!(
        "{NOTE}# Conditions, reasons, events\n\nClosed lists: nothing else appears in objects of this version.\n{}{}{}{}",
        rows("Types of conditions", types),
        rows("Reasons of conditions and failures", reasons),
        rows("Reasons of events", events),
        rows("Findings of plans", findings)
    )
}

fn fields_page() -> Result<String, GenerateError> {
    let mut page = format!("{NOTE}# Fields of every kind\n\n`{}`, all namespaced.\n", crate::API_VERSION);
    for crd in definitions()? {
        let names = &crd.spec.names;
        let short = names.short_names.as_deref().unwrap_or_default().join(", ");
        let schema = crd
            .spec
            .versions
            .first()
            .and_then(|version| version.schema.as_ref())
            .and_then(|s| s.open_api_v3_schema.as_ref());
        let schema = serde_json::to_value(schema)
            .map_err(|source| GenerateError::Schema { kind: names.kind.clone(), source })?;
        let about = text(&schema, "description");
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {} (`{short}`)\n\n{about}\n\n| field | type | default | meaning |\n|---|---|---|---|\n",
            names.kind
        );
        for part in ["spec", "status"] {
            if let Some(inner) = schema["properties"].get(part) {
                fields(inner, part, &mut page);
            }
        }
    }
    Ok(page)
}

fn fields(schema: &Value, path: &str, page: &mut String) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, inner) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        let default = inner.get("default").filter(|d| !d.is_object()).map(|d| format!("`{d}`")).unwrap_or_default();
        let about = text(inner, "description").replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(page, "| `{path}` | {} | {default} | {about} |", type_of(inner));
        match inner.get("items") {
            // metav1.Condition is everybody's; its fields are not repeated for each kind.
            Some(_) if name == "conditions" => {}
            Some(items) => fields(items, &format!("{path}[]"), page),
            None => fields(inner, &path, page),
        }
    }
}

fn type_of(schema: &Value) -> String {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return "quantity".to_owned();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return values.join(" \\| ");
    }
    match (text(schema, "type"), text(schema, "format")) {
        ("string", "date-time") => "time".to_owned(),
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema.get("additionalProperties").is_some() => "map".to_owned(),
        (type_, _) => type_.to_owned(),
    }
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}
