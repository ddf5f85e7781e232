//! contentHash: an identity of what a database holds, whatever pages it lies in (backup.md).

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// The sum modulo 2¹²⁸ of XXH3-128 (seed 0) over `key length u32 LE ‖ key ‖ value length u32 LE ‖ value` of every entry
/// of bucket `key`. Additive, so that pages can be summed in any order; written as 32 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentHash(pub u128);

impl ContentHash {
    /// The sum with another part.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// What is left without a part of it.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        Self(self.0.wrapping_sub(part.0))
    }

    /// The hash of one entry. Lengths come from u32 fields of the page, so they always fit.
    pub fn of_entry(key: &[u8], value: &[u8]) -> Self {
        let mut hasher = Xxh3::with_seed(0);
        hasher.update(&length(key));
        hasher.update(key);
        hasher.update(&length(value));
        hasher.update(value);
        Self(hasher.digest128())
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
