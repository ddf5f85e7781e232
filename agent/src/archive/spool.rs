//! Parts that the store has not taken yet: a few in memory, the rest in files, so that a slow store never holds up etcd.
//!
//! Once a part lies on disk, all that follow go to disk until it is empty again: the memory then belongs to whoever
//! loads the next file, and nobody waits for memory that waits for them. Files hold what leaves the host (compressed),
//! mode 0600, and go with their part. A fifth of the file system always stays free.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lifeboat_crds::Quantity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::scratch::SpoolScratch;
use crate::host::crashsafe;
use crate::host::space::{Space, read_space};

/// Parts in memory, those on their way to the store included.
pub const MEMORY_PARTS: usize = 3;
/// Until room is looked for again where the file system is too full.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Percent of the file system that stay free: etcd may live on it.
pub const RESERVE_PERCENT: u64 = 20;

/// Bounds of a spool.
#[derive(Clone, Debug)]
pub struct SpoolLimits {
    /// Directory of its own; made, and removed with everything in it.
    pub directory: PathBuf,
    /// Bytes on disk at most; 0 for none.
    pub disk_bytes: u64,
    /// Percent of its file system that stay free, whoever fills it.
    pub reserve_percent: u64,
    /// When waiting for room ends, because etcd's transaction must.
    pub deadline: Instant,
}

/// Why a part was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Memory and disk were full until the deadline.
    #[error(
        "the store took parts more slowly than etcd gave them, and the spool in {directory} was full ({} allowed, a \
         fifth of its file system stays free): raise limits.spool, free space on this master, or look at what slows the \
         store down",
        Quantity::human(*.limit)
    )]
    Full {
        /// Its directory.
        directory: PathBuf,
        /// Its bound.
        limit: u64,
    },
    /// A file could not be written or read.
    #[error("the spool in {directory} cannot be used: {source}")]
    File {
        /// Its directory.
        directory: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file came back other than it was written.
    #[error("part {number} was damaged in the spool in {directory}: look at the disk of this master")]
    Damaged {
        /// Its directory.
        directory: PathBuf,
        /// Which part.
        number: u32,
    },
    /// The other side went away.
    #[error("the upload ended")]
    Closed,
}

/// Takes parts.
#[derive(Debug)]
pub struct Spool {
    limits: SpoolLimits,
    directory: Arc<Directory>,
    rooms: Rooms,
    cancel: CancellationToken,
    queue: mpsc::UnboundedSender<SpooledPart>,
}

/// Hands parts out, in order.
#[derive(Debug)]
pub struct SpoolReader {
    rooms: Rooms,
    queue: mpsc::UnboundedReceiver<SpooledPart>,
}

/// What is free.
#[derive(Clone, Debug)]
struct Rooms {
    /// One permit a part.
    memory: Arc<Semaphore>,
    /// One permit a KiB.
    disk: Arc<Semaphore>,
    /// Parts that lie on disk.
    on_disk: Arc<AtomicUsize>,
}

/// A part that waits.
#[derive(Debug)]
struct SpooledPart {
    number: u32,
    offset: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory(Bytes, OwnedSemaphorePermit),
    Disk(SpoolFile),
}

/// A file of one part; removed when dropped.
#[derive(Debug)]
struct SpoolFile {
    path: PathBuf,
    crc32: u32,
    on_disk: Arc<AtomicUsize>,
    _room: OwnedSemaphorePermit,
    _directory: Arc<Directory>,
}

/// The spool's directory; removed with its last user.
#[derive(Debug)]
pub(super) struct Directory(pub(super) PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Mostly it was never made.
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "spool file not removed");
        }
        self.on_disk.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A part in memory, and its room there for as long as it lives.
#[derive(Debug)]
pub struct LoadedPart {
    /// From 1.
    pub number: u32,
    /// Where its first byte stands in the object.
    pub offset: u64,
    /// Its bytes.
    pub body: Bytes,
    _room: OwnedSemaphorePermit,
}

