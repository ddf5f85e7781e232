//! The journal of a restore on one node: what it is about to do, and what it knows. One entry a line.
//!
//! Pure: text in, entries out. A line is `<length> <crc32> <json>`. A last line that a power cut tore is ignored; anything
//! else that is damaged, out of order or of an unknown format makes the journal unusable, because a node that has lost
//! what it promised must not go on. Only the terminal entry is readable for every version, older ones too.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mark::{Outcome, Reason, ServedFacts, Verdict};
use crate::order::{EtcdMemberId, OrderDigest, RestoreId};

/// Format of entries that this build writes and understands.
pub const JOURNAL_FORMAT: u32 = 1;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry<R = Record> {
    /// Format of this entry.
    pub format: u32,
    /// Position, from 0.
    pub sequence: u64,
    /// Time that this restore has taken on this node, milliseconds: never a clock of the wall, never while it was off.
    pub elapsed_millis: u64,
    /// What.
    pub record: R,
}

/// What a node is about to do, or has learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Record {
    /// The order as read back; its file lies beside the journal.
    Sealed {
        /// The restore.
        restore_id: RestoreId,
        /// The order.
        order_digest: OrderDigest,
    },
    /// The new data lies on this disk, proven.
    Staged,
    /// The safety backup is taken, or skipped as the plan said.
    Safety {
        /// It was taken.
        taken: bool,
    },
    /// Services are about to be stopped; copies of the manifests lie beside the journal.
    IntendQuiesced,
    /// Directories are about to be exchanged; which is which is told by inode.
    IntendPrepared {
        /// The directories.
        inodes: Inodes,
    },
    /// All members were seen Prepared; etcd is about to be started on the new data.
    IntendServed,
    /// The new etcd serves this.
    Served {
        /// What it holds.
        facts: ServedFacts,
    },
    /// All members were found equal: from here on only the decision counts.
    IntendVerified,
    /// A decision is about to be written. Whatever the store answers, it may exist from now on.
    Attempted {
        /// Which.
        verdict: Verdict,
        /// Why.
        reason: Reason,
    },
    /// This node gives up by itself; it was not Verified, so no Commit can exist.
    Left {
        /// Why.
        reason: Reason,
    },
    /// A decision was read, or given by hand. What the store says replaces it until it is obeyed.
    Learned {
        /// Which.
        verdict: Verdict,
        /// From where.
        from: Source,
    },
    /// The decision learnt is about to be carried out: from here on nothing replaces it.
    IntendObeyed,
    /// This journal is about to be handed to a human who decides: no attempt follows until that is done.
    Surrendered,
    /// The human could not decide; this node goes on by itself.
    Resumed,
    /// `lifeboat restore release` was said.
    ReleaseGranted,
    /// API server, controller-manager and scheduler run on the new data.
    Released,
    /// Kubelets were restarted as asked.
    Settled,
    /// Time that passed while nothing else was written, so that a restart does not begin its deadline again. An executor
    /// appends it too while one effect takes its time.
    Waited,
    /// The end. Frozen: never changes its form, so that every version can read it.
    Ended {
        /// The restore.
        restore_id: RestoreId,
        /// How.
        outcome: Outcome,
    },
}

/// What a node is about to do while it re-initialises its member from the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MemberRecord {
    /// The member as it was listed; `None` for one that is not in the list (a lost master, wiped).
    Begun {
        /// Its member id.
        old_member: Option<EtcdMemberId>,
    },
    /// etcd of this node is about to be stopped.
    IntendStopped,
    /// The member is about to be removed: from here on its old data must never be started again.
    IntendRemoved,
    /// etcd runs as this new member, with data of its own, and is about to become a voter: without that data it must never
    /// be started as the same member again.
    Started {
        /// Its member id.
        member: EtcdMemberId,
    },
    /// It is a voter again, with an equal hash.
    Rejoined,
    /// The end, in the frozen form; the restore's id stands in the directory's name.
    Ended {
        /// Committed: rejoined. RolledBack: nothing was changed.
        outcome: Outcome,
    },
}

/// Where a decision was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// Read back from the store.
    Store,
    /// Given by a human.
    Hand,
}

/// The directories that are exchanged, by inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inodes {
    /// The old `member`.
    pub old_member: u64,
    /// The new `member`.
    pub new_member: u64,
    /// Old and new WAL directory, where it lies apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalInodes>,
}

