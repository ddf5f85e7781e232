//! Re-initialises this node's member from the quorum of the others: removed, added again as a learner with a new identity
//! and no data, promoted, compared. Refused unless the others can do without it.
//!
//! Deciding (`decision`) is pure. Every step is written down before it is taken (`journal`), may be repeated, and is told by
//! what the members list and the disk say; so a kill anywhere goes on at the next start. The old data is moved aside, never
//! wiped, until the member votes with the same content as the others.
//!
//! Closed (`IS_SUPPORTED`) until a member was seen to come back through all of it: command line and supervisor refuse it.

pub mod decision;
pub mod journal;
pub mod outcome;
pub mod quorum;
pub mod steps;

/// Whether this version re-initialises members.
pub const IS_SUPPORTED: bool = false;

/// What is answered while it does not.
pub const NOT_SUPPORTED: &str = "reinitialize is not supported by this version yet, nothing was changed: replace the member \
                                 with etcdctl (docs/how-to/one-member.md)";
