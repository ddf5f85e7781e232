//! The room's code against real etcd 3.5, 3.6 and 3.7.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use super::*;
use crate::etcd::error::{EtcdError, EtcdErrorClass};
use crate::etcd::snapshot::{SnapshotLimits, SnapshotRequest, open_snapshot};
use crate::host::certificate::read_not_after;

fn request(transfer: u64, no_progress: u64) -> SnapshotRequest {
    let limits =
        SnapshotLimits { transfer: Duration::from_secs(transfer), no_progress: Duration::from_secs(no_progress) };
    SnapshotRequest { limits, bytes_per_second: None, require_leader: true }
}

#[tokio::test]
async fn the_status_of_every_line_is_read_whole() {
    for line in LINES {
        let server = RealEtcd::start(line, &[]).await;
        let before = server.status().await;
        assert!(server.fill(3, 100).await);
        let status = server.status().await;
        assert!(status.version.starts_with(line), "{status:?}");
        assert_eq!(status.revision, before.revision + 3, "{line}");
        assert!(status.is_leader() && status.has_leader() && !status.is_learner, "{status:?}");
        assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0, "{status:?}");
        assert!(status.cluster_id.0 != 0, "{status:?}");
        assert_eq!(status.own().unwrap().name, "m0");
        assert_eq!(status.own().unwrap().client_urls, std::slice::from_ref(&server.url));
        assert_eq!((status.alarms.len(), status.errors.len()), (0, 0), "{status:?}");
        // From 3.6 on the server tells; kubeadm's default of 2 GiB is etcd's own.
        assert_eq!(status.quota, (line != "3.5").then_some(2 << 30), "{line}");
        assert_eq!(status.storage_version.is_some(), line != "3.5", "{status:?}");
    }
}

#[tokio::test]
async fn an_alarm_of_every_line_is_read_from_its_status() {
    for line in LINES {
        let server = RealEtcd::start(line, &["--quota-backend-bytes=1048576"]).await;
        assert!(!server.fill(200, 100_000).await, "{line}: the quota was not felt");
        let status = server.wait_for("alarm", |status| !status.alarms.is_empty()).await;
        assert_eq!(status.own_alarms().collect::<Vec<_>>(), ["NOSPACE"], "{line}");
        assert_eq!(status.errors, [] as [String; 0], "{line}");
    }
}

#[tokio::test]
async fn the_snapshot_of_every_line_arrives_whole_and_in_the_size_announced() {
    for line in LINES {
        let server = RealEtcd::start(line, &[]).await;
        assert!(server.fill(60, 100_000).await);
        let snapshot = open_snapshot(&server.client().await, request(60, 20)).await.unwrap();
        let size = snapshot.size;
        let chunks: Vec<_> = snapshot.into_stream().map(Result::unwrap).collect().await;
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let file: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        assert_eq!((file.len() as u64, file.len() % 512), (size, 32), "{line}");
        assert!(size > 6_000_000, "{line}: {size}");
        let (database, trailer) = file.split_at(file.len() - 32);
        assert_eq!(Sha256::digest(database).as_slice(), trailer, "{line}");
        // etcd's own tool accepts what was read.
        let path = server.data_dir.path().join("snapshot.db");
        std::fs::write(&path, &file).unwrap();
        let accepted = Command::new(program(&format!("{line}/etcdutl")))
            .args(["snapshot", "status"])
            .arg(&path)
            .stdout(Stdio::null())
            .status();
        assert!(accepted.unwrap().success(), "{line}");
    }
}

#[tokio::test]
async fn a_rate_slows_a_real_snapshot_down() {
    let server = RealEtcd::start("3.6", &[]).await;
    assert!(server.fill(40, 100_000).await);
    let limited = SnapshotRequest { bytes_per_second: Some(4_000_000), ..request(60, 20) };
    let begun = Instant::now();
    let snapshot = open_snapshot(&server.client().await, limited).await.unwrap();
    let size = snapshot.size;
    let count = snapshot.into_stream().map(|chunk| chunk.unwrap().len() as u64).collect::<Vec<_>>().await;
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(count.iter().sum::<u64>(), size);
    let least = size as f64 / 4_000_000.0 - 0.5;
    assert!(seconds >= least && seconds < least * 4.0 + 2.0, "{size} bytes took {seconds} s");
}

#[tokio::test]
async fn a_member_that_stops_mid_stream_is_noticed_by_its_silence() {
    let server = RealEtcd::start("3.6", &[]).await;
    // More than fits into the windows and buffers between the two.
    assert!(server.fill(300, 100_000).await);
    let mut snapshot = open_snapshot(&server.client().await, request(60, 1)).await.unwrap();
    assert!(snapshot.next_chunk().await.unwrap().is_some());
    server.signal(Signal::STOP);
    let error = loop {
        match snapshot.next_chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "the whole snapshot came before the signal"),
            Err(error) => break error,
        }
    };
    server.signal(Signal::CONT);
    assert!(matches!(&error, EtcdError::NoProgress { received, .. } if *received > 0), "{error}");
}

