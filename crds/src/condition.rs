//! Condition types and reasons: closed lists, and the one way to set a condition.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `metav1.Condition`, as every Kubernetes tool reads it.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Declares an enum whose variants are written to the API by their own name.
macro_rules! names {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $vdoc:literal])* $variant:ident),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $vdoc])* $variant),* }

        impl $name {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name as it stands in objects.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),* }
            }

            /// What it means, in a sentence; the reference page is made from it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($vdoc),*).trim_ascii()),* }
            }

            /// Reads a name; `None` for one that is not in the list.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|name| name.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use names;

names! {
    /// Types of conditions. `Reconciling` and `Stalled` (kstatus) are present only when True, never both.
    ConditionType {
        /// The object does what its spec says.
        Ready,
        /// Work on it goes on; tools should wait.
        Reconciling,
        /// It will not become Ready without somebody's hand.
        Stalled,
        /// A run ended well (as Jobs say it).
        Complete,
        /// A run ended for good without success (as Jobs say it).
        Failed,
        /// The archive was verified at the asked level.
        Verified,
        /// The archive is kept for ever.
        Pinned,
        /// The location answered its last probe.
        Available,
        /// The location accepts archives of this installation.
        Writable,
        /// The newest finished run of the schedule succeeded.
        LastBackupSucceeded,
        /// The last success is younger than the schedule's objective.
        WithinObjective,
        /// The schedule is suspended.
        Suspended,
        /// The restore's plan is there to read.
        PlanReady,
        /// The restore's plan was approved.
        Approved,
        /// The restore put the old data back.
        RolledBack,
    }
}

names! {
    /// Reasons of conditions; also the reasons of failures in `status.failure` and execution results.
    Reason {
        /// The spec is understood and followed.
        Accepted,
        /// Waits for its turn.
        Pending,
        /// Work goes on.
        Running,
        /// The last try failed; another follows.
        Retrying,
        /// The archive is being verified.
        Verifying,
        /// Ended well.
        Succeeded,
        /// Found in the bucket.
        ImportedFromCatalog,
        /// The cron expression or the time zone is wrong.
        InvalidSchedule,
        /// The cron expression names a date that does not exist.
        NeverFires,
        /// A field or kind that this version accepts but cannot serve.
        NotSupported,
        /// The location named does not exist.
        LocationMissing,
        /// The object store cannot be reached or answers with errors of its own.
        LocationUnavailable,
        /// The Secret or the keys in it are missing.
        CredentialsMissing,
        /// The store answered and refused, or its certificate is not trusted.
        AccessDenied,
        /// Another installation owns the prefix.
        OwnedByAnother,
        /// No usable key to encrypt to.
        EncryptionKeyMissing,
        /// No healthy etcd member to read from.
        NoHealthyMember,
        /// The agent stopped reporting.
        AgentUnavailable,
        /// etcd did not deliver the snapshot.
        SnapshotFailed,
        /// The archive could not be written.
        UploadFailed,
        /// What was read or written is not what it should be.
        VerificationFailed,
        /// Compaction moved while members were compared.
        CompactionMoved,
        /// No room for the spool.
        InsufficientSpool,
        /// The limits asked for contradict each other or the size of the database; no try can keep them.
        LimitsTooLow,
        /// Time is up.
        DeadlineExceeded,
        /// The archive is no longer in the bucket.
        ArchiveMissing,
        /// The archive changed since it was written.
        ArchiveCorrupt,
        /// Objects lie among the archives that belong to no backup, as data without a manifest; they are never deleted.
        ArchiveOrphaned,
        /// The store holds the archive against deletion.
        RetentionHeld,
        /// Kept for ever by annotation.
        Pinned,
        /// Cut off by a restore.
        Interrupted,
        /// The plan is being made.
        Planning,
        /// The plan has blockers.
        PlanRefused,
        /// The plan waits for a human.
        AwaitingApproval,
        /// The approval does not fit the plan.
        ApprovalMismatch,
        /// The plan was approved.
        Approved,
        /// Another restore has the slot.
        AnotherRestoreActive,
        /// This request already has an outcome.
        AlreadyRestored,
        /// The restore is done.
        Restored,
        /// The old data was put back.
        RolledBack,
        /// A human called it off.
        Cancelled,
        /// A later object took its place.
        Superseded,
        /// Whether the decision was recorded is not known.
        InDoubt,
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known (yet).
    Unknown,
}

impl ConditionStatus {
    /// The word in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition to be shown, before times are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which one.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// The words for people.
    pub message: String,
}

impl Shown {
    /// A condition with its words.
    pub fn new(
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason, message: message.into() }
    }

    /// A condition as it stands in an object; `None` where its words are of another version.
    pub fn of_condition(condition: &Condition) -> Option<Self> {
        let status = match condition.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            "Unknown" => ConditionStatus::Unknown,
            _other => return None,
        };
        Some(Self::new(
            ConditionType::parse(&condition.type_)?,
            status,
            Reason::parse(&condition.reason)?,
            condition.message.clone(),
        ))
    }
}

/// Makes the conditions of an object from those it should show and those it has.
///
/// `lastTransitionTime` moves only where the status changed; a condition not shown is gone. The order is that of
/// [`ConditionType::ALL`], so that an unchanged status stays equal. Messages are cut at the schema's 4,096 characters.
pub fn merge_conditions(previous: &[Condition], shown: &[Shown], generation: i64, now: Timestamp) -> Vec<Condition> {
    let mut ordered: Vec<&Shown> = shown.iter().collect();
    ordered.sort_by_key(|condition| condition.type_);
    ordered
        .into_iter()
        .map(|Shown { type_, status, reason, message }| {
            let before = find(previous, *type_).filter(|old| old.status == status.as_str());
            Condition {
                last_transition_time: before.map_or(Time(now), |old| old.last_transition_time.clone()),
                message: message.chars().take(4_096).collect(),
                observed_generation: Some(generation),
                reason: reason.as_str().to_owned(),
                status: status.as_str().to_owned(),
                type_: type_.as_str().to_owned(),
            }
        })
        .collect()
}

/// The condition of a type, if it is shown.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether the condition of a type is True.
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let running = Shown::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Running, "1 of 2");
        let first = merge_conditions(&[], std::slice::from_ref(&running), 1, at(10));
        let second = merge_conditions(&first, &[Shown { message: "2 of 2".into(), ..running.clone() }], 1, at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].message, "2 of 2");
        let done = Shown::new(ConditionType::Ready, true, Reason::Succeeded, "");
        let third = merge_conditions(&second, &[done], 1, at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_condition_not_shown_is_gone() {
        let shown = [Shown::new(ConditionType::Reconciling, true, Reason::Running, "")];
        let before = merge_conditions(&[], &shown, 1, at(1));
        assert!(merge_conditions(&before, &[], 1, at(2)).is_empty());
    }

    #[test]
    fn every_name_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::parse("Whatever"), None);
    }
}
