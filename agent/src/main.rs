//! Placeholder.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
mod etcd;
mod host;

fn main() {}
