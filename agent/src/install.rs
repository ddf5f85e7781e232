//! `lifeboat install`: puts this program and etcd's own tools on the host, as the DaemonSet's first container does on each
//! master, so that they are there when nothing else is.
//!
//! Copies files, each whole or not at all. Deletes nothing but what a run that was killed left half-made; never runs a tool.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::crashsafe::{self, WriteError};
use crate::host::space::{Space, read_space};
use crate::host::tools::Minor;

/// Name of this program, in the image and on hosts.
const PROGRAM: &str = "lifeboat";
/// Of each minor version.
const TOOLS: [&str; 2] = ["etcd", "etcdutl"];
const MODE: u32 = 0o755;

/// What to put where.
#[derive(Clone, Debug, clap::Args)]
pub struct InstallArguments {
    /// Directory on the host: the program becomes `bin/lifeboat` in it, etcd's tools `tools/<minor version>/`.
    #[arg(long, env = "LIFEBOAT_INSTALL_DIR", default_value = "/opt/lifeboat")]
    directory: PathBuf,
    /// Where etcd's tools are, one directory a minor version; nothing of them is installed where there is none.
    #[arg(long, env = "LIFEBOAT_SHIPPED_TOOLS", default_value = "/usr/local/lib/lifeboat/tools")]
    tools: PathBuf,
}

/// Why not everything was installed. What was, is whole.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Others could put something else there, and root would run it.
    #[error("{path}: {words}; nothing is installed there, because root runs it", path = .path.display())]
    Unsafe {
        /// Which directory.
        path: PathBuf,
        /// What is wrong with it.
        words: &'static str,
    },
    /// It would take what etcd may need: its disk may be the same.
    #[error(
        "{path} needs {needed} bytes with what is to stay free, and its file system has {available}: free space, or have it \
         installed elsewhere",
        path = .path.display()
    )]
    NoRoom {
        /// What would be written.
        path: PathBuf,
        /// Free.
        available: u64,
        /// Needed.
        needed: u64,
    },
    /// Something cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Something cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl InstallError {
    /// How the command ends: 4 where the host is not as it must be.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Unsafe { .. } | Self::NoRoom { .. } => 4,
            Self::Read { .. } | Self::Write(_) => 1,
        }
    }

    fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    Written,
    /// It was there already, byte for byte.
    Unchanged,
}

/// Installs everything and says so, a line a file. The program comes last: where it is, its tools are.
///
/// # Errors
/// What cannot be read or written, and hosts where others could write what root runs.
pub fn install(arguments: &InstallArguments, out: &mut dyn Write) -> Result<(), InstallError> {
    let InstallArguments { directory, tools } = arguments;
    let program = std::env::current_exe().map_err(InstallError::reading(Path::new("/proc/self/exe")))?;
    prepare(directory)?;
    refuse_loose_above(directory)?;
    let shipped = shipped_tools(tools)?;
    if shipped.is_empty() {
        let _ = writeln!(out, "no tools of etcd in {}: only the program is installed", tools.display());
    }
    let mut files: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (minor, name, from) in shipped {
        files.push((from, directory.join("tools").join(minor.to_string()).join(name)));
    }
    files.push((program, directory.join("bin").join(PROGRAM)));
    for (from, to) in files {
        let words = match place(&from, &to, directory)? {
            Placed::Written => "installed",
            Placed::Unchanged => "is there already",
        };
        let _ = writeln!(out, "{} {words}", to.display());
    }
    Ok(())
}

/// Minor version, name and place of every tool that is shipped.
fn shipped_tools(tools: &Path) -> Result<Vec<(Minor, &'static str, PathBuf)>, InstallError> {
    let entries = match std::fs::read_dir(tools) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(InstallError::reading(tools))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(InstallError::reading(tools))?;
        let Some(minor) = entry.file_name().to_str().and_then(Minor::parse) else { continue };
        let of_minor = TOOLS.map(|name| (minor, name, entry.path().join(name)));
        found.extend(of_minor.into_iter().filter(|(_, _, path)| path.is_file()));
    }
    found.sort();
    Ok(found)
}

fn place(from: &Path, to: &Path, root: &Path) -> Result<Placed, InstallError> {
    let parent = to.parent().unwrap_or(root);
    for directory in parent.ancestors().take_while(|directory| *directory != root).collect::<Vec<_>>().into_iter().rev()
    {
        prepare(directory)?;
    }
    remove_half_made(parent, to)?;
    let content = std::fs::read(from).map_err(InstallError::reading(from))?;
    if is_same(to, &content) {
        return Ok(Placed::Unchanged);
    }
    let space = read_space(parent).map_err(InstallError::reading(parent))?;
    refuse_without_room(to, content.len() as u64, space)?;
    // A program that runs keeps the file it was started from; the next start has the new one.
    crashsafe::replace(to, &content, MODE)?;
    Ok(Placed::Written)
}

/// Old and new are there together for a moment, so what is replaced makes no room.
fn refuse_without_room(path: &Path, bytes: u64, space: Space) -> Result<(), InstallError> {
    let (available, needed) = (space.available, space.needed_for(bytes));
    if available < needed {
        return Err(InstallError::NoRoom { path: path.to_owned(), available, needed });
    }
    Ok(())
}

