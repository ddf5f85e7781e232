use super::*;

const HEALTHY: OtherMember = OtherMember { healthy: true, learner: false, started: true };
const SICK: OtherMember = OtherMember { healthy: false, ..HEALTHY };
const OLD: EtcdMemberId = EtcdMemberId(1);
const NEW: EtcdMemberId = EtcdMemberId(2);
const HOST: MemberHost = MemberHost {
    etcd: MemberEtcd::Runs,
    placed: PlacedMember::Of(OLD),
    manifest_joins: false,
    snapshot: true,
    hash_equal: None,
};

fn listed(id: EtcdMemberId, learner: bool) -> OwnEntry {
    OwnEntry::Listed { id, learner, leads: false }
}

fn seen(journal: MemberLedger, own: OwnEntry, others: &[OtherMember], host: MemberHost) -> MemberSeen<'_> {
    MemberSeen {
        journal,
        cluster: ClusterSeen::Answers { agree: true, own, others },
        lock: Lock::Mine,
        host,
        stopped_for: AFTER_STOP,
        joining_for: Duration::ZERO,
        failed: None,
        cancel: false,
    }
}

fn journal(records: &[MemberRecord]) -> MemberLedger {
    records.iter().fold(MemberLedger::default(), |ledger, record| ledger.with(*record))
}

fn removing() -> MemberLedger {
    let begun = MemberRecord::Begun { old_member: Some(OLD) };
    journal(&[begun, MemberRecord::IntendStopped, MemberRecord::IntendRemoved])
}

