//! The board in the bucket: marks, decision and order of one restore, read as evidence and written as testimony.
//!
//! Reads and writes the store, once each, with a deadline; never tries again by itself, because whoever asks looks again
//! anyway. What does not prove itself counts for nothing and is reported.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use lifeboat_crds::NodeName;
use lifeboat_crds::document::{DocumentError, Envelope, exact_digest};
use lifeboat_crds::mac::{MacError, Placed, RestoreKey, Subject, open, open_decision, seal};
use lifeboat_crds::mark::{
    Claim, Decision, Mark, MarkStep, NodeOutcome, Outcome, Reason, Verdict, decision_key, mark_key, marks_prefix,
    order_key, outcome_key,
};
use lifeboat_crds::order::{Order, OrderDigest};
use lifeboat_protocol::observed::{DecisionSeen, Marks, OrderSeen, Reading};
use lifeboat_storage::{ErrorClass, ObjectKey, ObjectStore, PutMode, StoreError};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::directory::Sealed;
use crate::heard::Heard;

/// Longest wait for everything that one look reads. A store that needs longer is silent, for this look.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for one write.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// A mark or decision has a few hundred bytes.
const LARGEST: usize = 64 << 10;
/// An order names at most nine members, and keys for them.
pub(crate) const LARGEST_ORDER: usize = 1 << 20;
/// Nine members with eight marks each; what lies there beside is nobody's.
const MOST_MARKS: usize = 1000;
/// Marks that are fetched at a time.
const AT_ONCE: usize = 16;

/// Why the board was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not answer in time.
    #[error("{store} did not answer within {} s", .within.as_secs())]
    Slow {
        /// The store, as it describes itself.
        store: String,
        /// The deadline.
        within: Duration,
    },
    /// A document cannot be written; has not been seen.
    #[error(transparent)]
    Document(#[from] MacError),
    /// A name that no store takes: a node name out of bounds.
    #[error("{0:?} is no name of an object")]
    Name(String),
}

impl From<DocumentError> for BoardError {
    fn from(error: DocumentError) -> Self {
        Self::Document(error.into())
    }
}

/// What lies on the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// `order.json`.
    pub order: OrderSeen,
    /// `decision.json`.
    pub decision: DecisionSeen,
    /// What it says for people, where it is authentic.
    pub decided: Option<Decision>,
    /// Marks by seat.
    pub marks: Vec<Marks>,
    /// What lies there and proves nothing, in words.
    pub ignored: Vec<String>,
}

impl Sight {
    /// The same, as the protocol takes it.
    pub fn reading(&self) -> Reading<'_> {
        Reading { order: self.order, decision: self.decision, marks: &self.marks }
    }
}

/// The board of one restore, for one node.
#[derive(Debug)]
pub struct Board {
    store: Arc<dyn ObjectStore>,
    order: Order,
    digest: OrderDigest,
    key: RestoreKey,
    node: NodeName,
    heard: Heard,
}

