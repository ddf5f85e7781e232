//! The restored etcd while it runs alone: what it holds, and what of the past it still carries. Network; writes to etcd only
//! what [`tidy`] says.

use std::time::Duration;

use etcd_client::{DeleteOptions, GetOptions};
use lifeboat_crds::mark::ServedFacts;
use lifeboat_crds::order::EtcdClusterId;

use crate::etcd::client::MemberClient;
use crate::etcd::error::EtcdError;
use crate::etcd::hash_kv::fetch_hash;
use crate::etcd::status::fetch_member;
use crate::rejoin::quorum::disarm_nospace;

/// An etcd that serves says within this what it is; one that is starting may hold a question back for as long as a client waits, and
/// all that time is outage.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Where API servers say that they are alive; those of the past are not.
const MASTER_LEASES: &str = "/registry/masterleases/";

/// What this member holds, at the revision that all were restored to.
///
/// # Errors
/// It does not answer, has no leader yet, or has not come to the revision: words for people.
pub async fn fetch_served(client: &MemberClient, bump_to: i64, members: usize) -> Result<ServedFacts, String> {
    let asked = tokio::time::timeout(ANSWERS_WITHIN, fetch_member(client)).await;
    let status = asked.map_err(|_| "etcd does not answer yet".to_owned())?.map_err(|error| error.to_string())?;
    if !status.has_leader() {
        return Err("etcd has no leader yet".to_owned());
    }
    if status.is_learner || status.members.len() != members {
        return Err(format!("etcd lists {} members instead of {members}", status.members.len()));
    }
    let answer = fetch_hash(client, status.member_id, bump_to).await.map_err(|error| error.to_string())?;
    Ok(ServedFacts {
        cluster_id: EtcdClusterId(status.cluster_id.0),
        revision: answer.pair.revision,
        compact_revision: answer.pair.compact_revision,
        hash: answer.hash,
    })
}

/// Whether no alarm stops writes and no API server of the past seems alive.
///
/// # Errors
/// It does not answer.
pub async fn is_tidy(client: &MemberClient) -> Result<bool, EtcdError> {
    let status = fetch_member(client).await?;
    if status.alarms.iter().any(|alarm| alarm.kind == "NOSPACE") {
        return Ok(false);
    }
    let options = GetOptions::new().with_prefix().with_count_only();
    let leases = client.bounded(client.inner().kv_client().get(MASTER_LEASES, Some(options))).await?;
    Ok(leases.count() == 0)
}

/// Disarms NOSPACE, which a snapshot brings along, and removes leases of API servers of the past. Every member may do it.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn tidy(client: &MemberClient) -> Result<(), EtcdError> {
    disarm_nospace(client).await?;
    let options = DeleteOptions::new().with_prefix();
    client.bounded(client.inner().delete(MASTER_LEASES, Some(options))).await.map(drop)
}
