//! A quick hash of worlds: exploring is hashing to a good part. Not meant against anybody who looks for collisions.

use super::cluster::World;
use std::hash::{Hash, Hasher};

/// Folds every word into the state by a multiplication to 128 bits, as wyhash does.
struct Fold(u64);

const KEY: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        fold(self.0 ^ KEY, 0xe703_7ed1_a0b4_28db)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0.rotate_left(23) ^ word, KEY);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Its 64 bits.
pub fn key_of(parts: &impl Hash) -> u64 {
    let mut hasher = Fold(0xa076_1d64_78bd_642f);
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { nodes, bucket, hands, budget, breaches } = self;
        hasher.write_u64(key_of(&(nodes, bucket, hands, budget, breaches)));
    }
}
