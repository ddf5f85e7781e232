use std::time::Duration;

use lifeboat_crds::journal::{LeaveReason, Record, Source};
use lifeboat_crds::mark::{Claim, ServedFacts, Verdict};
use lifeboat_crds::order::{EtcdClusterId, OrderedSafety, RestoreId};

use super::*;
use crate::hand::{Judgement, judge};
use crate::observed::{
    DecisionSeen, Etcd, Failure, Freshness, HandWord, Host, Locks, Marks, OrderSeen, Placed, Reading, Side, Staging,
    Store, Wishes,
};

fn terms() -> Terms {
    Terms {
        restore_id: RestoreId::new("ns", "a", 1, "ab"),
        seat: Seat(0),
        members: 2,
        old_cluster_id: EtcdClusterId(1),
        bump_to: 100,
        safety: Some(OrderedSafety::Required),
        hold_before_release: false,
        loopback_api_servers: false,
        restart_kubelet: true,
        stage: Duration::from_secs(3600),
        prepare: Duration::from_secs(120),
        outage: Duration::from_secs(900),
    }
}

const FACTS: ServedFacts = ServedFacts { cluster_id: EtcdClusterId(2), revision: 100, compact_revision: 100, hash: 7 };

const RUNNING: Host = Host {
    control_plane: true,
    etcd: Etcd::Full,
    held: false,
    manifests_saved: true,
    locks: Locks { old: false, new: false },
    strangers: false,
    placed: Placed { member: Side::Old, wal: None },
    staging: Staging::Proven,
    inodes: Some(lifeboat_crds::journal::Inodes { old_member: 1, new_member: 2, wal: None }),
    safety_taken: true,
    served: None,
    tidy: false,
    kubelet_restarted: false,
};

const ALONE: Host = Host {
    control_plane: false,
    etcd: Etcd::Alone,
    held: true,
    locks: Locks { old: true, new: false },
    placed: Placed { member: Side::New, wal: None },
    served: Some(FACTS),
    tidy: true,
    ..RUNNING
};

const VERIFIED: Marks = Marks {
    staged: Some(Freshness::Stale),
    safety: true,
    prepared: true,
    served: Some(FACTS),
    verified: true,
    left: false,
    ended: None,
};

fn journal(records: &[Record]) -> Ledger {
    records.iter().fold(Ledger::default(), |ledger, record| ledger.with(record, Duration::ZERO))
}

fn in_doubt() -> Ledger {
    journal(&[
        Record::Staged,
        Record::IntendQuiesced,
        Record::IntendServed,
        Record::Served { facts: FACTS },
        Record::IntendVerified,
    ])
}

fn reading(marks: &[Marks]) -> Store<'_> {
    Store::Answers(Reading { order: OrderSeen::Sealed, decision: DecisionSeen::Absent, marks })
}

struct Seen<'a> {
    journal: Ledger,
    host: Host,
    store: Store<'a>,
    elapsed: Duration,
    wishes: Wishes,
    failure: Option<Failure>,
    lost_answers: bool,
}

impl<'a> Seen<'a> {
    fn new(journal: Ledger, host: Host, store: Store<'a>) -> Self {
        let (elapsed, wishes) = (Duration::ZERO, Wishes::default());
        Self { journal, host, store, elapsed, wishes, failure: None, lost_answers: false }
    }

    fn next(&self) -> Next {
        self.decide().next
    }

    fn decide(&self) -> Decision {
        let Self { journal, host, store, elapsed, wishes, failure, lost_answers } = self;
        decide(&Observed {
            terms: &terms(),
            journal,
            host: *host,
            store: *store,
            lost_answers: *lost_answers,
            elapsed: *elapsed,
            wishes: *wishes,
            failure: *failure,
        })
    }
}

#[test]
fn a_stale_member_keeps_everybody_from_stopping() {
    let fresh = Marks { staged: Some(Freshness::Fresh), safety: true, ..Marks::default() };
    let stale = Marks { staged: Some(Freshness::Stale), ..Marks::default() };
    let staged = journal(&[Record::Staged, Record::Safety { taken: true }]);
    let missing = [Seat(1)].into_iter().collect();
    assert_eq!(Seen::new(staged, RUNNING, reading(&[fresh, stale])).next(), Next::Wait(Wait::Staged(missing)));
    assert_eq!(Seen::new(staged, RUNNING, reading(&[fresh, fresh])).next(), Next::Record(Record::IntendQuiesced));
    assert_eq!(Seen::new(staged, RUNNING, Store::Silent).next(), Next::Wait(Wait::Store));
}

