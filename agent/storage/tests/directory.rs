//! The directory backend on a real file system: the promises, and what else may stand in the directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use bytes::Bytes;
use lifeboat_storage::{
    DirectoryStore, ErrorClass, ListRequest, ObjectKey, ObjectStore, Part, PutMode, StoreError, conformance,
};

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn store(root: &Path, below: Option<&str>) -> DirectoryStore {
    // However full the disk of this machine is.
    DirectoryStore::new("archive", root, below).unwrap().with_reserve_percent(0)
}

async fn put(store: &DirectoryStore, name: &str, body: &'static [u8]) -> Result<(), StoreError> {
    store.put(&key(name), Bytes::from_static(body), PutMode::Overwrite).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_the_promises() {
    let root = tempfile::tempdir().unwrap();
    conformance::run(&store(root.path(), Some("clusters/eu"))).await.unwrap();
    conformance::run(&store(root.path(), None)).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(root.path().join(".lifeboat-uploads")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn only_the_owner_can_read_what_is_written() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), Some("sub"));
    put(&store, "uid/manifest.json", b"{}").await.unwrap();
    assert_eq!(store.uri(&key("uid/manifest.json")), format!("{}/sub/uid/manifest.json", root.path().display()));
    assert_eq!(store.describe(), "directory archive/sub");
    let mode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("sub/uid/manifest.json"), 0o600);
    assert_eq!(mode("sub/uid"), 0o700);
}

#[tokio::test]
async fn symbolic_links_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("shadow"), b"secret").unwrap();
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), None);
    symlink(outside.path(), root.path().join("linked")).unwrap();
    symlink(outside.path().join("shadow"), root.path().join("file")).unwrap();

    for name in ["linked/shadow", "file"] {
        let error = store.get(&key(name)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Refused, "{name}: {error}");
    }
    let error = put(&store, "linked/new", b"x").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused, "{error}");
    assert!(store.delete(&key("linked/shadow")).await.is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.path().join("shadow")).unwrap(), b"secret");

    // A link is no object: it is counted as foreign, and a put replaces the link itself.
    let page = store.list(&ListRequest::under("")).await.unwrap();
    assert_eq!((page.objects.len(), page.foreign), (0, 2));
    put(&store, "file", b"ours").await.unwrap();
    assert_eq!(std::fs::read(outside.path().join("shadow")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_mount_that_is_missing_is_never_made() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("not-mounted");
    let store = store(&missing, Some("sub"));
    let error = put(&store, "a", b"x").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Misconfigured, "{error}");
    assert!(error.to_string().contains("not-mounted"), "{error}");
    assert!(!missing.exists());
    assert!(DirectoryStore::new("archive", root.path(), Some("../other")).is_err());
    assert!(DirectoryStore::new("archive", "relative", None).is_err());
}

#[tokio::test]
async fn a_store_never_written_to_is_empty_and_stays_unmade_by_reads() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), Some("sub"));
    assert!(matches!(store.head(&key("a")).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.list_all("", 10).await.unwrap(), []);
    assert_eq!(store.list_uploads("").await.unwrap(), []);
    store.delete(&key("a/b")).await.unwrap();
    assert!(!root.path().join("sub").exists());
}

#[tokio::test]
async fn files_of_others_are_counted_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), None);
    put(&store, "ours", b"x").await.unwrap();
    std::fs::write(root.path().join("back\\slash"), b"").unwrap();
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let page = store.list(&ListRequest { delimiter: true, ..ListRequest::under("") }).await.unwrap();
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.prefixes, Vec::<String>::new(), "a directory without objects is no prefix");
    assert_eq!(page.foreign, 1);
}

#[tokio::test]
async fn deleting_the_last_object_removes_the_directories_it_needed() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), None);
    put(&store, "uid/backups/1/manifest.json", b"x").await.unwrap();
    put(&store, "uid/owner.json", b"x").await.unwrap();
    store.delete(&key("uid/backups/1/manifest.json")).await.unwrap();
    assert!(!root.path().join("uid/backups").exists());
    assert!(root.path().join("uid/owner.json").exists());
}

#[tokio::test]
async fn a_file_where_a_directory_is_needed_is_told_as_such() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), None);
    put(&store, "a", b"x").await.unwrap();
    let error = put(&store, "a/b", b"x").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Misconfigured, "{error}");
    assert!(matches!(store.head(&key("a/b")).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.list_uploads("").await.unwrap(), [], "a failed put leaves scratch behind");
}

