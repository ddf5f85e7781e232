//! Whether the others can spare a member: arithmetic, and what it refuses. Pure.

use super::seen::{ClusterSeen, MemberSeen, OtherMember, OwnEntry};

/// Why a member cannot be re-initialised, with the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum QuorumRefusal {
    /// The others do not answer.
    #[error("no other member answers: there is no quorum to join from; restore the cluster from a backup instead")]
    Silent,
    /// They do not agree among themselves.
    #[error("the other members do not agree on cluster or leader, or one reports CORRUPT: mend that first")]
    Disagree,
    /// Too few voters.
    #[error(
        "{healthy} of the {others} other voters are healthy; {quorum} are needed, the quorum of {voters} voters{}",
        if *voters < 3 { "; a cluster of one or two can never do this: restore it from a backup" } else { "" }
    )]
    TooFew {
        /// Voters, this one included.
        voters: usize,
        /// quorum(voters).
        quorum: usize,
        /// Voters other than this one.
        others: usize,
        /// Healthy ones among those.
        healthy: usize,
    },
    /// A change of membership is under way.
    #[error("another member is a learner or was never started: finish or remove it first, one change at a time")]
    ChangeUnderWay,
    /// Somebody called it off before anything was changed.
    #[error("cancelled")]
    Cancelled,
}

/// Whether the others can spare this member; its entry if they can.
pub(crate) fn may_spare(seen: &MemberSeen<'_>) -> Result<OwnEntry, QuorumRefusal> {
    if seen.cancel {
        return Err(QuorumRefusal::Cancelled);
    }
    match seen.cluster {
        ClusterSeen::Silent => Err(QuorumRefusal::Silent),
        ClusterSeen::Answers { agree: false, own: _, others: _ } => Err(QuorumRefusal::Disagree),
        ClusterSeen::Answers { agree: true, own, others } => {
            let counts_itself = match own {
                OwnEntry::Absent => false,
                OwnEntry::Listed { id: _, learner, leads: _ } => !learner,
            };
            arithmetic(others, counts_itself).map(|()| own)
        }
    }
}

/// Healthy other voters ≥ quorum(voters): the cluster must serve while this member is away, before and after its removal.
pub(crate) fn arithmetic(members: &[OtherMember], counts_itself: bool) -> Result<(), QuorumRefusal> {
    if members.iter().any(|member| member.learner || !member.started) {
        return Err(QuorumRefusal::ChangeUnderWay);
    }
    let others = members.len();
    let voters = others + usize::from(counts_itself);
    let healthy = members.iter().filter(|member| member.healthy).count();
    let quorum = voters / 2 + 1;
    if healthy >= quorum { Ok(()) } else { Err(QuorumRefusal::TooFew { voters, quorum, others, healthy }) }
}