#[test]
fn a_safety_backup_that_is_required_must_succeed_and_one_of_best_effort_may_fail() {
    let fresh = Marks { staged: Some(Freshness::Fresh), ..Marks::default() };
    let host = Host { safety_taken: false, ..RUNNING };
    let marks = [fresh, fresh];
    let failure = Some(Failure { effect: Effect::TakeSafetyBackup, permanent: true });
    let seen = Seen { failure, ..Seen::new(journal(&[Record::Staged]), host, reading(&marks)) };
    assert_eq!(seen.next(), Next::Record(Record::Left { reason: LeaveReason::StepFailed }));
    let best_effort = Terms { safety: Some(OrderedSafety::BestEffort), ..terms() };
    let ledger = journal(&[Record::Staged]);
    let observed = Observed {
        terms: &best_effort,
        journal: &ledger,
        host,
        store: reading(&marks),
        lost_answers: false,
        elapsed: Duration::ZERO,
        wishes: Wishes::default(),
        failure,
    };
    assert_eq!(decide(&observed).next, Next::Record(Record::Safety { taken: false }));
}

#[test]
fn the_api_server_stops_before_etcd_and_the_hold_comes_first() {
    let stopping = journal(&[Record::Staged, Record::IntendQuiesced]);
    let mut host = RUNNING;
    let mut order = Vec::new();
    while let Next::Carry(effect) = Seen::new(stopping, host, Store::Silent).next() {
        order.push(effect);
        match effect {
            Effect::Hold => host.held = true,
            Effect::StopControlPlane => host.control_plane = false,
            Effect::StopEtcd => host.etcd = Etcd::Stopped,
            Effect::TakeLocks => host.locks = Locks { old: true, new: true },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, [Effect::Hold, Effect::StopControlPlane, Effect::StopEtcd, Effect::TakeLocks]);
}

#[test]
fn before_intend_verified_a_deadline_without_the_store_means_leaving_and_after_it_means_waiting() {
    let serving =
        journal(&[Record::Staged, Record::IntendQuiesced, Record::IntendServed, Record::Served { facts: FACTS }]);
    let late = Duration::from_secs(901);
    let seen = Seen { elapsed: late, ..Seen::new(serving, ALONE, Store::Silent) };
    assert_eq!(seen.next(), Next::Record(Record::Left { reason: LeaveReason::DeadlineExceeded }));
    let seen = Seen { elapsed: late, ..Seen::new(in_doubt(), ALONE, Store::Silent) };
    assert_eq!(seen.next(), Next::Wait(Wait::Doubt));
}

#[test]
fn a_commit_is_attempted_in_the_journal_before_it_is_written_and_only_with_all_verified() {
    let served = Marks { verified: false, ..VERIFIED };
    let one = [VERIFIED, served];
    let waits = Seen::new(in_doubt(), ALONE, reading(&one));
    assert_eq!(waits.next(), Next::Wait(Wait::Verified([Seat(1)].into_iter().collect())));
    let all = [VERIFIED, VERIFIED];
    let attempt = Record::Attempted { verdict: Verdict::Commit };
    assert_eq!(Seen::new(in_doubt(), ALONE, reading(&all)).next(), Next::Record(attempt.clone()));
    let attempted = in_doubt().with(&attempt, Duration::ZERO);
    assert_eq!(Seen::new(attempted, ALONE, reading(&all)).next(), Next::Propose(Verdict::Commit));
    // Once all are Verified, a deadline is no reason to go back.
    let late = Seen { elapsed: Duration::from_secs(5000), ..Seen::new(attempted, ALONE, reading(&all)) };
    assert_eq!(late.next(), Next::Propose(Verdict::Commit));
    let answers = Seen { lost_answers: true, ..Seen::new(in_doubt(), ALONE, reading(&all)) };
    assert_eq!(answers.next(), Next::Record(Record::Attempted { verdict: Verdict::Rollback }));
}

#[test]
fn nothing_is_decided_while_the_order_is_missing_or_the_decision_forged() {
    let all = [VERIFIED, VERIFIED];
    let with = |order, decision| Store::Answers(Reading { order, decision, marks: &all });
    for (order, decision, wait) in [
        (OrderSeen::Missing, DecisionSeen::Absent, Wait::Order),
        (OrderSeen::Other, DecisionSeen::Absent, Wait::Order),
        (OrderSeen::Sealed, DecisionSeen::Forged, Wait::ForgedDecision),
    ] {
        assert_eq!(Seen::new(in_doubt(), ALONE, with(order, decision)).next(), Next::Wait(wait));
    }
}

#[test]
fn what_the_store_says_counts_before_what_a_human_says() {
    let all = [VERIFIED, VERIFIED];
    let made = Reading { order: OrderSeen::Sealed, decision: DecisionSeen::Made(Verdict::Commit), marks: &all };
    let wishes = Wishes { hand: Some(HandWord::Obey(Verdict::Rollback)), ..Wishes::default() };
    let seen = Seen { wishes, ..Seen::new(in_doubt(), ALONE, Store::Answers(made)) };
    assert_eq!(seen.next(), Next::Record(Record::Learned { verdict: Verdict::Commit, from: Source::Store }));
    let seen = Seen { wishes, ..Seen::new(in_doubt(), ALONE, Store::Silent) };
    assert_eq!(seen.next(), Next::Record(Record::Learned { verdict: Verdict::Rollback, from: Source::Hand }));
}

#[test]
fn a_surrendered_node_attempts_nothing() {
    let all = [VERIFIED, VERIFIED];
    let surrendered = in_doubt().with(&Record::Surrendered, Duration::ZERO);
    assert_eq!(Seen::new(surrendered, ALONE, reading(&all)).next(), Next::Wait(Wait::Hand));
    let wishes = Wishes { hand: Some(HandWord::Resume), ..Wishes::default() };
    let seen = Seen { wishes, ..Seen::new(surrendered, ALONE, reading(&all)) };
    assert_eq!(seen.next(), Next::Record(Record::Resumed));
}

#[test]
fn a_node_that_left_never_marks_verified_and_owes_the_rollback() {
    let left = journal(&[Record::Staged, Record::Left { reason: LeaveReason::Cancelled }]);
    let decision = Seen::new(left, RUNNING, reading(&[Marks::default(); 2])).decide();
    assert_eq!(decision.mark, Some(Claim::Left));
    assert_eq!(decision.next, Next::Carry(Effect::DiscardStaging));
    let host = Host { staging: Staging::Absent, ..RUNNING };
    let outcome = lifeboat_crds::mark::Outcome::RolledBack;
    let ended = left.with(&Record::Ended { restore_id: terms().restore_id, outcome }, Duration::ZERO);
    assert_eq!(Seen::new(ended, host, reading(&[Marks::default(); 2])).next(), Next::Propose(Verdict::Rollback));
    assert_eq!(Seen::new(ended, host, Store::Silent).next(), Next::Rest(outcome));
}

#[test]
fn api_servers_that_list_all_etcds_get_no_undecided_data_from_elsewhere() {
    let stopped = Host { etcd: Etcd::Stopped, locks: Locks { old: true, new: true }, served: None, ..ALONE };
    let serving = journal(&[Record::Staged, Record::IntendQuiesced, Record::IntendServed]);
    let next = Seen::new(serving, stopped, reading(&[Marks::default(); 2])).next();
    assert_eq!(next, Next::Carry(Effect::StartAlone { clients: next::Clients::Loopback }));
    // After a reboot nothing is started before the store says that nothing is decided.
    assert_eq!(Seen::new(serving, stopped, Store::Silent).next(), Next::Wait(Wait::Store));
}

#[test]
fn a_human_may_conclude_only_from_journals_that_stand_still() {
    let surrendered = |records: &[Record]| {
        let ledger = records.iter().fold(in_doubt(), |ledger, record| ledger.with(record, Duration::ZERO));
        Some(ledger.with(&Record::Surrendered, Duration::ZERO))
    };
    let (commit, rollback) = (Verdict::Commit, Verdict::Rollback);
    let (none, committed) = (surrendered(&[]), surrendered(&[Record::Attempted { verdict: commit }]));
    let rolled = surrendered(&[Record::Attempted { verdict: rollback }]);
    assert_eq!(judge(&[none, none]), Judgement::Obey(rollback));
    assert_eq!(judge(&[none, committed]), Judgement::Obey(commit));
    assert_eq!(judge(&[rolled, none]), Judgement::Obey(rollback));
    assert_eq!(judge(&[rolled, committed]), Judgement::Unknowable);
    assert_eq!(judge(&[none, None]), Judgement::Missing([Seat(1)].into_iter().collect()));
    assert_eq!(judge(&[Some(in_doubt()), none]), Judgement::NotSurrendered([Seat(0)].into_iter().collect()));
    let left = Some(journal(&[Record::Staged, Record::Left { reason: LeaveReason::Cancelled }]));
    assert_eq!(judge(&[left, None]), Judgement::Obey(rollback), "it was never Verified");
    let knows = Some(in_doubt().with(&Record::Learned { verdict: commit, from: Source::Store }, Duration::ZERO));
    assert_eq!(judge(&[None, knows]), Judgement::Obey(commit));
}

#[test]
fn an_executor_that_was_started_again_locks_the_old_data_again() {
    let unlocked = Host { locks: Locks::default(), ..ALONE };
    assert_eq!(Seen::new(in_doubt(), unlocked, Store::Silent).next(), Next::Carry(Effect::LockOld));
    let stray = Host { strangers: true, ..unlocked };
    assert_eq!(Seen::new(in_doubt(), stray, Store::Silent).next(), Next::Carry(Effect::EndStrangers));
}

#[test]
fn the_words_for_doubt_say_what_to_do() {
    assert!(Wait::Doubt.to_string().contains("lifeboat restore decide"));
    let seats: Seats = [Seat(1), Seat(2)].into_iter().collect();
    assert_eq!(Wait::Verified(seats).to_string(), "verified; waits for members #1, #2");
}
