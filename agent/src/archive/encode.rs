//! Compresses a snapshot and cuts it into parts, on a thread of its own. Bytes in, parts out; opens nothing.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::part_size::part_bytes;
use super::spool::{Spool, SpoolError};

/// What went to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the archive.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A part found no place.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The compressor failed, or the stream was not as long as announced.
    #[error("compressing the snapshot: {0}")]
    Compress(#[source] io::Error),
}

/// Compresses `chunks` into one zstd frame that knows its size and carries a checksum. Blocking; `size` is what the
/// stream announced, and a stream of another length is an error.
///
/// # Errors
/// As [`EncodeError`] says; parts already given to the spool are then worth nothing.
pub fn encode(mut chunks: mpsc::Receiver<Bytes>, level: i32, size: u64, spool: Spool) -> Result<Encoded, EncodeError> {
    let parts = PartWriter {
        spool,
        runtime: Handle::current(),
        number: 1,
        offset: 0,
        part: Vec::new(),
        hash: Sha256::new(),
        failed: None,
    };
    let mut encoder = zstd::Encoder::new(parts, level).map_err(EncodeError::Compress)?;
    encoder.include_checksum(true).map_err(EncodeError::Compress)?;
    encoder.set_pledged_src_size(Some(size)).map_err(EncodeError::Compress)?;
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = encoder.write_all(&chunk) {
            return Err(explain(encoder.get_mut(), error));
        }
    }
    let parts = match encoder.try_finish() {
        Ok(parts) => parts,
        Err((mut encoder, error)) => return Err(explain(encoder.get_mut(), error)),
    };
    parts.finish()
}

fn explain(parts: &mut PartWriter, error: io::Error) -> EncodeError {
    parts.failed.take().map_or(EncodeError::Compress(error), EncodeError::Spool)
}

/// Cuts what is written into parts.
struct PartWriter {
    spool: Spool,
    runtime: Handle,
    number: u32,
    offset: u64,
    part: Vec<u8>,
    hash: Sha256,
    failed: Option<SpoolError>,
}

impl PartWriter {
    fn put(&mut self) -> Result<(), SpoolError> {
        let part = std::mem::take(&mut self.part);
        let bytes = part.len() as u64;
        self.runtime.block_on(self.spool.put(self.number, self.offset, part))?;
        self.number += 1;
        self.offset += bytes;
        Ok(())
    }

    fn finish(mut self) -> Result<Encoded, EncodeError> {
        if !self.part.is_empty() {
            self.put()?;
        }
        Ok(Encoded { size: self.offset, sha256: self.hash.finalize().into() })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full = part_bytes(self.number);
        if self.part.capacity() == 0 {
            self.part.reserve_exact(full);
        }
        let count = bytes.len().min(full - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        self.hash.update(&bytes[..count]);
        if self.part.len() == full
            && let Err(error) = self.put()
        {
            self.failed = Some(error);
            return Err(io::Error::other("a part found no place"));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::super::spool::{SpoolLimits, open_spool};
    use super::*;

    async fn encoded(content: &[u8], announced: u64) -> (Result<Encoded, EncodeError>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let limits = SpoolLimits {
            directory: dir.path().join("run"),
            disk_bytes: 1 << 30,
            reserve_percent: 0,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let (spool, mut reader) = open_spool(limits, CancellationToken::new());
        let (sender, receiver) = mpsc::channel(4);
        let encoding = tokio::task::spawn_blocking(move || encode(receiver, 1, announced, spool));
        let chunks: Vec<Bytes> = content.chunks(32 << 10).map(Bytes::copy_from_slice).collect();
        let sending = async move {
            for chunk in chunks {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
        };
        let reading = async {
            let mut stored = Vec::new();
            while let Ok(Some(part)) = reader.next().await {
                assert_eq!(part.offset, stored.len() as u64);
                stored.extend_from_slice(&part.body);
            }
            stored
        };
        let ((), stored, result) = tokio::join!(sending, reading, encoding);
        (result.unwrap(), stored)
    }

    #[tokio::test]
    async fn the_parts_make_one_frame_with_its_size_and_checksum() {
        let noise: Vec<u8> = (0..20 << 20).map(|_| rand::random()).collect();
        let (result, stored) = encoded(&noise, noise.len() as u64).await;
        let Encoded { size, sha256 } = result.unwrap();
        assert_eq!(size, stored.len() as u64);
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&stored)));
        assert_eq!(zstd::decode_all(&stored[..]).unwrap(), noise);
        assert!(
            matches!(zstd::zstd_safe::get_frame_content_size(&stored), Ok(Some(size)) if size == noise.len() as u64)
        );
        let mut flipped = stored;
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        assert!(zstd::decode_all(&flipped[..]).is_err(), "the frame's checksum sees a flipped bit");
    }

    #[tokio::test]
    async fn a_stream_of_another_length_is_no_archive() {
        let (result, _) = encoded(&[7; 1000], 1001).await;
        assert!(matches!(result, Err(EncodeError::Compress(_))), "{result:?}");
    }
}
