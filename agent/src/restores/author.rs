//! The task Order: writes the order of an approved plan, seals it here, and starts this master's executor.
//!
//! Safe to repeat: what is sealed here is not ordered again, and a draft that was published is published again.

use jiff::Timestamp;
use lifeboat_crds::finding::PlannedTerms;
use lifeboat_crds::identifier::InvalidBackupId;
use lifeboat_crds::order::{EtcdClusterId, Order, OrderedBackup, OrderedRequest};
use lifeboat_crds::restore::OrderReport;
use lifeboat_crds::{BackupId, EtcdMember, Reason, whole_seconds};
use lifeboat_executor::{Draft, Started, start};

use super::request::keep_request;
use super::{Request, Restorer, RestoresError};
use crate::host::highest_revision::HighestRevision;
use crate::restore_engine::order::BUMP;
use crate::restoring::RestoringError;
use crate::restoring::keys::{HostRestoreKeys, draw_key};
use crate::restoring::launch::launch;
use crate::restoring::sealing::{look_at_etcd, placed_cluster, refuse_while_something_waits, seal_here};
use crate::restoring::site::Site;
use crate::restoring::standing::standing_of;

/// What an order is made of besides the request.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Namespace of the request.
    pub namespace: &'a str,
    /// UID of the kube-system namespace.
    pub cluster: &'a str,
    /// Cluster id in the data in place.
    pub old_cluster_id: EtcdClusterId,
    /// Highest revision that any member ever had, as far as it is known.
    pub highest: i64,
    /// This node, as orders name it.
    pub author: &'a str,
    /// Drawn for this order.
    pub token: &'a str,
    /// Now.
    pub now: Timestamp,
}

/// The order of an approved plan. Pure.
///
/// # Errors
/// The approval is not of this plan, or the plan cannot be ordered.
pub fn compose(request: &Request<'_>, facts: &Facts<'_>) -> Result<Order, RestoresError> {
    let Request { restore, cluster, plan, backup } = *request;
    let Facts { namespace, cluster: uid, old_cluster_id, highest, author, token, now } = facts;
    let because = |reason, words: &str| RestoresError::Because(reason, words.to_owned());
    if !plan.blockers.is_empty() {
        return Err(because(Reason::PlanRefused, "the plan has blockers: nothing is ordered"));
    }
    let terms = PlannedTerms::of(cluster, plan);
    let code = terms.code(namespace, request.name(), &restore.spec, plan);
    if code.is_none() || code.as_deref() != Some(restore.spec.approval.trim()) {
        return Err(because(
            Reason::ApprovalMismatch,
            "spec.approval is not the code of this plan: nothing is ordered",
        ));
    }
    let backup_id: BackupId = backup.backup_id.parse().map_err(|error: InvalidBackupId| {
        RestoresError::Because(Reason::PlanRefused, format!("status.plan.backup.backupId: {error}"))
    })?;
    let PlannedTerms { members, lost, safety, timeouts, notices } = terms;
    Ok(Order {
        restore_id: request.id(namespace),
        request: OrderedRequest {
            namespace: (*namespace).to_owned(),
            name: request.name().to_owned(),
            attempt: restore.spec.attempt,
            nonce: plan.nonce.clone().unwrap_or_default(),
            approval_code: code.unwrap_or_default(),
        },
        cluster: (*uid).to_owned(),
        old_cluster_id: *old_cluster_id,
        members,
        lost,
        // A lost quorum has no API server, so no object could ask.
        lost_quorum_acknowledged: false,
        backup: OrderedBackup {
            backup_id,
            cluster: backup.cluster.clone(),
            sha256: backup.sha256.clone(),
            content_hash: backup.content_hash.clone(),
            revision: backup.revision,
        },
        token: format!("lifeboat-{token}"),
        bump_to: (*highest).max(backup.revision).saturating_add(BUMP),
        author: (*author).into(),
        safety,
        hold_before_release: cluster.hold_before_release,
        restart_kubelets: cluster.restart_kubelets,
        timeouts,
        notices,
        loopback_api_servers: false,
        coordination: (*uid).to_owned(),
        sealed_keys: std::collections::BTreeMap::new(),
        time: *now,
    })
}

