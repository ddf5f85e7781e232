//! How an order comes into the store, and who seals it: by the shipped `decide_start` and `decide_seal`.

use lifeboat_crds::order::ActiveSlot;
use lifeboat_protocol::ledger::Ledger;
use lifeboat_protocol::observed::{DecisionSeen, Marks};
use lifeboat_protocol::start;
use lifeboat_protocol::start::{Approved, OrderThere, Seal, SealSeen, SlotSeen, SlotState, Start, StartSeen};

use super::broken::Broken;
use super::cluster::World;
use super::model::Restore;
use super::setting::OLD_CLUSTER;
use super::setting::digest;

impl Restore {
    pub fn write_order(&self, world: &mut World, index: usize, errs: bool) -> bool {
        let own = index as u8;
        if self.is(Broken::TwoAuthors) {
            if world.nodes[index].sealed.is_some() {
                return false;
            }
            world.bucket.order = world.bucket.order.or(Some(own));
            world.bucket.slot = world.bucket.slot.or(Some(own));
            return self.seal(world, index, own);
        }
        let request = &self.setting.order.request;
        let approved = Approved { nonce: request.nonce.clone(), code: request.approval_code.clone() };
        let found = world.bucket.order.map(digest);
        let slots: Vec<_> = world
            .bucket
            .slot
            .map(|_| SlotSeen { number: 0, restore_id: &self.setting.order.restore_id, state: SlotState::Active })
            .into_iter()
            .collect();
        let next = start::decide_start(&StartSeen {
            id: &self.setting.order.restore_id,
            approved: &approved,
            order: match &found {
                None => OrderThere::None,
                Some(digest) => OrderThere::Authentic { digest, approved: &approved },
            },
            slots: &slots,
            already_ran: world.nodes[index].sealed.is_some(),
        });
        let bucket = &mut world.bucket;
        match next {
            Start::CreateOrder if errs => bucket.flying.orders[index] = true,
            Start::CreateOrder => bucket.order = Some(own),
            Start::CreateSlot(_) if errs => bucket.flying.slot = bucket.order,
            Start::CreateSlot(_) => bucket.slot = bucket.order,
            Start::Follow | Start::Refuse(_) => return false,
        }
        true
    }

    pub fn seal_slot(&self, world: &mut World, index: usize, forgets: bool) -> bool {
        let Some(draft) = world.bucket.slot else { return false };
        let order = world.bucket.order.map(digest);
        let known = [self.setting.order.restore_id.clone()];
        let knows = world.nodes[index].sealed.is_some() && !forgets;
        let blind = self.is(Broken::SealsBlindly) || forgets;
        let seal = start::decide_seal(&SealSeen {
            slot: &self.slot(draft),
            order: order.as_ref().map(|digest| (&self.setting.order, digest)),
            node: &self.setting.order.members[index].node_name,
            known: if knows { &known } else { &[] },
            is_busy: false,
            rejoins: false,
            placed_cluster: if blind { Some(OLD_CLUSTER) } else { world.placed_cluster(index) },
            peers: &[],
            decision: if blind { DecisionSeen::Absent } else { world.decision_seen() },
            has_marks: !blind && world.bucket.marks[index] != Marks::default(),
        });
        seal == Seal::Seal && self.seal(world, index, draft)
    }

    pub fn seal(&self, world: &mut World, index: usize, draft: u8) -> bool {
        let node = &mut world.nodes[index];
        node.sealed = Some(draft);
        node.ledger = Ledger::default();
        node.seals += 1;
        true
    }

    fn slot(&self, draft: u8) -> ActiveSlot {
        ActiveSlot { number: 0, restore_id: self.setting.order.restore_id.clone(), order_digest: digest(draft) }
    }
}
