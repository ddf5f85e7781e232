//! How the restores of this master stand, from their journals. Reads this host; asks nobody.

use lifeboat_crds::journal::Journal;
use lifeboat_crds::mark::{Outcome, Reason, Verdict};
use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{RestoreDirectory, find_restores, read_journal};
use lifeboat_protocol::{Ledger, Phase};
use serde::Serialize;

use super::RestoringError;
use super::humans::Progress;
use super::launch::is_running;
use super::reach::Reach;
use super::site::Site;

/// How a restore stands on this master.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The restore.
    pub restore_id: RestoreId,
    /// Where it is.
    #[serde(skip)]
    pub directory: RestoreDirectory,
    /// How far it is.
    pub phase: String,
    /// The same, where the journal could be read.
    #[serde(skip)]
    pub step: Option<Phase>,
    /// Revision that the restored cluster served first.
    #[serde(skip)]
    pub revision: Option<i64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it was not committed.
    pub why: Option<String>,
    /// From the moment at which services were about to be stopped to the end, seconds; nothing where none were.
    pub outage_seconds: Option<u64>,
    /// What the executor told last.
    pub progress: Option<Progress>,
    /// Whether an executor works on it.
    pub is_running: bool,
    /// It has ended here, and its executor has yet to say so in the location.
    pub owes: bool,
    /// Waits for `lifeboat restore release`.
    pub holds_before_release: bool,
    /// The backup.
    pub backup_id: Option<String>,
    /// Members that take part.
    pub members: Vec<String>,
}

/// Every restore of this master.
///
/// # Errors
/// Something cannot be read.
pub fn standings(site: &Site) -> Result<Vec<Standing>, RestoringError> {
    let here = find_restores(&site.lifeboat())?;
    let standings = here.iter().map(|(id, directory)| {
        let standing = standing_of(directory, id)?;
        let owes = standing.outcome.is_some() && Reach::of(&site.node.state_dir, id).is_kept();
        Ok(Standing { owes, ..standing })
    });
    standings.collect()
}

/// The one restore that is under way on this master.
///
/// # Errors
/// There is none, or more than one and it was not said which.
pub fn only_open(site: &Site, wanted: Option<&RestoreId>) -> Result<Standing, RestoringError> {
    let mut open: Vec<Standing> = standings(site)?
        .into_iter()
        .filter(|standing| standing.outcome.is_none() && wanted.is_none_or(|id| *id == standing.restore_id))
        .collect();
    match (open.pop(), open.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(RestoringError::Refused("no such restore is under way on this master".to_owned())),
        (Some(_), false) => {
            Err(RestoringError::Refused("several restores are under way here: say which with --restore".to_owned()))
        }
    }
}

/// How one restore stands.
///
/// # Errors
/// Its journal cannot be read.
pub fn standing_of(directory: &RestoreDirectory, id: &RestoreId) -> Result<Standing, RestoringError> {
    // Before the journal: one that ends in this moment must not look like one that died.
    let is_running = is_running(directory)?;
    let order = directory.read_order_alone().ok();
    let (mut outage_seconds, mut step, mut revision) = (None, None, None);
    let (phase, outcome, why) = match read_journal(&directory.journal())? {
        Some(Ok(Journal::Entries { entries, good: _ })) => {
            let ledger = Ledger::sum(&entries);
            let outcome = ledger.ended;
            step = Some(ledger.phase());
            revision = ledger.served.map(|served| served.revision);
            outage_seconds = ledger.quiesced_at.map(|at| ledger.elapsed.saturating_sub(at).as_secs());
            let why = ledger.left.or(ledger.attempted.rollback).map(|reason: Reason| reason.to_string());
            (phase_words(ledger.phase()).to_owned(), outcome, why.filter(|_| outcome != Some(Outcome::Committed)))
        }
        Some(Ok(Journal::EndedElsewhere { restore_id: _, outcome })) => {
            ("ended, by a newer version of lifeboat".to_owned(), Some(outcome), None)
        }
        Some(Err(error)) => (format!("its journal cannot be used: {error}"), None, None),
        None => ("it has no journal".to_owned(), None, None),
    };
    Ok(Standing {
        restore_id: id.clone(),
        phase,
        step,
        revision,
        outcome,
        why,
        outage_seconds,
        progress: Progress::read(directory.root()),
        is_running,
        owes: false,
        holds_before_release: order.as_ref().is_some_and(|order| order.hold_before_release),
        backup_id: order.as_ref().map(|order| order.backup.backup_id.to_string()),
        members: order
            .map(|order| order.members.iter().map(|member| member.node_name.as_str().to_owned()).collect())
            .unwrap_or_default(),
        directory: directory.clone(),
    })
}

const fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Staging => "staging; etcd serves",
        Phase::Gathering => "staged; waits for the others, etcd serves",
        Phase::Stopping => "stopping",
        Phase::Exchanging => "putting the new data in place",
        Phase::Serving => "the restored etcd runs alone, not decided",
        Phase::InDoubt => "verified; the decision is not known here",
        Phase::Leaving => "putting the old data back",
        Phase::Obeying(Verdict::Commit) => "committed; starting everything",
        Phase::Obeying(Verdict::Rollback) => "rolled back; putting the old data back",
        Phase::Over(Outcome::Committed) => "restored",
        Phase::Over(Outcome::RolledBack) => "not restored; the old data is in place",
    }
}
