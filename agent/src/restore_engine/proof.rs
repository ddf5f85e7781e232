//! Proves a snapshot file, or a database at rest, page by page. Reads only.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_snapshot::{Content, Database, Facts, Options, SnapshotError, Verifier};
use sha2::{Digest, Sha256};

use super::error::RestoreError;

const CHUNK: usize = 1 << 20;

/// A file that is proven.
#[derive(Clone, Debug)]
pub struct Proven {
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Its size, bytes.
    pub size: u64,
    /// What is in it.
    pub database: Database,
}

/// Proves a snapshot: its own checksum, every page in use. `also` sees every byte.
///
/// # Errors
/// It is unsound, cannot be read or cannot be proven; or `stop` was set.
pub fn prove_snapshot(
    path: &Path,
    stop: &AtomicBool,
    mut also: impl FnMut(&[u8]) -> Result<(), RestoreError>,
) -> Result<Proven, RestoreError> {
    let mut verifier = Verifier::new(Options::default());
    let unsound = |source| RestoreError::Unsound { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(RestoreError::disk("opened", path))?;
    read_rest(&mut file, path, stop, &mut |bytes| {
        verifier.update(bytes).map_err(unsound)?;
        also(bytes)
    })?;
    proven(path, verifier.finish().map_err(unsound)?)
}

/// Proves a database at rest, as etcd leaves it: read the way bbolt writes a snapshot of it.
///
/// # Errors
/// As [`prove_snapshot`].
pub fn prove_database(path: &Path, stop: &AtomicBool) -> Result<Proven, RestoreError> {
    let mut file = File::open(path).map_err(RestoreError::disk("opened", path))?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).map_err(RestoreError::disk("read", path))?;
    let unsound = |source: SnapshotError| RestoreError::Unsound { path: path.to_owned(), source };
    let length = become_snapshot(&mut head).ok_or(SnapshotError::NoMeta).map_err(unsound)?;
    let mut verifier = Verifier::new(Options::default());
    let mut hash = Sha256::new();
    let mut left = length;
    let mut take = |bytes: &[u8]| {
        let part = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        left -= part.len() as u64;
        hash.update(part);
        verifier.update(part).map_err(unsound)
    };
    take(&head)?;
    read_rest(&mut file, path, stop, &mut take)?;
    verifier.update(&hash.finalize()).map_err(unsound)?;
    proven(path, verifier.finish().map_err(unsound)?)
}

/// Bytes that surely hold both metas of the largest page size.
const HEAD: u64 = 2 * 65_536;

/// Changes the beginning of a database into that of a snapshot, as bbolt does: the newer meta in page 0, and in page 1 the
/// same, one transaction older. Gives the length of the part in use.
fn become_snapshot(head: &mut [u8]) -> Option<u64> {
    let number = |page: &[u8], at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
    let is_sound = |page: &[u8]| page.get(16..72).map(fnv1a).is_some_and(|sum| number(page, 72) == Some(sum));
    let size_of = |page: &[u8]| Some(u32::from_le_bytes(page.get(24..28)?.try_into().ok()?) as usize);
    let sizes = (10..=16).map(|bits| 1_usize << bits);
    let metas = std::iter::once(0).chain(sizes).filter_map(|at| head.get(at..at + 80)).filter(|page| is_sound(page));
    let newest = metas.max_by_key(|page| number(page, 64))?.to_vec();
    let (page_size, transaction) = (size_of(&newest)?, number(&newest, 64)?);
    for (page, transaction) in [(0_u64, transaction), (1, transaction.wrapping_sub(1))] {
        let mut meta = newest.clone();
        // Id, kind "meta", no elements, no overflow.
        meta[..16].copy_from_slice(&[&page.to_le_bytes()[..], &[4, 0, 0, 0, 0, 0, 0, 0]].concat());
        meta[64..72].copy_from_slice(&transaction.to_le_bytes());
        let sum = fnv1a(&meta[16..72]);
        meta[72..80].copy_from_slice(&sum.to_le_bytes());
        let at = usize::try_from(page).ok()? * page_size;
        head.get_mut(at..at + 80)?.copy_from_slice(&meta);
    }
    number(&newest, 56)?.checked_mul(page_size as u64)
}

/// FNV-1a of 64 bits, bbolt's checksum of a meta.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What a pass over a whole snapshot proved of the file at `path`.
///
/// # Errors
/// The content was not proven.
pub fn proven(path: &Path, facts: Facts) -> Result<Proven, RestoreError> {
    let Facts { size, file_sha256, content } = facts;
    match content {
        Content::Verified(database) => Ok(Proven { sha256: file_sha256, size, database: *database }),
        Content::Unverified { reason } => Err(RestoreError::Unproven { path: path.to_owned(), reason }),
    }
}

fn read_rest(
    file: &mut File,
    path: &Path,
    stop: &AtomicBool,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(RestoreError::Interrupted);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RestoreError::disk("read", path)(error)),
        }
    }
}
