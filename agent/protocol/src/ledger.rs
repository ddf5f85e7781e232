//! A journal, summed up. Pure; every entry is taken as it stands, in order.

use std::time::Duration;

use lifeboat_crds::journal::{Entry, Inodes, Record, Source};
use lifeboat_crds::mark::{Outcome, Reason, ServedFacts, Verdict};

use crate::terms::Terms;

/// What this node is about to do and what it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The new data lay on this disk, proven.
    pub staged: bool,
    /// The safety backup: taken, or skipped.
    pub safety: Option<bool>,
    /// When services were about to be stopped, in elapsed time.
    pub quiesced_at: Option<Duration>,
    /// Directories about to be exchanged.
    pub inodes: Option<Inodes>,
    /// The new etcd was about to be started.
    pub serving: bool,
    /// What it served.
    pub served: Option<ServedFacts>,
    /// Only the decision counts.
    pub in_doubt: bool,
    /// Decisions that may have been written.
    pub attempted: Attempts,
    /// This node gave up by itself.
    pub left: Option<Reason>,
    /// The decision.
    pub learned: Option<(Verdict, Source)>,
    /// It is being carried out; nothing replaces it any more.
    pub obeys: bool,
    /// Handed to a human.
    pub surrendered: bool,
    /// Release was said.
    pub release_granted: bool,
    /// The control plane ran on the new data.
    pub released: bool,
    /// Kubelets were restarted as asked.
    pub settled: bool,
    /// The end.
    pub ended: Option<Outcome>,
    /// Elapsed time at the newest entry.
    pub elapsed: Duration,
}

/// A journal that is none of the restore it lies beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It does not begin with the sealed order.
    #[error(
        "the journal does not begin with the order that was sealed: do not go on with this node; see docs/restore-protocol.md, Damage"
    )]
    NotSealed,
    /// It is of another restore or order than the one beside it.
    #[error(
        "the journal is of another restore or order than order.json beside it: do not go on with this node; see docs/restore-protocol.md, Damage"
    )]
    OtherOrder,
}

/// Decisions that a node may have written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    /// Commit.
    pub commit: bool,
    /// Rollback, and why.
    pub rollback: Option<Reason>,
}

impl Attempts {
    /// Whether one was attempted.
    pub const fn of(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Commit => self.commit,
            Verdict::Rollback => self.rollback.is_some(),
        }
    }
}

/// Where a node is in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Brings the new data onto its disk.
    Staging,
    /// Waits until all have; the old etcd still serves.
    Gathering,
    /// Stops everything.
    Stopping,
    /// Puts the new data in place.
    Exchanging,
    /// Runs the new etcd alone and compares.
    Serving,
    /// Waits for the decision.
    InDoubt,
    /// Gave up by itself: puts the old data back.
    Leaving,
    /// Obeys a decision.
    Obeying(Verdict),
    /// Done.
    Over(Outcome),
}

impl Ledger {
    /// Sums up the journal of this restore.
    ///
    /// # Errors
    /// It does not begin with the sealed order, or with another one, or ends another restore.
    pub fn replay(entries: &[Entry], terms: &Terms) -> Result<Self, LedgerError> {
        match entries.first().map(|entry| &entry.record) {
            Some(Record::Sealed { restore_id, order_digest })
                if *restore_id == terms.restore_id && *order_digest == terms.order_digest => {}
            Some(Record::Sealed { restore_id: _, order_digest: _ }) => return Err(LedgerError::OtherOrder),
            Some(_) | None => return Err(LedgerError::NotSealed),
        }
        let is_other = |record: &Record| match record {
            Record::Ended { restore_id, outcome: _ } => *restore_id != terms.restore_id,
            _ => false,
        };
        if entries.iter().any(|entry| is_other(&entry.record)) {
            return Err(LedgerError::OtherOrder);
        }
        Ok(Self::sum(entries))
    }

    /// Sums up entries, whatever restore they are of.
    pub fn sum(entries: &[Entry]) -> Self {
        entries.iter().fold(Self::default(), |ledger, entry| {
            ledger.with(&entry.record, Duration::from_millis(entry.elapsed_millis))
        })
    }

    /// The ledger after one more record.
    #[must_use]
    pub fn with(mut self, record: &Record, elapsed: Duration) -> Self {
        self.elapsed = elapsed;
        match record {
            // Which restore and order this is was compared by `replay`.
            Record::Sealed { restore_id: _, order_digest: _ } | Record::Waited => {}
            Record::Staged => self.staged = true,
            Record::Safety { taken } => self.safety = Some(*taken),
            Record::IntendQuiesced => self.quiesced_at = Some(elapsed),
            Record::IntendPrepared { inodes } => self.inodes = Some(*inodes),
            Record::IntendServed => self.serving = true,
            Record::Served { facts } => self.served = Some(*facts),
            Record::IntendVerified => self.in_doubt = true,
            Record::Attempted { verdict: Verdict::Commit, reason: _ } => self.attempted.commit = true,
            Record::Attempted { verdict: Verdict::Rollback, reason } => self.attempted.rollback = Some(*reason),
            Record::Left { reason } => self.left = Some(*reason),
            Record::Learned { verdict, from } => self.learned = Some((*verdict, *from)),
            Record::IntendObeyed => self.obeys = true,
            Record::Surrendered => self.surrendered = true,
            Record::Resumed => self.surrendered = false,
            Record::ReleaseGranted => self.release_granted = true,
            Record::Released => self.released = true,
            Record::Settled => self.settled = true,
            Record::Ended { restore_id: _, outcome } => self.ended = Some(*outcome),
        }
        self
    }

    /// Where this node is. What was learnt last counts before what was intended first.
    pub fn phase(&self) -> Phase {
        match (self.ended, self.learned, self.left) {
            (Some(outcome), _, _) => Phase::Over(outcome),
            (None, Some((verdict, _)), _) => Phase::Obeying(verdict),
            (None, None, Some(_)) => Phase::Leaving,
            (None, None, None) if self.in_doubt => Phase::InDoubt,
            (None, None, None) if self.serving => Phase::Serving,
            (None, None, None) if self.inodes.is_some() => Phase::Exchanging,
            (None, None, None) if self.quiesced_at.is_some() => Phase::Stopping,
            (None, None, None) if self.staged => Phase::Gathering,
            (None, None, None) => Phase::Staging,
        }
    }
}
