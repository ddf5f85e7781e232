//! The controller of EtcdMembers: says from their agents' heartbeats whether they can be backed up, and makes a restore again
//! that one of them tells of and that its own rewind wiped out.

use std::time::Instant;

use kube::runtime::reflector::Store;
use lifeboat_crds::{Condition, EtcdMember, EtcdMemberStatus};
use lifeboat_decisions::member::{MemberDecision, decide_member};
use lifeboat_decisions::restore::recreation::Recreation;
use serde::Serialize;

use crate::apply::{Lock, ReconcileError};
use crate::controller::{Context, Controller, Next, now};
use crate::kind::{Kind, TouchedObject};
use crate::observe::{observe_member, recreation};
use crate::stores::{Guarded, Stores};

/// The operator's part of a member's status; all the rest is its agent's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JudgedStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

/// The controller of EtcdMembers.
pub struct Members;

impl Controller for Members {
    type Kind = EtcdMember;
    const NAME: &'static str = "members";
    const CONCURRENCY: u16 = 4;

    fn store(stores: &Stores) -> &Store<Guarded<Self::Kind>> {
        &stores.members
    }

    fn wakes(touched: &TouchedObject, _: &Stores) -> Vec<String> {
        match touched.kind {
            Kind::Member => vec![touched.name.clone()],
            Kind::Location | Kind::Schedule | Kind::Backup | Kind::Restore => Vec::new(),
        }
    }

    async fn reconcile(context: &Context, member: &EtcdMember) -> Result<Next, ReconcileError> {
        let observed = observe_member(member, &context.stores, &context.liveness, Instant::now());
        let MemberDecision { conditions, observed_generation, requeue_after } = decide_member(&observed, now());
        let EtcdMemberStatus { observed_generation: generation, conditions: before, facts: _ } =
            member.status.clone().unwrap_or_default();
        let current = JudgedStatus { observed_generation: generation, conditions: before };
        let wanted = JudgedStatus { observed_generation: Some(observed_generation), conditions };
        // The agent may have written its next heartbeat meanwhile; the judgement then follows with the next look.
        let written = context.writer.apply_status(member, &current, &wanted, Lock::None).await?;
        if let Some(recreation) = recreation(member, &context.stores) {
            apply_recreation(context, member, &recreation).await?;
        }
        Ok(Next::after_write(written, Next::After(requeue_after)))
    }
}

/// Made first and noted then: one that was made and not noted is found the next time.
async fn apply_recreation(
    context: &Context,
    member: &EtcdMember,
    recreation: &Recreation,
) -> Result<(), ReconcileError> {
    let Recreation { create, told } = recreation;
    if let Some(restore) = create {
        context.writer.create_restore(restore).await?;
    }
    context.writer.note_told(member, told).await.map(drop)
}
