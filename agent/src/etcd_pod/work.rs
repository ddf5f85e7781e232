//! What the supervisor does before and beside etcd: restores, rejoins, tidies up after them. Everything it says goes to the
//! log of etcd's container.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::command_file::{self, Found};
use super::settings::Settings;
use crate::etcd::client::MemberClient;
use crate::etcd::status::fetch_member;
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::tools::{Minor, ask_version};
use crate::rejoin::decision::own_entry;
use crate::rejoin::journal::{Journal, given_endpoints, remove_all};
use crate::rejoin::outcome::{CommandResult, Outcome};
use crate::rejoin::quorum::{self, Quorum};
use crate::rejoin::steps::{self, JoinArguments, Waiting};
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::outcome::{RestoreResult, State};
use crate::restore_engine::perform::{Done, Job, perform};
use crate::restore_engine::stage::Tools;

/// The word in `command`.
pub const REINITIALIZE: &str = "reinitialize";
/// A third of the lock's lease.
const RENEW_EVERY: Duration = Duration::from_secs(40);
/// Of the quota, above which the database is defragmented after a restore that held an alarm.
const FULL_PERCENT: u64 = 80;

/// Says something in the container's log, in a line of its own.
pub fn say(words: &str) {
    tracing::info!("{words}");
}

/// Restores, if that is to be done; blocking work on a thread of its own.
///
/// # Errors
/// It failed.
pub async fn restore(settings: &Settings, stop: &Arc<AtomicBool>) -> Result<Done, RestoreError> {
    let (settings, stop) = (settings.clone(), Arc::clone(stop));
    let work = tokio::task::spawn_blocking(move || {
        let server = settings.line.first().and_then(|etcd| server_version(etcd.as_ref()));
        let tools = Tools { directory: settings.tools_dir.clone(), server };
        perform(&Job { place: &settings.place, tools: &tools, stop: &stop }, &mut say)
    });
    work.await.unwrap_or(Err(RestoreError::Interrupted))
}

/// The version that etcd tells of itself.
fn server_version(etcd: &std::path::Path) -> Option<Minor> {
    ask_version(etcd, &["--version"]).as_deref().and_then(Minor::of_version)
}

/// The command that is there, if it is one. What is refused is answered and taken away here.
pub fn take_command(settings: &Settings) -> bool {
    let path = settings.place.command();
    match command_file::look(&path) {
        Ok(Found::Nothing) => false,
        // What could not be taken away would be done again and again.
        Ok(Found::Reinitialize) if !may_remove(settings) => {
            tracing::warn!(
                "command is not obeyed: etcd's user cannot write in {}, so it could not be taken away; give that directory to it",
                settings.place.volume.display()
            );
            false
        }
        Ok(Found::Reinitialize) => true,
        Ok(Found::Refused { content, words }) => {
            refuse(settings, &content, words);
            false
        }
        Err(error) => {
            tracing::warn!(%error, "the file command cannot be read");
            false
        }
    }
}

fn may_remove(settings: &Settings) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, &settings.place.volume, wanted, AtFlags::EACCESS).is_ok()
}

/// Answers a command that is refused, and takes it away.
fn refuse(settings: &Settings, command: &str, words: String) {
    tracing::warn!("command {command:?} is refused: {words}");
    answer(settings, command, Outcome::Refused, words, Timestamp::now());
    command_file::remove(&settings.place.command());
}

/// Writes `command-result`.
pub fn answer(settings: &Settings, command: &str, outcome: Outcome, words: String, begun: Timestamp) {
    let result = CommandResult::new(command, outcome, words, begun, Timestamp::now());
    if let Err(error) = result.write(&settings.place.command_result()) {
        tracing::error!(%error, "command-result cannot be written");
    }
}

