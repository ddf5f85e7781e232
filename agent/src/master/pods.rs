//! The static pods of the control plane: copied beside the journal, taken out of the kubelet's sight, put back byte for byte.
//! Blocking I/O on manifests and their copies.
//!
//! Which file is whose is written down with the copies, because nothing tells it any more once they are gone.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lifeboat_protocol::next::Clients;
use serde::{Deserialize, Serialize};

use crate::host::crashsafe::{self, WriteError};
use crate::host::static_pod::parse_static_pod;

/// etcd's program.
pub const ETCD: &str = "etcd";
/// Programs that use etcd, in the order in which they are taken away.
pub const CLIENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Whether etcd was started alone: a file beside the copies.
const ALONE: &str = "alone";
/// The list of the copies; written last.
const LIST: &str = "list.json";
/// etcd's flag that says where clients are listened for.
const LISTEN: &str = "--listen-client-urls=";

/// Why the manifests are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// A file.
    #[error("{path} cannot be {step}: {source}", path = .path.display())]
    Disk {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No manifest starts a program that must be there.
    #[error("no manifest in {directory} starts {program}", directory = .directory.display())]
    Missing {
        /// Where was looked.
        directory: PathBuf,
        /// What for.
        program: &'static str,
    },
    /// Two manifests start the same program.
    #[error("{one} and {other} both start {program}: take one of them away", one = .one.display(), other = .other.display())]
    Twice {
        /// One file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// What they start.
        program: &'static str,
    },
    /// The list of the copies cannot be read.
    #[error("{path} is no list of manifests", path = .0.display())]
    BadList(PathBuf),
    /// etcd's manifest cannot be kept to loopback.
    #[error(
        "etcd's manifest has no item {LISTEN}…, so clients cannot be kept off undecided data; write its arguments as --flag=value"
    )]
    NoListenFlag,
}

impl PodsError {
    fn disk<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Disk { step, path: path.to_owned(), source }
    }
}

/// Files by the program that they start.
type Files = BTreeMap<String, String>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    files: Files,
}

/// The static pods of a master and where their copies lie.
#[derive(Clone, Debug)]
pub struct Pods {
    /// What the kubelet follows.
    followed: PathBuf,
    /// The copies.
    saved: PathBuf,
}

/// What the kubelet sees of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// etcd's manifest is there.
    pub etcd: bool,
    /// One of those that use it is.
    pub clients: bool,
}

impl Pods {
    /// The static pods of `followed`, with copies below the restore's directory. Touches nothing.
    pub fn new(followed: PathBuf, restore: &Path) -> Self {
        Self { followed, saved: restore.join("manifests") }
    }

    /// Where the copies are.
    pub fn saved(&self) -> &Path {
        &self.saved
    }

    /// Whether all copies are there.
    pub fn is_saved(&self) -> bool {
        self.saved.join(LIST).is_file()
    }

