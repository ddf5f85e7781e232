use super::*;
use crate::situation::{
    Show, assert_shown, assert_sound, at, backup, condition, healthy, is_true as shows, location, merge, restore,
};
use lifeboat_crds::finding::PlannedTerms;
use lifeboat_crds::restore::RestorePlan;
use lifeboat_crds::{NodeName, Task, label};
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "20261124-113000-0123abcd";
const OTHER_ID: &str = "20261124-114500-0123abcd";
const SHA: &str = "ab";

/// What the caches hold around a restore, and what happens to them.
#[derive(Clone)]
struct World {
    restore: EtcdRestore,
    backups: Vec<EtcdBackup>,
    locations: Vec<EtcdBackupLocation>,
    members: Vec<SeenMember>,
    others: Vec<EtcdRestore>,
    unchanged_for: Duration,
    /// Second at which agents wrote last; now where that is not said.
    heard: Option<i64>,
}

fn master(node: &str, more: Value) -> SeenMember {
    let mut facts = json!({"name": node, "version": "3.6.5", "platform": "StaticPods", "toolVersions": {"3.6": "3.6.5"},
        "freeBytes": {"dataDir": 50_000_000_000_i64}});
    merge(&mut facts, more);
    healthy(node, facts)
}

fn bucket(more: Value) -> EtcdBackupLocation {
    let one = |type_: &str| json!({"type": type_, "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": at(0).to_string()});
    let mut base = json!({"status": {"observedGeneration": 1, "conditionalWrites": true,
        "conditions": [one("Ready"), one("Available"), one("Writable")]}});
    merge(&mut base, more);
    location(base)
}

/// A good backup of so many seconds before the start.
fn good(name: &str, id: &str, before: i64, more: Value) -> EtcdBackup {
    let one = |type_: &str| json!({"type": type_, "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": at(-before).to_string()});
    let mut base = json!({"metadata": {"name": name}, "status": {"observedGeneration": 1, "backupId": id, "revision": 1000,
        "sha256": SHA, "contentHash": "cc", "startTime": at(-before).to_string(), "conditions": [one("Ready"), one("Complete")]}});
    merge(&mut base, more);
    backup(base)
}

fn world(more: Value) -> World {
    World {
        restore: restore(more),
        backups: vec![good("b", ID, 1_800, json!({}))],
        locations: vec![bucket(json!({}))],
        members: vec![master("m1", json!({"isLeader": true})), master("m2", json!({})), master("m3", json!({}))],
        others: Vec::new(),
        unchanged_for: Duration::ZERO,
        heard: None,
    }
}

fn report(more: Value) -> Value {
    let listed = |node: &str, last: u8| json!({"name": node, "peerURLs": [format!("https://10.0.0.{last}:2380")]});
    let mut base = json!({"backup": {"backupId": ID, "revision": 1000, "time": at(-1_800).to_string(), "sha256": SHA,
            "cluster": "uid", "contentHash": "cc", "location": "bucket"},
        "sizeBytes": 1_000_000_000_i64, "etcdVersion": "3.6.1", "clusterId": "00000000000000aa", "revision": 4456,
        "time": at(5).to_string(), "members": [listed("m1", 1), listed("m2", 2), listed("m3", 3)],
        "changes": [{"resource": "pods", "created": 1, "deleted": 2, "modified": 3}]});
    merge(&mut base, more);
    base
}

impl World {
    fn status(&self) -> EtcdRestoreStatus {
        self.restore.status.clone().unwrap_or_default()
    }

    fn object(&self) -> Value {
        serde_json::to_value(&self.restore).unwrap()
    }

    fn decide(&self, second: i64) -> RestoreDecision {
        let beat = lifeboat_crds::Time(at(self.heard.unwrap_or(second)));
        let mut members = self.members.clone();
        for seen in &mut members {
            seen.member.status.as_mut().unwrap().facts.heartbeat_time = Some(beat.clone());
        }
        let observed = ObservedRestore {
            restore: self.restore.clone(),
            backups: self.backups.iter().collect(),
            locations: self.locations.iter().map(|it| (it.metadata.name.clone().unwrap(), it.clone())).collect(),
            members,
            others: self.others.clone(),
            execution_unchanged_for: self.unchanged_for,
        };
        decide_restore(&observed, at(second))
    }

    /// Applies the decision as the operator does; gives what was told.
    fn step(&mut self, second: i64) -> Vec<&'static str> {
        let before = self.status();
        let RestoreDecision { status, events, requeue_after: _ } = self.decide(second);
        assert!(status.execution.is_none() && status.nodes.is_empty(), "the agents' part");
        if status.assignment != before.assignment {
            self.unchanged_for = Duration::ZERO;
        }
        self.restore.status =
            Some(EtcdRestoreStatus { execution: before.execution, nodes: before.nodes, ..status.clone() });
        assert_sound(&self.object());
        self.assert_code();
        let again = self.decide(second);
        assert_eq!(again.status, status, "second {second}");
        assert_eq!(again.events, [], "second {second}");
        events.iter().map(|event| event.reason.as_str()).collect()
    }

    /// The code shown is that of the plan shown.
    fn assert_code(&self) {
        let plan = self.status().plan.unwrap_or_default();
        let Some(code) = plan.approval_code.clone() else { return };
        // What goes on is of the attempt that it was approved in.
        let spec = EtcdRestoreSpec { attempt: self.status().attempt.unwrap(), ..self.restore.spec.clone() };
        let terms = PlannedTerms::of(spec.cluster.as_ref().unwrap(), &plan);
        assert_eq!(terms.code("lifeboat", "r", &spec, &plan), Some(code));
    }

    fn code(&self) -> String {
        self.status().plan.unwrap().approval_code.unwrap()
    }

    fn assigned(&self) -> (String, i32, Task) {
        let assignment = self.status().assignment.unwrap();
        (assignment.node_name.to_string(), assignment.attempt, assignment.task)
    }

    /// The assigned agent says this; `None` while it is at work.
    fn agent_says(&mut self, result: Option<Value>) {
        let Some(assignment) = self.status().assignment else { return };
        let mut execution = json!({"nodeName": assignment.node_name, "attempt": assignment.attempt, "task": assignment.task,
            "startTime": at(0).to_string(), "heartbeatTime": at(0).to_string()});
        if let Some(result) = result {
            execution["result"] = result;
        }
        let status = self.restore.status.as_mut().unwrap();
        status.execution = Some(serde_json::from_value(execution).unwrap());
        self.unchanged_for = Duration::ZERO;
    }

    fn reports(&mut self, more: Value) {
        self.agent_says(Some(json!({"plan": report(more)})));
    }

    fn steps(&mut self, steps: &[(&str, &str)], second: i64) {
        let nodes =
            steps.iter().map(|(node, step)| json!({"nodeName": node, "step": step, "time": at(second).to_string()}));
        self.restore.status.as_mut().unwrap().nodes = serde_json::from_value(nodes.collect()).unwrap();
    }

    fn tell(&mut self, master: usize, outcome: &str, more: Value) {
        let mut last = json!({"restoreId": "0123456789abcdef0123", "ref": "r", "attempt": 1, "outcome": outcome,
            "time": at(1_000).to_string(), "revision": 5000, "outageSeconds": 7});
        merge(&mut last, more);
        let facts = &mut self.members[master].member.status.as_mut().unwrap().facts;
        facts.last_restore = Some(serde_json::from_value(last).unwrap());
    }

    fn set(&mut self, more: Value) {
        let mut object = self.object();
        merge(&mut object, more);
        self.restore = serde_json::from_value(object).unwrap();
    }

    /// Planned, and awaiting approval.
    fn planned() -> Self {
        let mut world = world(json!({}));
        world.step(0);
        world.reports(json!({}));
        assert_eq!(world.step(10), ["PlanReady"]);
        world
    }

    /// Ordered.
    fn ordered() -> Self {
        let mut world = Self::planned();
        world.set(json!({"spec": {"approval": world.code()}}));
        assert_eq!(world.step(20), ["RestoreApproved"]);
        world
    }
}

