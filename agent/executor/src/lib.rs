//! Carries a restore out on one master: the journal on its disk, the documents in the bucket, and the loop between them.
//!
//! All deciding is `lifeboat-protocol`'s; this crate reads what a decision is made from, does the one thing that it asks
//! for, and reads again. What is done to the host itself lies behind [`Machine`]. Nothing here knows Kubernetes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod board;
mod directory;
mod heard;
mod journal;
mod machine;
mod run;
mod sealing;
mod slots;
mod starting;

pub use board::{Board, BoardError, Sight};
pub use directory::{DirectoryError, RestoreDirectory, Sealed, find_restores};
pub use journal::{JournalFile, JournalFileError, read_journal};
pub use machine::{Carried, Humans, Machine, MachineError, Told};
pub use run::{Ended, Executor, RunError};
pub use sealing::{SealError, SealOutcome, Volume, seal_newest};
pub use slots::{KnownRestoreKeys, SlotsError};
pub use starting::{Draft, StartError, Started, start};
