//! Re-initialises this node's member from the quorum of the others: removed, added again as a learner with a new identity
//! and no data, promoted, compared. Refused unless the others can do without it.
//!
//! Deciding (`decision`) is pure. Every step is written down before it is taken (`journal`), may be repeated, and is told by
//! what the members list and the disk say; so a kill anywhere goes on at the next start. The old data is moved aside, never
//! wiped, until the member votes with the same content as the others.

pub mod decision;
pub mod journal;
pub mod outcome;
pub mod quorum;
pub mod steps;
