//! Proves that nothing uses etcd's data, whatever runtime may have started it: locks on the databases, open files of
//! every process. Holds what it proved. Blocking I/O.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::RestoreError;
use super::layout::Place;
use crate::host::crashsafe;
use crate::host::open_files::Files;

/// A local port answers at once or not at all.
const PORT_ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// A lock that was let go lingers while another thread starts a program: the child has a copy of every open file until it
/// becomes that program.
const LOCK_LINGERS: Duration = Duration::from_millis(200);

/// An exclusive lock, held for as long as it lives.
#[derive(Debug)]
#[must_use = "dropping the lock lets others in"]
pub struct Lock {
    /// The kernel ties the lock to it.
    _file: File,
}

/// Makes this process the only one that changes a node's etcd data.
///
/// # Errors
/// Another one does.
pub fn lock_node(place: &Place) -> Result<Lock, RestoreError> {
    crashsafe::make_directory(&place.own_directory(), 0o700)?;
    let path = place.lock();
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(RestoreError::disk("opened", &path))?;
    crashsafe::inherit_owner(&file, &path)?;
    try_lock(file, &path, "another lifeboat is at work on this node's etcd data; wait for it")
}

/// Takes the lock that etcd holds on its database while it runs; nothing where there is no database.
///
/// # Errors
/// etcd runs.
pub fn lock_database(path: &Path) -> Result<Option<Lock>, RestoreError> {
    // For writing: a lock on a file of a network file system wants that.
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => try_lock(file, path, "etcd runs on this data: stop it first").map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RestoreError::disk("opened", path)(error)),
    }
}

fn try_lock(file: File, path: &Path, words: &str) -> Result<Lock, RestoreError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_LINGERS => std::thread::sleep(LOCK_LINGERS / 20),
            Err(TryLockError::WouldBlock) => {
                return Err(RestoreError::InUse(format!("{} is locked: {words}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(RestoreError::disk("locked", path)(error)),
        }
    }
}

/// Whether no process but this one has a file of etcd's data open.
///
/// Processes that cannot be looked into are passed over; the lock is what counts, this finds what holds no lock.
///
/// # Errors
/// One has: its name and number.
pub fn check_no_open_files(place: &Place) -> Result<(), RestoreError> {
    let (member, wal) = (place.member(), place.wal());
    let files = Files::below([member.as_path(), wal.as_path()]);
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").map_err(RestoreError::disk("read", Path::new("/proc")))?;
    for process in processes.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if id == own {
            continue;
        }
        if Files::open_in(&process.path()).meet(&files) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Err(RestoreError::InUse(format!(
                "process {id} ({}) has files of etcd's data open: stop it first",
                name.trim()
            )));
        }
    }
    Ok(())
}

/// The first of these addresses at which something answers.
pub fn find_answering(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, PORT_ANSWERS_WITHIN).is_ok();
    addresses.iter().find(answers).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore_engine::order::Own;

    fn place(root: &Path) -> Place {
        std::fs::create_dir_all(root.join("member/snap")).unwrap();
        std::fs::write(root.join("member/snap/db"), "x").unwrap();
        Place {
            volume: root.to_owned(),
            data_dir: root.to_owned(),
            wal_dir: None,
            own: Own { name: "m0".into(), peer_urls: vec![] },
        }
    }

    #[test]
    fn a_database_in_use_cannot_be_locked() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let held = lock_database(&place.database()).unwrap();
        let words = lock_database(&place.database()).unwrap_err().to_string();
        assert!(words.contains("stop it first"), "{words}");
        drop(held);
        assert!(lock_database(&place.database()).unwrap().is_some());
        assert!(lock_database(&dir.path().join("missing")).unwrap().is_none());
    }

    #[test]
    fn one_process_at_a_time_works_on_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let _held = lock_node(&place).unwrap();
        assert!(lock_node(&place).unwrap_err().is_refusal());
    }

    #[test]
    fn a_stranger_with_an_open_file_is_found_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        check_no_open_files(&place).unwrap();
        let file = File::open(place.database()).unwrap();
        let mut stranger = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        let words = check_no_open_files(&place).unwrap_err().to_string();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(words.contains(&stranger.id().to_string()), "{words}");
        check_no_open_files(&place).unwrap();
    }
}
