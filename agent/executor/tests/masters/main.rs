//! Three masters, the shipped protocol, real journals and a bucket that misbehaves: all end alike, whatever is killed when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod starting;
mod world;

use std::sync::Arc;
use std::time::Duration;

use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Outcome, Verdict, decision_key, outcome_key};
use lifeboat_protocol::Phase;
use lifeboat_protocol::next::{Clients, Effect};
use lifeboat_protocol::observed::Wishes;
use lifeboat_storage::{DirectoryStore, Fault, ObjectKey, ObjectStore, Operation, StoreError};

use world::{PLACE, World, has_recorded, name, phase_on};

async fn decision(world: &World, id: &lifeboat_crds::order::RestoreId) -> serde_json::Value {
    let key = ObjectKey::parse(decision_key(PLACE, id)).unwrap();
    serde_json::from_slice(&world.store.get_small(&key, 1 << 16).await.unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_restore_without_faults_is_committed_and_says_so_in_the_bucket() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::Committed);
    assert_eq!(decision(&world, &id).await["payload"]["verdict"], "Commit");
    for index in 0..3 {
        let key = ObjectKey::parse(outcome_key(PLACE, &id, &name(index))).unwrap();
        let bytes = world.store.get_small(&key, 1 << 16).await.unwrap();
        let outcome: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(outcome["payload"]["outcome"], "Committed");
        assert_eq!(outcome["payload"]["revision"], world::BUMP_TO);
        assert_eq!(phase_on(&world.lifeboat(index), &id), Phase::Over(Outcome::Committed));
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_holds_over_a_directory_on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new("backups", dir.path().to_owned(), None).unwrap().with_reserve_percent(0);
    let world = World::over(3, store);
    let id = world.order_and_seal().await;
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::Committed);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_one_is_restored_too() {
    let world = World::new(1);
    let id = world.order_and_seal().await;
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::Committed);
}

#[tokio::test(start_paused = true)]
async fn what_one_master_cannot_do_puts_all_back_and_the_decision_says_what_it_was() {
    for effect in [Effect::Stage, Effect::TakeSafetyBackup, Effect::StartAlone { clients: Clients::Configured }] {
        let world = World::new(3);
        let id = world.order_and_seal().await;
        let index = if effect == Effect::TakeSafetyBackup { 0 } else { 1 };
        world.masters()[index].never = Some(effect);
        assert_eq!(world.check(&world.run_all(&id).await), Outcome::RolledBack, "{effect}");
        assert_eq!(decision(&world, &id).await["payload"]["verdict"], "Rollback");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_on_one_master_at_any_moment_ends_all_alike() {
    let (mut back, mut forward) = (0, 0);
    for seconds in [0, 1, 20, 46, 50, 56, 57, 58, 59, 60, 61, 62, 65, 70, 80] {
        let world = World::new(3);
        let id = world.order_and_seal().await;
        let later = Arc::clone(&world);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            later.masters()[2].wishes = Wishes { cancel: true, ..Wishes::default() };
        });
        match world.check(&world.run_all(&id).await) {
            Outcome::Committed => forward += 1,
            Outcome::RolledBack => back += 1,
        }
    }
    assert!(back > 3 && forward > 1, "{back} back, {forward} forward");
}

#[tokio::test(start_paused = true)]
async fn staging_is_given_up_as_soon_as_it_is_cancelled() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    world.masters()[1].wishes = Wishes { cancel: true, ..Wishes::default() };
    let begun = tokio::time::Instant::now();
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::RolledBack);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Kills one executor at each of its moments in turn: before a look, before and after an effect.
async fn kill_everywhere(master: usize) -> u64 {
    let mut moment = 0;
    loop {
        moment += 1;
        let world = World::new(3);
        let id = world.order_and_seal().await;
        world.kill_at(master, moment);
        let outcome = world.check(&world.run_all(&id).await);
        if !world.has_struck() {
            return moment - 1;
        }
        assert_eq!(outcome, Outcome::Committed, "a killed executor goes on, at {moment}: {}", world.story());
    }
}

#[tokio::test(start_paused = true)]
async fn an_executor_killed_at_any_moment_goes_on_where_it_was() {
    let author = kill_everywhere(0).await;
    let other = kill_everywhere(2).await;
    assert!(author > 40 && other > 40, "{author} and {other} moments were struck");
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { store: "memory".into(), words: "reset by peer".into() }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_and_a_write_that_is_lost_end_alike_on_all() {
    // Every write of a restore without faults, from the first mark on.
    let world = World::new(3);
    let id = world.order_and_seal().await;
    let before = world.store.calls(Operation::Put);
    world.check(&world.run_all(&id).await);
    let writes = world.store.calls(Operation::Put);
    assert!(writes - before > 20, "{}", writes - before);
    for call in before + 1..=writes {
        for fault in [Fault::LandThenFail(unavailable()), Fault::Fail(unavailable()), Fault::Hang] {
            let world = World::new(3);
            let id = world.order_and_seal().await;
            world.store.plan(Operation::Put, call, fault.clone());
            let outcome = world.check(&world.run_all(&id).await);
            assert_eq!(outcome, Outcome::Committed, "write {call}, {fault:?}: {}", world.story());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_good_before_anything_stopped_puts_all_back_by_themselves() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    world.store.set_down(true);
    let later = Arc::clone(&world);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5000)).await;
        later.store.set_down(false);
    });
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::RolledBack);
    assert!(world.masters().iter().all(|master| !has_recorded(master, &Record::IntendQuiesced)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_at_any_second_and_comes_back_ends_all_alike() {
    let (mut back, mut forward) = (0, 0);
    for seconds in 40..75 {
        let world = World::new(3);
        let id = world.order_and_seal().await;
        let later = Arc::clone(&world);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            later.store.set_down(true);
            tokio::time::sleep(Duration::from_secs(4000)).await;
            later.store.set_down(false);
        });
        match world.check(&world.run_all(&id).await) {
            Outcome::Committed => forward += 1,
            Outcome::RolledBack => back += 1,
        }
    }
    assert!(back > 0 && forward > 0, "{back} back, {forward} forward");
}

#[tokio::test(start_paused = true)]
async fn time_that_passed_before_a_kill_counts_for_the_deadline() {
    let world = World::new(2);
    let id = world.order_and_seal().await;
    // The other one never stages, and this one is killed again and again while it waits.
    let waiting = tokio::spawn(Arc::clone(&world).run_one(0, id.clone()));
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        world.kill_at(0, 40);
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    tokio::time::sleep(Duration::from_secs(1500)).await;
    assert!(has_recorded(&world.masters()[0], &Record::Left { reason: lifeboat_crds::mark::Reason::DeadlineExceeded }));
    assert!(begun.elapsed() < Duration::from_secs(4600));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_forged_decision_is_ignored_and_told() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    let key = ObjectKey::parse(decision_key(PLACE, &id)).unwrap();
    let forged = br#"{"formatVersion":"1.0","payload":{"nodeName":"m0","verdict":"Commit"},"mac":"AAAA"}"#;
    world.store.put(&key, forged.as_slice().into(), lifeboat_storage::PutMode::Overwrite).await.unwrap();
    let later = Arc::clone(&world);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        later.store.delete(&key).await.unwrap();
    });
    assert_eq!(world.check(&world.run_all(&id).await), Outcome::Committed);
    let told = world.masters()[0].told.clone();
    assert!(told.iter().any(|line| line.starts_with("ignored: decision.json")));
    assert_eq!(decision(&world, &id).await["payload"]["verdict"], Verdict::Commit.to_string());
}
