//! The directory of one testbed. Removed with it, but for the logs when the test that owned it panicked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Only directories with this file in them are ever removed.
const MARKER: &str = ".lifeboat-testbed";

#[derive(Debug)]
pub(crate) struct Workdir {
    path: PathBuf,
    keep: bool,
}

impl Workdir {
    /// Makes the directory; refuses one that already holds something.
    pub(crate) fn create(path: PathBuf, keep: bool) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        if fs::read_dir(&path)?.next().is_some() {
            bail!("{} is not empty; name another directory, or remove it", path.display());
        }
        fs::write(path.join(MARKER), "")?;
        let path = path.canonicalize()?;
        fs::create_dir_all(path.join("logs"))?;
        Ok(Self { path, keep })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        let outcome = match (self.keep, std::thread::panicking()) {
            (true, _) => Ok(()),
            (false, true) => {
                tracing::error!(logs = %self.path.join("logs").display(), "the logs of the failed test are kept");
                remove_all_but_logs(&self.path)
            }
            (false, false) => remove(&self.path),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "directory of the testbed not removed");
        }
    }
}

/// Removes a testbed's directory; absent is fine, one that is not a testbed's is an error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    if !path.join(MARKER).exists() {
        bail!("{} is not the directory of a testbed", path.display());
    }
    // The marker goes last, so that an interrupted removal can be repeated.
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_name() != MARKER) {
        remove_entry(&entry)?;
    }
    fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))
}

fn remove_all_but_logs(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_name() != "logs") {
        remove_entry(&entry)?;
    }
    Ok(())
}

fn remove_entry(entry: &fs::DirEntry) -> Result<()> {
    let path = entry.path();
    let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    removed.with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_in_it_is_neither_taken_nor_removed() {
        let parent = tempfile::tempdir().expect("directory");
        fs::write(parent.path().join("thesis.tex"), "years of work").expect("file");
        assert!(Workdir::create(parent.path().to_path_buf(), false).is_err());
        assert!(remove(parent.path()).is_err());
        assert!(parent.path().join("thesis.tex").exists());
    }

    #[test]
    fn the_directory_goes_with_its_testbed_unless_kept() {
        let parent = tempfile::tempdir().expect("directory");
        let (gone, kept) = (parent.path().join("gone"), parent.path().join("kept"));
        drop(Workdir::create(gone.clone(), false).expect("create"));
        drop(Workdir::create(kept.clone(), true).expect("create"));
        assert!(!gone.exists());
        assert!(kept.join("logs").exists());
    }
}
