use super::*;

const OLD: EtcdClusterId = EtcdClusterId(1);
const NEW: EtcdClusterId = EtcdClusterId(2);

fn order(names_me_lost: bool, decision: Option<Verdict>, has_journal: bool) -> OrderFacts {
    OrderFacts { old_cluster: OLD, names_me_lost, decision, has_journal }
}

fn guard(own_cluster: Option<EtcdClusterId>, orders: &[OrderFacts]) -> Guard {
    decide_guard(&GuardSeen { own_cluster, orders: OrdersSeen::Answers(orders), peers: &[], ended_by_hand: false })
}

#[test]
fn a_node_is_a_sleeper_by_its_cluster_id_and_a_commit_never_by_a_missing_journal() {
    let sleeper = Guard::Hold(HoldReason::Sleeper);
    let commit = Some(Verdict::Commit);
    assert_eq!(guard(Some(OLD), &[order(false, commit, false)]), sleeper);
    assert_eq!(guard(Some(NEW), &[order(false, commit, false)]), Guard::Start, "it has the new data");
    assert_eq!(guard(Some(OLD), &[order(false, None, false)]), Guard::Start, "it will take part");
    assert_eq!(guard(Some(OLD), &[order(false, Some(Verdict::Rollback), false)]), Guard::Start);
    assert_eq!(guard(Some(OLD), &[order(false, commit, true)]), Guard::Start, "the executor knows better");
    assert_eq!(guard(Some(OLD), &[]), Guard::Start);
}

#[test]
fn any_order_counts_not_only_the_newest() {
    let orders =
        [order(false, Some(Verdict::Commit), false), OrderFacts { old_cluster: NEW, ..order(false, None, false) }];
    assert_eq!(guard(Some(OLD), &orders), Guard::Hold(HoldReason::Sleeper));
}

#[test]
fn an_undecided_order_holds_whom_it_calls_lost_wiped_or_not() {
    let held = Guard::Hold(HoldReason::LostUndecided);
    assert_eq!(guard(Some(OLD), &[order(true, None, false)]), held);
    assert_eq!(guard(None, &[order(true, None, false)]), held);
    assert_eq!(guard(None, &[order(true, Some(Verdict::Commit), false)]), Guard::Hold(HoldReason::Sleeper));
    assert_eq!(guard(Some(OLD), &[order(true, Some(Verdict::Rollback), false)]), Guard::Start);
    assert_eq!(guard(None, &[order(false, None, false)]), Guard::Start, "a node that is being built is none of ours");
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
    use lifeboat_crds::journal::{LeaveReason, Record};
    let at = |records: &[Record]| {
        at_boot(&records.iter().fold(Ledger::default(), |ledger, record| ledger.with(record, Duration::ZERO)))
    };
    assert_eq!(at(&[Record::Staged]), Boot::Clear);
    assert_eq!(at(&[Record::Staged, Record::IntendQuiesced]), Boot::HoldAll);
    assert_eq!(at(&[Record::IntendQuiesced, Record::IntendVerified]), Boot::HoldAll);
    let left = Record::Left { reason: LeaveReason::Cancelled };
    assert_eq!(at(&[Record::IntendQuiesced, left.clone()]), Boot::HoldAll, "not put back yet");
    assert_eq!(at(&[Record::Staged, left]), Boot::Clear);
    assert_eq!(at(&[Record::IntendQuiesced, Record::IntendVerified, Record::Released]), Boot::Clear);
}
