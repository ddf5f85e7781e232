//! From the SDK's words to ours: sizes, times, checksums, and bodies that must be as long as announced. Reads bodies; asks
//! nothing.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use jiff::Timestamp;

use super::errors::Told;
use crate::key::ObjectKey;
use crate::store::{Checksum, ObjectBody};

pub(super) fn to_size(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}

pub(super) fn to_timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// CRC32 as S3 writes it: base64 of its four bytes, big end first.
pub(super) fn encode_crc32(crc32: u32) -> String {
    BASE64.encode(crc32.to_be_bytes())
}

/// Reads `x-amz-checksum-crc32`: of the whole object, or `…-<parts>` of its parts.
pub(super) fn parse_checksum(text: &str) -> Option<Checksum> {
    let (encoded, parts) = match text.split_once('-') {
        Some((encoded, parts)) => (encoded, Some(parts.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let crc32 = u32::from_be_bytes(BASE64.decode(encoded).ok()?.try_into().ok()?);
    Some(match parts {
        Some(parts) => Checksum::Crc32Composite { crc32, parts },
        None => Checksum::Crc32(crc32),
    })
}

/// The total of `Content-Range: bytes 5-9/10`.
pub(super) fn parse_total_size(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.parse().ok()
}

/// A body that ends in an error unless exactly `length` bytes arrived.
pub(super) fn read_body(body: ByteStream, length: u64, told: Told, key: ObjectKey) -> ObjectBody {
    let state = Some((body, length));
    futures::stream::unfold(state, move |state| {
        let (told, key) = (told.clone(), key.clone());
        async move {
            let (mut body, left) = state?;
            match body.next().await {
                Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                    Some(left) => Some((Ok(chunk), Some((body, left)))),
                    None => {
                        let words = format!("it is longer than the {length} bytes announced");
                        Some((Err(told.corrupt(&key, words)), None))
                    }
                },
                Some(Err(error)) => Some((Err(told.broken_body(&error, &key)), None)),
                None if left > 0 => {
                    let words = format!("the answer ended {left} bytes before the {length} announced");
                    Some((Err(told.unavailable(words)), None))
                }
                None => None,
            }
        }
    })
    .boxed()
}

/// Notes the `Date` of any answer, refusals included.
#[derive(Debug)]
pub(super) struct Clock(pub(super) Arc<Mutex<Option<Timestamp>>>);

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "lifeboat-clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let time = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(time) = time.as_ref().and_then(to_timestamp) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_as_the_store_writes_them() {
        assert_eq!(encode_crc32(crc32fast::hash(b"123456789")), "y/Q5Jg==");
        assert_eq!(parse_checksum("y/Q5Jg=="), Some(Checksum::Crc32(0xcbf4_3926)));
        assert_eq!(parse_checksum("y/Q5Jg==-3"), Some(Checksum::Crc32Composite { crc32: 0xcbf4_3926, parts: 3 }));
        for not_a_checksum in ["", "y/Q5Jg==-x", "y/Q5", "?"] {
            assert_eq!(parse_checksum(not_a_checksum), None, "{not_a_checksum:?}");
        }
    }

    #[test]
    fn the_size_of_the_whole_is_read_from_the_range() {
        assert_eq!(parse_total_size("bytes 5-9/10"), Some(10));
        assert_eq!(parse_total_size("bytes 5-9/*"), None);
    }
}
