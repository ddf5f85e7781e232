//! The 32 bytes at the end: held back, because only the end of the stream tells which they are.

use sha2::{Digest, Sha256};

use crate::error::SnapshotError;

/// Bytes of the trailer: a SHA-256.
pub(crate) const TRAILER: usize = 32;

/// Splits the last 32 bytes off a stream and hashes it: all but them for the check, everything for the file's identity.
#[derive(Default)]
pub(crate) struct Trailer {
    body: Sha256,
    held: Vec<u8>,
    size: u64,
}

impl Trailer {
    /// Takes the next bytes and gives what is certainly not trailer to `sink`, in order.
    pub fn update(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) {
        self.size += bytes.len() as u64;
        let mut pass = |part: &[u8]| {
            self.body.update(part);
            sink(part);
        };
        if bytes.len() >= TRAILER {
            let (now, later) = bytes.split_at(bytes.len() - TRAILER);
            pass(&self.held);
            pass(now);
            self.held.clear();
            self.held.extend_from_slice(later);
        } else {
            self.held.extend_from_slice(bytes);
            let surplus = self.held.len().saturating_sub(TRAILER);
            pass(&self.held[..surplus]);
            self.held.drain(..surplus);
        }
    }

    /// Checks length and hash; gives size and SHA-256 of the whole file.
    pub fn finish(self) -> Result<(u64, [u8; 32]), SnapshotError> {
        let Self { body, held, size } = self;
        if size < (TRAILER + 4 * 1024) as u64 {
            return Err(SnapshotError::TooShort { size });
        }
        match size % 512 {
            32 => {}
            0 => return Err(SnapshotError::NoTrailer { size }),
            _ => return Err(SnapshotError::CutOff { size }),
        }
        // The hash of the file goes on where that of the body ends.
        let mut whole = body.clone();
        whole.update(&held);
        if body.finalize().as_slice() != held.as_slice() {
            return Err(SnapshotError::ChecksumMismatch { size });
        }
        Ok((size, whole.finalize().into()))
    }
}