impl Board {
    /// The board that a sealed order names. Asks nothing yet.
    pub fn of(store: Arc<dyn ObjectStore>, sealed: &Sealed, node: &NodeName) -> Self {
        let Sealed { order, digest, key, terms: _ } = sealed.clone();
        Self::new(store, (order, digest), key, node)
    }

    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        (order, digest): (Order, OrderDigest),
        key: RestoreKey,
        node: &NodeName,
    ) -> Self {
        Self { store, order, digest, key, node: node.clone(), heard: Heard::default() }
    }

    /// Reads everything, the decision last: what a node goes forward upon is that nothing was decided.
    ///
    /// # Errors
    /// Something could not be read. Then nothing is known.
    pub async fn read(&mut self) -> Result<Sight, BoardError> {
        let (order, marks, decision) = self.within(READ_DEADLINE, self.fetch()).await?;
        let mut ignored = Vec::new();
        let order = self.judge_order(order);
        let now = Instant::now();
        let mut seats = vec![Marks::default(); self.order.members.len()];
        for (seat, step, bytes) in marks {
            let Some(member) = self.order.members.get(seat) else { continue };
            let node = member.node_name.clone();
            let subject = Subject::mark(&self.order.cluster, &self.order.restore_id, &self.digest, &node, step);
            match self.open::<Mark>(&subject, &bytes) {
                Ok(Mark { claim, counter, .. }) => {
                    if let Some(marks) = seats.get_mut(seat) {
                        take(marks, claim, || self.heard.hear(&node, counter, now));
                    }
                }
                Err(error) => ignored.push(format!("mark {} of {node}: {error}", step.as_str())),
            }
        }
        let (decision, decided) = match decision.map(|bytes| self.open_decision(&bytes)) {
            None => (DecisionSeen::Absent, None),
            Some(Ok(decided)) => (DecisionSeen::Made(decided.verdict), Some(decided)),
            Some(Err(error)) => {
                ignored.push(format!("decision.json: {error}"));
                (DecisionSeen::Forged, None)
            }
        };
        Ok(Sight { order, decision, decided, marks: seats, ignored })
    }

    /// Shows what this node has done.
    ///
    /// # Errors
    /// It may be written or not.
    pub async fn show(&self, claim: Claim, counter: u64) -> Result<(), BoardError> {
        let step = claim.step();
        let mark = Mark {
            restore_id: self.order.restore_id.clone(),
            order_digest: self.digest.clone(),
            node_name: self.node.clone(),
            claim,
            counter,
        };
        let subject = Subject::mark(&self.order.cluster, &self.order.restore_id, &self.digest, &self.node, step);
        let key = mark_key(&self.order.coordination, &self.order.restore_id, &self.node, step);
        self.write(&key, seal(&self.key, &subject, &mark)?, PutMode::Overwrite).await
    }

    /// The counter that a renewal of this node's mark carries: above everything that was seen of it.
    pub fn next_counter(&self) -> u64 {
        self.heard.highest(&self.node).unwrap_or(0).saturating_add(1)
    }

    /// Creates the decision where none is. Whatever the answer, only reading it back counts.
    ///
    /// # Errors
    /// It may be written or not.
    pub async fn propose(&self, verdict: Verdict, reason: Reason, message: String) -> Result<(), BoardError> {
        let decision = Decision {
            restore_id: self.order.restore_id.clone(),
            order_digest: self.digest.clone(),
            node_name: self.node.clone(),
            verdict,
            reason,
            message,
        };
        let subject = Subject::decision(&self.order.cluster, &self.order.restore_id, &self.digest, &self.node);
        let key = decision_key(&self.order.coordination, &self.order.restore_id);
        match self.write(&key, seal(&self.key, &subject, &decision)?, PutMode::CreateNew).await {
            // Somebody was first, or this node was and did not hear of it.
            Err(BoardError::Store(error)) if error.class() == ErrorClass::Conflict => Ok(()),
            written => written,
        }
    }

    /// Writes how it ended here, for people and for a record that a rewound API has lost.
    ///
    /// # Errors
    /// It may be written or not.
    pub async fn publish_outcome(&self, outcome: &NodeOutcome) -> Result<(), BoardError> {
        let subject = Subject::outcome(&self.order.cluster, &self.order.restore_id, &self.digest, &self.node);
        let key = outcome_key(&self.order.coordination, &self.order.restore_id, &self.node);
        self.write(&key, seal(&self.key, &subject, outcome)?, PutMode::Overwrite).await
    }

    /// How it ended on this node.
    pub fn outcome_of(
        &self,
        outcome: Outcome,
        (reason, message): (Reason, String),
        outage: Option<Duration>,
        now: Timestamp,
    ) -> NodeOutcome {
        NodeOutcome {
            restore_id: self.order.restore_id.clone(),
            order_digest: self.digest.clone(),
            node_name: self.node.clone(),
            request: self.order.request.clone(),
            outcome,
            reason,
            message,
            revision: (outcome == Outcome::Committed).then_some(self.order.bump_to),
            outage_seconds: outage.and_then(|outage| i64::try_from(outage.as_secs()).ok()),
            time: now,
        }
    }

    async fn fetch(&self) -> Result<Fetched, BoardError> {
        let Order { coordination, restore_id, members, .. } = &self.order;
        let order = self.get(order_key(coordination, restore_id), LARGEST_ORDER).await?;
        let listed = self.store.list_all(&marks_prefix(coordination, restore_id), MOST_MARKS).await?;
        let known = (0..).zip(members).flat_map(|(seat, member)| {
            let key = |step| mark_key(coordination, restore_id, &member.node_name, step);
            MarkStep::ALL.map(|step| (seat, step, key(step)))
        });
        let there: Vec<_> =
            known.filter(|(_, _, key)| listed.iter().any(|object| object.key.as_str() == key)).collect();
        let fetching = there.into_iter().map(async |(seat, step, key)| {
            let bytes = self.get(key, LARGEST).await?;
            Ok::<_, BoardError>(bytes.map(|bytes| (seat, step, bytes)))
        });
        let marks: Vec<_> = stream::iter(fetching).buffer_unordered(AT_ONCE).collect().await;
        let marks = marks.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let decision = self.get(decision_key(coordination, restore_id), LARGEST).await?;
        Ok((order, marks, decision))
    }

    /// An object; `None` where it is not there. One that is too large is none of ours, and reads as empty.
    async fn get(&self, key: String, largest: usize) -> Result<Option<Bytes>, BoardError> {
        let key = ObjectKey::parse(key.as_str()).map_err(|_| BoardError::Name(key))?;
        match self.store.get_small(&key, largest).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match error.class() {
                ErrorClass::Missing => Ok(None),
                ErrorClass::TooLarge => Ok(Some(Bytes::new())),
                _ => Err(error.into()),
            },
        }
    }

    async fn write(&self, key: &str, document: Envelope<Value>, mode: PutMode) -> Result<(), BoardError> {
        let name = ObjectKey::parse(key).map_err(|_| BoardError::Name(key.to_owned()))?;
        let bytes = Bytes::from(document.to_bytes()?);
        let put = async { self.store.put(&name, bytes, mode).await.map(drop).map_err(BoardError::from) };
        self.within(WRITE_DEADLINE, put).await
    }

    async fn within<T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, BoardError>>,
    ) -> Result<T, BoardError> {
        timeout(within, work).await.unwrap_or_else(|_| Err(BoardError::Slow { store: self.store.describe(), within }))
    }

    /// The digest is taken over what was received, so it needs no key and no understanding.
    fn judge_order(&self, bytes: Option<Bytes>) -> OrderSeen {
        let Some(bytes) = bytes else { return OrderSeen::Missing };
        let digest = Envelope::<Value>::from_bytes(&bytes).and_then(|envelope| exact_digest(&envelope.payload));
        if digest.is_ok_and(|digest| digest == self.digest.as_str()) { OrderSeen::Sealed } else { OrderSeen::Other }
    }

    fn open<T>(&self, subject: &Subject<'_>, bytes: &[u8]) -> Result<T, MacError>
    where
        T: serde::de::DeserializeOwned + Placed,
    {
        open(&self.key, subject, Envelope::<Value>::from_bytes(bytes)?)
    }

    fn open_decision(&self, bytes: &[u8]) -> Result<Decision, MacError> {
        open_decision(&self.key, &self.order, &self.digest, Envelope::<Value>::from_bytes(bytes)?)
    }
}

/// Order, marks by seat and step, decision.
type Fetched = (Option<Bytes>, Vec<(usize, MarkStep, Bytes)>, Option<Bytes>);

fn take(marks: &mut Marks, claim: Claim, hear: impl FnOnce() -> lifeboat_protocol::observed::Freshness) {
    match claim {
        Claim::Staged => marks.staged = Some(hear()),
        Claim::Safety { taken: _ } => marks.safety = true,
        Claim::Prepared => marks.prepared = true,
        Claim::Served { facts } => marks.served = Some(facts),
        Claim::Verified => marks.verified = true,
        Claim::Learned { verdict } => marks.learned = Some(verdict),
        Claim::Left { reason: _ } => marks.left = true,
        Claim::Ended { outcome } => marks.ended = Some(outcome),
    }
}
