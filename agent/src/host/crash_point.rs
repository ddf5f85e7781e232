//! Places where a test kills this process, to prove that a power cut there does no harm. Nothing in a release build.
//!
//! `LIFEBOAT_CRASH_FILE` names a file that holds names of points, one a line. The process kills itself where one of them is
//! met; that line is gone then, so that the next run gets on, to the next point.

/// Steps of everything destructive, in the order they are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The file is proven, nothing is unpacked.
    FileIsProven,
    /// The tool has unpacked the file.
    FileIsUnpacked,
    /// What was unpacked is proven and on disk.
    StagingIsProven,
    /// The locks are held, nothing is written down.
    BeforeSwapIsWritten,
    /// The journal says what is to be exchanged.
    SwapIsWritten,
    /// A separate WAL is exchanged.
    WalIsSwapped,
    /// The data is exchanged.
    MemberIsSwapped,
    /// The old data has its name.
    OldIsKept,
    /// The journal says that all is exchanged.
    SwapIsDone,
    /// The result is written.
    ResultIsWritten,
    /// `restore.db` is gone, its order is not.
    FileIsGone,
    /// The lock of re-initialising is taken, nothing is written down.
    RejoinIsLocked,
    /// Re-initialising is decided and written down.
    RejoinIsWritten,
    /// etcd is stopped for it.
    RejoinStopped,
    /// The member is removed from the cluster.
    RejoinRemoved,
    /// It is added again.
    RejoinAdded,
    /// Its old data is out of the way.
    RejoinMovedAside,
    /// It runs as a learner.
    RejoinStarted,
    /// It votes.
    RejoinPromoted,
    /// The journal says that it is done.
    RejoinDone,
}

/// Kills this process if a test wants it here. Points are named by what `{:?}` makes of them.
#[cfg(debug_assertions)]
pub fn crash_point(point: impl std::fmt::Debug) {
    let Some(file) = std::env::var_os("LIFEBOAT_CRASH_FILE") else { return };
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    let here = format!("{point:?}");
    let mut left: Vec<&str> = wanted.lines().collect();
    if let Some(at) = left.iter().position(|line| line.trim() == here) {
        left.remove(at);
        let rest = left.join("\n");
        let _ = if rest.is_empty() { std::fs::remove_file(&file) } else { std::fs::write(&file, rest) };
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends every thread; this one must not get further before it does.
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn crash_point(_: impl std::fmt::Debug) {}
