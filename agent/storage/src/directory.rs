//! A store in a directory: a host path or NFS mount that every master shows the same content of. Keys are files; a write
//! goes to a hidden scratch file, is synced, and appears by rename. Blocking file I/O, always on the blocking pool and
//! with a time limit, because a dead NFS server would otherwise hold a caller for ever.

mod beneath;
mod upload;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use jiff::Timestamp;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use self::beneath::{Beneath, Entry};
use self::upload::DirectoryUpload;
use crate::error::StoreError;
use crate::key::{ObjectKey, RESERVED_SEGMENT};
use crate::listing::PageBuilder;
use crate::store::{ListPage, ListRequest, ObjectMeta, ObjectStore, ObjectStream, Put, PutMode};
use crate::upload::{PendingUpload, Upload};

/// Longest any one step on the file system may take. NFS retransmits for a minute before it gives up by itself.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// Threads of the process that may be in a file system call of a directory store. A dead file server holds each for ever;
/// it must not get all that the process has.
static TURNS: Semaphore = Semaphore::const_new(8);
const READ_CHUNK_BYTES: usize = 256 * 1024;
/// Percent of a local file system that archives leave free unless told otherwise: etcd may live on it, as on the spool's.
pub const DIRECTORY_RESERVE_PERCENT: u64 = 20;
/// File systems of other machines, by their magic numbers (statfs(2)): NFS, SMB (two), Ceph. No etcd of this host is there.
const REMOTE: [i64; 4] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400];
/// A put makes its directory and then writes in it; a delete next door may remove the directory in between.
const RACES_TOLERATED: u32 = 8;

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    place: Arc<Place>,
}

/// Where the directory is, and its name in messages.
#[derive(Debug)]
struct Place {
    description: String,
    root: PathBuf,
    /// Empty or a valid path below the root.
    below: String,
    /// Percent of a local file system that stay free.
    reserve_percent: u64,
}

impl DirectoryStore {
    /// A store below `root`, which must exist by the time it is used; `sub_path` is made when first written to.
    /// `mount` is the name people know the root by.
    ///
    /// # Errors
    /// [`StoreError::InvalidConfiguration`] if `root` is relative or `sub_path` is no valid path below it.
    pub fn new(mount: &str, root: impl Into<PathBuf>, sub_path: Option<&str>) -> Result<Self, StoreError> {
        let root = root.into();
        if !root.is_absolute() {
            let words = format!("directory mount {mount:?}: the path {} is not absolute", root.display());
            return Err(StoreError::InvalidConfiguration { words });
        }
        let below = sub_path.unwrap_or_default().trim_end_matches('/');
        if !below.is_empty() {
            ObjectKey::parse(below).map_err(|error| StoreError::InvalidConfiguration {
                words: format!("spec.directory.subPath: {error}"),
            })?;
        }
        let description =
            if below.is_empty() { format!("directory {mount}") } else { format!("directory {mount}/{below}") };
        let (below, reserve_percent) = (below.to_owned(), DIRECTORY_RESERVE_PERCENT);
        Ok(Self { place: Arc::new(Place { description, root, below, reserve_percent }) })
    }

    /// The same store, of whose file system so many percent stay free, unless it is another machine's.
    #[must_use]
    pub fn with_reserve_percent(self, reserve_percent: u64) -> Self {
        let Place { description, root, below, reserve_percent: _ } = self.place.as_ref();
        let (description, root, below) = (description.clone(), root.clone(), below.clone());
        Self { place: Arc::new(Place { description, root, below, reserve_percent }) }
    }

    async fn run<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Place) -> Result<T, StoreError> + Send + 'static,
    {
        run_blocking(&self.place, what, work).await
    }
}

