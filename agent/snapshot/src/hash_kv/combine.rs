//! crc32c of a concatenation from the crcs of its parts: the part in front is multiplied by x^(8·length of the rest).

/// The polynomial of crc32c, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// x^(2ⁿ) modulo the polynomial; n up to 35 covers eight times a length of 32 bits.
const POWERS: [u32; 36] = powers();

const fn powers() -> [u32; 36] {
    let mut powers = [1 << 30; 36];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
}

/// The product of two polynomials; the highest bit is x⁰.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 1_u32 << 31;
    while bit != 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ POLYNOMIAL };
        bit >>= 1;
    }
    sum
}

/// A crc32c that grows by parts of which only crc and length are known.
pub(super) struct Combined {
    crc: u32,
    /// The last length and its factor: entries of one kind are often of one length.
    factor: (u32, u32),
}

impl Combined {
    /// Goes on from the crc of what comes first.
    pub fn new(crc: u32) -> Self {
        Self { crc, factor: (0, 1 << 31) }
    }

    pub fn push(&mut self, crc: u32, length: u32) {
        if self.factor.0 != length {
            let bits = (0..32).filter(|bit| length & (1 << bit) != 0);
            self.factor = (length, bits.fold(1 << 31, |factor, bit| product(POWERS[bit + 3], factor)));
        }
        self.crc = product(self.factor.1, self.crc) ^ crc;
    }

    pub fn crc(&self) -> u32 {
        self.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_combine_to_the_crc_of_the_whole() {
        let whole: Vec<u8> = (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for split in [0, 1, 2, 17, 18, 255, 4096, 65_535, 131_073, 299_999, 300_000] {
            let (front, rest) = whole.split_at(split);
            let mut combined = Combined::new(crc_fast::crc32_iscsi(front));
            combined.push(crc_fast::crc32_iscsi(rest), u32::try_from(rest.len()).unwrap());
            assert_eq!(combined.crc(), crc_fast::crc32_iscsi(&whole), "split at {split}");
        }
    }

    #[test]
    fn the_longest_lengths_agree_with_another_implementation() {
        for length in [u32::MAX, 1 << 31, 0x8000_0001, 3_000_000_000] {
            let mut combined = Combined::new(0x1234_5678);
            combined.push(0x9abc_def0, length);
            let other = crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc32Iscsi,
                0x1234_5678,
                0x9abc_def0,
                u64::from(length),
            );
            assert_eq!(u64::from(combined.crc()), other, "{length}");
        }
    }
}
