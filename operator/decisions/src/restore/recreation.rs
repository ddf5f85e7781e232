//! A restore that its own rewind wiped out of the API is made again, once, from what a master kept of it; its outcome follows
//! from what the masters tell. One that a human deletes afterwards stays away.

use std::collections::BTreeMap;

use lifeboat_crds::finding::without_approval;
use lifeboat_crds::member::LastRestore;
use lifeboat_crds::{EtcdMember, EtcdRestore, EtcdRestoreSpec, label};

/// What is to be made again because of what a master tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Recreation {
    /// The restore, to be created where there is none of its name.
    pub create: Option<Box<EtcdRestore>>,
    /// The restoreId to note on the EtcdMember: told, and not to be made again.
    pub told: String,
}

/// What is to be made again because of what `member` tells, if anything. `others` are all members: what was told for one is not
/// told again for the next.
///
/// Whether the object is there is for the API server to say, which refuses a second one of its name: in the first seconds after a
/// rewind the operator's own cache may still hold what is no more.
pub fn decide_recreation<'m>(
    member: &EtcdMember,
    others: impl IntoIterator<Item = &'m EtcdMember>,
) -> Option<Recreation> {
    let last = member.status.as_ref()?.facts.last_restore.as_ref()?;
    let LastRestore { restore_id, ref_, attempt, outcome, spec, .. } = last;
    let has_ended = [LastRestore::RESTORED, LastRestore::ROLLED_BACK].contains(&outcome.as_str());
    if !has_ended || told(member) == Some(restore_id) {
        return None;
    }
    // Kept by a version whose requests this one does not understand: left for one that does.
    let spec: EtcdRestoreSpec = serde_json::from_str(spec.as_ref()?).ok()?;
    let is_told = others.into_iter().any(|other| told(other) == Some(restore_id));
    let is_wanted = !is_told && !ref_.is_empty();
    // The attempt is what its outcome is looked up by.
    let spec = EtcdRestoreSpec { attempt: *attempt, ..without_approval(&spec) };
    let create = is_wanted.then(|| {
        let mut restore = EtcdRestore::new(ref_, spec);
        restore.metadata.annotations = Some(BTreeMap::from([(label::RECREATED.to_owned(), restore_id.clone())]));
        Box::new(restore)
    });
    Some(Recreation { create, told: restore_id.clone() })
}

/// The restoreId that a restore was made again for.
fn told(member: &EtcdMember) -> Option<&String> {
    member.metadata.annotations.as_ref()?.get(label::TOLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "0123456789abcdef0123";

    fn member(node: &str, outcome: &str, told: Option<&str>) -> EtcdMember {
        let spec = json!({"cluster": {"from": {"backupRef": {"name": "b"}}}, "approval": "3f9a-0c71", "attempt": 1});
        let annotations = told.map_or(Value::Null, |id| json!({label::TOLD: id}));
        serde_json::from_value(json!({"apiVersion": lifeboat_crds::API_VERSION, "kind": "EtcdMember",
            "metadata": {"name": node, "annotations": annotations},
            "status": {"lastRestore": {"restoreId": ID, "ref": "r", "attempt": 2, "outcome": outcome, "spec": spec.to_string()}}}))
        .unwrap()
    }

    #[test]
    fn what_the_rewind_wiped_out_is_made_again_unapproved_and_under_its_attempt() {
        for outcome in ["Restored", "RolledBack"] {
            let member = member("m1", outcome, None);
            let Recreation { create, told } = decide_recreation(&member, [&member]).unwrap();
            let restore = create.unwrap();
            assert_eq!(told, ID);
            assert_eq!(restore.metadata.name.as_deref(), Some("r"));
            assert_eq!(restore.metadata.annotations.as_ref().unwrap()[label::RECREATED], ID);
            assert_eq!((restore.spec.approval.as_str(), restore.spec.attempt), ("", 2));
            assert_eq!(restore.spec.cluster.as_ref().unwrap().from.backup_ref.as_ref().unwrap().name, "b");
        }
    }

    #[test]
    fn what_was_noted_stays_away() {
        let fresh = member("m1", "Restored", None);
        let told = member("m1", "Restored", Some(ID));
        assert_eq!(decide_recreation(&told, [&told]), None);
        // Another master tells of it later: a human may have deleted it meanwhile.
        assert_eq!(decide_recreation(&fresh, [&fresh, &told]).unwrap().create, None);
        let earlier = member("m1", "Restored", Some("ffffffffffffffffffff"));
        assert!(decide_recreation(&earlier, [&earlier]).unwrap().create.is_some(), "of another restore");
    }

    #[test]
    fn what_has_no_outcome_or_no_request_is_left_alone() {
        let other = member("m1", "InDoubt", None);
        assert_eq!(decide_recreation(&other, [&other]), None);
        for spec in [None, Some("{".to_owned()), Some(r#"{"cluster": 7}"#.to_owned())] {
            let mut member = member("m1", "Restored", None);
            member.status.as_mut().unwrap().facts.last_restore.as_mut().unwrap().spec = spec;
            assert_eq!(decide_recreation(&member, [&member]), None);
        }
    }
}
