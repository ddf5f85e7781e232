//! `lifeboat install`, killed again and again: what lies on the host is the old file or the new one, whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SIZE: usize = 16 << 20;

fn leftovers(directory: &Path) -> usize {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).count()
}

#[test]
fn a_tool_is_never_half_there_however_often_the_installation_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (shipped, host) = (dir.path().join("shipped/3.6"), dir.path().join("host"));
    std::fs::create_dir_all(&shipped).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("install").arg("--directory").arg(&host).arg("--tools").arg(dir.path().join("shipped"));
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let tool = host.join("tools/3.6/etcdutl");
    std::fs::write(shipped.join("etcdutl"), vec![b'a'; SIZE]).unwrap();
    assert!(run().wait().unwrap().success());
    let (mut killed_in_the_middle, mut replaced) = (0, 0);
    let mut old = b'a';
    for round in 0..3 {
        let new = if old == b'a' { b'b' } else { b'a' };
        std::fs::write(shipped.join("etcdutl"), vec![new; SIZE]).unwrap();
        // Closer together at first, where the tool is written; the program, which comes last, takes longer.
        for delay in std::iter::successors(Some(round), |delay| Some(delay + 4 + delay / 4)) {
            let mut running = run();
            std::thread::sleep(Duration::from_millis(delay));
            let ended = running.try_wait().unwrap();
            running.kill().unwrap();
            running.wait().unwrap();
            killed_in_the_middle += usize::from(leftovers(tool.parent().unwrap()) > 0);
            let there = std::fs::read(&tool).unwrap();
            assert!(there == vec![old; SIZE] || there == vec![new; SIZE], "{} bytes", there.len());
            if ended.is_some_and(|status| status.success()) {
                assert_eq!((there[0], leftovers(tool.parent().unwrap())), (new, 0));
                replaced += 1;
                break;
            }
        }
        old = new;
    }
    println!("killed with a file half-made: {killed_in_the_middle} times");
    assert!(killed_in_the_middle > 0 && replaced == 3, "{killed_in_the_middle}, {replaced}");
}
