//! A store in an S3 bucket, or anything that speaks its protocol. Every answer, and every missing answer, becomes one of
//! the outcomes of [`StoreError`] in [`errors`]; this file only asks. Network I/O.

mod answers;
mod client;
mod errors;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;

pub use self::client::{Checksums, Credentials, ObjectLock, ObjectLockMode, S3Config, ServerSideEncryption, Timeouts};

use self::answers::{Clock, encode_crc32, parse_checksum, parse_total_size, to_size, to_timestamp};
use self::client::{Client, connect};
use self::errors::is_code;
use self::upload::S3Upload;
use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::store::{
    ListCursor, ListPage, ListRequest, ListedObject, ObjectMeta, ObjectStore, ObjectStream, Put, PutMode,
};
use crate::upload::{PendingUpload, Upload};

/// Bound on [`ObjectStore::list_uploads`].
const MAX_LISTED_UPLOADS: usize = 10_000;

/// A bucket, or a prefix of one. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Arc<Client>,
}

impl S3Store {
    /// Checks the configuration and prepares a client. Asks nothing of the bucket yet; without explicit credentials the
    /// SDK's default chain may look for a region on the network.
    ///
    /// # Errors
    /// [`StoreError::InvalidConfiguration`] and [`StoreError::NotSupported`], with the field to change.
    pub async fn connect(config: S3Config) -> Result<Self, StoreError> {
        Ok(Self { client: Arc::new(connect(config).await?) })
    }

    /// Why a HEAD failed: its answer has no body, so the same question is asked by a GET of at most one byte, which the
    /// store answers with a code and words. `None` if that GET succeeds.
    async fn explain(&self, key: &ObjectKey) -> Option<StoreError> {
        let client = &self.client;
        let asked = client
            .s3
            .get_object()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .range("bytes=0-0")
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        match asked {
            // The object exists and is empty: no first byte to give.
            Err(error) if is_code(&error, "InvalidRange") => None,
            Err(error) => Some(client.told.outcome(error, Some(key))),
            Ok(_) => None,
        }
    }

