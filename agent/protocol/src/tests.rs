use std::time::Duration;

use lifeboat_crds::journal::{Record, Source};
use lifeboat_crds::mark::{Claim, Outcome, Reason, ServedFacts, Verdict};
use lifeboat_crds::order::{EtcdClusterId, OrderedSafety, RestoreId};

use super::*;
use crate::hand::{Judgement, Said, Word, judge};
use crate::observed::{
    ControlPlane, DecisionSeen, Etcd, Failure, Freshness, Host, Lies, Locks, Marks, OrderSeen, Placed, Reading,
    Staging, Store, Wishes,
};

fn terms() -> Terms {
    Terms {
        restore_id: RestoreId::new("ns", "a", 1, "ab"),
        order_digest: "0".repeat(64).parse().unwrap(),
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
    control_plane: ControlPlane::All,
    etcd: Etcd::Full,
    held: false,
    manifests_saved: true,
    locks: Locks { old: false, new: false },
    strangers: false,
    placed: Placed { member: Lies::Old, wal: None },
    placed_cluster: Some(EtcdClusterId(1)),
    staging: Staging::Proven,
    inodes: Some(lifeboat_crds::journal::Inodes { old_member: 1, new_member: 2, wal: None }),
    safety_taken: true,
    served: None,
    tidy: false,
    kubelet_restarted: false,
};

const ALONE: Host = Host {
    control_plane: ControlPlane::None,
    etcd: Etcd::Alone,
    held: true,
    locks: Locks { old: true, new: false },
    placed: Placed { member: Lies::New, wal: None },
    placed_cluster: Some(EtcdClusterId(2)),
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
    learned: None,
    left: false,
    ended: None,
};

const COMMIT: Next = Next::Propose { verdict: Verdict::Commit, reason: Reason::AllVerified };

fn obeying() -> Ledger {
    in_doubt()
        .with(&Record::Learned { verdict: Verdict::Commit, from: Source::Store }, Duration::ZERO)
        .with(&Record::IntendObeyed, Duration::ZERO)
}

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
    refused: bool,
}

impl<'a> Seen<'a> {
    fn new(journal: Ledger, host: Host, store: Store<'a>) -> Self {
        let (elapsed, wishes) = (Duration::ZERO, Wishes::default());
        Self { journal, host, store, elapsed, wishes, failure: None, lost_answers: false, refused: false }
    }

    fn next(&self) -> Next {
        self.decide().next
    }

