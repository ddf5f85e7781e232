//! Who may begin: two authors, the same request again, an author that dies, a node without the key.

use std::sync::Arc;

use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{Draft, SealOutcome, StartError, find_restores, seal_newest, start};
use lifeboat_protocol::start::{Ignored, Refusal};
use lifeboat_storage::{Fault, Operation, StoreError};

use super::world::{JoinCode, NoKeys, PLACE, World, approved, key, volume};

#[tokio::test(start_paused = true)]
async fn the_same_request_is_not_ordered_twice_and_a_higher_attempt_is() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    world.check(&world.run_all(&id).await);
    let (store, known) = (world.shared_store(), world.known());
    let joined = JoinCode { key: key(), digest: digest_of(&world) };
    // On another master, which has a journal of it, and on a new one, which has none.
    let elsewhere = tempfile::tempdir().unwrap();
    for lifeboat in [world.lifeboat(1), elsewhere.path().join("lifeboat")] {
        let again = start(&lifeboat, &store, &world.draft(), Some(&world.author), (&known, &joined)).await;
        assert!(matches!(again, Err(StartError::Refused(Refusal::AlreadyRan))), "{again:?}");
    }
    let mut draft = world.draft();
    draft.order.request.attempt = 2;
    draft.order.restore_id = RestoreId::new("lifeboat", "friday", 2, "ab");
    draft.order = approved(draft.order);
    let started = start(&world.lifeboat(0), &store, &draft, Some(&world.author), (&known, &joined)).await.unwrap();
    assert_eq!(started.slot, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_nobody_can_prove_stands_in_nobodys_way() {
    let world = World::new(3);
    let (store, known) = (world.shared_store(), world.known());
    // By an author without a signing key, whom this master never heard of; and something that is no slot at all.
    let mut unsigned = world.draft();
    unsigned.order.restore_id = RestoreId::new("lifeboat", "unsigned", 1, "ab");
    unsigned.order.request.name = "unsigned".to_owned();
    unsigned.order = approved(unsigned.order);
    assert_eq!(start(&world.lifeboat(1), &store, &unsigned, None, (&known, &NoKeys)).await.unwrap().slot, 0);
    let junk = lifeboat_storage::ObjectKey::parse(lifeboat_crds::mark::slot_key(PLACE, 1)).unwrap();
    store.put(&junk, "junk".into(), lifeboat_storage::PutMode::CreateNew).await.unwrap();
    let started = start(&world.lifeboat(0), &store, &world.draft(), Some(&world.author), (&known, &NoKeys)).await;
    assert_eq!(started.unwrap().slot, 2);
}

fn digest_of(world: &World) -> lifeboat_crds::order::OrderDigest {
    let bytes = world.order().publish(Some(&world.author), &key()).unwrap().to_bytes().unwrap();
    lifeboat_crds::order::ReceivedOrder::read(&bytes, &world.known()).unwrap().digest
}

#[tokio::test(start_paused = true)]
async fn of_two_authors_one_wins_and_the_other_hears_of_it() {
    let world = World::new(3);
    let (store, known) = (world.shared_store(), world.known());
    let other = {
        let mut draft = world.draft();
        draft.order.restore_id = RestoreId::new("lifeboat", "saturday", 1, "ab");
        draft.order.request.name = "saturday".to_owned();
        draft.order.author = "m1".into();
        draft.order = approved(draft.order);
        draft
    };
    let one = world.draft();
    let (one_home, other_home) = (world.lifeboat(0), world.lifeboat(1));
    let (one, other) = tokio::join!(
        start(&one_home, &store, &one, Some(&world.author), (&known, &NoKeys)),
        start(&other_home, &store, &other, Some(&world.author), (&known, &NoKeys)),
    );
    let won = [&one, &other].into_iter().filter(|started| started.is_ok()).count();
    assert_eq!(won, 1, "{one:?} {other:?}");
    let refused = if one.is_ok() { other } else { one };
    assert!(matches!(refused, Err(StartError::Refused(Refusal::AnotherActive))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_author_whose_writes_fail_at_any_point_goes_on_with_the_same_order() {
    let away = StoreError::Unavailable { store: "memory".into(), words: "reset".into() };
    for call in 1..=2 {
        for fault in [Fault::Fail(away.clone()), Fault::LandThenFail(away.clone())] {
            let world = World::new(3);
            let (store, known) = (world.shared_store(), world.known());
            world.store.plan(Operation::Put, call, fault);
            let draft = world.draft();
            let first = start(&world.lifeboat(0), &store, &draft, Some(&world.author), (&known, &NoKeys)).await;
            assert!(matches!(first, Err(StartError::Store(_))), "{first:?}");
            // A second try draws another token and another key: what was kept is what counts.
            let mut redrawn = Draft { key: lifeboat_crds::mac::RestoreKey::new([9; 32]), ..draft };
            redrawn.order.token = "another".to_owned();
            let second =
                start(&world.lifeboat(0), &store, &redrawn, Some(&world.author), (&known, &NoKeys)).await.unwrap();
            assert_eq!(second.digest, digest_of(&world));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_key_wants_the_join_code_and_one_with_another_cluster_takes_no_part() {
    let world = World::new(3);
    let (store, known, draft) = (world.shared_store(), world.known(), world.draft());
    let home = world.lifeboat(2);
    let looked = seal_newest(&home, (&store, PLACE), (&known, &NoKeys), &volume(2)).await.unwrap();
    assert_eq!(looked, SealOutcome::Nothing);
    start(&world.lifeboat(0), &store, &draft, Some(&world.author), (&known, &NoKeys)).await.unwrap();
    let looked = seal_newest(&home, (&store, PLACE), (&known, &NoKeys), &volume(2)).await.unwrap();
    let id = draft.order.restore_id.clone();
    assert_eq!(looked, SealOutcome::WantsJoinCode(id.clone()));
    let joined = JoinCode { key: key(), digest: digest_of(&world) };
    let mut elsewhere = volume(2);
    elsewhere.placed_cluster = Some(super::world::NEW);
    let looked = seal_newest(&home, (&store, PLACE), (&known, &joined), &elsewhere).await.unwrap();
    assert_eq!(looked, SealOutcome::Ignored(id.clone(), Ignored::OtherCluster));
    assert!(find_restores(&home).unwrap().is_empty());
    let looked = seal_newest(&home, (&store, PLACE), (&known, &joined), &volume(2)).await.unwrap();
    assert!(matches!(looked, SealOutcome::Sealed(..)));
    let looked = seal_newest(&home, (&store, PLACE), (&known, &joined), &volume(2)).await.unwrap();
    assert_eq!(looked, SealOutcome::Ignored(id, Ignored::Known));
}

/// The agent that ordered it, and the same agent as one that follows the object.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_order_found_by_several_at_once_is_sealed_once_and_known_to_the_others() {
    for _ in 0..20 {
        let world = World::new(3);
        let (store, known, draft) = (world.shared_store(), world.known(), world.draft());
        start(&world.lifeboat(0), &store, &draft, Some(&world.author), (&known, &NoKeys)).await.unwrap();
        let digest = digest_of(&world);
        let looking = (0..4).map(|_| {
            let (home, store, known) = (world.lifeboat(2), Arc::clone(&store), world.known());
            let joined = JoinCode { key: key(), digest: digest.clone() };
            tokio::spawn(
                async move { seal_newest(&home, (&store, PLACE), (&known, &joined), &volume(2)).await.unwrap() },
            )
        });
        let mut sealed = 0;
        for looked in looking.collect::<Vec<_>>() {
            match looked.await.unwrap() {
                SealOutcome::Sealed(..) => sealed += 1,
                other => assert_eq!(other, SealOutcome::Ignored(draft.order.restore_id.clone(), Ignored::Known)),
            }
        }
        assert_eq!(sealed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_order_counts_only_for_who_entered_its_code() {
    let world = World::new(3);
    let (store, known, draft) = (world.shared_store(), lifeboat_crds::signing::KnownKeys::default(), world.draft());
    let started = start(&world.lifeboat(0), &store, &draft, None, (&known, &NoKeys)).await.unwrap();
    let home = world.lifeboat(1);
    let looked = seal_newest(&home, (&store, PLACE), (&known, &NoKeys), &volume(1)).await.unwrap();
    assert_eq!(looked, SealOutcome::Nothing);
    let joined = JoinCode { key: key(), digest: started.digest };
    let looked = seal_newest(&home, (&store, PLACE), (&known, &joined), &volume(1)).await.unwrap();
    assert!(matches!(looked, SealOutcome::Sealed(..)), "{looked:?}");
}

#[tokio::test(start_paused = true)]
async fn one_who_lost_its_journal_does_not_take_part_twice() {
    let world = World::new(3);
    let id = world.order_and_seal().await;
    let running = tokio::spawn(Arc::clone(&world).run_one(2, id.clone()));
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    running.abort();
    let _ = running.await;
    std::fs::remove_dir_all(world.lifeboat(2)).unwrap();
    let (store, known) = (world.shared_store(), world.known());
    let joined = JoinCode { key: key(), digest: digest_of(&world) };
    let looked = seal_newest(&world.lifeboat(2), (&store, PLACE), (&known, &joined), &volume(2)).await.unwrap();
    assert_eq!(looked, SealOutcome::Ignored(id, Ignored::HasMarks));
}