    /// Programs that have a manifest: of the copies where there are some, else of what the kubelet follows.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn programs(&self) -> Result<Vec<String>, PodsError> {
        let files = if self.is_saved() { self.list()? } else { self.find()? };
        Ok(files.into_keys().collect())
    }

    /// Copies the manifests. Those that are there already are written anew.
    ///
    /// # Errors
    /// They cannot be read or copied, or not all are there.
    pub fn save(&self) -> Result<(), PodsError> {
        let files = self.find()?;
        if !files.contains_key(ETCD) {
            return Err(PodsError::Missing { directory: self.followed.clone(), program: ETCD });
        }
        crashsafe::make_directory(&self.saved, 0o700)?;
        for file in files.values() {
            copy(&self.followed.join(file), &self.saved.join(file))?;
        }
        let list = self.saved.join(LIST);
        let text = serde_json::to_vec_pretty(&List { files }).map_err(|_| PodsError::BadList(list.clone()))?;
        Ok(crashsafe::replace(&list, &text, 0o600)?)
    }

    /// Takes the manifests away, those that use etcd first. One that was changed since it was copied is copied again.
    ///
    /// # Errors
    /// The disk.
    pub fn hold(&self) -> Result<(), PodsError> {
        let files = self.list()?;
        let order = CLIENTS.into_iter().chain([ETCD]).filter_map(|program| Some((program, files.get(program)?)));
        for (program, file) in order {
            let (followed, saved) = (self.followed.join(file), self.saved.join(file));
            let Some(now) = read(&followed)? else { continue };
            let kept = read(&saved)?.unwrap_or_default();
            let is_ours = now == kept || (program == ETCD && kept_to_loopback(&kept).as_ref() == Ok(&now));
            if !is_ours {
                copy(&followed, &saved)?;
            }
            crashsafe::remove(&followed)?;
        }
        crashsafe::sync_directory(&self.followed)?;
        // From here on an etcd that runs is nobody's.
        Ok(crashsafe::remove(&self.saved.join(ALONE))?)
    }

    /// What the kubelet sees now.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn followed(&self) -> Result<Followed, PodsError> {
        if !self.is_saved() {
            return Ok(Followed { etcd: true, clients: true });
        }
        let files = self.list()?;
        let is_there = |program: &str| files.get(program).is_some_and(|file| self.followed.join(file).exists());
        Ok(Followed { etcd: is_there(ETCD), clients: CLIENTS.iter().any(|program| is_there(program)) })
    }

    /// Whether the etcd that runs was started alone, by an executor.
    pub fn is_alone(&self) -> bool {
        self.saved.join(ALONE).exists()
    }

    /// Puts etcd's manifest back, and no other.
    ///
    /// # Errors
    /// The disk, or clients cannot be kept off.
    pub fn start_alone(&self, clients: Clients) -> Result<(), PodsError> {
        let files = self.list()?;
        let file = files.get(ETCD).ok_or_else(|| PodsError::BadList(self.saved.join(LIST)))?;
        let saved = self.saved.join(file);
        let kept = read(&saved)?.unwrap_or_default();
        let text = match clients {
            Clients::Configured => kept,
            Clients::Loopback => kept_to_loopback(&kept)?,
        };
        crashsafe::replace(&self.saved.join(ALONE), b"", 0o600)?;
        Ok(crashsafe::replace(&self.followed.join(file), &text, mode_of(&saved)?)?)
    }

    /// Whether the kubelet follows a manifest of etcd that is not the one to be put back.
    ///
    /// # Errors
    /// The disk.
    pub fn has_other_etcd(&self) -> Result<bool, PodsError> {
        let files = self.list()?;
        let Some(file) = files.get(ETCD) else { return Ok(false) };
        let followed = read(&self.followed.join(file))?;
        Ok(followed.is_some() && followed != read(&self.saved.join(file))?)
    }

    /// Puts every manifest back as it was, etcd's first. Those that are as they were are left alone. Says whether etcd's was not.
    ///
    /// # Errors
    /// The disk.
    pub fn start_all(&self) -> Result<bool, PodsError> {
        let files = self.list()?;
        crashsafe::remove(&self.saved.join(ALONE))?;
        let mut gives_etcd = false;
        for program in std::iter::once(ETCD).chain(CLIENTS) {
            let Some(file) = files.get(program) else { continue };
            let (followed, saved) = (self.followed.join(file), self.saved.join(file));
            if read(&followed)? != read(&saved)? {
                copy(&saved, &followed)?;
                gives_etcd |= program == ETCD;
            }
        }
        Ok(gives_etcd)
    }

    fn list(&self) -> Result<Files, PodsError> {
        let path = self.saved.join(LIST);
        let bytes = std::fs::read(&path).map_err(PodsError::disk("read", &path))?;
        let List { files } = serde_json::from_slice(&bytes).map_err(|_| PodsError::BadList(path))?;
        Ok(files)
    }

    /// The manifests that the kubelet follows, by the program that they start.
    fn find(&self) -> Result<Files, PodsError> {
        let entries = std::fs::read_dir(&self.followed).map_err(PodsError::disk("read", &self.followed))?;
        let mut files = Files::new();
        for entry in entries {
            let entry = entry.map_err(PodsError::disk("read", &self.followed))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || !entry.path().is_file() {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).map_err(PodsError::disk("read", &entry.path()))?;
            let Ok(pod) = parse_static_pod(&text) else { continue };
            let program = std::iter::once(ETCD).chain(CLIENTS).find(|program| pod.container_running(program).is_some());
            let Some(program) = program else { continue };
            if let Some(other) = files.insert(program.to_owned(), name.clone()) {
                let [one, other] = [name, other].map(|file| self.followed.join(file));
                return Err(PodsError::Twice { one, other, program });
            }
        }
        Ok(files)
    }
}

/// etcd's manifest with clients on loopback only: the first URL it listens at, on this host's own address.
fn kept_to_loopback(manifest: &[u8]) -> Result<Vec<u8>, PodsError> {
    let text = std::str::from_utf8(manifest).map_err(|_| PodsError::NoListenFlag)?;
    let (before, rest) = text.split_once(LISTEN).ok_or(PodsError::NoListenFlag)?;
    let end = rest.find(['\n', '"', '\'', ' ']).unwrap_or(rest.len());
    let (urls, after) = rest.split_at(end);
    let first = urls.split(',').next().unwrap_or_default();
    let (scheme, address) = first.split_once("://").ok_or(PodsError::NoListenFlag)?;
    let (_, port) = address.rsplit_once(':').ok_or(PodsError::NoListenFlag)?;
    Ok(format!("{before}{LISTEN}{scheme}://127.0.0.1:{port}{after}").into_bytes())
}

impl PartialEq for PodsError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, PodsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PodsError::disk("read", path)(error)),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), PodsError> {
    let bytes = std::fs::read(from).map_err(PodsError::disk("read", from))?;
    Ok(crashsafe::replace(to, &bytes, mode_of(from)?)?)
}

