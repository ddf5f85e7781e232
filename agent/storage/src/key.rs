//! Names of objects. A key is checked once, here, so that no backend has to ask again whether a name could leave its
//! prefix or its directory. Pure; no I/O.

use std::fmt;

/// S3's limit on the length of a key, in bytes of UTF-8.
pub(crate) const MAX_KEY_BYTES: usize = 1024;

/// `NAME_MAX` of Linux file systems: a longer segment could be kept by a bucket but not by a directory.
const MAX_SEGMENT_BYTES: usize = 255;

/// The segment the directory backend keeps for unfinished writes; no object may be named so, whatever the backend.
pub(crate) const RESERVED_SEGMENT: &str = ".lifeboat-uploads";

/// The name of one object below a store's prefix: segments joined by `/`.
///
/// Valid keys have no empty, `.` or `..` segments, no control characters, no backslash, at most 1024 bytes in all and
/// 255 in one segment: what every supported backend can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Why a string is not an object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is empty, or starts or ends with `/`, or holds `//`.
    #[error("object key {key:?} has an empty segment")]
    EmptySegment {
        /// The string refused.
        key: String,
    },
    /// A segment is `.` or `..`, which a file system would follow.
    #[error("object key {key:?} has a segment \".\" or \"..\"")]
    Dots {
        /// The string refused.
        key: String,
    },
    /// A control character, a backslash or U+FFFD.
    #[error("object key {key:?} has the character {character:?}, which not every store keeps")]
    Character {
        /// The string refused.
        key: String,
        /// The first offending character.
        character: char,
    },
    /// The key or one of its segments is too long.
    #[error("object key of {bytes} bytes is too long: at most {limit} are allowed for {part}")]
    TooLong {
        /// What is too long: "the key" or "one segment".
        part: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The name is one the directory backend uses for itself.
    #[error("object key {key:?} has a segment that is reserved for unfinished writes")]
    Reserved {
        /// The string refused.
        key: String,
    },
}

impl ObjectKey {
    /// Checks and takes a key.
    ///
    /// # Errors
    /// [`KeyError`] says which rule the string breaks.
    pub fn parse(key: impl Into<String>) -> Result<Self, KeyError> {
        let key = key.into();
        if key.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { part: "the key", bytes: key.len(), limit: MAX_KEY_BYTES });
        }
        if let Some(character) = key.chars().find(|c| !is_storable(*c)) {
            return Err(KeyError::Character { key, character });
        }
        for segment in key.split('/') {
            if segment.is_empty() {
                return Err(KeyError::EmptySegment { key });
            }
            if segment == "." || segment == ".." {
                return Err(KeyError::Dots { key });
            }
            if segment.len() > MAX_SEGMENT_BYTES {
                return Err(KeyError::TooLong { part: "one segment", bytes: segment.len(), limit: MAX_SEGMENT_BYTES });
            }
            if segment == RESERVED_SEGMENT {
                return Err(KeyError::Reserved { key });
            }
        }
        Ok(Self(key))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }
}

fn is_storable(c: char) -> bool {
    !c.is_control() && c != '\\' && c != char::REPLACEMENT_CHARACTER
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = KeyError;

    fn try_from(key: String) -> Result<Self, KeyError> {
        Self::parse(key)
    }
}

impl std::str::FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(key: &str) -> Result<Self, KeyError> {
        Self::parse(key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_bucket_layout_are_valid() {
        for key in [
            ".lifeboat-probe",
            "3f0c1c9e-uid/owner.json",
            "3f0c1c9e-uid/backups/20260102-030405-0a1b2c3d/snapshot-1-9f.db.zst.age",
            "ein schlüssel/mit…",
        ] {
            assert_eq!(ObjectKey::parse(key).unwrap().as_str(), key);
        }
    }

    #[test]
    fn keys_that_could_leave_their_place_are_refused() {
        for key in ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb"] {
            assert!(ObjectKey::parse(key).is_err(), "{key:?} was taken");
        }
        assert!(ObjectKey::parse("a/.lifeboat-uploads/1/data").is_err());
        assert!(ObjectKey::parse("x".repeat(256)).is_err());
        assert!(ObjectKey::parse(vec!["abcdefg"; 128].join("/")).is_ok(), "1023 bytes fit");
        assert!(ObjectKey::parse(vec!["abcdefg"; 129].join("/")).is_err());
    }
}
