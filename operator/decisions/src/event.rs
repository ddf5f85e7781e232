//! Events as deciders propose them. The operator publishes them once the decision has landed.

use lifeboat_crds::event::EventReason;

/// An event to be published about the object that was decided upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Its reason; also says whether it is a warning.
    pub reason: EventReason,
    /// The words for people.
    pub note: String,
}

impl EventDraft {
    /// An event with its words.
    pub fn new(reason: EventReason, note: impl Into<String>) -> Self {
        Self { reason, note: note.into() }
    }
}
