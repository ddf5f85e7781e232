use super::*;
use crate::order::EtcdClusterId;

fn id() -> RestoreId {
    RestoreId::new("ns", "a", 1, "ab")
}

fn records() -> Vec<Record> {
    let facts = ServedFacts { cluster_id: EtcdClusterId(u64::MAX), revision: 10, compact_revision: 9, hash: u32::MAX };
    let inodes = Inodes { old_member: u64::MAX, new_member: 2, wal: Some(WalInodes { old: 3, new: 4 }) };
    vec![
        Record::Sealed { restore_id: id(), order_digest: "0".repeat(64).parse().unwrap() },
        Record::Staged,
        Record::Safety { taken: true },
        Record::IntendQuiesced,
        Record::IntendPrepared { inodes },
        Record::IntendServed,
        Record::Served { facts },
        Record::IntendVerified,
        Record::Attempted { verdict: Verdict::Commit, reason: Reason::AllVerified },
        Record::Surrendered,
        Record::Resumed,
        Record::Learned { verdict: Verdict::Commit, from: Source::Store },
        Record::IntendObeyed,
        Record::ReleaseGranted,
        Record::Released,
        Record::Settled,
        Record::Waited,
        Record::Left { reason: Reason::Cancelled },
        Record::Ended { restore_id: id(), outcome: Outcome::Committed },
    ]
}

fn entries() -> Vec<Entry> {
    let numbered = records().into_iter().zip(0..);
    numbered
        .map(|(record, sequence)| Entry { format: JOURNAL_FORMAT, sequence, elapsed_millis: 10 * sequence, record })
        .collect()
}

fn text(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| encode(entry).unwrap()).collect()
}

#[test]
fn every_record_reads_back() {
    let bytes = text(&entries());
    assert_eq!(decode(&bytes).unwrap(), Journal::Entries { entries: entries(), good: bytes.len() });
    assert_eq!(decode::<Record>(b"").unwrap(), Journal::Entries { entries: vec![], good: 0 });
}

#[test]
fn a_journal_cut_anywhere_keeps_every_whole_line_and_ignores_the_torn_one() {
    let (all, bytes) = (entries(), text(&entries()));
    for cut in 0..bytes.len() {
        let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        let good = text(&all[..whole]).len();
        assert_eq!(decode(&bytes[..cut]).unwrap(), Journal::Entries { entries: all[..whole].to_vec(), good }, "{cut}");
        // The file had grown, its last block was never written.
        let mut zeros = bytes[..cut].to_vec();
        zeros.extend([0; 40]);
        assert_eq!(decode(&zeros).unwrap(), Journal::Entries { entries: all[..whole].to_vec(), good }, "{cut}");
    }
}

#[test]
fn a_bit_that_changed_in_a_whole_line_is_refused_also_in_the_last_one() {
    let bytes = text(&entries());
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[position] ^= 1 << bit;
            match decode::<Record>(&changed) {
                Err(JournalError::Damaged { line: _ }) => {}
                // Without its newline the last line looks torn.
                Ok(Journal::Entries { entries: read, good: _ }) if position + 1 == bytes.len() => {
                    assert_eq!(read, entries()[..18]);
                }
                other => panic!("byte {position}, bit {bit}: {other:?}"),
            }
        }
    }
}

#[test]
fn lines_out_of_order_and_lines_that_are_missing_are_refused() {
    let mut swapped = entries();
    swapped.swap(3, 4);
    assert_eq!(decode::<Record>(&text(&swapped)), Err(JournalError::Damaged { line: 4 }));
    let mut gap = entries();
    gap.remove(2);
    assert_eq!(decode::<Record>(&text(&gap)), Err(JournalError::Damaged { line: 3 }));
}

#[test]
fn a_record_that_this_format_does_not_know_is_refused() {
    let json = r#"{"format":1,"sequence":0,"elapsedMillis":0,"record":{"kind":"Levitated"}}"#;
    let line = format!("{:06} {:08x} {json}\n", json.len(), crc32fast::hash(json.as_bytes()));
    assert_eq!(decode::<Record>(line.as_bytes()), Err(JournalError::Damaged { line: 1 }));
}