impl Restorer {
    /// Orders a restore whose plan was approved.
    ///
    /// # Errors
    /// It is not ordered.
    pub async fn order(&self, request: &Request<'_>) -> Result<OrderReport, RestoresError> {
        let site = self.site().await?;
        let id = request.id(&self.namespace);
        let directory = site.restore(&id);
        if directory.root().exists() {
            // This process, or another one before it, was here: what is sealed goes on.
            let order = directory.read_order_alone().map_err(RestoringError::from)?;
            let locations = self.locations(request).await?;
            self.set_off(&site, request, &locations).await?;
            return Ok(report(&order));
        }
        refuse_while_something_waits(&site)?;
        let locations = self.locations(request).await?;
        let store = self.meet(&locations).await?;
        let live = look_at_etcd(&site).await;
        let members = self.opener.fetch_members().await?;
        let own_highest = HighestRevision::load(&site.node.state_dir).ok().and_then(|highest| highest.get());
        let seen = members.iter().filter_map(highest_seen);
        let highest = seen.chain(own_highest).chain(live.map(|status| status.revision)).max().unwrap_or(0);
        let token = hex::encode(rand::random::<[u8; 16]>());
        let facts = Facts {
            namespace: &self.namespace,
            cluster: &self.cluster_uid,
            old_cluster_id: placed_cluster(&site)?,
            highest,
            author: site.name.as_str(),
            token: &token,
            now: whole_seconds(Timestamp::now()),
        };
        let order = compose(request, &facts)?;
        let keys = self.keyring.current().await;
        let Some(signer) = &keys.signer else {
            return Err(RestoresError::Because(
                Reason::PlanRefused,
                "this installation's key is not known here, so that nobody would believe the order: the operator makes it \
                 (Secret lifeboat-installation)"
                    .to_owned(),
            ));
        };
        let own = HostRestoreKeys { lifeboat: site.lifeboat(), entered: None, signer: Some(signer.clone()) };
        let draft = Draft { key: draw_key(Some(signer), &order), order };
        let started = start(&site.lifeboat(), &store, &draft, Some(signer), (&keys.known, &own)).await;
        let Started { restore_id, .. } = started.map_err(RestoringError::from)?;
        tracing::info!(restore = request.name(), %restore_id, "ordered");
        // From here on it counts, and every master joins: what fails now is no reason to call it failed. The follower beside this goes on.
        match seal_here(&site, (&store, &self.cluster_uid), None).await {
            Ok(sealed) if sealed != restore_id => {
                return Err(RestoresError::Because(
                    Reason::AnotherRestoreActive,
                    format!("restore {sealed} took the slot: this one is not begun"),
                ));
            }
            Ok(_) => {
                if let Err(error) = self.set_off(&site, request, &locations).await {
                    tracing::warn!(%error, "the executor is started later");
                }
            }
            Err(error) => tracing::warn!(%error, "the order is sealed here later"),
        }
        Ok(report(&directory.read_order_alone().unwrap_or(draft.order)))
    }

    /// Starts the executor of what is sealed here, with everything that it needs; nothing where it is over.
    ///
    /// # Errors
    /// It does not run; nothing was stopped.
    pub async fn set_off(
        &self,
        site: &Site,
        request: &Request<'_>,
        locations: &super::Locations,
    ) -> Result<(), RestoresError> {
        let _turn = self.turn.lock().await;
        let id = request.id(&self.namespace);
        let directory = site.restore(&id);
        if standing_of(&directory, &id)?.outcome.is_some() {
            return Ok(());
        }
        keep_request(&directory, &request.restore.spec).map_err(RestoringError::from)?;
        self.keep_reach(site, &id, (request, locations)).await?;
        Ok(launch(site, &id).await?)
    }
}

fn report(order: &Order) -> OrderReport {
    OrderReport { restore_id: order.restore_id.as_str().to_owned(), bump_to: order.bump_to }
}

fn highest_seen(member: &EtcdMember) -> Option<i64> {
    let facts = &member.status.as_ref()?.facts;
    facts.highest_revision_seen.max(facts.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::EtcdRestore;
    use serde_json::json;

    fn restore(approval: &str) -> EtcdRestore {
        serde_json::from_value(json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore",
            "metadata": {"name": "back"},
            "spec": {"cluster": {"from": {"backupRef": {"name": "b"}}, "holdBeforeRelease": true}, "approval": approval},
            "status": {"plan": {"nonce": "n",
                "backup": {"backupId": "20261124-020304-00000001", "revision": 7, "sha256": "ab", "cluster": "uid", "contentHash": "cd", "location": "offsite"},
                "members": [{"nodeName": "node-a", "name": "a", "peerURL": "https://10.0.0.1:2380", "platform": "StaticPods", "version": "3.6.1"}],
                "warnings": ["Volumes: are not restored"]}}}))
        .unwrap()
    }

    fn compose_of(restore: &EtcdRestore, highest: i64) -> Result<Order, RestoresError> {
        let facts = Facts {
            namespace: "ns",
            cluster: "uid",
            old_cluster_id: EtcdClusterId(9),
            highest,
            author: "a",
            token: "t",
            now: Timestamp::UNIX_EPOCH,
        };
        compose(&Request::of(restore).unwrap(), &facts)
    }

    fn code() -> String {
        let restore = restore("");
        let request = Request::of(&restore).unwrap();
        PlannedTerms::of(request.cluster, request.plan).code("ns", "back", &restore.spec, request.plan).unwrap()
    }

    #[test]
    fn only_what_was_approved_is_ordered_and_every_master_can_tell() {
        let order = compose_of(&restore(&code()), 1_000).unwrap();
        assert!(order.is_as_approved() && order.hold_before_release);
        assert_eq!(order.restore_id, id_of("back"));
        assert_eq!(order.bump_to, 1_000 + BUMP);
        assert_eq!(compose_of(&restore(&code()), 3).unwrap().bump_to, 7 + BUMP, "never below the backup");
        let reason = |restore: &EtcdRestore| compose_of(restore, 0).unwrap_err().to_task_error().reason();
        assert_eq!(reason(&restore("")), Reason::ApprovalMismatch);
        assert_eq!(reason(&restore("0000-0000")), Reason::ApprovalMismatch);
        let mut altered = restore(&code());
        altered.status.as_mut().unwrap().plan.as_mut().unwrap().members[0].version = "3.6.2".into();
        assert_eq!(reason(&altered), Reason::ApprovalMismatch);
        let mut blocked = restore(&code());
        blocked.status.as_mut().unwrap().plan.as_mut().unwrap().blockers.push("NoRoom: w".into());
        assert_eq!(reason(&blocked), Reason::PlanRefused);
    }

    fn id_of(name: &str) -> lifeboat_crds::order::RestoreId {
        lifeboat_crds::order::RestoreId::new("ns", name, 1, "ab")
    }
}
