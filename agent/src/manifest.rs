//! Reads `manifest.json`: the one place that says how large it may be, whose it must be, and what its signature is worth.
//!
//! What was altered, or is another cluster's, is never believed; what an unsigned manifest or an unknown key is good for is
//! the caller's business. Reads the store, writes nothing.

use std::time::Duration;

use lifeboat_crds::document::{DocumentError, Envelope};
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::signing::{Domain, KnownKeys, SignatureState};
use lifeboat_crds::{BackupId, layout};
use lifeboat_storage::{ObjectKey, ObjectStore, RetryPolicy, StoreError, retry};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A manifest is a few KiB; more than this is not read into memory.
const LARGEST_MANIFEST: usize = 1 << 20;

/// A manifest as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundManifest {
    /// What it says.
    pub manifest: Manifest,
    /// What its signature is worth.
    pub signature: SignatureState,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The store failed; [`StoreError::NotFound`] where there is none.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be read.
    #[error("the manifest of {backup} in the store: {source}")]
    Document {
        /// Which backup.
        backup: BackupId,
        /// What is wrong.
        source: DocumentError,
    },
    /// Somebody put another backup's manifest there.
    #[error("the manifest of backup {expected} in the store says that it is of {found}: look at who writes there")]
    Foreign {
        /// Whose place it is.
        expected: BackupId,
        /// What it says.
        found: BackupId,
    },
    /// Somebody put another cluster's manifest there.
    #[error(
        "the manifest of backup {backup} in the store is of cluster {found}, not of this one: look at who writes there"
    )]
    OtherCluster {
        /// Whose place it is.
        backup: BackupId,
        /// What it says.
        found: String,
    },
    /// It is not what was signed.
    #[error(
        "the signature of {uri} does not fit: the manifest was altered after it was written. Look at who writes there, and \
         do not rely on this backup"
    )]
    Altered {
        /// The manifest.
        uri: String,
    },
}

/// Where the manifests of one cluster are read.
#[derive(Clone, Copy, Debug)]
pub struct Manifests<'m> {
    /// The store.
    pub store: &'m dyn ObjectStore,
    /// UID of the kube-system namespace.
    pub cluster: &'m str,
    /// Whose signatures are believed.
    pub known: &'m KnownKeys,
    /// For how long a store that does not answer is asked again.
    pub patience: Duration,
    /// Ends the asking.
    pub cancel: &'m CancellationToken,
}

impl Manifests<'_> {
    /// Fetches the manifest of a backup as it is, whatever its signature is worth.
    ///
    /// # Errors
    /// There is none, the store fails, or it cannot be read.
    pub async fn fetch(&self, backup: &BackupId) -> Result<FoundManifest, ManifestError> {
        let Self { store, cluster, known, patience, cancel } = self;
        let key = ObjectKey::parse(layout::manifest(cluster, backup)).map_err(StoreError::from)?;
        let question = || store.get_small(&key, LARGEST_MANIFEST);
        let bytes = retry("reading a manifest", RetryPolicy::until(*patience), cancel, question).await?;
        read_manifest(&bytes, backup, known)
    }

    /// Fetches a manifest of this cluster that nobody altered. One without a signature, or with that of an unknown key, is
    /// another installation's and counts.
    ///
    /// # Errors
    /// There is none, the store fails, or it is not to be believed.
    pub async fn fetch_believed(&self, backup: &BackupId) -> Result<FoundManifest, ManifestError> {
        let found = self.fetch(backup).await?;
        match found.signature {
            SignatureState::Valid(_) | SignatureState::Unknown(_) | SignatureState::Unsigned => {}
            SignatureState::Invalid => {
                let key = ObjectKey::parse(layout::manifest(self.cluster, backup)).map_err(StoreError::from)?;
                return Err(ManifestError::Altered { uri: self.store.uri(&key) });
            }
        }
        if found.manifest.cluster.uid != self.cluster {
            let found = found.manifest.cluster.uid;
            return Err(ManifestError::OtherCluster { backup: backup.clone(), found });
        }
        Ok(found)
    }
}

