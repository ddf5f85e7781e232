//! The way of a member out of the cluster and back into it, step by step. Network and disk; what to do is decided in
//! `decision`.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::decision::{Live, Step, check_alarms, check_quorum, decide_step, initial_cluster, own_entry};
use super::journal::{Journal, old_data, old_wal_data, safety};
use super::quorum::{self, Locked, Nonce, Quorum};
use crate::archive::progress::Progress;
use crate::etcd::client::MemberClient;
use crate::etcd::status::{MemberId, fetch_member};
use crate::host::crash_point::{CrashPoint, crash_point};
use crate::host::crashsafe::{self, sync_directory};
use crate::partial_file::PartialError;
use crate::restore_engine::error::RestoreError;
use crate::restore_engine::exchange::{check_wal, inode};
use crate::restore_engine::identity::read_wal_head;
use crate::restore_engine::layout::Place;
use crate::restore_engine::stage::{Owner, check_space};
use crate::restore_engine::standstill::{lock_database, lock_node};
use crate::snapshot_file::{Save, SaveError, prove_member, save_snapshot};

/// etcd counts a member as gone after 5 s (server/etcdserver/server.go, HealthInterval); removed earlier, the others might
/// refuse for the sake of their own quorum.
pub const GONE_AFTER: Duration = Duration::from_secs(6);
/// The snapshot taken before.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(100);

/// Checks that it may be done, takes the lock and a snapshot, and writes down what will be done. Nothing is changed yet.
///
/// # Errors
/// Why it is refused.
pub async fn decide(place: &Place, others: &Quorum, endpoints: &[String], say: &Say) -> Result<Journal, String> {
    let urls = &place.own.peer_urls;
    check_wal(place).map_err(|error| error.to_string())?;
    let observe = async || {
        let cluster = others.observe(urls).await?;
        let own = own_entry(&cluster.members, urls).map(|member| member.id);
        check_quorum(&cluster, own)?;
        check_alarms(&cluster, own)?;
        Ok::<_, String>(cluster)
    };
    observe().await?;
    let client = others.any(urls).await?;
    check_room(place, &client).await?;
    let nonce = Nonce::new(&place.own.name, rand::random());
    match others.lock(&client, &nonce).await.map_err(|error| error.to_string())? {
        Locked::Ours => {}
        Locked::Theirs(holder) => {
            return Err(format!(
                "{holder} is being re-initialised now: one member at a time; try again when that is done"
            ));
        }
    }
    crash_point(CrashPoint::RejoinIsLocked);
    let prepared = async {
        // Again, now that nobody else begins.
        let cluster = observe().await?;
        take_snapshot(place, &client, say).await?;
        let own = own_entry(&cluster.members, urls);
        // One that never started was added by hand, or before a crash: it only has to start.
        let old = own.filter(|member| !member.name.is_empty()).map(|member| member.id);
        let mut journal = Journal::new(cluster.id, old, nonce.clone(), Timestamp::now());
        journal.old_inode = inode(&place.member()).map_err(|error| error.to_string())?;
        journal.old_wal_inode = match &place.wal_dir {
            Some(wal) => inode(wal).map_err(|error| error.to_string())?,
            None => None,
        };
        journal.endpoints = quorum::client_urls(&cluster.members, urls);
        journal.endpoints.extend(endpoints.iter().cloned());
        journal.endpoints.dedup();
        journal.write(place).map_err(|error| error.to_string())?;
        crash_point(CrashPoint::RejoinIsWritten);
        Ok(journal)
    };
    let outcome = prepared.await;
    if outcome.is_err() {
        others.unlock(&client, &nonce).await;
    }
    outcome
}

/// Where words go.
pub type Say = dyn Fn(&str) + Send + Sync;

