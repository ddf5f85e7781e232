//! The S3 backend against servers that are ill in ways a healthy one cannot be made to be: raw answers over TCP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_storage::{
    Credentials, ErrorClass, ListRequest, ObjectKey, ObjectMeta, ObjectStore, Part, PutMode, S3Config, S3Store,
    StoreError, Timeouts,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What happens on a connection once a request's head was read.
#[derive(Debug, Clone, Copy)]
enum Ill {
    /// Sends this and closes.
    Says(&'static str),
    /// Answers by the request's first line, and closes.
    Answers(fn(&str) -> &'static str),
    /// Sends this and then nothing more, for ever.
    FallsSilentAfter(&'static str),
}

/// A server that gives every request the same treatment; returns its store and how many requests came.
async fn ill_store(ill: Ill) -> (S3Store, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut buffer = [0_u8; 4096];
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => head.extend_from_slice(&buffer[..read]),
                    }
                }
                counter.fetch_add(1, Ordering::SeqCst);
                match ill {
                    Ill::Says(answer) => {
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    Ill::Answers(choose) => {
                        // The request's body has to be taken before the connection may close.
                        let text = String::from_utf8_lossy(&head).into_owned();
                        let _ = tokio::time::timeout(Duration::from_millis(200), async {
                            let mut buffer = [0_u8; 4096];
                            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                        })
                        .await;
                        let _ = stream.write_all(choose(text.lines().next().unwrap()).as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    Ill::FallsSilentAfter(answer) => {
                        let _ = stream.write_all(answer.as_bytes()).await;
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    let store = S3Store::connect(S3Config {
        bucket: "backups".into(),
        endpoint: Some(endpoint),
        force_path_style: true,
        credentials: Some(Credentials {
            access_key_id: "id".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        }),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            small: Duration::from_secs(1),
            data: Duration::from_secs(1),
            stall: Duration::from_secs(2),
        },
        ..S3Config::default()
    })
    .await
    .unwrap();
    (store, requests)
}

fn key() -> ObjectKey {
    ObjectKey::parse("uid/manifest.json").unwrap()
}

#[tokio::test]
async fn a_store_that_asks_to_slow_down_is_asked_three_times_and_then_unavailable() {
    let answer = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
                  <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let (store, requests) = ill_store(Ill::Says(answer)).await;
    let error = store.list(&ListRequest::under("")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.to_string().contains("SlowDown: Please reduce your request rate"), "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_conditional_create_is_never_repeated_behind_the_callers_back() {
    let (store, requests) = ill_store(Ill::Says("HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n")).await;
    let error = store.put(&key(), Bytes::from_static(b"{}"), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_web_console_is_recognised_as_the_wrong_endpoint() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n\
                  <!doctype html><html><body>Console</body></html>";
    let (store, _) = ill_store(Ill::Says(answer)).await;
    let error = store.list(&ListRequest::under("")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Misconfigured, "{error}");
    assert!(error.to_string().contains("spec.s3.endpoint"), "{error}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_and_no_short_object() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"1\"\r\nConnection: close\r\n\r\nonly this";
    let (store, _) = ill_store(Ill::Says(answer)).await;
    let error = store.get_small(&key(), 1000).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
}

#[tokio::test]
async fn a_body_that_stops_moving_is_given_up() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"1\"\r\n\r\nonly this";
    let (store, _) = ill_store(Ill::FallsSilentAfter(answer)).await;
    let started = Instant::now();
    let error = store.get_small(&key(), 1000).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up() {
    let (store, requests) = ill_store(Ill::FallsSilentAfter("")).await;
    let started = Instant::now();
    let error = store.head(&key()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.to_string().contains("did not answer in time"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "after {:?}", started.elapsed());
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_listing_cut_off_without_a_token_is_no_listing() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
                  <ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let (store, _) = ill_store(Ill::Says(answer)).await;
    let error = store.list_all("", 10).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
}

/// A store that has forgotten an upload when it is completed, as all do once it is; HEAD then says what is there.
fn forgets_uploads(request: &str, head: &'static str) -> &'static str {
    match request {
        post if post.starts_with("POST") && post.contains("?uploads") => {
            "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
             <InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
        }
        put if put.starts_with("PUT") => {
            "HTTP/1.1 200 OK\r\nETag: \"part\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        post if post.starts_with("POST") => {
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
             <Error><Code>NoSuchUpload</Code><Message>The upload may have been completed.</Message></Error>"
        }
        head_request if head_request.starts_with("HEAD") => head,
        _ => {
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
             <Error><Code>NoSuchKey</Code></Error>"
        }
    }
}

async fn complete_with(ill: Ill) -> Result<ObjectMeta, StoreError> {
    let (store, _) = ill_store(ill).await;
    let upload = store.begin_upload(&key()).await.unwrap();
    let part = Part { number: 1, offset: 0, body: Bytes::from_static(b"four") };
    let receipt = upload.put_part(part).await.unwrap();
    upload.complete(vec![receipt]).await
}

#[tokio::test]
async fn an_upload_that_is_gone_because_it_was_completed_is_a_success() {
    let meta = complete_with(Ill::Answers(|request| {
        forgets_uploads(request, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"whole\"\r\nConnection: close\r\n\r\n")
    }))
    .await
    .unwrap();
    assert_eq!(meta.size, 4);
}

#[tokio::test]
async fn an_upload_that_is_gone_with_another_or_no_object_there_is_lost() {
    let other: fn(&str) -> &'static str = |request| {
        forgets_uploads(request, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"other\"\r\nConnection: close\r\n\r\n")
    };
    let none: fn(&str) -> &'static str =
        |request| forgets_uploads(request, "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
    for answers in [other, none] {
        let outcome = complete_with(Ill::Answers(answers)).await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_object_that_came_out_short_is_corrupt() {
    let outcome = complete_with(Ill::Answers(|request| match request {
        complete if complete.starts_with("POST") && complete.contains("uploadId=") => {
            "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n\
             <CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>"
        }
        other => forgets_uploads(
            other,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"whole\"\r\nConnection: close\r\n\r\n",
        ),
    }))
    .await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
}
