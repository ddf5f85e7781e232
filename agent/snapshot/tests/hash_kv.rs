//! HashKV against real servers of every line, bit for bit, and what a restore does to contentHash.
//!
//! Starts etcd from target/testbed/bin on free ports of the loopback interface, and ends what it started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "slow/corpus.rs"]
mod corpus;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corpus::{LINES, database};
use lifeboat_ports::free_port;
use lifeboat_snapshot::{ContentHash, Database, HashKv, HashKvError, Options, Scratch, Verifier};

/// A scratch in a file that is gone when it is closed.
struct FileScratch(File);

impl Scratch for FileScratch {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.seek(SeekFrom::End(0))?;
        self.0.write_all(bytes)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.read_exact(buffer)
    }
}

fn tool(line: &str, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed/bin").join(line).join(name);
    assert!(path.exists(), "{} is missing: build the real components with `make tools`", path.display());
    path
}

/// A server of one member.
struct Etcd {
    line: &'static str,
    client: u16,
    peer: u16,
    data: PathBuf,
    process: Child,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn free_ports() -> (u16, u16) {
    (free_port(), free_port())
}

impl Etcd {
    fn start(line: &'static str, data: &Path, (client, peer): (u16, u16)) -> Self {
        let process = Command::new(tool(line, "etcd"))
            .args(["--data-dir", data.to_str().unwrap(), "--log-level", "fatal"])
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { line, client, peer, data: data.to_owned(), process };
        let begun = Instant::now();
        while !etcd.command(&["endpoint", "health"]).output().unwrap().status.success() {
            assert!(begun.elapsed() < Duration::from_secs(20), "etcd {line} does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    /// The same member in a new process: what it kept in memory is gone.
    fn restart(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Self::start(self.line, &self.data, (self.client, self.peer))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool(self.line, "etcdctl"));
        command.args(["--endpoints", &url(self.client)]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcd {} {arguments:?}: {said}", self.line);
        output.stdout
    }

    /// One transaction, one main revision.
    fn transaction(&self, operations: &[String]) {
        let mut child = self.command(&["txn"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        write!(child.stdin.take().unwrap(), "\n{}\n\n\n", operations.join("\n")).unwrap();
        assert!(child.wait().unwrap().success(), "etcd {}: {operations:?}", self.line);
    }

    fn compact(&self, revision: i64) {
        self.run(&["compact", "--physical", &revision.to_string()]);
    }

    fn newest(&self) -> i64 {
        self.answer(0).revision
    }

    fn answer(&self, revision: i64) -> Answer {
        let said = self.run(&["endpoint", "hashkv", "--rev", &revision.to_string(), "-w", "json"]);
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        let said = &said[0]["HashKV"];
        let number = |field: &str| said[field].as_i64().unwrap_or_default();
        // hash_revision is what was asked for; 0 asks for the newest.
        let revision = match (revision, number("hash_revision")) {
            (0, 0) => said["header"]["revision"].as_i64().unwrap(),
            (0, hashed) => hashed,
            (asked, _) => asked,
        };
        Answer { hash: u32::try_from(number("hash")).unwrap(), revision, compact_revision: number("compact_revision") }
    }

    fn snapshot(&self, file: &Path) -> Snapshot {
        self.run(&["snapshot", "save", file.to_str().unwrap()]);
        let scratch = Box::new(FileScratch(tempfile::tempfile().unwrap()));
        let mut verifier = Verifier::with_hash_kv(Options::default(), scratch);
        verifier.update(&std::fs::read(file).unwrap()).unwrap();
        let (facts, hash_kv) = verifier.finish_with_hash_kv().unwrap();
        Snapshot { database: database(facts), hash_kv: hash_kv.unwrap() }
    }
}

#[derive(Debug)]
struct Answer {
    hash: u32,
    revision: i64,
    compact_revision: i64,
}

struct Snapshot {
    database: Database,
    hash_kv: HashKv,
}

impl Snapshot {
    fn says(&mut self, etcd: &Etcd, revision: i64) -> Answer {
        let answer = etcd.answer(revision);
        let Answer { hash, revision, compact_revision } = answer;
        let found = self.hash_kv.compute(revision, compact_revision);
        assert_eq!(found, Ok(hash), "etcd {}: {revision} at {compact_revision}", etcd.line);
        answer
    }
}

/// Revisions 2 to 61: keys written three times over, every fifth time deleted instead, then a transaction of many.
fn write_history(etcd: &Etcd) {
    for step in 0..59 {
        let key = format!("/registry/pods/p{}", step % 19);
        match step % 5 {
            4 => etcd.transaction(&[format!("put {key}x \"beside\""), format!("put {key} \"again {step}\"")]),
            3 if step > 20 => etcd.run(&["del", &key]).clear(),
            _ => etcd.run(&["put", &key, &format!("step {step}")]).clear(),
        }
    }
    etcd.transaction(&(0..100).map(|key| format!("put /many/{key} \"value {key}\"")).collect::<Vec<_>>());
}

fn hash_kv_agrees_with(line: &'static str) {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| home.path().join(name);
    let etcd = Etcd::start(line, &file("data"), free_ports());
    write_history(&etcd);

    // Never compacted: the server says -1.
    let mut whole = etcd.snapshot(&file("whole.db"));
    let newest = etcd.newest();
    assert_eq!(newest, whole.database.revision, "{line}");
    for revision in [2, 3, 20, 26, 27, newest - 1, newest] {
        assert!(whole.says(&etcd, revision).compact_revision <= 0);
    }

    // At a tombstone, at what precedes and follows one. Old versions lie below; both snapshots must tell.
    let mut earlier = whole;
    let mut compacted = Vec::new();
    for compact in [25, 33, 40] {
        etcd.compact(compact);
        compacted.push(compact);
        let mut later = etcd.snapshot(&file("later.db"));
        assert_eq!(later.database.compact_revision, compact, "{line}");
        for revision in [compact + 1, compact + 2, 47, 55, newest - 1, newest] {
            assert_eq!(later.says(&etcd, revision).compact_revision, compact, "{line}");
            earlier.says(&etcd, revision);
        }
        // The revision of the compaction itself comes from a cache, with the compact revision before.
        let cached = earlier.says(&etcd, compact);
        let told = later.hash_kv.compute(cached.revision, cached.compact_revision);
        if cached.compact_revision < compact {
            assert_eq!(
                told,
                Err(HashKvError::Compacted { floor: compact, compact_revision: cached.compact_revision.max(0) })
            );
        }
    }

    // Without the cache it comes with its own.
    let etcd = etcd.restart();
    let mut after = etcd.snapshot(&file("after.db"));
    assert_eq!(after.says(&etcd, 40).compact_revision, 40, "{line}");
    earlier.says(&etcd, 40);
    after.says(&etcd, newest);

    restored_content_is_the_same(&etcd, home.path());

    // Nothing alive: servers answer by what compaction has left, so that nothing is told.
    etcd.run(&["del", "", "--from-key"]);
    let newest = etcd.newest();
    let mut empty = etcd.snapshot(&file("empty.db"));
    let answer = etcd.answer(newest);
    assert_eq!(
        empty.hash_kv.compute(newest, answer.compact_revision),
        Err(HashKvError::NothingAlive { revision: newest }),
        "{line}"
    );
    etcd.compact(newest);
    let etcd = etcd.restart();
    assert_eq!(etcd.snapshot(&file("gone.db")).says(&etcd, newest).compact_revision, newest, "{line}");
}

/// issue 4: restored content has the same contentHash, but for the record that a bump of the revision leaves.
fn restored_content_is_the_same(etcd: &Etcd, home: &Path) {
    // Nothing below the newest revision is left, as a restore with --mark-compacted leaves it.
    etcd.compact(etcd.newest());
    let file = home.join("original.db");
    let original = etcd.snapshot(&file).database;
    let plain = restored(etcd, home, "plain", &file, &[]);
    assert_eq!(plain.database.content_hash, original.content_hash, "{}", etcd.line);
    assert_eq!(plain.database.revision, original.revision, "{}", etcd.line);

    let bumped = restored(etcd, home, "bumped", &file, &["--bump-revision", "1000", "--mark-compacted"]).database;
    assert_eq!(bumped.revision, original.revision + 1000, "{}", etcd.line);
    let record = [&bumped.revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let with_record = original.content_hash.plus(ContentHash::of_entry(&record, b""));
    assert_eq!(bumped.content_hash, with_record, "{}", etcd.line);
}

/// A snapshot of a server on restored data, held to what that server hashes.
fn restored(etcd: &Etcd, home: &Path, name: &str, file: &Path, flags: &[&str]) -> Snapshot {
    let (data, ports) = (home.join(name), free_ports());
    let peer = url(ports.1);
    let output = Command::new(tool(etcd.line, "etcdutl"))
        .args(["snapshot", "restore", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()])
        .args(["--initial-cluster", &format!("default={peer}"), "--initial-advertise-peer-urls", &peer])
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "etcd {}: {}", etcd.line, String::from_utf8_lossy(&output.stderr));
    let restored = Etcd::start(etcd.line, &data, ports);
    // What was marked as compacted the server compacts in the background; this waits for it.
    let newest = restored.newest();
    let _ = restored.command(&["compact", "--physical", &newest.to_string()]).output().unwrap();
    let restored = restored.restart();
    let mut snapshot = restored.snapshot(&home.join("restored.db"));
    snapshot.says(&restored, newest);
    snapshot
}

#[test]
fn hash_kv_is_bit_for_bit_that_of_servers_of_every_line() {
    std::thread::scope(|scope| {
        for line in LINES {
            scope.spawn(move || hash_kv_agrees_with(line));
        }
    });
}