#[test]
fn one_member_is_made_anew_on_its_master() {
    let mut world = world(json!({"spec": {"cluster": null, "member": {"nodeName": "m1"}}}));
    assert!(world.step(0).is_empty());
    assert_shown(&world.object(), Show::Failed("NotSupported"), "lifeboat etcd reinitialize` on m1");
    assert_eq!(world.status().kind.as_deref(), Some("Member"));
}

/// The whole life of one that goes well, with the rows of the table that it passes.
#[test]
fn a_restore_is_planned_approved_ordered_and_told_of() {
    let mut world = world(json!({}));
    assert!(world.step(0).is_empty());
    assert_shown(&world.object(), Show::Unknown("Planning"), "nothing is touched");
    assert_eq!(world.assigned(), ("m2".into(), 1, Task::Plan), "a follower");
    let plan = world.status().plan.unwrap();
    let named = plan.backup.clone().unwrap();
    assert_eq!((named.backup_id.as_str(), named.location.as_str(), named.revision), (ID, "bucket", 1000));
    assert_eq!(plan, RestorePlan { backup: Some(named), ..RestorePlan::default() }, "and nothing else yet");
    world.agent_says(None);
    assert!(world.step(5).is_empty());
    world.reports(json!({}));
    assert_eq!(world.step(10), ["PlanReady"]);
    assert_shown(&world.object(), Show::Unknown("AwaitingApproval"), "3456 revisions of changes would be lost");
    assert_shown(&world.object(), Show::Unknown("AwaitingApproval"), &format!("({}) into spec.approval", world.code()));
    assert!(shows(&world.object(), "PlanReady"));
    let plan = world.status().plan.unwrap();
    assert_eq!(plan.members.len(), 3);
    assert_eq!(plan.members[0].version, "3.6.5");
    assert_eq!(plan.data_loss.unwrap().revisions, 3_456);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert_eq!(plan.backup.unwrap().content_hash, "cc");
    assert_eq!(plan.disk_needed.unwrap().to_string(), "2611Mi");
    // Time alone changes nothing.
    assert!(world.step(3_000).is_empty());
    let shown = world.object();
    world.set(json!({"metadata": {"generation": 2}, "spec": {"approval": "0000-0000"}}));
    assert!(world.step(3_010).is_empty());
    assert_shown(&world.object(), Show::Unknown("AwaitingApproval"), "nothing starts");
    assert_eq!(condition(&world.object(), "Approved").unwrap()["reason"], "ApprovalMismatch");
    assert_eq!(world.object()["status"]["plan"], shown["status"]["plan"]);
    world.set(json!({"spec": {"approval": world.code()}}));
    assert_eq!(world.step(3_020), ["RestoreApproved"]);
    assert_eq!(world.assigned(), ("m2".into(), 2, Task::Order));
    assert_shown(&world.object(), Show::Unknown("Running"), "writes the order");
    assert!(shows(&world.object(), "Approved") && shows(&world.object(), "PlanReady"));
    world.agent_says(Some(json!({"order": {"restoreId": "0123456789abcdef0123", "bumpTo": 1_000_004_456}})));
    world.steps(&[("m1", "2/10 Safety"), ("m2", "1/10 Stage"), ("elsewhere", "0/10")], 3_030);
    assert_eq!(world.step(3_030), ["RestoreStep"]);
    let status = world.status();
    assert_eq!((status.step.as_deref(), status.nodes_ready.as_deref()), (Some("1/10 Stage"), Some("2/3")));
    assert_eq!(status.plan.unwrap().bump_to, Some(1_000_004_456));
    assert_shown(&world.object(), Show::Unknown("Running"), "not further yet: m2");
    world.steps(&[("m1", "2/10 Safety"), ("m2", "10/10 Complete"), ("m3", "4/10 Prepare")], 3_040);
    assert_eq!(world.step(3_040), ["RestoreStep"]);
    assert_eq!(world.status().step.as_deref(), Some("2/10 Safety"));
    world.tell(0, "Restored", json!({"outageSeconds": 9}));
    assert_eq!(world.step(3_050), ["RestoreSucceeded"]);
    assert_shown(
        &world.object(),
        Show::Current("Restored"),
        "at revision 5000 on 1 of 3 masters; the API was away for 9 s",
    );
    assert!(shows(&world.object(), "Complete"));
    world.tell(1, "Restored", json!({}));
    world.tell(2, "Restored", json!({}));
    assert!(world.step(3_060).is_empty());
    let status = world.status();
    assert_eq!((status.nodes_ready.as_deref(), status.step), (Some("3/3"), None));
    assert_eq!((status.restored_revision, status.outage_seconds), (Some(5000), Some(9)));
    assert_eq!((status.decision.as_deref(), status.phase.as_deref()), (Some("Commit"), Some("Restored")));
    assert_eq!(status.restore_id.as_deref(), Some("0123456789abcdef0123"));
    assert_eq!(status.assignment.unwrap().attempt, 2);
    // Afterwards the masters tell of another one, and at last of nothing.
    let shown = world.object();
    world.tell(0, "Restored", json!({"ref": "later"}));
    assert!(world.step(9_000).is_empty());
    world.members.clear();
    world.backups.clear();
    assert!(world.step(100_000).is_empty());
    assert_eq!(world.object(), shown);
}

