//! Every story of a restore with three nodes and the faults of docs/restore-protocol.md, explored to the end from the
//! shipped `decide`; and broken variants of it, each caught by the property that is there for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "world/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};
use world::action::Action;
use world::breach::Breach;
use world::broken::Broken;
use world::explore::{Search, cores, explore, explore_to, from_doubt, of, reduced, tell};
use world::fault::Fault;
use world::model::{COMMITS, From, ROLLS_BACK, Restore, STUCK};
use world::setting::Setting;
use world::walk::walk;

#[test]
fn three_members_end_together_whatever_they_time_out_on() {
    explore("three members, no fault, time-outs anywhere, reduced", reduced(of(3, &[])));
}

#[test]
fn a_member_with_other_data_is_never_released() {
    let setting = Setting { differs: Some(1), ..Setting::new(2) };
    explore("two members, one differs", Restore::new(setting, &[]));
}

/// Two members, each fault once, at any moment.
fn two(fault: Fault) {
    explore(&format!("two members, {fault:?}"), of(2, &[(fault, 1)]));
}

#[test]
fn two_members_survive_a_crash_anywhere_also_in_the_middle_of_an_effect() {
    two(Fault::Crash);
}

#[test]
fn two_members_survive_the_store_going_away_for_one_or_all() {
    two(Fault::Away);
}

#[test]
fn two_members_survive_a_write_that_errs_and_lands_later() {
    two(Fault::LateWrite);
}

#[test]
fn two_members_survive_a_write_that_is_refused() {
    two(Fault::Refuse);
}

#[test]
fn two_members_survive_a_cancel_anywhere() {
    two(Fault::Cancel);
}

#[test]
fn two_members_survive_an_effect_that_fails_once_or_for_good() {
    two(Fault::Fail);
}

#[test]
fn two_members_survive_the_loss_of_any_one_object_in_the_store() {
    two(Fault::Loss);
    let faults = [(Fault::Loss, 1), (Fault::Cancel, 1)];
    explore("two members in doubt, one object lost, a cancel", from_doubt(2, &faults));
}

#[test]
fn two_members_survive_an_api_server_that_comes_up_by_itself() {
    two(Fault::Meddle);
}

#[test]
fn a_member_whose_disk_is_replaced_does_not_take_part_twice() {
    two(Fault::NewDisk);
}

#[test]
fn an_order_that_is_applied_again_does_not_run_again() {
    two(Fault::Reapply);
}

#[test]
fn one_member_alone_survives_several_faults_at_once() {
    explore("one member, three faults", of(1, &[(Fault::Crash, 1), (Fault::Away, 1), (Fault::LateWrite, 1)]));
    explore("one member, two faults", of(1, &[(Fault::Fail, 1), (Fault::Loss, 1)]));
}

#[test]
fn two_members_in_doubt_survive_a_crash() {
    explore("two members in doubt, a crash", from_doubt(2, &[(Fault::Crash, 1)]));
}

#[test]
fn two_starters_make_one_order() {
    let faults = [(Fault::LateWrite, 1)];
    explore("two starters, reduced", reduced(Restore { two_starters: true, ..of(2, &faults) }));
}

#[test]
fn a_lost_member_that_boots_at_the_wrong_moment_is_held() {
    explore("two members, one lost, reduced", reduced(of(2, &[(Fault::PowerOn, 1), (Fault::Away, 1)])));
    explore("one member, two lost", of(1, &[(Fault::PowerOn, 2), (Fault::LateWrite, 1), (Fault::Crash, 1)]));
}

#[test]
fn a_decision_by_hand_is_the_one_that_may_have_landed() {
    // The store is away when the human comes; before that, m0 may have attempted Commit or not.
    let away = |begun: &[Action], hands| {
        let faults = [(Fault::Hand, hands), (Fault::Away, 1), (Fault::LateWrite, 1)];
        let begun_by = begun.iter().copied().chain([Action::StoreAway]).collect();
        reduced(Restore { begun_by, ..from_doubt(2, &faults) })
    };
    let verified = [Action::Publish(0), Action::Publish(1)];
    let looks = [Action::Look { node: 0, late: false }, Action::LookAndErr { node: 0, late: false }];
    let attempted: Vec<_> = verified.into_iter().chain(looks).collect();
    explore("two members in doubt, by hand, the store away, reduced", away(&verified, 1));
    explore_to(
        "two members in doubt, a Commit in flight, by hand, the store away, reduced",
        away(&attempted, 1),
        &[COMMITS],
        Search::ByBreadth,
    );
}

#[test]
fn two_humans_at_once_come_to_one_judgement() {
    // One has both journals in hand, with no attempt in them; then another one comes.
    let faults = [(Fault::Hand, 2), (Fault::Away, 1)];
    let mut begun_by = vec![Action::Publish(0), Action::Publish(1), Action::Cut(1), Action::AskByHand];
    for node in 0..2 {
        begun_by.extend([Action::Ask { human: 0, node }, Action::Look { node, late: false }]);
        begun_by.push(Action::Testify { human: 0, node });
    }
    let restore = Restore { begun_by, ..from_doubt(2, &faults) };
    explore_to("two members in doubt, two humans", restore, &[ROLLS_BACK], Search::ByBreadth);
}

