//! Whose prefix it is: `owner.json` lists the hosts that may write and delete below it.
//!
//! A host id is on a host's disk and not in etcd, so a cluster that was restored from another's backup is told apart from
//! that other one, although both have the same UID. Whoever writes or deletes in a location asks [`Ownership::check`]
//! first; only a probe adds hosts or takes a prefix over. Deciding is pure ([`plan_ownership`]).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::document::DocumentError;
use lifeboat_crds::location::{MOST_OWNERS, Owner};
use lifeboat_crds::marker::{OwnerDocument, OwnerRecord, TakenOver};
use lifeboat_crds::{EtcdMember, Reason, label, layout};
use lifeboat_storage::{Creation, ObjectKey, ObjectStore, PutMode, RetryPolicy, StoreError, create_once, retry};
use tokio_util::sync::CancellationToken;

use super::store_reason;
use crate::host::identity::HostId;

/// `owner.json` has a few KiB.
const LARGEST_OWNER: usize = 64 << 10;
/// Rounds of reading and writing until a record is as it should be; another agent may write at the same time.
const ROUNDS: usize = 4;
/// A master whose heartbeat is younger (by both clocks) is alive. A copy in an etcd that was restored elsewhere is older.
const FRESH: SignedDuration = SignedDuration::from_secs(90);

/// What to do about an `owner.json` that cannot be read: a take-over does not replace what it has not read.
const WAY_OUT: &str = "Nothing is written or deleted here until it is readable or gone: bring an older version of it back; or, \
    where no other cluster writes to this prefix, remove it, and the next probe, within minutes, makes it anew";

/// Why nothing may be written here.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document cannot be read or written.
    #[error("{uri}: {source}. {WAY_OUT}")]
    Document {
        /// Which object.
        uri: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// The store gives other bytes than were written.
    #[error("{0}. {WAY_OUT}")]
    Damaged(StoreError),
    /// Nobody owns it yet.
    #[error("{uri} is not there yet: the next probe of the location makes it")]
    Unclaimed {
        /// Which object.
        uri: String,
    },
    /// Others own it.
    #[error("{0}")]
    OwnedByAnother(Box<Others>),
}

/// Who owns a place, and who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Others {
    /// `owner.json`.
    pub uri: String,
    /// Who owns it.
    pub owner: Owner,
    /// This host.
    pub me: HostId,
    /// This cluster.
    pub cluster: String,
    /// The annotation, where it was set to something else.
    pub asked: Option<String>,
}

impl OwnershipError {
    /// The reason that people read.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) | Self::Damaged(error) => store_reason(error),
            Self::Document { source: DocumentError::Newer { .. }, .. } => Reason::NotSupported,
            Self::Document { source: DocumentError::Malformed(_) | DocumentError::NotExact(_), .. } => {
                Reason::VerificationFailed
            }
            Self::Unclaimed { .. } => Reason::LocationUnavailable,
            Self::OwnedByAnother(_) => Reason::OwnedByAnother,
        }
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, owner: Owner { uid: _, hosts }, me, cluster, asked } = self;
        let short = |id: &str| id.chars().take(8).collect::<String>();
        let mut names: Vec<String> = hosts.iter().take(5).map(|host| short(host)).collect();
        if hosts.len() > names.len() {
            names.push("…".to_owned());
        }
        let (names, me, annotation) = (names.join(", "), short(me.as_str()), label::TAKE_OVER);
        write!(
            f,
            "{uri} says that these archives belong to the hosts {names}, and this master is {me}: either its cluster was \
             restored from another's backup, or the masters were rebuilt. Nothing is written or deleted here. Give this \
             cluster a prefix of its own; or, if the others are gone or shall give this prefix up (they are refused here \
             from then on), annotate this location with {annotation}={cluster}."
        )?;
        match asked {
            Some(asked) => {
                write!(f, " The annotation {annotation} says {asked:?}, which is not the UID of kube-system.")
            }
            None => Ok(()),
        }
    }
}

/// What a probe claims.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// Ids of the other masters' hosts that are alive.
    pub masters: Vec<String>,
    /// The annotation, if it is set.
    pub take_over: Option<String>,
}

/// The place of one cluster in a store, as one of its hosts sees it.
#[derive(Clone, Copy, Debug)]
pub struct Ownership<'o> {
    /// The store.
    pub store: &'o dyn ObjectStore,
    /// UID of the kube-system namespace.
    pub cluster: &'o str,
    /// This host.
    pub me: &'o HostId,
    /// For how long a store that does not answer is asked again.
    pub patience: Duration,
    /// Ends the asking.
    pub cancel: &'o CancellationToken,
}