/// A fresh snapshot of the cluster, proven: with one member away, a second failure costs the quorum.
async fn take_snapshot(place: &Place, client: &MemberClient, say: &Say) -> Result<(), String> {
    let save = Save { transfer: SNAPSHOT_WITHIN, require_leader: true };
    let file = safety(place);
    crashsafe::make_directory(&place.rejoin_directory(), 0o700).map_err(|error| error.to_string())?;
    // Of an earlier run, whose journal is gone.
    let _ = std::fs::remove_file(&file);
    let cancel = tokio_util::sync::CancellationToken::new();
    match save_snapshot(client, save, &file, &Progress::default(), &cancel).await {
        Ok(_) => say(&format!("a snapshot of the cluster is in {} until this is done", file.display())),
        Err(SaveError::File(PartialError::NoSpace { .. })) => {
            prove_member(client, save).await.map_err(|error| error.to_string())?;
            say("the data of the others is sound; there is no room here to keep a snapshot of it");
        }
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// Hands on the lead, if this member has it. Asked while it still runs; a failure costs an election, no more.
pub async fn hand_on_lead(own: &MemberClient) {
    let Ok(status) = fetch_member(own).await else { return };
    let next = status.members.iter().find(|member| member.id != status.member_id && !member.is_learner);
    if let (true, Some(next)) = (status.is_leader(), next) {
        let _ = quorum::move_leader(own, next.id).await;
    }
}

/// How etcd is to be started to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinArguments {
    /// The member it will be.
    pub id: MemberId,
    /// The value of `--initial-cluster`.
    pub initial_cluster: String,
}

/// Takes one step; etcd is stopped. Tells how etcd is to be started once all are taken.
///
/// # Errors
/// The step did not work: words. Whether anything may have been changed is in the journal.
pub async fn take_step(place: &Place, others: &Quorum, journal: &mut Journal) -> Result<Option<JoinArguments>, String> {
    let urls = &place.own.peer_urls;
    let cluster = others.observe(urls).await?;
    if cluster.id.to_string() != journal.cluster_id {
        return Err(format!(
            "the others are cluster {} now, this began in {}: were they restored? then restore this node too",
            cluster.id, journal.cluster_id
        ));
    }
    let own = own_entry(&cluster.members, urls).map(|member| member.id);
    let live = read_live(place, journal).map_err(|error| error.to_string())?;
    let client = others.any(urls).await?;
    match others.lock(&client, &journal.nonce).await {
        Ok(Locked::Ours) => {}
        Ok(Locked::Theirs(holder)) => return Err(format!("{holder} is being re-initialised now")),
        // An alarm may have been raised meanwhile; etcd's own words do not say what to do about it.
        Err(error) => return Err(check_alarms(&cluster, own).err().unwrap_or_else(|| error.to_string())),
    }
    match decide_step(journal.old_id(), own, live) {
        Step::Remove(id) => {
            check_quorum(&cluster, own)?;
            leave(place, journal)?;
            quorum::remove_member(&client, id).await.map_err(|error| error.to_string())?;
            crash_point(CrashPoint::RejoinRemoved);
        }
        Step::Add => {
            check_quorum(&cluster, own)?;
            leave(place, journal)?;
            quorum::add_learner(&client, urls).await.map_err(|error| error.to_string())?;
            crash_point(CrashPoint::RejoinAdded);
        }
        Step::MoveAside => {
            leave(place, journal)?;
            move_aside(place, journal).map_err(|error| error.to_string())?;
            crash_point(CrashPoint::RejoinMovedAside);
        }
        Step::Start(id) => {
            let initial_cluster = initial_cluster(&cluster.members, id, &place.own.name);
            return Ok(Some(JoinArguments { id, initial_cluster }));
        }
    }
    Ok(None)
}

/// Writes down that from here on the old data must not be started again.
fn leave(place: &Place, journal: &mut Journal) -> Result<(), String> {
    if !journal.is_leaving {
        journal.is_leaving = true;
        journal.write(place).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read_live(place: &Place, journal: &Journal) -> Result<Live, RestoreError> {
    let member = inode(&place.member())?;
    let wal = match &place.wal_dir {
        Some(wal) => inode(wal)?.filter(|_| has_entries(wal)),
        None => None,
    };
    let is_old = |inode: Option<u64>, old: Option<u64>| inode.is_some() && inode == old;
    if is_old(member, journal.old_inode) || is_old(wal, journal.old_wal_inode) {
        return Ok(Live::Old);
    }
    if member.is_none() {
        return Ok(Live::Absent);
    }
    let wal = place.wal();
    let head = read_wal_head(&wal).map_err(RestoreError::disk("read", &wal))?;
    Ok(Live::Other(head.map(|head| MemberId(head.node_id))))
}

fn has_entries(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// Moves the data out of the way, whole; what an earlier run moved there goes first.
fn move_aside(place: &Place, journal: &Journal) -> Result<(), RestoreError> {
    let _node = lock_node(place)?;
    let _database = lock_database(&place.database())?;
    let mut moves = vec![(place.member(), old_data(place), "member", journal.old_inode)];
    let wal = place.wal_dir.clone().zip(old_wal_data(place));
    moves.extend(wal.map(|(wal, old)| (wal, old, "wal", journal.old_wal_inode)));
    for (from, old, name, wanted) in moves {
        let Some(found) = inode(&from)? else { continue };
        crashsafe::make_directory(&old, 0o700)?;
        // Only data from before is worth keeping; what a start that was killed left is not.
        let is_old = wanted.is_none() || wanted == Some(found);
        let to = if is_old { old.join(name) } else { old.join(format!("left-{found}")) };
        if to.exists() {
            std::fs::remove_dir_all(&to).map_err(RestoreError::disk("removed", &to))?;
        }
        std::fs::rename(&from, &to).map_err(RestoreError::disk("moved aside", &from))?;
        sync_directory(&old)?;
        sync_directory(from.parent().unwrap_or(Path::new("/")))?;
    }
    if let Some(wal) = &place.wal_dir {
        // etcd makes its own directories, but not the one above a separate WAL where it may not.
        crashsafe::make_directory(wal, 0o700)?;
        Owner::of(place)?.give(wal)?;
    }
    Ok(())
}

/// Whether the disk will hold the data a second time.
async fn check_room(place: &Place, client: &MemberClient) -> Result<(), String> {
    let status = fetch_member(client).await.map_err(|error| error.to_string())?;
    check_space(place, status.db_size).map_err(|error| error.to_string())
}

/// What is still to be waited for once etcd runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// In words.
    For(String),
    /// Nothing: the member votes with the content of the others.
    Nothing {
        /// Its new id.
        id: MemberId,
    },
}

/// Renews the lock while it lasts. A failure does no harm: whoever takes it is refused by the learner among the members.
pub async fn renew_lock(place: &Place, others: &Quorum, journal: &Journal) {
    if let Ok(client) = others.any(&place.own.peer_urls).await {
        let _ = others.lock(&client, &journal.nonce).await;
    }
}

/// Gives the lock back after a run that did not work; its lease ends it otherwise.
pub async fn give_up_lock(place: &Place, others: &Quorum, journal: &Journal) {
    if let Ok(client) = others.any(&place.own.peer_urls).await {
        others.unlock(&client, &journal.nonce).await;
    }
}

/// Promotes the member and compares it with the others, as far as that is possible yet.
///
/// # Errors
/// It runs in another cluster: then it must not run at all.
pub async fn settle(place: &Place, others: &Quorum, own: &MemberClient, journal: &Journal) -> Result<Waiting, String> {
    let urls = &place.own.peer_urls;
    let status = match quorum::fetch_own(own).await {
        Ok(status) => status,
        Err(error) => return Ok(Waiting::For(error.to_string())),
    };
    if status.cluster.to_string() != journal.cluster_id {
        return Err(format!("etcd came up as cluster {}, not as {}", status.cluster, journal.cluster_id));
    }
    let client = match others.any(urls).await {
        Ok(client) => client,
        Err(words) => return Ok(Waiting::For(words)),
    };
    crash_point(CrashPoint::RejoinStarted);
    if status.is_learner
        && let Err(error) = quorum::promote(&client, status.id).await
    {
        return Ok(Waiting::For(format!("it catches up with the others ({})", error.words())));
    }
    crash_point(CrashPoint::RejoinPromoted);
    let revision = status.revision;
    let hashes = tokio::try_join!(quorum::hash_kv(own, revision), quorum::hash_kv(&client, revision));
    match hashes {
        Ok((here, there)) if here == there && !status.is_learner => {
            others.unlock(&client, &journal.nonce).await;
            Ok(Waiting::Nothing { id: status.id })
        }
        Ok(_) => Ok(Waiting::For("its content is compared with the others'".to_owned())),
        Err(error) => Ok(Waiting::For(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::ClusterId;
    use crate::rejoin::journal::remove_all;
    use crate::restore_engine::order::Own;

    #[test]
    fn a_wal_on_another_file_system_is_moved_aside_beside_itself_however_often() {
        let data = tempfile::tempdir().unwrap();
        let shared_memory = Path::new("/dev/shm");
        let wal_disk = if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() };
        let wal_disk = wal_disk.unwrap();
        let wal = wal_disk.path().join("wal");
        let place = Place {
            volume: data.path().to_owned(),
            data_dir: data.path().to_owned(),
            wal_dir: Some(wal.clone()),
            own: Own { name: "m0".into(), peer_urls: vec!["https://a:2380".into()] },
        };
        let fill = |text: &str| {
            std::fs::create_dir_all(place.member().join("snap")).unwrap();
            std::fs::create_dir_all(&wal).unwrap();
            std::fs::write(place.database(), text).unwrap();
            std::fs::write(wal.join("0.wal"), text).unwrap();
        };
        fill("old");
        let mut journal = Journal::new(ClusterId(1), None, Nonce::new("m0", 1), Timestamp::UNIX_EPOCH);
        journal.old_inode = inode(&place.member()).unwrap();
        journal.old_wal_inode = inode(&wal).unwrap();
        journal.write(&place).unwrap();
        assert_eq!(read_live(&place, &journal).unwrap(), Live::Old);
        move_aside(&place, &journal).unwrap();
        // What a start that was killed left goes too, and the old data stays.
        fill("left");
        move_aside(&place, &journal).unwrap();
        move_aside(&place, &journal).unwrap();
        assert_eq!(read_live(&place, &journal).unwrap(), Live::Absent);
        let kept = old_wal_data(&place).unwrap();
        assert_eq!(kept.parent(), wal.parent());
        assert_eq!(std::fs::read(kept.join("wal/0.wal")).unwrap(), b"old");
        assert_eq!(std::fs::read(old_data(&place).join("member/snap/db")).unwrap(), b"old");
        remove_all(&place).unwrap();
        assert!(!kept.exists() && !old_data(&place).exists() && wal.exists());
    }
}
