use std::time::Duration;

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::{Reason, Verdict};
use lifeboat_executor::JournalFile;

use super::*;
use crate::restoring::fixture::{Master, masters};

fn append(master: &Master, record: Record) {
    let mut journal = JournalFile::open(&master.directory.journal(), &master.directory.lock()).unwrap();
    journal.append(record, Duration::from_secs(1)).unwrap();
}

fn judged(masters: &[Master]) -> Judgement {
    let first = &masters[0];
    let brought = Brought::of(first.directory.root());
    brought.judge_with(&first.sealed, (&first.name, &first.directory.journal())).unwrap()
}

fn bring(masters: &[Master], from: usize) {
    let (first, other) = (&masters[0], &masters[from]);
    let brought = Brought::of(first.directory.root());
    brought.keep_journal(&first.sealed, &other.name, &other.directory.journal()).unwrap();
}

#[tokio::test]
async fn it_takes_the_journals_of_all_and_each_must_stand_still() {
    let dir = tempfile::tempdir().unwrap();
    let masters = masters(dir.path()).await;
    assert!(matches!(judged(&masters), Judgement::Missing(_)));
    for master in &masters[..2] {
        append(master, Record::Surrendered);
    }
    (1..3).for_each(|from| bring(&masters, from));
    let Judgement::NotSurrendered(seats) = judged(&masters) else { panic!("m2 still writes") };
    assert!(seats.to_string().contains("#2"), "{seats}");
    append(&masters[2], Record::Surrendered);
    bring(&masters, 2);
    let Judgement::Tell(word) = judged(&masters) else { panic!("all stand still") };
    assert_eq!(word.verdict(), Some(Verdict::Rollback));
    // The executor comes to the same from what was left for it.
    let first = &masters[0];
    let left = Brought::of(first.directory.root()).judgement(&first.sealed, (&first.name, &first.directory.journal()));
    assert!(matches!(left, Ok(Some(Judgement::Tell(told))) if told == word));
}

#[tokio::test]
async fn a_journal_that_knows_settles_it_alone_and_both_attempts_settle_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let knowing = masters(dir.path()).await;
    append(&knowing[1], Record::Learned { verdict: Verdict::Commit, from: Source::Store });
    bring(&knowing, 1);
    assert!(matches!(judged(&knowing), Judgement::Tell(word) if word.verdict() == Some(Verdict::Commit)));
    let dir = tempfile::tempdir().unwrap();
    let torn = masters(dir.path()).await;
    append(&torn[0], Record::Attempted { verdict: Verdict::Commit, reason: Reason::AllVerified });
    append(&torn[1], Record::Attempted { verdict: Verdict::Rollback, reason: Reason::Cancelled });
    torn.iter().for_each(|master| append(master, Record::Surrendered));
    (1..3).for_each(|from| bring(&torn, from));
    assert!(matches!(judged(&torn), Judgement::Tell(word) if word.verdict().is_none()));
}

#[tokio::test]
async fn what_proves_nothing_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let masters = masters(dir.path()).await;
    let (first, brought) = (&masters[0], Brought::of(masters[0].directory.root()));
    let forged = dir.path().join("decision.json");
    std::fs::write(
        &forged,
        r#"{"formatVersion": "1.0", "payload": {"nodeName": "m1", "verdict": "Commit"}, "mac": "AAAA"}"#,
    )
    .unwrap();
    assert!(brought.keep_decision(&first.sealed, &forged).is_err());
    let junk = dir.path().join("journal");
    std::fs::write(&junk, "12 0 {}\n").unwrap();
    assert!(brought.keep_journal(&first.sealed, &masters[1].name, &junk).is_err());
    let stranger = NodeName::from("m9");
    let named = brought.keep_journal(&first.sealed, &stranger, &masters[1].directory.journal());
    assert!(matches!(named, Err(HandError::NoMember(_))));
    assert_eq!(brought.judgement(&first.sealed, (&first.name, &first.directory.journal())).unwrap(), None);
}
