//! Keys of bucket `key`: main revision, '_', sub revision, and 't' for a tombstone.

/// A revision key. Its order is that of its bytes, up to the mark of a tombstone, which orders nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub main: u64,
    pub sub: u64,
    pub is_tombstone: bool,
}

impl Revision {
    /// Reads a key; `None` where it is none of a revision.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let is_tombstone = match key.len() {
            17 => false,
            18 if key.last() == Some(&b't') => true,
            _ => return None,
        };
        let number = |at: usize| key.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        (key.get(8) == Some(&b'_')).then_some(())?;
        Some(Self { main: number(0)?, sub: number(9)?, is_tombstone })
    }

    /// Whether this one comes behind another. A revision and its tombstone cannot both be there.
    pub fn is_behind(self, other: Self) -> bool {
        (self.main, self.sub) > (other.main, other.sub)
    }

    /// Writes the key and gives the part of the buffer that it takes.
    pub fn write(self, buffer: &mut [u8; 18]) -> &[u8] {
        buffer[..8].copy_from_slice(&self.main.to_be_bytes());
        buffer[8] = b'_';
        buffer[9..17].copy_from_slice(&self.sub.to_be_bytes());
        buffer[17] = b't';
        &buffer[..if self.is_tombstone { 18 } else { 17 }]
    }

    /// The main revision as etcd counts; `None` where one of the numbers is negative, which makes etcd panic.
    pub fn served(self) -> Option<i64> {
        i64::try_from(self.sub).ok()?;
        i64::try_from(self.main).ok()
    }
}

/// The main revision in a value of bucket `meta`.
pub(crate) fn main_revision(value: &[u8]) -> Option<i64> {
    value.get(..8)?.try_into().ok().map(i64::from_be_bytes)
}
