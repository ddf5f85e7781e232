//! File operations that cannot leave their root: every path is resolved by the kernel (`openat2`) beneath an open
//! directory, without following symbolic links, because whoever can write into the directory could otherwise steer a
//! privileged agent to any file of the host. Blocking I/O; knows nothing of objects.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open directory that bounds everything done through it.
#[derive(Debug)]
pub(super) struct Beneath(OwnedFd);

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    File,
    Directory,
    /// Symbolic links, sockets and the like: never followed, never ours.
    Other,
}

impl Beneath {
    /// Opens the root itself. It must exist: creating it would hide a mount that is missing and fill the host's disk.
    pub(super) fn open_root(root: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?))
    }

    /// The directory itself.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens a directory below; the empty path is this one again.
    pub(super) fn open_directory(&self, path: &str) -> io::Result<Self> {
        Ok(Self(resolve(&self.0, if path.is_empty() { "." } else { path }, DIRECTORY)?))
    }

    /// Opens a directory below, making and syncing what is missing on the way.
    pub(super) fn make_directory(&self, path: &str) -> io::Result<Self> {
        match self.open_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut current = self.open_directory("")?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            match rustix::fs::mkdirat(&current.0, segment, DIRECTORY_MODE) {
                Ok(()) => current.sync()?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            current = current.open_directory(segment)?;
        }
        Ok(current)
    }

    /// Makes a directory in this one without syncing: for scratch, which a power cut may take.
    pub(super) fn create_scratch(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.0, name, DIRECTORY_MODE)?;
        self.open_directory(name)
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, path: &str) -> io::Result<File> {
        // NONBLOCK: opening a FIFO that somebody put there must not hang.
        let fd = resolve(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a new file in this directory; fails if the name is taken.
    pub(super) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, FILE_MODE)?))
    }

    /// Status of a name in this directory, without following a link.
    pub(super) fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames over whatever file is there.
    pub(super) fn rename_over(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, &to.0, new_name)?)
    }

    /// Renames, failing with `AlreadyExists` if the new name is taken.
    pub(super) fn rename_new(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.0, name, &to.0, new_name, RenameFlags::NOREPLACE) {
            // NFS and older FUSE have no NOREPLACE; link() is as atomic there.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::linkat(&self.0, name, &to.0, new_name, AtFlags::empty())?;
                self.remove_file(name)
            }
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Removes a file; one that is gone already is fine.
    pub(super) fn remove_file(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a directory if it is empty; says whether it is gone.
    pub(super) fn remove_empty_directory(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.0) {
            // Some network file systems cannot sync directories and need not.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// All names in this directory with what they are; `None` for a name that is not UTF-8.
    pub(super) fn entries(&self) -> io::Result<Vec<(Option<String>, Entry)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let raw = entry.file_name();
            if raw.to_bytes() == b"." || raw.to_bytes() == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                match rustix::fs::statat(&self.0, raw, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => kind = FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno.into()),
                }
            }
            let kind = match kind {
                FileType::RegularFile => Entry::File,
                FileType::Directory => Entry::Directory,
                _ => Entry::Other,
            };
            let name = std::ffi::OsStr::from_bytes(raw.to_bytes()).to_str().map(str::to_owned);
            entries.push((name, kind));
        }
        Ok(entries)
    }
}

fn resolve(at: &OwnedFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(at, path, flags, Mode::empty(), BENEATH) {
            // The kernel asks to try again when something was renamed during the walk (openat2(2)).
            Err(Errno::AGAIN) if tries < 16 => tries += 1,
            result => return Ok(result?),
        }
    }
}
