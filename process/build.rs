//! Puts the commit into the binary, for `--version`.
//!
//! `LIFEBOAT_GIT_COMMIT` wins (images are built without `.git`); else git is asked; else the commit is "unknown".
//! Only HEAD itself is watched: watching the branch would compile the crate again after every commit.
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LIFEBOAT_GIT_COMMIT");
    // Cargo runs the script again on every build if a watched file does not exist.
    if let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]).filter(|head| Path::new(head).exists()) {
        println!("cargo:rerun-if-changed={head}");
    } else {
        println!("cargo:rerun-if-changed=build.rs");
    }
    let commit = std::env::var("LIFEBOAT_GIT_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=LIFEBOAT_GIT_COMMIT={commit}");
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
