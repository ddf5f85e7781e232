//! Compresses a snapshot, encrypts it where that is asked for, and cuts it into parts, on a thread of its own. Bytes in,
//! parts out; opens nothing.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::encryption::{Recipients, Sealed};
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

/// How a snapshot is packed.
#[derive(Clone, Debug)]
pub struct Packing {
    /// zstd's level.
    pub zstd_level: i32,
    /// To whom it is encrypted; nobody where everybody may read it.
    pub recipients: Option<Recipients>,
}

/// Compresses `batches` into one zstd frame that knows its size and carries a checksum, and encrypts that. Blocking;
/// `size` is what the stream announced, and a stream of another length is an error.
///
/// # Errors
/// As [`EncodeError`] says; parts already given to the spool are then worth nothing.
pub fn encode(
    mut batches: mpsc::Receiver<Vec<Bytes>>,
    packing: &Packing,
    size: u64,
    spool: Spool,
) -> Result<Encoded, EncodeError> {
    let Packing { zstd_level, recipients } = packing;
    let parts =
        PartWriter { spool, runtime: Handle::current(), number: 1, offset: 0, part: Vec::new(), hash: Sha256::new() };
    let sealed = Sealed::new(parts, recipients.as_ref())?;
    let mut encoder = zstd::Encoder::new(sealed, *zstd_level)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    while let Some(batch) = batches.blocking_recv() {
        for chunk in batch {
            encoder.write_all(&chunk)?;
        }
    }
    encoder.finish()?.finish()?.finish()
}

/// What the writers say: a part that found no place, through all of them, or their own trouble.
impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<SpoolError>() {
            Ok(error) => Self::Spool(error),
            Err(error) => Self::Compress(error),
        }
    }
}

/// Cuts what is written into parts.
struct PartWriter {
    spool: Spool,
    runtime: Handle,
    number: u32,
    offset: u64,
    part: Vec<u8>,
    hash: Sha256,
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
        if self.part.len() == full {
            self.put().map_err(io::Error::other)?;
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

    use lifeboat_crds::location::Encryption;

    use super::super::encryption::parse_recipients;
    use super::super::spool::{SpoolLimits, open_spool};
    use super::*;

    async fn encoded(
        content: &[u8],
        announced: u64,
        recipients: Option<Recipients>,
    ) -> (Result<Encoded, EncodeError>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let limits = SpoolLimits {
            directory: dir.path().join("run"),
            disk_bytes: 1 << 30,
            reserve_percent: 0,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let (spool, mut reader) = open_spool(limits, CancellationToken::new());
        let (sender, receiver) = mpsc::channel(4);
        let packing = Packing { zstd_level: 1, recipients };
        let encoding = tokio::task::spawn_blocking(move || encode(receiver, &packing, announced, spool));
        let chunks: Vec<Bytes> = content.chunks(32 << 10).map(Bytes::copy_from_slice).collect();
        let sending = async move {
            for chunk in chunks {
                if sender.send(vec![chunk]).await.is_err() {
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
        let (result, stored) = encoded(&noise, noise.len() as u64, None).await;
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
        let (result, _) = encoded(&[7; 1000], 1001, None).await;
        assert!(matches!(result, Err(EncodeError::Compress(_))), "{result:?}");
    }

    #[tokio::test]
    async fn with_recipients_the_frame_is_inside_of_age() {
        let key = age::x25519::Identity::generate();
        let encryption = Encryption { recipients: vec![key.to_public().to_string()] };
        let noise: Vec<u8> = (0..20 << 20).map(|_| rand::random()).collect();
        let recipients = parse_recipients(&encryption).unwrap();
        let (result, stored) = encoded(&noise, noise.len() as u64, Some(recipients)).await;
        let Encoded { size, sha256 } = result.unwrap();
        assert_eq!((size, sha256), (stored.len() as u64, <[u8; 32]>::from(Sha256::digest(&stored))));
        let frame = age::decrypt(&key, &stored).unwrap();
        assert_eq!(zstd::decode_all(&frame[..]).unwrap(), noise);
    }
}
