//! Checks files and output of the tools against their published schema: only what that schema uses of JSON Schema, and
//! anything else in it is an error.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const SCHEMA: &str = include_str!("../../docs/reference/host-files.schema.json");
/// Words that restrict nothing.
const SILENT: [&str; 6] = ["title", "description", "format", "default", "minimum", "maximum"];

/// Checks a value against the schema of a file (`files`) or of a command's output (`output`).
pub fn check(part: &str, name: &str, value: &Value) -> Result<()> {
    let root: Value = serde_json::from_str(SCHEMA)?;
    let schema = root[part].get(name).with_context(|| format!("no schema of {name}"))?;
    matches(&root, schema, value).with_context(|| format!("{name} is not as its schema says: {value:#}"))
}

fn matches(root: &Value, schema: &Value, value: &Value) -> Result<()> {
    let Some(rules) = schema.as_object() else {
        ensure!(schema == &Value::Bool(true), "refused");
        return Ok(());
    };
    for (word, rule) in rules {
        match word.as_str() {
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#')).context("a foreign $ref")?;
                matches(root, root.pointer(path).with_context(|| format!("no {path}"))?, value)?;
            }
            "type" => {
                let is_one =
                    rule.as_array().map_or_else(|| is(rule, value), |all| all.iter().any(|one| is(one, value)));
                ensure!(is_one, "{value} is not of type {rule}");
            }
            "enum" => ensure!(rule.as_array().is_some_and(|all| all.contains(value)), "{value} is none of {rule}"),
            "const" => ensure!(rule == value, "{value} is not {rule}"),
            "anyOf" | "oneOf" => {
                let mut choices = rule.as_array().into_iter().flatten();
                ensure!(choices.any(|choice| matches(root, choice, value).is_ok()), "{value} is none of {rule}");
            }
            "required" => {
                for name in rule.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    ensure!(value.get(name).is_some(), "{name} is missing");
                }
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    // What the types do not know is not documented, whatever readers must bear.
                    let schema = rule.get(name).or_else(|| rules.get("additionalProperties"));
                    matches(root, schema.with_context(|| format!("{name} is not documented"))?, inner)
                        .with_context(|| name.clone())?;
                }
            }
            "additionalProperties" if rules.contains_key("properties") => {}
            "additionalProperties" => {
                for inner in value.as_object().into_iter().flat_map(|object| object.values()) {
                    matches(root, rule, inner)?;
                }
            }
            "items" => {
                for inner in value.as_array().into_iter().flatten() {
                    matches(root, rule, inner)?;
                }
            }
            silent if SILENT.contains(&silent) => {}
            other => bail!("the check does not know the word {other}"),
        }
    }
    Ok(())
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_documented_missing_or_of_another_type_is_seen() {
        let good = json!({"formatVersion": "1.0", "command": "reinitialize", "outcome": "Done", "message": "m",
            "startTime": "2026-11-24T00:00:00Z"});
        check("files", "command-result", &good).unwrap();
        for (name, value) in [("more", json!(1)), ("outcome", json!("Perhaps")), ("message", json!(3))] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(check("files", "command-result", &bad).is_err(), "{name}");
        }
        let mut bad = good;
        bad.as_object_mut().unwrap().remove("outcome");
        assert!(check("files", "command-result", &bad).is_err());
    }
}