fn mode_of(path: &Path) -> Result<u32, PodsError> {
    let metadata = std::fs::metadata(path).map_err(PodsError::disk("looked at", path))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(program: &str, more: &str) -> String {
        format!(
            "# by hand\nkind: Pod\nmetadata: {{name: {program}}}\nspec:\n  containers:\n  - name: {program}\n    command:\n    \
             - {program}\n{more}"
        )
    }

    const FLAGS: &str = "    - --listen-client-urls=https://10.0.0.1:2379,https://127.0.0.1:2379\n    - --name=m0\n";

    fn master() -> (tempfile::TempDir, Pods) {
        let dir = tempfile::tempdir().unwrap();
        let followed = dir.path().join("manifests");
        std::fs::create_dir(&followed).unwrap();
        for program in CLIENTS {
            std::fs::write(followed.join(format!("{program}.yaml")), manifest(program, "")).unwrap();
        }
        std::fs::write(followed.join("etcd.yaml"), manifest("etcd", FLAGS)).unwrap();
        std::fs::write(followed.join("registry.yaml"), manifest("registry", "")).unwrap();
        std::fs::set_permissions(followed.join("etcd.yaml"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let restore = dir.path().join("restore");
        std::fs::create_dir(&restore).unwrap();
        let pods = Pods::new(followed, &restore);
        (dir, pods)
    }

    fn all(pods: &Pods) -> BTreeMap<String, (Vec<u8>, u32)> {
        let entries = std::fs::read_dir(&pods.followed).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, (std::fs::read(&path).unwrap(), mode_of(&path).unwrap()))
            })
            .collect()
    }

    #[test]
    fn what_was_taken_away_comes_back_byte_for_byte_and_what_is_not_ours_stays() {
        let (_dir, pods) = master();
        let before = all(&pods);
        pods.save().unwrap();
        assert!(pods.is_saved());
        pods.hold().unwrap();
        pods.hold().unwrap();
        assert_eq!(all(&pods).into_keys().collect::<Vec<_>>(), ["registry.yaml"]);
        assert_eq!(pods.followed().unwrap(), Followed::default());
        pods.start_alone(Clients::Loopback).unwrap();
        assert!(pods.is_alone());
        assert_eq!(pods.followed().unwrap(), Followed { etcd: true, clients: false });
        let alone = String::from_utf8(all(&pods)["etcd.yaml"].0.clone()).unwrap();
        assert_eq!(alone, manifest("etcd", "    - --listen-client-urls=https://127.0.0.1:2379\n    - --name=m0\n"));
        assert!(pods.has_other_etcd().unwrap());
        assert!(pods.start_all().unwrap(), "another etcd than before");
        assert!(!pods.has_other_etcd().unwrap() && !pods.start_all().unwrap(), "the same again");
        assert!(!pods.is_alone());
        assert_eq!(all(&pods), before);
    }

    #[test]
    fn an_etcd_that_was_alone_is_held_again_and_its_manifest_is_not_taken_for_a_new_one() {
        let (_dir, pods) = master();
        let before = all(&pods);
        pods.save().unwrap();
        for clients in [Clients::Loopback, Clients::Configured] {
            pods.hold().unwrap();
            assert!(!pods.has_other_etcd().unwrap(), "there is none");
            pods.start_alone(clients).unwrap();
            assert_eq!(pods.has_other_etcd().unwrap(), clients == Clients::Loopback);
        }
        pods.hold().unwrap();
        assert!(!pods.is_alone());
        pods.start_all().unwrap();
        assert_eq!(all(&pods), before);
    }

    #[test]
    fn a_manifest_changed_between_the_copy_and_the_hold_comes_back_as_it_was_last() {
        let (_dir, pods) = master();
        pods.save().unwrap();
        let changed = manifest("kube-scheduler", "    - --v=4\n");
        std::fs::write(pods.followed.join("kube-scheduler.yaml"), &changed).unwrap();
        pods.hold().unwrap();
        pods.start_all().unwrap();
        assert_eq!(std::fs::read_to_string(pods.followed.join("kube-scheduler.yaml")).unwrap(), changed);
    }

    #[test]
    fn a_master_without_etcd_or_with_two_of_a_kind_is_refused_and_one_without_an_api_server_is_not() {
        let (_dir, pods) = master();
        std::fs::copy(pods.followed.join("etcd.yaml"), pods.followed.join("etcd-old.yaml")).unwrap();
        assert!(matches!(pods.save(), Err(PodsError::Twice { .. })));
        std::fs::remove_file(pods.followed.join("etcd-old.yaml")).unwrap();
        let etcd = std::fs::read(pods.followed.join("etcd.yaml")).unwrap();
        std::fs::remove_file(pods.followed.join("etcd.yaml")).unwrap();
        assert!(matches!(pods.save(), Err(PodsError::Missing { .. })));
        assert!(!pods.is_saved());
        std::fs::write(pods.followed.join("etcd.yaml"), etcd).unwrap();
        std::fs::remove_file(pods.followed.join("kube-apiserver.yaml")).unwrap();
        pods.save().unwrap();
        assert!(!pods.programs().unwrap().contains(&"kube-apiserver".to_owned()));
    }
}
