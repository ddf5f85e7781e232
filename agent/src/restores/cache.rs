//! How locations are reached, kept on this host while there is an API server to be asked: orders that are written later, by
//! `lifeboat restore start` on a master whose API server is dead, are found by it.
//!
//! One directory a location below `locations/`, readable by root alone, as [`LocationFile`] takes it. Those that are gone from the
//! API server go here too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lifeboat_crds::EtcdBackupLocation;
use lifeboat_crds::location::AccessMode;

use super::{Restorer, RestoresError};
use crate::archives::file::PortableFile;
use crate::host::crashsafe::{self, WriteError};

/// Below the state directory.
const LOCATIONS: &str = "locations";

/// Files of the locations that are kept here.
pub fn cached(state_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state_dir.join(LOCATIONS)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path().join("location.yaml")).collect();
    files.retain(|file| file.exists());
    files.sort();
    files
}

/// Replaces what is kept by what there is. One whose keys cannot be read now stays as it was.
fn keep(state_dir: &Path, locations: &[(String, Option<Vec<PortableFile>>)]) -> Result<(), WriteError> {
    let root = state_dir.join(LOCATIONS);
    crashsafe::make_private_directory(&root)?;
    for (name, files) in locations {
        let Some(files) = files else { continue };
        let place = root.join(name);
        crashsafe::make_private_directory(&place)?;
        // The description last: it is found only with what belongs to it.
        for (file, text) in files.iter().rev() {
            let path = place.join(file);
            let is_same = std::fs::read(&path).is_ok_and(|before| before == text.as_bytes());
            if !is_same {
                crashsafe::replace(&path, text.as_bytes(), 0o600)?;
            }
        }
    }
    let names: BTreeSet<&str> = locations.iter().map(|(name, _)| name.as_str()).collect();
    let kept = std::fs::read_dir(&root).into_iter().flatten().flatten();
    for entry in kept.filter(|entry| entry.file_name().to_str().is_none_or(|name| !names.contains(name))) {
        crashsafe::remove_tree(&entry.path())?;
    }
    Ok(())
}

impl Restorer {
    /// Keeps how every location is reached in which masters could meet.
    ///
    /// # Errors
    /// The API server does not answer, or the disk.
    pub async fn keep_locations(&self, state_dir: &Path) -> Result<(), RestoresError> {
        let all = self.opener.fetch_locations().await?;
        let can_meet = |location: &&EtcdBackupLocation| location.spec.access_mode == AccessMode::ReadWrite;
        let mut locations = Vec::new();
        for location in all.iter().filter(can_meet) {
            let name = location.metadata.name.clone().unwrap_or_default();
            let files = self.portable(location).await;
            if let Err(error) = &files {
                tracing::debug!(location = name, %error, "how it is reached is not kept");
            }
            locations.push((name, files.ok()));
        }
        let state_dir = state_dir.to_owned();
        let kept = tokio::task::spawn_blocking(move || keep(&state_dir, &locations)).await;
        let kept = kept.map_err(|error| crate::restoring::RestoringError::Failed(error.to_string()))?;
        Ok(kept.map_err(crate::restoring::RestoringError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use zeroize::Zeroizing;

    fn files(text: &str) -> Option<Vec<PortableFile>> {
        Some(vec![("location.yaml", Zeroizing::new(text.to_owned())), ("keys", Zeroizing::new("k".to_owned()))])
    }

    #[test]
    fn what_is_gone_goes_and_what_cannot_be_read_now_stays() {
        let home = tempfile::tempdir().unwrap();
        let put = |locations: &[(&str, Option<Vec<PortableFile>>)]| {
            let owned: Vec<_> = locations.iter().map(|(name, files)| ((*name).to_owned(), files.clone())).collect();
            keep(home.path(), &owned).unwrap();
            let names = cached(home.path()).into_iter().map(|path| {
                let name = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                format!("{name}={}", std::fs::read_to_string(&path).unwrap())
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(put(&[("a", files("1")), ("b", files("2"))]), ["a=1", "b=2"]);
        assert_eq!(put(&[("a", None), ("b", files("3"))]), ["a=1", "b=3"]);
        assert_eq!(put(&[("b", files("3"))]), ["b=3"]);
        let keys = home.path().join("locations/b/keys");
        assert_eq!(std::fs::metadata(keys).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(cached(&home.path().join("elsewhere")).is_empty());
    }
}