impl Ownership<'_> {
    /// Whether this host may write and delete below its cluster's prefix: one small read. To be asked before any write.
    ///
    /// # Errors
    /// It may not, or that cannot be found out.
    pub async fn check(&self) -> Result<(), OwnershipError> {
        match self.fetch().await? {
            Some(record) if is_among(&record.owner, self.cluster, self.me) => Ok(()),
            Some(record) => Err(self.refused(record.owner, None)?),
            None => Err(OwnershipError::Unclaimed { uri: self.uri()? }),
        }
    }

    /// Sees to it that this host owns the prefix, if it may: claims one that nobody owns, adds other masters, takes over
    /// where a human said so. Reads back whatever it wrote, and gives what stands there.
    ///
    /// # Errors
    /// Others own it, or the store fails.
    pub async fn settle(
        &self,
        claim: &Claim,
        is_conditional: bool,
        now: Timestamp,
    ) -> Result<OwnerRecord, OwnershipError> {
        let mut found = self.fetch().await?;
        for _ in 0..ROUNDS {
            match plan_ownership(found.as_ref(), claim, self.cluster, self.me, now) {
                Plan::Keep(record) => return Ok(record),
                Plan::Refuse(owner) => return Err(self.refused(owner, claim.take_over.clone())?),
                Plan::Create(record) if is_conditional => self.create(record).await?,
                // Without conditions the one that writes last counts; whoever reads another's name back is refused then.
                Plan::Create(record) | Plan::Replace(record) => self.replace(record).await?,
            }
            found = self.fetch().await?;
        }
        // Others write all the time: what stands there now counts.
        match found {
            Some(record) if is_among(&record.owner, self.cluster, self.me) => Ok(record),
            Some(record) => Err(self.refused(record.owner, claim.take_over.clone())?),
            None => Err(OwnershipError::Unclaimed { uri: self.uri()? }),
        }
    }

    async fn fetch(&self) -> Result<Option<OwnerRecord>, OwnershipError> {
        let (key, policy) = (self.key()?, RetryPolicy::until(self.patience));
        let question = || self.store.get_small(&key, LARGEST_OWNER);
        let bytes = match retry("reading owner.json", policy, self.cancel, question).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error @ StoreError::Corrupt { .. }) => return Err(OwnershipError::Damaged(error)),
            Err(error) => return Err(error.into()),
        };
        let uri = self.uri()?;
        let document = OwnerDocument::from_bytes(&bytes);
        Ok(Some(document.map_err(|source| OwnershipError::Document { uri, source })?.payload))
    }

    async fn create(&self, record: OwnerRecord) -> Result<(), OwnershipError> {
        match create_once(self.store, &self.key()?, self.bytes(record)?).await {
            // Whoever was first, it is read back.
            Ok(Creation::Created(_) | Creation::AlreadySame) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, record: OwnerRecord) -> Result<(), OwnershipError> {
        self.store.put(&self.key()?, self.bytes(record)?, PutMode::Overwrite).await?;
        Ok(())
    }

    fn bytes(&self, record: OwnerRecord) -> Result<Bytes, OwnershipError> {
        let uri = self.uri()?;
        let bytes = OwnerDocument::unsigned(record).to_bytes();
        Ok(Bytes::from(bytes.map_err(|source| OwnershipError::Document { uri, source })?))
    }

    fn refused(&self, owner: Owner, asked: Option<String>) -> Result<OwnershipError, OwnershipError> {
        let (uri, me, cluster) = (self.uri()?, self.me.clone(), self.cluster.to_owned());
        Ok(OwnershipError::OwnedByAnother(Box::new(Others { uri, owner, me, cluster, asked })))
    }

    fn key(&self) -> Result<ObjectKey, StoreError> {
        Ok(ObjectKey::parse(layout::owner(self.cluster))?)
    }

    fn uri(&self) -> Result<String, StoreError> {
        Ok(self.store.uri(&self.key()?))
    }
}

/// What is to become of `owner.json`.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// It is as it should be.
    Keep(OwnerRecord),
    /// Nobody owns the prefix: claim it.
    Create(OwnerRecord),
    /// Other masters are missing, or it is taken over.
    Replace(OwnerRecord),
    /// These own it.
    Refuse(Owner),
}

fn plan_ownership(found: Option<&OwnerRecord>, claim: &Claim, cluster: &str, me: &HostId, now: Timestamp) -> Plan {
    let Claim { masters, take_over } = claim;
    let own = |hosts: Vec<String>| Owner { uid: cluster.to_owned(), hosts };
    let Some(record) = found else {
        // Of nobody else: others are added by an owner, which this host is only once it has been read back.
        return Plan::Create(OwnerRecord { owner: own(vec![me.to_string()]), taken_over: None });
    };
    if is_among(&record.owner, cluster, me) {
        let hosts = with_masters(record.owner.hosts.clone(), me, masters);
        return if hosts == record.owner.hosts {
            Plan::Keep(record.clone())
        } else {
            Plan::Replace(OwnerRecord { owner: own(hosts), taken_over: record.taken_over.clone() })
        };
    }
    if take_over.as_deref() != Some(cluster) {
        return Plan::Refuse(record.owner.clone());
    }
    let taken_over = Some(TakenOver { by: me.to_string(), time: now });
    Plan::Replace(OwnerRecord { owner: own(with_masters(vec![me.to_string()], me, masters)), taken_over })
}

fn is_among(owner: &Owner, cluster: &str, me: &HostId) -> bool {
    owner.uid == cluster && owner.hosts.iter().any(|host| host == me.as_str())
}

/// The hosts with those of the masters that are alive. Beyond the limit the oldest that are gone make room.
fn with_masters(mut hosts: Vec<String>, me: &HostId, masters: &[String]) -> Vec<String> {
    for master in masters {
        if !hosts.contains(master) {
            hosts.push(master.clone());
        }
    }
    let is_gone = |host: &String| host != me.as_str() && !masters.contains(host);
    while hosts.len() > MOST_OWNERS
        && let Some(oldest) = hosts.iter().position(is_gone)
    {
        hosts.remove(oldest);
    }
    hosts.truncate(MOST_OWNERS);
    hosts
}

/// Ids of the hosts whose agents are alive.
///
/// Only by their own heartbeat, and only a young one: an etcd that was restored elsewhere still shows the masters it came
/// from, and these must not become owners again.
pub fn live_hosts(members: &[EtcdMember], now: Timestamp) -> Vec<String> {
    let facts = members.iter().filter_map(|member| Some(&member.status.as_ref()?.facts));
    let live = facts.filter(|facts| {
        facts.heartbeat_time.as_ref().is_some_and(|heartbeat| now.duration_since(heartbeat.0).abs() < FRESH)
    });
    let mut hosts: Vec<String> = live.filter_map(|facts| facts.host_id.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