#[test]
fn what_the_masters_tell_is_the_outcome_of_an_object_that_was_made_again() {
    for (outcome, show, end) in
        [("Restored", Show::Current("Restored"), "Complete"), ("RolledBack", Show::Failed("RolledBack"), "RolledBack")]
    {
        let mut world = world(json!({"metadata": {"annotations": {label::RECREATED: "0123456789abcdef0123"}}}));
        for master in 0..3 {
            world.tell(master, outcome, json!({"message": "as the journal says"}));
        }
        world.backups.clear();
        let told = world.step(2_000);
        assert_eq!(told, [if end == "Complete" { "RestoreSucceeded" } else { "RestoreRolledBack" }]);
        assert_shown(&world.object(), show, "as the journal says");
        assert!(shows(&world.object(), end) && shows(&world.object(), "Complete") != shows(&world.object(), "Failed"));
        assert_eq!(world.status().nodes_ready.as_deref(), Some("3/3"));
        assert_eq!(world.status().assignment, None);
        // As if GitOps applied it for ever.
        world.set(json!({"metadata": {"generation": 7}, "spec": {"approval": "3f9a-0c71"}}));
        assert!(world.step(3_000).is_empty());
        assert_shown(&world.object(), show, "");
    }
}

#[test]
fn one_that_restored_counts_more_than_those_that_left_before() {
    let mut world = World::ordered();
    world.tell(0, "RolledBack", json!({"message": "the store was away"}));
    assert_eq!(world.step(30), ["RestoreRolledBack"]);
    assert_shown(&world.object(), Show::Failed("RolledBack"), "the store was away");
    assert!(shows(&world.object(), "Failed") && shows(&world.object(), "RolledBack"));
    assert_eq!(world.status().decision.as_deref(), Some("Rollback"));
    world.tell(1, "Restored", json!({}));
    assert_eq!(world.step(40), ["RestoreSucceeded"]);
    assert!(!shows(&world.object(), "RolledBack"));
}

#[test]
fn the_same_name_for_something_else_is_not_taken_for_restored() {
    let mut world = world(json!({}));
    let other = json!({"cluster": {"from": {"backupRef": {"name": "another"}}}});
    world.tell(0, "Restored", json!({"spec": other.to_string()}));
    assert_eq!(world.step(2_000), ["RestoreFailed"]);
    assert_shown(&world.object(), Show::Failed("AlreadyRestored"), "raise spec.attempt to 2");
    assert!(shows(&world.object(), "Failed"));
    world.members[0] = master("m1", json!({}));
    assert!(world.step(2_100).is_empty(), "it stays");
    world.set(json!({"spec": {"attempt": 2}}));
    world.step(2_200);
    assert_shown(&world.object(), Show::Unknown("Planning"), "");
    // What is asked for alike is the same request.
    let mut same = self::world(json!({}));
    let spec =
        serde_json::to_string(&EtcdRestoreSpec { approval: String::new(), ..same.restore.spec.clone() }).unwrap();
    same.tell(0, "Restored", json!({"spec": spec}));
    assert_eq!(same.step(2_000), ["RestoreSucceeded"]);
}

#[test]
fn a_raised_attempt_begins_anew_with_its_own_assignments() {
    let mut world = World::planned();
    let first = world.code();
    world.set(json!({"spec": {"cancel": true}}));
    assert_eq!(world.step(20), ["RestoreFailed"]);
    assert_shown(&world.object(), Show::Failed("Cancelled"), "nothing was touched");
    assert!(world.step(30).is_empty());
    world.set(json!({"spec": {"cancel": false, "attempt": 2, "approval": first}}));
    assert!(world.step(40).is_empty());
    let status = world.status();
    assert_eq!((status.attempt, status.plan.unwrap().nonce), (Some(2), None));
    assert_eq!(world.assigned(), ("m2".into(), 2, Task::Plan));
    assert!(!shows(&world.object(), "Failed"));
    world.reports(json!({}));
    assert_eq!(world.step(50), ["PlanReady"]);
    assert_ne!(world.code(), first);
    assert_eq!(condition(&world.object(), "Approved").unwrap()["reason"], "ApprovalMismatch");
}

#[test]
fn an_attempt_that_is_raised_while_one_is_carried_out_waits_for_its_end() {
    let mut world = World::ordered();
    world.set(json!({"spec": {"attempt": 2}}));
    assert!(world.step(30).is_empty());
    assert_shown(&world.object(), Show::Unknown("Running"), "begins when this one has ended");
    assert_eq!(world.status().attempt, Some(1));
    world.tell(0, "RolledBack", json!({"time": at(35).to_string()}));
    // Shown, then begun anew: the step asserts that a second look changes nothing, so it is decided by hand.
    let ended = world.decide(40).status;
    assert_eq!(ended.phase.as_deref(), Some("RolledBack"));
    world.restore.status = Some(ended);
    assert!(world.step(41).is_empty());
    assert_shown(&world.object(), Show::Unknown("Planning"), "");
    assert_eq!((world.status().attempt, world.assigned().1), (Some(2), 3));
}

#[test]
fn a_request_of_before_a_rewind_is_superseded_unless_it_was_asked_for_since() {
    let rewound = |world: &mut World, second: i64| {
        world.tell(0, "Restored", json!({"ref": "another", "time": at(second).to_string()}));
    };
    // Under way in the data that was put back: planned, ordered, or not seen at all.
    for mut world in [World::planned(), World::ordered(), world(json!({}))] {
        rewound(&mut world, 5_000);
        world.step(30);
        assert!(!shows(&world.object(), "Failed"), "a time that lies ahead is of a wrong clock");
        rewound(&mut world, 100);
        // The one of which nothing was assigned before.
        world.restore.status =
            Some(EtcdRestoreStatus::default()).filter(|_| world.status().plan.is_none()).or(world.restore.status);
        assert_eq!(world.step(5_100), ["RestoreFailed"]);
        assert_shown(&world.object(), Show::Failed("Superseded"), "raise spec.attempt");
        assert!(shows(&world.object(), "Failed"));
        let attempt = world.status().assignment.map_or(0, |assignment| assignment.attempt);
        world.set(json!({"spec": {"attempt": 2}}));
        let members = std::mem::take(&mut world.members);
        world.members.push(members[0].clone());
        world.members[0].member.status.as_mut().unwrap().facts.problem = Some("etcd is down".into());
        world.step(5_200);
        assert_shown(&world.object(), Show::Unknown("NoHealthyMember"), "etcd is down");
        world.members = members;
        world.step(5_300);
        assert_shown(&world.object(), Show::Unknown("Planning"), "");
        assert!(world.assigned().1 > attempt);
    }
    // One that was made since, or was approved and ordered since, lives.
    let mut since = world(json!({"metadata": {"creationTimestamp": at(200).to_string()}}));
    rewound(&mut since, 100);
    since.step(300);
    assert_shown(&since.object(), Show::Unknown("Planning"), "");
}