/// Makes a directory, and refuses one that others could change.
fn prepare(directory: &Path) -> Result<(), InstallError> {
    crashsafe::make_directory(directory, MODE)?;
    let refused = |words| Err(InstallError::Unsafe { path: directory.to_owned(), words });
    let metadata = std::fs::symlink_metadata(directory).map_err(InstallError::reading(directory))?;
    if !metadata.is_dir() {
        return refused("it is not a directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refused("it belongs to somebody else");
    }
    if metadata.mode() & 0o022 != 0 {
        return refused("others than its owner may write there");
    }
    Ok(())
}

/// Refuses a directory that others could put another one in place of: one of those above it is theirs to change. In the chart's
/// container nothing above can be seen but what is of the container itself.
fn refuse_loose_above(directory: &Path) -> Result<(), InstallError> {
    let named = std::path::absolute(directory).map_err(InstallError::reading(directory))?;
    let real = directory.canonicalize().map_err(InstallError::reading(directory))?;
    for above in named.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let metadata = std::fs::metadata(above).map_err(InstallError::reading(above))?;
        let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
        // In a sticky one (/tmp) nobody renames what is not his.
        if !is_trusted || (metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0) {
            let words = "others than root may put something else there";
            return Err(InstallError::Unsafe { path: above.to_owned(), words });
        }
    }
    Ok(())
}

/// Removes the temporary files of runs that were killed: each is as large as a program.
fn remove_half_made(directory: &Path, file: &Path) -> Result<(), InstallError> {
    let prefix = format!(".{}.", file.file_name().unwrap_or_default().to_string_lossy());
    for entry in std::fs::read_dir(directory).map_err(InstallError::reading(directory))? {
        let entry = entry.map_err(InstallError::reading(directory))?;
        let name = entry.file_name();
        let is_half_made = name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".tmp"));
        if is_half_made && let Err(error) = std::fs::remove_file(entry.path()) {
            // It costs room, no more.
            tracing::warn!(file = %entry.path().display(), %error, "what an earlier run left half-made stays");
        }
    }
    Ok(())
}

fn is_same(file: &Path, content: &[u8]) -> bool {
    let metadata = std::fs::symlink_metadata(file);
    let is_alike = metadata.is_ok_and(|there| {
        // One of somebody else's says the right thing for as long as he likes it to.
        let is_own = there.uid() == rustix::process::geteuid().as_raw();
        is_own && there.is_file() && there.mode() & 0o7777 == MODE && there.len() == content.len() as u64
    });
    is_alike && std::fs::read(file).is_ok_and(|there| there == content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn shipped(dir: &Path, minor: &str, content: &[u8]) {
        let of_minor = dir.join("shipped").join(minor);
        std::fs::create_dir_all(&of_minor).unwrap();
        for name in ["etcd", "etcdutl", "etcdctl"] {
            std::fs::write(of_minor.join(name), content).unwrap();
        }
    }

    fn run(dir: &Path) -> Result<String, InstallError> {
        let arguments = InstallArguments { directory: dir.join("opt/lifeboat"), tools: dir.join("shipped") };
        let mut out = Vec::new();
        install(&arguments, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_there_already_is_left_alone_and_what_is_older_replaced() {
        let dir = tempfile::tempdir().unwrap();
        shipped(dir.path(), "3.5", b"old");
        shipped(dir.path(), "notes", b"no version");
        run(dir.path()).unwrap();
        let tool = dir.path().join("opt/lifeboat/tools/3.5/etcdutl");
        let program = dir.path().join("opt/lifeboat/bin/lifeboat");
        assert_eq!(std::fs::read(&tool).unwrap(), b"old");
        assert_eq!(std::fs::metadata(&tool).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(std::fs::read(&program).unwrap(), std::fs::read(std::env::current_exe().unwrap()).unwrap());
        assert!(!tool.with_file_name("etcdctl").exists() && !dir.path().join("opt/lifeboat/tools/notes").exists());

        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let before = (inode(&tool), inode(&program));
        shipped(dir.path(), "3.5", b"new");
        std::fs::write(tool.with_file_name(".etcdutl.0123456789abcdef.tmp"), "half").unwrap();
        let said = run(dir.path()).unwrap();
        assert_eq!(std::fs::read(&tool).unwrap(), b"new");
        assert_ne!(inode(&tool), before.0);
        assert_eq!(inode(&program), before.1);
        assert!(said.contains("lifeboat/bin/lifeboat is there already"), "{said}");
        assert!(!tool.with_file_name(".etcdutl.0123456789abcdef.tmp").exists());
    }

    #[test]
    fn the_right_content_in_the_hands_of_somebody_else_is_replaced() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        shipped(dir.path(), "3.6", b"tool");
        run(dir.path()).unwrap();
        let tool = dir.path().join("opt/lifeboat/tools/3.6/etcdutl");
        std::os::unix::fs::chown(&tool, Some(12_345), None).unwrap();
        run(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&tool).unwrap().uid(), 0);
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_left_alone() {
        let refused = |bytes| refuse_without_room(Path::new("x"), bytes, Space { available: 60, total: 1_000 });
        assert!(refused(10).is_ok());
        assert_eq!(refused(11).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn nothing_is_put_where_others_may_write() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path()).unwrap();
        let bin = dir.path().join("opt/lifeboat/bin");
        std::fs::set_permissions(&bin, Permissions::from_mode(0o777)).unwrap();
        let refused = run(dir.path()).unwrap_err();
        assert_eq!(
            (refused.exit_code(), refused.to_string().contains("others than its owner")),
            (4, true),
            "{refused}"
        );
        std::fs::remove_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink("/tmp", &bin).unwrap();
        assert!(run(dir.path()).unwrap_err().to_string().contains("not a directory"));
        assert!(!Path::new("/tmp/lifeboat").exists());
        std::fs::remove_file(&bin).unwrap();
        let above = dir.path().join("opt");
        std::fs::set_permissions(&above, Permissions::from_mode(0o777)).unwrap();
        let refused = run(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("put something else there") && !bin.exists(), "{refused}");
        std::fs::set_permissions(&above, Permissions::from_mode(0o1777)).unwrap();
        run(dir.path()).unwrap();
    }
}
