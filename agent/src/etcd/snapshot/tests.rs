//! The bounds of a transfer, against streams that misbehave. Real servers: `etcd::server`.

use super::*;

const URL: &str = "http://127.0.0.1:1";

fn request(transfer_ms: u64, no_progress_ms: u64, bytes_per_second: Option<u64>) -> SnapshotRequest {
    let limits = SnapshotLimits {
        transfer: Duration::from_millis(transfer_ms),
        no_progress: Duration::from_millis(no_progress_ms),
    };
    SnapshotRequest { limits, bytes_per_second, require_leader: true }
}

fn message(bytes: usize, remaining: u64) -> Message {
    Message { blob: Bytes::from(vec![7; bytes]), remaining }
}

async fn open(request: SnapshotRequest, messages: Messages) -> Result<SnapshotStream, EtcdError> {
    SnapshotStream::begin(URL.to_owned(), request, messages).await
}

/// The first data, then nothing but what `after` gives.
fn data_then(after: impl stream::Stream<Item = Message> + Send + 'static) -> Messages {
    stream::iter([message(100, 1000)]).chain(after).map(Ok).boxed()
}

#[tokio::test]
async fn the_size_is_known_from_the_first_message_and_holds_the_trailer() {
    let messages = stream::iter([message(0, 150), message(100, 50), message(50, 0), message(32, 0)]).map(Ok).boxed();
    let snapshot = open(request(5_000, 5_000, None), messages).await.unwrap();
    assert_eq!(snapshot.size, 182);
    let sizes: Vec<usize> = snapshot.into_stream().map(|chunk| chunk.unwrap().len()).collect().await;
    assert_eq!(sizes, [100, 50, 32], "empty ones are left out");
}

#[tokio::test]
async fn silence_ends_the_transfer() {
    let mut snapshot = open(request(10_000, 100, None), data_then(stream::pending())).await.unwrap();
    assert!(snapshot.next_chunk().await.unwrap().is_some());
    let error = snapshot.next_chunk().await.unwrap_err();
    assert_eq!(error, EtcdError::NoProgress { url: URL.into(), within: Duration::from_millis(100), received: 100 });
}

#[tokio::test]
async fn empty_blobs_are_no_progress_however_many_come() {
    let flood = stream::repeat_with(|| message(0, 1000));
    let trickle = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((message(0, 1000), ()))
    });
    for empties in [flood.boxed(), trickle.boxed()] {
        let mut snapshot = open(request(10_000, 150, None), data_then(empties)).await.unwrap();
        assert!(snapshot.next_chunk().await.unwrap().is_some());
        let begun = Instant::now();
        let error = snapshot.next_chunk().await.unwrap_err();
        assert!(matches!(error, EtcdError::NoProgress { received: 100, .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_pause_of_the_reader_is_not_silence_of_the_server() {
    let mut snapshot = open(request(10_000, 100, None), data_then(stream::iter([message(9, 0)]))).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(snapshot.next_chunk().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn the_whole_transfer_is_bounded_while_bytes_still_come() {
    let trickle = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((message(1, 1000), ()))
    });
    let snapshot = open(request(300, 200, None), data_then(trickle)).await.unwrap();
    let last = snapshot.into_stream().collect::<Vec<_>>().await.pop().unwrap();
    assert!(matches!(last, Err(EtcdError::TooSlow { total: 1132, received, .. }) if received > 100), "{last:?}");
}

#[tokio::test]
async fn the_rate_is_kept() {
    let messages = stream::iter((0..10).rev().map(|left| message(10_000, left * 10_000))).map(Ok).boxed();
    let begun = Instant::now();
    let snapshot = open(request(10_000, 5_000, Some(250_000)), messages).await.unwrap();
    let received: usize =
        snapshot.into_stream().map(|chunk| chunk.unwrap().len()).fold(0, |sum, len| async move { sum + len }).await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(received, 100_000);
    assert!((0.35..3.0).contains(&seconds), "100,000 bytes at 250,000 a second took {seconds} s");
}

#[tokio::test]
async fn a_rate_that_cannot_do_is_refused_before_reading() {
    let messages = stream::iter([message(10, 1_000_000)]).map(Ok).boxed();
    let error = open(request(1_000, 1_000, Some(1_000)), messages).await.err().unwrap();
    assert!(matches!(error, EtcdError::RateTooLow { total: 1_000_042, .. }), "{error}");
    assert_eq!(error.class(), crate::etcd::error::EtcdErrorClass::Request);
}

#[tokio::test]
async fn a_stream_without_a_first_byte_is_broken_off() {
    let error = open(request(1_000, 1_000, None), stream::empty().boxed()).await.err().unwrap();
    assert!(matches!(error, EtcdError::Broken { received: 0, .. }), "{error}");
}
