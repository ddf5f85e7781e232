//! How a restore ended, by what the masters tell of themselves: that alone outlives the rewind.

use lifeboat_crds::event::EventReason;
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::{ConditionType, EtcdRestoreSpec, Reason};

use super::{Run, Standing};
use crate::SeenMember;
use crate::assignment::node_of;
use crate::conditions::{GoodReason, Outcome, Shown, is_true};
use crate::event::EventDraft;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Restored,
    RolledBack,
}

/// What masters tell of one restore.
pub(super) struct Told<'o> {
    ended: Ended,
    newest: &'o LastRestore,
    /// All that tell the same of the same restore.
    tales: Vec<&'o LastRestore>,
}

fn told_by(seen: &SeenMember) -> Option<&LastRestore> {
    seen.member.status.as_ref()?.facts.last_restore.as_ref()
}

/// What masters tell of an attempt of a request. Where one went on with the new data all do, whatever another that left
/// before tells.
fn told<'o>(members: &'o [SeenMember], name: &str, attempt: i32) -> Option<Told<'o>> {
    let own: Vec<&LastRestore> = members
        .iter()
        .filter_map(told_by)
        .filter(|restore| restore.ref_ == name && restore.attempt == attempt)
        .collect();
    let ends = [(Ended::Restored, LastRestore::RESTORED), (Ended::RolledBack, LastRestore::ROLLED_BACK)];
    ends.into_iter().find_map(|(ended, outcome)| {
        let tales = own.iter().copied().filter(|restore| restore.outcome == outcome);
        let newest = tales.clone().max_by_key(|restore| restore.time.as_ref().map(|time| time.0))?;
        let tales = tales.filter(|restore| restore.restore_id == newest.restore_id).collect();
        Some(Told { ended, newest, tales })
    })
}

/// How many masters are counted in what is shown, such as `2/3`.
fn counted(nodes_ready: Option<&String>) -> usize {
    nodes_ready.and_then(|text| text.split('/').next()?.parse().ok()).unwrap_or(0)
}

impl<'o> Run<'o> {
    /// What the masters tell of this attempt.
    pub(super) fn told(&self) -> Option<Told<'o>> {
        told(&self.observed.members, self.name(), self.status.attempt.unwrap_or(self.spec().attempt))
    }

    /// The end, as the masters tell it.
    pub(super) fn end_as_told(&mut self, told: &Told<'_>) -> Standing {
        if let Some(words) = self.is_of_another(told) {
            return self.fail(Reason::AlreadyRestored, words);
        }
        let count = told.tales.len();
        let type_ = match told.ended {
            Ended::Restored => ConditionType::Complete,
            Ended::RolledBack => ConditionType::RolledBack,
        };
        // The old data is told of by each master as it comes to it; where that shrinks again, they tell of a later restore.
        let is_shown =
            is_true(&self.status.conditions, type_) || is_true(&self.status.conditions, ConditionType::Complete);
        if is_shown && count <= counted(self.status.nodes_ready.as_ref()) {
            return Standing::Kept;
        }
        let total = self.total().max(count);
        // The last steps were told while there was no API to tell them to.
        self.status.step = None;
        self.status.nodes_ready = Some(format!("{count}/{total}"));
        self.status.restore_id = Some(told.newest.restore_id.clone());
        self.status.outage_seconds = told.tales.iter().filter_map(|tale| tale.outage_seconds).max();
        match told.ended {
            Ended::Restored => self.restored(told, is_shown, total),
            Ended::RolledBack => self.rolled_back(told, is_shown, total),
        }
    }

    /// That the outcome is of another request under this name: what was asked for here was never done.
    fn is_of_another(&self, told: &Told<'_>) -> Option<String> {
        let specs =
            told.tales.iter().filter_map(|tale| serde_json::from_str::<EtcdRestoreSpec>(tale.spec.as_ref()?).ok());
        let mut others = specs.filter(|spec| spec.cluster.as_ref() != Some(self.request));
        others.next().map(|_| {
            let attempt = self.spec().attempt;
            format!(
                "attempt {attempt} of a request of this name, but for something else, has an outcome already ({}); raise \
                 spec.attempt to {} to run this one",
                told.newest.outcome,
                attempt.saturating_add(1)
            )
        })
    }

    /// How many masters take part: by the plan, or, where that went with the rewind, all that are not lost.
    fn total(&self) -> usize {
        let planned = self.status.plan.as_ref().map_or(0, |plan| plan.members.len());
        let known = self.observed.members.iter().filter(|seen| !self.request.lost.contains(&node_of(seen))).count();
        if planned > 0 { planned } else { known }
    }

    fn restored(&mut self, told: &Told<'_>, is_shown: bool, total: usize) -> Standing {
        let Told { ended: _, newest, tales } = told;
        self.status.decision = Some("Commit".to_owned());
        self.status.restored_revision = tales.iter().filter_map(|tale| tale.revision).max();
        let backup = self.status.plan.as_ref().and_then(|plan| plan.backup.as_ref());
        let from = backup.map(|backup| format!(" from backup {}", backup.backup_id)).unwrap_or_default();
        let revision =
            self.status.restored_revision.map(|revision| format!(" at revision {revision}")).unwrap_or_default();
        let outage =
            self.status.outage_seconds.map(|seconds| format!("; the API was away for {seconds} s")).unwrap_or_default();
        let words = format!("etcd was restored{from}{revision} on {} of {total} masters{outage}", tales.len());
        let words = with_more(words, &newest.message);
        if !is_shown {
            self.events.push(EventDraft::new(EventReason::RestoreSucceeded, words.clone()));
        }
        let mut shown = Outcome::current(GoodReason::Restored, &words).shown();
        shown.push(Shown::new(ConditionType::Complete, true, Reason::Restored, words));
        shown.extend(self.shown_before());
        Standing::Shown { shown, look_again: None }
    }

    fn rolled_back(&mut self, told: &Told<'_>, is_shown: bool, total: usize) -> Standing {
        let Told { ended: _, newest, tales } = told;
        self.status.decision = Some("Rollback".to_owned());
        let words = format!(
            "nothing was restored: the old data is back in place on {} of {total} masters; raise spec.attempt to try again",
            tales.len()
        );
        let words = with_more(words, &newest.message);
        if !is_shown {
            self.events.push(EventDraft::new(EventReason::RestoreRolledBack, words.clone()));
        }
        let mut shown = Outcome::failed(Reason::RolledBack, &words).shown();
        shown.push(Shown::new(ConditionType::Failed, true, Reason::RolledBack, &words));
        shown.push(Shown::new(ConditionType::RolledBack, true, Reason::RolledBack, words));
        shown.extend(self.shown_before());
        Standing::Shown { shown, look_again: None }
    }
}

/// The words, and those of the masters.
fn with_more(words: String, more: &str) -> String {
    if more.is_empty() { words } else { format!("{words}. {more}") }
}