#[tokio::test]
async fn uploads_of_a_process_that_died_are_found_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let upload = store(root.path(), None).begin_upload(&key("uid/data.zst")).await.unwrap();
    upload.put_part(Part { number: 1, offset: 0, body: Bytes::from_static(b"half") }).await.unwrap();
    drop(upload);

    let successor = store(root.path(), None);
    assert_eq!(successor.list_uploads("other/").await.unwrap(), []);
    let [stale] = &successor.list_uploads("uid/").await.unwrap()[..] else { panic!("not one stale upload") };
    assert_eq!(stale.key, key("uid/data.zst"));
    assert!(stale.initiated.is_some());
    successor.abort_upload(stale).await.unwrap();
    assert_eq!(successor.list_uploads("").await.unwrap(), []);
    let mut forged = stale.clone();
    forged.upload_id = "../../uid".into();
    put(&successor, "uid/data", b"kept").await.unwrap();
    successor.abort_upload(&forged).await.unwrap();
    assert!(successor.head(&key("uid/data")).await.is_ok());
}

#[tokio::test]
async fn completing_never_replaces_another_object() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), None);
    let upload = store.begin_upload(&key("taken")).await.unwrap();
    let receipt = upload.put_part(Part { number: 1, offset: 0, body: Bytes::from_static(b"late") }).await.unwrap();
    put(&store, "taken", b"first").await.unwrap();
    let outcome = upload.complete(vec![receipt]).await;
    assert!(matches!(outcome, Err(StoreError::AlreadyExists { .. })), "{outcome:?}");
    assert_eq!(store.get_small(&key("taken"), 10).await.unwrap(), Bytes::from_static(b"first"));
}

/// A disk that can be filled: a tmpfs. Mounting it needs the rights that these tests run with.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn of(size: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "lifeboat-full"])
            .arg(root.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "cannot mount a tmpfs: this test must run as root");
        Self(root)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn part(number: u32, offset: u64, bytes: usize) -> Part {
    Part { number, offset, body: Bytes::from(vec![1_u8; bytes]) }
}

#[tokio::test]
async fn archives_leave_a_part_of_the_disk_free_and_small_objects_need_not() {
    let disk = SmallDisk::of("16m");
    let store = DirectoryStore::new("archive", disk.0.path(), None).unwrap();
    let upload = store.begin_upload(&key("data")).await.unwrap();
    let first = upload.put_part(part(1, 0, 8 << 20)).await.unwrap();
    // 12 of 16 MiB would be 75 %, 13 are more than may be.
    let second = upload.put_part(part(2, 8 << 20, 4 << 20)).await.unwrap();
    let error = upload.put_part(part(3, 12 << 20, 1 << 20)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Full, "{error}");
    assert!(error.to_string().contains("20 %") && error.to_string().contains("delete"), "{error}");
    upload.complete(vec![first, second]).await.unwrap();
    drop(upload);
    // A disk that others filled.
    std::fs::write(disk.0.path().join("theirs"), vec![1_u8; 1 << 20]).unwrap();
    let error = store.begin_upload(&key("more")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Full, "{error}");
    assert_eq!(store.list_uploads("").await.unwrap(), [], "nothing was begun");
    put(&store, "expired.json", b"{}").await.unwrap();
    store.delete(&key("data")).await.unwrap();
    store.begin_upload(&key("more")).await.unwrap().abort().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_full_and_leaves_the_old_object() {
    let disk = SmallDisk::of("1m");
    let store = store(disk.0.path(), None);
    put(&store, "kept", b"old").await.unwrap();
    let large = Bytes::from(vec![1_u8; 2 << 20]);
    let outcome = store.put(&key("kept"), large.clone(), PutMode::Overwrite).await;
    assert!(matches!(outcome, Err(StoreError::Full { .. })), "{outcome:?}");
    let upload = store.begin_upload(&key("data")).await.unwrap();
    let part = upload.put_part(Part { number: 1, offset: 0, body: large }).await;
    upload.abort().await.unwrap();
    assert!(matches!(part, Err(StoreError::Full { .. })), "{part:?}");
    assert_eq!(store.get_small(&key("kept"), 10).await.unwrap(), Bytes::from_static(b"old"));
    assert_eq!(store.list_uploads("").await.unwrap(), []);
}
