//! `restore status`: the restores of this master, from their journals. Asks nobody.

use std::fmt::Write as _;
use std::io::Write;

use lifeboat_crds::journal::Journal;
use lifeboat_crds::mark::{Outcome, Reason, Verdict};
use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{RestoreDirectory, find_restores, read_journal};
use lifeboat_protocol::{Ledger, Phase};
use serde::Serialize;

use super::RestoreCliError;
use super::humans::Progress;
use super::launch::is_running;
use super::reach::Reach;
use super::site::{Site, SiteArguments, find_site};
use crate::node_cli::{Format, print};

/// Flags of `restore status`.
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

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

/// Shows them.
///
/// # Errors
/// Something cannot be read.
pub async fn run(arguments: StatusArguments, out: &mut (dyn Write + Send)) -> Result<(), RestoreCliError> {
    let StatusArguments { output, site } = arguments;
    let site = find_site(site).await?;
    let all = standings(&site)?;
    let mut words = String::new();
    for standing in &all {
        let Standing { restore_id, phase, why, progress, is_running, backup_id, members, outcome, owes, .. } = standing;
        let _ = writeln!(words, "restore {restore_id}: {phase}");
        if let Some(backup) = backup_id {
            let _ = writeln!(words, "  backup:  {backup}");
        }
        let _ = writeln!(words, "  members: {}", members.join(", "));
        if let Some(Progress { doing, trouble, time }) = progress.as_ref().filter(|_| outcome.is_none()) {
            let _ = writeln!(words, "  now:     {doing} (since {time})");
            if let Some(trouble) = trouble {
                let _ = writeln!(words, "  trouble: {trouble}");
            }
        }
        if let Some(why) = why {
            let _ = writeln!(words, "  why:     {why}");
        }
        match (outcome.is_none(), owes, is_running) {
            (true, _, false) => words.push_str("  NO EXECUTOR RUNS: start it again with `lifeboat restore join`\n"),
            (false, true, false) => words.push_str(
                "  NO EXECUTOR RUNS to tell the others that it ended here: start it again with `lifeboat restore join`\n",
            ),
            (false, true, true) => words.push_str("  the others do not know of it yet: the location has not taken it\n"),
            (true, _, true) | (false, false, _) => {}
        }
    }
    if all.is_empty() {
        words.push_str("no restore was ever sealed on this master\n");
    }
    Ok(print(out, output, &words, &all)?)
}

/// Every restore of this master.
///
/// # Errors
/// Something cannot be read.
pub fn standings(site: &Site) -> Result<Vec<Standing>, RestoreCliError> {
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
pub fn only_open(site: &Site, wanted: Option<&RestoreId>) -> Result<Standing, RestoreCliError> {
    let mut open: Vec<Standing> = standings(site)?
        .into_iter()
        .filter(|standing| standing.outcome.is_none() && wanted.is_none_or(|id| *id == standing.restore_id))
        .collect();
    match (open.pop(), open.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(RestoreCliError::Refused("no such restore is under way on this master".to_owned())),
        (Some(_), false) => {
            Err(RestoreCliError::Refused("several restores are under way here: say which with --restore".to_owned()))
        }
    }
}

/// How one restore stands.
///
/// # Errors
/// Its journal cannot be read.
pub fn standing_of(directory: &RestoreDirectory, id: &RestoreId) -> Result<Standing, RestoreCliError> {
    // Before the journal: one that ends in this moment must not look like one that died.
    let is_running = is_running(directory)?;
    let order = directory.read_order_alone().ok();
    let mut outage_seconds = None;
    let (phase, outcome, why) = match read_journal(&directory.journal())? {
        Some(Ok(Journal::Entries { entries, good: _ })) => {
            let ledger = Ledger::sum(&entries);
            let outcome = ledger.ended;
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