#[test]
fn one_that_is_called_off_while_it_is_carried_out_waits_for_its_outcome() {
    let mut world = World::ordered();
    world.set(json!({"spec": {"cancel": true}}));
    assert!(world.step(30).is_empty());
    assert_shown(&world.object(), Show::Unknown("Running"), "called off");
    let mut rolled_back = world.clone();
    rolled_back.tell(0, "RolledBack", json!({"message": "cancelled"}));
    assert_eq!(rolled_back.step(40), ["RestoreRolledBack"]);
    let error = json!({"error": {"reason": "LocationUnavailable", "message": "503"}});
    world.agent_says(Some(error.clone()));
    assert_eq!(world.step(40), ["RestoreFailed"]);
    assert_shown(&world.object(), Show::Failed("Cancelled"), "503");
    let mut failing = World::ordered();
    failing.agent_says(Some(error));
    assert_eq!(failing.step(40), ["RestoreFailed"]);
    assert_shown(&failing.object(), Show::Failed("LocationUnavailable"), "the order was not written: 503");
    let assigned = failing.assigned();
    assert!(failing.step(9_000).is_empty());
    assert_eq!(failing.assigned(), assigned, "never a second order");
    // It was written all the same.
    failing.tell(0, "Restored", json!({}));
    assert_eq!(failing.step(9_100), ["RestoreSucceeded"]);
}

#[test]
fn an_order_that_nobody_tells_of_is_given_up_at_its_deadline() {
    let mut world = World::ordered();
    let deadline = 20 + 3_600 + 900 + 300;
    assert_eq!(world.decide(30).requeue_after, Some(Duration::from_secs(4_790)));
    world.unchanged_for = Duration::from_secs(4_000);
    assert!(world.step(deadline - 1).is_empty(), "a silent agent is no reason for a second order");
    assert_eq!(world.step(deadline), ["RestoreFailed"]);
    assert_shown(&world.object(), Show::Failed("DeadlineExceeded"), "lifeboat restore status");
    world.tell(0, "RolledBack", json!({}));
    assert_eq!(world.step(deadline + 10), ["RestoreRolledBack"], "the truth counts");
}

#[test]
fn the_backup_is_found_as_it_is_named() {
    let from = |from: Value| json!({"spec": {"cluster": {"from": merged(json!({"backupRef": null}), from)}}});
    let nightly = json!({"metadata": {"labels": {label::SCHEDULE: "nightly"}}});
    let all = [
        good("b", ID, 1_800, json!({})),
        good("newer", OTHER_ID, 900, nightly),
        good("unproven", "20261124-115500-0123abcd", 300, json!({"status": {"contentHash": null}})),
        good("bad", "20261124-115600-0123abcd", 240, json!({"status": {"conditions": null}})),
        good("elsewhere", "20261124-115700-0123abcd", 180, json!({"spec": {"locationRef": {"name": "other"}}})),
    ];
    let table = [
        (from(json!({"backupRef": {"name": "b"}})), Ok(ID)),
        (from(json!({"latest": {"locationRef": {"name": "bucket"}}})), Ok(OTHER_ID)),
        (from(json!({"latest": {"scheduleRef": {"name": "nightly"}}})), Ok(OTHER_ID)),
        (from(json!({"latest": {"locationRef": {"name": "bucket"}, "notAfter": at(-1_000).to_string()}})), Ok(ID)),
        (from(json!({"archive": {"locationRef": {"name": "bucket"}, "backupId": ID}})), Ok(ID)),
        (from(json!({"backupRef": {"name": "none"}})), Err(("ArchiveMissing", "there is no EtcdBackup none"))),
        (from(json!({"backupRef": {"name": "elsewhere"}})), Err(("LocationMissing", "location other does not exist"))),
        (from(json!({"latest": {"locationRef": {"name": "other"}}})), Err(("LocationMissing", "location other"))),
        (from(json!({"latest": {"scheduleRef": {"name": "hourly"}}})), Err(("ArchiveMissing", "of schedule hourly"))),
        (
            from(json!({"latest": {"locationRef": {"name": "bucket"}, "notAfter": at(-9_000).to_string()}})),
            Err(("ArchiveMissing", "or before")),
        ),
        (
            from(json!({"archive": {"locationRef": {"name": "bucket"}, "backupId": "20260101-000000-00000000"}})),
            Err(("ArchiveMissing", "no good archive")),
        ),
    ];
    for (more, expected) in table {
        let mut world = world(more);
        world.backups = all.to_vec();
        world.step(0);
        match expected {
            Ok(id) => assert_eq!(world.status().plan.unwrap().backup.unwrap().backup_id, id),
            Err((reason, words)) => {
                assert_shown(&world.object(), Show::Troubled(Box::leak(reason.to_owned().into_boxed_str())), words);
                world.step(60);
                assert_shown(&world.object(), Show::Failed(Box::leak(reason.to_owned().into_boxed_str())), words);
                assert!(!shows(&world.object(), "Failed"), "it is mended when it appears");
            }
        }
    }
    let mut unfinished = world(json!({}));
    unfinished.backups = vec![backup(json!({}))];
    unfinished.step(0);
    assert_shown(&unfinished.object(), Show::Unknown("Pending"), "waits for backup b");
    unfinished.backups = all.to_vec();
    unfinished.step(100);
    assert_shown(&unfinished.object(), Show::Unknown("Planning"), "");
}

fn merged(mut base: Value, more: Value) -> Value {
    merge(&mut base, more);
    base
}

#[test]
fn latest_is_resolved_once_and_again_only_when_that_backup_is_no_more() {
    let mut world = world(
        json!({"spec": {"cluster": {"from": {"backupRef": null, "latest": {"locationRef": {"name": "bucket"}}}}}}),
    );
    world.step(0);
    world.reports(json!({}));
    world.step(10);
    let code = world.code();
    world.backups.push(good("newer", OTHER_ID, -20, json!({})));
    assert!(world.step(30).is_empty());
    assert_eq!(world.code(), code);
    assert_eq!(pinned_backup(&world.restore).unwrap().backup_id, ID);
    world.backups.remove(0);
    world.step(40);
    assert_eq!(world.status().plan.unwrap().backup.unwrap().backup_id, OTHER_ID);
    assert_shown(&world.object(), Show::Unknown("Planning"), "");
    assert_eq!(world.assigned().1, 2);
}

