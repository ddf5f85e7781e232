//! Asks the members of the cluster whether they hold what the snapshot holds. Network to every member, with this node's
//! own client certificate; reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_crds::{Reason, TaskError};
use lifeboat_snapshot::{HashKv, HashKvError};

use super::comparison::{Comparison, Round, Said, Verdict, is_agreed};
use super::proof::Bounds;
use crate::etcd::client::{Endpoint, MemberClient};
use crate::etcd::hash_kv::{HashAnswer, HashError, HashPair, fetch_hash};
use crate::etcd::status::{Member, MemberId, MemberStatus};

/// Between two rounds: a follower catches up, a compaction reaches everybody.
const PAUSE: Duration = Duration::from_secs(2);

/// Whom to ask for what, and for how long.
pub struct Question<'q> {
    /// How the member that was read is reached; the others with the same certificates.
    pub endpoint: &'q Endpoint,
    /// What it said of itself and its cluster.
    pub status: &'q MemberStatus,
    /// Newest revision of the snapshot.
    pub revision: i64,
    /// Whether all members are asked, not only as many as are wanted: to see that a divergence is over.
    pub is_thorough: bool,
    /// What ends it.
    pub bounds: Bounds<'q>,
}

/// A member to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whom {
    id: MemberId,
    name: String,
    url: String,
    /// Whether the snapshot is its own.
    is_read: bool,
}

/// Compares the snapshot with its own member and with the others, at most three times.
///
/// Nothing that goes wrong here is an error: it is a verdict.
pub async fn compare_members(question: &Question<'_>, hash_kv: HashKv) -> Verdict {
    let Question { endpoint, status, revision, is_thorough, bounds } = question;
    let whom = plan_asking(status, endpoint);
    let comparing = compare(&whom, *is_thorough, hash_kv, |whom| ask(endpoint, *revision, whom));
    tokio::select! {
        biased;
        () = bounds.cancel.cancelled() => not_compared("the attempt was interrupted"),
        verdict = tokio::time::timeout_at(bounds.until(), comparing) => {
            verdict.unwrap_or_else(|_| not_compared("the members did not answer before the time for this try was up"))
        }
    }
}

/// Who is asked, in turn: followers before the leader.
///
/// A member that hashes holds its backend's read lock from the first key to the last and applies nothing meanwhile
/// (mvcc/kvstore.go, hashByRev). Asked all at once, a quorum would stand still for seconds; the leader may not have to
/// be asked at all.
fn plan_asking(status: &MemberStatus, endpoint: &Endpoint) -> Vec<Whom> {
    let own = Whom { id: status.member_id, name: own_name(status), url: endpoint.url.clone(), is_read: true };
    let others = status
        .members
        .iter()
        .filter(|member| member.id != status.member_id && !member.is_learner && !member.client_urls.is_empty())
        .map(|member| Whom { id: member.id, name: name(member), url: url_of(member, endpoint), is_read: false });
    let mut whom: Vec<Whom> = std::iter::once(own).chain(others).collect();
    whom.sort_by_key(|whom| Some(whom.id) == status.leader_id);
    whom
}

/// Asks in turn until enough agree, as often as the comparison wants.
async fn compare<F, Answer>(whom: &[Whom], is_thorough: bool, hash_kv: HashKv, ask: F) -> Verdict
where
    F: Fn(Whom) -> Answer,
    Answer: Future<Output = Said>,
{
    let others = whom.iter().filter(|whom| !whom.is_read).count();
    if others == 0 {
        return not_compared("there is no other voting member to compare the snapshot with");
    }
    let mut hash_kv = Some(hash_kv);
    let mut comparison = Comparison::default();
    loop {
        let mut round = Round::default();
        for whom in whom {
            let said = ask(whom.clone()).await;
            if let Ok(HashAnswer { pair, hash: _ }) = &said.answer {
                compute(&mut hash_kv, *pair, &mut round.computed).await;
            }
            match whom.is_read {
                true => round.read = Some(said),
                false => round.others.push(said),
            }
            if !is_thorough && is_agreed(&round, others) {
                break;
            }
        }
        tracing::debug!(?round, "members were asked for their hashes");
        if let Some(verdict) = comparison.judge(&round, others) {
            return verdict;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn not_compared(words: &str) -> Verdict {
    Verdict::NotCompared(TaskError::new(Reason::NoHealthyMember, words))
}

async fn ask(endpoint: &Endpoint, revision: i64, Whom { id, name, url, is_read: _ }: Whom) -> Said {
    let answer = async {
        let endpoint = Endpoint { url, tls: endpoint.tls.clone() };
        let client = MemberClient::connect(&endpoint).await.map_err(HashError::from)?;
        fetch_hash(&client, id, revision).await
    };
    Said { member: name, answer: answer.await }
}

/// What the snapshot says to a pair; on a thread of its own, as the whole index is read.
async fn compute(
    hash_kv: &mut Option<HashKv>,
    pair: HashPair,
    computed: &mut BTreeMap<HashPair, Result<u32, HashKvError>>,
) {
    if computed.contains_key(&pair) {
        return;
    }
    let Some(mut owned) = hash_kv.take() else { return };
    let computing = tokio::task::spawn_blocking(move || {
        let hash = owned.compute(pair.revision, pair.compact_revision);
        (owned, hash)
    });
    // A thread that died leaves nothing to compare.
    if let Ok((owned, hash)) = computing.await {
        computed.insert(pair, hash);
        *hash_kv = Some(owned);
    }
}

/// The client URL to ask at: of the scheme that this node's own member has, where there is one.
fn url_of(member: &Member, endpoint: &Endpoint) -> String {
    let scheme = endpoint.url.split("://").next().unwrap_or_default();
    let suits = |url: &&String| url.split("://").next() == Some(scheme);
    let urls = &member.client_urls;
    urls.iter().find(suits).or_else(|| urls.first()).cloned().unwrap_or_default()
}

fn name(member: &Member) -> String {
    if member.name.is_empty() { member.id.to_string() } else { member.name.clone() }
}

fn own_name(status: &MemberStatus) -> String {
    status.own().map_or_else(|| status.member_id.to_string(), name)
}

#[cfg(test)]
mod tests;
