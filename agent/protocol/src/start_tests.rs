use super::*;
use draft::{approved, master};

#[path = "../tests/world/draft.rs"]
mod draft;

fn id(name: &str) -> RestoreId {
    RestoreId::new("ns", name, 1, "ab")
}

fn digest(digit: &str) -> OrderDigest {
    digit.repeat(64).parse().unwrap()
}

fn order() -> Order {
    draft::order(&["m0", "m1"], &["m2"])
}

/// What a node sees of an order that it may seal.
struct Sight {
    order: Order,
    digest: OrderDigest,
    node: NodeName,
    peers: [String; 2],
    slot: ActiveSlot,
}

impl Sight {
    fn of(order: Order) -> Self {
        let slot = ActiveSlot { number: 0, restore_id: id("a"), order_digest: digest("1") };
        let peers = ["https://m1:2380".to_owned(), "https://m2:2380".to_owned()];
        Self { order, digest: digest("1"), node: "m0".into(), peers, slot }
    }

    fn seen(&self) -> SealSeen<'_> {
        let Self { order, digest, node, peers, slot } = self;
        SealSeen {
            slot,
            order: Some((order, digest)),
            node,
            known: &[],
            is_busy: false,
            rejoins: false,
            placed_cluster: Some(EtcdClusterId(1)),
            peers,
            decision: DecisionSeen::Absent,
            has_marks: false,
        }
    }
}

fn seal(bend: impl FnOnce(&mut SealSeen<'_>), order: &Order) -> Seal {
    let sight = Sight::of(order.clone());
    let mut seen = sight.seen();
    bend(&mut seen);
    decide_seal(&seen)
}

#[test]
fn a_node_seals_what_was_approved_for_it_and_is_new_to_it() {
    assert_eq!(seal(|_| {}, &order()), Seal::Seal);
}

#[test]
fn a_node_that_took_part_before_never_takes_part_again_though_its_disk_is_new() {
    let ignored = |reason| Seal::Ignore(reason);
    assert_eq!(seal(|seen| seen.has_marks = true, &order()), ignored(Ignored::HasMarks));
    assert_eq!(seal(|seen| seen.placed_cluster = None, &order()), ignored(Ignored::OtherCluster));
    let other = Some(EtcdClusterId(9));
    assert_eq!(seal(|seen| seen.placed_cluster = other, &order()), ignored(Ignored::OtherCluster));
    for decision in [DecisionSeen::Made(Verdict::Commit), DecisionSeen::Made(Verdict::Rollback), DecisionSeen::Forged] {
        assert_eq!(seal(|seen| seen.decision = decision, &order()), ignored(Ignored::Decided));
    }
    let (known, sight) = ([id("a")], Sight::of(order()));
    let seen = SealSeen { known: &known, ..sight.seen() };
    assert_eq!(decide_seal(&seen), ignored(Ignored::Known));
}

#[test]
fn a_node_that_is_busy_otherwise_seals_nothing() {
    assert_eq!(seal(|seen| seen.is_busy = true, &order()), Seal::Ignore(Ignored::Busy));
    assert_eq!(seal(|seen| seen.rejoins = true, &order()), Seal::Ignore(Ignored::Rejoins));
}

#[test]
fn an_order_must_be_the_slots_and_as_approved_and_name_every_master() {
    assert_eq!(seal(|seen| seen.order = None, &order()), Seal::Ignore(Ignored::NotTheOrder));
    let (other, sight) = (digest("2"), Sight::of(order()));
    let slot = ActiveSlot { order_digest: other, ..sight.slot.clone() };
    assert_eq!(decide_seal(&SealSeen { slot: &slot, ..sight.seen() }), Seal::Ignore(Ignored::NotTheOrder));
    assert_eq!(decide_seal(&sight.seen()), Seal::Seal);
    let unapproved = Order { hold_before_release: true, ..order() };
    assert_eq!(seal(|_| {}, &unapproved), Seal::Ignore(Ignored::NotApproved));
    let forgets = approved(Order { lost: vec![], ..order() });
    assert_eq!(seal(|_| {}, &forgets), Seal::Ignore(Ignored::LeavesOut));
    let others = approved(Order { members: vec![master("m1"), master("m3")], ..order() });
    assert_eq!(seal(|_| {}, &others), Seal::Ignore(Ignored::NoPart));
    let many = approved(Order { members: (0..10).map(|number| master(&format!("m{number}"))).collect(), ..order() });
    assert_eq!(seal(|_| {}, &many), Seal::Ignore(Ignored::TooMany));
}

#[test]
fn a_lost_quorum_needs_its_own_acknowledgement() {
    let alone = approved(Order { members: vec![master("m0")], lost: vec![master("m1"), master("m2")], ..order() });
    assert_eq!(seal(|_| {}, &alone), Seal::Ignore(Ignored::LostQuorum));
    assert_eq!(seal(|_| {}, &Order { lost_quorum_acknowledged: true, ..alone }), Seal::Seal);
}

fn approval(nonce: &str) -> Approved {
    Approved { nonce: nonce.to_owned(), code: "c".to_owned() }
}

fn start(order: OrderThere<'_>, slots: &[SlotSeen<'_>]) -> Start {
    let (id, approved) = (id("a"), approval("n"));
    decide_start(&StartSeen { id: &id, approved: &approved, order, slots, already_ran: false })
}