#[test]
fn a_plan_waits_for_an_agent_and_goes_to_another_when_one_is_silent_or_fails() {
    let mut world = world(json!({}));
    let all = std::mem::take(&mut world.members);
    world.step(0);
    assert_shown(&world.object(), Show::Unknown("NoHealthyMember"), "no agent has reported");
    world.members = all;
    world.step(1);
    assert_eq!(world.assigned(), ("m2".into(), 1, Task::Plan));
    world.unchanged_for = crate::SILENCE;
    world.step(100);
    assert_eq!(world.assigned(), ("m3".into(), 2, Task::Plan));
    world.agent_says(Some(json!({"error": {"reason": "LocationUnavailable", "message": "503"}})));
    world.step(110);
    assert_shown(&world.object(), Show::Troubled("LocationUnavailable"), "503");
    assert_eq!(world.assigned().1, 2);
    world.unchanged_for = Duration::from_secs(30);
    let told = world.step(140);
    assert!(told.is_empty());
    assert_eq!(world.assigned(), ("m2".into(), 3, Task::Plan));
    // What no other node does better is shown as such, and tried all the same: it may be mended elsewhere.
    world.agent_says(Some(json!({"error": {"reason": "AccessDenied", "message": "no key"}})));
    world.step(150);
    assert_shown(&world.object(), Show::Failed("AccessDenied"), "no key");
    assert!(!shows(&world.object(), "Failed"));
    world.unchanged_for = Duration::from_secs(60);
    world.step(210);
    assert_eq!(world.assigned().1, 4);
    // An answer that is none, and one on another backup.
    for answer in [json!({}), json!({"plan": report(json!({"backup": {"backupId": OTHER_ID}}))})] {
        world.agent_says(Some(answer));
        world.step(220);
        assert_shown(&world.object(), Show::Troubled("SnapshotFailed"), "reported");
    }
}

/// What stands in the way, and the words that say what to do.
#[test]
fn each_finding_of_the_operator_is_told_by_its_kind() {
    type Change = fn(&mut World);
    let blockers: Vec<(&str, &str, Change)> = vec![
        ("AgentSilent", "m3 is silent", |world| world.members[2].unchanged_for = crate::SILENCE),
        ("MasterUnable", "m3: it is a mount point", |world| {
            world.members[2] = master("m3", json!({"restoreObstacle": "it is a mount point"}));
        }),
        ("UnknownMember", "member m3 (https://10.0.0.3:2380)", |world| drop(world.members.pop())),
        ("LostMasterAnswers", "m3 is called lost", |world| world.set(json!({"spec": {"cluster": {"lost": ["m3"]}}}))),
        ("UnknownMember", "m9, which spec.cluster.lost names", |world| {
            world.set(json!({"spec": {"cluster": {"lost": ["m9"]}}}));
        }),
        ("LostQuorum", "2 of 3 members", |world| {
            world.set(json!({"spec": {"cluster": {"lost": ["m1", "m3"]}}}));
            world.members.truncate(2);
            world.members.remove(0);
        }),
        ("VersionMismatch", "different lines of etcd (3.5, 3.6)", |world| {
            world.members[2] = master("m3", json!({"version": "3.5.16", "toolVersions": {"3.5": "3.5.16"}}));
        }),
        ("VersionMismatch", "no etcdutl of that line", |world| {
            world.members[2] = master("m3", json!({"toolVersions": {"3.6": null, "3.5": "3.5.16"}}));
        }),
        ("VersionMismatch", "version of etcd on m3 is not known", |world| {
            world.members[2] = master("m3", json!({"version": null}));
        }),
        ("NoRoom", "m3: 2611Mi of room are needed", |world| {
            world.members[2] = master("m3", json!({"freeBytes": {"dataDir": 2_000_000_000}}));
        }),
        ("CannotCoordinate", "is ReadOnly", |world| {
            world.locations = vec![bucket(json!({"spec": {"accessMode": "ReadOnly"}}))];
        }),
        ("CannotCoordinate", "has not proven", |world| {
            world.locations = vec![bucket(json!({"status": {"conditionalWrites": null}}))];
        }),
        ("CannotCoordinate", "cannot be written", |world| {
            world.locations = vec![bucket(json!({"status": {"conditions": []}}))];
        }),
        ("CannotCoordinate", "location marks, for order and marks, does not exist", |world| {
            world.set(json!({"spec": {"cluster": {"coordinationRef": {"name": "marks"}}}}));
        }),
        ("AnotherRestore", "restore other is under way", |world| {
            let mut other = World::ordered().restore;
            other.metadata.name = Some("other".into());
            world.others = vec![other];
        }),
    ];
    for (kind, words, change) in blockers {
        let mut world = world(json!({}));
        change(&mut world);
        world.step(0);
        world.reports(json!({}));
        assert_eq!(world.step(10), ["PlanRefused"], "{kind}: {words}");
        assert_shown(&world.object(), Show::Failed("PlanRefused"), words);
        assert!(shows(&world.object(), "Failed") && !shows(&world.object(), "PlanReady"));
        let plan = world.status().plan.unwrap();
        assert!(
            plan.blockers.iter().any(|line| line.starts_with(&format!("{kind}: ")) && line.contains(words)),
            "{plan:?}"
        );
        // Nothing helps but mending it.
        let assigned = world.assigned();
        world.set(json!({"spec": {"approval": world.code()}}));
        assert!(world.step(20).is_empty());
        assert_eq!(world.assigned(), assigned);
        assert!(!shows(&world.object(), "Approved"));
    }
}

