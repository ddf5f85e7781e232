//! Whether this member may leave and come back, and what the next step is. Pure.

use crate::etcd::status::{Alarm, ClusterId, Member, MemberId};

/// What one of the other members says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Why it does not count as healthy, in words; nothing where it does.
    pub complaint: Option<String>,
}

/// What the others say of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// All members, by a linearizable read.
    pub members: Vec<Member>,
    /// The others, each asked itself.
    pub others: Vec<Witness>,
    /// Alarms of the whole cluster.
    pub alarms: Vec<Alarm>,
}

/// This member in the list of members, known by its peer URLs.
pub fn own_entry<'c>(members: &'c [Member], peer_urls: &[String]) -> Option<&'c Member> {
    let is_own = |url: &String| peer_urls.iter().any(|own| own.trim_end_matches('/') == url.trim_end_matches('/'));
    members.iter().find(|member| member.peer_urls.iter().any(is_own))
}

/// Whether the cluster can do without this member for a while.
///
/// # Errors
/// It cannot: the arithmetic, in words.
pub fn check_quorum(cluster: &Cluster, own: Option<MemberId>) -> Result<(), String> {
    let Cluster { id: _, members, others, alarms: _ } = cluster;
    let is_other = |member: &&Member| Some(member.id) != own;
    let odd = members.iter().filter(is_other).find(|member| member.is_learner || member.name.is_empty());
    if let Some(member) = odd {
        let kind = if member.is_learner { "is a learner" } else { "never started" };
        return Err(format!(
            "another member ({}) {kind}: one change of the members at a time; wait until it is done, or remove it",
            if member.name.is_empty() { member.id.to_string() } else { member.name.clone() },
        ));
    }
    let voters: Vec<&Member> = members.iter().filter(|member| !member.is_learner).collect();
    let needed = voters.len() / 2 + 1;
    let is_voter = |witness: &&Witness| voters.iter().any(|voter| voter.id == witness.id);
    let healthy = others.iter().filter(is_voter).filter(|witness| witness.complaint.is_none()).count();
    if healthy >= needed {
        return Ok(());
    }
    let complaints: Vec<String> = others
        .iter()
        .filter_map(|witness| witness.complaint.as_ref().map(|words| format!("{}: {words}", witness.name)))
        .collect();
    let why = if complaints.is_empty() { String::new() } else { format!(" ({})", complaints.join("; ")) };
    Err(format!(
        "{} voting members need {needed} healthy ones besides this one to go on without it, and there {} {healthy}{why}: {}",
        voters.len(),
        if healthy == 1 { "is" } else { "are" },
        if needed >= voters.len() {
            "so few members can never do it; restore all of them from a backup instead"
        } else {
            "bring the others back first, or restore all of them from a backup"
        },
    ))
}

/// Whether etcd takes writes: while an alarm is raised it takes none, and so not the lock either.
///
/// # Errors
/// It does not: which alarm, and what to do about it first.
pub fn check_alarms(cluster: &Cluster, own: Option<MemberId>) -> Result<(), String> {
    let Cluster { id: _, members, others: _, alarms } = cluster;
    let name_of = |id: MemberId| match members.iter().find(|member| member.id == id) {
        _ if Some(id) == own => "this member".to_owned(),
        Some(member) if !member.name.is_empty() => member.name.clone(),
        Some(_) | None => format!("member {id}"),
    };
    let raised =
        |kind: &'static str| alarms.iter().filter(move |alarm| alarm.kind == kind).map(move |alarm| alarm.member_id);
    if let Some(other) = raised("CORRUPT").find(|&id| Some(id) != own) {
        return Err(format!(
            "etcd raised the alarm CORRUPT for {}: nobody knows then whose data is right, so nothing is taken from the others; compare              the members (`etcdctl endpoint hashkv --cluster`), or restore all of them from a backup",
            name_of(other)
        ));
    }
    let wanted = "then say `lifeboat etcd reinitialize` again";
    if raised("CORRUPT").next().is_some() {
        return Err(format!(
            "etcd raised the alarm CORRUPT for this member and refuses every write until it is taken back, also the lock that keeps two              members from leaving at once: stop the API server of this node, `etcdctl alarm disarm`, {wanted}"
        ));
    }
    match raised("NOSPACE").next() {
        Some(member) => Err(format!(
            "etcd raised the alarm NOSPACE for {} and refuses every write, also the lock that keeps two members from leaving at once:              make room first (`etcdctl compact` to the newest revision, `etcdctl defrag` on each member, `etcdctl alarm disarm`), {wanted}",
            name_of(member)
        )),
        None => Ok(()),
    }
}

/// What lies in the place of this member's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// Nothing.
    Absent,
    /// The data from before.
    Old,
    /// Other data, of the member its WAL names.
    Other(Option<MemberId>),
}

/// The next step before etcd may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Remove the member of this id.
    Remove(MemberId),
    /// Add this member as a learner.
    Add,
    /// Move what lies in the place of the data aside.
    MoveAside,
    /// Start etcd as the member of this id, which joins.
    Start(MemberId),
}

/// The next step, from what the members list and the disk say.
pub fn decide_step(old: Option<MemberId>, own: Option<MemberId>, live: Live) -> Step {
    match (own, live) {
        (None, _) => Step::Add,
        (Some(own), _) if Some(own) == old => Step::Remove(own),
        (Some(_), Live::Old) => Step::MoveAside,
        (Some(own), Live::Other(Some(node))) if node != own => Step::MoveAside,
        (Some(own), Live::Absent | Live::Other(_)) => Step::Start(own),
    }
}

