//! `make model`: what the default bounds leave out, one test for each run. What of it was run to its end, and how big it
//! was, stands in docs/restore-protocol.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, dead_code, missing_docs)]

#[path = "world/world.rs"]
mod world;

use world::cluster::{Fault, Setting};
use world::explore::{explore_far, from_doubt, of, whole};
use world::model::Restore;
use world::walk::walk;

fn three(fault: Fault) {
    explore_far(&format!("three members, {fault:?}"), of(3, &[(fault, 1)]));
}

fn two_unreduced(fault: Fault) {
    explore_far(&format!("two members, {fault:?}, no reduction"), whole(of(2, &[(fault, 1)])));
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
    three_members_a_cancel => three(Fault::Cancel);
    three_members_a_crash => three(Fault::Crash);
    three_members_the_store_away => three(Fault::Away);
    three_members_a_late_write => three(Fault::LateWrite);
    three_members_a_refused_write => three(Fault::Refuse);
    three_members_a_failed_effect => three(Fault::Fail);
    three_members_an_object_lost => three(Fault::Loss);
    three_members_an_api_server_by_itself => three(Fault::Meddle);
    three_members_a_stray => three(Fault::Stray);
    three_members_a_disk_replaced => three(Fault::NewDisk);
    three_members_applied_again => three(Fault::Reapply);
    three_members_one_differs => for differs in [0, 1] {
        let setting = Setting { differs: Some(differs), ..Setting::new(3) };
        explore_far(&format!("three members, {differs} differs"), Restore::new(setting, &[]));
    };
    three_members_in_doubt_a_crash => explore_far("three members in doubt, a crash", from_doubt(3, &[(Fault::Crash, 1)]));
    three_members_in_doubt_by_hand => explore_far(
        "three members in doubt, by hand, store away",
        from_doubt(3, &[(Fault::Hand, 1), (Fault::Away, 1)]),
    );
    three_members_unreduced => explore_far("three members, no reduction", whole(of(3, &[])));
    two_members_in_doubt_by_hand => explore_far(
        "two members in doubt, by hand, store away",
        from_doubt(2, &[(Fault::Hand, 1), (Fault::Away, 1)]),
    );
    two_members_two_crashes => explore_far("two members, two crashes", of(2, &[(Fault::Crash, 2)]));
    two_members_unreduced => explore_far("two members, no fault, no reduction", whole(of(2, &[])));
    two_members_unreduced_a_crash => two_unreduced(Fault::Crash);
    two_members_unreduced_the_store_away => two_unreduced(Fault::Away);
    two_members_unreduced_a_late_write => two_unreduced(Fault::LateWrite);
    two_members_unreduced_a_refused_write => two_unreduced(Fault::Refuse);
    two_members_unreduced_a_cancel => two_unreduced(Fault::Cancel);
    two_members_unreduced_a_failed_effect => two_unreduced(Fault::Fail);
    two_members_unreduced_an_object_lost => two_unreduced(Fault::Loss);
}
