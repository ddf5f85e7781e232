//! Multipart uploads. The checksum of each part goes along for the store to verify; what the store then has is read back
//! and compared before anybody may call it an object. Network I/O.

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use jiff::Timestamp;

use super::S3Store;
use super::answers::encode_crc32;
use super::errors::is_code;
use crate::error::StoreError;
use crate::key::ObjectKey;
use crate::store::{ObjectMeta, ObjectStore as _};
use crate::upload::{Part, PartReceipt, PendingUpload, Upload, Whole, plan_whole};

#[derive(Debug)]
pub(super) struct S3Upload {
    store: S3Store,
    pending: PendingUpload,
}

impl S3Upload {
    pub(super) async fn begin(store: S3Store, key: &ObjectKey) -> Result<Self, StoreError> {
        let client = &store.client;
        let lock = client.lock_of(key);
        let answer = client
            .s3
            .create_multipart_upload()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .set_checksum_algorithm(client.checksums.wanted().then_some(ChecksumAlgorithm::Crc32))
            .set_server_side_encryption(client.encryption.sdk_kind())
            .set_ssekms_key_id(client.encryption.kms_key_id())
            .set_storage_class(client.storage_class.clone())
            .set_object_lock_mode(lock.as_ref().map(|lock| lock.mode.clone()))
            .set_object_lock_retain_until_date(lock.map(|lock| lock.until))
            .customize()
            .config_override(client.small_call())
            .send()
            .await
            .map_err(|error| client.told.outcome(error, Some(key)))?;
        let Some(upload_id) = answer.upload_id().map(str::to_owned) else {
            return Err(client.told.unavailable("an upload was begun but not given a name".to_owned()));
        };
        let pending = PendingUpload { key: key.clone(), upload_id, initiated: Some(Timestamp::now()) };
        Ok(Self { store, pending })
    }

    async fn read_back(&self, whole: &Whole) -> Result<ObjectMeta, StoreError> {
        let meta = self.store.head(&self.pending.key).await?;
        whole.check(&meta).map_err(|words| self.store.client.told.corrupt(&self.pending.key, words))?;
        Ok(meta)
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn pending(&self) -> PendingUpload {
        self.pending.clone()
    }

    async fn put_part(&self, part: Part) -> Result<PartReceipt, StoreError> {
        let Part { number, offset, body } = part;
        let client = &self.store.client;
        let key = &self.pending.key;
        let size = body.len() as u64;
        let crc32 = crc32fast::hash(&body);
        let encoded = client.checksums.wanted().then(|| encode_crc32(crc32));
        let Ok(part_number) = i32::try_from(number) else {
            return Err(client.told.corrupt(key, format!("no upload has a part {number}")));
        };
        let mut call = client
            .s3
            .upload_part()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .upload_id(&self.pending.upload_id)
            .part_number(part_number)
            .set_checksum_crc32(encoded.clone())
            .body(ByteStream::from(body))
            .customize()
            .config_override(client.data_call(size));
        if client.is_encrypted_transport {
            call = call.disable_payload_signing();
        }
        let answer = call.send().await.map_err(|error| client.told.outcome(error, Some(key)))?;
        if let (Some(sent), Some(kept)) = (&encoded, answer.checksum_crc32())
            && sent != kept
        {
            // Sending it again replaces it, so this is no verdict about the object.
            return Err(client.told.unavailable(format!("part {number} arrived changed (CRC32 {kept}, sent {sent})")));
        }
        let Some(etag) = answer.e_tag().map(str::to_owned) else {
            return Err(client.told.unavailable(format!("part {number} was taken without a receipt (ETag)")));
        };
        Ok(PartReceipt { number, offset, size, crc32, etag })
    }

    async fn complete(&self, parts: Vec<PartReceipt>) -> Result<ObjectMeta, StoreError> {
        let client = &self.store.client;
        let key = &self.pending.key;
        let whole = plan_whole(parts).map_err(|words| client.told.corrupt(key, words))?;
        let mut completed = CompletedMultipartUpload::builder();
        for PartReceipt { number, offset: _, size: _, crc32, etag } in &whole.parts {
            let part = CompletedPart::builder()
                .set_part_number(i32::try_from(*number).ok())
                .e_tag(etag)
                .set_checksum_crc32(client.checksums.wanted().then(|| encode_crc32(*crc32)))
                .build();
            completed = completed.parts(part);
        }
        let answer = client
            .s3
            .complete_multipart_upload()
            .bucket(&client.bucket)
            .key(client.full_key(key))
            .upload_id(&self.pending.upload_id)
            .multipart_upload(completed.build())
            .customize()
            .config_override(client.completing_call())
            .send()
            .await;
        match answer {
            Ok(_) => self.read_back(&whole).await,
            // Gone is what an upload is, too, after a complete whose answer was lost; then the object is there.
            Err(error) if is_code(&error, "NoSuchUpload") => match self.read_back(&whole).await {
                Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => {
                    Err(client.told.outcome(error, Some(key)))
                }
                outcome => outcome,
            },
            Err(error) => Err(client.told.outcome(error, Some(key))),
        }
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.store.abort_upload(&self.pending).await
    }
}