/// Ways to the other members: what flags, a journal, the own member and the manifest tell.
pub async fn find_others(settings: &Settings, journal: Option<&Journal>) -> (Quorum, Vec<String>) {
    let mut urls: Vec<String> = journal.map(|journal| journal.endpoints.clone()).unwrap_or_default();
    urls.extend(settings.endpoints.iter().cloned());
    let given = std::fs::read_to_string(given_endpoints(&settings.place)).unwrap_or_default();
    urls.extend(given.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    if let Ok(own) = MemberClient::connect(&settings.own).await
        && let Ok(status) = fetch_member(&own).await
    {
        urls.extend(quorum::client_urls(&status.members, &settings.place.own.peer_urls));
    }
    urls.extend(settings.endpoints_at_rest());
    let mut seen = std::collections::BTreeSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    (Quorum::new(&settings.own, urls.clone()), urls)
}

/// Decides on a command while etcd still runs, or would not run. Nothing is changed where it is refused.
pub async fn begin_rejoin(settings: &Settings) -> Option<Journal> {
    let begun = Timestamp::now();
    say("command reinitialize: asking the other members");
    let (others, urls) = find_others(settings, None).await;
    match steps::decide(&settings.place, &others, &urls, &say).await {
        Ok(journal) => {
            say("the other members can do without this one; it leaves and comes back without data");
            let words = "the member leaves the cluster and joins it again".to_owned();
            answer(settings, REINITIALIZE, Outcome::Running, words, journal.begun);
            if let Ok(own) = MemberClient::connect(&settings.own).await {
                steps::hand_on_lead(&own).await;
            }
            Some(journal)
        }
        Err(words) => {
            tracing::warn!("command reinitialize is refused, nothing was changed: {words}");
            answer(settings, REINITIALIZE, Outcome::Refused, words, begun);
            command_file::remove(&settings.place.command());
            None
        }
    }
}

/// How far a member came on its way out and back.
pub enum Joined {
    /// etcd is to be started to join.
    Ready(Box<Journal>, JoinArguments),
    /// The run is over; the old data is started again.
    Ended,
    /// A step did not work and is tried again; the old data must not be started any more.
    Waits(String),
}

/// Takes every step up to the start of etcd; etcd is stopped. Before the member may have left, a failure ends the run and
/// the old data is started again; from then on it is tried until it works, or until a restore takes its place.
pub async fn leave_and_join(settings: &Settings, mut journal: Journal) -> Joined {
    if !journal.is_leaving {
        tokio::time::sleep(steps::GONE_AFTER).await;
    }
    loop {
        let (others, _) = find_others(settings, Some(&journal)).await;
        match steps::take_step(&settings.place, &others, &mut journal).await {
            Ok(None) => {}
            Ok(Some(join)) => return Joined::Ready(Box::new(journal), join),
            Err(words) if !journal.is_leaving => {
                tracing::warn!("reinitialize did not work; the old data is started again: {words}");
                answer(settings, REINITIALIZE, Outcome::Failed, words, journal.begun);
                steps::give_up_lock(&settings.place, &others, &journal).await;
                forget(settings);
                return Joined::Ended;
            }
            Err(words) => {
                let words = format!("reinitialize waits, and the old data must not be started any more: {words}");
                answer(settings, REINITIALIZE, Outcome::Running, words.clone(), journal.begun);
                return Joined::Waits(words);
            }
        }
    }
}

/// Follows the member until it votes with the content of the others; then everything of the run is taken away.
///
/// # Errors
/// It runs in another cluster and must be stopped.
pub async fn settle_rejoin(settings: &Settings, journal: Journal) -> Result<(), String> {
    let mut said = String::new();
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(own) = MemberClient::connect(&settings.own).await else { continue };
        let (others, _) = find_others(settings, Some(&journal)).await;
        if renewed.elapsed() > RENEW_EVERY {
            steps::renew_lock(&settings.place, &others, &journal).await;
            renewed = Instant::now();
        }
        match steps::settle(&settings.place, &others, &own, &journal).await? {
            Waiting::For(words) => {
                if words != said {
                    say(&words);
                    said = words;
                }
            }
            Waiting::Nothing { id } => {
                let done = Journal { done: Some(id.to_string()), ..journal.clone() };
                if let Err(error) = done.write(&settings.place) {
                    tracing::error!(%error, "the journal cannot be written");
                    continue;
                }
                crash_point(CrashPoint::RejoinDone);
                conclude(settings, &done);
                return Ok(());
            }
        }
    }
}

/// Says that a run is done, and takes everything of it away.
pub fn conclude(settings: &Settings, journal: &Journal) {
    let id = journal.done.as_deref().unwrap_or("a new member");
    let words = format!("the member votes again as {id}, with the content of the others");
    say(&words);
    answer(settings, REINITIALIZE, Outcome::Done, words, journal.begun);
    forget(settings);
}

/// Takes command and journal away, in this order: a kill between the two begins nothing anew.
pub fn forget(settings: &Settings) {
    command_file::remove(&settings.place.command());
    if let Err(error) = remove_all(&settings.place) {
        tracing::error!(%error, "what is left of reinitialize cannot be removed");
    }
}

/// After a restore, once etcd serves: takes back the alarm NOSPACE that the snapshot may hold, and says so.
pub async fn settle_restore(settings: &Settings) {
    let path = settings.place.result();
    let Ok(Some(mut result)) = RestoreResult::read(&path) else { return };
    if result.state != State::Restored || result.after_start.is_some() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(words) = try_settle_restore(settings).await {
            say(&words);
            result.after_start = Some(words);
            if let Err(error) = result.write(&path) {
                tracing::error!(%error, "restore-result cannot be written");
            }
            return;
        }
    }
}

async fn try_settle_restore(settings: &Settings) -> Option<String> {
    let own = MemberClient::connect(&settings.own).await.ok()?;
    let status = fetch_member(&own).await.ok().filter(|status| status.has_leader())?;
    own_entry(&status.members, &settings.place.own.peer_urls)?;
    if status.alarms.iter().all(|alarm| alarm.kind != "NOSPACE") {
        return Some("etcd serves; no alarm is raised".to_owned());
    }
    // Taken back in vain while the file itself is at the quota.
    let is_full = status.quota.is_some_and(|quota| status.db_size > quota / 100 * FULL_PERCENT);
    if is_full {
        let defragmented = tokio::time::timeout(Duration::from_secs(120), own.inner().defragment()).await;
        if !matches!(defragmented, Ok(Ok(_))) {
            return None;
        }
    }
    let taken = quorum::disarm_nospace(&own).await.ok()?;
    let how = if is_full { ", after a defragmentation" } else { "" };
    Some(format!("etcd serves; {taken} alarms NOSPACE of the snapshot were taken back{how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd_pod::settings::tests::settings;

    #[test]
    fn an_unknown_command_is_answered_taken_away_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let volume = format!("--volume={}", dir.path().display());
        let data = format!("--data-dir={}/data", dir.path().display());
        let urls = ["--initial-advertise-peer-urls=https://a:2380", "--listen-client-urls=http://127.0.0.1:2379"];
        let settings = settings(&[&volume, "--", "etcd", "--name=m0", &data, urls[0], urls[1]]).unwrap();
        std::fs::write(settings.place.command(), "defragment\n").unwrap();
        assert!(!take_command(&settings));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["command-result"]);
        let result = CommandResult::read(&settings.place.command_result()).unwrap().unwrap();
        assert_eq!((result.outcome, result.command.as_str()), (Outcome::Refused, "defragment"));
        std::fs::write(settings.place.command(), "reinitialize\n").unwrap();
        assert!(take_command(&settings) && settings.place.command().exists());
    }
}