#[tokio::test]
async fn a_member_that_dies_mid_stream_breaks_the_stream() {
    let server = RealEtcd::start("3.6", &[]).await;
    assert!(server.fill(300, 100_000).await);
    let mut snapshot = open_snapshot(&server.client().await, request(60, 20)).await.unwrap();
    assert!(snapshot.next_chunk().await.unwrap().is_some());
    server.signal(Signal::KILL);
    let begun = Instant::now();
    let error = loop {
        match snapshot.next_chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "the end of a dead member's stream looks like the end of a snapshot"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, EtcdError::Broken { received, .. } if *received > 0), "{error}");
    assert_eq!(error.class(), EtcdErrorClass::Transfer);
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_member_without_quorum_says_so_and_gives_only_a_last_resort_snapshot() {
    for line in LINES {
        let [server, other] = RealEtcd::start_two(line).await;
        drop(other);
        let status = server.wait_for("loss of the leader", |status| !status.has_leader()).await;
        assert_eq!((status.members.len(), status.errors.len()), (2, 0), "{status:?}");
        let client = server.client().await;
        let error = open_snapshot(&client, request(30, 20)).await.err().unwrap();
        assert_eq!(error, EtcdError::NoLeader { url: server.url.clone() }, "{line}");
        let last_resort = SnapshotRequest { require_leader: false, ..request(30, 20) };
        let snapshot = open_snapshot(&client, last_resort).await.unwrap();
        let size = snapshot.size;
        let bytes: Vec<usize> = snapshot.into_stream().map(|chunk| chunk.unwrap().len()).collect().await;
        assert_eq!(bytes.iter().sum::<usize>() as u64, size, "{line}");
    }
}

#[tokio::test]
async fn kubeadms_certificates_open_etcd_and_others_do_not() {
    for line in LINES {
        let (pki, stranger) = (Pki::new(), Pki::new());
        let server = RealEtcd::start_with_tls(line, &pki).await;
        let ask = async |tls: Option<TlsFiles>, url: &str| {
            let client = MemberClient::connect(&Endpoint { url: url.to_owned(), tls }).await?;
            fetch_member(&client).await
        };
        assert!(ask(Some(pki.client()), &server.url).await.unwrap().is_leader());
        // One that trusts the server and is not trusted by it, one that does not trust the server.
        let unknown_client = TlsFiles { ca: pki.path("ca.crt"), ..stranger.client() };
        for files in [unknown_client, stranger.client()] {
            let error = ask(Some(files), &server.url).await.unwrap_err();
            // A server may close before its refusal is read; the words then name the certificate all the same.
            assert!(matches!(error, EtcdError::Untrusted { .. } | EtcdError::Closed { .. }), "{line}: {error}");
            assert!(error.to_string().contains("certificate"), "{line}: {error}");
        }
        let plain = ask(None, &server.url.replace("https", "http")).await.unwrap_err();
        assert!(matches!(plain, EtcdError::Unreachable { .. } | EtcdError::Closed { .. }), "{line}: {plain}");
        let snapshot = MemberClient::connect(&Endpoint { url: server.url.clone(), tls: Some(pki.client()) }).await;
        assert!(open_snapshot(&snapshot.unwrap(), request(30, 20)).await.is_ok());
    }
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let pki = Pki::new();
    for (files, name) in [
        (TlsFiles { key: pki.path("healthcheck-client.crt"), ..pki.client() }, "healthcheck-client.crt"),
        (TlsFiles { ca: pki.path("ca.key"), ..pki.client() }, "ca.key"),
        (TlsFiles { cert: pki.path("nothing.crt"), ..pki.client() }, "nothing.crt"),
    ] {
        let endpoint = Endpoint { url: "https://127.0.0.1:1".into(), tls: Some(files) };
        let error = MemberClient::connect(&endpoint).await.err().unwrap();
        assert!(matches!(error, EtcdError::Credentials { .. }) && error.to_string().contains(name), "{error}");
    }
}

#[test]
fn kubeadms_client_certificate_ends_in_a_year() {
    let days = read_not_after(&Pki::new().client().cert).unwrap().duration_since(Timestamp::now()).as_hours() / 24;
    assert!((364..=366).contains(&days), "{days} days");
}

#[tokio::test]
async fn nobody_at_home_and_nobody_answering_are_told_apart_in_time() {
    let ask = async |url: &str| {
        let client = MemberClient::connect(&Endpoint { url: url.to_owned(), tls: None }).await.unwrap();
        let begun = Instant::now();
        (fetch_member(&client).await.unwrap_err(), begun.elapsed())
    };
    let (error, after) = ask(&format!("http://127.0.0.1:{}", free_port())).await;
    assert!(
        matches!(error, EtcdError::Unreachable { .. }) && after < Duration::from_secs(5),
        "{error} after {after:?}"
    );
    // Accepts connections, in the kernel, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (error, after) = ask(&url).await;
    assert_eq!(error, EtcdError::NoAnswer { url, within: Duration::from_secs(5) });
    assert!(after < Duration::from_secs(7), "{after:?}");
}
