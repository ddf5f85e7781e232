use lifeboat_crds::journal::{Entry, JOURNAL_FORMAT, Record};
use lifeboat_crds::mark::Reason;

use super::*;

const OLD: EtcdClusterId = EtcdClusterId(1);
const NEW: EtcdClusterId = EtcdClusterId(2);

fn order(names_me_lost: bool, decision: Option<Verdict>) -> OrderFacts {
    OrderFacts { old_cluster: OLD, names_me_lost, decision, journal: JournalSeen::None }
}

fn guard(own_cluster: Option<EtcdClusterId>, orders: &[OrderFacts]) -> Guard {
    decide_guard(&GuardSeen { own_cluster, orders: OrdersSeen::Answers(orders), peers: &[], ended_by_hand: false })
}

#[test]
fn a_node_is_a_sleeper_by_its_cluster_id_and_a_commit_never_by_a_missing_journal() {
    let sleeper = Guard::Hold(HoldReason::Sleeper);
    let commit = Some(Verdict::Commit);
    assert_eq!(guard(Some(OLD), &[order(false, commit)]), sleeper);
    assert_eq!(guard(Some(NEW), &[order(false, commit)]), Guard::Start, "it has the new data");
    assert_eq!(guard(Some(OLD), &[order(false, None)]), Guard::Start, "it will take part");
    assert_eq!(guard(Some(OLD), &[order(false, Some(Verdict::Rollback))]), Guard::Start);
    assert_eq!(guard(Some(OLD), &[]), Guard::Start);
}

fn journal(records: &[Record]) -> Journal {
    let entry = |(record, sequence): (&Record, u64)| Entry {
        format: JOURNAL_FORMAT,
        sequence,
        elapsed_millis: 0,
        record: record.clone(),
    };
    Journal::Entries { entries: records.iter().zip(0..).map(entry).collect(), good: 0 }
}

#[test]
fn only_a_node_that_may_hold_the_committed_data_is_left_to_its_executor() {
    let sleeper = Guard::Hold(HoldReason::Sleeper);
    let at = |journal| guard(Some(OLD), &[OrderFacts { journal, ..order(false, Some(Verdict::Commit)) }]);
    for phase in [Phase::InDoubt, Phase::Obeying(Verdict::Commit), Phase::Over(Outcome::Committed)] {
        assert_eq!(at(JournalSeen::At(phase)), Guard::Start, "{phase:?}: the executor knows better");
    }
    for phase in [Phase::Staging, Phase::Gathering, Phase::Serving, Phase::Leaving, Phase::Over(Outcome::RolledBack)] {
        assert_eq!(at(JournalSeen::At(phase)), sleeper, "{phase:?}");
    }
    let damaged = JournalSeen::of(&Err(JournalError::Damaged { line: 3 }));
    assert_eq!(at(damaged), sleeper, "what it promised is not known");
    let elsewhere = Ok(Journal::EndedElsewhere { restore_id: None, outcome: Outcome::Committed });
    assert_eq!(at(JournalSeen::of(&elsewhere)), Guard::Start);
    assert_eq!(at(JournalSeen::of(&Ok(journal(&[Record::Staged])))), sleeper);
}

#[test]
fn a_journal_that_cannot_be_read_starts_nothing_at_boot() {
    assert_eq!(at_boot(&Err(JournalError::Damaged { line: 3 })), Boot::HoldAll);
    assert_eq!(at_boot(&Err(JournalError::Newer { line: 3, format: 2 })), Boot::HoldAll);
    let over = Journal::EndedElsewhere { restore_id: None, outcome: Outcome::RolledBack };
    assert_eq!(at_boot(&Ok(over)), Boot::Clear);
}

#[test]
fn any_order_counts_not_only_the_newest() {
    let orders = [order(false, Some(Verdict::Commit)), OrderFacts { old_cluster: NEW, ..order(false, None) }];
    assert_eq!(guard(Some(OLD), &orders), Guard::Hold(HoldReason::Sleeper));
}

#[test]
fn an_undecided_order_holds_whom_it_calls_lost_wiped_or_not() {
    let held = Guard::Hold(HoldReason::LostUndecided);
    assert_eq!(guard(Some(OLD), &[order(true, None)]), held);
    assert_eq!(guard(None, &[order(true, None)]), held);
    assert_eq!(guard(None, &[order(true, Some(Verdict::Commit))]), Guard::Hold(HoldReason::Sleeper));
    assert_eq!(guard(Some(OLD), &[order(true, Some(Verdict::Rollback))]), Guard::Start);
    assert_eq!(guard(None, &[order(false, None)]), Guard::Start, "a node that is being built is none of ours");
}

#[test]
fn a_silent_store_makes_the_guard_ask_the_peers() {
    let seen = |since, peers| {
        let orders = OrdersSeen::Silent(since);
        decide_guard(&GuardSeen { own_cluster: Some(OLD), orders, peers, ended_by_hand: false })
    };
    assert_eq!(seen(Duration::from_secs(9), &[]), Guard::Hold(HoldReason::Asking));
    assert_eq!(seen(STORE_PATIENCE, &[]), Guard::Start, "a store that is away must not keep a healthy cluster down");
    assert_eq!(seen(STORE_PATIENCE, &[OLD]), Guard::Start);
    assert_eq!(seen(STORE_PATIENCE, &[OLD, NEW]), Guard::Hold(HoldReason::PeersElsewhere));
    let by_hand = GuardSeen {
        own_cluster: Some(OLD),
        orders: OrdersSeen::Silent(STORE_PATIENCE),
        peers: &[NEW],
        ended_by_hand: true,
    };
    assert_eq!(decide_guard(&by_hand), Guard::Start, "peers in doubt still run the new data");
}

#[test]
fn a_node_that_stopped_starts_nothing_at_boot_until_it_is_done() {
    let at = |records: &[Record]| at_boot(&Ok(journal(records)));
    assert_eq!(at(&[]), Boot::Clear);
    assert_eq!(at(&[Record::Staged]), Boot::Clear);
    assert_eq!(at(&[Record::Staged, Record::IntendQuiesced]), Boot::HoldAll);
    assert_eq!(at(&[Record::IntendQuiesced, Record::IntendVerified]), Boot::HoldAll);
    let left = Record::Left { reason: Reason::Cancelled };
    assert_eq!(at(&[Record::IntendQuiesced, left.clone()]), Boot::HoldAll, "not put back yet");
    assert_eq!(at(&[Record::Staged, left]), Boot::Clear);
    assert_eq!(at(&[Record::IntendQuiesced, Record::IntendVerified, Record::Released]), Boot::Clear);
}
