//! `lifeboat backup retention`: what a policy would keep and let go in a location, by the operator's own decider. Deletes
//! only with `--apply`.

use std::collections::BTreeSet;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_crds::BackupId;
use lifeboat_crds::backup::{ExpiryDecision, VerificationLevel};
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::schedule::Retention;
use lifeboat_crds::signing::SignatureState;
use lifeboat_decisions::LARGEST_SKEW;
use lifeboat_decisions::retention::{Holding, Judged, NewestRun, Verdict, Why, Worth, judge_archives, scheduled_run};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::right::{Right, confirm};
use super::shelf::{Found, Shelf};
use super::shown::{Format, write_table, write_value};
use super::{ArchiveError, Place, until_closed};
use crate::catalog::listing::Listed;
use crate::keeping::{Deletion, delete_archive};
use crate::manifest::FoundManifest;

/// A policy, and where it is looked at.
#[derive(Debug, clap::Args)]
pub struct RetentionArguments {
    /// Where.
    #[command(flatten)]
    place: Place,
    /// The policy.
    #[command(flatten)]
    policy: Policy,
    /// Only archives of this schedule; without it each schedule's are judged apart. Those made by hand always stay.
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// Zone in which days, weeks, months and years begin.
    #[arg(long, value_name = "ZONE", default_value = "Etc/UTC")]
    time_zone: String,
    /// Delete what the policy lets go. Without it nothing is changed.
    #[arg(long)]
    apply: bool,
    /// Delete without asking.
    #[arg(long, requires = "apply")]
    yes: bool,
    /// By what right.
    #[command(flatten)]
    right: Right,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is kept; as in spec.retention of a schedule, but nothing by default.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Policy {
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_last: i32,
    /// The newest of so many hours.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_hourly: i32,
    /// The newest of so many days.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_daily: i32,
    /// The newest of so many weeks.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_weekly: i32,
    /// The newest of so many months.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_monthly: i32,
    /// The newest of so many years.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=10_000))]
    keep_yearly: i32,
    /// Nothing older than this, days, whatever the other rules say.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(1..=36_500))]
    max_age_days: Option<i32>,
    /// So many verified archives are never let go.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    minimum_healthy: i32,
}

impl Policy {
    fn into_retention(self) -> Retention {
        let Self {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            max_age_days,
            minimum_healthy,
        } = self;
        Retention {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            max_age_days,
            minimum_healthy,
        }
    }
}

/// One archive, judged.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    backup_id: BackupId,
    name: String,
    schedule: Option<String>,
    snapshot_of: String,
    decision: ExpiryDecision,
    reasons: Vec<String>,
}

/// Shows what a policy keeps, and carries it out where asked to.
///
/// # Errors
/// The location cannot be read whole, or not everything that was to go went.
pub async fn run_retention(
    arguments: RetentionArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    let RetentionArguments { place, policy, schedule, time_zone, apply, yes, right, output } = arguments;
    let zone = TimeZone::get(&time_zone)
        .map_err(|_| ArchiveError::Refused(format!("{time_zone:?} is no time zone: use an IANA name")))?;
    let shelf = Shelf::open(&place, cancel).await?;
    if apply {
        right.check(&shelf).await?;
    }
    let archives = survey(&shelf).await?;
    if let Some(wanted) = &schedule {
        refuse_unknown(wanted, &archives)?;
    }
    let mut rows = judge(archives, &policy.into_retention(), &zone, schedule.as_deref(), Timestamp::now());
    // The newest snapshot first, as `lifeboat backup list` does.
    rows.sort_by(|one, other| (&other.snapshot_of, &other.backup_id).cmp(&(&one.snapshot_of, &one.backup_id)));
    let written = write_rows(out, output, &rows);
    if !apply {
        return until_closed(written);
    }
    written?;
    let mut going: Vec<Row> = rows.into_iter().filter(|row| row.decision == ExpiryDecision::Expire).collect();
    if going.is_empty() {
        return Ok(());
    }
    let question = format!("Delete {} archives from {} for good?", going.len(), shelf.store.describe());
    confirm(out, yes, &question, cancel).await?;
    // The oldest first.
    going.reverse();
    carry_out(&shelf, going, out, output).await
}

