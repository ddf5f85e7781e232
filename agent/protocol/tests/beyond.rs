//! `make model`: what the default bounds leave out, one test for each run. Each was run to its end; how big it
//! was, stands in docs/restore-protocol.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "world/world.rs"]
mod world;

use world::action::Action;
use world::explore::{Search, explore_far, explore_to, from_doubt, of, reduced};
use world::fault::Fault;
use world::model::{COMMITS, Restore};
use world::setting::Setting;
use world::walk::walk;

fn three(fault: Fault) {
    explore_far(&format!("three members, {fault:?}"), of(3, &[(fault, 1)]));
}

fn three_reduced(fault: Fault) {
    explore_far(&format!("three members, {fault:?}, reduced"), reduced(of(3, &[(fault, 1)])));
}

fn by_hand(name: &str, begun: &[Action]) {
    let faults = [(Fault::Hand, 1), (Fault::Away, 1), (Fault::LateWrite, 1)];
    let begun_by = begun.iter().copied().chain([Action::StoreAway]).collect();
    explore_to(name, Restore { begun_by, ..from_doubt(2, &faults) }, &[COMMITS], Search::ByDepth);
}

macro_rules! runs {
    ($($name:ident => $run:expr;)*) => {$(
        #[test]
        #[ignore = "make model"]
        fn $name() {
            $run;
        }
    )*};
}

runs! {
    random_walks => walk(500_000, 4);
    three_members => explore_far("three members", of(3, &[]));
    three_members_reduced_a_cancel => three_reduced(Fault::Cancel);
    three_members_reduced_a_refused_write => three_reduced(Fault::Refuse);
    three_members_reduced_a_failed_effect => three_reduced(Fault::Fail);
    three_members_an_api_server_by_itself => three(Fault::Meddle);
    three_members_reduced_a_stray => three_reduced(Fault::Stray);
    three_members_reduced_a_crash => three_reduced(Fault::Crash);
    three_members_reduced_the_store_away => three_reduced(Fault::Away);
    three_members_reduced_a_late_write => three_reduced(Fault::LateWrite);
    three_members_reduced_an_object_lost => three_reduced(Fault::Loss);
    three_members_one_differs => {
        let setting = Setting { differs: Some(1), ..Setting::new(3) };
        explore_far("three members, one differs", Restore::new(setting, &[]));
    };
    three_members_in_doubt_a_crash => {
        explore_far("three members in doubt, a crash", from_doubt(3, &[(Fault::Crash, 1)]));
    };
    two_members_in_doubt_by_hand => {
        let faults = [(Fault::Hand, 1), (Fault::Away, 1)];
        explore_far("two members in doubt, by hand, store away", from_doubt(2, &faults));
    };
    two_members_in_doubt_a_commit_in_flight => {
        let attempt = [Action::Look { node: 0, late: false }, Action::LookAndErr { node: 0, late: false }];
        let begun = [Action::Publish(0), Action::Publish(1)].into_iter().chain(attempt);
        by_hand("two members in doubt, a Commit in flight, by hand, the store away", &begun.collect::<Vec<_>>());
    };
    two_members_two_crashes => explore_far("two members, two crashes", of(2, &[(Fault::Crash, 2)]));
    two_members_one_lost => {
        explore_far("two members, one lost", of(2, &[(Fault::PowerOn, 1), (Fault::Away, 1)]));
    };
    two_starters => {
        explore_far("two starters", Restore { two_starters: true, ..of(2, &[(Fault::LateWrite, 1)]) });
    };
}