async fn run_blocking<T, F>(place: &Arc<Place>, what: &'static str, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Place) -> Result<T, StoreError> + Send + 'static,
{
    let held = Arc::clone(place);
    let step = async move {
        let turn = TURNS.acquire().await.map_err(|_closed| ())?;
        // The turn stays with the thread, which goes on after nobody waits for it.
        tokio::task::spawn_blocking(move || (work(&held), turn).0).await.map_err(|_aborted| ())
    };
    let words = match tokio::time::timeout(STEP_LIMIT, step).await {
        Ok(Ok(result)) => return result,
        Ok(Err(())) => format!("{what} was interrupted"),
        Err(_elapsed) => format!("{what} did not end within {} s; is the file server there?", STEP_LIMIT.as_secs()),
    };
    Err(StoreError::Unavailable { store: place.description.clone(), words })
}

impl Place {
    fn path(&self, key: &str) -> PathBuf {
        self.root.join(&self.below).join(key)
    }

    fn root(&self) -> Result<Beneath, StoreError> {
        Beneath::open_root(&self.root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::InvalidConfiguration {
                words: format!(
                    "{}: {} is not a directory on this node; check the mount in the chart's values",
                    self.description,
                    self.root.display()
                ),
            },
            _ => self.trouble("opening the mount", &error),
        })
    }

    /// The directory of the store, if it was ever written to.
    fn base(&self) -> Result<Option<Beneath>, StoreError> {
        match self.root()?.open_directory(&self.below) {
            Ok(base) => Ok(Some(base)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.trouble("opening the directory", &error)),
        }
    }

    fn make_base(&self) -> Result<Beneath, StoreError> {
        self.root()?.make_directory(&self.below).map_err(|error| self.trouble("making the directory", &error))
    }

    /// Refuses what would leave less free than must stay free. For archives, not for small objects: what retention writes
    /// before it deletes must have room when there is none.
    fn check_room(&self, on: impl AsFd, bytes: u64) -> Result<(), StoreError> {
        let trouble = |error: Errno| self.trouble("looking for room", &error.into());
        let kind = rustix::fs::fstatfs(&on).map_err(trouble)?.f_type;
        let space = rustix::fs::fstatvfs(&on).map_err(trouble)?;
        let available = space.f_bavail.saturating_mul(space.f_frsize);
        let total = space.f_blocks.saturating_mul(space.f_frsize);
        let reserve = total / 100 * self.reserve_percent;
        if REMOTE.contains(&kind) || available >= bytes.saturating_add(reserve) {
            return Ok(());
        }
        let words = format!(
            "{} MiB of {} MiB are free, and {} % of a local file system stay free, because etcd may live on it: delete \
             backups, keep fewer, or give the directory a larger file system of its own",
            available >> 20,
            total >> 20,
            self.reserve_percent
        );
        Err(StoreError::Full { store: self.description.clone(), words })
    }

    fn not_found(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { store: self.description.clone(), key: key.clone() }
    }

    fn corrupt(&self, key: &ObjectKey, words: String) -> StoreError {
        StoreError::Corrupt { store: self.description.clone(), key: key.clone(), words }
    }

    fn open(&self, key: &ObjectKey) -> Result<File, StoreError> {
        let base = self.base()?.ok_or_else(|| self.not_found(key))?;
        base.open_file(key.as_str()).map_err(|error| match error.kind() {
            // NotADirectory: "a" is a file and "a/b" was asked for, which no bucket would call an error either.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.not_found(key),
            _ => self.trouble("reading", &error),
        })
    }

    /// Gives `publish` the directory a key belongs in, again if a neighbour's delete removed it meanwhile.
    fn publish<T>(
        &self,
        key: &ObjectKey,
        mut publish: impl FnMut(&Beneath, &str) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let base = self.make_base()?;
        let (parent, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        let mut races = 0;
        loop {
            let outcome = base.make_directory(parent).and_then(|directory| {
                let value = publish(&directory, name)?;
                directory.sync()?;
                Ok(value)
            });
            match outcome {
                Ok(value) => return Ok(value),
                Err(error) if error.kind() == io::ErrorKind::NotFound && races < RACES_TOLERATED => races += 1,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::AlreadyExists { store: self.description.clone(), key: key.clone() });
                }
                Err(error) => return Err(self.trouble("writing", &error)),
            }
        }
    }

    fn put(&self, key: &ObjectKey, body: &[u8], mode: PutMode) -> Result<ObjectMeta, StoreError> {
        let upload_id = upload::new_id();
        let written = upload::open_scratch(self, &upload_id, key).and_then(|(scratch, data)| {
            let trouble = |error: io::Error| self.trouble("writing", &error);
            let meta = data.write_all_at(body, 0).and_then(|()| data.sync_all()).and_then(|()| read_meta(&data));
            let meta = meta.map_err(trouble)?;
            self.publish(key, |directory, name| match mode {
                PutMode::Overwrite => scratch.rename_over(upload::DATA_FILE, directory, name),
                PutMode::CreateNew => scratch.rename_new(upload::DATA_FILE, directory, name),
            })?;
            Ok(meta)
        });
        // Best effort: how the write itself ended is what matters; a leftover is hidden and listed as an upload.
        let _ = upload::remove(self, &upload_id);
        written
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let Some(base) = self.base()? else { return Ok(()) };
        let (parent, name) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        let removed = base.open_directory(parent).and_then(|directory| {
            directory.remove_file(name)?;
            directory.sync()
        });
        match removed {
            Ok(()) => {
                remove_empty_parents(&base, parent);
                Ok(())
            }
            Err(error) => match error.kind() {
                // IsADirectory: the key names a directory of other keys, so there is no such object.
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Ok(()),
                _ => Err(self.trouble("deleting", &error)),
            },
        }
    }

    fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let mut page = PageBuilder::new(request);
        if let Some(base) = self.base()? {
            walk(&base, "", &mut page).map_err(|error| self.trouble("listing", &error))?;
        }
        Ok(page.finish())
    }

    /// An error of the file system as an outcome; for the cases a caller has not told apart already.
    fn trouble(&self, doing: &str, error: &io::Error) -> StoreError {
        let store = self.description.clone();
        let words = format!("{doing}: {error}");
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => StoreError::Full { store, words },
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StoreError::AccessDenied {
                store,
                words,
                check: "owner and mode of the directory, whether it is mounted read-only, and root_squash on NFS",
            },
            Some(Errno::LOOP | Errno::XDEV) => StoreError::AccessDenied {
                store,
                words: format!("{words}: a symbolic link stands in the way and is not followed"),
                check: "spec.directory.subPath",
            },
            Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG) => StoreError::InvalidConfiguration {
                words: format!("{store}: {words}: a file stands where a directory is needed, or the other way round"),
            },
            Some(Errno::FBIG) => StoreError::TooLarge { what: words, limit: "the file system's".to_owned() },
            Some(Errno::NOSYS | Errno::OPNOTSUPP) => StoreError::NotSupported { what: format!("{store}: {words}") },
            Some(_) | None => StoreError::Unavailable { store, words },
        }
    }
}

