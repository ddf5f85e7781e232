//! Whoever closes the pipe (`| head`) has seen enough: no error, and no words.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::{Command, Stdio};

#[test]
fn completion_into_a_closed_pipe_ends_well() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && words.is_empty(), "{:?}: {words}", ended.status);
}
