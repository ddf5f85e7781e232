//! Writes that are under way: one hidden directory each, `.lifeboat-uploads/<id>/`, with the key's text beside one data
//! file that parts are written into at their place and synced. `complete` renames it, never over another object. Archives
//! leave a part of the file system free.
//! Plain puts go the same way, so that whatever a crash leaves behind is found by listing uploads.
//! Blocking file I/O through [`run_blocking`].

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::beneath::{Beneath, Entry};
use super::{Place, RESERVED_SEGMENT, modified_at, read_meta, run_blocking};
use crate::error::StoreError;
use crate::key::{MAX_KEY_BYTES, ObjectKey};
use crate::store::ObjectMeta;
use crate::upload::{Part, PartReceipt, PendingUpload, Upload, Whole, plan_whole};

const KEY_FILE: &str = "key";
pub(super) const DATA_FILE: &str = "data";
/// Bound on [`list_pending`].
const MAX_LISTED: usize = 10_000;

#[derive(Debug)]
pub(super) struct DirectoryUpload {
    place: Arc<Place>,
    pending: PendingUpload,
    data: Arc<File>,
}

impl DirectoryUpload {
    pub(super) async fn begin(place: &Arc<Place>, key: &ObjectKey) -> Result<Self, StoreError> {
        let upload_id = new_id();
        let pending = PendingUpload { key: key.clone(), upload_id, initiated: Some(Timestamp::now()) };
        let wanted = pending.clone();
        let data = run_blocking(place, "beginning an upload", move |place| {
            place.check_room(place.make_base()?.as_fd(), 0)?;
            open_scratch(place, &wanted.upload_id, &wanted.key).map(|(_, data)| data)
        })
        .await?;
        Ok(Self { place: Arc::clone(place), pending, data: Arc::new(data) })
    }
}

#[async_trait]
impl Upload for DirectoryUpload {
    fn pending(&self) -> PendingUpload {
        self.pending.clone()
    }

    async fn put_part(&self, part: Part) -> Result<PartReceipt, StoreError> {
        let data = Arc::clone(&self.data);
        run_blocking(&self.place, "writing a part", move |place| {
            let Part { number, offset, body } = part;
            place.check_room(data.as_fd(), body.len() as u64)?;
            // Synced part by part: gigabytes of it at the end would stand before etcd's own writes, and take longer than
            // any one step may.
            let written = data.write_all_at(&body, offset).and_then(|()| data.sync_data());
            written.map_err(|error| place.trouble("writing", &error))?;
            let crc32 = crc32fast::hash(&body);
            Ok(PartReceipt { number, offset, size: body.len() as u64, crc32, etag: String::new() })
        })
        .await
    }

    async fn complete(&self, parts: Vec<PartReceipt>) -> Result<ObjectMeta, StoreError> {
        let whole = plan_whole(parts).map_err(|words| self.place.corrupt(&self.pending.key, words))?;
        let (pending, data) = (self.pending.clone(), Arc::clone(&self.data));
        run_blocking(&self.place, "completing an upload", move |place| complete(place, &pending, &data, &whole)).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let id = self.pending.upload_id.clone();
        run_blocking(&self.place, "removing an upload", move |place| remove(place, &id)).await
    }
}

fn complete(place: &Place, pending: &PendingUpload, data: &File, whole: &Whole) -> Result<ObjectMeta, StoreError> {
    let key = &pending.key;
    let trouble = |error: io::Error| place.trouble("completing an upload", &error);
    let meta = data.sync_all().and_then(|()| read_meta(data)).map_err(trouble)?;
    whole.check(&meta).map_err(|words| place.corrupt(key, words))?;
    if !is_published(place, key, data)? {
        let base = place.make_base()?;
        let source = base.open_directory(&format!("{RESERVED_SEGMENT}/{}", pending.upload_id)).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => StoreError::NotFound {
                    store: format!("upload {} to {}", pending.upload_id, place.description),
                    key: key.clone(),
                },
                _ => trouble(error),
            }
        })?;
        place.publish(key, |directory, name| source.rename_new(DATA_FILE, directory, name))?;
    }
    remove(place, &pending.upload_id)?;
    Ok(meta)
}

/// Whether an earlier `complete`, whose answer was lost, already renamed this very file.
fn is_published(place: &Place, key: &ObjectKey, data: &File) -> Result<bool, StoreError> {
    let there = match place.open(key) {
        Ok(file) => file,
        Err(StoreError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let identify = |file: &File| file.metadata().map(|stat| (stat.dev(), stat.ino()));
    match (identify(&there), identify(data)) {
        (Ok(there), Ok(ours)) => Ok(there == ours),
        (Err(error), _) | (_, Err(error)) => Err(place.trouble("completing an upload", &error)),
    }
}

/// Removes what is left of an upload. An id that is no name of ours matches nothing.
pub(super) fn remove(place: &Place, upload_id: &str) -> Result<(), StoreError> {
    if !is_upload_id(upload_id) {
        return Ok(());
    }
    let Some(base) = place.base()? else { return Ok(()) };
    let removed = base.open_directory(RESERVED_SEGMENT).and_then(|uploads| {
        let upload = uploads.open_directory(upload_id)?;
        upload.remove_file(DATA_FILE)?;
        upload.remove_file(KEY_FILE)?;
        uploads.remove_empty_directory(upload_id)?;
        Ok(())
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(place.trouble("removing an upload", &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn list_pending(place: &Place, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
    let Some(base) = place.base()? else { return Ok(Vec::new()) };
    let trouble = |error: io::Error| place.trouble("listing uploads", &error);
    let uploads = match base.open_directory(RESERVED_SEGMENT) {
        Ok(uploads) => uploads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(trouble(error)),
    };
    let mut pending = Vec::new();
    for (name, entry) in uploads.entries().map_err(trouble)? {
        let (Some(upload_id), Entry::Directory) = (name, entry) else { continue };
        if !is_upload_id(&upload_id) || pending.len() == MAX_LISTED {
            continue;
        }
        // An upload whose key cannot be read was removed meanwhile, or its key file was never written whole.
        let Ok((key, initiated)) = read_key(&uploads, &upload_id) else { continue };
        if key.as_str().starts_with(prefix) {
            pending.push(PendingUpload { key, upload_id, initiated });
        }
    }
    pending.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
    Ok(pending)
}

fn read_key(uploads: &Beneath, upload_id: &str) -> io::Result<(ObjectKey, Option<Timestamp>)> {
    let file = uploads.open_file(&format!("{upload_id}/{KEY_FILE}"))?;
    let mut text = vec![0_u8; MAX_KEY_BYTES];
    let length = file.read_at(&mut text, 0)?;
    text.truncate(length);
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let stat = file.metadata()?;
    Ok((ObjectKey::parse(text).map_err(io::Error::other)?, modified_at(stat.mtime(), stat.mtime_nsec())))
}

pub(super) fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Makes the scratch directory of a write, with the key in it, and its empty data file.
pub(super) fn open_scratch(place: &Place, upload_id: &str, key: &ObjectKey) -> Result<(Beneath, File), StoreError> {
    let made = place.make_base()?.make_directory(RESERVED_SEGMENT).and_then(|uploads| {
        let scratch = uploads.create_scratch(upload_id)?;
        scratch.create_file(KEY_FILE)?.write_all(key.as_str().as_bytes())?;
        let data = scratch.create_file(DATA_FILE)?;
        Ok((scratch, data))
    });
    made.map_err(|error| place.trouble("beginning a write", &error))
}

/// Ids come back from callers; nothing but a name of ours may reach the file system.
fn is_upload_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
}
