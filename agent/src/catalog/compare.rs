//! Compares archives with records: what needs a closer look, and what that look means. Pure.
//!
//! Records are read before the store is listed: what a record calls complete had its manifest before, and must be there.

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::manifest::Manifest;

use super::listing::Listed;
use super::records::{Archive, Record, State, Told, fingerprint};

/// A manifest that is so much newer than its record was written by somebody else, or copied.
const SUSPICIOUS: SignedDuration = SignedDuration::from_mins(5);
/// Whoever deletes an archive begins with `expired.json` and is done much sooner, or was cut off.
const GOING: SignedDuration = SignedDuration::from_hours(1);
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
            (None, false) if is_going(listed, asked) => Look::None,
            // No record, or only of a run that failed while its archive came about all the same.
            (None, false) => Look::Import,
        },
    }
}

/// Whether an archive is being deleted in this moment, as far as the bucket shows. One that was given up and is still there
/// later is an archive as any other: a deletion that failed is no deletion.
pub fn is_going(listed: &Listed, asked: Timestamp) -> bool {
    listed.is_expired && listed.expired.is_none_or(|expired| asked.duration_since(expired) < GOING)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::listing::Data;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn listed(manifest: bool, sizes: &[u64]) -> Listed {
        let data = sizes.iter().enumerate().map(|(number, size)| Data {
            name: format!("snapshot-{number}-aa.db.zst"),
            size: *size,
            modified: None,
        });
        Listed {
            id: "20261124-020304-00000001".parse().unwrap(),
            manifest: manifest.then_some(Some(at(1_000))),
            is_expired: false,
            expired: None,
            is_pinned: false,
            data: data.collect(),
        }
    }

    fn record(state: State, told: Option<Told>) -> Record {
        Record { id: listed(true, &[]).id, name: "b".into(), uid: "u".into(), state, told }
    }

    /// A time at which the backup's manifest is not read by turns.
    fn quiet() -> Timestamp {
        (0..TURNS)
            .map(|turn| at(i64::try_from(turn).unwrap() * 600))
            .find(|time| !has_turn(&listed(true, &[]), *time))
            .unwrap()
    }

    #[test]
    fn only_what_is_odd_is_looked_at() {
        let good = |told| record(State::Complete(Archive { stored: 9, sha256: 1, completion: at(1_000) }), told);
        let old = record(State::Complete(Archive { stored: 9, sha256: 1, completion: at(600) }), None);
        let kind = |listed: &Listed, records: &[Record]| match look_at(listed, records, quiet()) {
            Look::None => "none",
            Look::Check(..) => "check",
            Look::Import => "import",
            Look::Find => "find",
            Look::FillIn(_) => "fill in",
            Look::Gone(_) => "gone",
        };
        let hour = SignedDuration::from_hours(1);
        let given_up = |age| Listed { is_expired: true, expired: Some(quiet() - age), ..listed(true, &[9]) };
        let short = Listed { data: listed(true, &[8]).data, ..given_up(hour) };
        let (running, failed) = (record(State::Running, None), record(State::Failed, None));
        let (waiting, leaving) = (record(State::Importing, None), record(State::Leaving, None));
        for (case, listed, records, expected) in [
            ("as it was written", listed(true, &[9]), vec![good(None)], "none"),
            ("of another size", listed(true, &[8]), vec![good(None)], "check"),
            ("beside data of another attempt", listed(true, &[9, 9]), vec![good(None)], "check"),
            ("without data", listed(true, &[]), vec![good(None)], "check"),
            ("told before", listed(true, &[9]), vec![good(Some(Told::Missing))], "check"),
            ("a manifest much newer than the record", listed(true, &[9]), vec![old], "check"),
            ("no manifest", listed(false, &[9]), vec![good(None)], "gone"),
            ("no manifest, as told", listed(false, &[9]), vec![good(Some(Told::Missing))], "none"),
            ("no manifest yet", listed(false, &[9]), vec![running.clone()], "none"),
            ("a record of nothing", listed(false, &[]), vec![waiting.clone()], "gone"),
            ("no record", listed(true, &[9]), vec![], "import"),
            ("a run that failed", listed(true, &[9]), vec![failed.clone()], "import"),
            ("a run that failed, and its import", listed(true, &[9]), vec![failed, good(None)], "none"),
            ("a run that goes on", listed(true, &[9]), vec![running], "none"),
            ("an import that was cut off", listed(true, &[9]), vec![waiting], "fill in"),
            ("being deleted", listed(true, &[9]), vec![leaving], "none"),
            ("given up in this moment", given_up(SignedDuration::ZERO), vec![], "none"),
            ("given up and still there", given_up(hour), vec![], "import"),
            ("given up, and its record keeps it", given_up(hour), vec![good(None)], "none"),
            ("given up, its record keeps it, and it is another", short, vec![good(None)], "check"),
        ] {
            assert_eq!(kind(&listed, &records), expected, "{case}");
        }
    }

    #[test]
    fn each_manifest_is_read_once_a_day() {
        let turns = (0..144).filter(|turn| has_turn(&listed(true, &[]), at(86_400 * 20_000 + turn * 600 + 7)));
        assert_eq!(turns.count(), 1);
    }
}
