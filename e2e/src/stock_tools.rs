//! Tools that an administrator has without Lifeboat, as the tests use them.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::cluster::Cluster;

/// Runs a program: what it prints on both streams; an error where it fails.
pub async fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<String> {
    let output = Command::new(&program).args(args).stdin(Stdio::null()).output().await?;
    let both = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{:?} {args:?}: {both}", program.as_ref());
    Ok(both)
}

/// s3cmd, a stock S3 client from Debian, set up for the testbed's server.
pub async fn s3cmd(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let s3 = cluster.bed.s3();
    let host = s3.endpoint.trim_start_matches("https://");
    let mut all = vec![
        "--no-progress".to_owned(),
        format!("--access_key={}", s3.access_key),
        format!("--secret_key={}", s3.secret_key),
        format!("--host={host}"),
        format!("--host-bucket={host}"),
        format!("--ca-certs={}", s3.ca_file.display()),
        "--region=us-east-1".to_owned(),
        "--no-check-hostname".to_owned(),
        "--force".to_owned(),
    ];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    run("s3cmd", &all.iter().map(String::as_str).collect::<Vec<_>>()).await
}
