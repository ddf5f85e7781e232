//! The file `command`: read with suspicion, removed once it is obeyed or refused. Small files in one directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// More than any command; the rest is not read.
const LONGEST: u64 = 256;

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a file that is still empty.
    Nothing,
    /// `reinitialize`.
    Reinitialize,
    /// Something that is refused: what it says, and why.
    Refused {
        /// The content, as far as there is one.
        content: String,
        /// Why.
        words: String,
    },
}

/// Looks at the file.
///
/// # Errors
/// The disk.
pub fn look(path: &Path) -> io::Result<Found> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let refused = |words: &str| Ok(Found::Refused { content: String::new(), words: words.to_owned() });
    if !metadata.is_file() {
        return refused("it is no regular file");
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return refused("it belongs neither to root nor to the user that etcd runs as");
    }
    // It may have been replaced since: links are not followed, and a pipe does not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path)?;
    let mut content = String::new();
    if file.take(LONGEST).read_to_string(&mut content).is_err() {
        return refused("it is no text");
    }
    Ok(match content.trim() {
        // Whoever writes it is not done: a shell makes the file first and fills it then.
        "" => Found::Nothing,
        "reinitialize" => Found::Reinitialize,
        other => Found::Refused {
            content: other.to_owned(),
            words: "this command is not known; the only one is \"reinitialize\"".to_owned(),
        },
    })
}

/// Takes the file away, whatever it is; a directory with something in it stays.
pub fn remove(path: &Path) {
    if std::fs::remove_file(path).is_err() {
        let _ = std::fs::remove_dir(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_word_in_a_plain_file_is_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("command");
        assert_eq!(look(&path).unwrap(), Found::Nothing);
        for (content, expected) in
            [("", Found::Nothing), ("\n", Found::Nothing), (" reinitialize\n", Found::Reinitialize)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(look(&path).unwrap(), expected, "{content:?}");
        }
        for content in ["restore", "reinitialize now", "rm -rf /", &"x".repeat(10_000)] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(look(&path).unwrap(), Found::Refused { .. }), "{content:?}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(look(&path).unwrap(), Found::Refused { .. }));
    }

    #[test]
    fn links_directories_and_strangers_are_refused_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("command");
        let real = dir.path().join("real");
        std::fs::write(&real, "reinitialize").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        assert!(matches!(look(&path).unwrap(), Found::Refused { .. }));
        remove(&path);
        assert!(!path.exists() && real.exists());
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(look(&path).unwrap(), Found::Refused { .. }));
        remove(&path);
        assert!(!path.exists());
        if rustix::process::geteuid().is_root() {
            std::fs::write(&path, "reinitialize").unwrap();
            std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
            assert!(matches!(look(&path).unwrap(), Found::Refused { .. }));
        }
    }
}