fn of_format_2(record: &str) -> Vec<u8> {
    let json = format!(r#"{{"format":2,"sequence":1,"then":["x"],"record":{record}}}"#);
    let mut bytes = text(&entries()[..1]);
    bytes.extend(format!("{:06} {:08x} {json}\n", json.len(), crc32fast::hash(json.as_bytes())).into_bytes());
    bytes
}

#[test]
fn a_newer_format_is_refused_unless_it_says_that_the_restore_is_over() {
    let error = decode::<Record>(&of_format_2(r#"{"kind":"Levitated"}"#)).unwrap_err();
    assert_eq!(error, JournalError::Newer { line: 2, format: 2 });
    let over = format!(r#"{{"kind":"Ended","restoreId":"{}","outcome":"Committed","later":1}}"#, id());
    let read = decode(&of_format_2(&over)).unwrap();
    assert_eq!(read, Journal::<Record>::EndedElsewhere { restore_id: Some(id()), outcome: Outcome::Committed });
}

/// As format 1 writes them. A restore under way must be readable by the program that is installed meanwhile: who changes one
/// of these raises the format.
#[test]
fn every_record_is_written_as_its_format_says() {
    let (zeros, facts) =
        ("0".repeat(64), r#"{"clusterId":"ffffffffffffffff","revision":10,"compactRevision":9,"hash":4294967295}"#);
    let inodes = r#"{"oldMember":18446744073709551615,"newMember":2,"wal":{"old":3,"new":4}}"#;
    let lines = [
        format!(r#"{{"kind":"Sealed","restoreId":"{}","orderDigest":"{zeros}"}}"#, id()),
        r#"{"kind":"Staged"}"#.to_owned(),
        r#"{"kind":"Safety","taken":true}"#.to_owned(),
        r#"{"kind":"IntendQuiesced"}"#.to_owned(),
        format!(r#"{{"kind":"IntendPrepared","inodes":{inodes}}}"#),
        r#"{"kind":"IntendServed"}"#.to_owned(),
        format!(r#"{{"kind":"Served","facts":{facts}}}"#),
        r#"{"kind":"IntendVerified"}"#.to_owned(),
        r#"{"kind":"Attempted","verdict":"Commit","reason":"AllVerified"}"#.to_owned(),
        r#"{"kind":"Surrendered"}"#.to_owned(),
        r#"{"kind":"Resumed"}"#.to_owned(),
        r#"{"kind":"Learned","verdict":"Commit","from":"Store"}"#.to_owned(),
        r#"{"kind":"IntendObeyed"}"#.to_owned(),
        r#"{"kind":"ReleaseGranted"}"#.to_owned(),
        r#"{"kind":"Released"}"#.to_owned(),
        r#"{"kind":"Settled"}"#.to_owned(),
        r#"{"kind":"Waited"}"#.to_owned(),
        r#"{"kind":"Left","reason":"Cancelled"}"#.to_owned(),
        format!(r#"{{"kind":"Ended","restoreId":"{}","outcome":"Committed"}}"#, id()),
    ];
    let written: Vec<_> = records().iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    assert_eq!(written, lines);
}

#[test]
fn the_records_of_the_second_machine_are_written_as_their_format_says() {
    let member = EtcdMemberId(u64::MAX);
    let frozen = [
        (MemberRecord::Begun { old_member: Some(member) }, r#"{"kind":"Begun","oldMember":"ffffffffffffffff"}"#),
        (MemberRecord::Begun { old_member: None }, r#"{"kind":"Begun","oldMember":null}"#),
        (MemberRecord::IntendStopped, r#"{"kind":"IntendStopped"}"#),
        (MemberRecord::IntendRemoved, r#"{"kind":"IntendRemoved"}"#),
        (MemberRecord::Started { member }, r#"{"kind":"Started","member":"ffffffffffffffff"}"#),
        (MemberRecord::Rejoined, r#"{"kind":"Rejoined"}"#),
        (MemberRecord::Ended { outcome: Outcome::RolledBack }, r#"{"kind":"Ended","outcome":"RolledBack"}"#),
    ];
    let entry = |(record, sequence)| Entry { format: JOURNAL_FORMAT, sequence, elapsed_millis: 7, record };
    let entries: Vec<_> = frozen.iter().map(|(record, _)| *record).zip(0..).map(entry).collect();
    for (record, text) in frozen {
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| encode(entry).unwrap()).collect();
    let good = bytes.len();
    assert_eq!(decode::<MemberRecord>(&bytes).unwrap(), Journal::Entries { entries, good });
    // Its end is one that every version reads, without the name of a restore.
    let over = of_format_2(r#"{"kind":"Ended","outcome":"RolledBack","later":1}"#);
    let read = decode::<Record>(&over).unwrap();
    assert_eq!(read, Journal::EndedElsewhere { restore_id: None, outcome: Outcome::RolledBack });
}

#[test]
fn a_later_version_that_went_on_after_an_end_is_not_taken_for_ended() {
    let mut bytes = of_format_2(r#"{"kind":"Ended","outcome":"RolledBack"}"#);
    let json = r#"{"format":2,"sequence":2,"record":{"kind":"Levitated"}}"#;
    bytes.extend(format!("{:06} {:08x} {json}\n", json.len(), crc32fast::hash(json.as_bytes())).into_bytes());
    assert_eq!(decode::<Record>(&bytes), Err(JournalError::Newer { line: 2, format: 2 }));
}

/// This line was written by format 1 and must be readable, and be written, for ever.
#[test]
fn the_terminal_line_is_frozen() {
    let frozen = b"000131 645c99f9 {\"format\":1,\"sequence\":0,\"elapsedMillis\":61000,\"record\":{\"kind\":\"Ended\",\"restoreId\":\"0123456789abcdef0123\",\"outcome\":\"RolledBack\"}}\n";
    let record = Record::Ended { restore_id: "0123456789abcdef0123".parse().unwrap(), outcome: Outcome::RolledBack };
    let entry = Entry { format: 1, sequence: 0, elapsed_millis: 61_000, record };
    assert_eq!(String::from_utf8(encode(&entry).unwrap()).unwrap(), String::from_utf8_lossy(frozen));
    assert_eq!(decode(frozen).unwrap(), Journal::Entries { entries: vec![entry], good: frozen.len() });
}