#[test]
fn what_the_agent_found_blocks_or_warns_as_its_kind_does() {
    let found = |kind: &str| json!({"findings": [{"kind": kind, "message": "words of the agent"}]});
    for (more, blocks) in [
        (found("OtherCluster"), true),
        (found("HeardOfInTenYears"), true),
        (found("KeysDiffer"), false),
        (json!({"members": [{"name": "m1", "peerURLs": ["https://10.0.0.1:2380"], "isLearner": true}]}), true),
        (json!({"members": [{"name": "m1", "peerURLs": ["a", "b"]}]}), true),
        (json!({"members": [{"name": "", "peerURLs": ["https://10.0.0.1:2380"]}]}), true),
        (json!({"etcdVersion": "3.5.16"}), false),
        (json!({"etcdVersion": "3.7.0"}), true),
        (json!({"etcdVersion": "3.4.30"}), true),
        (json!({"etcdVersion": ""}), true),
        (json!({"persistentVolumes": {"missingAfter": ["pv-a"], "reappear": []}}), false),
    ] {
        let mut world = world(json!({}));
        world.step(0);
        world.reports(more.clone());
        assert_eq!(world.step(10), [if blocks { "PlanRefused" } else { "PlanReady" }], "{more}");
        let plan = world.status().plan.unwrap();
        assert!(plan.warnings.iter().any(|line| line.starts_with("Volumes: persistent volumes are not restored")));
    }
    let mut warned = world(json!({"spec": {"cluster": {"safetyBackup": "Skip"}}}));
    warned.backups = vec![good("b", ID, 86_400, json!({}))];
    warned.step(0);
    warned.reports(json!({"backup": {"time": at(-86_400).to_string()}}));
    assert_eq!(warned.step(10), ["PlanReady"]);
    assert_shown(
        &warned.object(),
        Show::Unknown("AwaitingApproval"),
        "Mind the warnings: NoSafetyBackup, OldBackup, Volumes",
    );
}

#[test]
fn a_lost_master_takes_no_part_and_is_known_by_its_member() {
    let mut world = world(json!({"spec": {"cluster": {"lost": ["m3"]}}}));
    // An EtcdMember of a node that is gone for good, and one of another name.
    world.members[2] = master("m3", json!({"name": "etcd2"}));
    world.members[2].unchanged_for = Duration::from_secs(9_000);
    world.step(0);
    let member = |name: &str, last: u8| json!({"name": name, "peerURLs": [format!("https://10.0.0.{last}:2380")]});
    world.reports(json!({"members": [member("m1", 1), member("m2", 2), member("etcd2", 3)]}));
    assert_eq!(world.step(10), ["PlanReady"]);
    let plan = world.status().plan.unwrap();
    assert_eq!(plan.members.len(), 2);
    assert_eq!((plan.lost[0].node_name.as_str(), plan.lost[0].name.as_str()), ("m3", "etcd2"));
    assert_shown(&world.object(), Show::Unknown("AwaitingApproval"), "without 1 lost ones");
    // Kublr's way: another machine serves under its name.
    world.members.push(master("m4", json!({"name": "etcd2"})));
    assert_eq!(world.step(20), ["PlanRefused"]);
    assert_shown(&world.object(), Show::Failed("PlanRefused"), "LostMasterAnswers");
}

#[test]
fn a_plan_with_blockers_is_made_again_ever_more_seldom_and_shown_meanwhile() {
    let mut world = world(json!({}));
    world.step(0);
    let found = json!({"findings": [{"kind": "OtherCluster", "message": "words"}]});
    world.reports(found.clone());
    assert_eq!(world.step(10), ["PlanRefused"]);
    let shown = world.object();
    world.unchanged_for = Duration::from_secs(59);
    assert!(world.step(69).is_empty());
    assert_eq!(world.assigned().1, 1);
    world.unchanged_for = Duration::from_secs(60);
    assert!(world.step(70).is_empty());
    assert_eq!(world.assigned().1, 2);
    let conditions = |object: &Value| object["status"]["conditions"].clone();
    assert_eq!(conditions(&world.object()), conditions(&shown), "as before, while it is made again");
    world.agent_says(None);
    assert!(world.step(75).is_empty());
    world.reports(found);
    assert!(world.step(80).is_empty(), "the same is not told again");
    assert_eq!(conditions(&world.object()), conditions(&shown));
    world.unchanged_for = Duration::from_secs(599);
    assert!(world.step(90_000).is_empty());
    assert_eq!(world.assigned().1, 2);
    world.unchanged_for = Duration::from_secs(600);
    world.step(90_001);
    assert_eq!(world.assigned().1, 3);
    world.reports(json!({}));
    assert!(world.step(90_010).contains(&"PlanReady"));
    assert!(!shows(&world.object(), "Failed"));
}

/// What was approved while something else was shown starts nothing later.
#[test]
fn a_code_never_comes_back() {
    let mut world = World::planned();
    let first = world.code();
    world.members[2].unchanged_for = crate::SILENCE;
    assert_eq!(world.step(100), ["PlanRefused"]);
    assert_shown(&world.object(), Show::Failed("PlanRefused"), "AgentSilent");
    world.set(json!({"spec": {"approval": first}}));
    assert!(world.step(110).is_empty());
    world.members[2].unchanged_for = Duration::ZERO;
    assert!(world.step(120).is_empty());
    assert_eq!(world.assigned(), ("m2".into(), 2, Task::Plan), "made anew, and not ordered");
    world.reports(json!({}));
    assert_eq!(world.step(130), ["PlanReady"]);
    assert_ne!(world.code(), first);
    assert_shown(&world.object(), Show::Unknown("AwaitingApproval"), "nothing starts");
}

#[test]
fn a_plan_whose_versions_or_warnings_change_is_another_one() {
    // A master was upgraded; the backup is a day old by now.
    for (version, second) in [("3.6.6", 20), ("3.6.5", 86_400)] {
        let mut world = World::planned();
        let (first, shown) = (world.code(), world.object());
        world.members[0] = master("m1", json!({"version": version, "isLeader": true}));
        assert!(world.step(second).is_empty());
        assert_eq!(world.assigned().1, 2);
        assert_shown(&world.object(), Show::Unknown("Planning"), "has changed");
        assert_eq!(world.object()["status"]["plan"], shown["status"]["plan"]);
        world.set(json!({"spec": {"approval": first}}));
        world.step(second + 10);
        assert_eq!(world.assigned().2, Task::Plan, "what it was approved for is no more");
        world.reports(json!({}));
        assert_eq!(world.step(second + 20), ["PlanReady"]);
        assert_ne!(world.code(), first);
    }
}

#[test]
fn the_figures_of_a_plan_are_frozen() {
    let mut world = World::planned();
    let plan = world.status().plan;
    let mut again = world.clone();
    again.reports(json!({"revision": 9_999, "sizeBytes": 7}));
    again.step(50);
    assert_eq!(again.status().plan, plan);
    world.members[0] = master("m1", json!({"revision": 77, "isLeader": true}));
    world.step(60);
    assert_eq!(world.status().plan, plan);
}

#[test]
fn the_order_goes_to_the_planner_or_to_another_when_that_is_silent() {
    let mut world = World::planned();
    world.set(json!({"spec": {"approval": world.code()}}));
    // It does not take part, so that its silence blocks nothing: only so can it be silent here.
    world.restore.status.as_mut().unwrap().assignment.as_mut().unwrap().node_name = NodeName("m9".into());
    world.reports(json!({}));
    world.step(20);
    assert_eq!(world.assigned(), ("m2".into(), 2, Task::Order));
}