#[test]
fn a_stray_that_waits_for_a_lock_never_gets_the_old_data() {
    explore("two members, a stray", Restore { slow_starts: true, ..of(2, &[(Fault::Stray, 1)]) });
    let faults = [(Fault::Stray, 1), (Fault::Crash, 1)];
    explore("two members in doubt, a stray and a crash", from_doubt(2, &faults));
}

#[test]
fn two_directories_are_never_served_half_exchanged() {
    let setting = Setting { separate_wal: true, ..Setting::new(2) };
    explore("WAL apart", Restore::new(setting, &[(Fault::Crash, 1)]));
}

#[test]
fn starts_that_take_their_time_are_harmless() {
    explore("slow starts", Restore { slow_starts: true, ..of(2, &[(Fault::Crash, 1)]) });
}

#[test]
fn a_hold_before_release_and_api_servers_on_loopback_end_well() {
    let mut setting = Setting { list_all: false, ..Setting::new(2) };
    for terms in &mut setting.terms {
        terms.hold_before_release = true;
        terms.restart_kubelet = true;
        terms.loopback_api_servers = true;
    }
    explore("hold, loopback, reduced", reduced(Restore::new(setting, &[(Fault::Crash, 1)])));
}

#[test]
fn random_walks_with_every_fault_end_well() {
    walk(10_000, 3);
}

/// A broken variant must be caught by the property that is there for it.
fn caught(broken: Broken, by: &'static str, restore: Restore) {
    let restore = reduced(restore).broken(broken);
    let checker = restore
        .checker()
        .threads(cores())
        .finish_when(HasDiscoveries::AllOf(BTreeSet::from([by])))
        .timeout(Duration::from_secs(300))
        .spawn_bfs()
        .join();
    let path = checker.discovery(by).unwrap_or_else(|| panic!("{broken:?} was not caught by: {by}"));
    println!("{broken:?} is caught by: {by}");
    let last = path.last_state().clone();
    tell(&path.into_actions(), &last);
}

#[test]
fn a_commit_with_a_quorum_verified_only_is_caught() {
    let restore = Restore { from: From::Serving, ..of(3, &[]) };
    caught(Broken::CommitByQuorum, Breach::BothDecisionsObeyed.name(), restore);
}

#[test]
fn leaving_without_a_decision_after_intend_verified_is_caught() {
    caught(Broken::LeavesInDoubt, Breach::BothDecisionsObeyed.name(), of(2, &[(Fault::Away, 1)]));
}

#[test]
fn releasing_both_locks_at_serve_is_caught() {
    let restore = Restore { slow_starts: true, ..of(2, &[(Fault::Stray, 1)]) };
    caught(Broken::ReleasesBothLocks, Breach::OldDataChanged.name(), restore);
}

#[test]
fn obeying_before_journaling_is_caught() {
    let faults = [(Fault::Away, 1), (Fault::Crash, 1)];
    caught(Broken::ObeysBeforeJournal, Breach::WentBackOnADecision.name(), of(2, &faults));
}

#[test]
fn no_node_knows_against_a_landed_commit_is_caught() {
    // m0 attempted Commit, it landed, and then the store went away.
    let faults = [(Fault::Hand, 1), (Fault::Away, 1)];
    let mut begun_by = vec![Action::Publish(0), Action::Publish(1)];
    begun_by.extend([Action::Look { node: 0, late: false }; 2]);
    begun_by.push(Action::StoreAway);
    let restore = Restore { begun_by, symmetric: false, ..from_doubt(2, &faults) };
    caught(Broken::NoNodeKnows, Breach::BothDecisionsObeyed.name(), restore);
}

#[test]
fn two_authors_of_an_order_are_caught() {
    caught(Broken::TwoAuthors, Breach::TwoOrders.name(), Restore { two_starters: true, ..of(2, &[]) });
}

#[test]
fn a_guard_that_ignores_undecided_orders_is_caught() {
    let faults = [(Fault::PowerOn, 2), (Fault::LateWrite, 1)];
    caught(Broken::GuardIgnoresUndecided, Breach::ApiOnOldBesideNew.name(), of(1, &faults));
}

#[test]
fn a_journal_on_the_root_disk_is_caught() {
    caught(Broken::JournalOnRootDisk, Breach::ApiOnUndecidedData.name(), of(2, &[(Fault::Crash, 2)]));
}

#[test]
fn believing_a_write_instead_of_reading_back_is_caught() {
    caught(Broken::BelievesItsWrite, Breach::BothDecisionsObeyed.name(), of(2, &[(Fault::LateWrite, 1)]));
}

