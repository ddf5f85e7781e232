//! What the executor acts on: one master, behind a trait. The protocol says what, a machine knows how.

use async_trait::async_trait;
use lifeboat_crds::journal::Record;
use lifeboat_protocol::observed::{Host, Wishes};
use lifeboat_protocol::{Effect, Ledger};
use tokio_util::sync::CancellationToken;

/// Something that could not be seen or done on this master.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct MachineError {
    /// What, and what to do about it.
    pub words: String,
    /// Trying again cannot help.
    pub is_permanent: bool,
}

/// How an effect ended.
pub type Carried = Result<(), MachineError>;

/// One master.
#[async_trait]
pub trait Machine: Send {
    /// What lies and runs here now. Remembers nothing but the locks that it holds: those die with the process.
    ///
    /// # Errors
    /// It cannot be seen; nothing is decided then.
    async fn look(&mut self, journal: &Ledger) -> Result<Host, MachineError>;

    /// Does one thing. Doing it twice does no harm; dying in the middle leaves what `look` tells. Ends early, and well, when
    /// `stop` is cancelled: only [`Effect::Stage`] and [`Effect::TakeSafetyBackup`] are ever asked to.
    ///
    /// # Errors
    /// It was not done, or not wholly.
    async fn carry(&mut self, effect: Effect, journal: &Ledger, stop: &CancellationToken) -> Carried;

    /// Whether a member that the order calls lost answers on its peer URL.
    async fn lost_answers(&mut self) -> bool;
}

/// The humans of one master: what they ask for, and what they are told.
pub trait Humans: Send {
    /// What they ask for now.
    ///
    /// # Errors
    /// It cannot be read; what was read before holds.
    fn wishes(&mut self) -> Result<Wishes, MachineError>;

    /// Hears what the executor does. Never fails and never waits.
    fn tell(&mut self, told: Told<'_>);
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A state that lasts, or an effect that begins; told when it changes.
    Doing(&'a str),
    /// Something went wrong, and it is tried again or decided upon.
    Trouble(&'a str),
    /// A record is in the journal. Wishes that it answers are taken away.
    Recorded(&'a Record),
    /// Something in the bucket proves nothing.
    Ignored(&'a str),
}
