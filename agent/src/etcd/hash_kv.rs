//! A member's own hash of its keys (`Maintenance.HashKV`), to compare with what a snapshot holds. Network; a read that
//! needs no quorum, but one over all keys: seconds on a large database, so it is asked rarely.

use std::time::Duration;

use super::client::MemberClient;
use super::error::EtcdError;
use super::status::MemberId;

/// Bound of one answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// What two answers must have in common before their hashes can be compared (mvcc/hash.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashPair {
    /// Up to which revision it was hashed.
    pub revision: i64,
    /// Up to which the member had compacted; -1 where it never did.
    pub compact_revision: i64,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    /// Of what.
    pub pair: HashPair,
    /// The hash.
    pub hash: u32,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The revision is gone.
    #[error("it has compacted its history beyond revision {0}")]
    Compacted(i64),
    /// The revision is not there yet.
    #[error("it has not come to revision {0} yet")]
    Behind(i64),
    /// Another member answered: a load balancer, or a list of members that changed.
    #[error("another member, {0}, answers at its client URL")]
    Another(MemberId),
    /// It did not answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// Asks a member for its hash up to a revision.
///
/// # Errors
/// It has not this revision, or does not answer within 30 s.
pub async fn fetch_hash(client: &MemberClient, member: MemberId, revision: i64) -> Result<HashAnswer, HashError> {
    let mut inner = client.inner();
    let asked = tokio::time::timeout(ANSWER_DEADLINE, inner.hash_kv(revision)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(explain(client.url(), &error, revision)),
        Err(_) => {
            return Err(EtcdError::NoAnswer { url: client.url().to_owned(), within: ANSWER_DEADLINE }.into());
        }
    };
    let from = answer.header().map_or(member, |header| MemberId(header.member_id()));
    if from != member {
        return Err(HashError::Another(from));
    }
    // etcd 3.5 does not say which revision it hashed: it is the one asked for.
    let hashed = if answer.hash_revision() > 0 { answer.hash_revision() } else { revision };
    let pair = HashPair { revision: hashed, compact_revision: answer.compact_version() };
    Ok(HashAnswer { pair, hash: answer.hash() })
}

fn explain(url: &str, error: &etcd_client::Error, revision: i64) -> HashError {
    if let etcd_client::Error::GRpcStatus(status) = error {
        // server/etcdserver/api/v3rpc/rpctypes/error.go
        if status.message().contains("required revision has been compacted") {
            return HashError::Compacted(revision);
        }
        if status.message().contains("required revision is a future revision") {
            return HashError::Behind(revision);
        }
    }
    EtcdError::from_client(url, error).into()
}
