//! `docs/reference/host-files.schema.json` is what the types say. `LIFEBOAT_WRITE_SCHEMA=1` writes it (`make gen`).

use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::backup::Taken;
use super::pod::Changed;
use super::reinitialize::Written;
use super::restore::Report;
use super::status::Shown;
use crate::rejoin::journal::Journal as RejoinJournal;
use crate::rejoin::outcome::CommandResult;
use crate::restore_engine::exchange::Journal as RestoreJournal;
use crate::restore_engine::order::OrderDocument;
use crate::restore_engine::outcome::RestoreResult;

fn generate() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let order = generator.subschema_for::<OrderDocument>();
    let command_result = generator.subschema_for::<CommandResult>();
    let backup = generator.subschema_for::<Taken>();
    let pod = generator.subschema_for::<Changed>();
    let status = generator.subschema_for::<Shown<'static>>();
    let files = json!({
        "restore.db.order": order,
        "restore-result": generator.subschema_for::<RestoreResult>(),
        "command-result": command_result,
        "lifeboat/restore-ID/order": order,
        "lifeboat/restore-ID/journal": generator.subschema_for::<RestoreJournal>(),
        "lifeboat/reinitialize/journal": generator.subschema_for::<RejoinJournal>(),
    });
    let output = json!({
        "etcd backup": backup,
        "etcd restore": generator.subschema_for::<Report>(),
        "etcd reinitialize": generator.subschema_for::<Written>(),
        "etcd reinitialize --wait": command_result,
        "etcd status": status,
        "etcd validate": status,
        "etcd-pod install": pod,
        "etcd-pod uninstall": pod,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Files and output (-o json) of Lifeboat's tools on a master",
        "files": files,
        "output": output,
        "$defs": generator.definitions(),
    })
}

#[test]
fn the_schema_of_files_and_output_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/host-files.schema.json");
    let text = serde_json::to_string_pretty(&generate()).unwrap() + "\n";
    if std::env::var_os("LIFEBOAT_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is out of date: `make gen` writes it", path.display());
}
