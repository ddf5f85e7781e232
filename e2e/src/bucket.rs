//! What lies in a bucket of the testbed, seen behind the S3 server's back: archives, what is half-made, what was forgotten.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;

/// Where versitygw keeps the parts of uploads that go on.
const UPLOADS: &str = ".sgwtmp/multipart";

/// What lies below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Manifests.
    pub manifests: Vec<PathBuf>,
    /// Archives that a manifest names.
    pub named: Vec<PathBuf>,
    /// Archives that none does.
    pub orphans: Vec<PathBuf>,
    /// Uploads of the whole bucket that were neither completed nor thrown away.
    pub uploads: Vec<PathBuf>,
}

impl Contents {
    /// One backup, whole, and nothing else.
    pub fn is_one_backup(&self) -> bool {
        self.manifests.len() == 1 && self.named.len() == 1 && self.is_tidy()
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.named.is_empty() && self.is_tidy()
    }

    fn is_tidy(&self) -> bool {
        self.orphans.is_empty() && self.uploads.is_empty()
    }
}

/// Looks below a prefix of a bucket.
pub fn look_into(cluster: &Cluster, bucket: &str, prefix: &str) -> Result<Contents> {
    let bucket = cluster.bed.s3().bucket_dir(bucket);
    let mut files = vec![];
    walk(&bucket.join(prefix), &mut files)?;
    let manifests: Vec<PathBuf> = files.iter().filter(|file| file.ends_with("manifest.json")).cloned().collect();
    let mut named = vec![];
    for manifest in &manifests {
        let text: Value = serde_json::from_slice(&std::fs::read(manifest)?)?;
        named.push(manifest.with_file_name(text["payload"]["data"].as_str().context("manifest names no data")?));
    }
    let archives = files.into_iter().filter(|file| file.to_string_lossy().contains(".db.zst"));
    let (named, orphans) = archives.partition(|file| named.contains(file));
    // One directory for each object's name, and in it one for each upload.
    let uploads = directories(&bucket.join(UPLOADS)).iter().flat_map(|name| directories(name)).collect();
    Ok(Contents { manifests, named, orphans, uploads })
}

/// Directories in a directory, which may be missing.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Every file below a directory, which may be missing or vanish meanwhile.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() { walk(&path, found)? } else { found.push(path) }
    }
    Ok(())
}
