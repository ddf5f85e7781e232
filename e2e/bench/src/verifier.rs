//! The stream verifier alone, on one core, over a database in memory.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use lifeboat_snapshot::{Content, Options, Verifier};

/// As the pieces of a snapshot's stream.
const CHUNK: usize = 32 * 1024;

/// GiB per second of each run. Blocking; holds the whole database in memory.
///
/// # Errors
/// The kept snapshot cannot be read, or is not sound.
pub fn measure_verifier(kept: &Path, runs: u32) -> Result<Vec<f64>> {
    let mut database = Vec::new();
    zstd::Decoder::new(File::open(kept)?)?.read_to_end(&mut database)?;
    let mut speeds = Vec::new();
    // The first does not count.
    for _ in 0..=runs {
        let begun = Instant::now();
        let mut verifier = Verifier::new(Options::default());
        for chunk in database.chunks(CHUNK) {
            verifier.update(black_box(chunk))?;
        }
        let facts = verifier.finish()?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(matches!(facts.content, Content::Verified(_)), "the content was not verified: {:?}", facts.content);
        speeds.push(database.len() as f64 / f64::from(1 << 30) / seconds);
    }
    Ok(speeds.split_off(1))
}
