//! What keeps an archive for ever: the annotation says what is wanted, `pin.json` in the bucket what holds.

use lifeboat_crds::backup::PinFacts;
use lifeboat_crds::condition::find;
use lifeboat_crds::{ConditionType, EtcdBackup, Reason, label};

use super::Aftercare;
use crate::conditions::{Shown, is_true};

/// Longest words of a pin, characters: what a result has room for.
const LONGEST: usize = 1_024;

/// Why a backup is kept for ever: because somebody wants it so, or because the bucket says so.
pub fn pin_of(backup: &EtcdBackup) -> Option<String> {
    let annotations = backup.metadata.annotations.as_ref();
    let wanted = annotations.and_then(|annotations| annotations.get(label::PIN)).filter(|words| !words.is_empty());
    let conditions = backup.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let held = find(conditions, ConditionType::Pinned).filter(|_| is_true(conditions, ConditionType::Pinned));
    wanted.map(|words| cut(words)).or_else(|| held.map(|held| held.message.clone()))
}

/// How a pin came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backup) enum Source {
    /// The annotation asked for it.
    Annotation,
    /// It was there in the bucket.
    Bucket,
}

/// The condition that shows a pin. One that was found in the bucket goes only when asked: an annotation that is not there
/// may have been lost with an older copy of the API server's data, and the pin was meant for ever.
pub(in crate::backup) fn shown_pin(pin: &PinFacts, source: Source) -> Option<Shown> {
    let PinFacts { reason, time: _ } = pin;
    let words = reason.as_ref()?;
    let reason = match source {
        Source::Annotation => Reason::Pinned,
        Source::Bucket => Reason::ImportedFromCatalog,
    };
    Some(Shown::new(ConditionType::Pinned, true, reason, words))
}

/// What `pin.json` is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinWish {
    /// It is as it should be.
    None,
    /// It is to be written or removed; the agent reads the annotation.
    Change,
}

impl Aftercare<'_> {
    /// The pin as the bucket has it, as far as is known.
    pub(super) fn pinned(&self) -> Option<&Shown> {
        self.shown.iter().find(|shown| shown.type_ == ConditionType::Pinned)
    }

    /// Why the archive must stay: wanted, or known from the bucket.
    pub(super) fn pin(&self) -> Option<String> {
        let wanted = self.annotation(label::PIN).filter(|words| !words.is_empty()).map(cut);
        wanted.or_else(|| self.pinned().map(|shown| shown.message.clone()))
    }

    pub(super) fn pin_wish(&self) -> PinWish {
        let is_by_annotation = |shown: &Shown| shown.reason == Reason::Pinned;
        let change = match (self.annotation(label::PIN), self.pinned()) {
            (Some(""), Some(_)) => true,
            (Some("") | None, None) => false,
            (Some(words), Some(shown)) => !(is_by_annotation(shown) && shown.message == cut(words)),
            (Some(_), None) => true,
            (None, Some(shown)) => is_by_annotation(shown),
        };
        if change { PinWish::Change } else { PinWish::None }
    }
}

fn cut(words: &str) -> String {
    words.chars().take(LONGEST).collect()
}