    async fn empty_rest(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError> {
        let meta = self.head(key).await?;
        if meta.size == offset {
            return Ok(ObjectStream { meta, body: futures::stream::empty().boxed() });
        }
        let words = format!("it has {} bytes, byte {offset} was asked for", meta.size);
        Err(StoreError::Corrupt { store: self.describe(), key: key.clone(), words })
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn describe(&self) -> String {
        self.client.told.store.clone()
    }

    fn uri(&self, key: &ObjectKey) -> String {
        format!("s3://{}/{}", self.client.bucket, self.client.full_key(key))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, StoreError> {
        let client = &self.client;
        let answer = client
            .s3
            .head_object()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .set_checksum_mode(client.checksums.wanted().then_some(ChecksumMode::Enabled))
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        match answer {
            Ok(head) => Ok(ObjectMeta {
                size: to_size(head.content_length()),
                etag: head.e_tag().map(str::to_owned),
                checksum: head.checksum_crc32().and_then(parse_checksum),
                last_modified: head.last_modified().and_then(to_timestamp),
            }),
            Err(error) => {
                let answered = error.raw_response().is_some_and(|answer| answer.status().as_u16() < 500);
                let explained = if answered { self.explain(key).await } else { None };
                Err(explained.unwrap_or_else(|| client.told.outcome(error, Some(key))))
            }
        }
    }

    async fn get_from(&self, key: &ObjectKey, offset: u64) -> Result<ObjectStream, StoreError> {
        let client = &self.client;
        let answer = client
            .s3
            .get_object()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .set_range((offset > 0).then(|| format!("bytes={offset}-")))
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_code::<GetObjectError>(&error, "InvalidRange") => {
                return self.empty_rest(key, offset).await;
            }
            Err(error) => return Err(client.told.outcome(error, Some(key))),
        };
        let length = to_size(answer.content_length());
        let size = match (offset, answer.content_range().and_then(parse_total_size)) {
            (0, _) => length,
            (_, Some(total)) => total,
            (_, None) => {
                return Err(StoreError::NotSupported { what: format!("{} ignores range requests", self.describe()) });
            }
        };
        let meta = ObjectMeta {
            size,
            etag: answer.e_tag().map(str::to_owned),
            checksum: answer.checksum_crc32().and_then(parse_checksum),
            last_modified: answer.last_modified().and_then(to_timestamp),
        };
        let body = answers::read_body(answer.body, length, client.told.clone(), key.clone());
        Ok(ObjectStream { meta, body })
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<Put, StoreError> {
        let client = &self.client;
        let size = body.len() as u64;
        let crc32 = client.checksums.wanted().then(|| encode_crc32(crc32fast::hash(&body)));
        // A create is asked once: repeated inside the SDK after a lost answer, our own first try would come back as
        // "already exists" and the caller could not tell. `create_once` can.
        let (condition, settings) = match mode {
            PutMode::CreateNew => (Some("*"), client.single_call(size)),
            PutMode::Overwrite => (None, client.data_call(size)),
        };
        let lock = client.lock_of(key);
        let mut call = client
            .s3
            .put_object()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .set_if_none_match(condition.map(str::to_owned))
            .set_checksum_crc32(crc32)
            .set_server_side_encryption(client.encryption.sdk_kind())
            .set_ssekms_key_id(client.encryption.kms_key_id())
            .set_storage_class(client.storage_class.clone())
            .set_object_lock_mode(lock.as_ref().map(|lock| lock.mode.clone()))
            .set_object_lock_retain_until_date(lock.map(|lock| lock.until))
            .body(ByteStream::from(body))
            .customize()
            .config_override(settings);
        if client.is_encrypted_transport {
            call = call.disable_payload_signing();
        }
        let answer = call.send().await.map_err(|error| client.told.outcome(error, Some(key)))?;
        Ok(Put { etag: answer.e_tag().map(str::to_owned), size })
    }

    async fn begin_upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(S3Upload::begin(self.clone(), key).await?))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let client = &self.client;
        let answer = client
            .s3
            .list_objects_v2()
            .bucket(&client.bucket)
            .prefix(client.full_name(&request.prefix))
            .set_start_after(request.start_after.as_deref().map(|after| client.full_name(after)))
            .set_delimiter(request.delimiter.then(|| "/".to_owned()))
            .set_continuation_token(request.cursor.as_ref().map(|ListCursor(token)| token.clone()))
            .max_keys(1000)
            .customize()
            .config_override(client.small_call())
            .send()
            .await
            .map_err(|error| client.told.outcome(error, None))?;
        let next = match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), Some(token)) => Some(ListCursor(token.to_owned())),
            (Some(true), None) => {
                // Half a listing taken for a whole one would make archives look lost.
                let words = "a listing was cut off without a token to continue it".to_owned();
                return Err(StoreError::Unavailable { store: self.describe(), words });
            }
            (Some(false) | None, _) => None,
        };
        let mut page = ListPage { next, ..ListPage::default() };
        for object in answer.contents() {
            match object.key().and_then(|name| client.own_key(name)) {
                Some(key) => page.objects.push(ListedObject {
                    key,
                    size: to_size(object.size()),
                    last_modified: object.last_modified().and_then(to_timestamp),
                }),
                None => page.foreign += 1,
            }
        }
        for group in answer.common_prefixes() {
            match group.prefix().and_then(|name| client.own_name(name)) {
                Some(name) => page.prefixes.push(name.to_owned()),
                None => page.foreign += 1,
            }
        }
        Ok(page)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let client = &self.client;
        let answer = client
            .s3
            .delete_object()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        match answer.map_err(|error| client.told.outcome(error, Some(key))) {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let client = &self.client;
        let mut pending = Vec::new();
        let (mut key_marker, mut upload_marker) = (None, None);
        loop {
            let answer = client
                .s3
                .list_multipart_uploads()
                .bucket(&client.bucket)
                .prefix(client.full_name(prefix))
                .set_key_marker(key_marker)
                .set_upload_id_marker(upload_marker)
                .customize()
                .config_override(client.small_call())
                .send()
                .await
                .map_err(|error| client.told.outcome(error, None))?;
            for upload in answer.uploads() {
                let key = upload.key().and_then(|name| client.own_key(name));
                if let (Some(key), Some(upload_id)) = (key, upload.upload_id()) {
                    let initiated = upload.initiated().and_then(to_timestamp);
                    pending.push(PendingUpload { key, upload_id: upload_id.to_owned(), initiated });
                }
            }
            let more = answer.is_truncated() == Some(true) && answer.next_key_marker().is_some();
            if !more || pending.len() >= MAX_LISTED_UPLOADS {
                pending.truncate(MAX_LISTED_UPLOADS);
                return Ok(pending);
            }
            key_marker = answer.next_key_marker().map(str::to_owned);
            upload_marker = answer.next_upload_id_marker().map(str::to_owned);
        }
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<(), StoreError> {
        let client = &self.client;
        let answer = client
            .s3
            .abort_multipart_upload()
            .bucket(&client.bucket)
            .key(client.full_key(&upload.key))
            .upload_id(&upload.upload_id)
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        match answer.map_err(|error| client.told.outcome(error, Some(&upload.key))) {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn check_lock(&self) -> Result<(), StoreError> {
        let client = &self.client;
        if !client.has_lock() {
            return Ok(());
        }
        let asked = client
            .s3
            .get_object_lock_configuration()
            .bucket(&client.bucket)
            .customize()
            .config_override(client.small_call())
            .send()
            .await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if is_code(&error, "ObjectLockConfigurationNotFoundError") => {
                Err(StoreError::InvalidConfiguration {
                    words: format!(
                        "bucket {:?} was made without object lock: make one with it, or remove spec.s3.objectLock",
                        client.bucket
                    ),
                })
            }
            Err(error) => Err(client.told.outcome(error, None)),
        }
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let client = &self.client;
        let seen = Arc::new(Mutex::new(None));
        let answer = client
            .s3
            .list_objects_v2()
            .bucket(&client.bucket)
            .prefix(client.full_name(""))
            .max_keys(1)
            .customize()
            .config_override(client.small_call())
            .interceptor(Clock(Arc::clone(&seen)))
            .send()
            .await;
        let time = *seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (time, answer) {
            // A refusal has a date too, and a wrong clock is a likely reason of it.
            (Some(time), _) => Ok(Some(time)),
            (None, Ok(_)) => Ok(None),
            (None, Err(error)) => Err(client.told.outcome(error, None)),
        }
    }
}
