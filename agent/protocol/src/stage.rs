//! Steps 1 and 2, while the old etcd still serves: the new data onto this disk, the safety backup, and the barrier before
//! anything is stopped. Pure.

use lifeboat_crds::journal::Record;
use lifeboat_crds::order::OrderedSafety;

use crate::barrier;
use crate::decided;
use crate::next::{Effect, Next, Wait};
use crate::observed::{DecisionSeen, Observed, Staging, Store};

/// Stage.
pub(crate) fn stage(seen: &Observed<'_>) -> Next {
    match seen.host.staging {
        Staging::Absent | Staging::Partial => Next::Carry(Effect::Stage),
        Staging::Proven => Next::Record(Record::Staged),
    }
}

/// Safety, and the barrier: nobody stops before all have everything they need on their own disk.
pub(crate) fn gather(seen: &Observed<'_>) -> Next {
    match seen.host.staging {
        Staging::Absent | Staging::Partial => return Next::Carry(Effect::Stage),
        Staging::Proven => {}
    }
    let Some(reading) = decided::undecided(seen) else { return wait_for_store(seen) };
    let missing = barrier::not_staged(reading.marks, seen.terms.members);
    if !missing.is_empty() {
        return Next::Wait(Wait::Staged(missing));
    }
    match (seen.terms.safety, seen.journal.safety) {
        (Some(wanted), None) => take_safety(seen, wanted),
        (Some(_), Some(_)) | (None, _) if !barrier::is_safe(reading.marks) => Next::Wait(Wait::Safety),
        (Some(_), Some(_)) | (None, _) if !seen.host.manifests_saved => Next::Carry(Effect::SaveManifests),
        (Some(_), Some(_)) | (None, _) => Next::Record(Record::IntendQuiesced),
    }
}

fn take_safety(seen: &Observed<'_>, wanted: OrderedSafety) -> Next {
    let failed = seen.failure.is_some_and(|failure| failure.effect == Effect::TakeSafetyBackup);
    match (wanted, seen.host.safety_taken) {
        (OrderedSafety::Required | OrderedSafety::BestEffort, true) => Next::Record(Record::Safety { taken: true }),
        (OrderedSafety::Skipped, _) => Next::Record(Record::Safety { taken: false }),
        (OrderedSafety::BestEffort, false) if failed => Next::Record(Record::Safety { taken: false }),
        (OrderedSafety::Required | OrderedSafety::BestEffort, false) => Next::Carry(Effect::TakeSafetyBackup),
    }
}

/// What to say where the store does not let this node go on.
pub(crate) fn wait_for_store(seen: &Observed<'_>) -> Next {
    match seen.store {
        Store::Silent => Next::Wait(Wait::Store),
        Store::Answers(reading) => match reading.decision {
            DecisionSeen::Forged => Next::Wait(Wait::ForgedDecision),
            DecisionSeen::Absent | DecisionSeen::Made(_) => Next::Wait(Wait::Order),
        },
    }
}
