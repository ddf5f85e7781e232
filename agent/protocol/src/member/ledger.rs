//! The journal of the second machine, summed up. Pure.

use lifeboat_crds::journal::MemberRecord;
use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::EtcdMemberId;

/// The journal, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberLedger {
    /// The member as it was listed at the beginning.
    pub begun: Option<Option<EtcdMemberId>>,
    /// etcd was about to be stopped.
    pub stopping: bool,
    /// The member was about to be removed.
    pub removing: bool,
    /// etcd ran as this new member, with data of its own.
    pub started: Option<EtcdMemberId>,
    /// It is a voter again.
    pub rejoined: bool,
    /// The end.
    pub ended: Option<Outcome>,
}

impl MemberLedger {
    /// The ledger after one more record.
    #[must_use]
    pub const fn with(mut self, record: MemberRecord) -> Self {
        match record {
            MemberRecord::Begun { old_member } => self.begun = Some(old_member),
            MemberRecord::IntendStopped => self.stopping = true,
            MemberRecord::IntendRemoved => self.removing = true,
            MemberRecord::Started { member } => self.started = Some(member),
            MemberRecord::Rejoined => self.rejoined = true,
            MemberRecord::Ended { outcome } => self.ended = Some(outcome),
        }
        self
    }
}
