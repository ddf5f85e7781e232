//! Identifiers shared by operator, agents and bucket, as types of their own.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of a Kubernetes node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NodeName(#[schemars(length(min = 1, max = 253))] pub String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// Server-side apply field manager of the agent on `node`.
///
/// The API server accepts 128 bytes at most; longer node names are hashed (api.md, Conventions).
pub fn agent_field_manager(node: &NodeName) -> String {
    let plain = format!("lifeboat-agent/{node}");
    if plain.len() <= 128 {
        return plain;
    }
    let digest = hex::encode(Sha256::digest(node.0.as_bytes()));
    format!("lifeboat-agent/{digest}")
}

/// Identity of one backup in the bucket: `yyyymmdd-hhmmss-<8 hex>`, UTC; a legal object name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// A text that is no backupId.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no backupId: expected yyyymmdd-hhmmss-<8 hex digits>")]
pub struct InvalidBackupId(pub String);

impl BackupId {
    /// The id of the backup `namespace/name` created at `time`.
    ///
    /// A function of the object and not of chance: an operator that died between choosing an id and writing it down
    /// chooses the same again.
    pub fn new(time: Timestamp, object_uid: &str) -> Self {
        let digest = hex::encode(Sha256::digest(object_uid.as_bytes()));
        let stamp = time.strftime("%Y%m%d-%H%M%S");
        Self(format!("{stamp}-{}", &digest[..8]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time in it; `None` where the digits are no time.
    pub fn time(&self) -> Option<Timestamp> {
        let stamp = self.0.get(..15)?;
        let civil = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    }
}

/// Identity of a listing that was asked for at `time`: of the form of a backupId, with chance at its end.
pub fn pass_id(time: Timestamp, chance: u32) -> String {
    format!("{}-{chance:08x}", time.strftime("%Y%m%d-%H%M%S"))
}

/// When a listing was asked for, by its identity; `None` for one that tells no time.
pub fn pass_time(pass_id: &str) -> Option<Timestamp> {
    pass_id.parse::<BackupId>().ok()?.time()
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
        let mut parts = text.split('-');
        let shape = (parts.next(), parts.next(), parts.next(), parts.next());
        match shape {
            (Some(day), Some(time), Some(tail), None)
                if digits(day, 8)
                    && digits(time, 6)
                    && tail.len() == 8
                    && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidBackupId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidBackupId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backup_id_is_time_and_eight_hex_digits() {
        let id = BackupId::new("2026-11-24T02:03:04Z".parse().unwrap(), "5d3f");
        assert!(id.as_str().starts_with("20261124-020304-"), "{id}");
        assert_eq!(id.as_str().len(), 24);
        assert_eq!(id.as_str().parse::<BackupId>().unwrap(), id);
        assert_eq!(id.time(), Some("2026-11-24T02:03:04Z".parse().unwrap()));
    }

    #[test]
    fn backup_id_repeats_for_the_same_object() {
        let time = "2026-11-24T02:03:04Z".parse().unwrap();
        assert_eq!(BackupId::new(time, "a"), BackupId::new(time, "a"));
        assert_ne!(BackupId::new(time, "a"), BackupId::new(time, "b"));
    }

    #[test]
    fn other_texts_are_refused_as_backup_ids() {
        for text in [
            "",
            "20261124-020304",
            "20261124-020304-ABCDEF01",
            "../../../etc/passwd-0000",
            "20261124-020304-0123456g",
            "20261124-020304-01234567-x",
        ] {
            assert!(text.parse::<BackupId>().is_err(), "{text}");
        }
    }

    #[test]
    fn field_manager_never_passes_128_bytes() {
        assert_eq!(agent_field_manager(&"m0".into()), "lifeboat-agent/m0");
        let long = NodeName("n".repeat(253));
        assert!(agent_field_manager(&long).len() <= 128);
    }
}