/// An empty spool and its reading end. The directory is made when first needed.
pub fn open_spool(limits: SpoolLimits, cancel: CancellationToken) -> (Spool, SpoolReader) {
    let disk_kib = (limits.disk_bytes / 1024).min(Semaphore::MAX_PERMITS as u64);
    let rooms = Rooms {
        memory: Arc::new(Semaphore::new(MEMORY_PARTS)),
        disk: Arc::new(Semaphore::new(usize::try_from(disk_kib).unwrap_or(Semaphore::MAX_PERMITS))),
        on_disk: Arc::default(),
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    let reader = SpoolReader { rooms: rooms.clone(), queue: receiver };
    let directory = Arc::new(Directory(limits.directory.clone()));
    (Spool { limits, directory, rooms, cancel, queue: sender }, reader)
}

impl Spool {
    /// Room for an index beside the parts, within the same bounds.
    pub fn scratch(&self) -> SpoolScratch {
        SpoolScratch::new(self.limits.clone(), Arc::clone(&self.rooms.disk), Arc::clone(&self.directory))
    }

    /// Takes a part; waits while neither memory nor disk has room.
    ///
    /// # Errors
    /// No room until the deadline, a disk that fails, or the upload ended.
    pub async fn put(&self, number: u32, offset: u64, body: Vec<u8>) -> Result<(), SpoolError> {
        let body = Bytes::from(body);
        let held = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(SpoolError::Closed),
            held = tokio::time::timeout_at(self.limits.deadline, self.hold(number, body)) => held,
        };
        let full = || SpoolError::Full { directory: self.limits.directory.clone(), limit: self.limits.disk_bytes };
        let part = SpooledPart { number, offset, held: held.map_err(|_| full())?? };
        self.queue.send(part).map_err(|_| SpoolError::Closed)
    }

    async fn hold(&self, number: u32, body: Bytes) -> Result<Held, SpoolError> {
        let Rooms { memory, disk, on_disk } = &self.rooms;
        let kib = u32::try_from(body.len().div_ceil(1024)).unwrap_or(u32::MAX);
        loop {
            let is_disk_empty = on_disk.load(Ordering::Acquire) == 0;
            if is_disk_empty && let Ok(room) = Arc::clone(memory).try_acquire_owned() {
                return Ok(Held::Memory(body, room));
            }
            if let Ok(room) = Arc::clone(disk).try_acquire_many_owned(kib)
                && has_room(&self.limits, body.len() as u64)
            {
                return self.write(number, &body, room).await.map(Held::Disk);
            }
            tokio::select! {
                room = Arc::clone(memory).acquire_owned(), if is_disk_empty => {
                    return room.map(|room| Held::Memory(body, room)).map_err(|_| SpoolError::Closed);
                }
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn write(&self, number: u32, body: &Bytes, room: OwnedSemaphorePermit) -> Result<SpoolFile, SpoolError> {
        let directory = &self.limits.directory;
        let failed = |source| SpoolError::File { directory: directory.clone(), source };
        crashsafe::make_directory(directory, 0o700).map_err(|error| failed(error.source))?;
        let path = directory.join(format!("part-{number}"));
        self.rooms.on_disk.fetch_add(1, Ordering::AcqRel);
        // From here on the file is removed on every way out.
        let file = SpoolFile {
            path,
            crc32: crc32fast::hash(body),
            on_disk: Arc::clone(&self.rooms.on_disk),
            _room: room,
            _directory: Arc::clone(&self.directory),
        };
        // A spool need not survive a power cut: it is not synced.
        write_private(&file.path, body).await.map_err(failed)?;
        Ok(file)
    }
}

/// Whether the file system keeps its reserve after so many more bytes.
pub(super) fn has_room(limits: &SpoolLimits, bytes: u64) -> bool {
    match read_space(&limits.directory) {
        Ok(Space { available, total }) => available >= bytes.saturating_add(total / 100 * limits.reserve_percent),
        Err(_) => false,
    }
}

async fn write_private(path: &Path, body: &Bytes) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
    file.write_all(body).await?;
    file.flush().await
}

impl SpoolReader {
    /// The next part, loaded; nothing once the spool is closed and empty.
    ///
    /// # Errors
    /// A file cannot be read or is damaged.
    pub async fn next(&mut self) -> Result<Option<LoadedPart>, SpoolError> {
        let Some(SpooledPart { number, offset, held }) = self.queue.recv().await else { return Ok(None) };
        let (body, room) = match held {
            Held::Memory(body, room) => (body, room),
            Held::Disk(file) => {
                let room =
                    Arc::clone(&self.rooms.memory).acquire_owned().await.map_err(|_closed| SpoolError::Closed)?;
                (load(number, &file).await?, room)
            }
        };
        Ok(Some(LoadedPart { number, offset, body, _room: room }))
    }
}

async fn load(number: u32, file: &SpoolFile) -> Result<Bytes, SpoolError> {
    let directory = || file.path.parent().unwrap_or(&file.path).to_owned();
    let body =
        tokio::fs::read(&file.path).await.map_err(|source| SpoolError::File { directory: directory(), source })?;
    if crc32fast::hash(&body) != file.crc32 {
        return Err(SpoolError::Damaged { directory: directory(), number });
    }
    Ok(Bytes::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 4096;

    fn spool(directory: &Path, disk_parts: usize, deadline: Duration) -> (Spool, SpoolReader) {
        let limits = SpoolLimits {
            directory: directory.join("run"),
            disk_bytes: (disk_parts * PART) as u64,
            // However full the disk of this machine is.
            reserve_percent: 0,
            deadline: Instant::now() + deadline,
        };
        open_spool(limits, CancellationToken::new())
    }

    fn body(number: u32) -> Vec<u8> {
        vec![number as u8; PART]
    }

    fn files(directory: &Path) -> usize {
        std::fs::read_dir(directory.join("run")).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn a_fast_store_means_no_file_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, mut reader) = spool(dir.path(), 100, Duration::from_secs(5));
        for number in 1..=20 {
            spool.put(number, 0, body(number)).await.unwrap();
            let part = reader.next().await.unwrap().unwrap();
            assert_eq!((part.number, part.body.as_ref()), (number, body(number).as_slice()));
        }
        assert!(!dir.path().join("run").exists());
    }

    #[tokio::test]
    async fn parts_come_back_in_order_and_whole_through_files() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, mut reader) = spool(dir.path(), 100, Duration::from_secs(5));
        for number in 1..=12 {
            spool.put(number, u64::from(number), body(number)).await.unwrap();
        }
        assert_eq!(files(dir.path()), 12 - MEMORY_PARTS);
        drop(spool);
        for number in 1..=12 {
            let part = reader.next().await.unwrap().unwrap();
            assert_eq!((part.number, part.offset, part.body.as_ref()), (number, u64::from(number), &body(number)[..]));
        }
        assert!(reader.next().await.unwrap().is_none());
        assert_eq!(files(dir.path()), 0);
    }

    #[tokio::test]
    async fn while_files_wait_memory_belongs_to_whoever_loads_them() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, mut reader) = spool(dir.path(), 100, Duration::from_secs(5));
        for number in 1..=5 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        let first = reader.next().await.unwrap().unwrap();
        drop(first);
        // One room is free, and files wait: the next part goes behind them.
        spool.put(6, 0, body(6)).await.unwrap();
        assert_eq!(files(dir.path()), 3);
        for number in 2..=6 {
            assert_eq!(reader.next().await.unwrap().unwrap().number, number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_spool_holds_up_until_its_deadline_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _reader) = spool(dir.path(), 2, Duration::from_secs(30));
        let begun = Instant::now();
        for number in 1..=5 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        let error = spool.put(6, 0, body(6)).await.unwrap_err();
        assert!(matches!(error, SpoolError::Full { .. }), "{error}");
        assert!(error.to_string().contains("limits.spool"));
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn without_a_spool_memory_alone_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, mut reader) = spool(dir.path(), 0, Duration::from_secs(5));
        for number in 1..=3 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        let (put, got) = tokio::join!(spool.put(4, 0, body(4)), async {
            let part = reader.next().await.unwrap().unwrap();
            part.number
        });
        put.unwrap();
        assert_eq!(got, 1);
        assert!(!dir.path().join("run").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_is_too_full_is_not_filled_further() {
        let dir = tempfile::tempdir().unwrap();
        let limits = SpoolLimits {
            directory: dir.path().join("run"),
            disk_bytes: 1 << 20,
            reserve_percent: 101,
            deadline: Instant::now() + Duration::from_secs(30),
        };
        let (spool, _reader) = open_spool(limits, CancellationToken::new());
        for number in 1..=3 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        assert!(matches!(spool.put(4, 0, body(4)).await, Err(SpoolError::Full { .. })));
        assert!(!dir.path().join("run").exists());
    }

    #[tokio::test]
    async fn a_file_that_changed_on_disk_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, mut reader) = spool(dir.path(), 9, Duration::from_secs(5));
        for number in 1..=4 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        std::fs::write(dir.path().join("run/part-4"), vec![9; PART]).unwrap();
        for _ in 1..=3 {
            reader.next().await.unwrap().unwrap();
        }
        assert!(matches!(reader.next().await, Err(SpoolError::Damaged { number: 4, .. })));
    }

    #[tokio::test]
    async fn what_was_not_taken_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, reader) = spool(dir.path(), 9, Duration::from_secs(5));
        for number in 1..=6 {
            spool.put(number, 0, body(number)).await.unwrap();
        }
        drop(reader);
        drop(spool);
        assert!(!dir.path().join("run").exists());
    }
}
