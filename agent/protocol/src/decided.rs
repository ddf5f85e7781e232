//! Learning the decision: from the store, which counts, or from a human where the store does not say. Pure.

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::Verdict;

use crate::next::Next;
use crate::observed::{DecisionSeen, HandWord, Observed, OrderSeen, Reading, Store};

/// The decision this node can learn now. The store goes first: what lies there is what the others read.
pub(crate) fn known(seen: &Observed<'_>) -> Option<(Verdict, Source)> {
    let stored = match seen.store {
        Store::Answers(Reading { order: _, decision: DecisionSeen::Made(verdict), marks: _ }) => Some(verdict),
        Store::Answers(Reading { order: _, decision: DecisionSeen::Absent | DecisionSeen::Forged, marks: _ })
        | Store::Silent => None,
    };
    let by_hand = match seen.wishes.hand {
        Some(HandWord::Obey(verdict)) => Some(verdict),
        Some(HandWord::Resume) | None => None,
    };
    stored.map(|verdict| (verdict, Source::Store)).or(by_hand.map(|verdict| (verdict, Source::Hand)))
}

/// Journals a decision, before anything is done about it.
pub(crate) fn learn((verdict, from): (Verdict, Source)) -> Next {
    Next::Record(Record::Learned { verdict, from })
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
    let resume = match seen.wishes.hand {
        Some(HandWord::Resume) => true,
        Some(HandWord::Obey(_)) | None => false,
    };
    match (seen.journal.surrendered, resume, seen.wishes.surrender) {
        (true, true, _) => Some(Next::Record(Record::Resumed)),
        (false, false, true) => Some(Next::Record(Record::Surrendered)),
        (true, false, _) | (false, true, _) | (false, false, false) => None,
    }
}
