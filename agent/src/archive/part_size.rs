//! How large the parts of an upload are. Pure.

/// S3 takes 5 MiB to 5 GiB a part and 10,000 parts an object; 8 MiB is large enough for a good rate and small enough
/// to hold a few in memory.
const SMALLEST: usize = 8 << 20;
/// After so many parts the size doubles.
const STEP: u32 = 2_000;
/// Doublings at most: 128 MiB a part, which makes 484 GiB of 10,000.
const DOUBLINGS: u32 = 4;

/// Bytes of the part with this number, counted from 1.
pub fn part_bytes(number: u32) -> usize {
    SMALLEST << (number.saturating_sub(1) / STEP).min(DOUBLINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_more_than_any_database_of_etcd() {
        let total: u64 = (1..=10_000).map(|number| part_bytes(number) as u64).sum();
        assert!(total > 400 << 30, "{total}");
        assert_eq!(part_bytes(1), 8 << 20);
        assert_eq!(part_bytes(2_000), 8 << 20);
        assert_eq!(part_bytes(2_001), 16 << 20);
        assert_eq!(part_bytes(10_000), 128 << 20);
    }

    #[test]
    fn parts_never_shrink() {
        assert!((1..10_000).all(|number| part_bytes(number) <= part_bytes(number + 1)));
    }
}