/// As in data that was put back: the plan of then, and the approval that GitOps applies again.
#[test]
fn nothing_is_ordered_before_an_agent_has_written_again() {
    let mut world = World::planned();
    world.heard = Some(15);
    world.set(json!({"spec": {"approval": world.code()}}));
    assert!(world.step(9_000).is_empty());
    assert_shown(&world.object(), Show::Unknown("AgentUnavailable"), "an agent must write again");
    assert_eq!(world.assigned().2, Task::Plan);
    let mut again = world.clone();
    again.heard = Some(8_990);
    assert_eq!(again.step(9_010), ["RestoreApproved"]);
    world.heard = Some(8_990);
    world.tell(0, "Restored", json!({"ref": "another", "time": at(8_900).to_string()}));
    assert_eq!(world.step(9_010), ["RestoreFailed"]);
    assert_shown(&world.object(), Show::Failed("Superseded"), "");
}

#[test]
fn a_plan_of_nobody_cannot_be_approved() {
    let mut world = world(json!({}));
    world.step(0);
    world.reports(json!({"members": []}));
    assert_eq!(world.step(10), ["PlanRefused"]);
    assert_shown(&world.object(), Show::Failed("PlanRefused"), "no member that etcd lists could take part");
}

#[test]
fn the_nonce_is_of_this_object_and_of_this_report() {
    let assignment = |attempt: i32, second: i64| -> Assignment {
        serde_json::from_value(
            json!({"nodeName": "m1", "attempt": attempt, "task": "Plan", "time": at(second).to_string()}),
        )
        .unwrap()
    };
    let nonce = composing::nonce;
    let first = nonce("uid", &assignment(1, 0));
    // sha256("uid/1/2026-11-24T12:00:00Z")
    assert_eq!(first.len(), 16);
    for other in [nonce("uie", &assignment(1, 0)), nonce("uid", &assignment(2, 0)), nonce("uid", &assignment(1, 1))] {
        assert_ne!(other, first);
    }
}

/// What happens around a restore, one after the other.
#[derive(Clone, Debug)]
enum Happening {
    Pass(i64),
    Work,
    Report(u8),
    Order,
    Error(Reason),
    Approve(bool),
    Cancel,
    Raise,
    Silent(usize, bool),
    Place(u8),
    Backups(u8),
    Steps(u8),
    Tell(usize, u8),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        3 => (1..400_i64).prop_map(Happening::Pass),
        1 => Just(Happening::Work),
        6 => (0..4_u8).prop_map(Happening::Report),
        2 => Just(Happening::Order),
        1 => prop::sample::select(Reason::ALL.to_vec()).prop_map(Happening::Error),
        5 => any::<bool>().prop_map(Happening::Approve),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::Raise),
        2 => (0..3_usize, any::<bool>()).prop_map(|(which, is)| Happening::Silent(which, is)),
        1 => (0..3_u8).prop_map(Happening::Place),
        1 => (0..3_u8).prop_map(Happening::Backups),
        1 => (0..10_u8).prop_map(Happening::Steps),
        1 => (0..3_usize, 0..4_u8).prop_map(|(which, what)| Happening::Tell(which, what)),
    ];
    prop::collection::vec(one, 1..50)
}

