//! Files that processes have open, by device and inode: a path in another mount namespace looks different. Reads `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A set of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeSet<(u64, u64)>);

impl Files {
    /// Every file in these directories and below; what cannot be read is left out.
    pub fn below<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut files = Self::default();
        for directory in directories {
            files.collect(directory);
        }
        files
    }

    fn collect(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                self.collect(&entry.path());
            } else if metadata.is_file() {
                self.0.insert((metadata.dev(), metadata.ino()));
            }
        }
    }

    /// What a process has open; `process` is its directory in `/proc`. One that cannot be looked into has nothing open.
    pub fn open_in(process: &Path) -> Self {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return Self::default() };
        // Sockets and pipes have no path.
        let has_path = |path: &Path| {
            fs::read_link(path).is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/"))
        };
        let paths = descriptors.flatten().map(|descriptor| descriptor.path()).filter(|path| has_path(path));
        let metadata = paths.filter_map(|path| fs::metadata(path).ok());
        Self(metadata.map(|metadata| (metadata.dev(), metadata.ino())).collect())
    }

    /// Whether some are in both.
    pub fn meet(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }
}