/// The value of `--initial-cluster` for a member that joins: all members, this one by its own name.
pub fn initial_cluster(members: &[Member], own: MemberId, name: &str) -> String {
    let entries = members.iter().flat_map(|member| {
        let name = if member.id == own { name } else { member.name.as_str() };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    entries.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            name: name.into(),
            peer_urls: vec![format!("https://10.0.0.{id}:2380")],
            client_urls: vec![],
            is_learner,
        }
    }

    fn cluster(voters: u64, sick: &[u64]) -> Cluster {
        let members: Vec<Member> = (1..=voters).map(|id| member(id, &format!("m{id}"), false)).collect();
        let others = members[1..].iter().map(|member| Witness {
            id: member.id,
            name: member.name.clone(),
            complaint: sick.contains(&member.id.0).then(|| "no answer".to_owned()),
        });
        Cluster { id: ClusterId(9), others: others.collect(), members, alarms: vec![] }
    }

    #[test]
    fn the_others_must_be_a_quorum_by_themselves() {
        for (voters, sick, may) in [
            (1, &[][..], false),
            (2, &[], false),
            (3, &[], true),
            (3, &[2], false),
            (5, &[2], true),
            (5, &[2, 3], false),
            (4, &[], true),
            (4, &[2], false),
        ] {
            let answer = check_quorum(&cluster(voters, sick), Some(MemberId(1)));
            assert_eq!(answer.is_ok(), may, "{voters} {sick:?} {answer:?}");
        }
        let words = check_quorum(&cluster(3, &[3]), Some(MemberId(1))).unwrap_err();
        assert!(words.starts_with("3 voting members need 2") && words.contains("m3: no answer"), "{words}");
        assert!(check_quorum(&cluster(2, &[]), Some(MemberId(1))).unwrap_err().contains("never"));
    }

    #[test]
    fn an_alarm_is_named_with_what_to_do_before_the_lock_is_tried() {
        let mut cluster = cluster(3, &[]);
        assert_eq!(check_alarms(&cluster, Some(MemberId(1))), Ok(()));
        for (member, kind, expected) in [
            (2, "NOSPACE", ["NOSPACE for m2", "etcdctl defrag"]),
            (1, "NOSPACE", ["NOSPACE for this member", "make room first"]),
            (1, "CORRUPT", ["CORRUPT for this member", "alarm disarm"]),
            (3, "CORRUPT", ["CORRUPT for m3", "restore all"]),
            (0, "CORRUPT", ["CORRUPT for member 0", "restore all"]),
        ] {
            cluster.alarms = vec![Alarm { member_id: MemberId(member), kind: kind.into() }];
            let words = check_alarms(&cluster, Some(MemberId(1))).unwrap_err();
            assert!(expected.iter().all(|part| words.contains(part)), "{words}");
        }
        let worst = Alarm { member_id: MemberId(3), kind: "CORRUPT".into() };
        cluster.alarms = vec![Alarm { member_id: MemberId(1), kind: "NOSPACE".into() }, worst];
        assert!(check_alarms(&cluster, Some(MemberId(1))).unwrap_err().contains("CORRUPT"));
    }

    #[test]
    fn a_member_that_was_removed_already_counts_no_more() {
        let mut cluster = cluster(3, &[]);
        cluster.members.remove(0);
        assert_eq!(check_quorum(&cluster, None), Ok(()));
        cluster.members.push(member(7, "", true));
        assert_eq!(check_quorum(&cluster, Some(MemberId(7))), Ok(()));
    }

    #[test]
    fn one_change_of_the_members_at_a_time() {
        for odd in [member(8, "m8", true), member(8, "", false)] {
            let mut cluster = cluster(3, &[]);
            cluster.members.push(odd);
            let words = check_quorum(&cluster, Some(MemberId(1))).unwrap_err();
            assert!(words.contains("one change of the members at a time"), "{words}");
        }
    }

    #[test]
    fn the_next_step_follows_from_the_members_and_the_disk_alone() {
        let (old, new) = (MemberId(1), MemberId(2));
        for (listed, live, expected) in [
            (Some(old), Live::Old, Step::Remove(old)),
            (Some(old), Live::Absent, Step::Remove(old)),
            (None, Live::Old, Step::Add),
            (None, Live::Absent, Step::Add),
            (Some(new), Live::Old, Step::MoveAside),
            (Some(new), Live::Absent, Step::Start(new)),
            (Some(new), Live::Other(None), Step::Start(new)),
            (Some(new), Live::Other(Some(new)), Step::Start(new)),
            (Some(new), Live::Other(Some(MemberId(5))), Step::MoveAside),
        ] {
            assert_eq!(decide_step(Some(old), listed, live), expected, "{listed:?} {live:?}");
        }
        assert_eq!(decide_step(None, Some(new), Live::Old), Step::MoveAside);
    }

    #[test]
    fn a_joining_member_lists_all_and_itself_by_name() {
        let members = [member(1, "m1", false), member(2, "", true)];
        let expected = "m1=https://10.0.0.1:2380,me=https://10.0.0.2:2380";
        assert_eq!(initial_cluster(&members, MemberId(2), "me"), expected);
        assert_eq!(own_entry(&members, &["https://10.0.0.2:2380/".into()]).unwrap().id, MemberId(2));
    }
}
