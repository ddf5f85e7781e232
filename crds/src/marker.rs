//! The small documents beside the archives: whose prefix it is, what is pinned, what was given up.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::Envelope;
use crate::identifier::BackupId;
use crate::location::Owner;

/// `owner.json` as stored: the hosts that may write and delete below a cluster's prefix.
pub type OwnerDocument = Envelope<OwnerRecord>;
/// `pin.json` as stored.
pub type PinDocument = Envelope<Pin>;
/// `expired.json` as stored.
pub type ExpiredDocument = Envelope<Expired>;

/// `owner.json`: whose prefix it is, and whether it was taken from others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRecord {
    /// Cluster and hosts.
    #[serde(flatten)]
    pub owner: Owner,
    /// The last take-over, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<TakenOver>,
}

/// Somebody declared hosts to be the owners that were not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// Id of the host whose agent did it.
    pub by: String,
    /// When, by that host's clock.
    pub time: Timestamp,
}

/// `pin.json`: while it is there, no policy deletes the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Which backup.
    pub backup_id: BackupId,
    /// Why, in the words of the annotation.
    pub reason: String,
    /// When it was written.
    pub time: Timestamp,
}

/// `expired.json`: written before anything of an archive is deleted, so that a deletion that was cut off can be finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expired {
    /// Which backup.
    pub backup_id: BackupId,
    /// Who let it go: a schedule's policy, or a human by annotation or command.
    pub by: String,
    /// Why.
    pub reasons: Vec<String>,
    /// When it was written.
    pub time: Timestamp,
}
