//! `restore start`: shows the plan; with its approval code, writes the order, seals it here and starts the executor.

use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_crds::order::{OrderedMember, OrderedSafety, OrderedTimeouts, RestoreId};
use lifeboat_crds::signing::SignatureState;
use lifeboat_executor::{Draft, StartError, Started, find_restores, start};
use lifeboat_protocol::start::Refusal;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::follow::follow;
use super::plan::{Choices, Facts, NAMESPACE, Plan, plan};
use crate::archives::file::LocationFile;
use crate::archives::{ArchivePlace, Shelf, Unlock};
use crate::host::highest_revision::HighestRevision;
use crate::keyring::Keyring;
use crate::node_cli::{Format, fetch_cluster_uid, parse_member, print};
use crate::restore_engine::identity::read_cluster_uids;
use crate::restore_engine::order::OrderMember;
use crate::restores::request::{keep_request, request_of_host};
use crate::restoring::RestoringError;
use crate::restoring::code::JoinCode;
use crate::restoring::keys::{HostRestoreKeys, draw_key};
use crate::restoring::launch::launch;
use crate::restoring::reach::{Reach, read_identity};
use crate::restoring::sealing::{look_at_etcd, placed_cluster, refuse_while_something_waits, seal_here};
use crate::restoring::site::{Site, SiteArguments, find_site};
use crate::restoring::standing::standing_of;

/// Attempts of one node that are looked through for one that is free.
const MOST_ATTEMPTS: i32 = 10_000;

/// Flags of `restore start`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["backup", "latest"]))]
pub struct StartArguments {
    /// The backup: its backupId, or the name of its EtcdBackup.
    backup: Option<String>,
    /// The newest backup in the location.
    #[arg(long)]
    latest: bool,
    /// Begin it: the code of the plan, as this command shows it without --approve. A plan that has changed has another one.
    #[arg(long, value_name = "CODE")]
    approve: Option<String>,
    /// Where the backup is, and where the masters meet.
    #[command(flatten)]
    place: ArchivePlace,
    /// What opens it.
    #[command(flatten)]
    unlock: Unlock,
    /// SHA-256 of a snapshot whose manifest no known key signed, to restore it all the same.
    #[arg(long, value_name = "SHA256")]
    trust: Option<String>,
    /// A member of the cluster, where etcd does not serve and the backup's list is not right; once for each master.
    #[arg(long = "member", value_name = "NAME=PEERURL", value_parser = parse_member)]
    members: Vec<OrderMember>,
    /// A master that is destroyed, or will be wiped before it is powered on; may be given several times.
    #[arg(long, value_name = "NAME")]
    lost: Vec<String>,
    /// The lost masters are a quorum. If they come back unwiped while nobody reaches them or the location, two clusters run.
    #[arg(long, requires = "lost")]
    acknowledge_lost_quorum: bool,
    /// Backup of the state about to be replaced. Without it: required where etcd serves here, else skipped.
    #[arg(long, value_enum)]
    safety: Option<SafetyChoice>,
    /// Wait, once all masters agree, until `lifeboat restore release` was said on each: restore your volumes then.
    #[arg(long)]
    hold_before_release: bool,
    /// Longest staging, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(i64).range(60..=86_400))]
    stage_seconds: i64,
    /// Longest time without API before the old data is put back, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(i64).range(60..=86_400))]
    outage_seconds: i64,
    /// Every API server of this cluster uses the etcd of its own master only. Then etcd starts once instead of twice.
    #[arg(long)]
    loopback_api_servers: bool,
    /// Do not watch it to its end.
    #[arg(long, requires = "approve")]
    detach: bool,
    /// Form of the plan.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Whether the state about to be replaced is backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SafetyChoice {
    /// No restore without it.
    Required,
    /// Tried once.
    BestEffort,
    /// Not taken.
    Skipped,
}

/// The plan for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    approval_code: &'a str,
    backup_id: String,
    revision: i64,
    age_seconds: i64,
    lost_revisions: Option<i64>,
    members: Vec<String>,
    lost: Vec<String>,
    bump_to: i64,
    blockers: &'a [String],
    warnings: &'a [String],
}

