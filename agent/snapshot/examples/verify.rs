//! Verifies a snapshot and prints its facts and the speed: `cargo run --release -p lifeboat-snapshot --example verify --
//! FILE [hashkv]`.
//!
//! With `hashkv` it also keeps the index of HashKV and computes the hash of the newest revision. For people and for the
//! bench; reads the file and changes nothing.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::time::Instant;

use lifeboat_snapshot::{Content, MemoryScratch, Options, Verifier};

/// As the pieces of a snapshot's stream.
const CHUNK: usize = 32 * 1024;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(path) = arguments.next() else {
        println!("usage: verify FILE [hashkv]");
        return Ok(ExitCode::FAILURE);
    };
    let with_hash_kv = arguments.next().is_some();
    let mut file = File::open(path)?;
    let begun = Instant::now();
    let mut verifier = match with_hash_kv {
        true => Verifier::with_hash_kv(Options::default(), Box::new(MemoryScratch::new(1 << 30))),
        false => Verifier::new(Options::default()),
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => verifier.update(&buffer[..count])?,
        }
    }
    let (facts, hash_kv) = verifier.finish_with_hash_kv()?;
    let verified = begun.elapsed();
    println!("{facts:#?}");
    if let (Content::Verified(database), Ok(mut hash_kv)) = (&facts.content, hash_kv) {
        let compact = database.compact_revision.max(database.scheduled_compact_revision);
        match hash_kv.compute(database.revision, compact) {
            Ok(hash) => println!("HashKV({}) at compact revision {compact}: {hash}", database.revision),
            Err(error) => println!("HashKV: {error}"),
        }
        println!("computed in {:.3} s", (begun.elapsed() - verified).as_secs_f64());
    }
    #[allow(clippy::cast_precision_loss)]
    let gib = facts.size as f64 / f64::from(1 << 30);
    println!("{gib:.3} GiB in {:.3} s: {:.2} GiB/s", verified.as_secs_f64(), gib / verified.as_secs_f64());
    Ok(ExitCode::SUCCESS)
}