/// Offers every file below `directory` in byte order of the keys; `false` when the page wants no more.
fn walk(base: &Beneath, directory: &str, page: &mut PageBuilder<'_>) -> io::Result<bool> {
    let handle = match base.open_directory(directory.trim_end_matches('/')) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for (name, entry) in handle.entries()? {
        match (name, entry) {
            (Some(name), _) if name == RESERVED_SEGMENT => {}
            (Some(name), Entry::File) => names.push(format!("{directory}{name}")),
            // With the slash, names sort as keys do: "a-b" before "a/b".
            (Some(name), Entry::Directory) => names.push(format!("{directory}{name}/")),
            (Some(_), Entry::Other) | (None, _) => page.count_foreign(),
        }
    }
    names.sort_unstable();
    for path in names {
        if path.ends_with('/') {
            if page.may_hold(&path) && !walk(base, &path, page)? {
                return Ok(false);
            }
            continue;
        }
        let Ok(key) = ObjectKey::parse(path.as_str()) else {
            page.count_foreign();
            continue;
        };
        let flow = page.offer(&key, || match handle.stat(key.file_name()) {
            Ok(stat) => {
                Ok(Some((u64::try_from(stat.st_size).unwrap_or(0), modified_at(stat.st_mtime, stat.st_mtime_nsec))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })?;
        if flow.is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A bucket has no directories, so an emptied one goes. Best effort: a concurrent put may have filled it again.
fn remove_empty_parents(base: &Beneath, mut parent: &str) {
    while !parent.is_empty() {
        let (above, name) = parent.rsplit_once('/').unwrap_or(("", parent));
        match base.open_directory(above).and_then(|directory| directory.remove_empty_directory(name)) {
            Ok(true) => parent = above,
            Ok(false) | Err(_) => return,
        }
    }
}

fn modified_at(seconds: impl TryInto<i64>, nanoseconds: impl TryInto<i32>) -> Option<Timestamp> {
    Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok()
}

fn read_meta(file: &File) -> io::Result<ObjectMeta> {
    let stat = file.metadata()?;
    Ok(ObjectMeta {
        size: stat.len(),
        // A new file is a new inode, so this changes with every put even within one tick of the clock.
        etag: Some(format!("\"{:x}-{:x}-{:x}.{:x}\"", stat.ino(), stat.len(), stat.mtime(), stat.mtime_nsec())),
        checksum: None,
        last_modified: modified_at(stat.mtime(), stat.mtime_nsec()),
    })
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    fn describe(&self) -> String {
        self.place.description.clone()
    }

    fn uri(&self, key: &ObjectKey) -> String {
        self.place.path(key.as_str()).display().to_string()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, StoreError> {
        let key = key.clone();
        self.run("reading a file's status", move |place| {
            read_meta(&place.open(&key)?).map_err(|error| place.trouble("reading", &error))
        })
        .await
    }

    async fn get_from(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError> {
        let wanted = key.clone();
        let (file, meta) = self
            .run("opening a file", move |place| {
                let file = place.open(&wanted)?;
                let meta = read_meta(&file).map_err(|error| place.trouble("reading", &error))?;
                Ok((Arc::new(file), meta))
            })
            .await?;
        if offset > meta.size {
            let words = format!("it has {} bytes, byte {offset} was asked for", meta.size);
            return Err(self.place.corrupt(key, words));
        }
        let end = meta.size;
        let reader = Reader { place: Arc::clone(&self.place), key: key.clone(), file, at: offset, end };
        let body = futures::stream::try_unfold(reader, Reader::next).boxed();
        Ok(ObjectStream { meta, body })
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<Put, StoreError> {
        let key = key.clone();
        self.run("writing a file", move |place| {
            let ObjectMeta { size, etag, checksum: _, last_modified: _ } = place.put(&key, &body, mode)?;
            Ok(Put { etag, size })
        })
        .await
    }

    async fn begin_upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(DirectoryUpload::begin(&self.place, key).await?))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let request = request.clone();
        self.run("listing", move |place| place.list(&request)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.run("deleting a file", move |place| place.delete(&key)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let prefix = prefix.to_owned();
        self.run("listing uploads", move |place| upload::list_pending(place, &prefix)).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), StoreError> {
        let id = upload.upload_id.clone();
        self.run("removing an upload", move |place| upload::remove(place, &id)).await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}

/// Reads a file in chunks. The file stays open, so a replaced or deleted object is still read as it was.
struct Reader {
    place: Arc<Place>,
    key: ObjectKey,
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let left = self.end - self.at;
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left).map_or(READ_CHUNK_BYTES, |left| left.min(READ_CHUNK_BYTES));
        let (file, at) = (Arc::clone(&self.file), self.at);
        let chunk = run_blocking(&self.place, "reading a file", move |place| {
            let mut buffer = BytesMut::zeroed(wanted);
            let read = file.read_at(&mut buffer, at).map_err(|error| place.trouble("reading", &error))?;
            buffer.truncate(read);
            Ok(buffer.freeze())
        })
        .await?;
        if chunk.is_empty() {
            let words = format!("it ends at byte {}, {} were announced", self.at, self.end);
            return Err(self.place.corrupt(&self.key, words));
        }
        self.at += chunk.len() as u64;
        Ok(Some((chunk, self)))
    }
}