#[test]
fn refusals_name_the_arithmetic() {
    let refused = |own, others: &[OtherMember]| {
        let seen = MemberSeen { lock: Lock::Free, ..seen(MemberLedger::default(), own, others, HOST) };
        match decide_member(&seen) {
            MemberNext::Refuse(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let own = listed(OLD, false);
    let words = refused(own, &[HEALTHY, SICK]);
    assert_eq!(words, "1 of the 2 other voters are healthy; 2 are needed, the quorum of 3 voters");
    assert!(refused(own, &[HEALTHY]).contains("a cluster of one or two can never do this"));
    assert!(refused(own, &[]).contains("restore it from a backup"));
    assert!(refused(own, &[HEALTHY, HEALTHY, SICK, SICK]).contains("3 are needed, the quorum of 5"));
    assert!(
        refused(own, &[HEALTHY, HEALTHY, OtherMember { learner: true, ..HEALTHY }]).contains("one change at a time")
    );
    assert!(refused(own, &[HEALTHY, OtherMember { started: false, ..HEALTHY }]).contains("never started"));
    let silent =
        MemberSeen { cluster: ClusterSeen::Silent, lock: Lock::Free, ..seen(MemberLedger::default(), own, &[], HOST) };
    assert_eq!(decide_member(&silent), MemberNext::Refuse(QuorumRefusal::Silent));
}

#[test]
fn five_members_can_spare_one_while_another_is_down() {
    let others = [HEALTHY, HEALTHY, HEALTHY, SICK];
    let seen = seen(MemberLedger::default(), listed(OLD, false), &others, HOST);
    assert_eq!(decide_member(&seen), MemberNext::Record(MemberRecord::Begun { old_member: Some(OLD) }));
}

#[test]
fn health_that_changed_while_the_lock_was_taken_gives_the_lock_back() {
    let others = [HEALTHY, SICK];
    let with_lock = seen(MemberLedger::default(), listed(OLD, false), &others, HOST);
    assert_eq!(decide_member(&with_lock), MemberNext::Carry(MemberEffect::DropLock));
}

#[test]
fn before_the_removal_trouble_starts_the_old_data_again_and_after_it_never() {
    let stopped = MemberHost { etcd: MemberEtcd::Stopped, ..HOST };
    let others = [HEALTHY, SICK];
    let stopping = journal(&[MemberRecord::Begun { old_member: Some(OLD) }, MemberRecord::IntendStopped]);
    let before = seen(stopping, listed(OLD, false), &others, stopped);
    assert_eq!(decide_member(&before), MemberNext::Carry(MemberEffect::StartOld));
    let ended = MemberRecord::Ended { outcome: Outcome::RolledBack };
    assert_eq!(decide_member(&seen(stopping, listed(OLD, false), &others, HOST)), MemberNext::Record(ended));
    let after = seen(removing(), listed(OLD, false), &others, stopped);
    assert_eq!(decide_member(&after), MemberNext::Wait(MemberWait::Quorum));
}

#[test]
fn a_crash_between_any_two_steps_finds_its_place_again() {
    let stopped = MemberHost { etcd: MemberEtcd::Stopped, ..HOST };
    let aside = MemberHost { placed: PlacedMember::Nothing, ..stopped };
    let ready = MemberHost { manifest_joins: true, ..aside };
    let runs = MemberHost { etcd: MemberEtcd::Runs, placed: PlacedMember::Of(NEW), ..ready };
    let others = [HEALTHY, HEALTHY];
    let next = |own, host| decide_member(&seen(removing(), own, &others, host));
    assert_eq!(next(listed(OLD, false), stopped), MemberNext::Carry(MemberEffect::Remove(OLD)));
    assert_eq!(next(OwnEntry::Absent, stopped), MemberNext::Carry(MemberEffect::AddLearner));
    // Added, not started: the list has an unstarted member, its own, and it goes on.
    assert_eq!(next(listed(NEW, true), stopped), MemberNext::Carry(MemberEffect::MoveAside));
    assert_eq!(next(listed(NEW, true), aside), MemberNext::Carry(MemberEffect::WriteManifest));
    assert_eq!(next(listed(NEW, true), ready), MemberNext::Carry(MemberEffect::Start));
    let starts = MemberHost { placed: PlacedMember::Nothing, ..runs };
    assert_eq!(next(listed(NEW, true), starts), MemberNext::Wait(MemberWait::CatchUp), "no WAL yet");
    let started = MemberRecord::Started { member: NEW };
    assert_eq!(next(listed(NEW, true), runs), MemberNext::Record(started));
    let next = |own, host| decide_member(&seen(removing().with(started), own, &others, host));
    let new = MemberHost { placed: PlacedMember::Of(NEW), ..ready };
    assert_eq!(next(listed(NEW, true), new), MemberNext::Carry(MemberEffect::Start));
    assert_eq!(next(listed(NEW, true), runs), MemberNext::Carry(MemberEffect::Promote(NEW)));
    assert_eq!(next(listed(NEW, false), runs), MemberNext::Wait(MemberWait::CatchUp));
    let differs = MemberHost { hash_equal: Some(false), ..runs };
    assert_eq!(next(listed(NEW, false), differs), MemberNext::Wait(MemberWait::HashDiffers));
    let equal = MemberHost { hash_equal: Some(true), ..runs };
    assert_eq!(next(listed(NEW, false), equal), MemberNext::Record(MemberRecord::Rejoined));
}

#[test]
fn data_that_a_new_member_started_with_is_never_taken_from_it() {
    let others = [HEALTHY, HEALTHY];
    let ledger = removing().with(MemberRecord::Started { member: NEW });
    let host = MemberHost { etcd: MemberEtcd::Stopped, placed: PlacedMember::Of(NEW), manifest_joins: true, ..HOST };
    let next = |learner, host| decide_member(&seen(ledger, listed(NEW, learner), &others, host));
    for learner in [true, false] {
        assert_eq!(next(learner, host), MemberNext::Carry(MemberEffect::Start), "its data is its memory");
        // Gone, the member has forgotten what it voted for: it is removed and another one added.
        let gone = MemberHost { placed: PlacedMember::Nothing, ..host };
        assert_eq!(next(learner, gone), MemberNext::Carry(MemberEffect::Remove(NEW)));
        let unreadable = MemberHost { placed: PlacedMember::Unreadable, ..host };
        assert_eq!(next(learner, unreadable), MemberNext::Wait(MemberWait::Unreadable));
    }
    // Never started: what lies there, readable or not, is another's.
    for placed in [PlacedMember::Of(OLD), PlacedMember::Unreadable] {
        let host = MemberHost { placed, ..host };
        let next = decide_member(&seen(removing(), listed(NEW, true), &others, host));
        assert_eq!(next, MemberNext::Carry(MemberEffect::MoveAside));
    }
}

#[test]
fn a_promotion_asks_for_lock_and_health_as_every_change_of_membership() {
    let ledger = removing().with(MemberRecord::Started { member: NEW });
    let host = MemberHost { placed: PlacedMember::Of(NEW), manifest_joins: true, ..HOST };
    let sick = [HEALTHY, SICK];
    let next = |lock, others| decide_member(&MemberSeen { lock, ..seen(ledger, listed(NEW, true), others, host) });
    assert_eq!(next(Lock::Mine, &sick), MemberNext::Wait(MemberWait::Quorum));
    assert_eq!(next(Lock::Free, &[HEALTHY, HEALTHY]), MemberNext::Carry(MemberEffect::TakeLock));
    assert_eq!(next(Lock::Other, &[HEALTHY, HEALTHY]), MemberNext::Wait(MemberWait::Lock));
    assert_eq!(next(Lock::Mine, &[HEALTHY, HEALTHY]), MemberNext::Carry(MemberEffect::Promote(NEW)));
}

#[test]
fn a_member_that_does_not_catch_up_gives_the_lock_back_and_calls_for_help() {
    let ledger = removing().with(MemberRecord::Started { member: NEW });
    let host = MemberHost { placed: PlacedMember::Of(NEW), manifest_joins: true, ..HOST };
    let others = [HEALTHY, HEALTHY];
    let differs = MemberHost { hash_equal: Some(false), ..host };
    for (learner, host, wait) in
        [(true, host, MemberWait::Behind), (false, host, MemberWait::Behind), (false, differs, MemberWait::HashDiffers)]
    {
        let late = MemberSeen { joining_for: CATCH_UP, ..seen(ledger, listed(NEW, learner), &others, host) };
        assert_eq!(decide_member(&late), MemberNext::Carry(MemberEffect::DropLock));
        assert_eq!(decide_member(&MemberSeen { lock: Lock::Free, ..late }), MemberNext::Wait(wait));
    }
}

#[test]
fn old_data_that_cannot_be_started_is_not_tried_for_ever() {
    let stopped = MemberHost { etcd: MemberEtcd::Stopped, ..HOST };
    let stopping = journal(&[MemberRecord::Begun { old_member: Some(OLD) }, MemberRecord::IntendStopped]);
    let failed = Some(MemberEffect::StartOld);
    let (sick, well) = ([HEALTHY, SICK], [HEALTHY, HEALTHY]);
    let failed_among = |others| MemberSeen { failed, ..seen(stopping, listed(OLD, false), others, stopped) };
    assert_eq!(decide_member(&failed_among(&sick)), MemberNext::Wait(MemberWait::OldUnusable));
    let on = decide_member(&failed_among(&well));
    assert_eq!(on, MemberNext::Record(MemberRecord::IntendRemoved), "it goes on when the others are healthy");
    let ended = MemberNext::Record(MemberRecord::Ended { outcome: Outcome::RolledBack });
    assert_eq!(decide_member(&MemberSeen { cancel: true, ..failed_among(&sick) }), ended);
}

#[test]
fn removal_and_addition_need_the_lock_and_a_stopped_etcd() {
    let others = [HEALTHY, HEALTHY];
    let stopped = MemberHost { etcd: MemberEtcd::Stopped, ..HOST };
    let lock = |lock, own, host| decide_member(&MemberSeen { lock, ..seen(removing(), own, &others, host) });
    for own in [listed(OLD, false), OwnEntry::Absent] {
        assert_eq!(lock(Lock::Free, own, stopped), MemberNext::Carry(MemberEffect::TakeLock));
        assert_eq!(lock(Lock::Other, own, stopped), MemberNext::Wait(MemberWait::Lock));
        assert_eq!(lock(Lock::Mine, own, HOST), MemberNext::Carry(MemberEffect::Stop));
    }
}

#[test]
fn a_lost_master_that_comes_back_wiped_only_needs_the_add() {
    let others = [HEALTHY, HEALTHY];
    let host = MemberHost { etcd: MemberEtcd::Stopped, placed: PlacedMember::Nothing, ..HOST };
    let begun = decide_member(&seen(MemberLedger::default(), OwnEntry::Absent, &others, host));
    assert_eq!(begun, MemberNext::Record(MemberRecord::Begun { old_member: None }));
    let ready =
        journal(&[MemberRecord::Begun { old_member: None }, MemberRecord::IntendStopped, MemberRecord::IntendRemoved]);
    let next = decide_member(&seen(ready, OwnEntry::Absent, &others, host));
    assert_eq!(next, MemberNext::Carry(MemberEffect::AddLearner));
}

#[test]
fn the_lock_is_given_back_at_the_end_of_either_kind() {
    for outcome in [Outcome::Committed, Outcome::RolledBack] {
        let ended = journal(&[MemberRecord::Ended { outcome }]);
        let with = seen(ended, OwnEntry::Absent, &[], HOST);
        assert_eq!(decide_member(&with), MemberNext::Carry(MemberEffect::DropLock));
        assert_eq!(decide_member(&MemberSeen { lock: Lock::Free, ..with }), MemberNext::Rest(outcome));
    }
}
