use std::fs::{File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn key(first: u8) -> SigningKey {
    SigningKey::from_seed([first; 32])
}

fn signer(directory: &KeyDirectory) -> Option<KeyId> {
    directory.read().unwrap().keys.signer.map(|key| key.public().id())
}

fn set_age(directory: &KeyDirectory, key: &SigningKey, hours: u64) {
    let path = directory.0.join(format!("installation-{}.key", key.public().id()));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - hours * 3_600);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn a_host_gains_keys_signs_with_the_newest_and_believes_all() {
    let dir = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::below(dir.path());
    assert_eq!(signer(&directory), None);
    assert!(directory.read().unwrap().keys.known.is_empty());
    directory.keep(&key(1)).unwrap();
    directory.keep(&key(2)).unwrap();
    set_age(&directory, &key(1), 1);
    set_age(&directory, &key(2), 2);
    // Kept once more, because an older API server came back: what is there stays as it is.
    directory.keep(&key(2)).unwrap();
    assert_eq!(signer(&directory), Some(key(1).public().id()));
    let known = directory.read().unwrap().keys.known;
    assert!(known.contains(&key(1).public().id()) && known.contains(&key(2).public().id()));
    assert_eq!(known.len(), 2);
}

#[test]
fn nobody_else_may_look_at_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::below(dir.path());
    directory.keep(&key(1)).unwrap();
    directory.generate().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.0), 0o700);
    assert!(files(&directory.0).unwrap().iter().all(|path| mode(path) == 0o600));
}

#[test]
fn a_host_key_is_made_once_and_never_signs_for_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::below(dir.path());
    let (id, public) = directory.generate().unwrap();
    assert_eq!(read_public_keys(&public).unwrap()[0].id(), id);
    assert!(matches!(directory.generate(), Err(KeysError::Exists(path)) if name(&path) == format!("host-{id}.key")));
    assert_eq!(signer(&directory), None);
    assert!(directory.read().unwrap().keys.known.contains(&id));
}

#[test]
fn a_damaged_file_is_remarked_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::below(dir.path());
    directory.keep(&key(1)).unwrap();
    std::fs::write(directory.0.join("installation-0000000000000000.key"), "hush").unwrap();
    std::fs::write(directory.0.join("notes.txt"), "mine").unwrap();
    std::fs::write(directory.0.join("friend.pub"), key(3).public().to_pem().unwrap()).unwrap();
    let FoundKeys { keys, remarks } = directory.read().unwrap();
    assert_eq!(keys.signer.unwrap().public(), key(1).public());
    assert!(keys.known.contains(&key(3).public().id()), "a public key put there by hand");
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("installation-0000000000000000.key") && !remarks[0].contains("hush"), "{remarks:?}");
}

#[test]
fn keys_named_by_a_human_must_be_keys() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read_public_keys(&dir.path().join("absent")).is_err());
    let words = read_public_keys(dir.path()).unwrap_err().to_string();
    assert!(words.contains("*.pub"), "{words}");
    let file = dir.path().join("a.pub");
    std::fs::write(&file, key(1).public().to_pem().unwrap()).unwrap();
    std::fs::write(dir.path().join("b.pub"), key(2).public().to_pem().unwrap()).unwrap();
    assert_eq!(read_public_keys(&file).unwrap(), [key(1).public()]);
    assert_eq!(read_public_keys(dir.path()).unwrap(), [key(1).public(), key(2).public()]);
    std::fs::write(dir.path().join("c.pub"), "nonsense").unwrap();
    assert!(read_public_keys(dir.path()).is_err());
}
