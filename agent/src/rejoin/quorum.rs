//! The other members, asked and told through their own client ports: members, health, the lock, changes of the members.
//!
//! Network. The only place that writes to etcd; what it writes is decided elsewhere.

use std::collections::BTreeMap;

use etcd_client::{
    AlarmAction, AlarmType, Compare, CompareOp, GetOptions, MemberAddOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
};

use serde::{Deserialize, Serialize};

use super::decision::{Cluster, Witness};
use crate::etcd::client::{Endpoint, MemberClient, TlsFiles};
use crate::etcd::error::EtcdError;
use crate::etcd::status::{ClusterId, Member, MemberId, MemberStatus, fetch_member};

/// The key of the lock: beside Kubernetes' own prefix, gone with its lease.
const LOCK: &str = "lifeboat/reinitialize";
/// Longer than any single step; a run that died is not waited for longer.
const LOCK_SECONDS: i64 = 120;

/// Ways to the other members.
pub struct Quorum {
    tls: Option<TlsFiles>,
    own: String,
    endpoints: Vec<String>,
}

/// What a run writes into the lock: the member's name, and what tells its runs apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// Of a run of a member.
    pub fn new(member: &str, random: u64) -> Self {
        Self(format!("{member} {random:016x}"))
    }

    /// Whose run it is.
    pub fn member(&self) -> &str {
        self.0.rsplit_once(' ').map_or(&self.0, |(member, _)| member)
    }
}

/// What somebody else holds.
#[derive(Debug)]
pub enum Locked {
    /// The lock is ours.
    Ours,
    /// Somebody else's, by what they wrote into it.
    Theirs(String),
}

impl Quorum {
    /// Ways to the others, in any order; addresses of this node's own member are left out by who answers. `own` is asked
    /// only who the members are, where nobody else says.
    pub fn new(own: &Endpoint, endpoints: Vec<String>) -> Self {
        Self { tls: own.tls.clone(), own: own.url.clone(), endpoints }
    }

    async fn client(&self, url: &str) -> Result<MemberClient, EtcdError> {
        let tls = self.tls.clone().filter(|_| url.starts_with("https://"));
        MemberClient::connect(&Endpoint { url: url.to_owned(), tls }).await
    }

    /// A client of the first other member that answers linearizably, so that a quorum is behind it.
    ///
    /// # Errors
    /// None does.
    pub async fn any(&self, own_urls: &[String]) -> Result<MemberClient, String> {
        let mut complaints = Vec::new();
        for url in &self.endpoints {
            match self.linearizable(url).await {
                Ok((client, status)) if !is_own(status.own(), own_urls) => return Ok(client),
                Ok(_) => {}
                Err(error) => complaints.push(error.to_string()),
            }
        }
        if complaints.is_empty() {
            return Err(
                "no other member of the cluster is known: give their client URLs with `lifeboat etcd reinitialize \
                        --endpoint URL` or with the supervisor's --endpoint"
                    .to_owned(),
            );
        }
        Err(format!("no other member answers with a quorum behind it: {}", complaints.join("; ")))
    }

    async fn linearizable(&self, url: &str) -> Result<(MemberClient, MemberStatus), EtcdError> {
        let client = self.client(url).await?;
        // Whoever answers this has caught up with a quorum, so the list of members it gives then is no older.
        client.bounded(client.inner().get(LOCK, Some(GetOptions::new()))).await?;
        let status = fetch_member(&client).await?;
        Ok((client, status))
    }

    /// Asks for the members, and each of the others for its health. Without a quorum, whoever answers tells who the members
    /// are, so that it can be said how many are missing; none of the others is healthy then.
    ///
    /// # Errors
    /// Nobody answers: words.
    pub async fn observe(&self, own_urls: &[String]) -> Result<Cluster, String> {
        let status = match self.any(own_urls).await {
            Ok(client) => fetch_member(&client).await.map_err(|error| error.to_string())?,
            Err(words) => self.listed().await.ok_or(words)?,
        };
        let mut others = Vec::new();
        for member in status.members.iter().filter(|member| !is_own(Some(member), own_urls)) {
            let complaint = self.complaint(member, &status).await.err();
            others.push(Witness { id: member.id, name: member.name.clone(), complaint });
        }
        Ok(Cluster { id: status.cluster_id, members: status.members, others, alarms: status.alarms })
    }

    /// What the first member that answers at all says, a quorum behind it or not.
    async fn listed(&self) -> Option<MemberStatus> {
        for url in self.endpoints.iter().chain([&self.own]) {
            let Ok(client) = self.client(url).await else { continue };
            if let Ok(status) = fetch_member(&client).await {
                return Some(status);
            }
        }
        None
    }

    /// Whether a member is healthy in the same cluster under the same leader.
    async fn complaint(&self, member: &Member, seen: &MemberStatus) -> Result<(), String> {
        let mut words = "it tells no client URL".to_owned();
        for url in &member.client_urls {
            match self.linearizable(url).await {
                Ok((_, status)) if status.member_id != member.id => words = format!("{url} answers as another member"),
                Ok((_, status)) if status.cluster_id != seen.cluster_id => {
                    words = "it is of another cluster".to_owned()
                }
                Ok((_, status)) if status.leader_id != seen.leader_id => words = "it sees another leader".to_owned(),
                Ok((_, status)) if status.own_alarms().any(|alarm| alarm == "CORRUPT") => {
                    words = "etcd raised the alarm CORRUPT for it".to_owned();
                }
                Ok(_) => return Ok(()),
                Err(error) => words = error.to_string(),
            }
        }
        Err(words)
    }

