//! The one writer of files on hosts: a reader sees the old content or the new, whole, also after a power cut.
//!
//! Temporary file in the same directory, fsync, rename, fsync of the directory. Temporary names begin with a dot,
//! because the kubelet starts every other file in its manifest directory. What root makes belongs to whoever its directory
//! belongs to: beside etcd's data that may be a user of etcd's own, who must be able to read it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be {step}: {source}")]
pub struct WriteError {
    /// What was being done.
    pub step: &'static str,
    /// The file it was for.
    pub path: PathBuf,
    /// The system's words.
    pub source: io::Error,
}

impl WriteError {
    fn at<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { step, path: path.to_owned(), source }
    }
}

/// Makes a directory and those above it; new ones get `mode`, and last through a power cut.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), WriteError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made.map_err(WriteError::at("made", path))?,
    }
    // Whom the directory above belongs to could have put something else in its place: that is not followed.
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits();
    let opened = OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path);
    inherit_owner(&opened.map_err(WriteError::at("opened", path))?, path)?;
    sync_parent(path)
}

/// Gives what root has just made to whoever the directory it is in belongs to.
pub fn inherit_owner(made: &File, path: &Path) -> Result<(), WriteError> {
    let step = WriteError::at("given its owner", path);
    let owners = std::fs::metadata(directory_of(path)).and_then(|above| Ok((above, made.metadata()?)));
    let (above, own) = match owners {
        Ok(owners) => owners,
        Err(error) => return Err(step(error)),
    };
    if !rustix::process::geteuid().is_root() || above.uid() == own.uid() {
        return Ok(());
    }
    match fchown(made, Some(above.uid()), Some(above.gid())) {
        // A network file system that takes root for nobody keeps what it made.
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(step(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory that nobody else may look into, also where it exists already (a kubelet makes host paths with 0755).
pub fn make_private_directory(path: &Path) -> Result<(), WriteError> {
    make_directory(path, 0o700)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(WriteError::at("made private", path))
}

/// Writes a file with `mode`, replacing what is there.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    let temporary = Temporary::write(path, content, mode)?;
    std::fs::rename(&temporary.0, path).map_err(WriteError::at("renamed into place", path))?;
    sync_parent(path)
}

/// Writes a file with `mode` unless one of that name exists; tells whether it was written.
pub fn create_new(path: &Path, content: &[u8], mode: u32) -> Result<bool, WriteError> {
    let temporary = Temporary::write(path, content, mode)?;
    if !link_new(&temporary.0, path)? {
        return Ok(false);
    }
    drop(temporary);
    sync_parent(path)?;
    Ok(true)
}

/// Gives a file that is written and synced its final name, unless one of that name exists; tells whether it did. The
/// old name stays for the caller to remove.
pub fn place_new(from: &Path, to: &Path) -> Result<bool, WriteError> {
    if !link_new(from, to)? {
        return Ok(false);
    }
    sync_parent(to)?;
    Ok(true)
}

/// Gives a file a second name, unless it is taken: a link fails there, a rename would replace.
fn link_new(from: &Path, to: &Path) -> Result<bool, WriteError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(WriteError::at("linked into place", to)(error)),
    }
}

/// A temporary file, removed when it goes out of scope; a rename leaves nothing to remove.
struct Temporary(PathBuf);

impl Temporary {
    fn write(path: &Path, content: &[u8], mode: u32) -> Result<Self, WriteError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = Self(path.with_file_name(format!(".{name}.{:016x}.tmp", rand::random::<u64>())));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary.0)
            .map_err(WriteError::at("created", path))?;
        // The umask had a say in the mode above; this has not.
        file.set_permissions(Permissions::from_mode(mode)).map_err(WriteError::at("given its mode", path))?;
        inherit_owner(&file, path)?;
        file.write_all(content).map_err(WriteError::at("written", path))?;
        file.sync_all().map_err(WriteError::at("synced", path))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the name is ours alone and begins with a dot.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Removes a file; one that is gone already is no error. The caller makes it last.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    unless_gone(std::fs::remove_file(path)).map_err(WriteError::at("removed", path))
}

/// Removes a directory and all that is in it; one that is gone already is no error. The caller makes it last.
pub fn remove_tree(path: &Path) -> Result<(), WriteError> {
    unless_gone(std::fs::remove_dir_all(path)).map_err(WriteError::at("removed", path))
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the name of a file or directory last.
pub fn sync_parent(path: &Path) -> Result<(), WriteError> {
    sync_directory(directory_of(path))
}

/// Makes the names in a directory last; or a file's content.
pub fn sync_directory(path: &Path) -> Result<(), WriteError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(WriteError::at("synced", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_gone_is_removed_and_what_cannot_be_removed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tree) = (dir.path().join("file"), dir.path().join("tree"));
        std::fs::write(&file, "x").unwrap();
        std::fs::create_dir_all(tree.join("below")).unwrap();
        let error = remove(&tree).unwrap_err();
        assert!(error.to_string().contains("tree cannot be removed"), "{error}");
        for _ in 0..2 {
            remove(&file).unwrap();
            remove_tree(&tree).unwrap();
        }
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"a much longer text", 0o644).unwrap();
        replace(&path, b"short", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn what_root_makes_belongs_to_whoever_its_directory_belongs_to() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12_345), Some(54_321)).unwrap();
        let below = dir.path().join("lifeboat/deeper");
        make_directory(&below, 0o700).unwrap();
        make_directory(&below, 0o700).unwrap();
        let files = [dir.path().join("result"), below.join("journal"), below.join("new")];
        replace(&files[0], b"x", 0o644).unwrap();
        replace(&files[1], b"x", 0o600).unwrap();
        create_new(&files[2], b"x", 0o600).unwrap();
        for path in [&dir.path().join("lifeboat"), &below].into_iter().chain(&files) {
            let metadata = std::fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12_345, 54_321), "{}", path.display());
        }
        assert_eq!(std::fs::metadata(&below).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_exists_is_never_created_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(create_new(&path, b"first", 0o600).unwrap());
        assert!(!create_new(&path, b"second", 0o600).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_failed_write_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory");
        std::fs::create_dir(&path).unwrap();
        let words = replace(&path, b"x", 0o600).unwrap_err().to_string();
        assert!(words.contains(path.to_str().unwrap()), "{words}");
        assert_eq!(names(dir.path()), ["directory"]);
    }
}