#[test]
fn an_object_that_nobody_of_this_installation_wrote_blocks_no_restore() {
    let (ours, theirs, found, approved) = (id("a"), id("b"), digest("1"), approval("n"));
    let there = OrderThere::Authentic { digest: &found, approved: &approved };
    let slot = |number, state| SlotSeen { number, restore_id: &theirs, state };
    let number = |slots: &[SlotSeen<'_>]| match start(there, slots) {
        Start::CreateSlot(slot) => slot.number,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(&[]), 0);
    assert_eq!(number(&[slot(0, SlotState::Over)]), 1);
    assert_eq!(number(&[slot(0, SlotState::Over), slot(u64::MAX, SlotState::Void)]), 1);
    assert_eq!(number(&[slot(0, SlotState::Over), slot(1, SlotState::Void), slot(2, SlotState::Void)]), 3);
    assert_eq!(start(there, &[slot(u64::MAX, SlotState::Over)]), Start::Refuse(Refusal::NoSlot));
    let own = SlotSeen { restore_id: &ours, ..slot(1, SlotState::Active) };
    assert_eq!(start(there, &[own, slot(2, SlotState::Void)]), Start::Follow);
}

#[test]
fn one_restore_at_a_time_and_none_twice() {
    let (ours, theirs) = (id("a"), id("b"));
    let slot = |restore_id, state| [SlotSeen { number: 3, restore_id, state }];
    let refused = Start::Refuse;
    assert_eq!(start(OrderThere::None, &slot(&theirs, SlotState::Active)), refused(Refusal::AnotherActive));
    assert_eq!(start(OrderThere::None, &slot(&theirs, SlotState::Unverifiable)), refused(Refusal::UnknownAuthor));
    assert_eq!(start(OrderThere::None, &slot(&ours, SlotState::Over)), refused(Refusal::AlreadyRan));
    assert_eq!(start(OrderThere::None, &slot(&theirs, SlotState::Over)), Start::CreateOrder);
    let (id, approved) = (id("a"), approval("n"));
    let again = StartSeen { id: &id, approved: &approved, order: OrderThere::None, slots: &[], already_ran: true };
    assert_eq!(decide_start(&again), refused(Refusal::AlreadyRan));
}

#[test]
fn an_order_of_an_earlier_approval_is_not_revived() {
    let (found, earlier) = (digest("1"), approval("before"));
    let stale = OrderThere::Authentic { digest: &found, approved: &earlier };
    assert_eq!(start(stale, &[]), Start::Refuse(Refusal::StaleOrder));
    assert_eq!(start(OrderThere::Forged, &[]), Start::Refuse(Refusal::ForgedOrder));
    assert!(Refusal::StaleOrder.to_string().contains("raise spec.attempt"));
}

fn progress<'a>(begun: &'a [NodeName], ended: &'a [NodeName], decision: Option<Verdict>) -> Progress<'a> {
    Progress { begun, ended, decision }
}

#[test]
fn a_slot_counts_if_it_and_its_order_are_authentic_and_one() {
    let (order, digest) = (order(), digest("1"));
    let slot = ActiveSlot { number: 4, restore_id: id("a"), order_digest: digest.clone() };
    let both = SlotProof::Authentic { slot: &slot, order: (&order, &digest) };
    let all: [NodeName; 2] = ["m0".into(), "m1".into()];
    let none = progress(&[], &[], None);
    assert_eq!(slot_state(4, both, none), SlotState::Active);
    assert_eq!(slot_state(4, both, progress(&all, &all[..1], None)), SlotState::Active);
    assert_eq!(slot_state(4, both, progress(&all, &all, None)), SlotState::Over, "the lost one never ends");
    assert_eq!(slot_state(5, both, none), SlotState::Void, "copied to another number");
    let other = Order { restore_id: id("b"), ..order.clone() };
    let mixed = SlotProof::Authentic { slot: &slot, order: (&other, &digest) };
    assert_eq!(slot_state(4, mixed, none), SlotState::Void);
    assert_eq!(slot_state(4, SlotProof::None, none), SlotState::Void);
    assert_eq!(slot_state(4, SlotProof::UnknownKey, none), SlotState::Unverifiable);
}

#[test]
fn a_member_that_had_not_begun_when_the_others_rolled_back_keeps_no_slot_open() {
    let all: [NodeName; 2] = ["m0".into(), "m1".into()];
    let (order, rollback) = (order(), Some(Verdict::Rollback));
    assert!(slot_is_over(&order, progress(&all[..1], &all[..1], rollback)));
    assert!(!slot_is_over(&order, progress(&all, &all[..1], rollback)), "m1 has begun");
    assert!(!slot_is_over(&order, progress(&all[..1], &all[..1], None)));
    assert!(!slot_is_over(&order, progress(&all[..1], &all[..1], Some(Verdict::Commit))));
}

#[test]
fn clean_up_keeps_what_a_member_or_a_sleeper_still_needs() {
    let whole = Order { lost: vec![], ..order() };
    let all: [NodeName; 2] = ["m0".into(), "m1".into()];
    let (commit, rollback) = (Some(Verdict::Commit), Some(Verdict::Rollback));
    assert!(may_clean_up(&whole, progress(&all, &all, commit)));
    assert!(!may_clean_up(&whole, progress(&all, &all[..1], commit)), "m1 is unfinished");
    assert!(!may_clean_up(&whole, progress(&all, &all, None)));
    assert!(!may_clean_up(&order(), progress(&all, &all, commit)), "the guard of the lost master goes by it");
    assert!(may_clean_up(&order(), progress(&all, &all, rollback)));
}