/// Plans, and with an approval begins.
///
/// # Errors
/// It is refused, does not work, or the old data was put back.
pub async fn run(
    arguments: StartArguments,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoringError> {
    let site = find_site(arguments.site.clone()).await?;
    refuse_while_something_waits(&site)?;
    let wanted = arguments.backup.as_deref().unwrap_or("latest");
    let (shelf, found) = Shelf::open_wanted(&arguments.place, wanted, cancel).await?;
    let newest = shelf.newest_of_all().await?;
    let live = look_at_etcd(&site).await;
    let is_trusted = arguments.trust.as_ref() == Some(&found.manifest.snapshot.sha256);
    let uids = cluster_uids(&site, live.is_some()).await;
    let own = site.name.clone();
    let facts = Facts {
        own: &own,
        live: live.as_ref(),
        live_revision: live.as_ref().map(|status| status.revision),
        highest_seen: HighestRevision::load(&site.node.state_dir).ok().and_then(|highest| highest.get()),
        placed_cluster: placed_cluster(&site)?,
        cluster_uids: &uids,
        manifest: &found.manifest,
        is_signed: matches!(found.signature, SignatureState::Valid(_)),
        highest_in_location: newest.and_then(|newest| newest.manifest.snapshot.highest_revision_seen),
        now: Timestamp::now(),
    };
    let choices = choices_of(&arguments, is_trusted);
    let token = hex::encode(rand::random::<[u8; 16]>());
    let mut attempt = free_attempt(&site, &found.manifest.snapshot.sha256)?;
    let planned = plan(&choices, &facts, attempt, &token);
    let Some(approved) = &arguments.approve else { return show(&planned, arguments.output, out) };
    check_approval(&planned, approved)?;
    let keyring = Keyring::of_host(&site.node.state_dir).current().await;
    let keys = HostRestoreKeys { lifeboat: site.lifeboat(), entered: None, signer: keyring.signer.clone() };
    let mut order = planned.order;
    let started = loop {
        let draft = Draft { key: draw_key(keyring.signer.as_ref(), &order), order: order.clone() };
        let begun =
            start(&site.lifeboat(), &shelf.store, &draft, keyring.signer.as_ref(), (&keyring.known, &keys)).await;
        match begun {
            // The same numbers were used on a master whose disk is gone.
            Err(StartError::Refused(Refusal::AlreadyRan)) if attempt < MOST_ATTEMPTS => {
                attempt += 1;
                order = plan(&choices, &facts, attempt, &token).order;
            }
            Err(error) => return Err(error.into()),
            Ok(started) => break started,
        }
    };
    begin(&arguments, &site, started, &shelf, out, cancel).await
}

async fn begin(
    arguments: &StartArguments,
    site: &Site,
    started: Started,
    shelf: &Shelf,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoringError> {
    let Started { restore_id, digest, slot: _, key } = &started;
    let code = JoinCode { key: key.clone(), digest: digest.clone() };
    let shown = code.reveal();
    let location = LocationFile::read(arguments.place.location())?;
    let sealed = seal_here(site, (&shelf.store, &shelf.cluster), Some(code)).await?;
    if sealed != *restore_id {
        return Err(RestoringError::Failed("another restore took the slot: see `lifeboat restore status`".to_owned()));
    }
    let directory = site.restore(restore_id);
    keep_request(&directory, &request_of_host(&directory.read_order_alone()?, &location.name()))?;
    // Only now: what nobody carries out must leave no private key behind.
    let reach = Reach::of(&site.node.state_dir, restore_id);
    let identity = read_identity(arguments.unlock.path())?;
    reach.keep(&location.portable(arguments.place.keys())?, None, identity, &site.data_dir)?;
    writeln!(
        out,
        "restore {restore_id} is ordered. On every other master, within {} s:\n\n  lifeboat restore join --location FILE --code {}\n\n\
         Keep the code to yourself: whoever has it speaks for this restore. Nothing is stopped before all have staged.",
        arguments.stage_seconds, *shown
    )?;
    out.flush()?;
    launch(site, restore_id).await?;
    if arguments.detach { Ok(()) } else { follow(site, restore_id, out, cancel).await }
}

fn choices_of(arguments: &StartArguments, is_trusted: bool) -> Choices {
    Choices {
        members: arguments.members.clone(),
        lost: arguments.lost.clone(),
        lost_quorum_acknowledged: arguments.acknowledge_lost_quorum,
        safety: arguments.safety.map(|choice| match choice {
            SafetyChoice::Required => OrderedSafety::Required,
            SafetyChoice::BestEffort => OrderedSafety::BestEffort,
            SafetyChoice::Skipped => OrderedSafety::Skipped,
        }),
        hold_before_release: arguments.hold_before_release,
        timeouts: OrderedTimeouts { stage_seconds: arguments.stage_seconds, outage_seconds: arguments.outage_seconds },
        loopback_api_servers: arguments.loopback_api_servers,
        is_trusted,
    }
}

fn show(plan: &Plan, output: Format, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let order = &plan.order;
    let code = &order.request.approval_code;
    let names = |members: &'_ [OrderedMember]| members.iter().map(|member| member.name.clone()).collect();
    let shown = Shown {
        approval_code: code,
        backup_id: order.backup.backup_id.to_string(),
        revision: order.backup.revision,
        age_seconds: plan.age.as_secs(),
        lost_revisions: plan.lost_revisions,
        members: names(&order.members),
        lost: names(&order.lost),
        bump_to: order.bump_to,
        blockers: &plan.blockers,
        warnings: &plan.warnings,
    };
    let next = if plan.blockers.is_empty() {
        format!("\nNothing was changed. To begin, say the same with: --approve {code}\n")
    } else {
        "\nNothing was changed, and nothing can be begun.\n".to_owned()
    };
    print(out, output, &(plan.words() + &next), &shown)?;
    if plan.blockers.is_empty() { Ok(()) } else { Err(RestoringError::Refused(plan.blockers.join("; "))) }
}

fn check_approval(plan: &Plan, approved: &str) -> Result<(), RestoringError> {
    if !plan.blockers.is_empty() {
        return Err(RestoringError::Refused(plan.blockers.join("; ")));
    }
    let code = &plan.order.request.approval_code;
    if code != approved.trim() {
        return Err(RestoringError::Refused(format!(
            "{} is not the code of this plan: it has changed, or other flags were given. Look at it again without --approve",
            approved.trim()
        )));
    }
    Ok(())
}

/// The lowest attempt that has not ended here: one that was cut off goes on.
fn free_attempt(site: &Site, sha256: &str) -> Result<i32, RestoringError> {
    let here = find_restores(&site.lifeboat())?;
    for attempt in 1..MOST_ATTEMPTS {
        let id = RestoreId::new(NAMESPACE, site.name.as_str(), attempt, sha256);
        match here.iter().find(|(known, _)| *known == id) {
            None => return Ok(attempt),
            Some((_, directory)) if standing_of(directory, &id)?.outcome.is_none() => {
                return Err(RestoringError::Refused(format!(
                    "restore {id} is under way on this master: see `lifeboat restore status`; if its executor does not run, \
                     `lifeboat restore join` starts it again"
                )));
            }
            Some(_) => {}
        }
    }
    Err(RestoringError::Refused("this master restored too often".to_owned()))
}

async fn cluster_uids(site: &Site, serves: bool) -> Vec<String> {
    if serves
        && let Ok(client) = site.node.client().await
        && let Ok(uid) = fetch_cluster_uid(&client).await
    {
        return vec![uid];
    }
    let database: PathBuf = site.place.database();
    let read = tokio::task::spawn_blocking(move || read_cluster_uids(&database)).await;
    read.ok().and_then(Result::ok).map(|uids| uids.into_iter().collect()).unwrap_or_default()
}
