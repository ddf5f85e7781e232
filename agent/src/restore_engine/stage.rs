//! Makes the new data from a proven file, beside the old, with etcd's own tool, and proves what the tool made. Blocking.
//!
//! The old data is not touched here, and may be in use.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_snapshot::ContentHash;

use super::error::RestoreError;
use super::identity::read_wal_head;
use super::layout::{Place, RestoreDirectory};
use super::order::{Order, members_of};
use super::proof::{Proven, prove_database};
use crate::etcd::status::{ClusterId, MemberId};
use crate::host::child::with_parent;
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::crashsafe::{self, sync_directory};
use crate::host::space::read_space;

/// What the tool adds to the size of the file: two preallocated WAL segments.
const WAL_SIZE: u64 = 2 * 64 * 1024 * 1024;
/// A tool that needs longer than this and a second for each MiB hangs; a slow disk writes many times as fast.
const TOOL_PATIENCE: Duration = Duration::from_secs(300);
/// The most operations of one transaction that are tried when the tool's own record is looked for.
const MOST_SUBS: u64 = 1 << 16;

/// What is staged.
#[derive(Debug)]
pub struct Staging<'s> {
    /// etcd's directories.
    pub place: &'s Place,
    /// Where to work.
    pub directory: &'s RestoreDirectory,
    /// The file, proven.
    pub file: &'s Path,
    /// What is in it.
    pub proven: &'s Proven,
    /// What every master uses alike.
    pub order: &'s Order,
    /// etcdutl, or an etcdctl that can restore.
    pub tool: &'s Path,
    /// Set to give up.
    pub stop: &'s AtomicBool,
}

/// Who owns etcd's data, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of the data, or of the directory that is to hold it.
    ///
    /// # Errors
    /// Neither is there.
    pub fn of(place: &Place) -> Result<Self, RestoreError> {
        let candidates = [place.member(), place.data_dir.clone()];
        let path = candidates.iter().find(|path| path.exists()).unwrap_or(&place.data_dir);
        let metadata = std::fs::metadata(path).map_err(RestoreError::disk("looked at", path))?;
        Ok(Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    /// Gives a file or directory to them.
    ///
    /// # Errors
    /// The system refuses.
    pub fn give(self, path: &Path) -> Result<(), RestoreError> {
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .map_err(RestoreError::disk("given its owner", path))
    }

    fn is_self(self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }
}

/// Makes the new data; what an earlier try left is thrown away.
///
/// # Errors
/// Why there is none; the old data is untouched.
pub fn stage(staging: &Staging<'_>, say: &mut dyn FnMut(&str)) -> Result<(), RestoreError> {
    let Staging { place, directory, file, proven, order: _, tool, stop } = staging;
    check_space(place, proven.size)?;
    let owner = Owner::of(place)?;
    clear(directory)?;
    for path in [&directory.root, &directory.staging()] {
        crashsafe::make_directory(path, 0o700)?;
        owner.give(path)?;
    }
    // The tool runs as the data's owner, who must get through to it.
    owner.give(&place.own_directory())?;
    let begun = Instant::now();
    say(&format!("{} unpacks {}", tool.display(), file.display()));
    run_tool(staging, owner, say)?;
    crash_point(CrashPoint::FileIsUnpacked);
    if stop.load(Ordering::Relaxed) {
        return Err(RestoreError::Interrupted);
    }
    let label = read_label(&place.member());
    settle(&directory.staged_member(), owner, label.as_deref())?;
    if let Some(wal) = &directory.staged_wal {
        settle(wal, owner, label.as_deref())?;
    }
    sync_directory(&directory.staging())?;
    sync_directory(&directory.root)?;
    check_result(staging)?;
    say(&format!("the new data is whole and proven, {:.1} s", begun.elapsed().as_secs_f32()));
    crash_point(CrashPoint::StagingIsProven);
    Ok(())
}

/// Throws away what was staged.
///
/// # Errors
/// The disk.
pub fn clear(directory: &RestoreDirectory) -> Result<(), RestoreError> {
    for path in std::iter::once(directory.staging()).chain(directory.staged_wal.clone()) {
        crashsafe::remove_tree(&path)?;
    }
    Ok(())
}

/// Whether a second database of this size fits beside the first.
///
/// # Errors
/// It does not.
pub fn check_space(place: &Place, size: u64) -> Result<(), RestoreError> {
    let wal = place.wal_dir.iter().map(|wal| (wal, WAL_SIZE));
    for (path, bytes) in std::iter::once((&place.data_dir, size.saturating_add(WAL_SIZE))).chain(wal) {
        let space = read_space(path).map_err(RestoreError::disk("asked for free space", path))?;
        let needed = space.needed_for(bytes);
        if space.available < needed {
            return Err(RestoreError::NoSpace { path: path.clone(), available: space.available, needed });
        }
    }
    Ok(())
}

fn run_tool(staging: &Staging<'_>, owner: Owner, say: &mut dyn FnMut(&str)) -> Result<(), RestoreError> {
    let Staging { place, directory, file, proven, order, tool, stop } = staging;
    let mut command = with_parent(tool.as_os_str());
    command
        .args(["snapshot", "restore"])
        .arg(file)
        .arg("--data-dir")
        .arg(directory.staging())
        .args(["--name", &place.own.name])
        .args(["--initial-cluster", &order.initial_cluster()])
        .args(["--initial-advertise-peer-urls", &trimmed(&place.own.peer_urls)])
        .args(["--initial-cluster-token", &order.token])
        .args(["--bump-revision", &order.bump().to_string(), "--mark-compacted"]);
    if let Some(wal) = &directory.staged_wal {
        command.arg("--wal-dir").arg(wal);
    }
    if !owner.is_self() {
        command.uid(owner.uid).gid(owner.gid);
    }
    command.env_clear().env("ETCDCTL_API", "3").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(RestoreError::disk("started", tool))?;
    let limit = TOOL_PATIENCE + Duration::from_secs(proven.size >> 20);
    watch(&mut child, limit, stop, say)
}

fn trimmed(urls: &[String]) -> String {
    urls.iter().map(|url| url.trim_end_matches('/')).collect::<Vec<_>>().join(",")
}

/// Follows a tool to its end; what it says is passed on, and its last words become the error.
fn watch(child: &mut Child, limit: Duration, stop: &AtomicBool, say: &mut dyn FnMut(&str)) -> Result<(), RestoreError> {
    let (sender, lines) = std::sync::mpsc::channel();
    let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] =
        [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
    for output in outputs.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let begun = Instant::now();
    let mut last = String::new();
    let mut pass = |line: String, last: &mut String| {
        say(&line);
        *last = line;
    };
    let status = loop {
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(20)) {
            pass(line, &mut last);
        }
        if let Some(status) = child.try_wait().map_err(|error| RestoreError::Tool(error.to_string()))? {
            break status;
        }
        if stop.load(Ordering::Relaxed) || begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            if stop.load(Ordering::Relaxed) {
                return Err(RestoreError::Interrupted);
            }
            return Err(RestoreError::Tool(format!("it did not end within {} s", limit.as_secs())));
        }
    };
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
        pass(line, &mut last);
    }
    if !status.success() {
        return Err(RestoreError::Tool(format!("{status}: {last}")));
    }
    Ok(())
}