    fn decide(&self) -> Decision {
        let Self { journal, host, store, elapsed, wishes, failure, lost_answers, refused } = self;
        decide(&Observed {
            terms: &terms(),
            journal,
            host: *host,
            store: *store,
            lost_answers: *lost_answers,
            elapsed: *elapsed,
            wishes: *wishes,
            failure: *failure,
            refused: *refused,
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
    assert_eq!(seen.next(), Next::Record(Record::Left { reason: Reason::StepFailed }));
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
        refused: false,
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
            Effect::StopControlPlane => host.control_plane = ControlPlane::None,
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
    assert_eq!(seen.next(), Next::Record(Record::Left { reason: Reason::DeadlineExceeded }));
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
    let attempt = Record::Attempted { verdict: Verdict::Commit, reason: Reason::AllVerified };
    assert_eq!(Seen::new(in_doubt(), ALONE, reading(&all)).next(), Next::Record(attempt.clone()));
    let attempted = in_doubt().with(&attempt, Duration::ZERO);
    assert_eq!(Seen::new(attempted, ALONE, reading(&all)).next(), COMMIT);
    // Once all are Verified, a deadline is no reason to go back.
    let late = Seen { elapsed: Duration::from_secs(5000), ..Seen::new(attempted, ALONE, reading(&all)) };
    assert_eq!(late.next(), COMMIT);
    let answers = Seen { lost_answers: true, ..Seen::new(in_doubt(), ALONE, reading(&all)) };
    assert_eq!(
        answers.next(),
        Next::Record(Record::Attempted { verdict: Verdict::Rollback, reason: Reason::LostMemberAnswers })
    );
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
    let wishes = Wishes { hand: Some(Word::decision(Verdict::Rollback)), ..Wishes::default() };
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
    let wishes = Wishes { hand: Some(Word(Said::Resume)), ..Wishes::default() };
    let seen = Seen { wishes, ..Seen::new(surrendered, ALONE, reading(&all)) };
    assert_eq!(seen.next(), Next::Record(Record::Resumed));
}

#[test]
fn a_node_that_left_never_marks_verified_and_owes_the_rollback() {
    let left = journal(&[Record::Staged, Record::Left { reason: Reason::Cancelled }]);
    let decision = Seen::new(left, RUNNING, reading(&[Marks::default(); 2])).decide();
    assert_eq!(decision.mark, Some(Claim::Left { reason: Reason::Cancelled }));
    assert_eq!(decision.next, Next::Carry(Effect::DiscardStaging));
    let host = Host { staging: Staging::Absent, ..RUNNING };
    let outcome = Outcome::RolledBack;
    let ended = left.with(&Record::Ended { restore_id: terms().restore_id, outcome }, Duration::ZERO);
    let rollback = Next::Propose { verdict: Verdict::Rollback, reason: Reason::Cancelled };
    assert_eq!(Seen::new(ended, host, reading(&[Marks::default(); 2])).next(), rollback);
}

#[test]
fn a_node_that_ended_rests_only_when_the_store_says_so() {
    let left = journal(&[Record::Staged, Record::Left { reason: Reason::Cancelled }]);
    let outcome = Outcome::RolledBack;
    let ended = left.with(&Record::Ended { restore_id: terms().restore_id, outcome }, Duration::ZERO);
    let host = Host { staging: Staging::Absent, ..RUNNING };
    let next = |decision, own: Marks| {
        let marks = [own, Marks::default()];
        Seen::new(ended, host, Store::Answers(Reading { order: OrderSeen::Sealed, decision, marks: &marks })).next()
    };
    assert_eq!(Seen::new(ended, host, Store::Silent).next(), Next::Wait(Wait::Owes));
    let made = DecisionSeen::Made(Verdict::Rollback);
    let shown = Marks { ended: Some(outcome), left: true, ..Marks::default() };
    assert_eq!(next(made, Marks::default()), Next::Wait(Wait::Owes));
    assert_eq!(next(made, Marks { left: false, ..shown }), Next::Wait(Wait::Owes));
    assert_eq!(next(made, shown), Next::Rest(outcome));
    assert!(matches!(next(DecisionSeen::Absent, shown), Next::Propose { verdict: Verdict::Rollback, reason: _ }));
    assert_eq!(next(DecisionSeen::Forged, shown), Next::Wait(Wait::ForgedDecision));
    assert_eq!(next(DecisionSeen::Made(Verdict::Commit), shown), Next::Wait(Wait::Contradiction));
    let refused = Seen { refused: true, ..Seen::new(ended, host, reading(&[])) };
    assert_eq!(refused.next(), Next::Wait(Wait::Owes));
}

#[test]
fn a_decision_is_carried_out_when_the_store_holds_it_and_this_nodes_word() {
    let learned = Record::Learned { verdict: Verdict::Commit, from: Source::Store };
    let knows = in_doubt().with(&learned, Duration::ZERO);
    let next = |order, decision, own: Option<Verdict>| {
        let marks = [Marks { learned: own, ..VERIFIED }, VERIFIED];
        Seen::new(knows, ALONE, Store::Answers(Reading { order, decision, marks: &marks })).next()
    };
    let (made, own) = (DecisionSeen::Made(Verdict::Commit), Some(Verdict::Commit));
    let obeys = Next::Record(Record::IntendObeyed);
    assert_eq!(next(OrderSeen::Sealed, made, None), Next::Wait(Wait::Shown));
    assert_eq!(next(OrderSeen::Sealed, made, own), obeys);
    let again = Next::Propose { verdict: Verdict::Commit, reason: Reason::DecidedBefore };
    assert_eq!(next(OrderSeen::Sealed, DecisionSeen::Absent, own), again, "somebody deleted it");
    assert_eq!(next(OrderSeen::Sealed, DecisionSeen::Forged, None), Next::Wait(Wait::Shown));
    assert_eq!(next(OrderSeen::Sealed, DecisionSeen::Forged, own), obeys, "the others learn it from the mark");
    assert_eq!(next(OrderSeen::Missing, DecisionSeen::Absent, own), obeys);
    let other = Next::Record(Record::Learned { verdict: Verdict::Rollback, from: Source::Store });
    assert_eq!(next(OrderSeen::Sealed, DecisionSeen::Made(Verdict::Rollback), own), other);
    // Without the store, what was learnt is what counts.
    assert_eq!(Seen::new(knows, ALONE, Store::Silent).next(), obeys);
    let refused = Seen { refused: true, ..Seen::new(knows, ALONE, reading(&[VERIFIED, VERIFIED])) };
    assert_eq!(refused.next(), obeys);
    let obeying = knows.with(&Record::IntendObeyed, Duration::ZERO);
    assert_eq!(Seen::new(obeying, ALONE, Store::Silent).next(), Next::Carry(Effect::StartAll));
    let mark = Seen::new(knows, ALONE, reading(&[VERIFIED, VERIFIED])).decide().mark;
    assert_eq!(mark, Some(Claim::Learned { verdict: Verdict::Commit }));
}

#[test]
fn a_decision_that_the_store_lost_is_learnt_from_whoever_shows_it() {
    let learned = Marks { learned: Some(Verdict::Commit), ..VERIFIED };
    let ended = Marks { ended: Some(Outcome::Committed), ..VERIFIED };
    for decision in [DecisionSeen::Absent, DecisionSeen::Forged] {
        for other in [learned, ended] {
            let marks = [VERIFIED, other];
            let store = Store::Answers(Reading { order: OrderSeen::Sealed, decision, marks: &marks });
            let cancelled = Wishes { cancel: true, ..Wishes::default() };
            let seen = Seen { wishes: cancelled, ..Seen::new(in_doubt(), ALONE, store) };
            let next = Next::Record(Record::Learned { verdict: Verdict::Commit, from: Source::Store });
            assert_eq!(seen.next(), next, "{decision:?}");
        }
    }
    // One that ended was certain; one that had only learnt it may have learnt another since.
    let marks = [learned, Marks { ended: Some(Outcome::RolledBack), ..VERIFIED }];
    let next = Next::Record(Record::Learned { verdict: Verdict::Rollback, from: Source::Store });
    assert_eq!(Seen::new(in_doubt(), ALONE, reading(&marks)).next(), next);
    let marks = [ended, Marks { ended: Some(Outcome::RolledBack), ..VERIFIED }];
    assert_eq!(Seen::new(in_doubt(), ALONE, reading(&marks)).next(), Next::Wait(Wait::Contradiction));
    // A decision that landed after another one was carried out and lost.
    let marks = [VERIFIED, Marks { ended: Some(Outcome::RolledBack), ..VERIFIED }];
    let made = DecisionSeen::Made(Verdict::Commit);
    let store = Store::Answers(Reading { order: OrderSeen::Sealed, decision: made, marks: &marks });
    assert_eq!(Seen::new(in_doubt(), ALONE, store).next(), Next::Wait(Wait::Contradiction));
}

#[test]
fn a_restore_ends_only_where_everything_runs_and_nothing_is_held() {
    let left = journal(&[Record::Staged, Record::IntendQuiesced, Record::Left { reason: Reason::Cancelled }]);
    let whole = Host { staging: Staging::Absent, ..RUNNING };
    let next = |host| Seen::new(left, host, Store::Silent).next();
    assert!(matches!(next(whole), Next::Record(Record::Ended { .. })));
    let start = Next::Carry(Effect::StartAll);
    assert_eq!(next(Host { held: true, ..whole }), start, "the manifests are away, the pods still drain");
    assert_eq!(next(Host { control_plane: ControlPlane::Some, ..whole }), start);
    let new = Host { control_plane: ControlPlane::All, etcd: Etcd::Full, held: false, ..ALONE };
    let next = |host| Seen::new(obeying(), host, Store::Silent).next();
    assert_eq!(next(new), Next::Record(Record::Released));
    assert_eq!(next(Host { held: true, ..new }), start);
    assert_eq!(next(Host { control_plane: ControlPlane::Some, ..new }), start);
}

#[test]
fn nothing_is_started_beside_a_stray() {
    let left = journal(&[Record::Staged, Record::IntendQuiesced, Record::Left { reason: Reason::Cancelled }]);
    let stray = Host { strangers: true, locks: Locks::default(), ..ALONE };
    let stopped = Host { etcd: Etcd::Stopped, served: None, ..stray };
    let full = Host { etcd: Etcd::Full, control_plane: ControlPlane::All, held: false, ..stray };
    let old = Host { placed: RUNNING.placed, placed_cluster: RUNNING.placed_cluster, ..stopped };
    for (ledger, host) in
        [(obeying(), stray), (obeying(), stopped), (obeying(), full), (left, old), (in_doubt(), stray)]
    {
        assert_eq!(Seen::new(ledger, host, Store::Silent).next(), Next::Carry(Effect::EndStrangers), "{host:?}");
    }
    let free = Host { strangers: false, ..full };
    assert_eq!(Seen::new(obeying(), free, Store::Silent).next(), Next::Carry(Effect::LockOld));
}

#[test]
fn in_doubt_local_safety_goes_before_any_decision() {
    let all = [VERIFIED, VERIFIED];
    let next = |host| Seen::new(in_doubt(), host, reading(&all)).next();
    assert_eq!(next(Host { held: false, ..ALONE }), Next::Carry(Effect::Hold));
    assert_eq!(next(Host { control_plane: ControlPlane::Some, ..ALONE }), Next::Carry(Effect::StopControlPlane));
    assert_eq!(next(Host { strangers: true, ..ALONE }), Next::Carry(Effect::EndStrangers));
    let stopped = Host { etcd: Etcd::Stopped, locks: Locks { old: true, new: true }, served: None, ..ALONE };
    let start = Effect::StartAlone { clients: next::Clients::Loopback };
    assert_eq!(next(stopped), Next::Carry(start));
    // An etcd that cannot be started does not keep the decision away, and is tried again.
    let failure = Some(Failure { effect: start, permanent: false });
    let seen = Seen { failure, ..Seen::new(in_doubt(), stopped, reading(&all)) };
    assert!(matches!(seen.next(), Next::Record(Record::Attempted { verdict: Verdict::Commit, .. })));
    assert_eq!(Seen { refused: true, ..seen }.next(), Next::Carry(start));
}

#[test]
fn a_store_that_takes_no_decision_is_doubt_and_is_said() {
    let attempted = Record::Attempted { verdict: Verdict::Commit, reason: Reason::AllVerified };
    let all = [VERIFIED, VERIFIED];
    let seen = Seen { refused: true, ..Seen::new(in_doubt().with(&attempted, Duration::ZERO), ALONE, reading(&all)) };
    assert_eq!(seen.next(), Next::Wait(Wait::Refused));
    assert!(Wait::Refused.to_string().contains("IN DOUBT"));
    assert!(Wait::Refused.to_string().contains("lifeboat restore decide"));
    // After waiting it is tried again.
    assert_eq!(Seen { refused: false, ..seen }.next(), COMMIT);
}

#[test]
fn time_that_passed_is_journaled_before_it_can_be_lost() {
    let staged = journal(&[Record::Staged]);
    let at = |seconds| {
        let elapsed = Duration::from_secs(seconds);
        Seen { elapsed, ..Seen::new(staged, RUNNING, Store::Silent) }.next()
    };
    assert_eq!(at(9), Next::Wait(Wait::Store));
    assert_eq!(at(10), Next::Record(Record::Waited));
    assert_eq!(at(3601), Next::Record(Record::Left { reason: Reason::DeadlineExceeded }));
    // An executor that dies every 11 s comes to its deadline all the same.
    let mut ledger = staged;
    for _ in 0..400 {
        let elapsed = ledger.elapsed + Duration::from_secs(11);
        let seen = Seen { elapsed, ..Seen::new(ledger, RUNNING, Store::Silent) };
        match seen.next() {
            Next::Record(record) if ledger.left.is_none() => ledger = ledger.with(&record, elapsed),
            _ => break,
        }
    }
    assert_eq!(ledger.left, Some(Reason::DeadlineExceeded));
    // What is decided has no deadline, and its journal need not grow.
    let rolled = journal(&[Record::Staged, Record::Left { reason: Reason::Cancelled }]);
    let seen = Seen { elapsed: Duration::from_secs(99), ..Seen::new(rolled, RUNNING, Store::Silent) };
    assert_eq!(seen.next(), Next::Carry(Effect::DiscardStaging));
}

#[test]
fn a_disk_that_is_not_what_the_journal_says_is_not_touched() {
    let inodes = RUNNING.inodes.unwrap();
    let exchanging = journal(&[Record::Staged, Record::IntendQuiesced, Record::IntendPrepared { inodes }]);
    let doubt = in_doubt().with(&Record::IntendPrepared { inodes }, Duration::ZERO);
    let moved = Placed { member: Lies::Unknown, wal: None };
    let quiet = Host {
        etcd: Etcd::Stopped,
        control_plane: ControlPlane::None,
        held: true,
        locks: Locks { old: true, new: true },
        ..RUNNING
    };
    let next = |ledger, host| Seen::new(ledger, host, Store::Silent).next();
    let stops = Next::Wait(Wait::Contradiction);
    assert!(matches!(next(exchanging, quiet), Next::Carry(Effect::Exchange { .. })));
    assert_eq!(next(exchanging, Host { placed: moved, ..quiet }), stops);
    let other_cluster = Some(EtcdClusterId(9));
    assert_eq!(next(exchanging, Host { placed_cluster: other_cluster, ..quiet }), stops);
    assert_eq!(next(doubt, Host { placed_cluster: Some(EtcdClusterId(1)), ..ALONE }), stops);
    assert_eq!(next(doubt, Host { placed: RUNNING.placed, placed_cluster: None, ..ALONE }), stops);
    assert_eq!(next(doubt, ALONE), Next::Wait(Wait::Doubt));
}

#[test]
fn a_journal_of_another_order_is_none_of_this_restore() {
    use lifeboat_crds::journal::{Entry, JOURNAL_FORMAT};
    let entry = |record| Entry { format: JOURNAL_FORMAT, sequence: 0, elapsed_millis: 5, record };
    let (restore_id, order_digest) = (terms().restore_id, terms().order_digest);
    let sealed = Record::Sealed { restore_id: restore_id.clone(), order_digest: order_digest.clone() };
    let ended = |restore_id| entry(Record::Ended { restore_id, outcome: Outcome::Committed });
    let own = [entry(sealed.clone()), entry(Record::Staged), ended(restore_id.clone())];
    assert!(Ledger::replay(&own, &terms()).unwrap().staged);
    let replay = |entries: &[Entry]| Ledger::replay(entries, &terms()).unwrap_err();
    assert_eq!(replay(&[]), ledger::LedgerError::NotSealed, "an empty journal is not one that stages");
    assert_eq!(replay(&own[1..]), ledger::LedgerError::NotSealed);
    let other = Record::Sealed { restore_id, order_digest: "1".repeat(64).parse().unwrap() };
    assert_eq!(replay(&[entry(other)]), ledger::LedgerError::OtherOrder);
    let elsewhere = Record::Sealed { restore_id: RestoreId::new("ns", "b", 1, "ab"), order_digest };
    assert_eq!(replay(&[entry(elsewhere)]), ledger::LedgerError::OtherOrder);
    let other_end = ended(RestoreId::new("ns", "b", 1, "ab"));
    assert_eq!(replay(&[entry(sealed), other_end]), ledger::LedgerError::OtherOrder);
}

#[test]
fn no_seat_is_beyond_a_set() {
    let all: Seats = (0..20).map(Seat).collect();
    assert_eq!(all.iter().count(), 16);
    assert!(!all.contains(Seat(16)) && !all.contains(Seat(255)));
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
    let (none, committed) =
        (surrendered(&[]), surrendered(&[Record::Attempted { verdict: commit, reason: Reason::AllVerified }]));
    let rolled = surrendered(&[Record::Attempted { verdict: rollback, reason: Reason::Cancelled }]);
    let tell = |said| Judgement::Tell(Word(said));
    assert_eq!(judge(&[none, none]), tell(Said::Judged(rollback)));
    assert_eq!(judge(&[none, committed]), tell(Said::Judged(commit)));
    assert_eq!(judge(&[rolled, none]), tell(Said::Judged(rollback)));
    assert_eq!(
        judge(&[rolled, committed]),
        tell(Said::Resume),
        "nobody can know, and nothing else gives a journal back"
    );
    assert_eq!(judge(&[none, None]), Judgement::Missing([Seat(1)].into_iter().collect()));
    assert_eq!(judge(&[Some(in_doubt()), none]), Judgement::NotSurrendered([Seat(0)].into_iter().collect()));
    let left = Some(journal(&[Record::Staged, Record::Left { reason: Reason::Cancelled }]));
    assert_eq!(judge(&[left, None]), tell(Said::Proven(rollback)), "it was never Verified");
    let knows = Some(in_doubt().with(&Record::Learned { verdict: commit, from: Source::Store }, Duration::ZERO));
    assert_eq!(judge(&[None, knows]), tell(Said::Proven(commit)));
    assert_eq!(judge(&[left, knows]), Judgement::Contradiction, "not whichever comes first");
    assert_eq!(judge(&[knows, left]), Judgement::Contradiction);
}

#[test]
fn a_judgement_counts_only_for_a_journal_that_was_judged() {
    let attempted = Record::Attempted { verdict: Verdict::Commit, reason: Reason::AllVerified };
    let (moving, still) = (in_doubt(), in_doubt().with(&Record::Surrendered, Duration::ZERO));
    let next = |ledger, said| {
        let wishes = Wishes { hand: Some(Word(said)), ..Wishes::default() };
        Seen { wishes, ..Seen::new(ledger, ALONE, Store::Silent) }.next()
    };
    let learned = |verdict| Next::Record(Record::Learned { verdict, from: Source::Hand });
    let (commit, rollback) = (Verdict::Commit, Verdict::Rollback);
    assert_eq!(next(moving, Said::Judged(rollback)), Next::Wait(Wait::Doubt), "it was not among those judged");
    assert_eq!(next(moving, Said::Proven(rollback)), learned(rollback));
    assert_eq!(next(still, Said::Judged(rollback)), learned(rollback));
    assert_eq!(next(still, Said::Judged(commit)), learned(commit));
    let tried = still.with(&attempted, Duration::ZERO);
    assert_eq!(next(tried, Said::Judged(rollback)), Next::Wait(Wait::Contradiction), "this journal says otherwise");
    assert_eq!(next(tried, Said::Judged(commit)), learned(commit));
    assert_eq!(next(tried, Said::Proven(rollback)), learned(rollback), "another was first");
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