async fn carry_out(
    shelf: &Shelf,
    going: Vec<Row>,
    out: &mut (dyn Write + Send),
    output: Format,
) -> Result<(), ArchiveError> {
    let mut stayed = Vec::new();
    let (all, mut tried) = (going.len(), 0);
    for row in going {
        if shelf.cancel.is_cancelled() {
            stayed.push(format!("told to end: {} of {all} were not begun", all - tried));
            break;
        }
        tried += 1;
        let by = "lifeboat backup retention".to_owned();
        let deletion = Deletion { by, reasons: row.reasons, now: Timestamp::now() };
        match delete_archive(&shelf.place_of(&row.backup_id), &deletion).await {
            Ok(()) if output == Format::Table => writeln!(out, "{} was deleted", row.backup_id)?,
            Ok(()) => {}
            Err(error) => stayed.push(format!("{}: {error}", row.backup_id)),
        }
    }
    if stayed.is_empty() { Ok(()) } else { Err(ArchiveError::NotDeleted(stayed.join("\n"))) }
}

/// An archive as it lies there.
struct Archive {
    manifest: Manifest,
    pin: Option<String>,
    /// Size of the data that the manifest names.
    stored: Option<u64>,
    /// Why nobody may count on it, as far as marks and signatures say.
    doubt: Option<String>,
    /// Why nothing may be deleted.
    hold: Option<String>,
}

/// Everything that lies there: one listing, then manifests and pins.
async fn survey(shelf: &Shelf) -> Result<Vec<Archive>, ArchiveError> {
    let found = shelf.read(shelf.listed().await?).await?;
    let before = Timestamp::now();
    let theirs = shelf.store.server_time().await?.unwrap_or(before);
    let is_skewed = theirs.duration_since(before).abs() > LARGEST_SKEW;
    let hold = is_skewed.then(|| "the clocks of the store and of this host differ by more than 5 minutes".to_owned());
    let mut archives = Vec::with_capacity(found.len());
    for Found { listed, manifest: found } in found {
        let pin = if listed.is_pinned { shelf.place_of(&listed.id).pin().await? } else { None };
        archives.push(Archive {
            pin: pin.map(|pin| pin.reason),
            stored: listed.size_of(&found.manifest.data),
            doubt: doubt_of(&listed, &found, &shelf.cluster),
            hold: hold.clone(),
            manifest: found.manifest,
        });
    }
    Ok(archives)
}

/// Why an archive may be worth nothing: as with the operator, which counts no altered manifest and no other cluster's, and
/// nothing that is being deleted.
fn doubt_of(listed: &Listed, found: &FoundManifest, cluster: &str) -> Option<String> {
    let FoundManifest { manifest, signature } = found;
    let words = match signature {
        SignatureState::Invalid => "its manifest was altered",
        SignatureState::Valid(_) | SignatureState::Unknown(_) | SignatureState::Unsigned => {
            if manifest.cluster.uid != cluster {
                "its manifest is of another cluster"
            } else if listed.is_expired {
                "it was given up, and its deletion is not finished"
            } else {
                return None;
            }
        }
    };
    Some(words.to_owned())
}

fn schedule_of(archive: &Archive) -> Option<String> {
    scheduled_run(&archive.manifest.object).map(|run| run.schedule.to_owned())
}

/// A typo in the name of a schedule would look like a schedule of which all is kept.
fn refuse_unknown(wanted: &str, archives: &[Archive]) -> Result<(), ArchiveError> {
    let known: BTreeSet<String> = archives.iter().filter_map(schedule_of).collect();
    if known.contains(wanted) {
        return Ok(());
    }
    let known = if known.is_empty() { "none".to_owned() } else { Vec::from_iter(known).join(", ") };
    Err(ArchiveError::Refused(format!("no archive here is of a schedule {wanted:?}; schedules with archives: {known}")))
}

