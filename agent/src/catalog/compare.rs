//! Compares archives with records: what needs a closer look, and what that look means. Pure.
//!
//! Records are read before the store is listed: what a record calls complete had its manifest before, and must be there.

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::manifest::Manifest;

use super::listing::Listed;
use super::records::{Archive, Record, State, Told, fingerprint};

/// A manifest that is so much newer than its record was written by somebody else, or copied.
const SUSPICIOUS: SignedDuration = SignedDuration::from_mins(5);
/// Once a day each manifest is read, in turns of ten minutes.
const TURNS: u64 = 144;

/// What an archive and its records ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    None,
    /// The manifest is to be read, and compared with this record.
    Check(Record, Archive),
    /// The manifest is to be read, and a record made of it.
    Import,
    /// The manifest is to be read, and its record looked for.
    Find,
    /// The manifest is to be read, and this record filled in.
    FillIn(Record),
    /// This record's archive is not there.
    Gone(Record),
}

/// What an archive asks for. `asked` is when the listing was asked for.
pub fn look_at(listed: &Listed, records: &[Record], asked: Timestamp) -> Look {
    let good = records.iter().find_map(|record| match record.state {
        State::Complete(archive) => Some((record, archive)),
        State::Running | State::Importing | State::Failed | State::Leaving => None,
    });
    let is_busy = |record: &&Record| matches!(record.state, State::Running | State::Leaving);
    let waiting = records.iter().find(|record| record.state == State::Importing);
    match (listed.manifest, good) {
        // It is being deleted, or is to be; whoever does that ends it.
        (Some(_), _) if listed.is_expired => Look::None,
        (None, _) => missing(records),
        (Some(written), Some((record, archive))) => {
            if is_sound_at_a_glance(listed, archive, written) && record.told.is_none() && !has_turn(listed, asked) {
                Look::None
            } else {
                Look::Check(record.clone(), archive)
            }
        }
        (Some(_), None) => match (waiting, records.iter().any(|record| is_busy(&record))) {
            (Some(record), _) => Look::FillIn(record.clone()),
            (None, true) => Look::None,
            // No record, or only of a run that failed while its archive came about all the same.
            (None, false) => Look::Import,
        },
    }
}

/// What records ask for of whose backup nothing is listed, or no manifest.
pub fn missing(records: &[Record]) -> Look {
    let gone = records.iter().find(|record| match record.state {
        State::Complete(_) => record.told != Some(Told::Missing),
        State::Importing => true,
        State::Running | State::Failed | State::Leaving => false,
    });
    gone.map_or(Look::None, |record| Look::Gone(record.clone()))
}

fn is_sound_at_a_glance(listed: &Listed, archive: Archive, written: Option<Timestamp>) -> bool {
    let is_there =
        listed.data.len() == 1 && listed.data.iter().all(|data| i64::try_from(data.size) == Ok(archive.stored));
    let late = written.map(|written| written.duration_since(archive.completion));
    is_there && late.is_none_or(|late| late < SUSPICIOUS)
}

fn has_turn(listed: &Listed, asked: Timestamp) -> bool {
    let turn = asked.as_second().unsigned_abs() / 600 % TURNS;
    fingerprint(listed.id.as_str()) % TURNS == turn
}

/// How an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// As it was written.
    Sound,
    /// Its data is gone.
    Missing,
    /// It is another, in these words.
    Corrupt(String),
}

/// How an archive is, by its manifest and what is listed beside it; and by its record, if it has one.
pub fn judge(listed: &Listed, manifest: &Manifest, archive: Option<Archive>) -> Condition {
    let expected = manifest.archive.size_bytes;
    match listed.size_of(&manifest.data) {
        None => return Condition::Missing,
        Some(found) if i64::try_from(found) != Ok(expected) => {
            let words = format!("{} has {found} bytes, the manifest says {expected}", manifest.data);
            return Condition::Corrupt(words);
        }
        Some(_) => {}
    }
    let Some(archive) = archive else { return Condition::Sound };
    if archive.stored != expected || archive.sha256 != fingerprint(&manifest.snapshot.sha256) {
        let words = "the manifest is of another snapshot than the one that this record is of";
        return Condition::Corrupt(words.to_owned());
    }
    Condition::Sound
}
