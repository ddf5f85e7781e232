//! Events as deciders propose them. The operator publishes them once the decision has landed.

use lifeboat_crds::event::EventReason;

/// An event to be published about the object that was decided upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Its reason; also says whether it is a warning.
    pub reason: EventReason,
    /// The words for people.
    pub note: String,
    /// Name of the EtcdBackup it is about, where that is another object: events about different ones are not folded into
    /// one.
    pub about: Option<String>,
}

impl EventDraft {
    /// An event with its words.
    pub fn new(reason: EventReason, note: impl Into<String>) -> Self {
        Self { reason, note: note.into(), about: None }
    }

    /// The same, about this EtcdBackup.
    #[must_use]
    pub fn about(self, backup: impl Into<String>) -> Self {
        Self { about: Some(backup.into()), ..self }
    }
}
