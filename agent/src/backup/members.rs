//! Asks the members of the cluster whether they hold what the snapshot holds. Network to every member, with this node's
//! own client certificate; reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use lifeboat_crds::{Reason, TaskError};
use lifeboat_snapshot::{HashKv, HashKvError};

use super::comparison::{Comparison, Round, Said, Verdict};
use super::proof::Bounds;
use crate::etcd::client::{Endpoint, MemberClient};
use crate::etcd::hash_kv::{HashError, HashPair, fetch_hash};
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
    /// What ends it.
    pub bounds: Bounds<'q>,
}

/// Compares the snapshot with its own member and with the others, at most three times.
///
/// Nothing that goes wrong here is an error: it is a verdict.
pub async fn compare_members(question: &Question<'_>, hash_kv: HashKv) -> Verdict {
    let asking = async {
        let Question { status, revision, .. } = question;
        let others: Vec<&Member> = status
            .members
            .iter()
            .filter(|member| member.id != status.member_id && !member.is_learner && !member.client_urls.is_empty())
            .collect();
        let mut hash_kv = Some(hash_kv);
        let mut comparison = Comparison::default();
        loop {
            let read = ask(question, status.member_id, own_name(status), question.endpoint.url.clone());
            let asked = others.iter().map(|member| ask(question, member.id, name(member), url_of(member, question)));
            let (read, others_said) = tokio::join!(read, join_all(asked));
            let pairs = std::iter::once(&read).chain(&others_said).filter_map(|said| said.answer.as_ref().ok());
            let computed = compute(&mut hash_kv, pairs.map(|answer| answer.pair).collect()).await;
            let round = Round { read, others: others_said, computed };
            tracing::debug!(?round, revision, "members were asked for their hashes");
            if let Some(verdict) = comparison.judge(&round, others.len()) {
                return verdict;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = question.bounds.cancel.cancelled() => not_compared("the attempt was interrupted"),
        verdict = tokio::time::timeout_at(question.bounds.until(), asking) => {
            verdict.unwrap_or_else(|_| not_compared("the members did not answer before the time for this try was up"))
        }
    }
}

fn not_compared(words: &str) -> Verdict {
    Verdict::NotCompared(TaskError::new(Reason::NoHealthyMember, words))
}

async fn ask(question: &Question<'_>, id: MemberId, member: String, url: String) -> Said {
    let answer = async {
        let endpoint = Endpoint { url, tls: question.endpoint.tls.clone() };
        let client = MemberClient::connect(&endpoint).await.map_err(HashError::from)?;
        fetch_hash(&client, id, question.revision).await
    };
    Said { member, answer: answer.await }
}

/// What the snapshot says to each pair; on a thread of its own, as the whole index is read.
async fn compute(
    hash_kv: &mut Option<HashKv>,
    pairs: std::collections::BTreeSet<HashPair>,
) -> BTreeMap<HashPair, Result<u32, HashKvError>> {
    let Some(mut owned) = hash_kv.take() else { return BTreeMap::new() };
    let computing = tokio::task::spawn_blocking(move || {
        let computed = pairs.into_iter().map(|pair| (pair, owned.compute(pair.revision, pair.compact_revision)));
        let computed = computed.collect();
        (owned, computed)
    });
    // A thread that died leaves nothing to compare.
    let Ok((owned, computed)) = computing.await else { return BTreeMap::new() };
    *hash_kv = Some(owned);
    computed
}

/// The client URL to ask at: of the scheme that this node's own member has, where there is one.
fn url_of(member: &Member, question: &Question<'_>) -> String {
    let scheme = question.endpoint.url.split("://").next().unwrap_or_default();
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
