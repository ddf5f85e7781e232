//! Where things lie in a location: keys relative to its prefix (backup.md, Object layout).

use crate::identifier::BackupId;

/// Object that a probe writes, reads and deletes, at the root of the prefix; a host adds the beginning of its id
/// (docs/adr/005).
pub const PROBE: &str = ".lifeboat-probe";

/// The mark of a directory, at the root of the prefix, by which masters find out whether they see the same one.
pub const DIRECTORY_MARK: &str = ".lifeboat-directory";

/// Every backup of one cluster, ending in a slash. `uid` is the UID of its kube-system namespace.
pub fn backups_prefix(uid: &str) -> String {
    format!("{uid}/backups/")
}

/// Everything of one backup, ending in a slash.
pub fn backup_prefix(uid: &str, backup: &BackupId) -> String {
    format!("{uid}/backups/{backup}/")
}

/// The manifest: **a backup exists if and only if its manifest does.**
pub fn manifest(uid: &str, backup: &BackupId) -> String {
    format!("{uid}/backups/{backup}/manifest.json")
}

/// File name of the data of one attempt; `random` makes it the attempt's own.
pub fn data_name(attempt: i32, random: &str, encrypted: bool) -> String {
    let suffix = if encrypted { ".age" } else { "" };
    format!("snapshot-{attempt}-{random}.db.zst{suffix}")
}

/// The data of one attempt.
pub fn data(uid: &str, backup: &BackupId, name: &str) -> String {
    format!("{uid}/backups/{backup}/{name}")
}

/// `owner.json` of a cluster.
pub fn owner(uid: &str) -> String {
    format!("{uid}/owner.json")
}

/// `pin.json` of a backup: while it is there, no policy deletes the archive.
pub fn pin(uid: &str, backup: &BackupId) -> String {
    format!("{uid}/backups/{backup}/pin.json")
}

/// `expired.json` of a backup: the archive was given up on purpose; whatever of it is left may be deleted.
pub fn expired(uid: &str, backup: &BackupId) -> String {
    format!("{uid}/backups/{backup}/expired.json")
}

/// The backup of a key below [`backups_prefix`], and the file's name, which may hold slashes where a stranger put it there.
pub fn part_of_backup<'k>(uid: &str, key: &'k str) -> Option<(BackupId, &'k str)> {
    let (backup, name) = key.strip_prefix(&backups_prefix(uid))?.split_once('/')?;
    Some((backup.parse().ok()?, name))
}

/// Whether a key is of an archive itself, its manifest or its data, and none of the marks beside it.
pub fn is_archive(key: &str) -> bool {
    let mut parts = key.rsplit('/');
    let (name, backup, backups) = (parts.next(), parts.next(), parts.next());
    backups == Some("backups")
        && backup.is_some_and(|backup| backup.parse::<BackupId>().is_ok())
        && name.is_some_and(|name| name == "manifest.json" || name.starts_with("snapshot-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let id: BackupId = "20261124-020304-0123abcd".parse().unwrap();
        assert_eq!(part_of_backup("u", &manifest("u", &id)), Some((id.clone(), "manifest.json")));
        let name = data_name(2, "9f", true);
        assert_eq!(name, "snapshot-2-9f.db.zst.age");
        assert_eq!(part_of_backup("u", &data("u", &id, &name)), Some((id.clone(), name.as_str())));
        for other in [manifest("other", &id), owner("u"), "u/backups/notes.txt".to_owned(), "u/backups/x/y".to_owned()]
        {
            assert_eq!(part_of_backup("u", &other), None, "{other}");
        }
        assert!(is_archive(&manifest("u", &id)) && is_archive(&data("u", &id, &name)));
        for other in [pin("u", &id), expired("u", &id), owner("u"), PROBE.to_owned()] {
            assert!(!is_archive(&other), "{other}");
        }
    }
}
