//! Logs as text, where nobody sees colours.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

#[test]
fn text_logs_in_a_file_have_no_colours() {
    let state = tempfile::tempdir().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
        .args(["agent", "--node-name", "m1", "--log-format", "text", "--state-dir"])
        .arg(state.path())
        .env_clear()
        .env("KUBECONFIG", state.path().join("none"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert!(words.contains("the agent ends") && !words.contains('\u{1b}'), "{words}");
}