/// Judges archives, those of each schedule apart.
fn judge(archives: Vec<Archive>, policy: &Retention, zone: &TimeZone, only: Option<&str>, now: Timestamp) -> Vec<Row> {
    let schedules: BTreeSet<Option<String>> = archives.iter().map(schedule_of).collect();
    let mut rows = Vec::new();
    let mut rest = archives;
    for schedule in schedules {
        let (own, others): (Vec<Archive>, Vec<Archive>) =
            rest.into_iter().partition(|archive| schedule_of(archive) == schedule);
        rest = others;
        let verdicts = match &schedule {
            Some(name) if only.is_none_or(|only| only == name) => {
                let holdings: Vec<Holding> = own.iter().map(holding).collect();
                // Runs that failed leave no archive: whether the newest did is not to be seen here.
                let judged = Judged { holdings: &holdings, policy, zone, newest_run: NewestRun::NotFailed };
                judge_archives(&judged, now)
            }
            Some(_) | None if only.is_some() => continue,
            Some(_) | None => own.iter().map(|_| by_hand()).collect(),
        };
        rows.extend(own.into_iter().zip(verdicts).map(|(archive, verdict)| row(archive, verdict)));
    }
    rows
}

fn by_hand() -> Verdict {
    let why = "made by hand: no policy lets it go".to_owned();
    Verdict { decision: ExpiryDecision::Keep, reasons: vec![Why::NotCounted(why)] }
}

fn holding(archive: &Archive) -> Holding {
    let Archive { manifest, pin, stored, doubt, hold } = archive;
    let asked = manifest.object.spec.verification.min(VerificationLevel::Content);
    let level = manifest.verification.level;
    let worth = match stored {
        None => Worth::NotCounted("its data is gone".to_owned()),
        Some(size) if i64::try_from(*size) != Ok(manifest.archive.size_bytes) => {
            Worth::NotCounted("its data has another size than was written".to_owned())
        }
        Some(_) if level < asked => Worth::NotCounted(format!("verified at level {} only", level.as_str())),
        Some(_) => doubt.clone().map_or(Worth::Good, Worth::NotCounted),
    };
    Holding {
        name: manifest.object.name.clone(),
        slot: scheduled_run(&manifest.object).map_or(manifest.start_time, |run| run.slot),
        worth,
        pin: pin.clone(),
        hold: hold.clone(),
    }
}

fn row(archive: Archive, verdict: Verdict) -> Row {
    let Archive { manifest, pin: _, stored: _, doubt: _, hold: _ } = archive;
    Row {
        backup_id: manifest.backup_id.clone(),
        name: manifest.object.name.clone(),
        schedule: scheduled_run(&manifest.object).map(|run| run.schedule.to_owned()),
        snapshot_of: manifest.start_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        decision: verdict.decision,
        reasons: verdict.reasons.iter().map(Why::ranked).collect(),
    }
}

fn write_rows(out: &mut (dyn Write + Send), output: Format, rows: &[Row]) -> std::io::Result<()> {
    match output {
        Format::Json | Format::Yaml => write_value(out, output, &rows),
        Format::Table => {
            let mut table = vec![["BACKUP", "SCHEDULE", "SNAPSHOT OF", "DECISION", "REASONS"].map(str::to_owned)];
            table.extend(rows.iter().map(|row| {
                let decision = match row.decision {
                    ExpiryDecision::Keep => "Keep",
                    ExpiryDecision::Expire => "Expire",
                };
                [
                    row.backup_id.to_string(),
                    row.schedule.clone().unwrap_or_else(|| "-".to_owned()),
                    row.snapshot_of.clone(),
                    decision.to_owned(),
                    row.reasons.join(", "),
                ]
            }));
            write_table(out, &table)
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
