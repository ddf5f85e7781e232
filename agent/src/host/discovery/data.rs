//! Where etcd's data lies on the host, and the root of the volume it lies in. Pure.
//!
//! The root matters because the etcd pod's control files (`restore.db`, `command`) are looked for there, also where
//! `--data-dir` is a directory below it.

use std::path::{Path, PathBuf};

use super::kublr::{DEFAULT_VOLUME, StoragePath};
use super::server::Server;
use super::{Discovery, HostFacts, Platform};
use crate::host::arguments::Arguments;

/// Reads the directories that etcd was told of, as paths of the host.
pub fn read_directories(server: &Server, arguments: &Arguments, facts: &HostFacts, found: &mut Discovery) {
    match arguments.get("data-dir") {
        None => found
            .remarks
            .push(format!("{} has no --data-dir, so etcd's data directory is not known: give --data-dir", server.file)),
        Some(path) => match server.pod.mounted(&server.container, Path::new(path)) {
            Ok(place) => {
                found.data_dir = Some(place.host);
                found.volume = Some(place.volume_root);
                found.volume_mount = Some(place.mounted_at);
                found.sources.insert("volume", format!("the hostPath in {}", server.file));
            }
            Err(words) => {
                found.remarks.push(format!("etcd's data directory is not known on the host: {words}; give --data-dir"))
            }
        },
    }
    if found.platform == Platform::Kublr {
        take_kublr_volume(facts, found);
    }
    if let Some(path) = arguments.get("wal-dir") {
        match server.pod.mounted(&server.container, Path::new(path)) {
            Ok(place) => {
                found.is_wal_volume = place.host == place.volume_root;
                found.wal_dir = Some(place.host);
            }
            Err(words) => {
                found.remarks.push(format!("etcd's WAL directory is not known on the host: {words}"));
                found.restore_problems.push(format!("etcd's WAL directory is not known on the host: {words}"));
            }
        }
    }
}

/// The data volume of a Kublr master whose etcd is not understood: enough for what Kublr's own etcd pod looks for.
pub fn volume_without_manifest(facts: &HostFacts, found: &mut Discovery) {
    if found.platform == Platform::Kublr {
        take_kublr_volume(facts, found);
    }
}

/// Kublr's own order: daemon.yaml, what `kublr validate` says, the manifest's volume, the default path.
fn take_kublr_volume(facts: &HostFacts, found: &mut Discovery) {
    let (path, source) = match facts.kublr.storage_path() {
        StoragePath::Known { path, source } => (path, source),
        StoragePath::Unknown if found.volume.is_some() => return,
        StoragePath::Unknown => (PathBuf::from(DEFAULT_VOLUME), "Kublr's default"),
        StoragePath::NotUnderstood(words) => {
            found.remarks.push(words);
            return;
        }
    };
    match found.volume.replace(path.clone()) {
        None => found.data_dir = found.data_dir.take().or(Some(path)),
        Some(mounted) if mounted == path => {}
        Some(mounted) => {
            // Either may be a link to the other, which only the host can tell; etcd itself uses what is mounted.
            found.volume_conflict = Some(format!(
                "{source} says that etcd's data volume is {}, its manifest mounts {}: say --data-dir",
                path.display(),
                mounted.display()
            ));
        }
    }
    found.sources.insert("volume", source.to_owned());
}

/// What the administrator says is believed: the directory is the volume too, unless it lies in the one that was found.
pub fn take_given_directory(data_dir: &Path, found: &mut Discovery) {
    if !found.volume.as_deref().is_some_and(|volume| data_dir.starts_with(volume)) {
        found.volume = Some(data_dir.to_owned());
    }
    found.data_dir = Some(data_dir.to_owned());
    found.sources.insert("dataDir", "--data-dir".to_owned());
}
