//! Learning the decision: from the store, which counts, or from a human where the store does not say; and making sure that
//! the store goes on saying it. Pure.

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::{Reason, Verdict};

use crate::barrier::{self, Told};
use crate::hand::Said;
use crate::ledger::{Attempts, Ledger};
use crate::next::{Next, Wait};
use crate::observed::{DecisionSeen, Observed, OrderSeen, Reading, Store};

/// What can be known of the decision now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// This.
    Decided(Verdict, Source),
    /// What is said cannot be true together.
    Contradicts,
}

/// The decision this node can learn now. The store goes first: what lies there is what the others read. Where it lost
/// `decision.json`, members that learnt it or ended by it still say so.
pub(crate) fn known(seen: &Observed<'_>) -> Known {
    let told = match seen.store {
        Store::Answers(Reading { order: _, decision: DecisionSeen::Made(verdict), marks }) => {
            if barrier::has_ended_by(marks, verdict.other()) { Told::Both } else { Told::One(verdict) }
        }
        Store::Answers(Reading { order: _, decision: DecisionSeen::Absent | DecisionSeen::Forged, marks }) => {
            barrier::told(marks)
        }
        Store::Silent => Told::Nothing,
    };
    match told {
        Told::One(verdict) => Known::Decided(verdict, Source::Store),
        Told::Both => Known::Contradicts,
        Told::Nothing => by_hand(seen),
    }
}

/// An authentic decision is one wherever it is read. A judgement counts only where this journal was among those judged,
/// that is, was surrendered and stands still since; and where it does not deny what this journal says.
fn by_hand(seen: &Observed<'_>) -> Known {
    // `judge` looked at what proves a decision; what else a journal says does not bear on a word.
    let Ledger {
        surrendered,
        attempted: Attempts { commit: attempted_commit, rollback: _ },
        staged: _,
        safety: _,
        quiesced_at: _,
        inodes: _,
        serving: _,
        served: _,
        in_doubt: _,
        left: _,
        learned: _,
        obeys: _,
        release_granted: _,
        released: _,
        settled: _,
        ended: _,
        elapsed: _,
    } = *seen.journal;
    match seen.wishes.hand.map(|word| word.0) {
        Some(Said::Proven(verdict)) => Known::Decided(verdict, Source::Hand),
        Some(Said::Judged(Verdict::Rollback)) if surrendered && attempted_commit => Known::Contradicts,
        Some(Said::Judged(verdict)) if surrendered => Known::Decided(verdict, Source::Hand),
        Some(Said::Judged(_) | Said::Resume) | None => Known::Nothing,
    }
}

/// Journals a decision, before anything is done about it.
pub(crate) fn learn(verdict: Verdict, from: Source) -> Next {
    Next::Record(Record::Learned { verdict, from })
}

/// Between learning a decision and carrying it out: until the store holds both the decision and this node's word that it
/// learnt it. From then on the loss of either leaves the other, and nobody can have the opposite decided. Where the store
/// is silent or takes no write, what was learnt is carried out as it is.
pub(crate) fn confirm(seen: &Observed<'_>, verdict: Verdict) -> Next {
    let Store::Answers(reading) = seen.store else { return Next::Record(Record::IntendObeyed) };
    let is_shown = barrier::own(reading.marks, seen.terms.seat).learned == Some(verdict);
    match (reading.order, reading.decision) {
        // A human's word, or a decision that was lost before anybody carried it out: what lies in the store counts.
        (_, DecisionSeen::Made(other)) if other != verdict => learn(other, Source::Store),
        _ if seen.refused => Next::Record(Record::IntendObeyed),
        (OrderSeen::Sealed, DecisionSeen::Absent) => repeat(seen.journal, verdict),
        // Nobody can decide while the order is away or something else lies in the decision's place.
        (_, DecisionSeen::Made(_) | DecisionSeen::Forged) | (OrderSeen::Missing | OrderSeen::Other, _) if is_shown => {
            Next::Record(Record::IntendObeyed)
        }
        (_, DecisionSeen::Made(_) | DecisionSeen::Forged) | (OrderSeen::Missing | OrderSeen::Other, _) => {
            Next::Wait(Wait::Shown)
        }
    }
}

/// Writes again what this journal knows to be decided.
pub(crate) fn repeat(journal: &Ledger, verdict: Verdict) -> Next {
    let reason = match (journal.learned, journal.left) {
        (Some((_, Source::Hand)), _) => Reason::ByHand,
        (Some((_, Source::Store)), _) => Reason::DecidedBefore,
        (None, Some(reason)) => reason,
        (None, None) => Reason::DecidedBefore,
    };
    Next::Propose { verdict, reason }
}

/// The store, where it was read just now to hold the sealed order and no decision: only then may a node go forward, or
/// write a decision.
pub(crate) fn undecided<'a>(seen: &Observed<'a>) -> Option<Reading<'a>> {
    match seen.store {
        Store::Answers(reading) => match (reading.order, reading.decision) {
            (OrderSeen::Sealed, DecisionSeen::Absent) => Some(reading),
            (OrderSeen::Sealed, DecisionSeen::Made(_) | DecisionSeen::Forged)
            | (OrderSeen::Missing | OrderSeen::Other, _) => None,
        },
        Store::Silent => None,
    }
}

/// What a human asks of this journal: to hand it over, or to take it back.
pub(crate) fn hand_over(seen: &Observed<'_>) -> Option<Next> {
    let resume = match seen.wishes.hand.map(|word| word.0) {
        Some(Said::Resume) => true,
        Some(Said::Proven(_) | Said::Judged(_)) | None => false,
    };
    match (seen.journal.surrendered, resume, seen.wishes.surrender) {
        (true, true, _) => Some(Next::Record(Record::Resumed)),
        (false, false, true) => Some(Next::Record(Record::Surrendered)),
        (true, false, _) | (false, true, _) | (false, false, false) => None,
    }
}
