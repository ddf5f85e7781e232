//! One restore of this node from beginning to end: what `etcd-pod` does at etcd's start, and `etcd restore --perform`.
//!
//! Until the exchange is written down, every failure leaves the old data in place and `restore.db` renamed to
//! `restore.db.failed`, which holds etcd until a human decides. From then on the way is forward only.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::decision::{Next, Seen, decide_next, decide_tool};
use super::error::RestoreError;
use super::exchange::{self, Journal};
use super::identity::read_wal_head;
use super::layout::{PRIVATE, Place, RestoreDirectory, RestoreId};
use super::order::{Order, OrderDocument, short_code};
use super::outcome::{RestoreResult, State};
use super::proof::prove_snapshot;
use super::stage::{Staging, Tools, stage};
use super::standstill::{Lock, check_no_open_files, lock_database, lock_node};
use crate::etcd::status::ClusterId;
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::crashsafe::{self, sync_directory};
use crate::host::tools::find_restore_tool;
use crate::rejoin::journal::{Journal as RejoinJournal, old_wal_data};
use crate::rejoin::outcome::{CommandResult, Outcome};

/// What a restore needs to know.
#[derive(Debug)]
pub struct Job<'j> {
    /// etcd's directories.
    pub place: &'j Place,
    /// Tools and versions.
    pub tools: &'j Tools,
    /// Set to give up, as long as that is possible.
    pub stop: &'j AtomicBool,
}

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// There was nothing to do.
    Nothing,
    /// A restore that failed holds etcd.
    Held,
    /// The data is the ordered one.
    Restored {
        /// What became of it.
        result: Box<RestoreResult>,
        /// The lock of the old data, which nothing must start on.
        old: Option<Lock>,
    },
}

/// Reads an order.
///
/// # Errors
/// It is missing or unreadable.
pub fn read_order(path: &Path) -> Result<Order, RestoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RestoreError::NoOrder(path.with_extension("")));
        }
        Err(error) => return Err(RestoreError::disk("read", path)(error)),
    };
    let bad = |source| RestoreError::BadOrder { path: path.to_owned(), source };
    Ok(OrderDocument::from_bytes(&bytes).map_err(bad)?.payload)
}

/// The digest of an order.
///
/// # Errors
/// Never for an order that was read.
pub fn digest_of(order: &Order, path: &Path) -> Result<String, RestoreError> {
    order.digest().map_err(|source| RestoreError::BadOrder { path: path.to_owned(), source })
}

/// The cluster that the data belongs to.
///
/// # Errors
/// The disk.
pub fn live_cluster(place: &Place) -> Result<Option<ClusterId>, RestoreError> {
    let wal = place.wal();
    let head = read_wal_head(&wal).map_err(RestoreError::disk("read", &wal))?;
    Ok(head.map(|head| ClusterId(head.cluster_id)))
}

/// Looks at the volume and decides.
///
/// # Errors
/// Something cannot be read; then nothing may be started.
pub fn look(place: &Place) -> Result<Next, RestoreError> {
    let order = read_order(&place.order()).ok();
    Ok(decide_next(&Seen {
        has_file: exists(&place.restore_db())?,
        has_failed: exists(&place.failed())?,
        ordered: order.as_ref().map(Order::cluster_id),
        live: live_cluster(place)?,
        is_swapping: exchange::find_unfinished(place)?.is_some(),
    }))
}

fn exists(path: &Path) -> Result<bool, RestoreError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(RestoreError::disk("looked at", path)(error)),
    }
}

/// Does what is to be done before etcd may start.
///
/// # Errors
/// As [`perform_locked`], and somebody else is at work on this node.
pub fn perform(job: &Job<'_>, say: &mut dyn FnMut(&str)) -> Result<Done, RestoreError> {
    // Most starts have nothing to do, and need no lock that could fail them.
    if look(job.place)? == Next::Start {
        forget_order(job.place)?;
        return Ok(Done::Nothing);
    }
    let node = lock_node(job.place)?;
    perform_locked(job, &node, say)
}

/// The same for who holds the lock of this node.
///
/// # Errors
/// The restore failed. Unless the exchange was begun the old data is untouched and `restore.db` is renamed, except where it
/// was only interrupted.
pub fn perform_locked(job: &Job<'_>, _node: &Lock, say: &mut dyn FnMut(&str)) -> Result<Done, RestoreError> {
    let place = job.place;
    // Under the lock: whoever held it before may have taken back what was there.
    match look(place)? {
        Next::Start => {
            forget_order(place)?;
            Ok(Done::Nothing)
        }
        Next::Hold => Ok(Done::Held),
        Next::TidyUp => {
            let order = read_order(&place.order())?;
            say("the data is already that of the order; nothing is restored again");
            tidy_up(place, &order, None)
        }
        Next::EndSwap => end_swap(place, say),
        Next::Perform => match prepare(job, say) {
            Ok(prepared) => swap_in(place, prepared, say),
            Err(RestoreError::Interrupted) => Err(RestoreError::Interrupted),
            Err(error) => {
                if exchange::find_unfinished(place)?.is_none() {
                    give_up(place, &error);
                }
                Err(error)
            }
        },
    }
}

