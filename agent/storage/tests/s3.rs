//! The S3 backend against a real server: versitygw over a temporary directory, one for each test, on a port of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_ports::free_port;
use lifeboat_storage::{
    Checksum, Checksums, Credentials, ErrorClass, ListRequest, ObjectKey, ObjectLock, ObjectLockMode, ObjectStore,
    Part, PutMode, RetryPolicy, S3Config, S3Store, StoreError, conformance, retry,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const ACCESS_KEY: &str = "lifeboat-test";
const SECRET_KEY: &str = "a-secret-nobody-may-see";
const BUCKET: &str = "backups";

/// A running versitygw; dies with this value.
struct Gateway {
    child: Child,
    port: u16,
    directory: TempDir,
    certificate: Option<Certificate>,
}

struct Certificate {
    authority: Vec<u8>,
    chain_file: PathBuf,
    key_file: PathBuf,
    _directory: TempDir,
}

fn gateway_binary() -> PathBuf {
    let directory = std::env::var_os("LIFEBOAT_TESTBED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed/bin"), PathBuf::from);
    let binary = directory.join("versitygw");
    assert!(binary.exists(), "{} is missing: run hack/build-tools.sh versitygw", binary.display());
    binary
}

fn spawn(port: u16, directory: &Path, certificate: Option<&Certificate>) -> Child {
    let mut command = Command::new(gateway_binary());
    command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
    command.args(["--port", &format!("127.0.0.1:{port}"), "--quiet"]);
    if let Some(certificate) = certificate {
        command.arg("--cert").arg(&certificate.chain_file).arg("--key").arg(&certificate.key_file);
    }
    command.arg("posix").arg(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("versitygw ended with {status}");
        }
        assert!(Instant::now() < deadline, "versitygw does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

impl Gateway {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(certificate: Option<Certificate>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let port = free_port();
        let child = spawn(port, directory.path(), certificate.as_ref());
        Self { child, port, directory, certificate }
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn config(&self) -> S3Config {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        S3Config {
            bucket: BUCKET.into(),
            prefix: "clusters/eu".into(),
            endpoint: Some(format!("{scheme}://127.0.0.1:{}", self.port)),
            force_path_style: true,
            ca_bundle_pem: self.certificate.as_ref().map(|certificate| certificate.authority.clone()),
            credentials: Some(Credentials {
                access_key_id: ACCESS_KEY.into(),
                secret_access_key: SECRET_KEY.into(),
                session_token: None,
            }),
            ..S3Config::default()
        }
    }

    async fn store(&self) -> S3Store {
        S3Store::connect(self.config()).await.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An authority and a certificate of its for 127.0.0.1.
fn make_certificate() -> Certificate {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -days 2 -subj "/CN=test authority" -out ca.crt
        openssl ecparam -name prime256v1 -genkey -noout -out server.key
        openssl req -new -key server.key -subj "/CN=store" -out server.csr
        printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > server.ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt
    "#;
    let made = Command::new("sh").args(["-ec", script]).current_dir(directory.path()).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Certificate {
        authority: std::fs::read(directory.path().join("ca.crt")).unwrap(),
        chain_file: directory.path().join("server.crt"),
        key_file: directory.path().join("server.key"),
        _directory: directory,
    }
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// What every kind of call to a store that refuses them answers.
async fn refusals(config: S3Config) -> Vec<(&'static str, StoreError)> {
    let store = S3Store::connect(config).await.unwrap();
    let any = key("uid/manifest.json");
    vec![
        ("head", store.head(&any).await.unwrap_err()),
        ("get", store.get(&any).await.unwrap_err()),
        ("put", store.put(&any, Bytes::from_static(b"x"), PutMode::Overwrite).await.unwrap_err()),
        ("create", store.put(&any, Bytes::from_static(b"x"), PutMode::CreateNew).await.unwrap_err()),
        ("begin_upload", store.begin_upload(&any).await.unwrap_err()),
        ("list", store.list(&ListRequest::under("")).await.unwrap_err()),
        ("delete", store.delete(&any).await.unwrap_err()),
        ("list_uploads", store.list_uploads("").await.unwrap_err()),
    ]
}

fn assert_all(refusals: &[(&str, StoreError)], class: ErrorClass, words: &[&str]) {
    for (call, error) in refusals {
        let text = error.to_string();
        assert_eq!(error.class(), class, "{call}: {text}");
        for word in words {
            assert!(text.contains(word), "{call}: {text:?} does not say {word:?}");
        }
        assert!(!text.contains(SECRET_KEY), "{call}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_s3_server_keeps_the_promises() {
    let gateway = Gateway::start();
    conformance::run(&gateway.store().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promises_hold_over_tls_with_unsigned_payloads() {
    let gateway = Gateway::start_with(Some(make_certificate()));
    conformance::run(&gateway.store().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promises_hold_without_checksums_and_without_a_prefix() {
    let gateway = Gateway::start();
    let config = S3Config { checksums: Checksums::WhenRequired, prefix: String::new(), ..gateway.config() };
    conformance::run(&S3Store::connect(config).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bucket_is_no_such_bucket_in_every_call() {
    let gateway = Gateway::start();
    let refusals = refusals(S3Config { bucket: "not-made".into(), ..gateway.config() }).await;
    assert_all(&refusals, ErrorClass::Refused, &["bucket \"not-made\" does not exist", "NoSuchBucket", "127.0.0.1"]);
    assert!(refusals.iter().all(|(_, error)| matches!(error, StoreError::NoSuchBucket { .. })), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_id_is_access_denied_with_the_stores_words() {
    let gateway = Gateway::start();
    let mut config = gateway.config();
    config.credentials.as_mut().unwrap().access_key_id = "someone-else".into();
    assert_all(&refusals(config).await, ErrorClass::Refused, &["access key ID", "AWS_ACCESS_KEY_ID"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_access_denied_with_the_stores_words() {
    let gateway = Gateway::start();
    let mut config = gateway.config();
    config.credentials.as_mut().unwrap().secret_access_key = "not-the-secret".into();
    let refusals = refusals(config).await;
    assert_all(&refusals, ErrorClass::Refused, &["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]);
    assert!(refusals.iter().all(|(_, error)| !error.to_string().contains("not-the-secret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_permanent_and_names_the_bundle() {
    let gateway = Gateway::start_with(Some(make_certificate()));
    let config = S3Config { ca_bundle_pem: None, ..gateway.config() };
    let unknown = refusals(config).await;
    assert_all(&unknown, ErrorClass::Refused, &["not trusted", "UnknownIssuer", "caBundleRef"]);
    let another = S3Config { ca_bundle_pem: Some(make_certificate().authority), ..gateway.config() };
    assert_all(&refusals(another).await, ErrorClass::Refused, &["not trusted", "caBundleRef"]);
    let by_name = S3Config { endpoint: Some(format!("https://localhost:{}", gateway.port)), ..gateway.config() };
    assert_all(&refusals(by_name).await, ErrorClass::Refused, &["not trusted", "localhost", "names this host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_plain_server_says_so() {
    let gateway = Gateway::start();
    let config = S3Config { endpoint: Some(format!("https://127.0.0.1:{}", gateway.port)), ..gateway.config() };
    assert_all(&refusals(config).await, ErrorClass::Misconfigured, &["does not speak TLS", "http://"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_and_an_unknown_host_are_unavailable() {
    let mut gateway = Gateway::start();
    let config = gateway.config();
    gateway.stop();
    assert_all(&refusals(config).await, ErrorClass::Unavailable, &["s3://backups/clusters/eu", "refused"]);
    let store =
        S3Store::connect(S3Config { endpoint: Some("https://store.lifeboat.invalid".into()), ..gateway.config() });
    let error = store.await.unwrap().head(&key("a")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.to_string().contains("dns error"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_prefix_of_the_bucket_is_out_of_reach() {
    let gateway = Gateway::start();
    let ours = gateway.store().await;
    let theirs = S3Store::connect(S3Config { prefix: "clusters/eu-2".into(), ..gateway.config() }).await.unwrap();
    theirs.put(&key("uid/owner.json"), Bytes::from_static(b"{}"), PutMode::Overwrite).await.unwrap();
    assert_eq!(ours.list_all("", 10).await.unwrap(), []);
    assert!(matches!(ours.head(&key("uid/owner.json")).await, Err(StoreError::NotFound { .. })));
    assert_eq!(theirs.uri(&key("uid/owner.json")), "s3://backups/clusters/eu-2/uid/owner.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_the_checksum_that_was_sent() {
    let gateway = Gateway::start();
    let store = gateway.store().await;
    let body = Bytes::from_static(b"a manifest");
    store.put(&key("one"), body.clone(), PutMode::Overwrite).await.unwrap();
    let kept = store.head(&key("one")).await.unwrap().checksum;
    assert_eq!(kept, Some(Checksum::Crc32(crc32fast::hash(&body))));

    let upload = store.begin_upload(&key("two")).await.unwrap();
    let receipt = upload.put_part(Part { number: 1, offset: 0, body }).await.unwrap();
    let meta = upload.complete(vec![receipt]).await.unwrap();
    assert!(matches!(meta.checksum, Some(Checksum::Crc32Composite { parts: 1, .. })), "{meta:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_changed_in_the_bucket_are_seen_at_the_read() {
    let gateway = Gateway::start();
    let store = gateway.store().await;
    store.put(&key("flipped"), Bytes::from_static(b"a manifest"), PutMode::Overwrite).await.unwrap();
    let file = gateway.directory.path().join(BUCKET).join("clusters/eu/flipped");
    let before = std::fs::read(&file).unwrap();
    assert_eq!(before, b"a manifest");
    // In place, so that the checksum kept beside the file stays the old one.
    use std::os::unix::fs::FileExt as _;
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"A", 0).unwrap();
    let error = store.get_small(&key("flipped"), 100).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_store_in_the_middle_of_an_upload_is_spanned() {
    let mut gateway = Gateway::start();
    let store = gateway.store().await;
    let cancel = CancellationToken::new();
    let upload = store.begin_upload(&key("spanned")).await.unwrap();
    let first = Bytes::from(vec![7_u8; 5 << 20]);
    let first = upload.put_part(Part { number: 1, offset: 0, body: first }).await.unwrap();

    gateway.stop();
    let second = Part { number: 2, offset: 5 << 20, body: Bytes::from_static(b"the rest") };
    let (port, directory) = (gateway.port, gateway.directory.path().to_owned());
    let back = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_secs(4));
        spawn(port, &directory, None)
    });
    let policy = RetryPolicy::until(Duration::from_secs(60));
    let second = retry("uploading part 2", policy, &cancel, || upload.put_part(second.clone())).await;
    gateway.child = back.await.unwrap();
    let meta = upload.complete(vec![first, second.unwrap()]).await.unwrap();
    assert_eq!(meta.size, (5 << 20) + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_clock_is_read_even_where_access_is_denied() {
    let gateway = Gateway::start();
    let mut config = gateway.config();
    let allowed = S3Store::connect(config.clone()).await.unwrap().server_time().await.unwrap().unwrap();
    config.credentials.as_mut().unwrap().secret_access_key = "wrong".into();
    let denied = S3Store::connect(config).await.unwrap().server_time().await.unwrap().unwrap();
    for time in [allowed, denied] {
        let apart = jiff::Timestamp::now().duration_since(time).unsigned_abs();
        assert!(apart < Duration::from_secs(5), "{time} is {apart:?} away");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_of_thousands_are_whole() {
    let gateway = Gateway::start();
    let store = gateway.store().await;
    let home = gateway.directory.path().join(BUCKET).join("clusters/eu/uid/backups");
    for n in 0..2500 {
        let directory = home.join(format!("{n:06}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("manifest.json"), b"{}").unwrap();
    }
    let mut request = ListRequest::under("uid/backups/");
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.list(&request).await.unwrap();
        names.extend(page.objects.into_iter().map(|object| object.key.to_string()));
        pages += 1;
        let Some(next) = page.next else { break };
        request.cursor = Some(next);
    }
    let expected: Vec<String> = (0..2500).map(|n| format!("uid/backups/{n:06}/manifest.json")).collect();
    assert_eq!(names, expected);
    assert_eq!(pages, 3);
    let newer = ListRequest { start_after: Some("uid/backups/002495".into()), ..ListRequest::under("uid/backups/") };
    assert_eq!(store.list(&newer).await.unwrap().objects.len(), 5);
}

/// The SDK's chain reads the environment, which a test cannot change for itself: so this file runs again as a child with
/// an environment in which there is nothing to find.
#[test]
fn a_node_without_any_credentials_is_told_so() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_any_credentials", "--ignored", "--nocapture"])
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}

#[tokio::test]
#[ignore = "run by a_node_without_any_credentials_is_told_so, in an environment of its own"]
async fn child_without_any_credentials() {
    let nothing = S3Config { bucket: BUCKET.into(), ..S3Config::default() };
    let error = S3Store::connect(nothing.clone()).await.unwrap_err();
    assert!(error.to_string().contains("spec.s3.region"), "{error}");

    let endpoint = Some("http://127.0.0.1:9".to_owned());
    let store = S3Store::connect(S3Config { endpoint, ..nothing }).await.unwrap();
    let error = store.head(&key("a")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::CredentialsMissing, "{error}");
    assert!(error.to_string().contains("credentialsSecretRef"), "{error}");
}

/// Header with the SHA-256 of no body, which this curl does not send by itself.
const EMPTY_BODY: &str = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Makes a bucket with object lock, by a stock client.
fn make_locked_bucket(gateway: &Gateway, bucket: &str) {
    let made = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--request", "PUT"])
        .args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
        .args(["--header", "x-amz-bucket-object-lock-enabled: true", "--header", EMPTY_BODY])
        .arg(format!("http://127.0.0.1:{}/{bucket}", gateway.port))
        .output()
        .unwrap();
    assert!(made.status.success(), "curl: {}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_cannot_be_deleted_and_what_is_not_can() {
    let gateway = Gateway::start();
    make_locked_bucket(&gateway, "locked");
    let lock = ObjectLock {
        mode: ObjectLockMode::Governance,
        days: 1,
        locks: |key| key.as_str().ends_with("manifest.json") || key.as_str().contains("snapshot-"),
    };
    let config = S3Config { bucket: "locked".into(), object_lock: Some(lock), ..gateway.config() };
    let store = S3Store::connect(config).await.unwrap();
    store.check_lock().await.unwrap();
    let (manifest, data, mark) = (key("u/b/manifest.json"), key("u/b/snapshot-1-aa.db.zst"), key("u/b/pin.json"));
    store.put(&manifest, Bytes::from_static(b"{}"), PutMode::CreateNew).await.unwrap();
    store.put(&mark, Bytes::from_static(b"{}"), PutMode::Overwrite).await.unwrap();
    let upload = store.begin_upload(&data).await.unwrap();
    let receipt = upload.put_part(Part { number: 1, offset: 0, body: Bytes::from_static(b"archive") }).await.unwrap();
    upload.complete(vec![receipt]).await.unwrap();
    store.delete(&mark).await.unwrap();
    for held in [&manifest, &data] {
        let error = store.delete(held).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Held, "{held}: {error}");
        store.head(held).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_object_lock_says_so_before_anything_is_written() {
    let gateway = Gateway::start();
    let lock = ObjectLock { mode: ObjectLockMode::Compliance, days: 1, locks: |_| true };
    let store = S3Store::connect(S3Config { object_lock: Some(lock), ..gateway.config() }).await.unwrap();
    let error = store.check_lock().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Misconfigured, "{error}");
    assert!(error.to_string().contains("objectLock"), "{error}");
    let without = gateway.store().await;
    without.check_lock().await.unwrap();
}
