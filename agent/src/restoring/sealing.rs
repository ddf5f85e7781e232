//! This master seals the order that counts.

use std::sync::Arc;

use lifeboat_crds::order::{EtcdClusterId, RestoreId};
use lifeboat_executor::{SealOutcome, Volume, seal_newest};
use lifeboat_protocol::start::Ignored;
use lifeboat_storage::ObjectStore;

use super::RestoringError;
use super::code::JoinCode;
use super::keys::HostRestoreKeys;
use super::site::Site;
use crate::etcd::status::{MemberStatus, fetch_member};
use crate::keyring::Keyring;
use crate::rejoin::journal::Journal;
use crate::restore_engine::decision::Next;
use crate::restore_engine::identity::read_wal_head;
use crate::restore_engine::perform::look;

/// A restore by file, or a re-initialisation, that is not over on this master.
pub fn refuse_while_something_waits(site: &Site) -> Result<(), RestoringError> {
    let next = look(&site.place).map_err(|error| RestoringError::Failed(error.to_string()))?;
    match next {
        Next::Start => Ok(()),
        Next::EndSwap | Next::TidyUp | Next::Perform | Next::Hold => Err(RestoringError::Refused(
            "a restore from a file waits on this master: see `lifeboat etcd restore --status`, and take it back with --abort".to_owned(),
        )),
    }
}

/// Seals the newest order in the location for this master.
///
/// # Errors
/// It is not sealed: why, in words.
pub async fn seal_here(
    site: &Site,
    place: (&Arc<dyn ObjectStore>, &str),
    code: Option<JoinCode>,
) -> Result<RestoreId, RestoringError> {
    sealed(look_for_order(site, place, code).await?)
}

/// As [`seal_here`]; asks for a join code only where none was given and the order's key is not known without.
///
/// # Errors
/// It is not sealed: why, in words.
pub async fn seal_or_ask(
    site: &Site,
    place: (&Arc<dyn ObjectStore>, &str),
    given: Option<JoinCode>,
    ask: impl AsyncFnOnce() -> Result<JoinCode, RestoringError>,
) -> Result<RestoreId, RestoringError> {
    let is_given = given.is_some();
    match look_for_order(site, place, given).await? {
        SealOutcome::WantsJoinCode(_) | SealOutcome::Nothing if !is_given => {
            seal_here(site, place, Some(ask().await?)).await
        }
        outcome => sealed(outcome),
    }
}

/// Looks for the newest order in the location, and seals it where this master takes part.
///
/// # Errors
/// The store, or this host.
pub async fn look_for_order(
    site: &Site,
    (store, cluster): (&Arc<dyn ObjectStore>, &str),
    code: Option<JoinCode>,
) -> Result<SealOutcome, RestoringError> {
    let keyring = Keyring::of_host(&site.node.state_dir).current().await;
    let keys = HostRestoreKeys { lifeboat: site.lifeboat(), entered: code, signer: keyring.signer.clone() };
    let live = look_at_etcd(site).await;
    let peers = live.map(|status| status.members.into_iter().flat_map(|member| member.peer_urls).collect());
    let volume = Volume {
        node: site.name.clone(),
        placed_cluster: Some(placed_cluster(site)?),
        peers: peers.unwrap_or_default(),
        rejoins: site.place.command().exists() || !matches!(Journal::read(&site.place), Ok(None)),
    };
    Ok(seal_newest(&site.lifeboat(), (store, cluster), (&keyring.known, &keys), &volume).await?)
}

fn sealed(outcome: SealOutcome) -> Result<RestoreId, RestoringError> {
    match outcome {
        SealOutcome::Sealed(id, _) | SealOutcome::Ignored(id, Ignored::Known) => Ok(id),
        SealOutcome::Nothing => Err(RestoringError::Refused(
            "no restore is under way in this location, or the code is of another one".to_owned(),
        )),
        SealOutcome::WantsJoinCode(id) => {
            Err(RestoringError::Refused(format!("the code is not that of restore {id}, which is under way")))
        }
        SealOutcome::Ignored(id, reason) => Err(RestoringError::Refused(format!("restore {id}: {reason}"))),
    }
}

/// What this master's etcd says, where it serves.
pub async fn look_at_etcd(site: &Site) -> Option<MemberStatus> {
    let client = site.node.client().await.ok()?;
    let status = fetch_member(&client).await.ok()?;
    status.has_leader().then_some(status)
}

pub fn placed_cluster(site: &Site) -> Result<EtcdClusterId, RestoringError> {
    let head = read_wal_head(&site.place.wal())?;
    head.map(|head| EtcdClusterId(head.cluster_id)).ok_or_else(|| {
        RestoringError::Refused(format!(
            "there is no etcd data in {}: a master without data joins with `lifeboat etcd reinitialize` after the others \
             were restored; call it --lost there",
            site.place.data_dir.display()
        ))
    })
}