#[test]
fn an_attempt_that_is_not_journaled_is_caught() {
    let faults = [(Fault::Hand, 1), (Fault::LateWrite, 1), (Fault::Away, 1)];
    let mut begun_by = vec![Action::Publish(0), Action::Publish(1)];
    begun_by.extend([Action::LookAndErr { node: 0, late: false }, Action::StoreAway]);
    let restore = Restore { begun_by, ..from_doubt(2, &faults).broken(Broken::AttemptNotJournaled) };
    caught(Broken::AttemptNotJournaled, Breach::BothDecisionsObeyed.name(), restore);
}

#[test]
fn journals_that_still_move_under_a_humans_hands_are_caught() {
    let faults = [(Fault::Hand, 1), (Fault::Away, 1)];
    let begun_by = vec![Action::Publish(0), Action::Publish(1), Action::AskByHand, Action::Cut(1)];
    let restore = Restore { begun_by, ..from_doubt(2, &faults) };
    caught(Broken::HandWithoutSurrender, Breach::BothDecisionsObeyed.name(), restore);
}

#[test]
fn believing_forged_marks_is_caught() {
    caught(Broken::BelievesForgedMarks, Breach::BothDecisionsObeyed.name(), Restore { forged: true, ..of(2, &[]) });
}

#[test]
fn undecided_data_open_to_all_api_servers_is_caught() {
    caught(Broken::OpenWhileUndecided, Breach::ApiOnUndecidedData.name(), of(3, &[]));
}

#[test]
fn serving_before_all_are_prepared_is_caught() {
    caught(Broken::ServesBeforeAllPrepared, Breach::NewDataBeforeAllPrepared.name(), of(3, &[]));
}

#[test]
fn comparing_nothing_is_caught() {
    let setting = Setting { differs: Some(1), ..Setting::new(2) };
    caught(Broken::ComparesNothing, Breach::ApiOnUnequalMember.name(), Restore::new(setting, &[]));
}

#[test]
fn running_an_id_again_is_caught() {
    caught(Broken::RunsAgain, Breach::SecondRun.name(), of(2, &[(Fault::Reapply, 1)]));
}

#[test]
fn a_story_that_cannot_end_is_seen() {
    // Without the order, and with nobody to put it back, there is no end: the property that says so must say so.
    let restore = of(1, &[]);
    let mut world = restore.init_states().remove(0);
    assert!(restore.calm.ends_well(&restore, &world));
    world.bucket.order = None;
    assert!(!restore.calm.ends_well(&restore, &world), "{STUCK}");
}

#[test]
fn ending_on_any_process_of_the_control_plane_is_caught() {
    caught(Broken::EndsOnAnyProcess, Breach::EndedHeld.name(), of(2, &[(Fault::Cancel, 1)]));
}

#[test]
fn an_executor_that_goes_while_it_owes_the_store_is_caught() {
    caught(Broken::RestsOwing, STUCK, of(2, &[(Fault::Away, 1)]));
}

#[test]
fn trusting_one_object_for_the_decision_is_caught() {
    let faults = [(Fault::Loss, 1), (Fault::Cancel, 1)];
    caught(Broken::TrustsOneObject, Breach::BothDecisionsObeyed.name(), from_doubt(2, &faults));
}

#[test]
fn giving_journals_back_at_will_is_caught() {
    // One human has both journals in hand; another one comes.
    let faults = [(Fault::Hand, 2), (Fault::Away, 1)];
    let mut begun_by = vec![Action::Publish(0), Action::Publish(1), Action::Cut(1), Action::AskByHand];
    for node in 0..2 {
        begun_by.extend([Action::Ask { human: 0, node }, Action::Look { node, late: false }]);
        begun_by.push(Action::Testify { human: 0, node });
    }
    begun_by.push(Action::AskByHand);
    let restore = Restore { begun_by, ..from_doubt(2, &faults) };
    caught(Broken::ResumesAtWill, Breach::BothDecisionsObeyed.name(), restore);
}

#[test]
fn starting_everything_without_quiet_is_caught() {
    let faults = [(Fault::Stray, 1), (Fault::Crash, 1)];
    caught(Broken::StartsUnquiet, Breach::StartedBesideStray.name(), from_doubt(2, &faults));
}

#[test]
fn deciding_before_local_safety_is_caught() {
    caught(Broken::ProposesFirst, Breach::ActedBesideApi.name(), from_doubt(2, &[(Fault::Meddle, 1)]));
}

#[test]
fn sealing_again_on_a_new_disk_is_caught() {
    caught(Broken::SealsBlindly, Breach::SecondRun.name(), of(2, &[(Fault::NewDisk, 1)]));
}

#[test]
fn old_data_beside_new_is_caught_without_any_quorum() {
    let restore = Restore { only: Some(Breach::ApiOnOldBesideNew), ..of(2, &[(Fault::Away, 1)]) };
    caught(Broken::LeavesInDoubt, Breach::ApiOnOldBesideNew.name(), restore);
}