/// Reads a manifest, which must be that of this backup.
///
/// # Errors
/// It is of a newer format, no manifest, or another backup's.
fn read_manifest(bytes: &[u8], backup: &BackupId, known: &KnownKeys) -> Result<FoundManifest, ManifestError> {
    let wrong = |source| ManifestError::Document { backup: backup.clone(), source };
    let received = Envelope::<Value>::from_bytes(bytes).map_err(wrong)?;
    let signature = received.verify(Domain::MANIFEST, known);
    let manifest = received.understand::<Manifest>().map_err(wrong)?.payload;
    if manifest.backup_id != *backup {
        return Err(ManifestError::Foreign { expected: backup.clone(), found: manifest.backup_id });
    }
    Ok(FoundManifest { manifest, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::manifest::SealedManifest;
    use lifeboat_crds::signing::SigningKey;
    use serde_json::json;

    fn id() -> BackupId {
        "20261124-020304-00000001".parse().unwrap()
    }

    fn manifest() -> Manifest {
        serde_json::from_value(json!({
            "backupId": id().as_str(), "data": "snapshot-1-aa.db.zst", "attempt": 1,
            "object": {"namespace": "n", "name": "b", "spec": {"locationRef": {"name": "l"}}},
            "cluster": {"uid": "uid", "etcdClusterId": "1", "members": []},
            "snapshot": {"nodeName": "m1", "member": "m1", "etcdVersion": "3.6.0", "sizeBytes": 1, "sha256": "00"},
            "archive": {"sizeBytes": 1, "sha256": "00", "compression": "zstd"},
            "verification": {"level": "Content", "time": "2026-11-24T02:03:04Z"},
            "startTime": "2026-11-24T02:03:04Z", "completionTime": "2026-11-24T02:03:05Z", "tools": {},
        }))
        .unwrap()
    }

    #[test]
    fn what_a_manifest_says_and_what_its_signature_is_worth_come_together() {
        let key = SigningKey::from_seed([1; 32]);
        let mut known = KnownKeys::default();
        let signed = SealedManifest::sign(manifest(), Domain::MANIFEST, &key).unwrap().to_bytes().unwrap();
        let found = read_manifest(&signed, &id(), &known).unwrap();
        assert_eq!(
            found,
            FoundManifest { manifest: manifest(), signature: SignatureState::Unknown(key.public().id()) }
        );
        known.insert(key.public());
        let altered = String::from_utf8(signed.clone()).unwrap().replace("\"3.6.0\"", "\"3.6.1\"");
        let states = [signed, altered.into_bytes(), SealedManifest::unsigned(manifest()).to_bytes().unwrap()]
            .map(|bytes| read_manifest(&bytes, &id(), &known).unwrap().signature);
        assert_eq!(
            states,
            [SignatureState::Valid(key.public().id()), SignatureState::Invalid, SignatureState::Unsigned]
        );
    }

    /// A later version may say more than this one understands; its signature covers that too.
    #[test]
    fn a_field_of_a_later_version_is_covered_by_the_signature() {
        let key = SigningKey::from_seed([1; 32]);
        let mut known = KnownKeys::default();
        known.insert(key.public());
        let mut later = serde_json::to_value(manifest()).unwrap();
        later["snapshot"]["later"] = json!("x");
        let bytes = Envelope::sign(later, Domain::MANIFEST, &key).unwrap().to_bytes().unwrap();
        assert!(matches!(read_manifest(&bytes, &id(), &known).unwrap().signature, SignatureState::Valid(_)));
        let without = String::from_utf8(bytes).unwrap().replace(",\"later\":\"x\"", "");
        assert_eq!(read_manifest(without.as_bytes(), &id(), &known).unwrap().signature, SignatureState::Invalid);
    }

    #[test]
    fn what_is_no_manifest_of_this_backup_is_refused_with_words() {
        let known = KnownKeys::default();
        let bytes = SealedManifest::unsigned(manifest()).to_bytes().unwrap();
        let other = "20261124-020304-0000000f".parse().unwrap();
        assert!(matches!(read_manifest(&bytes, &other, &known), Err(ManifestError::Foreign { .. })));
        for text in ["", "{}", r#"{"formatVersion":"1.0","payload":{}}"#, r#"{"formatVersion":"2.0","payload":{}}"#] {
            let error = read_manifest(text.as_bytes(), &id(), &known).unwrap_err();
            assert!(error.to_string().contains(id().as_str()), "{error}");
        }
    }
}
