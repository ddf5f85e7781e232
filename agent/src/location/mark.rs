//! The mark that the first probe leaves in a directory, so that masters find out whether they see the same one: a mount that
//! is missing on one of them, or a local directory taken for a shared one, looks right to each of them alone.
//!
//! Reads and, once, writes one small object. Buckets need none.

use bytes::Bytes;
use lifeboat_crds::location::{AccessMode, Sight};
use lifeboat_crds::{EtcdBackupLocation, NodeName, layout};
use lifeboat_storage::{ObjectKey, ObjectStore, PutMode, StoreError};

/// A mark is 32 hex digits; what is longer is somebody else's.
const LARGEST_MARK: usize = 64;

/// The mark of a location's directory, made where there is none and it may be written; nothing for a bucket.
///
/// # Errors
/// It cannot be read.
pub async fn read_mark(store: &dyn ObjectStore, location: &EtcdBackupLocation) -> Result<Option<String>, StoreError> {
    if location.spec.directory.is_none() {
        return Ok(None);
    }
    let key = ObjectKey::parse(layout::DIRECTORY_MARK)?;
    match read(store, &key).await {
        Err(StoreError::NotFound { .. }) => {}
        read => return read.map(Some),
    }
    match location.spec.access_mode {
        AccessMode::ReadOnly => return Ok(None),
        AccessMode::ReadWrite => {}
    }
    let mark = Bytes::from(format!("{:032x}", rand::random::<u128>()));
    if let Err(error) = store.put(&key, mark, PutMode::CreateNew).await
        && !matches!(error, StoreError::AlreadyExists { .. })
    {
        tracing::debug!(%error, "the directory got no mark");
        return Ok(None);
    }
    // Another master may have been first.
    read(store, &key).await.map(Some)
}

async fn read(store: &dyn ObjectStore, key: &ObjectKey) -> Result<String, StoreError> {
    let bytes = store.get_small(key, LARGEST_MARK).await?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let words =
            "it is not the mark that a probe leaves there: remove it, and the next probe makes another".to_owned();
        return Err(StoreError::Corrupt { store: store.describe(), key: key.clone(), words });
    }
    Ok(text)
}

/// Another master that told of another directory.
pub fn who_differs<'s>(sights: &'s [Sight], me: &NodeName, own: Option<&str>) -> Option<&'s NodeName> {
    let own = own?;
    sights.iter().find(|sight| sight.node_name != *me && sight.directory_id != own).map(|sight| &sight.node_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_storage::MemoryStore;
    use serde_json::json;

    fn location(mode: &str) -> EtcdBackupLocation {
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation",
            "metadata": {"name": "l"}, "spec": {"directory": {"mount": "shared"}, "accessMode": mode}}))
        .unwrap()
    }

    #[tokio::test]
    async fn all_who_see_one_directory_read_one_mark() {
        let (one, other) = (MemoryStore::new(), MemoryStore::new());
        assert_eq!(read_mark(&one, &location("ReadOnly")).await.unwrap(), None);
        let first = read_mark(&one, &location("ReadWrite")).await.unwrap().unwrap();
        assert_eq!(read_mark(&one, &location("ReadWrite")).await.unwrap().unwrap(), first);
        assert_eq!(read_mark(&one, &location("ReadOnly")).await.unwrap().unwrap(), first);
        assert_ne!(read_mark(&other, &location("ReadWrite")).await.unwrap().unwrap(), first);
        let mut bucket = location("ReadWrite");
        (bucket.spec.directory, bucket.spec.s3) = (None, serde_json::from_value(json!({"bucket": "abc"})).unwrap());
        assert_eq!(read_mark(&one, &bucket).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_mark_of_somebody_else_is_refused_in_words() {
        let store = MemoryStore::new();
        let key = ObjectKey::parse(layout::DIRECTORY_MARK).unwrap();
        store.put(&key, Bytes::from_static(b"hello"), PutMode::Overwrite).await.unwrap();
        let error = read_mark(&store, &location("ReadWrite")).await.unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
    }

    #[test]
    fn a_master_differs_from_others_and_never_from_itself() {
        let sight = |node: &str, id: &str| Sight { node_name: node.into(), directory_id: id.into() };
        let sights = [sight("m1", "aa"), sight("m2", "bb")];
        assert_eq!(who_differs(&sights, &"m2".into(), Some("aa")), None, "its own sight is of before");
        assert_eq!(who_differs(&sights, &"m3".into(), Some("bb")), Some(&"m1".into()));
        assert_eq!(who_differs(&sights, &"m3".into(), None), None);
    }
}