/// A kill between removing the file and its order leaves the order; one that is being staged is another's.
fn forget_order(place: &Place) -> Result<(), RestoreError> {
    match read_order(&place.order()) {
        Ok(order) if live_cluster(place)? == Some(order.cluster_id()) => Ok(crashsafe::remove(&place.order())?),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// New data that is whole, and written down to be exchanged.
struct Prepared {
    order: Order,
    id: RestoreId,
    journal: Journal,
    /// Of both databases: nothing must start on either in between.
    old: Option<Lock>,
    new: Option<Lock>,
}

/// Proves, stages, and writes down that the data is about to be exchanged.
fn prepare(job: &Job<'_>, say: &mut dyn FnMut(&str)) -> Result<Prepared, RestoreError> {
    let Job { place, tools, stop } = job;
    let file = place.restore_db();
    if !file.symlink_metadata().map_err(RestoreError::disk("looked at", &file))?.is_file() {
        return Err(RestoreError::Layout(format!("{} is no regular file", file.display())));
    }
    let order = read_order(&place.order())?;
    let digest = digest_of(&order, &place.order())?;
    let id = RestoreId::of_digest(&digest);
    if exchange::was_ended(place, &id)? {
        return Err(RestoreError::DoneBefore);
    }
    let directory = place.restore(&id);
    say(&format!("restoring {} by order {}", file.display(), short_code(&digest)));
    result_of(&order, &digest, State::Staging, "the file is being proven and unpacked").write(&place.result())?;
    exchange::check_places(place)?;
    let proven = prove_snapshot(&file, stop, |_| Ok(()))?;
    order.check(&place.own, &proven.sha256)?;
    say(&format!("the file is whole and sound: revision {}", proven.database.revision));
    crash_point(CrashPoint::FileIsProven);
    let minor = decide_tool(order.snapshot.etcd, tools.server).map_err(RestoreError::Version)?;
    let tool = find_restore_tool(&tools.directory, minor).map_err(RestoreError::NoTool)?;
    crashsafe::make_directory(&directory.root, 0o700)?;
    let staging =
        Staging { place, directory: &directory, file: &file, proven: &proven, order: &order, tool: &tool, stop };
    stage(&staging, say)?;
    write_order(&directory.order(), &order)?;
    let old = lock_database(&place.database())?;
    let new = lock_database(&directory.staged_member().join("snap/db"))?;
    check_no_open_files(place)?;
    result_of(&order, &digest, State::Swapping, SWAPPING).write(&place.result())?;
    let journal = exchange::begin(place, &id, &digest, Timestamp::now())?;
    Ok(Prepared { order, id, journal, old, new })
}

/// What is said of a restore from the moment on at which it is written down.
const SWAPPING: &str = "the new data takes the place of the old";

/// Exchanges. An error from here on leaves the journal, by which the next run goes on, unless all was taken back.
fn swap_in(place: &Place, prepared: Prepared, say: &mut dyn FnMut(&str)) -> Result<Done, RestoreError> {
    let Prepared { order, id, journal, old, new } = prepared;
    if let Err(error) = exchange::carry_out(place, &id, &journal) {
        say(&format!("the exchange failed and is taken back: {error}"));
        exchange::take_back(place, &id, &journal)?;
        give_up(place, &error);
        return Err(error);
    }
    exchange::end(place, &id, &journal)?;
    drop(new);
    tidy_up(place, &order, old)
}

/// Ends an exchange that an earlier run began.
fn end_swap(place: &Place, say: &mut dyn FnMut(&str)) -> Result<Done, RestoreError> {
    let Some((id, journal)) = exchange::find_unfinished(place)? else { return Ok(Done::Nothing) };
    say("an exchange of the data was begun and is ended now");
    let order = read_order(&place.restore(&id).order())?;
    // Whichever of the two is in use now: nothing may run on it.
    let _live = lock_database(&place.database())?;
    check_no_open_files(place)?;
    let Journal { order_digest, .. } = &journal;
    result_of(&order, order_digest, State::Swapping, SWAPPING).write(&place.result())?;
    exchange::carry_out(place, &id, &journal)?;
    let old = exchange::end(place, &id, &journal)?;
    drop(_live);
    let lock = match old {
        Some(old) => lock_database(&old.join("member/snap/db"))?,
        None => None,
    };
    tidy_up(place, &order, lock)
}

/// Says what was done and takes the control files away, in an order that a kill at any place does no harm to.
fn tidy_up(place: &Place, order: &Order, old: Option<Lock>) -> Result<Done, RestoreError> {
    let digest = digest_of(order, &place.order())?;
    let id = RestoreId::of_digest(&digest);
    let mut result = result_of(order, &digest, State::Restored, "the data was restored");
    let directory = place.restore(&id);
    let kept = directory.old();
    result.old_data = kept.exists().then(|| kept.strip_prefix(&place.data_dir).unwrap_or(&kept).to_owned());
    let old_wal = directory.old_wal.as_ref().filter(|wal| wal.exists());
    result.old_wal = old_wal.and_then(|wal| wal.file_name()).map(Into::into);
    let earlier = RestoreResult::read(&place.result()).ok().flatten();
    if let Some(earlier) = earlier.filter(|earlier| earlier.order_digest == result.order_digest) {
        result.start_time = earlier.start_time;
    }
    result.completion_time = Some(Timestamp::now());
    result.write(&place.result())?;
    crash_point(CrashPoint::ResultIsWritten);
    void_rejoin(place, &directory)?;
    for path in [place.restore_db(), place.failed()] {
        crashsafe::remove(&path)?;
    }
    crash_point(CrashPoint::FileIsGone);
    crashsafe::remove(&place.order())?;
    sync_directory(&place.volume)?;
    forget_staging(place);
    Ok(Done::Restored { result: Box::new(result), old })
}

/// Room that could not be made changes nothing about how a restore went.
fn forget_staging(place: &Place) {
    if let Err(error) = exchange::forget_unbegun(place) {
        tracing::warn!(%error, "what a restore had staged is still there");
    }
}

/// What was begun in the old cluster is void in the new one: answered, and put among what the restore keeps, because it may
/// hold this member's last data. The journal goes with its directory, in one step.
fn void_rejoin(place: &Place, directory: &RestoreDirectory) -> Result<(), RestoreError> {
    let begun = match RejoinJournal::read(place) {
        Ok(journal) => journal.map(|journal| journal.begun),
        Err(_) => Some(Timestamp::now()),
    };
    if begun.is_some() || place.command().symlink_metadata().is_ok() {
        let now = Timestamp::now();
        let words = "all members were restored from a file, this one too: nothing is left to be done".to_owned();
        let result = CommandResult::new("reinitialize", Outcome::Failed, words, begun.unwrap_or(now), now);
        result.write(&place.command_result())?;
        if let Err(error) = crashsafe::remove(&place.command()) {
            tracing::warn!(%error, "the command is still there");
        }
        sync_directory(&place.volume)?;
    }
    if let (Some(from), Some(to)) = (old_wal_data(place), &directory.old_rejoin_wal) {
        set_aside(&from, to)?;
    }
    set_aside(&place.rejoin_directory(), &directory.old_rejoin())
}

fn set_aside(from: &Path, to: &Path) -> Result<(), RestoreError> {
    if !from.exists() {
        return Ok(());
    }
    crashsafe::make_directory(to.parent().unwrap_or(Path::new("/")), 0o700)?;
    std::fs::rename(from, to).map_err(RestoreError::disk("put aside", from))?;
    crashsafe::sync_parent(to)?;
    Ok(crashsafe::sync_parent(from)?)
}

fn write_order(path: &Path, order: &Order) -> Result<(), RestoreError> {
    let bytes = OrderDocument::unsigned(order.clone())
        .to_bytes()
        .map_err(|source| RestoreError::BadOrder { path: path.to_owned(), source })?;
    Ok(crashsafe::replace(path, &bytes, PRIVATE)?)
}

/// Leaves the old data alone, and a file that holds etcd. The hold comes first and needs no room: a full disk may be why.
fn give_up(place: &Place, error: &RestoreError) {
    let hold = std::fs::rename(place.restore_db(), place.failed())
        .and_then(|()| sync_directory(&place.volume).map_err(io::Error::other));
    if let Err(error) = hold {
        tracing::error!(%error, "restore.db cannot be renamed; it is tried again at the next start");
    }
    let earlier = RestoreResult::read(&place.result()).ok().flatten();
    let now = Timestamp::now();
    let mut result = earlier
        .filter(|earlier| earlier.state == State::Staging || earlier.state == State::Swapping)
        .unwrap_or_else(|| RestoreResult::begun(State::Failed, String::new(), now));
    result.state = State::Failed;
    result.message = error.to_string();
    result.completion_time = Some(now);
    forget_staging(place);
    if let Err(error) = result.write(&place.result()) {
        tracing::error!(%error, "restore-result cannot be written");
    }
}

fn result_of(order: &Order, digest: &str, state: State, message: &str) -> RestoreResult {
    RestoreResult {
        order_digest: Some(digest.to_owned()),
        code: Some(short_code(digest)),
        cluster_id: Some(order.cluster_id().to_string()),
        revision: Some(order.bump_to),
        ..RestoreResult::begun(state, message.to_owned(), Timestamp::now())
    }
}

#[cfg(test)]
mod tests;