    /// Takes the lock, or renews it. One of the same member is of an earlier run of it that was killed, and is taken over:
    /// there is one supervisor a member.
    ///
    /// # Errors
    /// etcd.
    pub async fn lock(&self, client: &MemberClient, nonce: &Nonce) -> Result<Locked, EtcdError> {
        let lease = client.bounded(client.inner().lease_grant(LOCK_SECONDS, None)).await?.id();
        let put = || TxnOp::put(LOCK, nonce.0.as_str(), Some(PutOptions::new().with_lease(lease)));
        let free = Compare::version(LOCK, CompareOp::Equal, 0);
        let txn = Txn::new().when([free]).and_then([put()]).or_else([TxnOp::get(LOCK, None)]);
        let answer = client.bounded(client.inner().txn(txn)).await?;
        if answer.succeeded() {
            return Ok(Locked::Ours);
        }
        let holder = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().and_then(|kv| kv.value_str().ok().map(str::to_owned)),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        });
        let Some(holder) = holder.map(Nonce) else { return Ok(Locked::Theirs("another master".to_owned())) };
        if holder.member() == nonce.member() {
            let unchanged = Compare::value(LOCK, CompareOp::Equal, holder.0.as_str());
            let txn = Txn::new().when([unchanged]).and_then([put()]);
            if client.bounded(client.inner().txn(txn)).await?.succeeded() {
                return Ok(Locked::Ours);
            }
        }
        Ok(Locked::Theirs(holder.member().to_owned()))
    }

    /// Gives the lock back, if it is ours.
    pub async fn unlock(&self, client: &MemberClient, nonce: &Nonce) {
        let ours = Compare::value(LOCK, CompareOp::Equal, nonce.0.as_str());
        let txn = Txn::new().when([ours]).and_then([TxnOp::delete(LOCK, None)]);
        // Its lease ends it otherwise.
        let _ = client.bounded(client.inner().txn(txn)).await;
    }
}

fn is_own(member: Option<&Member>, own_urls: &[String]) -> bool {
    member.is_some_and(|member| super::decision::own_entry(std::slice::from_ref(member), own_urls).is_some())
}

/// Removes a member.
///
/// # Errors
/// etcd, whose words say why.
pub async fn remove_member(client: &MemberClient, id: MemberId) -> Result<(), EtcdError> {
    client.bounded(client.inner().member_remove(id.0)).await.map(drop)
}

/// Adds a member as a learner.
///
/// # Errors
/// etcd, whose words say why.
pub async fn add_learner(client: &MemberClient, peer_urls: &[String]) -> Result<(), EtcdError> {
    let urls: Vec<String> = peer_urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
    let options = MemberAddOptions::new().with_is_learner();
    client.bounded(client.inner().member_add(urls, Some(options))).await.map(drop)
}

/// Makes a learner a voter; refused until it has caught up.
///
/// # Errors
/// etcd, whose words say why.
pub async fn promote(client: &MemberClient, id: MemberId) -> Result<(), EtcdError> {
    client.bounded(client.inner().member_promote(id.0)).await.map(drop)
}

/// Hands the lead of the cluster to another member; asked of the leader itself.
///
/// # Errors
/// etcd, whose words say why.
pub async fn move_leader(leader: &MemberClient, to: MemberId) -> Result<(), EtcdError> {
    leader.bounded(leader.inner().move_leader(to.0)).await.map(drop)
}

/// Takes back the alarms of a kind.
///
/// # Errors
/// etcd, whose words say why.
pub async fn disarm_nospace(client: &MemberClient) -> Result<u64, EtcdError> {
    let listed = client.bounded(client.inner().alarm(AlarmAction::Get, AlarmType::None, None)).await?;
    let mut taken = 0;
    for alarm in listed.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace) {
        let mut options = etcd_client::AlarmOptions::new();
        options.with_member(alarm.member_id());
        client.bounded(client.inner().alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options))).await?;
        taken += 1;
    }
    Ok(taken)
}

/// What a member says of itself; also a learner does, which lists no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnStatus {
    /// Its id.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Its newest revision.
    pub revision: i64,
}

/// Asks a member for itself.
///
/// # Errors
/// etcd.
pub async fn fetch_own(client: &MemberClient) -> Result<OwnStatus, EtcdError> {
    let status = client.bounded(client.inner().status()).await?;
    let header = status.header().ok_or_else(|| EtcdError::Refused {
        url: client.url().to_owned(),
        words: "its status has no header".to_owned(),
    })?;
    Ok(OwnStatus {
        id: MemberId(header.member_id()),
        cluster: ClusterId(header.cluster_id()),
        is_learner: status.is_learner(),
        revision: header.revision(),
    })
}

/// HashKV as two members must agree on it: hash, hashed revision, compacted revision.
///
/// # Errors
/// etcd.
pub async fn hash_kv(client: &MemberClient, revision: i64) -> Result<(u32, i64, i64), EtcdError> {
    let answer = client.bounded(client.inner().hash_kv(revision)).await?;
    Ok((answer.hash(), answer.hash_revision(), answer.compact_version()))
}

/// Client URLs of the other members, one entry each, for whoever remembers them.
pub fn client_urls(members: &[Member], own_urls: &[String]) -> Vec<String> {
    let others = members.iter().filter(|member| !is_own(Some(member), own_urls));
    let urls: BTreeMap<&String, ()> = others.flat_map(|member| &member.client_urls).map(|url| (url, ())).collect();
    urls.into_keys().cloned().collect()
}
