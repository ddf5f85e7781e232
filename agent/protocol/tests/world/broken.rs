//! Deliberately broken variants: each bends what a node sees or does around the shipped `decide`, which knows nothing of
//! them. Most are what an earlier version did.

use std::time::Duration;

use super::cluster::World;
use super::model::Restore;
use super::setting::NODES;
use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::Reason;
use lifeboat_protocol::ledger::{Ledger, Phase};
use lifeboat_protocol::next::{Clients, Effect, Wait};
use lifeboat_protocol::observed::{ControlPlane, Host, Marks};
use lifeboat_protocol::{Decision, Next, Observed, decide};

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    CommitByQuorum,
    LeavesInDoubt,
    ReleasesBothLocks,
    ObeysBeforeJournal,
    NoNodeKnows,
    TwoAuthors,
    GuardIgnoresUndecided,
    JournalOnRootDisk,
    BelievesItsWrite,
    AttemptNotJournaled,
    HandWithoutSurrender,
    BelievesForgedMarks,
    OpenWhileUndecided,
    ServesBeforeAllPrepared,
    ComparesNothing,
    RunsAgain,
    /// Any process of the control plane is taken for all of it, and the hold is not looked at.
    EndsOnAnyProcess,
    /// The executor goes as soon as its own journal has ended.
    RestsOwing,
    /// A decision is obeyed as soon as it was read, and looked for in `decision.json` only.
    TrustsOneObject,
    /// A human gives journals back whenever they like.
    ResumesAtWill,
    /// Everything is started without a look at strays and locks.
    StartsUnquiet,
    /// The decision goes before what runs beside the data.
    ProposesFirst,
    /// An order is sealed whatever this node did under it before.
    SealsBlindly,
}

impl Restore {
    /// What the node decides, bent where a broken variant says so; and the ledger it was decided by.
    pub fn look(&self, world: &World, index: usize, late: bool) -> (Decision, Ledger) {
        let ledger = self.bend_ledger(world, index);
        let marks = self.bend_marks(world, index);
        let decide_by = |ledger: &Ledger| {
            let seen = world.observe(&self.setting, index, ledger, &marks, late);
            decide(&Observed { host: self.bend_host(ledger, seen.host), ..seen })
        };
        let mut decision = decide_by(&ledger);
        match (self.broken, &decision.next) {
            (Some(Broken::LeavesInDoubt), Next::Wait(_)) if late && ledger.phase() == Phase::InDoubt => {
                decision.next = Next::Record(Record::Left { reason: Reason::DeadlineExceeded });
            }
            (Some(Broken::ObeysBeforeJournal), Next::Record(record @ Record::Learned { verdict: _, from: _ })) => {
                let virtual_ledger = Ledger { obeys: true, ..ledger.with(record, Duration::ZERO) };
                return (decide_by(&virtual_ledger), virtual_ledger);
            }
            (Some(Broken::AttemptNotJournaled), Next::Record(Record::Attempted { verdict, reason })) => {
                decision.next = Next::Propose { verdict: *verdict, reason: *reason };
            }
            (Some(Broken::OpenWhileUndecided), Next::Carry(Effect::StartAlone { clients: _ })) => {
                decision.next = Next::Carry(Effect::StartAlone { clients: Clients::Configured });
            }
            (Some(Broken::RestsOwing), Next::Wait(Wait::Owes)) => {
                if let Some(outcome) = ledger.ended {
                    decision.next = Next::Rest(outcome);
                }
            }
            _ => {}
        }
        (decision, ledger)
    }

    fn bend_ledger(&self, world: &World, index: usize) -> Ledger {
        let node = &world.nodes[index];
        let mut ledger = node.ledger;
        match self.broken {
            Some(Broken::TrustsOneObject) => ledger.obeys |= ledger.learned.is_some(),
            Some(Broken::HandWithoutSurrender) => ledger.surrendered |= node.word.is_some(),
            _ => {}
        }
        ledger
    }

    fn bend_host(&self, ledger: &Ledger, host: Host) -> Host {
        let runs = host.control_plane != ControlPlane::None;
        let obeys = matches!(ledger.phase(), Phase::Leaving | Phase::Obeying(_));
        let quiet =
            Host { strangers: false, locks: lifeboat_protocol::observed::Locks { old: true, new: true }, ..host };
        match self.broken {
            Some(Broken::EndsOnAnyProcess) if obeys && runs => {
                Host { control_plane: ControlPlane::All, held: false, ..host }
            }
            Some(Broken::StartsUnquiet) if obeys => quiet,
            Some(Broken::ProposesFirst) if ledger.phase() == Phase::InDoubt => {
                Host { control_plane: ControlPlane::None, held: true, ..quiet }
            }
            _ => host,
        }
    }

    fn bend_marks(&self, world: &World, index: usize) -> [Marks; NODES] {
        let mut marks = world.marks(index);
        let members = &mut marks[..self.setting.members];
        let quorum = members.len() / 2 + 1;
        match self.broken {
            Some(Broken::BelievesForgedMarks) if world.bucket.forged => {
                members.iter_mut().for_each(|marks| marks.verified = true);
            }
            Some(Broken::CommitByQuorum) if members.iter().filter(|marks| marks.verified).count() >= quorum => {
                members.iter_mut().for_each(|marks| marks.verified = true);
            }
            Some(Broken::ServesBeforeAllPrepared)
                if members.iter().filter(|marks| marks.prepared).count() >= quorum =>
            {
                members.iter_mut().for_each(|marks| marks.prepared = true);
            }
            Some(Broken::ComparesNothing) => {
                let own = world.facts(&self.setting, index);
                members.iter_mut().filter(|marks| marks.served.is_some()).for_each(|marks| marks.served = Some(own));
            }
            Some(Broken::TrustsOneObject) => {
                let own = members[index].ended;
                members.iter_mut().for_each(|marks| (marks.learned, marks.ended) = (None, None));
                members[index].ended = own;
            }
            _ => {}
        }
        marks
    }
}
