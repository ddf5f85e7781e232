//! What the C library's heap keeps of what was freed. glibc keeps much of it: a process that works for seconds and rests
//! for hours would hold for all of them what it needed for some. The only unsafe code of the product (docs/adr/017): two
//! calls that take numbers and touch no memory of ours. Where the C library is another one, nothing is done.

/// Blocks from this size on are mapped on their own and go back when they are freed, bytes. glibc's default, which it
/// gives up by itself: freeing one mapped block raises it to that block's size, and the parts of archives are 8 MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 << 10;

/// Has large blocks go back when they are freed, for the life of the process. Before there is a second thread.
pub fn keep_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: sets a number; no thread but this one is in the heap yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}

/// Gives whole pages back that are free, wherever they lie in the heap. Milliseconds; best after much was freed.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: takes the heap's own locks, and gives pages back that hold no block in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Anonymous memory of this process, KiB.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    // One test: what is resident is of the whole process.
    #[test]
    fn what_was_freed_goes_back() {
        keep_small();
        let before = resident();
        // After a large block was freed, glibc by itself would take the next ones from its heap and keep them there.
        drop(vec![1_u8; 8 << 20]);
        let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 200 << 10]).collect();
        let last = vec![1_u8; 100];
        assert!(resident() > before + (12 << 10));
        drop(blocks);
        assert!(resident() < before + (1 << 10), "{before} {} after large blocks", resident());
        drop(last);

        // Small ones, with one in use on top of them all.
        let blocks: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 4 << 10]).collect();
        let last = vec![1_u8; 4 << 10];
        drop(blocks);
        assert!(resident() > before + (12 << 10), "{before} {}: nothing to give back", resident());
        give_back();
        assert!(resident() < before + (1 << 10), "{before} {} after small blocks", resident());
        drop(last);
    }
}