fn happen(world: &mut World, happening: &Happening, second: &mut i64) {
    let task = world.status().assignment.map(|assignment| assignment.task);
    match happening {
        Happening::Pass(seconds) => {
            *second += seconds;
            world.unchanged_for += Duration::from_secs(seconds.unsigned_abs());
        }
        Happening::Work => world.agent_says(None),
        Happening::Report(which) if task == Some(Task::Plan) => world.reports(match which {
            0 => json!({"findings": [{"kind": "OtherCluster", "message": "words"}]}),
            1 => json!({"findings": [{"kind": "KeysDiffer", "message": "words"}]}),
            _ => json!({}),
        }),
        Happening::Order if task == Some(Task::Order) => {
            world.agent_says(Some(json!({"order": {"restoreId": "0123456789abcdef0123", "bumpTo": 7}})));
        }
        Happening::Report(_) | Happening::Order => {}
        Happening::Error(reason) => {
            world.agent_says(Some(json!({"error": {"reason": reason.as_str(), "message": "words"}})));
        }
        Happening::Approve(rightly) => {
            let code = world.status().plan.and_then(|plan| plan.approval_code).filter(|_| *rightly);
            world.set(json!({"spec": {"approval": code.unwrap_or_else(|| "0000-0000".into())}}));
        }
        Happening::Cancel => world.set(json!({"spec": {"cancel": true}})),
        Happening::Raise => {
            let attempt = world.restore.spec.attempt + 1;
            world.set(json!({"spec": {"attempt": attempt, "cancel": false}}));
        }
        Happening::Silent(which, is) => {
            world.members[*which].unchanged_for = if *is { crate::SILENCE } else { Duration::ZERO };
        }
        Happening::Place(which) => {
            world.locations = match which {
                0 => vec![],
                1 => vec![bucket(json!({"spec": {"accessMode": "ReadOnly"}}))],
                _ => vec![bucket(json!({}))],
            }
        }
        Happening::Backups(which) => {
            world.backups = match which {
                0 => vec![],
                1 => vec![good("b", ID, 90_000, json!({}))],
                _ => vec![good("b", ID, 1_800, json!({}))],
            }
        }
        Happening::Steps(step) => world.steps(&[("m1", &format!("{step}/10 Step"))], *second),
        Happening::Tell(which, what) => {
            let attempt = world.restore.spec.attempt;
            let time = json!({"time": at(*second).to_string(), "attempt": attempt});
            match what {
                0 => world.tell(*which, "Restored", time),
                1 => world.tell(*which, "RolledBack", time),
                2 => world.tell(*which, "Restored", merged(time, json!({"ref": "another"}))),
                _ => world.members[*which] = master(&format!("m{}", which + 1), json!({})),
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_ordered_that_was_not_approved_and_nothing_twice(happenings in happenings()) {
        let mut world = world(json!({}));
        let mut second = 0;
        let mut orders = std::collections::BTreeSet::new();
        for happening in &happenings {
            happen(&mut world, happening, &mut second);
            let before = world.status();
            let shown = before.plan.clone().unwrap_or_default();
            let told = world.members.iter().any(|seen| {
                let last = seen.member.status.as_ref().and_then(|status| status.facts.last_restore.as_ref());
                last.is_some_and(|last| last.ref_ == "r" && Some(last.attempt) == before.attempt)
            });
            let had_ended = has_ended(&world.restore) || (told && before.attempt == Some(world.restore.spec.attempt));
            let decision = world.decide(second);
            let after = decision.status.clone();
            if after.assignment != before.assignment {
                prop_assert!(!had_ended, "an object with an outcome is never assigned anything");
                let assignment = after.assignment.clone().unwrap();
                let last = before.assignment.as_ref().map_or(0, |before| before.attempt);
                prop_assert!(assignment.attempt > last);
                if assignment.task == Task::Order {
                    let plan = after.plan.clone().unwrap();
                    prop_assert!(plan.blockers.is_empty() && plan.approval_code.is_some());
                    prop_assert_eq!(&plan.approval_code, &shown.approval_code, "as it was shown");
                    prop_assert_eq!(Some(&world.restore.spec.approval), plan.approval_code.as_ref());
                    prop_assert!(!world.restore.spec.cancel);
                    prop_assert!(orders.insert(after.attempt), "one order for each attempt");
                }
            }
            prop_assert!(after.attempt.is_none_or(|attempt| attempt <= world.restore.spec.attempt));
            world.restore.status = Some(EtcdRestoreStatus { execution: before.execution.clone(), nodes: before.nodes.clone(), ..after.clone() });
            if after.assignment != before.assignment {
                world.unchanged_for = Duration::ZERO;
            }
            assert_sound(&world.object());
            world.assert_code();
        }
    }
}

/// What people are told; each row is as shown here, and there is no other.
const DOCUMENTED: &str = include_str!("../../../docs/restore-situations.md");

#[test]
fn every_row_of_the_page_is_as_shown() {
    let mut rows: Vec<(&str, World, Option<&str>, Show)> = Vec::new();
    let mut at_second = |situation, mut world: World, second: i64, marker, show| {
        world.step(second);
        rows.push((situation, world, marker, show));
    };
    let (reconciling, stalled, failed) = (Some("Reconciling"), Some("Stalled"), Some("Failed"));
    let member = world(json!({"spec": {"cluster": null, "member": {"nodeName": "m1"}}}));
    at_second("one member", member, 0, stalled, Show::Failed("NotSupported"));
    let mut missing = world(json!({}));
    missing.backups.clear();
    at_second("backup missing, first minute", missing.clone(), 0, reconciling, Show::Troubled("ArchiveMissing"));
    missing.step(0);
    at_second("backup missing, later", missing, 60, stalled, Show::Failed("ArchiveMissing"));
    let mut nowhere = world(json!({}));
    nowhere.locations.clear();
    nowhere.step(0);
    at_second("location missing, later", nowhere, 60, stalled, Show::Failed("LocationMissing"));
    let mut unfinished = world(json!({}));
    unfinished.backups = vec![backup(json!({}))];
    at_second("backup not over yet", unfinished, 0, reconciling, Show::Unknown("Pending"));
    let mut alone = world(json!({}));
    alone.members.clear();
    at_second("no master can be asked", alone, 0, reconciling, Show::Unknown("NoHealthyMember"));
    let mut planning = world(json!({}));
    planning.step(0);
    at_second("plan is being made", planning.clone(), 1, reconciling, Show::Unknown("Planning"));
    for (situation, reason, marker, show) in [
        ("plan cannot be made for now", "LocationUnavailable", reconciling, Show::Troubled("LocationUnavailable")),
        ("plan cannot be made", "AccessDenied", stalled, Show::Failed("AccessDenied")),
    ] {
        let mut trying = planning.clone();
        trying.agent_says(Some(json!({"error": {"reason": reason, "message": "no"}})));
        at_second(situation, trying, 1, marker, show);
    }
    planning.reports(json!({"findings": [{"kind": "OtherCluster", "message": "words"}]}));
    at_second("plan has blockers", planning, 1, failed, Show::Failed("PlanRefused"));
    let awaiting = Show::Unknown("AwaitingApproval");
    at_second("plan awaits approval", World::planned(), 20, Some("PlanReady"), awaiting);
    let mut wrong = World::planned();
    wrong.set(json!({"spec": {"approval": "0000-0000"}}));
    at_second("approval of another plan", wrong, 20, Some("PlanReady"), awaiting);
    at_second("under way", World::ordered(), 30, Some("Approved"), Show::Unknown("Running"));
    let mut cancelled = World::planned();
    cancelled.set(json!({"spec": {"cancel": true}}));
    at_second("called off before the order", cancelled, 20, failed, Show::Failed("Cancelled"));
    let mut unwritten = World::ordered();
    unwritten.agent_says(Some(json!({"error": {"reason": "LocationUnavailable", "message": "no"}})));
    at_second("order not written", unwritten, 30, failed, Show::Failed("LocationUnavailable"));
    at_second("nobody tells how it ended", World::ordered(), 90_000, failed, Show::Failed("DeadlineExceeded"));
    for (situation, outcome, spec, marker, show) in [
        ("restored", "Restored", Value::Null, Some("Complete"), Show::Current("Restored")),
        ("rolled back", "RolledBack", Value::Null, Some("RolledBack"), Show::Failed("RolledBack")),
        (
            "same name for something else",
            "Restored",
            json!(r#"{"cluster":{"from":{}}}"#),
            failed,
            Show::Failed("AlreadyRestored"),
        ),
    ] {
        let mut ended = world(json!({}));
        ended.tell(0, outcome, json!({"spec": spec}));
        at_second(situation, ended, 30, marker, show);
    }
    let mut before = World::planned();
    before.tell(0, "Restored", json!({"ref": "another"}));
    at_second("request of before a restore", before, 2_000, failed, Show::Failed("Superseded"));

    let documented: Vec<&str> =
        DOCUMENTED.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| situation")).collect();
    assert_eq!(documented.len(), rows.len());
    for ((situation, world, marker, show), row) in rows.into_iter().zip(documented) {
        assert_shown(&world.object(), show, "");
        let marker = marker.unwrap();
        assert!(shows(&world.object(), marker), "{situation}: {marker}");
        let (ready, kstatus) = match show {
            Show::Current(reason) => (format!("True/{reason}"), "Current"),
            Show::Unknown(reason) => (format!("Unknown/{reason}"), "InProgress"),
            Show::Troubled(reason) => (format!("False/{reason}"), "InProgress"),
            Show::Failed(reason) => (format!("False/{reason}"), "Failed"),
        };
        let expected = format!("| {situation} | {ready} | {marker} | {kstatus} | ");
        assert!(row.starts_with(&expected), "{expected:?} is not how this begins: {row}");
    }
}
