//! What commands print: a table for people, JSON and YAML for programs.

use std::io::{self, Write};
use std::path::Path;

use lifeboat_crds::Quantity;
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::signing::SignatureState;
use lifeboat_snapshot::{Content, Facts};
use serde::Serialize;
use serde_json::json;

use super::trust::{signature_word, signature_words};
use crate::manifest::FoundManifest;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A manifest with what its signature is worth, for programs.
#[derive(Serialize)]
struct Shown<'m> {
    #[serde(flatten)]
    manifest: &'m Manifest,
    signature: &'m SignatureState,
}

impl<'m> From<&'m FoundManifest> for Shown<'m> {
    fn from(FoundManifest { manifest, signature }: &'m FoundManifest) -> Self {
        Self { manifest, signature }
    }
}

/// Prints archives, in the order given.
///
/// # Errors
/// The output is gone.
pub fn write_list(out: &mut (dyn Write + Send), format: Format, manifests: &[FoundManifest]) -> io::Result<()> {
    match format {
        Format::Json | Format::Yaml => {
            let shown: Vec<Shown<'_>> = manifests.iter().map(Shown::from).collect();
            write_value(out, format, &shown)
        }
        Format::Table => {
            let mut rows = vec![
                [
                    "BACKUP",
                    "SNAPSHOT OF",
                    "NAME",
                    "NODE",
                    "ETCD",
                    "REVISION",
                    "SIZE",
                    "STORED",
                    "VERIFIED",
                    "SIGNATURE",
                ]
                .map(str::to_owned),
            ];
            rows.extend(manifests.iter().map(row));
            write_table(out, &rows)
        }
    }
}

fn row(FoundManifest { manifest, signature }: &FoundManifest) -> [String; 10] {
    let Manifest { backup_id, object, snapshot, archive, verification, start_time, .. } = manifest;
    [
        backup_id.to_string(),
        start_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        object.name.clone(),
        snapshot.node_name.to_string(),
        snapshot.etcd_version.clone(),
        snapshot.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
        human(snapshot.size_bytes),
        human(archive.size_bytes),
        verification.level.as_str().to_owned(),
        signature_word(signature).to_owned(),
    ]
}

fn human(bytes: i64) -> String {
    Quantity::human(u64::try_from(bytes).unwrap_or(0)).to_string()
}

/// Columns as wide as they must be, three blanks between them, as kubectl does it.
///
/// # Errors
/// The output is gone.
pub fn write_table<const N: usize>(out: &mut (dyn Write + Send), rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints a manifest.
///
/// # Errors
/// The output is gone.
pub fn write_manifest(out: &mut (dyn Write + Send), format: Format, found: &FoundManifest) -> io::Result<()> {
    match format {
        Format::Table => {
            write_list(out, format, std::slice::from_ref(found))?;
            writeln!(out, "{}", signature_words(&found.signature))
        }
        Format::Json | Format::Yaml => write_value(out, format, &Shown::from(found)),
    }
}

/// Prints what was proven, and where the snapshot is now.
///
/// # Errors
/// The output is gone.
pub fn write_proof(
    out: &mut (dyn Write + Send),
    format: Format,
    FoundManifest { manifest, signature }: &FoundManifest,
    facts: &Facts,
    file: Option<&Path>,
) -> io::Result<()> {
    let database = match &facts.content {
        Content::Verified(database) => Some(database),
        Content::Unverified { reason: _ } => None,
    };
    let proof = json!({
        "backupId": manifest.backup_id,
        "verified": if database.is_some() { "Content" } else { "Checksum" },
        "sizeBytes": facts.size,
        "sha256": hex::encode(facts.file_sha256),
        "revision": database.map(|database| database.revision),
        "contentHash": database.map(|database| database.content_hash.to_string()),
        "keys": database.map(|database| database.total_keys),
        "signature": signature,
        "file": file,
    });
    match format {
        Format::Json | Format::Yaml => write_value(out, format, &proof),
        Format::Table => {
            let revision = database.map_or_else(|| "unknown".to_owned(), |database| database.revision.to_string());
            let size = Quantity::human(facts.size);
            writeln!(out, "{} is whole and sound: {size}, revision {revision}", manifest.backup_id)?;
            writeln!(out, "{}", signature_words(signature))?;
            if let Some(file) = file {
                let file = file.display();
                writeln!(out, "{file} is an etcd snapshot; `etcdutl snapshot restore {file} …` reads it")?;
            }
            Ok(())
        }
    }
}

/// JSON or YAML.
///
/// # Errors
/// The output is gone.
pub fn write_value(out: &mut (dyn Write + Send), format: Format, value: &impl Serialize) -> io::Result<()> {
    let text = match format {
        Format::Yaml => serde_norway::to_string(value).map_err(io::Error::other)?,
        Format::Json | Format::Table => serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n",
    };
    out.write_all(text.as_bytes())
}
