//! Databases of a wanted size: filled once over mutual TLS into a real etcd, read from it, and kept compressed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_client::{Certificate, Client, CompactionOptions, ConnectOptions, Identity, TlsOptions, Txn, TxnOp};
use lifeboat_testbed::{EtcdLine, Node, Options, Testbed};
use tokio::sync::mpsc;

use crate::kubernetes::{self, Change, Kubernetes};

/// More than any database here, far below what etcd warns of.
pub const QUOTA_BYTES: u64 = 8 << 30;
/// Operations of one transaction; etcd refuses more than 128.
const BATCH: usize = 120;
/// Bytes of one transaction, below etcd's limit of 1.5 MiB.
const BATCH_BYTES: usize = 768 * 1024;
/// Transactions between two looks at the size of the database.
const LOOK_EVERY: usize = 32;

/// A database to be had.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Size of its file at least, MiB.
    pub mib: u64,
    /// Seed of its content.
    pub seed: u64,
}

impl Wanted {
    fn file(self, dir: &Path) -> PathBuf {
        let Self { mib, seed } = self;
        let (line, version) = (EtcdLine::default(), kubernetes::VERSION);
        dir.join(format!("etcd-{line}-{mib}mib-seed{seed}-v{version}.db.zst"))
    }

    /// The kept snapshot; it is made where there is none.
    ///
    /// # Errors
    /// etcd cannot be started or filled.
    pub async fn find_or_fill(self, dir: &Path) -> Result<PathBuf> {
        let file = self.file(dir);
        if !file.exists() {
            fs::create_dir_all(dir)?;
            let part = file.with_extension("part");
            self.fill_into(&part).await.with_context(|| format!("filling {} MiB", self.mib))?;
            fs::rename(&part, &file)?;
        }
        Ok(file)
    }

    async fn fill_into(self, file: &Path) -> Result<()> {
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let bed = Testbed::start(Options {
            masters: 1,
            api_servers: 0,
            // Large entries: a log of the usual length would be as large as the database, on disk and in memory.
            etcd_args: vec![
                flag("quota-backend-bytes", &QUOTA_BYTES.to_string()),
                flag("snapshot-count", "200"),
                flag("snapshot-catchup-entries", "100"),
                flag("max-wals", "2"),
            ],
            ..Options::named("fill")
        })
        .await?;
        let filled = self.fill(&bed, file).await;
        bed.shutdown().await?;
        filled
    }

    async fn fill(self, bed: &Testbed, file: &Path) -> Result<()> {
        let node = bed.nodes().first().context("no node")?;
        let (begun, mut client) = (Instant::now(), connect(node).await?);
        let (batches, reader) = mpsc::channel(16);
        let seed = self.seed;
        // Ends when the reader does.
        let writing = std::thread::spawn(move || write_batches(seed, &batches));
        let sent = send(&mut client, reader, self.mib * 1024 * 1024).await;
        let _ = writing.join();
        println!("filled {} MiB (written: {} MiB) in {:.0} s", self.mib, sent? >> 20, begun.elapsed().as_secs_f64());
        save(&mut client, file).await
    }
}

/// What goes to etcd at once.
enum Batch {
    Operations(Vec<TxnOp>, usize),
    Compact,
}

fn write_batches(seed: u64, batches: &mpsc::Sender<Batch>) {
    let (mut operations, mut keys, mut bytes) = (Vec::new(), HashSet::new(), 0);
    for change in Kubernetes::new(seed) {
        let (key, size) = match &change {
            Change::Put(key, value) => (Some(key.clone()), key.len() + value.len()),
            Change::Delete(key) => (Some(key.clone()), key.len()),
            Change::Compact => (None, 0),
        };
        // A transaction may name each key once.
        let fits = operations.len() < BATCH && bytes + size <= BATCH_BYTES;
        if !fits || key.as_ref().is_none_or(|key| keys.contains(key)) {
            let full = Batch::Operations(std::mem::take(&mut operations), std::mem::take(&mut bytes));
            keys.clear();
            if batches.blocking_send(full).is_err() {
                return;
            }
        }
        keys.extend(key);
        bytes += size;
        match change {
            Change::Put(key, value) => operations.push(TxnOp::put(key, value, None)),
            Change::Delete(key) => operations.push(TxnOp::delete(key, None)),
            Change::Compact if batches.blocking_send(Batch::Compact).is_err() => return,
            Change::Compact => {}
        }
    }
}

/// Sends batches one after the other, so that every revision is the same in every run, until the file is large enough. Gives
/// the bytes that were sent.
async fn send(client: &mut Client, mut batches: mpsc::Receiver<Batch>, wanted: u64) -> Result<usize> {
    let (mut sent, mut revision, mut mark) = (0, 0, 0);
    for count in 0.. {
        match batches.recv().await.context("no more batches")? {
            Batch::Operations(operations, bytes) => {
                let answer = client.txn(Txn::new().and_then(operations)).await?;
                revision = answer.header().map_or(revision, |header| header.revision());
                sent += bytes;
            }
            Batch::Compact if mark > 0 => {
                client.compact(mark, Some(CompactionOptions::new().with_physical())).await?;
                mark = revision;
            }
            Batch::Compact => mark = revision,
        }
        if count % LOOK_EVERY == 0 && u64::try_from(client.status().await?.db_size())? >= wanted {
            break;
        }
    }
    // As left after the last five minutes: some of the history gone, its pages free and not given back.
    if mark > 0 {
        client.compact(mark, Some(CompactionOptions::new().with_physical())).await?;
    }
    Ok(sent)
}

/// Reads the member's snapshot into a compressed file.
async fn save(client: &mut Client, file: &Path) -> Result<()> {
    let mut stream = client.snapshot().await?;
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(64);
    let target = file.to_owned();
    let compressing = tokio::task::spawn_blocking(move || -> Result<()> {
        let mut encoder = zstd::Encoder::new(File::create(target)?, 1)?;
        while let Some(blob) = receiver.blocking_recv() {
            std::io::Write::write_all(&mut encoder, &blob)?;
        }
        encoder.finish()?.sync_all()?;
        Ok(())
    });
    while let Some(message) = stream.message().await? {
        if sender.send(message.blob().to_vec()).await.is_err() {
            break;
        }
    }
    drop(sender);
    compressing.await?
}

/// Decompresses a kept snapshot into a plain file.
///
/// # Errors
/// Those of the file system; a damaged file.
pub fn unpack(kept: &Path, plain: &Path) -> Result<u64> {
    let mut decoder = zstd::Decoder::new(File::open(kept)?)?;
    let size = std::io::copy(&mut decoder, &mut File::create(plain)?)
        .with_context(|| format!("{}: remove it, and it is made anew", kept.display()))?;
    ensure!(size > 0, "{} is empty", kept.display());
    Ok(size)
}

/// A client of a node's member, over the bridge, with the certificate of kubeadm's health check.
///
/// # Errors
/// Its files cannot be read.
pub async fn connect(node: &Node) -> Result<Client> {
    let read = |path: &str| fs::read(node.path(path)).with_context(|| path.to_owned());
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("/etc/kubernetes/pki/etcd/ca.crt")?))
        .identity(Identity::from_pem(
            read("/etc/kubernetes/pki/etcd/healthcheck-client.crt")?,
            read("/etc/kubernetes/pki/etcd/healthcheck-client.key")?,
        ));
    let options = ConnectOptions::new().with_tls(tls);
    Ok(Client::connect([format!("https://{}:2379", node.ip)], Some(options)).await?)
}
