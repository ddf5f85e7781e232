//! Free space of the file system below a path. One system call; changes nothing.

use std::io;
use std::path::Path;

/// Of a file system that is left free, in percent.
const RESERVE_PERCENT: u64 = 5;

/// Space of a file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What a process without privileges may still write.
    pub available: u64,
    /// Its whole size.
    pub total: u64,
}

impl Space {
    /// What must be available for so many bytes, so that some is left.
    pub const fn needed_for(self, bytes: u64) -> u64 {
        bytes.saturating_add(self.total / 100 * RESERVE_PERCENT)
    }
}

/// Space of the file system that holds `path`, or would once it is made.
pub fn read_space(path: &Path) -> io::Result<Space> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    let stat = rustix::fs::statvfs(existing)?;
    Ok(Space {
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_that_of_the_nearest_directory_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let there = read_space(dir.path()).unwrap();
        let later = read_space(&dir.path().join("not/yet/made")).unwrap();
        assert!(there.total > 0 && there.available <= there.total, "{there:?}");
        assert_eq!(later.total, there.total);
    }
}
