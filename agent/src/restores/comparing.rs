//! Brings a snapshot beside the running etcd, to count what changed. Reads the store and etcd; writes one file in this host's
//! state, which goes again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use etcd_client::{GetOptions, SortOrder, SortTarget};
use lifeboat_crds::layout;
use lifeboat_crds::manifest::Manifest;
use lifeboat_snapshot::visit_keys;
use lifeboat_storage::{ObjectKey, ObjectStore};
use tokio_util::sync::CancellationToken;

use super::changes::{Baseline, Changes};
use crate::archive::encryption::Identities;
use crate::archives::{Target, Wanted, prove};
use crate::etcd::client::MemberClient;
use crate::host::crashsafe;

/// Keys that etcd is asked for at once.
const PAGE: i64 = 5_000;
/// The snapshot, while it is compared.
const FILE: &str = "compared.db";

/// Where the snapshot is.
pub struct Compared<'a> {
    /// Its store.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// What opens it.
    pub identities: Option<Arc<Identities>>,
}

/// Counts what changed since a backup. The archive is proven on the way.
///
/// # Errors
/// Why it was not counted, in words.
pub async fn count_changes(
    compared: Compared<'_>,
    (client, prefix): (&MemberClient, &str),
    state_dir: &Path,
    cancel: &CancellationToken,
) -> Result<Changes, String> {
    let path = state_dir.join(FILE);
    // Of a process that was killed.
    crashsafe::remove(&path).map_err(|error| error.to_string())?;
    let counted = count(compared, (client, prefix), &path, cancel).await;
    crashsafe::remove(&path).map_err(|error| error.to_string())?;
    counted
}

async fn count(
    Compared { store, manifest, identities }: Compared<'_>,
    (client, prefix): (&MemberClient, &str),
    path: &Path,
    cancel: &CancellationToken,
) -> Result<Changes, String> {
    let key = layout::data(&manifest.cluster.uid, &manifest.backup_id, &manifest.data);
    let key = ObjectKey::parse(key).map_err(|error| error.to_string())?;
    let target = Target::new(path, manifest).map_err(|error| error.to_string())?;
    let wanted = Wanted { target: Some(target), identities };
    prove(store.as_ref(), &key, manifest, wanted, cancel).await.map_err(|error| error.to_string())?;
    let (path, mut baseline) = (path.to_owned(), Baseline::new(prefix));
    let read = tokio::task::spawn_blocking(move || -> Result<Baseline, String> {
        let mut file = File::open(&path).map_err(|error| error.to_string())?;
        visit_keys(&mut file, &mut |version| baseline.take(version)).map_err(|error| error.to_string())?;
        Ok(baseline)
    });
    let baseline = read.await.map_err(|error| error.to_string())??;
    if baseline.is_empty() {
        return Err(format!("the backup has no key below {prefix}: its API servers had another --etcd-prefix"));
    }
    let mut comparison = baseline.compare();
    // One moment, over all pages.
    let (mut from, mut revision) = (Vec::from("/"), 0);
    loop {
        let options = GetOptions::new()
            .with_range("0")
            .with_keys_only()
            .with_limit(PAGE)
            .with_revision(revision)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        let mut inner = client.inner();
        let page = client.bounded(inner.get(from.clone(), Some(options))).await.map_err(|error| error.to_string())?;
        revision = page.header().map_or(revision, etcd_client::ResponseHeader::revision);
        for kv in page.kvs() {
            comparison.take(kv.key(), kv.mod_revision());
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), &[0]].concat(),
            Some(_) | None => return Ok(comparison.finish()),
        }
        if cancel.is_cancelled() {
            return Err("it was called off".to_owned());
        }
    }
}