/// SELinux's label of the old data, where there is one.
fn read_label(path: &Path) -> Option<Vec<u8>> {
    let mut label = vec![0; 256];
    let size = rustix::fs::getxattr(path, "security.selinux", label.as_mut_slice()).ok()?;
    label.truncate(size);
    Some(label)
}

/// Owner, mode and label as etcd wants them, everything on disk.
fn settle(path: &Path, owner: Owner, label: Option<&[u8]>) -> Result<(), RestoreError> {
    let metadata = path.symlink_metadata().map_err(RestoreError::disk("looked at", path))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).map_err(RestoreError::disk("read", path))? {
            settle(&entry.map_err(RestoreError::disk("read", path))?.path(), owner, label)?;
        }
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, mode).map_err(RestoreError::disk("given its mode", path))?;
    }
    owner.give(path)?;
    if let Some(label) = label {
        rustix::fs::setxattr(path, "security.selinux", label, rustix::fs::XattrFlags::empty())
            .map_err(|error| RestoreError::disk("given its label", path)(error.into()))?;
    }
    Ok(sync_directory(path)?)
}

/// Whether the new data is what was in the file, for this member of the ordered cluster.
fn check_result(staging: &Staging<'_>) -> Result<(), RestoreError> {
    let Staging { place, directory, file: _, proven, order, tool: _, stop } = staging;
    let wal = directory.staged_wal();
    let head = read_wal_head(&wal).map_err(RestoreError::disk("read", &wal))?;
    let differs = |words: String| Err(RestoreError::ReadBack(words));
    let Some(head) = head else { return differs("its WAL has no head".to_owned()) };
    let (cluster, member) = (ClusterId(head.cluster_id), MemberId(head.node_id));
    if cluster != order.cluster_id() || Some(member) != order.member_id(&place.own.name) {
        return differs(format!(
            "it is member {member} of cluster {cluster}, ordered was cluster {}",
            order.cluster_id()
        ));
    }
    let made = prove_database(&directory.staged_member().join("snap/db"), stop)?.database;
    let mut members = members_of(&made.members);
    members.sort_by(|one, other| one.name.cmp(&other.name));
    if members.len() != order.members.len() || members.iter().zip(&order.members).any(|(a, b)| a.name != b.name) {
        return differs("it lists other members than the order".to_owned());
    }
    if made.revision != order.bump_to {
        return differs(format!("its revision is {}, ordered was {}", made.revision, order.bump_to));
    }
    let rest = made.content_hash.minus(proven.database.content_hash);
    if made.revisions != proven.database.revisions + 1 || !is_bump(rest, made.revision) {
        return differs("its content is another".to_owned());
    }
    Ok(())
}

/// Whether a hash is that of the one record the tool adds: an empty value at the bumped revision, whose sub-revision and
/// tombstone mark are those of the last record before.
fn is_bump(hash: ContentHash, revision: i64) -> bool {
    let head = [&revision.to_be_bytes()[..], b"_"].concat();
    (0..MOST_SUBS).any(|sub| {
        let key = [&head[..], &sub.to_be_bytes()[..]].concat();
        ContentHash::of_entry(&key, &[]) == hash || ContentHash::of_entry(&[&key[..], b"t"].concat(), &[]) == hash
    })
}

/// Where the tools are, and what else is known about versions.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Directory of etcd's tools by minor version.
    pub directory: PathBuf,
    /// The version of etcd that will run the data, where it is known.
    pub server: Option<crate::host::tools::Minor>,
}
