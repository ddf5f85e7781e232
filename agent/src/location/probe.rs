//! Tries a location out: can it be listed, can it be written, does it create only where nothing is, what time is it there,
//! and whose it is.
//!
//! Speaks to the store, and asks the API server which masters are alive. Writes one small object and takes it away again,
//! and `owner.json` of this cluster where that has to change. Asks for one page of names, however many archives there are:
//! counting them is the catalog's business.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_crds::location::{AccessMode, LocationResult, take_over};
use lifeboat_crds::{EtcdBackupLocation, Reason, TaskError, Time, layout};
use lifeboat_storage::{ListRequest, ObjectKey, ObjectStore, PutMode, StoreError, probe_conditional_create};

use super::mark::read_mark;
use super::ownership::{Claim, Ownership, OwnershipError, live_hosts};
use super::{LocationError, LocationOpener, store_reason};
use crate::archive::encryption::parse_recipients;
use crate::host::identity::HostId;
use tokio_util::sync::CancellationToken;

/// Longest for a whole probe; the operator asks another agent after that.
const PROBE_LIMIT: Duration = Duration::from_secs(40);

/// For how long `owner.json` is asked for again where the store answers the rest.
const OWNER_PATIENCE: Duration = Duration::from_secs(10);

/// Who probes.
#[derive(Clone, Debug)]
pub struct Prober {
    /// Opens locations.
    pub opener: LocationOpener,
    /// UID of the kube-system namespace.
    pub cluster_uid: String,
    /// Identity of this host; names the object it writes, so that two hosts never probe with the same one.
    pub host_id: HostId,
}

impl Prober {
    /// Probes a location. Everything that goes wrong is in the result.
    pub async fn probe(&self, location: &EtcdBackupLocation, now: Timestamp) -> LocationResult {
        let provider = if location.spec.s3.is_some() { "S3" } else { "Directory" };
        let mut result = LocationResult {
            observed_generation: location.metadata.generation.unwrap_or_default(),
            take_over: take_over(location),
            provider: Some(provider.to_owned()),
            time: Some(Time(now)),
            ..LocationResult::default()
        };
        match tokio::time::timeout(PROBE_LIMIT, self.try_out(location, &mut result)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result.error = Some(TaskError::new(error.reason(), error.to_string())),
            Err(_elapsed) => {
                let words = format!("the store did not answer everything asked within {} s", PROBE_LIMIT.as_secs());
                result.error = Some(TaskError::new(Reason::LocationUnavailable, words));
            }
        }
        result
    }

    async fn try_out(&self, location: &EtcdBackupLocation, result: &mut LocationResult) -> Result<(), LocationError> {
        let store = self.opener.open(&location.spec).await?;
        let store = store.as_ref();
        store.list(&ListRequest::under(layout::backups_prefix(&self.cluster_uid))).await?;
        let before = Timestamp::now();
        if let Some(theirs) = store.server_time().await? {
            result.clock_skew_seconds = Some(theirs.as_second() - before.as_second());
        }
        // A mark that cannot be left says nothing: trying to write does.
        result.directory_id = read_mark(store, location).await?;
        match location.spec.access_mode {
            AccessMode::ReadOnly => {}
            AccessMode::ReadWrite => {
                match self.try_writing(store).await {
                    Ok(conditional) => {
                        result.conditional_writes = Some(conditional);
                        self.settle_owner(store, conditional, result).await;
                    }
                    Err(error) => result.write_error = Some(TaskError::new(store_reason(&error), error.to_string())),
                }
                // Nothing is written in the clear where encryption is asked for, so without a key there is no writing.
                if let Some(Err(error)) = location.spec.encryption.as_ref().map(parse_recipients) {
                    result.write_error = Some(TaskError::new(Reason::EncryptionKeyMissing, error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Whose prefix it is; claims it, adds other masters, or takes it over, as the annotation says.
    async fn settle_owner(&self, store: &dyn ObjectStore, is_conditional: bool, result: &mut LocationResult) {
        let now = Timestamp::now();
        let masters = match self.opener.fetch_members().await {
            Ok(members) => live_hosts(&members, now),
            Err(error) => {
                tracing::warn!(%error, "masters that are new are not added to owner.json");
                Vec::new()
            }
        };
        let claim = Claim { masters, take_over: result.take_over.clone() };
        let cancel = CancellationToken::new();
        let (cluster, me) = (self.cluster_uid.as_str(), &self.host_id);
        let ownership = Ownership { store, cluster, me, patience: OWNER_PATIENCE, cancel: &cancel };
        match ownership.settle(&claim, is_conditional, now).await {
            Ok(record) => result.owner = Some(record.owner),
            Err(error) => {
                result.write_error = Some(TaskError::new(error.reason(), error.to_string()));
                if let OwnershipError::OwnedByAnother(others) = error {
                    result.owner = Some(others.owner);
                }
            }
        }
    }

    async fn try_writing(&self, store: &dyn ObjectStore) -> Result<bool, StoreError> {
        store.check_lock().await?;
        let key = probe_key(&self.host_id)?;
        let written = Bytes::from(format!("{:016x}", rand::random::<u64>()));
        store.put(&key, written.clone(), PutMode::Overwrite).await?;
        let read = store.get_small(&key, written.len()).await?;
        if read != written {
            let words = "it reads other than it was written a moment before".to_owned();
            return Err(StoreError::Corrupt { store: store.describe(), key, words });
        }
        probe_conditional_create(store, &key).await
    }
}

fn probe_key(host: &HostId) -> Result<ObjectKey, StoreError> {
    let tail: String = host.as_str().chars().take(8).collect();
    Ok(ObjectKey::parse(format!("{}-{tail}", layout::PROBE))?)
}
