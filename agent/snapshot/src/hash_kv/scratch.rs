//! Where the index of HashKV is kept: bytes that are appended once and read back by offset.

use std::io::{Error, ErrorKind, Result};

/// Room for the index. An error makes HashKV unavailable, and nothing else.
pub trait Scratch: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// Where there is no more room, or writing failed.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// Where so many bytes are not there, or reading failed.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// Bytes of a piece of memory.
const PIECE: usize = 64 * 1024;

/// A scratch in memory, up to a limit.
pub struct MemoryScratch {
    limit: usize,
    /// All full but the last; not one vector, whose growth would hold two copies.
    pieces: Vec<Vec<u8>>,
}

impl MemoryScratch {
    /// An empty scratch for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, pieces: Vec::new() }
    }

    fn size(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }
}

impl Scratch for MemoryScratch {
    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.size() + bytes.len() > self.limit {
            return Err(Error::new(ErrorKind::StorageFull, format!("its {} bytes of memory are full", self.limit)));
        }
        while !bytes.is_empty() {
            if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
                self.pieces.push(Vec::with_capacity(PIECE));
            }
            let Some(last) = self.pieces.last_mut() else { break };
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - last.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, mut buffer: &mut [u8]) -> Result<()> {
        let mut at = usize::try_from(offset).map_err(Error::other)?;
        while !buffer.is_empty() {
            let rest = self.pieces.get(at / PIECE).and_then(|piece| piece.get(at % PIECE..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            buffer[..count].copy_from_slice(&rest[..count]);
            buffer = &mut buffer[count..];
            at += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_reads_back_across_pieces_up_to_the_limit() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        let mut scratch = MemoryScratch::new(bytes.len());
        bytes.chunks(777).for_each(|chunk| scratch.append(chunk).unwrap());
        let mut buffer = vec![0; 150_000];
        scratch.read_at(40_000, &mut buffer).unwrap();
        assert_eq!(buffer, bytes[40_000..190_000]);
        assert!(scratch.read_at(60_000, &mut buffer).is_err());
        assert_eq!(scratch.append(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
