//! What a member says of itself and its cluster. Two reads that need no quorum and write nothing to the raft log.

use std::fmt;

use super::client::MemberClient;
use super::error::EtcdError;

/// etcd's id of a member, shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// etcd's id of a cluster, shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A member of the cluster, as the answering one lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it started once.
    pub name: String,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// Its client URLs; empty until it started once.
    pub client_urls: Vec<String>,
    /// Whether it is a learner.
    pub is_learner: bool,
}

/// An alarm of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The member it is about.
    pub member_id: MemberId,
    /// `NOSPACE`, `CORRUPT`.
    pub kind: String,
}

/// What a member said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Version of the server.
    pub version: String,
    /// Version of its storage format, from etcd 3.6 on.
    pub storage_version: Option<String>,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member itself.
    pub member_id: MemberId,
    /// The leader it sees.
    pub leader_id: Option<MemberId>,
    /// Whether it is a learner.
    pub is_learner: bool,
    /// Its newest revision.
    pub revision: i64,
    /// Size of the database file, bytes.
    pub db_size: u64,
    /// Used part of it, bytes.
    pub db_size_in_use: u64,
    /// Quota, from etcd 3.6 on.
    pub quota: Option<u64>,
    /// Alarms of the whole cluster.
    pub alarms: Vec<Alarm>,
    /// What it complains about besides alarms and the missing leader.
    pub errors: Vec<String>,
    /// Members of the cluster, as it knows them.
    pub members: Vec<Member>,
}

impl MemberStatus {
    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        self.leader_id == Some(self.member_id)
    }

    /// Whether it sees a leader.
    pub fn has_leader(&self) -> bool {
        self.leader_id.is_some()
    }

    /// Its own entry in the list of members.
    pub fn own(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.id == self.member_id)
    }

    /// Alarms about this member.
    pub fn own_alarms(&self) -> impl Iterator<Item = &str> {
        self.alarms.iter().filter(|alarm| alarm.member_id == self.member_id).map(|alarm| alarm.kind.as_str())
    }
}

/// Asks a member for its status and its list of members; 5 s each at most.
///
/// Alarms come from the status as well: the alarm call itself goes through raft, so it would need a quorum and add an
/// entry to the log at every heartbeat.
pub async fn fetch_member(client: &MemberClient) -> Result<MemberStatus, EtcdError> {
    let mut inner = client.inner();
    let status = client.bounded(inner.status()).await?;
    let listed = client.bounded(inner.member_list()).await?;
    let Some(header) = status.header() else {
        return Err(EtcdError::Refused { url: client.url().to_owned(), words: "its status has no header".into() });
    };
    let (alarms, errors) = split_errors(status.errors());
    let members = listed.members().iter().map(|member| Member {
        id: MemberId(member.id()),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        is_learner: member.is_learner(),
    });
    Ok(MemberStatus {
        version: status.version().to_owned(),
        storage_version: Some(status.storage_version()).filter(|version| !version.is_empty()).map(str::to_owned),
        cluster_id: ClusterId(header.cluster_id()),
        member_id: MemberId(header.member_id()),
        leader_id: Some(status.leader()).filter(|&id| id != 0).map(MemberId),
        is_learner: status.is_learner(),
        revision: header.revision(),
        db_size: u64::try_from(status.db_size()).unwrap_or(0),
        db_size_in_use: u64::try_from(status.raft_used_db_size()).unwrap_or(0),
        quota: u64::try_from(status.db_size_quota()).ok().filter(|&bytes| bytes > 0),
        alarms,
        errors,
        members: members.collect(),
    })
}

/// Parts alarms from other complaints. A missing leader is told by the leader's id, so its words are left out.
fn split_errors(texts: &[String]) -> (Vec<Alarm>, Vec<String>) {
    let mut alarms = Vec::new();
    let mut errors = Vec::new();
    for text in texts {
        match parse_alarm(text) {
            Some(alarm) => alarms.push(alarm),
            None if text.contains("no leader") => {}
            None => errors.push(text.clone()),
        }
    }
    (alarms, errors)
}

/// An alarm as the server prints it, `memberID:9372538179322589801 alarm:NOSPACE `; the number of blanks varies.
fn parse_alarm(text: &str) -> Option<Alarm> {
    let mut words = text.split_whitespace();
    let member = words.next()?.strip_prefix("memberID:")?.parse().ok()?;
    let kind = words.next()?.strip_prefix("alarm:")?.to_owned();
    words.next().is_none().then_some(Alarm { member_id: MemberId(member), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_read_from_the_errors_of_a_status() {
        let texts = [
            "memberID:10501334649042878790 alarm:NOSPACE ",
            "memberID:1  alarm:CORRUPT",
            "etcdserver: no leader",
            "something else",
        ];
        let (alarms, errors) = split_errors(&texts.map(str::to_owned));
        let alarm = |id, kind: &str| Alarm { member_id: MemberId(id), kind: kind.into() };
        assert_eq!(alarms, [alarm(10_501_334_649_042_878_790, "NOSPACE"), alarm(1, "CORRUPT")]);
        assert_eq!(errors, ["something else"]);
    }

    #[test]
    fn ids_are_sixteen_hex_digits() {
        assert_eq!(MemberId(0xcdf8_181e).to_string(), "00000000cdf8181e");
    }
}
