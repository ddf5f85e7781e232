//! Room for the index of HashKV: a little memory, then a file in the run's spool directory, within the spool's bounds.
//!
//! The file holds fingerprints and checksums of keys and values, never either; mode 0600; removed with its owner.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use lifeboat_snapshot::Scratch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::spool::{Directory, SpoolLimits, has_room};
use crate::host::crashsafe;

/// Bytes in memory before a file is made: 170,000 entries.
const MEMORY: usize = 4 << 20;
/// Bytes written at once.
const BLOCK: usize = 256 << 10;

/// An index that is appended once and read back.
pub struct SpoolScratch {
    // Before the directory, which can only be removed when it is empty.
    file: Option<Spilled>,
    memory: Vec<u8>,
    limits: SpoolLimits,
    disk: Arc<Semaphore>,
    directory: Arc<Directory>,
}

/// What did not fit into memory.
struct Spilled {
    path: PathBuf,
    file: File,
    written: u64,
    /// Not written yet.
    tail: Vec<u8>,
    /// Grows with the file.
    room: Option<OwnedSemaphorePermit>,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "spool file not removed");
        }
    }
}

impl SpoolScratch {
    /// Nothing yet; `disk` has one permit a KiB of the spool.
    pub(super) fn new(limits: SpoolLimits, disk: Arc<Semaphore>, directory: Arc<Directory>) -> Self {
        Self { file: None, memory: Vec::new(), limits, disk, directory }
    }

    fn spilled(&mut self) -> io::Result<&mut Spilled> {
        if self.file.is_none() {
            crashsafe::make_directory(&self.directory.0, 0o700).map_err(|error| error.source)?;
            let path = self.directory.0.join("hash-kv");
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            self.file = Some(Spilled { path, file, written: 0, tail: Vec::with_capacity(BLOCK), room: None });
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes what waits, if the spool still has room for it.
    fn flush(&mut self) -> io::Result<()> {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "the spool is full: raise limits.spool");
        let (limits, disk) = (self.limits.clone(), Arc::clone(&self.disk));
        let spilled = self.spilled()?;
        let kib = u32::try_from(spilled.tail.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let more = disk.try_acquire_many_owned(kib).map_err(|_| full())?;
        if !has_room(&limits, spilled.tail.len() as u64) {
            return Err(full());
        }
        match &mut spilled.room {
            Some(room) => room.merge(more),
            None => spilled.room = Some(more),
        }
        spilled.file.write_all(&spilled.tail)?;
        spilled.written += spilled.tail.len() as u64;
        spilled.tail.clear();
        Ok(())
    }
}

impl Scratch for SpoolScratch {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (now, later) = bytes.split_at(bytes.len().min(MEMORY - self.memory.len()));
        self.memory.extend_from_slice(now);
        if later.is_empty() {
            return Ok(());
        }
        let spilled = self.spilled()?;
        spilled.tail.extend_from_slice(later);
        if spilled.tail.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let in_memory = self.memory.get(at..).unwrap_or_default();
        let (now, later) = buffer.split_at_mut(buffer.len().min(in_memory.len()));
        now.copy_from_slice(&in_memory[..now.len()]);
        if later.is_empty() {
            return Ok(());
        }
        if self.file.as_ref().is_some_and(|spilled| !spilled.tail.is_empty()) {
            self.flush()?;
        }
        let Some(spilled) = &self.file else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let from = (at + now.len()).saturating_sub(self.memory.len());
        spilled.file.read_exact_at(later, from as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::super::spool::open_spool;
    use super::*;

    fn limits(directory: &std::path::Path, disk_bytes: u64) -> SpoolLimits {
        SpoolLimits {
            directory: directory.join("run"),
            disk_bytes,
            reserve_percent: 0,
            deadline: Instant::now() + Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn what_was_appended_reads_back_from_memory_and_file_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, reader) = open_spool(limits(dir.path(), 16 << 20), CancellationToken::new());
        let mut scratch = spool.scratch();
        let bytes: Vec<u8> = (0..9_000_000_u32).map(|number| (number % 251) as u8).collect();
        bytes[..MEMORY].chunks(49_152).for_each(|chunk| scratch.append(chunk).unwrap());
        assert!(!dir.path().join("run").exists(), "a small index needs no file");
        bytes[MEMORY..].chunks(49_152).for_each(|chunk| scratch.append(chunk).unwrap());
        let mut buffer = vec![0; 1_000_000];
        for offset in [0, MEMORY - 500_000, MEMORY, 8_000_000] {
            scratch.read_at(offset as u64, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[offset..offset + buffer.len()], "{offset}");
        }
        assert!(scratch.read_at(8_000_001, &mut buffer).is_err());
        drop((spool, reader));
        assert!(dir.path().join("run/hash-kv").exists());
        drop(scratch);
        assert!(!dir.path().join("run").exists());
    }

    #[tokio::test]
    async fn it_keeps_within_the_spool() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _reader) = open_spool(limits(dir.path(), 1 << 20), CancellationToken::new());
        let mut scratch = spool.scratch();
        let block = vec![7; BLOCK];
        let taken = (0..100).take_while(|_| scratch.append(&block).is_ok()).count();
        assert_eq!(taken * BLOCK, MEMORY + (1 << 20));
        assert_eq!(scratch.append(&block).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