/// WAL directories that are exchanged, by inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WalInodes {
    /// The old one.
    pub old: u64,
    /// The new one.
    pub new: u64,
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq)]
pub enum Journal<R = Record> {
    /// Every entry is understood.
    Entries {
        /// The entries.
        entries: Vec<Entry<R>>,
        /// Bytes up to the end of the last good line: cut the file there before anything is appended.
        good: usize,
    },
    /// Another version wrote it, and says that the restore is over.
    EndedElsewhere {
        /// The restore, where the entry names it.
        restore_id: Option<RestoreId>,
        /// How.
        outcome: Outcome,
    },
}

/// A journal that must not be acted upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Bytes changed after they were written.
    #[error("line {line} of the journal is damaged: do not go on with this node; see docs/restore-protocol.md, Damage")]
    Damaged {
        /// From 1.
        line: usize,
    },
    /// Written by a later version.
    #[error("line {line} of the journal has format {format}, newer than this program: use the newer lifeboat")]
    Newer {
        /// From 1.
        line: usize,
        /// What it says.
        format: u32,
    },
    /// An entry cannot be written.
    #[error("an entry cannot be written as JSON: {0}")]
    Unwritable(String),
}

/// The line to append and fsync.
pub fn encode<R: Serialize>(entry: &Entry<R>) -> Result<Vec<u8>, JournalError> {
    let json = serde_json::to_string(entry).map_err(|error| JournalError::Unwritable(error.to_string()))?;
    Ok(format!("{}{json}\n", header_of(json.as_bytes())).into_bytes())
}

/// `<length> <crc32> `
const HEADER: usize = 16;

fn header_of(json: &[u8]) -> String {
    format!("{:06} {:08x} ", json.len(), crc32fast::hash(json))
}

enum Line<'b> {
    /// JSON, and the length of the whole line.
    Good(&'b [u8], usize),
    /// It ends before it should.
    Torn,
    Damaged,
}

/// Whether these bytes, which are no good line, are one that a power cut tore: the last one, without its end, or with
/// the zeros that a file system leaves where it had grown the file and not yet written the block.
fn is_torn(bytes: &[u8]) -> bool {
    let inner = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let is_last = !inner.contains(&b'\n');
    let has_end = inner.len() < bytes.len();
    is_last && (!has_end || bytes.windows(8).any(|run| run == [0; 8]))
}

fn line(bytes: &[u8]) -> Line<'_> {
    let bad = if is_torn(bytes) { Line::Torn } else { Line::Damaged };
    let Some(header) = bytes.get(..HEADER) else { return bad };
    let Some(length) = std::str::from_utf8(&header[..6]).ok().and_then(|digits| digits.parse::<usize>().ok()) else {
        return bad;
    };
    match bytes.get(HEADER..HEADER + length).zip(bytes.get(HEADER + length)) {
        // As it was written, to the byte: a capital digit of the checksum is a bit that changed.
        Some((json, b'\n')) if header_of(json).as_bytes() == header => Line::Good(json, HEADER + length + 1),
        Some(_) | None => bad,
    }
}

/// Only what must be known of an entry of any version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frozen {
    format: u32,
    sequence: u64,
    record: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FrozenEnd {
    kind: String,
    restore_id: Option<RestoreId>,
    outcome: Outcome,
}

/// Reads a journal.
pub fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<Journal<R>, JournalError> {
    let mut entries = Vec::new();
    let mut newer = None;
    let mut end = None;
    let (mut good, mut number) = (0, 0);
    while good < bytes.len() {
        number += 1;
        let damaged = JournalError::Damaged { line: number };
        let (json, length) = match line(&bytes[good..]) {
            Line::Good(json, length) => (json, length),
            Line::Torn => break,
            Line::Damaged => return Err(damaged),
        };
        let frozen: Frozen = serde_json::from_slice(json).map_err(|_| damaged.clone())?;
        if frozen.sequence + 1 != number as u64 {
            return Err(damaged);
        }
        end = serde_json::from_value::<FrozenEnd>(frozen.record).ok().filter(|end| end.kind == "Ended");
        if frozen.format > JOURNAL_FORMAT {
            newer = newer.or(Some(JournalError::Newer { line: number, format: frozen.format }));
        } else if newer.is_none() {
            entries.push(serde_json::from_slice(json).map_err(|_| damaged)?);
        }
        good += length;
    }
    match (newer, end) {
        (None, _) => Ok(Journal::Entries { entries, good }),
        (Some(_), Some(FrozenEnd { kind: _, restore_id, outcome })) => {
            Ok(Journal::EndedElsewhere { restore_id, outcome })
        }
        (Some(error), None) => Err(error),
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
